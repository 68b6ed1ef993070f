//! Convolution by minimal filtering, which takes fewer products for some additions (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2015), and exactly.
//!
//! A *tile* is a few neighbouring outputs. The inputs under it and the weights are transformed, multiplied
//! position by position and summed over the input channels; what a second transformation makes of the sums
//! is a multiple of the convolution, and is divided without a remainder.
//!
//! - `plane`: 3x3 kernels with a stride of 1, 16 products in place of 36
//! - `line`: kernels of five along a line with a stride of 1, 6 products in place of 10
//! - `wide`: the operations of instruction sets
//!
//! AVX2 takes this way, and NEON without dot products the first, since their products cost the most; packing
//! is plain code.

// Indices that are constants keep values in registers.
#![allow(clippy::needless_range_loop)]

mod line;
mod plane;
mod wide;

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::isa::Isa;
use crate::kernels::conv::ConvArgs;
use crate::shape::{ConvShape, Window};

use super::Layout;
use super::ops::{Epilogue, Simd, vectorized};
use super::panel::{Fill, Panel, Region, lying};
use super::params::Params;
use wide::Wide;

pub use line::Line;
pub use plane::Plane;
#[cfg(target_arch = "x86_64")]
pub use wide::Avx2Wide;
#[cfg(target_arch = "aarch64")]
pub use wide::NeonWide;

/// With fewer channels the transformations cost more than they save.
const MIN_CHANNELS: usize = 12;
/// Tiles of a region.
const MAX_TILES: usize = 30;
/// Rows of tiles that are multiplied together.
const MAX_ROWS: usize = 6;
/// Panel bytes aimed at: weights come by once a region, so that regions should be large.
const PANEL_BYTES: usize = 64 << 10;
/// Values that transformed pixels are filled up to a multiple of: the longest vector of i16.
const VALUES: usize = 16;

/// On NEON a lane has the weight of one channel.
const NEON: Layout = Layout { lanes: 4, taps: 1, blocks: 2, rows: 6, offset: 0 };

/// The two kinds of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plane,
    Line,
}

/// Whether and how `isa` takes a convolution this way.
pub fn kind(isa: Isa, shape: &ConvShape) -> Option<Kind> {
    if !matches!(isa, Isa::Avx2 | Isa::Neon) || shape.window.out_h.max(shape.window.out_w) == 1 {
        return None;
    }
    let w = lying(shape.window);
    let dense = (w.stride_h, w.stride_w, w.dilation_h, w.dilation_w) == (1, 1, 1, 1)
        && w.in_c >= MIN_CHANNELS
        && shape.out_c >= 8
        && w.out_w > 1;
    match (w.kernel_h, w.kernel_w) {
        (3, 3) if dense && w.out_h > 1 && w.in_c <= plane::MAX_CHANNELS => Some(Kind::Plane),
        (1, 5) if dense && (w.in_h, w.out_h, w.pad_top) == (1, 1, 0) && w.in_c <= line::MAX_CHANNELS => {
            (isa == Isa::Avx2).then_some(Kind::Line)
        }
        _ => None,
    }
}

/// What an instruction set takes for a convolution that goes this way: `taps` i16 weights a lane.
pub fn layout(isa: Isa, shape: &ConvShape) -> Option<Layout> {
    kind(isa, shape).map(|_| if isa == Isa::Neon { NEON } else { Layout::AVX2 })
}

/// What differs between kinds of kernels.
///
/// # Safety
/// Both methods need a CPU with the instruction set, and what `tiles` names to be there.
#[allow(clippy::missing_safety_doc)]
pub trait Filter<W: Wide> {
    /// Transforms the inputs of all tiles, a vector of channels at a time.
    unsafe fn inputs(tiles: &Tiles, panel: *const u8);
    /// Transforms the sums of all tiles for `BLOCKS` blocks of channels from `channel` on; adds the bias,
    /// requantizes and writes.
    unsafe fn outputs<const BLOCKS: usize>(tiles: &Tiles, channel: usize);
}

/// How such a convolution is cut up.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    layout: Layout,
    kind: Kind,
    /// Regions of tiles: a tile is a pixel whose window is 4x4, or 6 on a line, with a stride of 2.
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
    /// Of a shape that goes this way.
    pub fn new(layout: Layout, shape: &ConvShape) -> Winograd {
        let w = lying(shape.window);
        let out_w = w.out_w.div_ceil(2);
        let (kind, tiles) = match w.kernel_w {
            3 => {
                let out_h = w.out_h.div_ceil(2);
                (Kind::Plane, Window { out_h, out_w, kernel_h: 4, kernel_w: 4, stride_h: 2, stride_w: 2, ..w })
            }
            _ => (Kind::Line, Window { out_w, kernel_w: 6, stride_w: 2, ..w }),
        };
        Winograd {
            layout,
            kind,
            panel: Panel::within(PANEL_BYTES, tiles, w.in_c * 2, MAX_TILES, 1),
            out_h: w.out_h,
            out_w: w.out_w,
            out_c: shape.out_c,
            steps: w.in_c.div_ceil(layout.taps),
            row_bytes: w.in_c.next_multiple_of(VALUES) * 2,
        }
    }

    /// Positions of a transformed tile.
    fn positions(&self) -> usize {
        match self.kind {
            Kind::Plane => plane::POSITIONS,
            Kind::Line => line::POSITIONS,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.block_bytes().saturating_mul(self.positions() * self.out_c.div_ceil(self.layout.lanes))
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
        (self.positions() * self.panel.rows * self.panel.cols).saturating_mul(self.row_bytes)
    }

    /// Bytes of the sums of a region for two blocks of output channels.
    fn sums_len(&self) -> usize {
        self.positions() * self.panel.rows * self.panel.cols * self.layout.blocks * self.layout.lanes * 4
    }
}

