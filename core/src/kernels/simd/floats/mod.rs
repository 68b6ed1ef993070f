//! Depthwise convolution in f32, exactly: for instruction sets whose integer products are no wider
//! than their fused multiply-add.
//!
//! A product of two i8 values and a sum of [`MAX_TAPS`] of them are integers below 2^24, which f32
//! holds without rounding, so that the result is that of i32 arithmetic. What pays is all around
//! the products: input values are converted once for all windows that cover them, nothing is
//! interleaved, and the accumulator is ready to be scaled.
//!
//! Channels are taken eight or sixteen at a time, each time over a panel of their own, which is
//! small.

mod results;

use core::mem::MaybeUninit;

use crate::kernels::conv::{ConvArgs, Results};
use crate::shape::{ConvShape, Window};

use super::ops::{Epilogue, Rows, each, vectorized};
use super::panel::{Fill, Panel, Region, lying};
use results::Put;

/// Values of a register.
const LANES: usize = 8;
/// Bytes of a register.
const BYTES: usize = LANES * 4;
/// What every tile, of 8, 6 or 4 pixels, divides.
const TILES: usize = 24;
/// Pixels a region has at most.
const MAX_PIXELS: usize = 20 * TILES;
/// What stands for multipliers where nothing is scaled.
const NONE: &[f32; 2 * LANES] = &[0.0; 2 * LANES];
/// The most taps of a channel: 2^9 products of at most 2^14 each.
pub const MAX_TAPS: usize = 1 << 9;

/// Eight f32 lanes of an instruction set.
///
/// # Safety
/// Every method needs a CPU with that instruction set, and pointers valid for what its text says is
/// read or written.
#[allow(clippy::missing_safety_doc)]
pub trait Floats: Sized {
    type Vec: Copy;
    type Finish: Copy;
    /// Pixels of a tile of two registers each, four or six: as many as leave their sums in registers.
    const PIXELS: usize = 6;

