//! 3x3 convolution with a stride of 1 by minimal filtering, F(2x2, 3x3): 16 products for four
//! outputs of a channel instead of 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2015), and exactly.
//!
//! A *tile* is 2x2 outputs, under which lie 4x4 inputs. Inputs `d` and weights `g` are transformed
//! into `V = B' d B` and `U = (2G) g (2G)'`, multiplied position by position and summed over the
//! input channels, and `A' M A` is four times the convolution: `2G` has whole numbers where `G` has
//! halves. |V| <= 4 * 2^7 and |U| <= 9 * 2^7 fit i16, [`MAX_CHANNELS`] bounds the sums, and what is
//! four times an integer is divided without a remainder.
//!
//! AVX2 alone takes this way, since its products cost the most; packing is plain code.

use crate::kernels::conv::ConvArgs;
use crate::shape::{ConvShape, Window};

use super::Layout;
use super::panel::Panel;
use super::params::Params;

/// Four times a sum of so many products of a 3x3 kernel fits i32.
const MAX_CHANNELS: usize = 2048;
/// With fewer channels the transformations cost more than they save.
const MIN_CHANNELS: usize = 12;
/// Tiles of a region.
const MAX_TILES: usize = 24;
/// Panel bytes aimed at: weights come by once a region, so that regions should be large.
const PANEL_BYTES: usize = 64 << 10;
/// Positions of a transformed tile.
const POSITIONS: usize = 16;
/// Values of a vector of i16: transformed pixels fill up whole ones.
const VALUES: usize = 16;
/// Accumulators in a register, and values of a quad.
const LAYOUT: Layout = Layout { lanes: 8, taps: 2, blocks: 2, offset: 0 };

/// Whether a convolution goes this way.
pub fn takes(shape: &ConvShape) -> bool {
    let w = &shape.window;
    (w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w) == (3, 3, 1, 1, 1, 1)
        && (MIN_CHANNELS..=MAX_CHANNELS).contains(&w.in_c)
        && shape.out_c >= LAYOUT.lanes
        && w.out_h > 1
        && w.out_w > 1
}

/// How such a convolution is cut up.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    /// Regions of tiles: a tile is a pixel whose window is 4x4 with a stride of 2.
    pub panel: Panel,
    out_h: usize,
    out_w: usize,
    out_c: usize,
    /// Pairs of input channels.
    pairs: usize,
    /// Bytes of a transformed pixel at one position.
    row_bytes: usize,
}

impl Winograd {
    pub fn new(shape: &ConvShape) -> Winograd {
        let w = shape.window;
        let tiles = Window {
            out_h: w.out_h.div_ceil(2),
            out_w: w.out_w.div_ceil(2),
            kernel_h: 4,
            kernel_w: 4,
            stride_h: 2,
            stride_w: 2,
            ..w
        };
        Winograd {
            panel: Panel::within(PANEL_BYTES, tiles, w.in_c * 2, MAX_TILES, 1),
            out_h: w.out_h,
            out_w: w.out_w,
            out_c: shape.out_c,
            pairs: w.in_c.div_ceil(2),
            row_bytes: w.in_c.next_multiple_of(VALUES) * 2,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.block_bytes().saturating_mul(POSITIONS * self.out_c.div_ceil(LAYOUT.lanes))
    }

    /// Bytes that a run works in.
    pub fn scratch_len(&self) -> usize {
        [self.panel.len().next_multiple_of(64), self.inputs_len(), self.sums_len()]
            .iter()
            .fold(Params::scratch_len(LAYOUT, self.out_c, self.out_c), |all, len| all.saturating_add(*len))
    }

    /// Bytes of the weights of a block of channels at one position.
    fn block_bytes(&self) -> usize {
        self.pairs * LAYOUT.lanes * LAYOUT.taps * 2
    }

    /// Bytes of a region's transformed inputs, position by position and tile by tile.
    fn inputs_len(&self) -> usize {
        (POSITIONS * self.panel.rows * self.panel.cols).saturating_mul(self.row_bytes)
    }

    /// Bytes of the sums of a region for two blocks of output channels.
    fn sums_len(&self) -> usize {
        POSITIONS * self.panel.rows * self.panel.cols * LAYOUT.blocks * LAYOUT.lanes * 4
    }
}

/// For each group of one or two blocks of 8 output channels and each position, the blocks; in each,
/// for every pair of input channels, the two i16 weights of every lane.
pub fn pack(shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let winograd = Winograd::new(shape);
    let in_c = shape.window.in_c;
    assert_eq!(weights.len(), shape.out_c * 9 * in_c);
    dst.fill(0);
    let blocks = shape.out_c.div_ceil(LAYOUT.lanes);
    for (channel, filter) in weights.chunks_exact(9 * in_c).enumerate() {
        let block = channel / LAYOUT.lanes;
        let group = block / LAYOUT.blocks * LAYOUT.blocks;
        let in_group = LAYOUT.blocks.min(blocks - group);
        for c in 0..in_c {
            let u = transformed(core::array::from_fn(|at| filter[at * in_c + c].into()));
            for (position, value) in u.into_iter().enumerate() {
                let at = group * POSITIONS + position * in_group + (block - group);
                let lane = (c / 2 * LAYOUT.lanes + channel % LAYOUT.lanes) * 2 + c % 2;
                dst[at * winograd.block_bytes() + lane * 2..][..2].copy_from_slice(&value.to_ne_bytes());
            }
        }
    }
}

/// `(2G) g (2G)'`.
fn transformed(g: [i16; 9]) -> [i16; POSITIONS] {
    let rows = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] = core::array::from_fn(|x| rows([g[x], g[3 + x], g[6 + x]]));
    let mut u = [0; POSITIONS];
    for y in 0..4 {
        u[y * 4..][..4].copy_from_slice(&rows([columns[0][y], columns[1][y], columns[2][y]]));
    }
    u
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has AVX2; `args` otherwise [fit](ConvArgs::fit) `shape`, which this module [takes].
#[cfg(target_arch = "x86_64")]
pub unsafe fn run(shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) -> bool {
    let winograd = &Winograd::new(shape);
    if args.weights.len() != winograd.packed_len() || scratch.len() < winograd.scratch_len() {
        return false;
    }
    // SAFETY: as the caller's; weights and scratch are there.
    unsafe { avx2::run(winograd, shape, args, output, scratch) };
    true
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    // Every function here is nothing but unsafe operations, all on memory that `run` lays out.
    #![allow(unsafe_op_in_unsafe_fn)]
    // Indices that are constants keep values in registers.
    #![allow(clippy::needless_range_loop)]

    use core::arch::x86_64::*;

    use super::super::avx2::Avx2;
    use super::super::gemm::Widened;
    use super::super::ops::{Epilogue, Rows, Simd, each};
    use super::super::panel::Region;
    use super::*;

    /// The tiles of a region, where they go, and what is worked in.
    struct Tiles<'a> {
        winograd: &'a Winograd,
        region: Region,
        /// Where the inputs of each tile begin in the panel.
        windows: &'a [u32],
        inputs: *mut u8,
        sums: *mut u8,
        params: Params,
        out: Epilogue,
        output: *mut i8,
    }

