//! What is common to the instruction sets, for layouts that the CPU at hand need not have.

use std::vec;
use std::vec::Vec;

use super::ops::{Arrange, Interleave, Simd};
use super::scalar::{Saturating, Scalar};
use super::*;
use crate::shape::{Requantize, Window};

#[test]
fn the_layouts_of_vnni_in_scalars() {
    dense::<Scalar<16, 4, 128>>();
    each_channel::<Scalar<16, 4, 128>>();
    dense::<Scalar<8, 2, 128>>();
    each_channel::<Scalar<8, 2, 128>>();
}

#[test]
fn the_layouts_of_neon_in_scalars() {
    dense::<Scalar<4, 2, 0>>();
    dense::<Scalar<4, 4, 0>>();
    dense::<Scalar<4, 4, 0, 8>>();
    each_channel::<Scalar<4, 4, 0>>();
}

/// Packing lets nothing saturate: weights and values at the ends of their range, and some between.
#[test]
fn a_row_of_bytes() {
    let sizes = [(1, 1), (3, 40), (75, 21), (64, 33), (640, 24), (1024, 8)];
    for &(values, out_c) in &sizes[..if cfg!(miri) { 3 } else { sizes.len() }] {
        let one = Window {
            in_h: 1,
            in_w: 1,
            out_h: 1,
            out_w: 1,
            kernel_h: 1,
            kernel_w: 1,
            pad_top: 0,
            pad_left: 0,
            ..window((1, 1, values, 0))
        };
        let shape = ConvShape { window: one, out_c, groups: 1 };
        let ends = [[-128, 127], [127, 127], [-128, -128], [-64, 65]];
        for ends in &ends[..if cfg!(miri) { 1 } else { ends.len() }] {
            let any = noise(out_c * values);
            let weights: Vec<i8> = any.iter().map(|&w| if w % 3 == 0 { w } else { ends[usize::from(w > 0)] }).collect();
            row::<Saturating>(&shape, &weights);
            #[cfg(target_arch = "x86_64")]
            if Isa::Avx2.is_available() {
                row::<avx2::Bytes>(&shape, &weights);
            }
        }
    }
}

fn row<S: Arrange>(shape: &ConvShape, weights: &[i8]) {
    assert!(row::takes(Isa::Avx2, shape));
    let mut packed = vec![0xA5; row::max_packed_len(shape)];
    let len = row::pack(shape, weights, &mut packed);
    packed.truncate(len);
    assert!(row::holds(shape, &packed));
    let mut scratch = vec![0xA5; row::scratch_len(shape)];
    check(shape, (weights, &packed), false, |args, output| match output {
        // SAFETY: the CPU has the instruction set, arguments fit.
        Results::Bytes(output) => unsafe { row::run::<S>(shape, args, output, &mut scratch) },
        Results::Shifted(..) | Results::Sums(_) => false,
    });
    assert!(!row::holds(shape, &packed[..len - 1]));
    assert!(!row::holds(shape, &vec![0xFF; len]));
    packed.extend([0; 64]);
    assert!(!row::holds(shape, &packed));
}

/// AVX-VNNI itself is not on every machine that tests run on; what AVX512-VNNI takes for narrow
/// layers is the same code in another encoding, and is tried here on all layers.
#[test]
#[cfg(target_arch = "x86_64")]
fn vnni_in_256_bits() {
    if Isa::Avx512Vnni.is_available() {
        dense::<vnni256::Avx512Vnni256>();
        each_channel::<vnni256::Avx512Vnni256>();
    }
}

/// Rows of pixels that are cut into tiles, several and one, or one that is not full; segments of one product and of several, next to each other and not;
/// and what is left to vectors.
#[test]
#[cfg_attr(miri, ignore = "it runs no assembly")]
#[cfg(target_arch = "x86_64")]
fn amx() {
    if !Isa::Avx512Vnni.is_available() {
        return;
    }
    for (width, dilation, case) in [
        (16, 1, (3, 1, 16, 17)),
        (14, 1, (3, 1, 32, 80)),
        (13, 1, (1, 1, 64, 48)),
        (41, 1, (3, 1, 40, 80)),
        (41, 2, (3, 1, 64, 33)),
        (41, 2, (3, 1, 37, 70)),
        (33, 1, (5, 2, 32, 150)),
        (17, 1, (1, 1, 96, 64)),
        (40, 1, (1, 2, 320, 20)),
        (700, 1, (3, 1, 68, 40)),
        (30, 1, (3, 2, 68, 40)),
    ] {
        let high = window(case);
        let pad = case.0 / 2 * dilation;
        let wide = Window { in_w: width, out_w: width.div_ceil(case.1), dilation_w: dilation, pad_left: pad, ..high };
        let line = Window { in_h: 1, out_h: 1, kernel_h: 1, pad_top: 0, ..wide };
        for window in [wide, line] {
            products::<avx512vnni::Avx512Vnni>(&ConvShape { window, out_c: case.3, groups: 1 });
            let window = Window { in_c: 3 * case.2, ..window };
            products::<avx512vnni::Avx512Vnni>(&ConvShape { window, out_c: 3 * case.3, groups: 3 });
        }
    }
}

/// Miri, which takes minutes for what is done in a second, has few shapes, of few channels and pixels.
const SHAPES: &[(usize, usize, usize, usize)] = if cfg!(miri) { &[(2, 2, 5, 9), (1, 1, 3, 20)] } else { ALL_SHAPES };
const SIZE: (usize, usize) = if cfg!(miri) { (3, 4) } else { (11, 13) };

