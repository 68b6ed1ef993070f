//! Tiles on 32-bit ARM with NEON, of three output pixels by sixteen output channels, or four by eight, or of one pixel:
//! blocks of assembly, as `simd::neon32` says why. What does not fill eight channels is left to plain loops.
//!
//! `vmla.f32` rounds products and sums, and takes numbers below the normal ones for zero.

use core::array;
use core::ops::Range;

use crate::kernels::simd::neon;
use crate::shape::ConvShape;

use super::part::{self, Part, Pixel};
use super::{BLOCK, ConvF32Args, Weights, blocks, group_in, group_out, is_depthwise, places};

/// Channels of a wide tile and of a narrow one, and their pixels: sums fill 12 of 16 registers, or 8.
const WIDE: (usize, usize) = (BLOCK, 3);
const NARROW: (usize, usize) = (8, 4);

/// The first channel of a block that there are no tiles for.
pub(super) fn rest(shape: &ConvShape, block: &Range<usize>) -> usize {
    match is_depthwise(shape) && block.len() >= NARROW.0 {
        true => block.end,
        false => block.end - block.len() % NARROW.0,
    }
}

/// Convolves all channels of blocks before their [`rest`].
///
/// # Safety
/// The CPU has NEON; the slices fit `shape`.
pub(super) unsafe fn run(shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let mut tiles = Tiles { shape, args, output };
    part::each(shape, |part| {
        for block in blocks(shape) {
            let wide = block.start + block.len() / WIDE.0 * WIDE.0;
            let few = |pixels: usize| part.ragged || part.pixels < pixels;
            // SAFETY: as the caller's; the part has as many pixels, and the block as many channels.
            unsafe {
                if is_depthwise(shape) {
                    match block.len() {
                        BLOCK.. => tiles.depthwise::<{ WIDE.0 }>(part),
                        8.. => tiles.depthwise::<{ NARROW.0 }>(part),
                        _ => (),
                    }
                    continue;
                }
                for first in (block.start..wide).step_by(WIDE.0) {
                    match few(WIDE.1) {
                        true => tiles.dense::<1, { WIDE.0 }>(part, &block, first),
                        false => tiles.dense::<{ WIDE.1 }, { WIDE.0 }>(part, &block, first),
                    }
                }
                for first in (wide..rest(shape, &block)).step_by(NARROW.0) {
                    match few(NARROW.1) {
                        true => tiles.dense::<1, { NARROW.0 }>(part, &block, first),
                        false => tiles.dense::<{ NARROW.1 }, { NARROW.0 }>(part, &block, first),
                    }
                }
            }
        }
    });
}

struct Tiles<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    output: &'a mut [f32],
}