    /// # Safety
    /// The CPU has AVX2, arguments fit.
    #[target_feature(enable = "avx2")]
    pub unsafe fn run(
        winograd: &Winograd,
        shape: &ConvShape,
        args: &ConvArgs<'_>,
        output: &mut [i8],
        scratch: &mut [u8],
    ) {
        let panel = &winograd.panel;
        let (params, scratch) = Params::new(LAYOUT, args, shape.out_c, scratch);
        let (panel_bytes, scratch) = scratch.split_at_mut(panel.len().next_multiple_of(64));
        let (inputs, sums) = scratch.split_at_mut(winograd.inputs_len());
        let windows = panel.windows::<MAX_TILES>();
        let source = Widened::<Avx2>::new(args, shape);
        let blocks = shape.out_c.div_ceil(LAYOUT.lanes);
        for region in panel.regions() {
            panel.fill(&source, region, panel_bytes.as_mut_ptr());
            let tiles = Tiles {
                winograd,
                region,
                windows: &windows[..region.rows * region.cols],
                inputs: inputs.as_mut_ptr(),
                sums: sums.as_mut_ptr(),
                params,
                out: Epilogue::from(&args.out),
                output: output.as_mut_ptr(),
            };
            transform_inputs(&tiles, panel_bytes.as_ptr());
            let mut weights = args.weights.as_ptr();
            for block in (0..blocks).step_by(2) {
                if block + 1 < blocks {
                    weights = group::<2>(&tiles, weights, block);
                } else {
                    weights = group::<1>(&tiles, weights, block);
                }
            }
        }
    }

    /// `V = B' d B` of every tile, 16 channels at a time.
    #[inline(always)]
    unsafe fn transform_inputs(tiles: &Tiles, panel: *const u8) {
        let Winograd { panel: Panel { pitch, pixel_bytes, .. }, row_bytes, .. } = *tiles.winograd;
        let plane = tiles.windows.len() * row_bytes;
        for (tile, &window) in tiles.windows.iter().enumerate() {
            let (src, dst) = (panel.add(window as usize), tiles.inputs.add(tile * row_bytes));
            for at in (0..row_bytes).step_by(VALUES * 2) {
                let d: [[__m256i; 4]; 4] =
                    each!(|y| each!(|x| _mm256_loadu_si256(src.add(y * pitch + x * pixel_bytes + at).cast())));
                let down: [[__m256i; 4]; 4] = each!(|x| input_rows([d[0][x], d[1][x], d[2][x], d[3][x]]));
                let v: [[__m256i; 4]; 4] = each!(|y| input_rows([down[0][y], down[1][y], down[2][y], down[3][y]]));
                for y in 0..4 {
                    for x in 0..4 {
                        _mm256_storeu_si256(dst.add((y * 4 + x) * plane + at).cast(), v[y][x]);
                    }
                }
            }
        }
    }

    /// `B' d` of a column.
    #[inline(always)]
    unsafe fn input_rows([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        [_mm256_sub_epi16(a, c), _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), _mm256_sub_epi16(b, d)]
    }

