//! Vectorised convolutions, written once over [`Simd`](ops::Simd), the few operations in which
//! instruction sets differ.
//!
//! Everything turns on *quads*: 32 bits that hold 4 values of 8 bits (VNNI, aarch64) or 2 of 16 (AVX2, armv7) of
//! the input, or 64 bits with 8 values (Armv8.6). One `dot` multiplies the quads of all lanes by as many weights and adds each
//! lane's products to its i32 accumulator.
//!
//! - `ops`: those operations; `avx2`, `vnni256`, `avx512vnni`, `neon` and `neon32` are the instruction sets
//! - `layout`: how many lanes and values, and what packing needs; plain code on any machine
//! - `panel`: which part of the input a step widens into scratch, and how
//! - `params`: bias and multipliers; `target`: where results go, requantized or as they are
//! - `gemm`: convolution as a matrix product over the panel, without im2col
//! - `amx`: tiles of that product in a unit of its own, where x86-64 has it
//! - `row`: dense convolution to one pixel, in products of bytes (AVX2)
//! - `winograd`: dense convolution with fewer products, 3x3 (AVX2, NEON) and 5 along a line (AVX2)
//! - `depthwise`: convolution channel by channel; a quad holds values of one column (VNNI, dot products of aarch64)
//! - `floats`: the same in f32 that stays exact (AVX2, NEON)
//! - `interleave`: the channels of an image; `nearest`: from f32 to i8; `table`: bytes by a table; `bytes`: sums, maxima, from i8 to f32 (aarch64)
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
mod nearest;
pub(super) mod ops;
mod panel;
mod params;
pub(super) mod row;
mod table;
mod target;
pub(super) mod winograd;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
pub(super) mod bytes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "arm", target_os = "linux"))]
mod neon32;
#[cfg(test)]
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni256;

use crate::isa::Isa;
use crate::kernels::conv::{ConvArgs, Form, Results};
use crate::kernels::reference;
use crate::shape::ConvShape;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::Gemm;
pub(super) use interleave::{columns, columns_of_words, interleave3, turned_columns};
pub(super) use layout::Layout;
pub(super) use nearest::nearest;
#[cfg(all(target_arch = "arm", target_os = "linux"))]
pub(super) use neon32::neon;
pub(super) use table::look_up;

/// Convolution in groups or none; `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has `isa`; `args` and `output` otherwise [fit](ConvArgs::fit) `shape`.
pub(super) unsafe fn conv(
    isa: Isa,
    shape: &ConvShape,
    form: Form,
    args: &ConvArgs<'_>,
    mut output: Results<'_>,
    scratch: &mut [u8],
) -> bool {
    // SAFETY: as the caller's.
    unsafe {
        if let (Form::Fast, Results::Bytes(output)) = (form, &mut output)
            && let Some(done) = fast(isa, shape, args, output, scratch)
        {
            return done;
        }
        let Some(layout) = Layout::gemm(isa, &shape.group()) else { return reference::run(shape, args, output) };
        // Out here it is seen which instruction sets this program has, and no others are in it.
        let run: unsafe fn(gemm::Part<'_>) = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => gemm::run::<avx2::Avx2>,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => gemm::run::<vnni256::AvxVnni>,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni if layout == Layout::NARROW_VNNI => gemm::run::<vnni256::Avx512Vnni256>,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => gemm::run::<avx512vnni::Avx512Vnni>,
            #[cfg(all(target_arch = "arm", target_os = "linux"))]
            Isa::Neon32 => gemm::run::<neon32::Neon32>,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => gemm::run::<neon::Neon>,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm if layout == Layout::I8MM => gemm::run::<neon::I8mm>,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod | Isa::NeonI8mm => gemm::run::<neon::Dotprod>,
            // No other of this architecture has a layout.
            _ => return reference::run(shape, args, output),
        };
        gemm::parts(layout, shape, args, output, scratch, run)
    }
}

/// What takes fewer products than a matrix product, where there is that; `None` where there is not.
///
/// # Safety
/// As [`conv`].
unsafe fn fast(
    isa: Isa,
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: &mut [i8],
    scratch: &mut [u8],
) -> Option<bool> {
    let filtered = winograd::kind(isa, shape);
    // SAFETY: as the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if filtered == Some(winograd::Kind::Plane) => {
                Some(winograd::run::<winograd::Avx2Wide, winograd::Plane>(shape, args, output, scratch))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if filtered == Some(winograd::Kind::Line) => {
                Some(winograd::run::<winograd::Avx2Wide, winograd::Line>(shape, args, output, scratch))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if row::takes(isa, shape) => Some(row::run::<avx2::Bytes>(shape, args, output, scratch)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if filtered.is_some() => {
                Some(winograd::run::<winograd::NeonWide, winograd::Plane>(shape, args, output, scratch))
            }
            _ => None,
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
    output: Results<'_>,
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
            #[cfg(all(target_arch = "arm", target_os = "linux"))]
            Isa::Neon32 => floats::run::<neon32::Vmla>(shape, args, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => floats::run::<neon::Fmla>(shape, args, output, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod | Isa::NeonI8mm => depthwise::run::<neon::Dotprod>(shape, args, output, scratch),
            _ => reference::run(shape, args, output),
        }
    }
}