impl Tiles<'_> {
    /// All pixels of a part, for `N` channels of a block from the first on.
    ///
    /// # Safety
    /// As [`run`]; the part has `ROWS` pixels at least, and if it is ragged, that is 1. The block has the channels.
    unsafe fn dense<const ROWS: usize, const N: usize>(&mut self, part: &Part, block: &Range<usize>, first: usize) {
        let (shape, w, group_in) = (self.shape, &self.shape.window, group_in(self.shape));
        let (weights, step) = match self.args.weights {
            Weights::Packed(values) => (&values[block.start * places(shape) + first - block.start..], block.len()),
            Weights::Rows(values) => (&values[first..], shape.out_c),
        };
        let input = self.args.input.as_ptr().wrapping_add(first / group_out(shape) * group_in);
        let (segments, run) = part::runs(shape, part.columns.len());
        let bias: [f32; N] = array::from_fn(|c| self.args.bias[first + c]);
        for pixels in part.tiles::<ROWS>() {
            let mut sums = [bias; ROWS];
            let rows = if part.ragged { w.rows_inside(part.row_of(pixels[0])) } else { part.rows.clone() };
            for ky in rows {
                for segment in 0..segments {
                    let tap = part.distance(w, ky, segment);
                    let x = pixels.map(|pixel| input.wrapping_add(pixel.input.wrapping_add(tap)));
                    let place = (ky * w.kernel_w + part.columns.start + segment) * group_in;
                    // SAFETY: the taps of these rows and columns are inside the image; each has weights of `N` channels.
                    unsafe { products(&mut sums, x, weights[place * step..].as_ptr(), step, run) };
                }
            }
            for (pixel, sums) in pixels.iter().zip(&sums) {
                // SAFETY: the caller's.
                unsafe { self.store(pixel, first, sums) };
            }
        }
    }

    /// All pixels of a part of a depthwise convolution, which has `N` channels at least. The last ones begin early enough to be as
    /// many.
    ///
    /// # Safety
    /// As [`run`]; there are as many channels.
    unsafe fn depthwise<const N: usize>(&mut self, part: &Part) {
        let (w, out_c) = (&self.shape.window, self.shape.out_c);
        for [pixel] in part.tiles() {
            for first in (0..out_c).step_by(N) {
                let first = first.min(out_c - N);
                let mut sums: [f32; N] = array::from_fn(|c| self.args.bias[first + c]);
                for ky in part.rows.clone().filter(|_| !part.columns.is_empty()) {
                    let at = pixel.input.wrapping_add(part.distance(w, ky, 0)).wrapping_add(first);
                    let weights = &self.args.weights.values()[(ky * w.kernel_w + part.columns.start) * out_c + first..];
                    let steps = [w.dilation_w * out_c, out_c];
                    // SAFETY: the taps of these rows and columns are inside the image, and have `N` channels from `first`
                    // on.
                    unsafe {
                        let x = self.args.input.as_ptr().add(at);
                        taps(&mut sums, x, weights.as_ptr(), steps, part.columns.len());
                    }
                }
                // SAFETY: the caller's.
                unsafe { self.store(&pixel, first, &sums) };
            }
        }
    }

    /// Writes the results of some channels of a pixel.
    ///
    /// # Safety
    /// The CPU has NEON.
    unsafe fn store<const N: usize>(&mut self, pixel: &Pixel, first: usize, sums: &[f32; N]) {
        const { assert!(N.is_multiple_of(8)) };
        let y = &mut self.output[pixel.output + first..][..N];
        for (y, sums) in y.chunks_exact_mut(8).zip(sums.chunks_exact(8)) {
            // SAFETY: there are eight sums and as many results; the CPU has NEON.
            unsafe {
                neon!(
                    "vld1.32 {{d0-d3}}, [{sums}]",
                    "vdup.32 q4, {min}",
                    "vdup.32 q5, {max}",
                    "vmax.f32 q0, q0, q4", "vmax.f32 q1, q1, q4",
                    "vmin.f32 q0, q0, q5", "vmin.f32 q1, q1, q5",
                    "vst1.32 {{d0-d3}}, [{y}]";
                    sums = in(reg) sums.as_ptr(),
                    min = in(reg) self.args.min.to_bits(),
                    max = in(reg) self.args.max.to_bits(),
                    y = in(reg) y.as_mut_ptr()
                );
            }
        }
    }
}