    /// The outputs of `BLOCKS` blocks of channels; returns where the weights of the next ones are.
    #[inline(always)]
    unsafe fn group<const BLOCKS: usize>(tiles: &Tiles, mut weights: *const u8, block: usize) -> *const u8 {
        const ROWS: usize = 6;
        let Winograd { row_bytes, pairs, .. } = *tiles.winograd;
        let count = tiles.windows.len();
        let mut sums = tiles.sums;
        let mut inputs = tiles.inputs.cast_const();
        for _ in 0..POSITIONS {
            let mut left = count;
            while left > 0 {
                let rows = left.min(ROWS);
                match rows {
                    1 => products::<1, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                    2 => products::<2, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                    3 => products::<3, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                    4 => products::<4, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                    5 => products::<5, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                    _ => products::<6, BLOCKS>(inputs, row_bytes, weights, pairs, sums),
                }
                inputs = inputs.add(rows * row_bytes);
                sums = sums.add(rows * BLOCKS * 32);
                left -= rows;
            }
            weights = weights.add(BLOCKS * tiles.winograd.block_bytes());
        }
        transform_sums::<BLOCKS>(tiles, block * LAYOUT.lanes);
        weights
    }

    /// One position of `ROWS` tiles: sums over the input channels.
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        inputs: *const u8,
        row_bytes: usize,
        weights: *const u8,
        pairs: usize,
        sums: *mut u8,
    ) {
        let mut acc = [[_mm256_setzero_si256(); BLOCKS]; ROWS];
        for pair in 0..pairs {
            let w: [__m256i; BLOCKS] = each!(|b| Avx2::load(weights.add((b * pairs + pair) * 32)));
            for r in 0..ROWS {
                let values = Avx2::broadcast(inputs.add(r * row_bytes + pair * 4));
                for b in 0..BLOCKS {
                    acc[r][b] = Avx2::dot(acc[r][b], values, w[b]);
                }
            }
        }
        for r in 0..ROWS {
            for b in 0..BLOCKS {
                _mm256_storeu_si256(sums.add((r * BLOCKS + b) * 32).cast(), acc[r][b]);
            }
        }
    }

    /// `A' M A / 4` and the bias of every tile, requantized and written.
    #[inline(always)]
    unsafe fn transform_sums<const BLOCKS: usize>(tiles: &Tiles, channel: usize) {
        let Winograd { out_h, out_w, out_c, .. } = *tiles.winograd;
        let Region { y, x, cols, .. } = tiles.region;
        let plane = tiles.windows.len() * BLOCKS * 32;
        let bias: [__m256i; BLOCKS] = each!(|b| tiles.params.first::<Avx2>(channel + b * LAYOUT.lanes));
        let multiplier = tiles.params.multiplier(channel);
        let len = (BLOCKS * LAYOUT.lanes).min(out_c - channel);
        for tile in 0..tiles.windows.len() {
            let (oy, ox) = ((y + tile / cols) * 2, (x + tile % cols) * 2);
            let sums = tiles.sums.add(tile * BLOCKS * 32);
            let outputs: [[[__m256i; 2]; 2]; BLOCKS] = each!(|b| {
                let sum = |position: usize| _mm256_loadu_si256(sums.add(position * plane + b * 32).cast());
                let down: [[__m256i; 2]; 4] = each!(|x| output_rows([sum(x), sum(4 + x), sum(8 + x), sum(12 + x)]));
                each!(|y| {
                    let four = output_rows([down[0][y], down[1][y], down[2][y], down[3][y]]);
                    each!(|x| _mm256_add_epi32(_mm256_srai_epi32(four[x], 2), bias[b]))
                })
            });
            let columns = 2.min(out_w - ox);
            let dst = tiles.output.add((oy * out_w + ox) * out_c + channel);
            let row = Rows { dst, step: out_c, len, rows: columns };
            Avx2::store::<BLOCKS>(pixels(&outputs, 0), multiplier, &tiles.out, row);
            if oy + 1 < out_h {
                let row = Rows { dst: dst.add(out_w * out_c), ..row };
                Avx2::store::<BLOCKS>(pixels(&outputs, 1), multiplier, &tiles.out, row);
            }
        }
    }

    /// `A' m` of a column.
    #[inline(always)]
    unsafe fn output_rows([a, b, c, d]: [__m256i; 4]) -> [__m256i; 2] {
        [_mm256_add_epi32(_mm256_add_epi32(a, b), c), _mm256_sub_epi32(_mm256_sub_epi32(b, c), d)]
    }

    /// The two pixels of row `y` of a tile, as [`Simd::store`] takes them.
    #[inline(always)]
    fn pixels<const BLOCKS: usize>(outputs: &[[[__m256i; 2]; 2]; BLOCKS], y: usize) -> [__m256i; 4] {
        if BLOCKS == 1 {
            [outputs[0][y][0], outputs[0][y][1], outputs[0][y][0], outputs[0][y][1]]
        } else {
            let second = BLOCKS - 1;
            [outputs[0][y][0], outputs[second][y][0], outputs[0][y][1], outputs[second][y][1]]
        }
    }
}
