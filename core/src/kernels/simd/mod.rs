//! Vectorised convolutions, written once over [`Simd`](ops::Simd), the few operations in which
//! instruction sets differ.
//!
//! Everything turns on *quads*: 32 bits that hold 4 u8 values (VNNI) or 2 i16 values (AVX2) of
//! the input. One `dot` multiplies the quads of all lanes by as many weights and adds each
//! lane's products to its i32 accumulator.
//!
//! - `ops`: those operations; `avx2`, `vnni256` and `avx512vnni` are the instruction sets
//! - `layout`: how many lanes and values, and what packing needs; plain code on any machine
//! - `panel`: which part of the input a step widens into scratch, and how
//! - `params`: bias and multipliers
//! - `gemm`: dense convolution as a matrix product over the panel, without im2col
//! - `winograd`: 3x3 dense convolution with less than half of the products (AVX2, NEON)
//! - `depthwise`: convolution channel by channel; a quad holds values of one column (VNNI)
//! - `floats`: the same in f32 that stays exact (AVX2, NEON)
//! - `interleave`: the channels of an image
//!
//! VNNI multiplies u8 by i8: it reads input values with 128 added, and packing stores what this
//! adds to each accumulator.

// What VNNI and AVX2 alone take is packed elsewhere, too, but not run.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_imports, unused_macros, unused_unsafe, unused_variables)
)]

pub(super) mod depthwise;
pub(super) mod floats;
pub(super) mod gemm;
mod interleave;
mod layout;
mod ops;
mod panel;
mod params;
pub(super) mod winograd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod vnni256;

use crate::isa::Isa;
use crate::kernels::conv::ConvArgs;
use crate::kernels::reference;
use crate::shape::ConvShape;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::Gemm;
pub(super) use interleave::interleave3;
pub(super) use layout::Layout;

/// Dense convolution; `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has `isa`; `args` and `output` otherwise [fit](ConvArgs::fit) `shape`.
pub(super) unsafe fn conv(
    isa: Isa,
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: &mut [i8],
    scratch: &mut [u8],
) -> bool {
    // SAFETY: as the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if winograd::layout(isa, shape).is_some() => {
                winograd::run::<winograd::Avx2Wide>(shape, args, output, scratch)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => gemm::run::<avx2::Avx2>(shape, args, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => gemm::run::<vnni256::AvxVnni>(shape, args, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if shape.out_c <= Layout::NARROW => {
                gemm::run::<vnni256::Avx512Vnni256>(shape, args, output, scratch)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => gemm::run::<avx512vnni::Avx512Vnni>(shape, args, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if winograd::layout(isa, shape).is_some() => {
                winograd::run::<winograd::NeonWide>(shape, args, output, scratch)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => gemm::run::<neon::Neon>(shape, args, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => gemm::run::<neon::Dotprod>(shape, args, output, scratch),
            _ => reference::run(shape, args, output),
        }
    }
}

/// Depthwise convolution with one output a channel; `false` as in [`conv`].
///
/// # Safety
/// As [`conv`], and `out_c` is `in_c`.
pub(super) unsafe fn depthwise(
    isa: Isa,
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: &mut [i8],
    scratch: &mut [u8],
) -> bool {
    // SAFETY: as the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => floats::run::<avx2::Fma>(shape, args, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => depthwise::run::<vnni256::AvxVnni>(shape, args, output, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => depthwise::run::<avx512vnni::Avx512Vnni>(shape, args, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDotprod => floats::run::<neon::Fmla>(shape, args, output, scratch),
            _ => reference::run(shape, args, output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Requantize, Window};
    use std::vec;
    use std::vec::Vec;

    /// AVX-VNNI itself is not on every machine that tests run on; what AVX512-VNNI takes for
    /// narrow layers is the same code in another encoding, and is tried here on all layers.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vnni_in_256_bits_equals_the_reference() {
        if !Isa::Avx512Vnni.is_available() {
            return;
        }
        let layout = Layout::NARROW_VNNI;
        for (kernel, stride, in_c, out_c) in
            [(1, 1, 19, 40), (3, 1, 16, 17), (3, 2, 5, 9), (5, 3, 8, 33), (1, 1, 64, 1), (9, 1, 3, 24)]
        {
            let window = Window {
                in_h: 11,
                in_w: 13,
                in_c,
                out_h: 11_usize.div_ceil(stride),
                out_w: 13_usize.div_ceil(stride),
                kernel_h: kernel,
                kernel_w: kernel,
                stride_h: stride,
                stride_w: stride,
                dilation_h: 1,
                dilation_w: 1,
                pad_top: kernel / 2,
                pad_left: kernel / 2,
            };
            let dense = ConvShape { window, out_c, groups: 1 };
            let weights = noise(out_c * kernel * kernel * in_c);
            let gemm = Gemm::new(layout, &dense);
            let mut packed = vec![0; gemm.packed_len(layout)];
            gemm::pack(layout, &dense, &weights, &mut packed);
            let scratch = vec![0; gemm.scratch_len(layout)];
            // SAFETY: the CPU has AVX512-VNNI, arguments fit.
            check(&dense, &weights, &packed, |args, output| unsafe {
                gemm::run::<vnni256::Avx512Vnni256>(&dense, args, output, &mut scratch.clone())
            });

            let each = ConvShape { window, out_c: in_c, groups: in_c };
            let weights = noise(kernel * kernel * in_c);
            let plan = Depthwise::new(layout, &each);
            let mut packed = vec![0; plan.packed_len(layout)];
            depthwise::pack(layout, &each, &weights, &mut packed);
            let scratch = vec![0; plan.scratch_len(layout)];
            // SAFETY: the CPU has AVX512-VNNI, arguments fit.
            check(&each, &weights, &packed, |args, output| unsafe {
                depthwise::run::<vnni256::Avx512Vnni256>(&each, args, output, &mut scratch.clone())
            });
        }
    }

    /// Compares `run` on `packed` with the reference on `weights`.
    fn check(shape: &ConvShape, weights: &[i8], packed: &[u8], run: impl FnOnce(&ConvArgs<'_>, &mut [i8]) -> bool) {
        let w = &shape.window;
        let input = noise(w.in_h * w.in_w * w.in_c);
        let (bias, multiplier) = (vec![-77; shape.out_c], vec![3e-3; shape.out_c]);
        let out = Requantize { zero_point: 5, min: -120, max: 100 };
        let mut plain = vec![0; reference::packed_len(shape)];
        reference::pack(shape, weights, &mut plain);
        let args = ConvArgs { input: &input, weights: &plain, bias: &bias, multiplier: &multiplier, input_zp: -9, out };
        let mut expected = vec![0; w.out_h * w.out_w * shape.out_c];
        let mut output = expected.clone();
        assert!(reference::run(shape, &args, &mut expected));
        assert!(run(&ConvArgs { weights: packed, ..args }, &mut output));
        assert_eq!(output, expected, "{shape:?}");
    }

    fn noise(len: usize) -> Vec<i8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i8
        };
        (0..len).map(|_| next()).collect()
    }
}