/// The products of some rows of a tile: for each its values, their register and those of its sums. Two places at a time, and
/// one that may be left; what is loaded is not read at once, which would hold up a CPU that issues in order.
macro_rules! products {
    // Sixteen channels.
    ($sums:expr, $weights:expr, $step:expr, $places:expr; [$($load:literal),+], [$($store:literal),+];
     $($x:ident = $at:expr, $values:literal, $a:literal, $b:literal, $c:literal, $d:literal;)+) => {
        neon!(
            $($load,)+
            "subs {places}, {places}, #2",
            "blt 3f",
            "2:",
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vld1.32 {{", $values, "}}, [{", stringify!($x), "}]!"),)+
            "vld1.32 {{d2-d3}}, [{weights}]!",
            $(concat!("vmla.f32 ", $a, ", q0, ", $values, "[0]"),)+
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vmla.f32 ", $b, ", q1, ", $values, "[0]"),)+
            "vld1.32 {{d2-d3}}, [{weights}], {step}",
            $(concat!("vmla.f32 ", $c, ", q0, ", $values, "[0]"),)+
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vmla.f32 ", $d, ", q1, ", $values, "[0]"),)+
            "vld1.32 {{d2-d3}}, [{weights}]!",
            $(concat!("vmla.f32 ", $a, ", q0, ", $values, "[1]"),)+
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vmla.f32 ", $b, ", q1, ", $values, "[1]"),)+
            "vld1.32 {{d2-d3}}, [{weights}], {step}",
            "subs {places}, {places}, #2",
            $(concat!("vmla.f32 ", $c, ", q0, ", $values, "[1]"),)+
            $(concat!("vmla.f32 ", $d, ", q1, ", $values, "[1]"),)+
            "bge 2b",
            "3:",
            "tst {places}, #1",
            "beq 4f",
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vld1.32 {{", $values, "[]}}, [{", stringify!($x), "}]"),)+
            "vld1.32 {{d2-d3}}, [{weights}]!",
            $(concat!("vmla.f32 ", $a, ", q0, ", $values, "[0]"),)+
            "vld1.32 {{d0-d1}}, [{weights}]!",
            $(concat!("vmla.f32 ", $b, ", q1, ", $values, "[0]"),)+
            "vld1.32 {{d2-d3}}, [{weights}]",
            $(concat!("vmla.f32 ", $c, ", q0, ", $values, "[0]"),)+
            $(concat!("vmla.f32 ", $d, ", q1, ", $values, "[0]"),)+
            "4:",
            $($store),+;
            sums = inout(reg) $sums => _,
            weights = inout(reg) $weights => _,
            // From the last four weights of a place on.
            step = in(reg) ($step - 12) * 4,
            places = inout(reg) $places => _,
            $($x = inout(reg) $at => _),+
        )
    };
    // Eight.
    ($sums:expr, $weights:expr, $step:expr, $places:expr; [$($load:literal),+], [$($store:literal),+];
     $($x:ident = $at:expr, $values:literal, $a:literal, $b:literal;)+) => {
        neon!(
            $($load,)+
            "subs {places}, {places}, #2",
            "blt 3f",
            "2:",
            "vld1.32 {{d0-d3}}, [{weights}], {step}",
            $(concat!("vld1.32 {{", $values, "}}, [{", stringify!($x), "}]!"),)+
            "vld1.32 {{d8-d11}}, [{weights}], {step}",
            "subs {places}, {places}, #2",
            $(concat!("vmla.f32 ", $a, ", q0, ", $values, "[0]"),)+
            $(concat!("vmla.f32 ", $b, ", q1, ", $values, "[0]"),)+
            $(concat!("vmla.f32 ", $a, ", q4, ", $values, "[1]"),)+
            $(concat!("vmla.f32 ", $b, ", q5, ", $values, "[1]"),)+
            "bge 2b",
            "3:",
            "tst {places}, #1",
            "beq 4f",
            "vld1.32 {{d0-d3}}, [{weights}]",
            $(concat!("vld1.32 {{", $values, "[]}}, [{", stringify!($x), "}]"),)+
            $(concat!("vmla.f32 ", $a, ", q0, ", $values, "[0]"),)+
            $(concat!("vmla.f32 ", $b, ", q1, ", $values, "[0]"),)+
            "4:",
            $($store),+;
            sums = inout(reg) $sums => _,
            weights = inout(reg) $weights => _,
            step = in(reg) $step * 4,
            places = inout(reg) $places => _,
            $($x = inout(reg) $at => _),+
        )
    };
}

