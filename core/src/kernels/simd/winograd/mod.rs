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
//! AVX2 and NEON without dot products take this way, since their products cost the most; packing is
//! plain code. `wide` has the operations in which they differ.

// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

mod wide;

use core::marker::PhantomData;

use crate::isa::Isa;
use crate::kernels::conv::ConvArgs;
use crate::shape::{ConvShape, Window};

use super::Layout;
use super::ops::{Epilogue, Rows, Simd, each, vectorized};
use super::panel::{Fill, Panel, Region};
use super::params::Params;
use wide::Wide;

#[cfg(target_arch = "x86_64")]
pub use wide::Avx2Wide;
#[cfg(target_arch = "aarch64")]
pub use wide::NeonWide;

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
/// Values that transformed pixels are filled up to a multiple of: the longest vector of i16.
const VALUES: usize = 16;

/// On NEON a lane has the weight of one channel.
const NEON: Layout = Layout { lanes: 4, taps: 1, blocks: 2, offset: 0 };

/// What an instruction set takes for a convolution that goes this way: `taps` i16 weights a lane.
pub fn layout(isa: Isa, shape: &ConvShape) -> Option<Layout> {
    let layout = match isa {
        Isa::Avx2 => Layout::AVX2,
        Isa::Neon => NEON,
        _ => return None,
    };
    let w = &shape.window;
    let takes = (w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w) == (3, 3, 1, 1, 1, 1)
        && (MIN_CHANNELS..=MAX_CHANNELS).contains(&w.in_c)
        && shape.out_c >= 8
        && w.out_h > 1
        && w.out_w > 1;
    takes.then_some(layout)
}

/// How such a convolution is cut up.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    layout: Layout,
    /// Regions of tiles: a tile is a pixel whose window is 4x4 with a stride of 2.
    panel: Panel,
    out_h: usize,
    out_w: usize,
    out_c: usize,
    /// Input channels, `taps` at a time.
    steps: usize,
    /// Bytes of a transformed pixel at one position.
    row_bytes: usize,
}

impl Winograd {
    pub fn new(layout: Layout, shape: &ConvShape) -> Winograd {
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
            layout,
            panel: Panel::within(PANEL_BYTES, tiles, w.in_c * 2, MAX_TILES, 1),
            out_h: w.out_h,
            out_w: w.out_w,
            out_c: shape.out_c,
            steps: w.in_c.div_ceil(layout.taps),
            row_bytes: w.in_c.next_multiple_of(VALUES) * 2,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.block_bytes().saturating_mul(POSITIONS * self.out_c.div_ceil(self.layout.lanes))
    }

    /// Bytes that a run works in.
    pub fn scratch_len(&self) -> usize {
        [self.panel.len().next_multiple_of(64), self.inputs_len(), self.sums_len()]
            .iter()
            .fold(Params::scratch_len(self.layout, self.out_c, self.out_c), |all, len| all.saturating_add(*len))
    }

    /// Bytes of the weights of a block of channels at one position.
    fn block_bytes(&self) -> usize {
        self.steps * self.layout.lanes * self.layout.taps * 2
    }

    /// Bytes of a region's transformed inputs, position by position and tile by tile.
    fn inputs_len(&self) -> usize {
        (POSITIONS * self.panel.rows * self.panel.cols).saturating_mul(self.row_bytes)
    }

    /// Bytes of the sums of a region for two blocks of output channels.
    fn sums_len(&self) -> usize {
        POSITIONS * self.panel.rows * self.panel.cols * self.layout.blocks * self.layout.lanes * 4
    }
}

