//! The matrix product: tiles of rows and blocks of columns whose accumulators stay in registers.

#[cfg(target_arch = "x86_64")]
use super::super::amx::{self, Tiles};
use super::super::ops::{Epilogue, Simd, each, vectorized};
use super::super::params::Params;
use super::super::target::{Dst, Put, Target};
use super::{Filter, Groups};

/// The windows of some pixels times the filters of all channels. It is handed on where it is made: it is large, and to copy it would
/// be to wait for all that has just been written. Loops have a copy, what they need of which stays in registers.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub filter: &'a Filter,
    /// The panel, or the input where windows are read there.
    pub panel: *const u8,
    /// Where the window of each pixel begins in it.
    pub windows: &'a [u32],
    pub weights: *const u8,
    pub params: Params,
    pub out: Epilogue,
    /// The first pixel's first channel.
    pub dst: Dst,
    /// What is added to the sums of each pixel, if anything is.
    pub shifts: Option<*const i32>,
    /// Pixels next to each other in a row, and bytes from the window of one to the next.
    pub columns: usize,
    pub pixel_step: usize,
    /// The CPU's unit for products of matrices, where it is worth while.
    #[cfg(target_arch = "x86_64")]
    pub unit: Option<&'a Tiles>,
}

/// Channels of a product: those of so many groups of blocks, all of the same size, from the first one on.
#[derive(Clone, Copy)]
struct Channels {
    first: usize,
    groups: usize,
}

/// Takes the columns a group of blocks at a time, whose weights stay near while all rows go by, or several groups of a size
/// where what there is to do for one is little.
///
/// # Safety
/// As [`tiles`].
pub unsafe fn columns<S: Simd>(product: &Product) {
    let together = S::WHOLE || product.windows.len() == 1;
    for Groups { first, blocks, groups } in product.filter.sizes(S::LAYOUT) {
        let (calls, groups) = if together { (groups.min(1), groups) } else { (groups, 1) };
        for call in 0..calls {
            let channels = Channels { first: (first + call * blocks) * S::LAYOUT.lanes, groups };
            // SAFETY: as the caller's; there are so many blocks in each group.
            unsafe {
                match blocks {
                    1 => rows::<S, 1>(product, channels),
                    2 if const { S::LAYOUT.blocks > 1 } => rows::<S, 2>(product, channels),
                    3 if const { S::LAYOUT.blocks > 2 } => rows::<S, 3>(product, channels),
                    _ if const { S::LAYOUT.blocks > 2 } => rows::<S, 4>(product, channels),
                    _ => {}
                }
            }
        }
    }
}

/// Takes the rows a tile at a time.
///
/// # Safety
/// As [`tiles`].
unsafe fn rows<S: Simd, const BLOCKS: usize>(product: &Product, channels: Channels) {
    #[cfg(target_arch = "x86_64")]
    if const { S::UNIT }
        && let Some(unit) = product.unit
        && product.columns >= unit.pixels
    {
        // SAFETY: as the caller's.
        return unsafe { vectorized!(S, matrices::<S, BLOCKS>(product, channels, unit)) };
    }
    let (height, windows) = (S::HEIGHT, product.windows);
    let (whole, rest) = windows.split_at(windows.len() / height * height);
    let first = whole.len();
    // SAFETY: as the caller's.
    unsafe {
        match height {
            _ if whole.is_empty() => {}
            4 => vectorized!(S, tiles::<S, 4, BLOCKS>(product, channels, 0, whole)),
            _ => vectorized!(S, tiles::<S, 6, BLOCKS>(product, channels, 0, whole)),
        }
        match rest {
            [] => {}
            [window] => vectorized!(S, row::<S, BLOCKS>(product, channels, first, *window)),
            [_, _] => vectorized!(S, tiles::<S, 2, BLOCKS>(product, channels, first, rest)),
            [_, _, _] => vectorized!(S, tiles::<S, 3, BLOCKS>(product, channels, first, rest)),
            _ if const { S::HEIGHT == 4 } => {}
            [_, _, _, _] => vectorized!(S, tiles::<S, 4, BLOCKS>(product, channels, first, rest)),
            _ => vectorized!(S, tiles::<S, 5, BLOCKS>(product, channels, first, rest)),
        }
    }
}