/// For each group of one or two blocks of output channels and each position, the blocks; in each,
/// for every step through the input channels, the i16 weights of every lane.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let winograd = Winograd::new(layout, shape);
    dst.fill(0);
    match winograd.kind {
        Kind::Plane => pack_transformed(&winograd, shape, weights, dst, plane::transformed),
        Kind::Line => pack_transformed(&winograd, shape, weights, dst, line::transformed),
    }
}

fn pack_transformed<const TAPS: usize, const POSITIONS: usize>(
    winograd: &Winograd,
    shape: &ConvShape,
    weights: &[i8],
    dst: &mut [u8],
    transformed: fn([i16; TAPS]) -> [i16; POSITIONS],
) {
    let Layout { lanes, taps, .. } = winograd.layout;
    let in_c = shape.window.in_c;
    assert_eq!(weights.len(), shape.out_c * TAPS * in_c);
    let blocks = shape.out_c.div_ceil(lanes);
    for (channel, filter) in weights.chunks_exact(TAPS * in_c).enumerate() {
        let block = channel / lanes;
        let group = block / winograd.layout.blocks * winograd.layout.blocks;
        let in_group = winograd.layout.blocks.min(blocks - group);
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

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`, for which it has
/// a [layout], that of `W`, and which is of the [kind] of `F`.
pub unsafe fn run<W: Wide, F: Filter<W>>(
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: &mut [i8],
    scratch: &mut [u8],
) -> bool {
    let winograd = &Winograd::new(W::LAYOUT, shape);
    if args.weights.len() != winograd.packed_len() || scratch.len() < winograd.scratch_len() {
        return false;
    }
    let panel = &winograd.panel;
    let (params, scratch) = Params::new(W::LAYOUT, args, shape.out_c, scratch);
    let (panel_bytes, scratch) = scratch.split_at_mut(panel.len().next_multiple_of(64));
    let (inputs, sums) = scratch.split_at_mut(winograd.inputs_len());
    let mut windows = [const { MaybeUninit::uninit() }; MAX_TILES];
    let windows = panel.windows(&mut windows);
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
                convolve::<W, F>(tiles, panel_bytes.as_ptr(), args.weights.as_ptr());
            });
        }
    }
    true
}

/// The tiles of a region, where they go, and what is worked in.
pub struct Tiles<'a> {
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
unsafe fn convolve<W: Wide, F: Filter<W>>(tiles: &Tiles, panel: *const u8, mut weights: *const u8) {
    let blocks = tiles.winograd.out_c.div_ceil(W::LAYOUT.lanes);
    // SAFETY: as the caller's; groups have as many weights as they move on by.
    unsafe {
        F::inputs(tiles, panel);
        for block in (0..blocks).step_by(2) {
            let channel = block * W::LAYOUT.lanes;
            if block + 1 < blocks {
                weights = group::<W, 2>(tiles, weights);
                F::outputs::<2>(tiles, channel);
            } else {
                weights = group::<W, 1>(tiles, weights);
                F::outputs::<1>(tiles, channel);
            }
        }
    }
}

/// The sums of `BLOCKS` blocks of channels; returns where the weights of the next ones are.
///
/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn group<W: Wide, const BLOCKS: usize>(tiles: &Tiles, mut weights: *const u8) -> *const u8 {
    let Winograd { row_bytes, steps, .. } = *tiles.winograd;
    let count = tiles.windows.len();
    let mut sums = tiles.sums;
    let mut inputs = tiles.inputs.cast_const();
    // SAFETY: as the caller's; inputs and sums lie position by position and tile by tile.
    unsafe {
        for _ in 0..tiles.winograd.positions() {
            let mut left = count;
            for parts in (1..=count.div_ceil(MAX_ROWS)).rev() {
                // Of like size: 13 are 5, 4 and 4, and not 6, 6 and 1.
                let rows = left.div_ceil(parts);
                match rows {
                    1 => W::products::<1, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    2 => W::products::<2, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    3 => W::products::<3, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    4 => W::products::<4, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    5 => W::products::<5, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                    _ => W::products::<MAX_ROWS, BLOCKS>(inputs, row_bytes, weights, steps, sums),
                }
                inputs = inputs.add(rows * row_bytes);
                sums = sums.add(rows * BLOCKS * W::LAYOUT.lanes * 4);
                left -= rows;
            }
            weights = weights.add(BLOCKS * tiles.winograd.block_bytes());
        }
    }
    weights
}

type Sums<W> = <<W as Wide>::Simd as Simd>::Acc;

/// Two neighbouring pixels of some blocks, as [`Simd::store`] takes them.
#[inline(always)]
fn two_pixels<W: Wide, const BLOCKS: usize>(outputs: [[Sums<W>; 2]; BLOCKS]) -> [Sums<W>; 4] {
    let (first, second) = (outputs[0], outputs[BLOCKS - 1]);
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