/// For each group of one or two blocks of output channels and each position, the blocks; in each,
/// for every step through the input channels, the i16 weights of every lane.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let Layout { lanes, taps, .. } = layout;
    let winograd = Winograd::new(layout, shape);
    let in_c = shape.window.in_c;
    assert_eq!(weights.len(), shape.out_c * 9 * in_c);
    dst.fill(0);
    let blocks = shape.out_c.div_ceil(lanes);
    for (channel, filter) in weights.chunks_exact(9 * in_c).enumerate() {
        let block = channel / lanes;
        let group = block / layout.blocks * layout.blocks;
        let in_group = layout.blocks.min(blocks - group);
        for c in 0..in_c {
            let u = transformed(core::array::from_fn(|at| filter[at * in_c + c].into()));
            for (position, value) in u.into_iter().enumerate() {
                let at = group * POSITIONS + position * in_group + (block - group);
                let lane = (c / taps * lanes + channel % lanes) * taps + c % taps;
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
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`, for which it has
/// a [layout], that of `W`.
pub unsafe fn run<W: Wide>(shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) -> bool {
    let winograd = &Winograd::new(W::LAYOUT, shape);
    if args.weights.len() != winograd.packed_len() || scratch.len() < winograd.scratch_len() {
        return false;
    }
    let panel = &winograd.panel;
    let (params, scratch) = Params::new(W::LAYOUT, args, shape.out_c, scratch);
    let (panel_bytes, scratch) = scratch.split_at_mut(panel.len().next_multiple_of(64));
    let (inputs, sums) = scratch.split_at_mut(winograd.inputs_len());
    let mut windows = [0; MAX_TILES];
    panel.put_windows(&mut windows);
    let source = Widened::<W> { input: args.input, in_c: shape.window.in_c, pad: args.input_zp, wide: PhantomData };
    for region in panel.regions() {
        let tiles = &Tiles {
            winograd,
            region,
            windows: &windows[..region.rows * region.cols],
            inputs: inputs.as_mut_ptr(),
            sums: sums.as_mut_ptr(),
            params,
            out: Epilogue::from(&args.out),
            output: output.as_mut_ptr(),
        };
        // SAFETY: as the caller's; weights and scratch are there, and the region is no larger than
        // what they were laid out for.
        unsafe {
            vectorized!(W, {
                panel.fill(&source, region, panel_bytes.as_mut_ptr());
                convolve::<W>(tiles, panel_bytes.as_ptr(), args.weights.as_ptr());
            });
        }
    }
    true
}

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
/// The CPU has the instruction set; panel, weights and what `tiles` names are there.
#[inline(always)]
unsafe fn convolve<W: Wide>(tiles: &Tiles, panel: *const u8, mut weights: *const u8) {
    let blocks = tiles.winograd.out_c.div_ceil(W::LAYOUT.lanes);
    // SAFETY: as the caller's; groups have as many weights as they move on by.
    unsafe {
        transform_inputs::<W>(tiles, panel);
        for block in (0..blocks).step_by(2) {
            if block + 1 < blocks {
                weights = group::<W, 2>(tiles, weights, block);
            } else {
                weights = group::<W, 1>(tiles, weights, block);
            }
        }
    }
}

/// `V = B' d B` of every tile, a vector of channels at a time.
///
/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn transform_inputs<W: Wide>(tiles: &Tiles, panel: *const u8) {
    let Winograd { panel: Panel { pitch, pixel_bytes, .. }, row_bytes, .. } = *tiles.winograd;
    let plane = tiles.windows.len() * row_bytes;
    for (tile, &window) in tiles.windows.iter().enumerate() {
        // SAFETY: a tile's inputs are in the panel, which has slack for the last vector, and there is
        // room for what they become.
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

/// `B' d` of a column.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn input_rows<W: Wide>([a, b, c, d]: [W::Values; 4]) -> [W::Values; 4] {
    // SAFETY: as the caller's.
    unsafe { [W::sub_values(a, c), W::add_values(b, c), W::sub_values(c, b), W::sub_values(b, d)] }
}

/// The outputs of `BLOCKS` blocks of channels; returns where the weights of the next ones are.
///
/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn group<W: Wide, const BLOCKS: usize>(tiles: &Tiles, mut weights: *const u8, block: usize) -> *const u8 {
    const ROWS: usize = 6;
    let Winograd { row_bytes, steps, .. } = *tiles.winograd;
    let count = tiles.windows.len();
    let mut sums = tiles.sums;
    let mut inputs = tiles.inputs.cast_const();
    // SAFETY: as the caller's; inputs and sums lie position by position and tile by tile.
    unsafe {
        for _ in 0..POSITIONS {
            let mut left = count;
            while left > 0 {
                let rows = left.min(ROWS);
                match rows {
                    1 => W::products::<1, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    2 => W::products::<2, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    3 => W::products::<3, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    4 => W::products::<4, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    5 => W::products::<5, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    _ => W::products::<6, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                }
                inputs = inputs.add(rows * row_bytes);
                sums = sums.add(rows * BLOCKS * W::LAYOUT.lanes * 4);
                left -= rows;
            }
            weights = weights.add(BLOCKS * tiles.winograd.block_bytes());
        }
        transform_sums::<W, BLOCKS>(tiles, block * W::LAYOUT.lanes);
    }
    weights
}

/// `A' M A / 4` and the bias of every tile, requantized and written.
///
/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn transform_sums<W: Wide, const BLOCKS: usize>(tiles: &Tiles, channel: usize) {
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
            W::Simd::store::<BLOCKS>(pixels::<W, BLOCKS>(&outputs, 0), multiplier, &tiles.out, row);
            if oy + 1 < out_h {
                let row = Rows { dst: dst.add(out_w * out_c), ..row };
                W::Simd::store::<BLOCKS>(pixels::<W, BLOCKS>(&outputs, 1), multiplier, &tiles.out, row);
            }
        }
    }
}

type Sums<W> = <<W as Wide>::Simd as Simd>::Acc;

/// `A' m` of a column.
///
/// # Safety
/// The CPU has the instruction set.
#[inline(always)]
unsafe fn output_rows<W: Wide>([a, b, c, d]: [Sums<W>; 4]) -> [Sums<W>; 2] {
    // SAFETY: as the caller's.
    unsafe { [W::Simd::add(W::Simd::add(a, b), c), W::sub_sums(W::sub_sums(b, c), d)] }
}

/// The two pixels of row `y` of a tile, as [`Simd::store`] takes them.
#[inline(always)]
fn pixels<W: Wide, const BLOCKS: usize>(outputs: &[[[Sums<W>; 2]; 2]; BLOCKS], y: usize) -> [Sums<W>; 4] {
    let (first, second) = (outputs[0][y], outputs[BLOCKS - 1][y]);
    if BLOCKS == 1 { [first[0], first[1], first[0], first[1]] } else { [first[0], second[0], first[1], second[1]] }
}

/// Pixels as i16.
struct Widened<'a, W> {
    input: &'a [i8],
    in_c: usize,
    pad: i8,
    wide: PhantomData<W>,
}

impl<W: Wide> Fill for Widened<'_, W> {
    #[inline(always)]
    unsafe fn pixels(&self, first: usize, _: usize, count: usize, dst: *mut u8) {
        // SAFETY: pixels are inside the image, and there is room for them. None is left out.
        unsafe { W::widen(self.input.as_ptr().add(first * self.in_c), count * self.in_c, dst) };
    }

    #[inline(always)]
    unsafe fn pad(&self, count: usize, dst: *mut u8) {
        let value = i16::from(self.pad).to_ne_bytes();
        for i in 0..count * self.in_c {
            // SAFETY: there is room for them.
            unsafe { dst.add(i * 2).cast::<[u8; 2]>().write(value) };
        }
    }
}
