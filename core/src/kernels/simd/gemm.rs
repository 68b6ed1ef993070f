//! Dense convolution as a matrix product: rows are the windows of output pixels in the panel,
//! columns are output channels. Accumulators start from the bias and leave as i8.

use crate::kernels::conv::ConvArgs;
use crate::shape::ConvShape;

use super::Layout;
use super::ops::{Epilogue, Rows, Simd, each, store, vectorized};
use super::panel::{Gemm, MAX_PIXELS, Region};
use super::params::Params;

/// Rows of a tile: with two blocks of columns, what 16 registers hold beside an operand of each.
pub const MAX_ROWS: usize = 6;

/// Corrections; then block by block of `lanes` channels, and quad by quad of the window, the
/// `taps` weights of every lane. Lanes and taps beyond the end are 0.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let gemm = Gemm::new(layout, shape);
    let filter_len = shape.window.kernel_h * shape.window.kernel_w * shape.window.in_c;
    let segment_len = filter_len / (gemm.outer * gemm.inner);
    assert_eq!(weights.len(), shape.out_c * filter_len);
    dst.fill(0);
    let (header, blocks) = dst.split_at_mut(layout.header_len(shape.out_c));
    for (channel, filter) in weights.chunks_exact(filter_len).enumerate() {
        layout.put_correction(header, channel, filter);
        let lane = channel % layout.lanes;
        let block = &mut blocks[channel / layout.lanes * gemm.block_bytes(layout)..];
        for (s, segment) in filter.chunks_exact(segment_len).enumerate() {
            for (q, taps) in segment.chunks(layout.taps).enumerate() {
                let at = ((s * gemm.quads + q) * layout.lanes + lane) * layout.taps;
                for (d, &w) in block[at..].iter_mut().zip(taps) {
                    *d = w as u8;
                }
            }
        }
    }
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`.
pub unsafe fn run<S: Simd>(shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) -> bool {
    let gemm = &Gemm::new(S::LAYOUT, shape);
    if args.weights.len() != gemm.packed_len(S::LAYOUT) || scratch.len() < gemm.scratch_len(S::LAYOUT) {
        return false;
    }
    let w = &gemm.window;
    let (params, panel) = Params::new(S::LAYOUT, args, shape.out_c, scratch);
    let panel = panel.as_mut_ptr();
    let mut windows = [0; MAX_PIXELS];
    for (y, row) in windows.chunks_exact_mut(gemm.cols).take(gemm.rows).enumerate() {
        for (x, window) in row.iter_mut().enumerate() {
            *window = (y * gemm.row_step + x * gemm.col_step) as u32;
        }
    }
    for y in (0..w.out_h).step_by(gemm.rows) {
        for x in (0..w.out_w).step_by(gemm.cols) {
            let region = Region { y, x, rows: gemm.rows.min(w.out_h - y), cols: gemm.cols.min(w.out_w - x) };
            let pixels = region.rows * region.cols;
            let product = Product {
                gemm,
                panel,
                windows: &windows[..pixels],
                weights: args.weights[S::LAYOUT.header_len(shape.out_c)..].as_ptr(),
                params,
                out: Epilogue::from(&args.out),
                dst: output[(y * w.out_w + x) * shape.out_c..][..pixels * shape.out_c].as_mut_ptr(),
                channel: 0,
            };
            // SAFETY: the region is no larger than the one that the panel and the windows were
            // made for. Its pixels follow each other in the output, because a region of more than
            // one row has all columns.
            unsafe {
                vectorized!(S, gemm.fill::<S>(args.input, args.input_zp, region, panel));
                columns::<S>(product);
            }
        }
    }
    true
}

/// The windows of some pixels times the filters of all channels from `channel` on.
#[derive(Clone, Copy)]
struct Product<'a> {
    gemm: &'a Gemm,
    panel: *const u8,
    /// Where the window of each pixel begins in the panel.
    windows: &'a [u32],
    weights: *const u8,
    params: Params,
    out: Epilogue,
    /// The first pixel's first channel.
    dst: *mut i8,
    channel: usize,
}

/// Takes the columns a group of blocks at a time, whose weights stay near while all rows go by.
///
/// # Safety
/// As [`tiles`].
unsafe fn columns<S: Simd>(mut product: Product) {
    let lanes = S::LAYOUT.lanes;
    let blocks = product.gemm.out_c.div_ceil(lanes);
    let groups = blocks.div_ceil(S::LAYOUT.blocks);
    let mut first = 0;
    for group in 0..groups {
        // Groups of like size: 5 blocks are 3 and 2, not 4 and 1.
        let count = (blocks - first).div_ceil(groups - group);
        product.channel = first * lanes;
        // SAFETY: as the caller's; there are `count` blocks from `first` on.
        unsafe {
            if const { S::LAYOUT.blocks > 2 } && count > 2 {
                if count == 3 { rows::<S, 3>(product) } else { rows::<S, 4>(product) }
            } else if count == 2 {
                rows::<S, 2>(product);
            } else {
                rows::<S, 1>(product);
            }
        }
        first += count;
    }
}

/// Takes the rows a tile at a time.
///
/// # Safety
/// As [`tiles`].
unsafe fn rows<S: Simd, const BLOCKS: usize>(mut product: Product) {
    let (whole, rest) = product.windows.split_at(product.windows.len() / MAX_ROWS * MAX_ROWS);
    if !whole.is_empty() {
        product.windows = whole;
        // SAFETY: as the caller's.
        unsafe { vectorized!(S, tiles::<S, MAX_ROWS, BLOCKS>(&product)) };
    }
    product.windows = rest;
    // SAFETY: `whole` are the first pixels of the destination.
    product.dst = unsafe { product.dst.add(whole.len() * product.gemm.out_c) };
    // SAFETY: as the caller's.
    unsafe {
        match rest.len() {
            0 => {}
            1 => vectorized!(S, row::<S, BLOCKS>(&product)),
            2 => vectorized!(S, tiles::<S, 2, BLOCKS>(&product)),
            3 => vectorized!(S, tiles::<S, 3, BLOCKS>(&product)),
            4 => vectorized!(S, tiles::<S, 4, BLOCKS>(&product)),
            _ => vectorized!(S, tiles::<S, 5, BLOCKS>(&product)),
        }
    }
}

impl Product<'_> {
    /// First accumulators, multipliers and weights of a block, counted from `channel`.
    #[inline(always)]
    unsafe fn first<S: Simd>(&self, block: usize) -> S::Vec {
        // SAFETY: the caller's block is one of the product's.
        unsafe { self.params.first::<S>(self.channel + block * S::LAYOUT.lanes) }
    }

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, block: usize) -> *const u8 {
        let at = self.channel / S::LAYOUT.lanes + block;
        // SAFETY: as above.
        unsafe { self.weights.add(at * self.gemm.block_bytes(S::LAYOUT)) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd, const ROWS: usize, const BLOCKS: usize>(&self, acc: [[S::Vec; BLOCKS]; ROWS], row: usize) {
        let out_c = self.gemm.out_c;
        let len = (BLOCKS * S::LAYOUT.lanes).min(out_c - self.channel);
        // SAFETY: as above; rows from `row` on are pixels of the destination.
        unsafe {
            let dst = self.dst.add(row * out_c + self.channel);
            let to = Rows { dst, step: out_c, len, rows: ROWS };
            store::<S, ROWS, BLOCKS>(acc, self.params.multiplier(self.channel), &self.out, to);
        }
    }
}

/// `ROWS` pixels times `BLOCKS` blocks of channels, all accumulators in registers; then the next
/// pixels.
///
/// # Safety
/// The CPU has the instruction set; windows, weights, parameters and destination are there.
#[inline(always)]
unsafe fn tiles<S: Simd, const ROWS: usize, const BLOCKS: usize>(product: &Product) {
    let gemm = product.gemm;
    let step = S::LAYOUT.lanes * S::LAYOUT.taps;
    let block_bytes = gemm.block_bytes(S::LAYOUT);
    // SAFETY: windows lie inside the panel, which has slack for the last quad; a block's weights
    // are as many quads as the window has.
    unsafe {
        let first: [S::Vec; BLOCKS] = each!(|b| product.first::<S>(b));
        for (tile, windows) in product.windows.chunks_exact(ROWS).enumerate() {
            let windows: [*const u8; ROWS] = each!(|r| product.panel.add(windows[r] as usize));
            let mut acc = [first; ROWS];
            let mut weights = product.block::<S>(0);
            for outer in 0..gemm.outer {
                for inner in 0..gemm.inner {
                    let segment = outer * gemm.outer_step + inner * gemm.inner_step;
                    for quad in 0..gemm.quads {
                        let w: [S::Vec; BLOCKS] = each!(|b| S::load_weights(weights.add(b * block_bytes)));
                        for r in 0..ROWS {
                            let values = S::broadcast(windows[r].add(segment + quad * 4));
                            for b in 0..BLOCKS {
                                acc[r][b] = S::dot(acc[r][b], values, w[b]);
                            }
                        }
                        weights = weights.add(step);
                    }
                }
            }
            product.store::<S, ROWS, BLOCKS>(acc, tile * ROWS);
        }
    }
}

/// One pixel: a matrix by vector product. Each weight is used once, so that what limits it is the
/// latency of `dot`, unless several sums run side by side.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn row<S: Simd, const BLOCKS: usize>(product: &Product) {
    const SUMS: usize = 4;
    let gemm = product.gemm;
    let step = S::LAYOUT.lanes * S::LAYOUT.taps;
    let block_bytes = gemm.block_bytes(S::LAYOUT);
    // SAFETY: as in `tiles`.
    unsafe {
        let window = product.panel.add(product.windows[0] as usize);
        let mut acc = [[S::zero(); BLOCKS]; SUMS];
        acc[0] = each!(|b| product.first::<S>(b));
        let mut weights = product.block::<S>(0);
        for outer in 0..gemm.outer {
            for inner in 0..gemm.inner {
                let mut values = window.add(outer * gemm.outer_step + inner * gemm.inner_step);
                for _ in 0..gemm.quads / SUMS {
                    for (s, acc) in acc.iter_mut().enumerate() {
                        let value = S::broadcast(values.add(s * 4));
                        for (b, acc) in acc.iter_mut().enumerate() {
                            *acc = S::dot(*acc, value, S::load_weights(weights.add(b * block_bytes + s * step)));
                        }
                    }
                    values = values.add(SUMS * 4);
                    weights = weights.add(SUMS * step);
                }
                for _ in 0..gemm.quads % SUMS {
                    let value = S::broadcast(values);
                    for (b, acc) in acc[0].iter_mut().enumerate() {
                        *acc = S::dot(*acc, value, S::load_weights(weights.add(b * block_bytes)));
                    }
                    values = values.add(4);
                    weights = weights.add(step);
                }
            }
        }
        let [a, b, c, d] = acc;
        let sum = each!(|i| S::add(S::add(a[i], b[i]), S::add(c[i], d[i])));
        product.store::<S, 1, BLOCKS>([sum], 0);
    }
}