    /// Reads 8 values.
    unsafe fn load(values: *const u8) -> Self::Vec;
    /// Writes 8 values.
    unsafe fn put(values: Self::Vec, dst: *mut u8);
    /// Writes 8 i8 values as f32.
    unsafe fn convert(src: *const i8, dst: *mut u8);
    /// `acc + a * b`, all of them integers that f32 holds.
    unsafe fn fma(acc: Self::Vec, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// Adds the products of a row of the kernel: at `cols` columns, `step` bytes from each other, the values of `BLOCKS`
    /// registers of each window with as many weights.
    #[inline(always)]
    unsafe fn products<const P: usize, const BLOCKS: usize>(
        acc: &mut [[Self::Vec; BLOCKS]; P],
        windows: [*const u8; P],
        mut weights: *const u8,
        cols: usize,
        step: usize,
    ) {
        let (mut tap, mut cols) = (0, cols);
        // SAFETY: there are as many values and weights.
        unsafe {
            // It ends at its end: there is a column, and the compiler need not ask.
            loop {
                let weight: [Self::Vec; BLOCKS] = each!(|b| Self::load(weights.add(b * BYTES)));
                for p in 0..P {
                    for b in 0..BLOCKS {
                        acc[p][b] = Self::fma(acc[p][b], Self::load(windows[p].add(tap + b * BYTES)), weight[b]);
                    }
                }
                weights = weights.add(BLOCKS * BYTES);
                tap += step;
                cols -= 1;
                if cols == 0 {
                    break;
                }
            }
        }
    }
    /// `acc`, an integer, plus 8 i32 values.
    unsafe fn add_integers(acc: Self::Vec, integers: *const u8) -> Self::Vec;
    /// Bounds, ready in registers.
    unsafe fn finish(out: &Epilogue) -> Self::Finish;
    /// Requantizes four registers, which are `4 / BLOCKS` rows of one or two.
    unsafe fn store<const BLOCKS: usize>(
        acc: [Self::Vec; 4],
        multiplier: [Self::Vec; BLOCKS],
        finish: Self::Finish,
        to: Rows,
    );
    /// Calls `f` in a function compiled for the instruction set.
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;
}

/// Whether sums of a channel are exact.
pub fn takes(shape: &ConvShape) -> bool {
    let w = &shape.window;
    shape.out_c == w.in_c && w.kernel_h.saturating_mul(w.kernel_w) <= MAX_TAPS
}

/// Bytes of the packed weights.
pub fn packed_len(shape: &ConvShape) -> usize {
    let w = &shape.window;
    let block = Block::width(w.in_c);
    w.in_c.div_ceil(block).saturating_mul(w.kernel_h * w.kernel_w * block * 4)
}

/// Block by block of channels and tap by tap, a weight a channel as f32. The last block begins where
/// it ends with the last channel; a block of fewer than 8 channels is filled up with 0.
pub fn pack(shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let taps = shape.window.kernel_h * shape.window.kernel_w;
    assert_eq!(weights.len(), shape.out_c * taps);
    let width = Block::width(shape.out_c);
    for (index, block) in dst.chunks_exact_mut(taps * width * 4).enumerate() {
        let block_of = Block::new(index, shape.out_c);
        for (tap, lanes) in block.chunks_exact_mut(width * 4).enumerate() {
            for (lane, value) in lanes.chunks_exact_mut(4).enumerate() {
                let channel = block_of.first + lane;
                let weight = if lane < block_of.len { weights[channel * taps + tap] } else { 0 };
                value.copy_from_slice(&f32::from(weight).to_ne_bytes());
            }
        }
    }
}

/// Bytes that a run works in.
pub fn scratch_len(shape: &ConvShape) -> usize {
    panel_of(&shape.window).len()
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`, which this
/// module [takes].
pub unsafe fn run<F: Floats>(shape: &ConvShape, args: &ConvArgs<'_>, output: Results<'_>, scratch: &mut [u8]) -> bool {
    let panel = &panel_of(&shape.window);
    if args.weights.len() != packed_len(shape) || scratch.len() < panel.len() {
        return false;
    }
    let w = &panel.window;
    let taps = w.kernel_h * w.kernel_w;
    let mut windows = [const { MaybeUninit::uninit() }; MAX_PIXELS];
    let work =
        &Work { panel, args, windows: panel.windows(&mut windows), few: Few::new(args), memory: scratch.as_mut_ptr() };
    // A sum that starts from a bias stays exact if that is small; a larger one is added at the end.
    let room = (1 << 24) - (taps << 14) as u32;
    let small = args.bias.iter().fold(0, |largest, bias| bias.unsigned_abs().max(largest)) <= room;
    let three = (w.kernel_w, w.dilation_w) == (3, 1);
    // SAFETY: as the caller's; weights and scratch are there.
    unsafe {
        let dst = match output {
            Results::Bytes(bytes) => bytes.as_mut_ptr(),
            // Of products of matrices alone.
            Results::Shifted(..) => return false,
            Results::Sums(sums) => {
                let dst = sums.as_mut_ptr();
                if panel.pixel_bytes == BYTES {
                    vectorized!(F, blocks::<F, 1, 0, true, _>(work, dst));
                } else {
                    vectorized!(F, blocks::<F, 2, 0, true, _>(work, dst));
                }
                return true;
            }
        };
        match (panel.pixel_bytes == BYTES, three, small) {
            (true, _, true) => vectorized!(F, blocks::<F, 1, 0, false, _>(work, dst)),
            (true, _, false) => vectorized!(F, blocks::<F, 1, 0, true, _>(work, dst)),
            (false, true, true) => vectorized!(F, blocks::<F, 2, 3, false, _>(work, dst)),
            (false, _, true) => vectorized!(F, blocks::<F, 2, 0, false, _>(work, dst)),
            (false, _, false) => vectorized!(F, blocks::<F, 2, 0, true, _>(work, dst)),
        }
    }
    true
}

/// The panel of one block of channels.
fn panel_of(window: &Window) -> Panel {
    Panel::new(lying(*window), Block::width(window.in_c) * 4, MAX_PIXELS, TILES)
}

/// Some channels: 16 where there are as many, else up to 8.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    len: usize,
}

impl Block {
    /// Lanes of a block.
    fn width(channels: usize) -> usize {
        if channels < 2 * LANES { LANES } else { 2 * LANES }
    }

    fn new(index: usize, channels: usize) -> Block {
        let width = Block::width(channels);
        Block { first: (index * width).min(channels.saturating_sub(width)), len: channels.min(width) }
    }
}

/// Bias and multipliers of fewer channels than a register has lanes, filled up.
struct Few {
    bias: [i32; LANES],
    multiplier: [f32; LANES],
}

impl Few {
    fn new(args: &ConvArgs<'_>) -> Few {
        fn lanes<T: Copy + Default>(values: &[T]) -> [T; LANES] {
            let mut lanes = [T::default(); LANES];
            lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
            lanes
        }
        Few { bias: lanes(args.bias), multiplier: lanes(args.multiplier) }
    }
}

/// What there is to do.
struct Work<'a> {
    panel: &'a Panel,
    args: &'a ConvArgs<'a>,
    /// Of the largest region.
    windows: &'a [u32],
    few: Few,
    memory: *mut u8,
}

/// Takes region by region the channels a block at a time.
///
/// # Safety
/// The CPU has the instruction set; panel, weights and destination are there.
#[inline(always)]
unsafe fn blocks<F: Floats, const BLOCKS: usize, const COLS: usize, const LATE_BIAS: bool, T: Put>(
    work: &Work,
    dst: T,
) {
    let w = &work.panel.window;
    let step = w.kernel_h * w.kernel_w * BLOCKS * BYTES;
    let count = w.in_c.div_ceil(BLOCKS * LANES);
    for region in work.panel.regions() {
        // SAFETY: as the caller's; the pixels of a region follow each other in the output.
        unsafe {
            let pixels = dst.add((region.y * w.out_w + region.x) * w.in_c);
            for index in 0..count {
                let block = Block::new(index, w.in_c);
                let weights = work.args.weights.as_ptr().add(index * step);
                channels::<F, BLOCKS, COLS, LATE_BIAS, T>(work, region, block, weights, pixels.add(block.first));
            }
        }
    }
}

/// One block of channels over one region.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn channels<F: Floats, const BLOCKS: usize, const COLS: usize, const LATE_BIAS: bool, T: Put>(
    work: &Work,
    region: Region,
    block: Block,
    weights: *const u8,
    mut dst: T,
) {
    let Panel { window: w, pitch, .. } = *work.panel;
    let (panel, args) = (work.memory, work.args);
    let (bias, multiplier): (*const i32, *const f32) = if w.in_c < LANES {
        (work.few.bias.as_ptr(), work.few.multiplier.as_ptr())
    } else {
        (
            args.bias[block.first..].as_ptr(),
            if args.multiplier.is_empty() { NONE.as_ptr() } else { args.multiplier[block.first..].as_ptr() },
        )
    };
    // SAFETY: as the caller's; a block has no lanes beyond the last channel, but where there are few. Tiles take the region's
    // pixels one after the other.
    unsafe {
        let zero = F::load([0_f32; LANES].as_ptr().cast());
        let padding = F::load([f32::from(args.input_zp); LANES].as_ptr().cast());
        let source = Channels::<F, BLOCKS> { input: args.input, in_c: w.in_c, block, padding };
        work.panel.fill(&source, region, panel);
        let common = Common::<F, BLOCKS> {
            panel,
            weights,
            rows: w.kernel_h,
            row_step: pitch * w.dilation_h,
            cols: w.kernel_w,
            col_step: BLOCKS * BYTES * w.dilation_w,
            first: each!(|b| if LATE_BIAS { zero } else { F::add_integers(zero, bias.add(b * LANES).cast()) }),
            late: bias,
            multiplier: each!(|b| F::load(multiplier.add(b * LANES).cast())),
            finish: F::finish(&Epilogue::from(&args.out)),
            channels: w.in_c,
            len: block.len,
        };
        let mut rest = &work.windows[..region.rows * region.cols];
        macro_rules! tiles {
            ($pixels:literal) => {
                let (tiles, few) = rest.as_chunks::<$pixels>();
                for windows in tiles {
                    tile::<F, $pixels, BLOCKS, COLS, LATE_BIAS, T>(common, windows, dst);
                    dst = dst.add($pixels * w.in_c);
                }
                rest = few;
            };
        }
        // Sums side by side, enough to hide the latency of the multiply-add.
        if const { T::FEW } {
        } else if BLOCKS == 1 {
            tiles!(8);
        } else if const { F::PIXELS == 6 } {
            tiles!(6);
        }
        tiles!(4);
        if const { !T::FEW } {
            tiles!(2);
        }
        tiles!(1);
        debug_assert!(rest.is_empty());
    }
}

/// What all tiles of a block share: a copy, so that no write to memory makes it be read again.
struct Common<F: Floats, const BLOCKS: usize> {
    panel: *const u8,
    weights: *const u8,
    rows: usize,
    row_step: usize,
    cols: usize,
    col_step: usize,
    first: [F::Vec; BLOCKS],
    late: *const i32,
    multiplier: [F::Vec; BLOCKS],
    finish: F::Finish,
    channels: usize,
    len: usize,
}

impl<F: Floats, const BLOCKS: usize> Clone for Common<F, BLOCKS> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Floats, const BLOCKS: usize> Copy for Common<F, BLOCKS> {}

/// `P` pixels to `dst` and after it. Kernels have `COLS` adjacent columns, or any if that
/// is 0.
///
/// # Safety
/// As [`channels`].
#[inline(always)]
unsafe fn tile<F: Floats, const P: usize, const BLOCKS: usize, const COLS: usize, const LATE_BIAS: bool, T: Put>(
    common: Common<F, BLOCKS>,
    windows: &[u32; P],
    dst: T,
) {
    // SAFETY: windows lie inside the panel; there are as many weights as taps.
    unsafe {
        let windows: [*const u8; P] = each!(|p| common.panel.add(windows[p] as usize));
        let mut acc = [common.first; P];
        let mut weights = common.weights;
        let (mut row, mut rows) = (0, common.rows);
        // It ends at its end: there is a row, and the compiler need not ask. With a constant number of columns their
        // loop is none.
        loop {
            let at = each!(|p| windows[p].add(row));
            if COLS == 3 {
                F::products(&mut acc, at, weights, 3, BLOCKS * BYTES);
            } else {
                F::products(&mut acc, at, weights, common.cols, common.col_step);
            }
            weights = weights.add(common.cols * BLOCKS * BYTES);
            row += common.row_step;
            rows -= 1;
            if rows == 0 {
                break;
            }
        }
        dst.put::<F, P, BLOCKS, LATE_BIAS>(&common, acc);
    }
}

/// Pixels of one block of channels.
struct Channels<'a, F: Floats, const BLOCKS: usize> {
    input: &'a [i8],
    in_c: usize,
    block: Block,
    padding: F::Vec,
}

impl<F: Floats, const BLOCKS: usize> Fill for Channels<'_, F, BLOCKS> {
    #[inline(always)]
    unsafe fn pixels(&self, first: usize, skip: usize, count: usize, mut dst: *mut u8) {
        // SAFETY: pixels are inside the image, and there is room for them.
        unsafe {
            let mut src = self.input.as_ptr().add(first * self.in_c + self.block.first);
            let step = skip * self.in_c;
            for _ in 0..count {
                if BLOCKS == 1 && self.block.len < LANES {
                    let mut few = [0_i8; LANES];
                    core::ptr::copy_nonoverlapping(src, few.as_mut_ptr(), self.block.len);
                    F::convert(few.as_ptr(), dst);
                } else {
                    for b in 0..BLOCKS {
                        F::convert(src.add(b * LANES), dst.add(b * BYTES));
                    }
                }
                src = src.wrapping_add(step);
                dst = dst.add(BLOCKS * BYTES);
            }
        }
    }

    #[inline(always)]
    unsafe fn pad(&self, count: usize, dst: *mut u8) {
        for x in 0..count * BLOCKS {
            // SAFETY: there is room for them.
            unsafe { F::put(self.padding, dst.add(x * BYTES)) };
        }
    }
}
