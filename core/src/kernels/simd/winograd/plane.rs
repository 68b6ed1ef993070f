//! F(2x2, 3x3): a tile is 2x2 outputs, under which lie 4x4 inputs. Inputs `d` and weights `g` become
//! `V = B' d B` and `U = (2G) g (2G)'`, and `A' M A` of the sums is four times the convolution: `2G` has
//! whole numbers where `G` has halves. |V| <= 4 * 2^7 and |U| <= 9 * 2^7 fit i16, and [`MAX_CHANNELS`]
//! bounds the sums.

use super::super::ops::{Rows, Simd, each};
use super::super::panel::{Panel, Region};
use super::wide::Wide;
use super::{Filter, Sums, Tiles, Winograd, two_pixels};

/// Four times a sum of so many products of a 3x3 kernel fits i32.
pub const MAX_CHANNELS: usize = 2048;
/// Positions of a transformed tile.
pub const POSITIONS: usize = 16;

/// `(2G) g (2G)'`.
pub fn transformed(g: [i16; 9]) -> [i16; POSITIONS] {
    let rows = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = core::array::from_fn(|x| rows([g[x], g[3 + x], g[6 + x]]));
    let mut u = [0; POSITIONS];
    for y in 0..4 {
        u[y * 4..][..4].copy_from_slice(&rows([columns[0][y], columns[1][y], columns[2][y]]));
    }
    u
}

pub struct Plane;

impl<W: Wide> Filter<W> for Plane {
    /// `V = B' d B`.
    #[inline(always)]
    unsafe fn inputs(tiles: &Tiles, panel: *const u8) {
        let Winograd { panel: Panel { pitch, pixel_bytes, .. }, row_bytes, .. } = *tiles.winograd;
        let plane = tiles.windows.len() * row_bytes;
        for (tile, &window) in tiles.windows.iter().enumerate() {
            // SAFETY: a tile's inputs are in the panel, which has slack for the last vector, and there
            // is room for what they become.
            unsafe {
                let (src, dst) = (panel.add(window as usize), tiles.inputs.add(tile * row_bytes));
                for at in (0..row_bytes).step_by(W::VALUES * 2) {
                    let d: [[W::Values; 4]; 4] =
                        each!(|y| { each!(|x| W::load_values(src.add(y * pitch + x * pixel_bytes + at))) });
                    let down: [[W::Values; 4]; 4] = each!(|x| input_rows::<W>([d[0][x], d[1][x], d[2][x], d[3][x]]));
                    let v: [[W::Values; 4]; 4] =
                        each!(|y| input_rows::<W>([down[0][y], down[1][y], down[2][y], down[3][y]]));
                    for y in 0..4 {
                        for x in 0..4 {
                            W::store_values(dst.add((y * 4 + x) * plane + at), v[y][x]);
                        }
                    }
                }
            }
        }
    }

    /// `A' M A / 4`.
    #[inline(always)]
    unsafe fn outputs<const BLOCKS: usize>(tiles: &Tiles, channel: usize) {
        let Winograd { out_h, out_w, out_c, .. } = *tiles.winograd;
        let Region { y, x, cols, .. } = tiles.region;
        let block_bytes = W::LAYOUT.lanes * 4;
        let plane = tiles.windows.len() * BLOCKS * block_bytes;
        let len = (BLOCKS * W::LAYOUT.lanes).min(out_c - channel);
        // SAFETY: as the caller's; a tile has an output, and those that it has are inside the image.
        unsafe {
            let bias: [Sums<W>; BLOCKS] = each!(|b| tiles.params.first::<W::Simd>(channel + b * W::LAYOUT.lanes));
            let multiplier = tiles.params.multiplier(channel);
            for tile in 0..tiles.windows.len() {
                let (oy, ox) = ((y + tile / cols) * 2, (x + tile % cols) * 2);
                let sums = tiles.sums.add(tile * BLOCKS * block_bytes);
                let outputs: [[[Sums<W>; 2]; 2]; BLOCKS] = each!(|b| {
                    let down: [[Sums<W>; 2]; 4] = each!(|x| {
                        output_rows::<W>(each!(|y| W::Simd::load(sums.add((y * 4 + x) * plane + b * block_bytes))))
                    });
                    each!(|y| {
                        let four = output_rows::<W>([down[0][y], down[1][y], down[2][y], down[3][y]]);
                        each!(|x| W::Simd::add(W::quarter(four[x]), bias[b]))
                    })
                });
                let dst = tiles.output.add((oy * out_w + ox) * out_c + channel);
                let row = Rows { dst, step: out_c, len, rows: 2.min(out_w - ox) };
                let pixels = two_pixels::<W, BLOCKS>(each!(|b| outputs[b][0]));
                W::Simd::store::<BLOCKS>(pixels, multiplier, &tiles.out, row);
                if oy + 1 < out_h {
                    let row = Rows { dst: dst.add(out_w * out_c), ..row };
                    let pixels = two_pixels::<W, BLOCKS>(each!(|b| outputs[b][1]));
                    W::Simd::store::<BLOCKS>(pixels, multiplier, &tiles.out, row);
                }
            }
        }
    }
}

/// `B' d` of a column.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn input_rows<W: Wide>([a, b, c, d]: [W::Values; 4]) -> [W::Values; 4] {
    // SAFETY: as the caller's.
    unsafe { [W::sub_values(a, c), W::add_values(b, c), W::sub_values(c, b), W::sub_values(b, d)] }
}

/// `A' m` of a column.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn output_rows<W: Wide>([a, b, c, d]: [Sums<W>; 4]) -> [Sums<W>; 2] {
    // SAFETY: as the caller's.
    unsafe { [W::Simd::add(W::Simd::add(a, b), c), W::sub_sums(W::sub_sums(b, c), d)] }
}
