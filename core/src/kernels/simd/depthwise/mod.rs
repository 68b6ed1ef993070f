//! Depthwise convolution. For each output row, the input rows under it are interleaved once into
//! quads, each with the values of one column and channel; the window of a pixel is then
//! `kernel_w` times as many quads a channel as the kernel's rows need, and neighbouring pixels
//! share them. A line has no rows to share, and quads of values that follow each other.
//!
//! - `planes`: where quads lie, how large everything is
//! - `strips`: kernels three columns wide
//! - `pixels`: any kernel

mod pixels;
mod planes;
mod strips;

use crate::kernels::conv::{ConvArgs, Results};
use crate::shape::ConvShape;

use super::Layout;
use super::ops::{Epilogue, Interleave, Simd, each, vectorized};
use super::params::Params;
use super::target::Put;

pub use planes::Depthwise;

/// Corrections; then block by block of lanes, and column by column of the kernel, the quads of
/// weights of each lane. Lanes and rows beyond the end are 0.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let dw = Depthwise::new(layout, shape);
    let w = &dw.window;
    let filter_len = shape.window.kernel_h * shape.window.kernel_w;
    assert_eq!(weights.len(), shape.out_c * filter_len);
    dst.fill(0);
    let (header, blocks) = dst.split_at_mut(layout.header_len(dw.channels));
    for lane in 0..dw.channels {
        let filter = &weights[lane % w.in_c * filter_len..][..filter_len];
        layout.put_correction(header, lane, filter);
        let block = &mut blocks[lane / layout.lanes * dw.taps() * layout.lanes * 4..];
        for (i, &weight) in filter.iter().enumerate() {
            let (ky, kx) = if dw.line { (i % layout.taps, i / layout.taps) } else { (i / w.kernel_w, i % w.kernel_w) };
            let quad = (kx * dw.groups + ky / layout.taps) * layout.lanes + lane % layout.lanes;
            let value = i16::from(weight).to_le_bytes();
            let bytes = layout.value_bytes();
            block[quad * 4 + ky % layout.taps * bytes..][..bytes].copy_from_slice(&value[..bytes]);
        }
    }
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`, whose `out_c`
/// is `in_c`.
pub unsafe fn run<S: Interleave>(
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: Results<'_>,
    scratch: &mut [u8],
) -> bool {
    let layout = S::LAYOUT;
    let dw = &Depthwise::new(layout, shape);
    if args.weights.len() != dw.packed_len(layout) || scratch.len() < dw.scratch_len(layout) {
        return false;
    }
    let w = &dw.window;
    let (params, scratch) = Params::new(layout, args, dw.channels, scratch);
    let (padding, planes) = scratch.split_at_mut(dw.padding());
    padding.fill(args.input_zp as u8);
    if !dw.line {
        put_columns(dw, layout.quad(args.input_zp), planes);
    }
    let layer = &Layer {
        dw,
        args,
        padding: padding.as_ptr().cast(),
        planes: planes.as_mut_ptr(),
        weights: args.weights[layout.header_len(dw.channels)..].as_ptr(),
        params,
        out: Epilogue::from(&args.out),
    };
    let strips = (w.kernel_w, w.dilation_w) == (3, 1) && dw.channels == w.in_c;
    // SAFETY: planes are as many as `dw` says, `padding` is as long as an input row.
    unsafe {
        let output = match output {
            Results::Bytes(bytes) => bytes.as_mut_ptr(),
            // Of products of matrices alone.
            Results::Shifted(..) => return false,
            Results::Sums(sums) => {
                vectorized!(S, rows::<S, 0, 0, _>(layer, sums.as_mut_ptr()));
                return true;
            }
        };
        match (strips, dw.groups, w.stride_w) {
            (true, 1, 1) => vectorized!(S, rows::<S, 1, 1, _>(layer, output)),
            // Where registers have four lanes, strips of two columns a pixel read no less than pixels do.
            (true, 1, 2) if const { S::LAYOUT.lanes > 4 } => vectorized!(S, rows::<S, 1, 2, _>(layer, output)),
            (false, 1, 1) if const { S::LAYOUT.lanes > 4 } && dw.taps() == 3 => {
                vectorized!(S, rows::<S, 3, 0, _>(layer, output));
            }
            _ => vectorized!(S, rows::<S, 0, 0, _>(layer, output)),
        }
    }
    true
}

/// Writes the columns of padding of every plane, which stay.
fn put_columns(dw: &Depthwise, quad: [u8; 4], planes: &mut [u8]) {
    let [before, inside, after] = dw.columns();
    for plane in planes.chunks_exact_mut(dw.plane()).take(dw.planes()) {
        let (left, image) = plane.split_at_mut(before * dw.column());
        let right = &mut image[inside * dw.column()..][..after * dw.column()];
        for q in left.chunks_exact_mut(4).chain(right.chunks_exact_mut(4)) {
            q.copy_from_slice(&quad);
        }
    }
}

/// What all output rows share.
pub struct Layer<'a> {
    dw: &'a Depthwise,
    args: &'a ConvArgs<'a>,
    /// An input row of zero points.
    padding: *const i8,
    planes: *mut u8,
    weights: *const u8,
    params: Params,
    out: Epilogue,
}

/// All output rows: as strips with `GROUPS` and `STRIDE`; or if `STRIDE` is 0, pixel by pixel with
/// `GROUPS` quads of weights in registers.
///
/// # Safety
/// The CPU has the instruction set; everything in `layer` is there.
#[inline(always)]
unsafe fn rows<S: Interleave, const GROUPS: usize, const STRIDE: usize, T: Put>(layer: &Layer, output: T) {
    let dw = layer.dw;
    if dw.line {
        // SAFETY: as the caller's.
        return unsafe { line::<S, GROUPS, T>(layer, output) };
    }
    let mut turn = 0;
    for y in 0..dw.window.out_h {
        // SAFETY: as the caller's; all planes of the row are made when its pixels are.
        unsafe {
            gather::<S>(layer, y, turn);
            let row = &Row { layer, dw, turn, dst: output.add(y * dw.out_row()) };
            if STRIDE > 0 {
                strips::strips_of::<S, GROUPS, STRIDE, T>(row);
            } else {
                pixels::pixels_of::<S, GROUPS, T>(row);
            }
        }
        // The first plane of this row is the one to make way.
        turn = if dw.reach.is_none() || turn + 1 == dw.planes() { 0 } else { turn + 1 };
    }
}

/// Interleaves the planes of output row `y` that are not yet made.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn gather<S: Interleave>(layer: &Layer, y: usize, turn: usize) {
    let dw = layer.dw;
    let w = &dw.window;
    let [before, inside, _] = dw.columns();
    for group in 0..dw.groups {
        if dw.made(y, group) {
            continue;
        }
        // Rows beyond the kernel have no weight here, but they may have in a later output row.
        let rows = each!(|tap| {
            let ky = group * S::LAYOUT.taps + tap;
            let iy = (y * w.stride_h + ky * w.dilation_h).wrapping_sub(w.pad_top);
            // SAFETY: the row is one of the image.
            if iy < w.in_h { unsafe { layer.args.input.as_ptr().add(iy * w.in_w * w.in_c) } } else { layer.padding }
        });
        // SAFETY: the columns inside are within the plane and the input row.
        unsafe { S::interleave(&rows, inside * w.in_c, layer.planes.add(dw.at(turn, group) + before * dw.column())) };
    }
}

/// The one output row of a line, piece by piece.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn line<S: Interleave, const GROUPS: usize, T: Put>(layer: &Layer, output: T) {
    let mut piece = *layer.dw;
    let pixels = piece.pixels.max(1);
    for first in (0..piece.window.out_w).step_by(pixels) {
        piece.window.out_w = pixels.min(layer.dw.window.out_w - first);
        // SAFETY: as the caller's; a piece has no more columns than the plane.
        unsafe {
            gather_line::<S>(layer, first * piece.window.stride_w);
            let dst = output.add(first * piece.window.in_c);
            pixels::pixels_of::<S, GROUPS, T>(&Row { layer, dw: &piece, turn: 0, dst });
        }
    }
}

/// Interleaves the plane of a piece of a line from column `first` on, counted from the padding's first.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn gather_line<S: Interleave>(layer: &Layer, first: usize) {
    let dw = layer.dw;
    let w = &dw.window;
    let tap = w.dilation_w / S::LAYOUT.taps;
    // Columns all of whose taps are inside the image are taken at once.
    let whole = w.in_w.saturating_sub((S::LAYOUT.taps - 1) * tap);
    let mut x = 0;
    while x < dw.cols {
        let column = (first + x).wrapping_sub(w.pad_left);
        let count = if column < whole { (whole - column).min(dw.cols - x) } else { 1 };
        let rows = each!(|t| {
            let column = column.wrapping_add(t * tap);
            // SAFETY: the column is one of the image.
            if column < w.in_w { unsafe { layer.args.input.as_ptr().add(column * w.in_c) } } else { layer.padding }
        });
        // SAFETY: so many columns are in the plane, and behind each of the rows.
        unsafe { S::interleave(&rows, count * w.in_c, layer.planes.add(x * dw.column())) };
        x += count;
    }
}

/// What the pixels of an output row share.
pub struct Row<'a, T> {
    pub layer: &'a Layer<'a>,
    pub dw: &'a Depthwise,
    /// The place of the plane of the first group.
    pub turn: usize,
    pub dst: T,
}

impl<T: Put> Row<'_, T> {
    /// The quads of weights of tap `tap` of the block of lanes at `lane`.
    ///
    /// # Safety
    /// The CPU has the instruction set, and there are such weights.
    #[inline(always)]
    pub unsafe fn weight<S: Simd>(&self, lane: usize, tap: usize) -> S::Quads {
        // SAFETY: as the caller's.
        unsafe { S::load_weights(self.layer.weights.add((lane * self.dw.taps() + tap * S::LAYOUT.lanes) * 4)) }
    }

    /// Writes `P` pixels from `x` on, `BLOCKS` blocks of lanes from `lane` on.
    ///
    /// # Safety
    /// The CPU has the instruction set, and there are such pixels and lanes.
    #[inline(always)]
    pub unsafe fn store<S: Simd, const P: usize, const BLOCKS: usize>(
        &self,
        acc: [[S::Acc; BLOCKS]; P],
        x: usize,
        lane: usize,
    ) {
        let channels = self.dw.channels;
        // A run of pixels may be longer than what is left of the row.
        let len = (BLOCKS * S::LAYOUT.lanes).min(channels - lane).min(self.dw.out_row() - (x * channels + lane));
        // SAFETY: as the caller's.
        unsafe {
            let dst = self.dst.add(x * channels + lane);
            dst.put::<S, P, BLOCKS>(acc, self.layer.params.multiplier(lane), &self.layer.out, channels, len);
        }
    }
}