/// Adds to the sums of pixels the products of some places of a filter, counted from each of `x`, with weights that are `step`
/// values from one place to the next. Tiles are those of [`run`].
///
/// # Safety
/// The CPU has NEON; there are as many values, and `N` weights for each place.
unsafe fn products<const ROWS: usize, const N: usize>(
    sums: &mut [[f32; N]; ROWS],
    x: [*const f32; ROWS],
    weights: *const f32,
    step: usize,
    places: usize,
) {
    const { assert!(matches!((N, ROWS), WIDE | NARROW | (16 | 8, 1))) };
    let (sums, x) = (sums.as_mut_ptr(), |row: usize| x[row]);
    // SAFETY: the caller's.
    unsafe {
        match (N, ROWS) {
            WIDE => products!(
                sums, weights, step, places;
                ["vldm {sums}!, {{d8-d23}}", "vldm {sums}, {{d24-d31}}"],
                ["vstm {sums}, {{d24-d31}}", "vstmdb {sums}!, {{d8-d23}}"];
                a = x(0), "d4", "q4", "q5", "q6", "q7";
                b = x(1), "d5", "q8", "q9", "q10", "q11";
                c = x(2), "d6", "q12", "q13", "q14", "q15";
            ),
            NARROW => products!(
                sums, weights, step, places;
                ["vldm {sums}, {{d16-d31}}"], ["vstm {sums}, {{d16-d31}}"];
                a = x(0), "d4", "q8", "q9";
                b = x(1), "d5", "q10", "q11";
                c = x(2), "d6", "q12", "q13";
                d = x(3), "d7", "q14", "q15";
            ),
            (16, _) => products!(
                sums, weights, step, places;
                ["vldm {sums}, {{d8-d15}}"], ["vstm {sums}, {{d8-d15}}"];
                a = x(0), "d4", "q4", "q5", "q6", "q7";
            ),
            _ => products!(
                sums, weights, step, places;
                ["vldm {sums}, {{d16-d19}}"], ["vstm {sums}, {{d16-d19}}"];
                a = x(0), "d4", "q8", "q9";
            ),
        }
    }
}

/// Adds to sums, sixteen or eight, the products of some taps, one at least, which have steps of so many values between them,
/// those of `x` and weights.
///
/// # Safety
/// The CPU has NEON; there are as many values, and `N` weights for each tap.
unsafe fn taps<const N: usize>(
    sums: &mut [f32; N],
    x: *const f32,
    weights: *const f32,
    [x_step, step]: [usize; 2],
    taps: usize,
) {
    const { assert!(matches!(N, 8 | 16)) };
    let sums = sums.as_mut_ptr();
    // SAFETY: the caller's.
    unsafe {
        if N == 16 {
            neon!(
                "vldm {sums}, {{d8-d15}}",
                "2:",
                "vld1.32 {{d0-d3}}, [{x}]!",
                "vld1.32 {{d16-d19}}, [{weights}]!",
                "vld1.32 {{d4-d7}}, [{x}], {x_step}",
                "vld1.32 {{d20-d23}}, [{weights}], {step}",
                "subs {taps}, {taps}, #1",
                "vmla.f32 q4, q0, q8",
                "vmla.f32 q5, q1, q9",
                "vmla.f32 q6, q2, q10",
                "vmla.f32 q7, q3, q11",
                "bgt 2b",
                "vstm {sums}, {{d8-d15}}";
                sums = in(reg) sums,
                x = inout(reg) x => _,
                weights = inout(reg) weights => _,
                // From the last eight channels of a tap on.
                x_step = in(reg) (x_step - 8) * 4,
                step = in(reg) (step - 8) * 4,
                taps = inout(reg) taps => _
            );
        } else {
            neon!(
                "vldm {sums}, {{d8-d11}}",
                "2:",
                "vld1.32 {{d0-d3}}, [{x}], {x_step}",
                "vld1.32 {{d16-d19}}, [{weights}], {step}",
                "subs {taps}, {taps}, #1",
                "vmla.f32 q4, q0, q8",
                "vmla.f32 q5, q1, q9",
                "bgt 2b",
                "vstm {sums}, {{d8-d11}}";
                sums = in(reg) sums,
                x = inout(reg) x => _,
                weights = inout(reg) weights => _,
                x_step = in(reg) x_step * 4,
                step = in(reg) step * 4,
                taps = inout(reg) taps => _
            );
        }
    }
}