impl Product<'_> {
    /// First accumulators of a block, counted from `channel`.
    #[inline(always)]
    unsafe fn first<S: Simd>(&self, channel: usize, block: usize) -> S::Acc {
        // SAFETY: the caller's block is one of the product's.
        unsafe { self.params.first::<S>(channel + block * S::LAYOUT.lanes) }
    }

    /// The weights of the group of blocks from `channel` on.
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, channel: usize) -> *const u8 {
        let first = channel / S::LAYOUT.lanes;
        // SAFETY: as above.
        unsafe { self.weights.add(first * self.filter.block_bytes(S::LAYOUT)) }
    }

    /// Writes the results of pixels from `row` on, from `channel` on.
    #[inline(always)]
    unsafe fn store<S: Simd, const ROWS: usize, const BLOCKS: usize>(
        &self,
        acc: [[S::Acc; BLOCKS]; ROWS],
        row: usize,
        channel: usize,
    ) {
        let mut acc = acc;
        if let Some(shifts) = self.shifts {
            for (r, acc) in acc.iter_mut().enumerate() {
                // SAFETY: there is one for each pixel.
                unsafe {
                    let lanes = [shifts.add(row + r).read(); 16];
                    let shift = S::load(lanes.as_ptr().cast());
                    *acc = each!(|b| S::add(acc[b], shift));
                }
            }
        }
        let Filter { out_c, out_step, .. } = *self.filter;
        let len = (BLOCKS * S::LAYOUT.lanes).min(out_c - channel);
        // SAFETY: as above; rows from `row` on are pixels of the destination.
        unsafe {
            let dst = self.dst.add(row * out_step + channel);
            dst.put::<S, ROWS, BLOCKS>(acc, self.params.multiplier(channel), &self.out, out_step, len);
        }
    }
}

/// `ROWS` of the pixels from `first` on, which have these windows, times `BLOCKS` blocks of channels, all accumulators in registers; then the next
/// pixels, and the next group of blocks.
///
/// # Safety
/// The CPU has the instruction set; windows, weights, parameters and destination are there.
#[inline(always)]
unsafe fn tiles<S: Simd, const ROWS: usize, const BLOCKS: usize>(
    product: &Product,
    channels: Channels,
    first: usize,
    windows: &[u32],
) {
    let Filter { outer, outer_step, inner, inner_step, quads, .. } = *product.filter;
    let step = S::LAYOUT.lanes * S::LAYOUT.taps;
    let Channels { first: mut channel, groups } = channels;
    let product = *product;
    // SAFETY: windows lie inside the panel, which has slack for the last quad; a block's weights
    // are as many quads as the window has.
    unsafe {
        for _ in 0..groups {
            let bias: [S::Acc; BLOCKS] = each!(|b| product.first::<S>(channel, b));
            let group = product.group::<S>(channel);
            // A look at all weights, which one tile is not worth.
            let several = ROWS == S::HEIGHT && windows.len() > ROWS;
            let pairs = if several { S::pairs::<BLOCKS>(group, outer * inner, quads) } else { 0 };
            for (tile, windows) in windows.chunks_exact(ROWS).enumerate() {
                let windows: [*const u8; ROWS] = each!(|r| product.panel.add(windows[r] as usize));
                let mut acc = [bias; ROWS];
                let mut weights = group;
                // Loops that end at their end: there is a segment, and the compiler need not ask.
                let (mut outer, mut row) = (outer, 0);
                loop {
                    let (mut inner, mut segment) = (inner, row);
                    loop {
                        S::products(&mut acc, windows, segment, weights, quads, pairs);
                        inner -= 1;
                        if inner == 0 {
                            break;
                        }
                        weights = weights.add(quads * BLOCKS * step);
                        segment += inner_step;
                    }
                    outer -= 1;
                    if outer == 0 {
                        break;
                    }
                    weights = weights.add(quads * BLOCKS * step);
                    row += outer_step;
                }
                product.store::<S, ROWS, BLOCKS>(acc, first + tile * ROWS, channel);
            }
            channel += BLOCKS * S::LAYOUT.lanes;
        }
    }
}