/// Kernel, stride, input and output channels: groups of every number of blocks, and rests of tiles.
const ALL_SHAPES: &[(usize, usize, usize, usize)] = &[
    (3, 2, 5, 9),
    (1, 1, 19, 40),
    (3, 1, 16, 17),
    (5, 3, 8, 33),
    (1, 1, 64, 1),
    (9, 1, 3, 24),
    (1, 1, 7, 64),
    (3, 1, 4, 80),
    (2, 2, 6, 150),
];

fn window((kernel, stride, in_c, _): (usize, usize, usize, usize)) -> Window {
    Window {
        in_h: SIZE.0,
        in_w: SIZE.1,
        in_c,
        out_h: SIZE.0.div_ceil(stride),
        out_w: SIZE.1.div_ceil(stride),
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: kernel / 2,
        pad_left: kernel / 2,
    }
}

/// In one group, and in three.
fn dense<S: Simd>() {
    for (case, groups) in SHAPES.iter().flat_map(|case| [(*case, 1), (*case, 3)]) {
        let all = Window { in_c: groups * case.2, ..window(case) };
        let one = Window { out_h: 1, out_w: 1, ..all };
        let (dilation_h, dilation_w) = (1, 1);
        let whole =
            Window { in_h: all.kernel_h, in_w: all.kernel_w, dilation_h, dilation_w, pad_top: 0, pad_left: 0, ..one };
        for window in [all, one, whole] {
            products::<S>(&ConvShape { window, out_c: groups * case.3, groups });
        }
    }
}

fn products<S: Simd>(shape: &ConvShape) {
    let w = &shape.window;
    let weights = noise(shape.out_c * w.kernel_h * w.kernel_w * w.in_c / shape.groups);
    let gemm = Gemm::new(S::LAYOUT, shape);
    let mut packed = vec![0; gemm.packed_len(S::LAYOUT)];
    gemm::pack(S::LAYOUT, shape, &weights, &mut packed);
    let mut scratch = vec![0xA5; gemm.scratch_len(S::LAYOUT)];
    // SAFETY: the CPU has the instruction set, arguments fit.
    check(shape, (&weights, &packed), true, |args, output| unsafe {
        gemm::parts(S::LAYOUT, shape, args, output, &mut scratch, gemm::run::<S>)
    });
}

fn each_channel<S: Interleave>() {
    for &case in SHAPES {
        for channels in [case.2, case.3] {
            let window = Window { in_c: channels, ..window(case) };
            let line = Window { in_h: 1, out_h: 1, kernel_h: 1, pad_top: 0, ..window };
            let column = Window { in_w: 1, out_w: 1, kernel_w: 1, pad_left: 0, ..window };
            let far = Window { dilation_w: 2, pad_left: window.kernel_w - 1, ..line };
            // Of several pieces, the last of which is shorter.
            let width = 10_000 / channels + 90;
            let long = |w: Window| Window { in_w: width, out_w: width.div_ceil(w.stride_w), ..w };
            let windows = [window, line, far, column, long(line), long(far)];
            for window in &windows[..if cfg!(miri) { 3 } else { 6 }] {
                let window = *window;
                let shape = ConvShape { window, out_c: channels, groups: channels };
                let weights = noise(window.kernel_h * window.kernel_w * channels);
                let plan = Depthwise::new(S::LAYOUT, &shape);
                assert_eq!(plan.pixels < window.out_w, window.in_w == width, "{window:?} {}", plan.pixels);
                let mut packed = vec![0; plan.packed_len(S::LAYOUT)];
                depthwise::pack(S::LAYOUT, &shape, &weights, &mut packed);
                let mut scratch = vec![0xA5; plan.scratch_len(S::LAYOUT)];
                // SAFETY: the CPU has the instruction set, arguments fit.
                check(&shape, (&weights, &packed), true, |args, output| unsafe {
                    depthwise::run::<S>(&shape, args, output, &mut scratch)
                });
            }
        }
    }
}

/// Compares `run` on `packed` with the reference on `weights`, requantized, and in sums if it gives those.
fn check(
    shape: &ConvShape,
    (weights, packed): (&[i8], &[u8]),
    gives_sums: bool,
    mut run: impl FnMut(&ConvArgs<'_>, Results<'_>) -> bool,
) {
    let w = &shape.window;
    let mut input = noise(w.in_h * w.in_w * w.in_c);
    input.iter_mut().step_by(3).for_each(|value| *value = *value >> 7 ^ 127);
    let bias: Vec<i32> = (0..shape.out_c as i32).map(|channel| channel * 31 - 700).collect();
    let multiplier: Vec<f32> = (0..shape.out_c).map(|channel| 1e-3 + channel as f32 * 1e-5).collect();
    let out = Requantize { zero_point: 5, min: -120, max: 100 };
    let mut plain = vec![0; reference::packed_len(shape)];
    reference::pack(shape, weights, &mut plain);
    let args = ConvArgs { input: &input, weights: &plain, bias: &bias, multiplier: &multiplier, input_zp: -9, out };
    let mut expected = vec![0; w.out_h * w.out_w * shape.out_c];
    let mut output = expected.clone();
    assert!(reference::run(shape, &args, Results::Bytes(&mut expected)));
    assert!(run(&ConvArgs { weights: packed, ..args }, Results::Bytes(&mut output)));
    assert_eq!(output, expected, "{shape:?}");
    let mut expected = vec![0; output.len()];
    let mut sums = expected.clone();
    let args = ConvArgs { multiplier: &[], ..args };
    assert!(reference::run(shape, &args, Results::Sums(&mut expected)));
    if gives_sums {
        assert!(run(&ConvArgs { weights: packed, ..args }, Results::Sums(&mut sums)));
        assert_eq!(sums, expected, "{shape:?}");
    }
}

fn noise(len: usize) -> Vec<i8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    (0..len).map(|_| next()).collect()
}
