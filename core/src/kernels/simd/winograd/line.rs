//! F(2, 5): a tile is two outputs, under which lie six inputs. Weights are taken as a polynomial's
//! coefficients and evaluated at 0, 1, -1, 2, -2 and infinity, inputs and sums transformed to match, such that
//! what comes out is 24 times the first output, and 12 times the second less the last sum. Inputs become at
//! most 10 * 2^7, weights 31 * 2^7, which fits i16. Sums may wrap: only what is divided, which [`MAX_CHANNELS`]
//! bounds, has to fit.

use super::super::ops::{Rows, Simd, each};
use super::super::panel::Panel;
use super::wide::{Thirds, Wide};
use super::{Filter, Sums, Tiles, Winograd, two_pixels};

/// 24 times a sum of five products for each of so many channels fits i32.
pub const MAX_CHANNELS: usize = 1024;
/// Positions of a transformed tile.
pub const POSITIONS: usize = 6;

/// The weights at the six points.
pub fn transformed([a, b, c, d, e]: [i16; 5]) -> [i16; POSITIONS] {
    let (even, odd) = (a + c + e, b + d);
    let (far_even, far_odd) = (a + 4 * c + 16 * e, 2 * b + 8 * d);
    [a, even + odd, even - odd, far_even + far_odd, far_even - far_odd, e]
}

pub struct Line;

impl<W: Thirds> Filter<W> for Line {
    #[inline(always)]
    unsafe fn inputs(tiles: &Tiles, panel: *const u8) {
        let Winograd { panel: Panel { pixel_bytes, .. }, row_bytes, .. } = *tiles.winograd;
        let plane = tiles.windows.len() * row_bytes;
        for (tile, &window) in tiles.windows.iter().enumerate() {
            // SAFETY: a tile's inputs are in the panel, which has slack for the last vector, and there
            // is room for what they become.
            unsafe {
                let (src, dst) = (panel.add(window as usize), tiles.inputs.add(tile * row_bytes));
                for at in (0..row_bytes).step_by(W::VALUES * 2) {
                    let d: [W::Values; 6] = each!(|x| W::load_values(src.add(x * pixel_bytes + at)));
                    let v = input_points::<W>(d);
                    for x in 0..POSITIONS {
                        W::store_values(dst.add(x * plane + at), v[x]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn outputs<const BLOCKS: usize>(tiles: &Tiles, channel: usize) {
        let Winograd { out_w, out_c, .. } = *tiles.winograd;
        let block_bytes = W::LAYOUT.lanes * 4;
        let plane = tiles.windows.len() * BLOCKS * block_bytes;
        let len = (BLOCKS * W::LAYOUT.lanes).min(out_c - channel);
        // SAFETY: as the caller's; a tile has an output, and those that it has are on the line.
        unsafe {
            let bias: [Sums<W>; BLOCKS] = each!(|b| tiles.params.first::<W::Simd>(channel + b * W::LAYOUT.lanes));
            let multiplier = tiles.params.multiplier(channel);
            for tile in 0..tiles.windows.len() {
                let x = (tiles.region.x + tile) * 2;
                let sums = tiles.sums.add(tile * BLOCKS * block_bytes);
                let outputs: [[Sums<W>; 2]; BLOCKS] = each!(|b| {
                    let two = output_points::<W>(each!(|x| W::Simd::load(sums.add(x * plane + b * block_bytes))));
                    each!(|x| W::Simd::add(two[x], bias[b]))
                });
                let dst = tiles.output.add(x * out_c + channel);
                let to = Rows { dst, step: out_c, len, rows: 2.min(out_w - x) };
                W::Simd::store::<BLOCKS>(two_pixels::<W, BLOCKS>(outputs), multiplier, &tiles.out, to);
            }
        }
    }
}

/// `B' d`, where the rows of `B'` are
///
/// ```text
///  4  0 -5  0  1  0
///  0 -4 -4  1  1  0
///  0  4 -4 -1  1  0
///  0 -2 -1  2  1  0
///  0  2 -1 -2  1  0
///  0  4  0 -5  0  1
/// ```
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn input_points<W: Wide>([a, b, c, d, e, f]: [W::Values; 6]) -> [W::Values; POSITIONS] {
    // SAFETY: as the caller's.
    unsafe {
        let twice = |x| W::add_values(x, x);
        let (even, odd) = (W::sub_values(e, twice(twice(c))), W::sub_values(d, twice(twice(b))));
        let (far_even, far_odd) = (W::sub_values(e, c), twice(W::sub_values(d, b)));
        [
            W::add_values(twice(twice(W::sub_values(a, c))), far_even),
            W::add_values(even, odd),
            W::sub_values(even, odd),
            W::add_values(far_even, far_odd),
            W::sub_values(far_even, far_odd),
            W::sub_values(W::sub_values(f, d), twice(far_odd)),
        ]
    }
}

/// `(6a - 4(b + c) + d + e) / 24` and `(2(c - b) + d - e) / 12 + f`.
///
/// Before it is divided by four the second has four times `f` added, and after that twice, which makes it three times
/// the output: it is 12 times the output less 12 `f`, which alone may be beyond an i32.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn output_points<W: Thirds>([a, b, c, d, e, f]: [Sums<W>; POSITIONS]) -> [Sums<W>; 2] {
    // SAFETY: as the caller's.
    unsafe {
        let (add, twice) = (|x, y| W::Simd::add(x, y), |x| W::Simd::add(x, x));
        let first = add(twice(add(twice(W::sub_sums(a, add(b, c))), a)), add(d, e));
        let second = add(twice(W::sub_sums(c, b)), W::sub_sums(d, e));
        let last = twice(f);
        let second = add(W::quarter(add(second, twice(last))), last);
        [W::third(W::half(W::quarter(first))), W::third(second)]
    }
}