/// All pixels times `BLOCKS` blocks of channels, tile by tile of a row of pixels. The last tile of a row begins early enough to be
/// whole.
///
/// # Safety
/// As [`tiles`]; rows have as many pixels as a tile, at least.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn matrices<S: Simd, const BLOCKS: usize>(product: &Product, channels: Channels, unit: &Tiles) {
    let Filter { outer, outer_step, inner, inner_step, quads, .. } = *product.filter;
    let (product, channel) = (*product, channels.first);
    // SAFETY: as in `tiles`; windows of a row's pixels are as far from each other as pixels of the panel, and a register of sums
    // has a block's of a pixel.
    unsafe {
        let first: [S::Acc; BLOCKS] = each!(|b| product.first::<S>(channel, b));
        let mut sums = [first; amx::SIDE];
        let group = product.group::<S>(channel);
        for (row, windows) in product.windows.chunks_exact(product.columns).enumerate() {
            for at in (0..product.columns).step_by(unit.pixels) {
                let at = at.min(product.columns - unit.pixels);
                let window = product.panel.add(windows[at] as usize);
                let mut weights = group;
                unit.begin::<BLOCKS>(first.as_ptr().cast());
                for outer in 0..outer {
                    for inner in 0..inner {
                        let segment = window.add(outer * outer_step + inner * inner_step);
                        unit.add::<BLOCKS>(segment, product.pixel_step, weights);
                        weights = weights.add(quads * BLOCKS * amx::SIDE * 4);
                    }
                }
                unit.end::<BLOCKS>(sums.as_mut_ptr().cast());
                let (fours, rest) = sums[..unit.pixels].as_chunks::<4>();
                let mut pixel = row * product.columns + at;
                for sums in fours {
                    product.store::<S, 4, BLOCKS>(*sums, pixel, channel);
                    pixel += 4;
                }
                for sums in rest {
                    product.store::<S, 1, BLOCKS>([*sums], pixel, channel);
                    pixel += 1;
                }
            }
        }
    }
}

/// One pixel: a matrix by vector product.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn row<S: Simd, const BLOCKS: usize>(product: &Product, channels: Channels, pixel: usize, window: u32) {
    let Filter { outer, outer_step, inner, inner_step, quads, .. } = *product.filter;
    let step = S::LAYOUT.lanes * S::LAYOUT.taps;
    let Channels { first: mut channel, mut groups } = channels;
    let product = *product;
    // SAFETY: as in `tiles`; groups lie one after the other.
    unsafe {
        let window = product.panel.add(window as usize);
        let mut weights = product.group::<S>(channel);
        if const { S::PAIRS } && (outer, inner) == (1, 1) {
            let group = quads * BLOCKS * step;
            while groups >= 2 {
                let mut acc =
                    [each!(|b| product.first::<S>(channel, b)), each!(|b| product.first::<S>(channel, BLOCKS + b))];
                S::pair(&mut acc, window, [weights, weights.add(group)], quads);
                product.store::<S, 1, BLOCKS>([acc[0]], pixel, channel);
                channel += BLOCKS * S::LAYOUT.lanes;
                product.store::<S, 1, BLOCKS>([acc[1]], pixel, channel);
                channel += BLOCKS * S::LAYOUT.lanes;
                weights = weights.add(2 * group);
                groups -= 2;
            }
        }
        for _ in 0..groups {
            let mut acc = each!(|b| product.first::<S>(channel, b));
            let (mut outer, mut row) = (outer, window);
            loop {
                let (mut inner, mut segment) = (inner, row);
                loop {
                    S::row(&mut acc, segment, weights, quads);
                    weights = weights.add(quads * BLOCKS * step);
                    inner -= 1;
                    if inner == 0 {
                        break;
                    }
                    segment = segment.add(inner_step);
                }
                outer -= 1;
                if outer == 0 {
                    break;
                }
                row = row.add(outer_step);
            }
            product.store::<S, 1, BLOCKS>([acc], pixel, channel);
            channel += BLOCKS * S::LAYOUT.lanes;
        }
    }
}
