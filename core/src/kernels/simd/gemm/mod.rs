//! Convolution as a matrix product: rows are the windows of output pixels in the panel,
//! columns are output channels. Accumulators start from the bias and leave as i8, or as they are.
//!
//! Groups of channels are products of their own, one after the other. Narrow ones are taken together, as many as have
//! lanes in a register that would be left empty: each channel has weights of 0 for what is not its group's.
//!
//! The window of a pixel is `outer * inner` contiguous segments of the panel: `Gemm` says which, `filter` how the weights of
//! each lie, `tiles` multiplies. A fully connected layer has one window, which is all of the input: it has no panel, and less
//! is reckoned before it than would take as long as a small one.

mod filter;
pub mod matrix;
mod tiles;

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::kernels::conv::{ConvArgs, Results};
use crate::shape::{ConvShape, Window};

use super::Layout;
#[cfg(target_arch = "x86_64")]
use super::amx::Tiles;
use super::ops::{Epilogue, Simd, vectorized};
use super::panel::{Fill, Panel};
use super::params::Params;
use super::target::{Dst, Target};
pub use filter::Filter;
use filter::Groups;
use tiles::{Product, columns};

/// Pixels a region has at most: a multiple of the height of tiles, whichever it is.
const MAX_PIXELS: usize = 240;

/// How a convolution is cut into regions, and a pixel's window into segments.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    pub panel: Panel,
    /// Products of their own, and groups of each.
    pub parts: usize,
    pub together: usize,
    /// Of each part.
    pub filter: Filter,
}

impl Gemm {
    pub fn new(layout: Layout, shape: &ConvShape) -> Gemm {
        let (group, groups) = (shape.group(), shape.groups.max(1));
        let room = (layout.lanes / group.out_c.max(1)).max(1);
        let together = 1 << groups.trailing_zeros().min(room.ilog2());
        let w = Window { in_c: together * group.window.in_c, ..shape.window }.flattened();
        let panel = Panel::new(w, w.in_c * layout.value_bytes(), MAX_PIXELS, layout.rows);
        let whole_rows = w.dilation_w == 1 || w.kernel_w == 1;
        let one_segment = whole_rows && w.dilation_h == 1 && panel.input_cols() == w.kernel_w;
        let (outer, inner, segment) = match (one_segment, whole_rows) {
            (true, _) => (1, 1, w.kernel_h * w.kernel_w * w.in_c),
            (_, true) => (w.kernel_h, 1, w.kernel_w * w.in_c),
            _ => (w.kernel_h, w.kernel_w, w.in_c),
        };
        let filter = Filter {
            out_c: together * group.out_c,
            out_step: shape.out_c,
            outer,
            outer_step: panel.pitch.saturating_mul(w.dilation_h),
            inner,
            inner_step: panel.pixel_bytes * w.dilation_w,
            quads: layout.quads(segment),
            segment,
        };
        Gemm { panel, parts: groups / together, together, filter }
    }

    /// Whether windows are read in the input itself.
    pub fn reads_input(&self, layout: Layout) -> bool {
        layout.reads(self.filter.segment) && self.panel.is_image() && self.parts == 1
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, layout: Layout) -> usize {
        self.filter.packed_len(layout).saturating_mul(self.parts)
    }

    /// Bytes that a run works in.
    pub fn scratch_len(&self, layout: Layout) -> usize {
        Params::scratch_len(layout, self.filter.out_c, self.filter.out_c).saturating_add(self.panel.len())
    }
}

/// Part by part: corrections; then group by group of blocks of `lanes` channels, quad by quad of the window, and
/// block by block, the `taps` weights of every lane: in the order in which they are read. Lanes and
/// taps beyond the end are 0.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let gemm = Gemm::new(layout, shape);
    let filter_len = shape.window.kernel_h * shape.window.kernel_w * shape.group().window.in_c;
    assert_eq!(weights.len(), shape.out_c * filter_len);
    dst.fill(0);
    let parts = dst.chunks_exact_mut(gemm.filter.packed_len(layout));
    for (weights, dst) in weights.chunks_exact(gemm.filter.out_c * filter_len).zip(parts) {
        pack_part(layout, &gemm, weights, dst);
    }
}

fn pack_part(layout: Layout, gemm: &Gemm, weights: &[i8], dst: &mut [u8]) {
    let Gemm { filter: Filter { out_c, quads, segment: segment_len, .. }, together, ref panel, .. } = *gemm;
    let filter_len = weights.len() / out_c;
    let (header, groups) = dst.split_at_mut(layout.header_len(out_c));
    let in_c = panel.window.in_c;
    // Weights that follow each other in a window, and from the first of them to the first of the next.
    let (run, step) = if together == 1 { (segment_len, segment_len) } else { (in_c / together, in_c) };
    for (first, count) in gemm.filter.groups(layout) {
        let group = &mut groups[first * gemm.filter.block_bytes(layout)..];
        let channels = first * layout.lanes..((first + count) * layout.lanes).min(out_c);
        for channel in channels {
            let filter = &weights[channel * filter_len..][..filter_len];
            layout.put_correction(header, channel, filter);
            let (block, lane) = (channel / layout.lanes - first, channel % layout.lanes);
            let own = channel / (out_c / together) * (in_c / together);
            for (r, run) in filter.chunks_exact(run).enumerate() {
                let place = if together == 1 { r * step } else { r * step + own };
                let (segment, place) = (place / segment_len, place % segment_len);
                let (mut quad, mut tap) = (segment * quads + place / layout.taps, place % layout.taps);
                for &w in run {
                    group[((quad * count + block) * layout.lanes + lane) * layout.taps + tap] = w as u8;
                    tap += 1;
                    if tap == layout.taps {
                        (quad, tap) = (quad + 1, 0);
                    }
                }
            }
        }
    }
}

/// Convolves part by part, each by `run`; or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// `run` is [`run`] for an instruction set that the CPU has and that `layout` is of; `args` otherwise
/// [fit](ConvArgs::fit) `shape`.
pub unsafe fn parts(
    layout: Layout,
    shape: &ConvShape,
    args: &ConvArgs<'_>,
    output: Results<'_>,
    scratch: &mut [u8],
    run: unsafe fn(Part<'_>),
) -> bool {
    let shifts = match &output {
        Results::Shifted(_, shifts) => Some(shifts.as_ptr()),
        _ => None,
    };
    let (output, pitch) = (Dst::from(output), shape.window.in_c);
    if shape.groups == 1 && shape.window.is_whole() {
        let filter = &Filter::whole(layout, shape);
        let fits = args.weights.len() == filter.packed_len(layout) && scratch.len() >= filter.scratch_len(layout);
        if fits {
            // SAFETY: as the caller's.
            unsafe { run(Part { filter, panel: None, pitch, args, output, shifts, scratch }) };
        }
        return fits;
    }
    let gemm = &Gemm::new(layout, shape);
    if args.weights.len() != gemm.packed_len(layout) || scratch.len() < gemm.scratch_len(layout) {
        return false;
    }
    let (filter, part_len) = (&gemm.filter, gemm.filter.packed_len(layout));
    let panel = Some((&gemm.panel, gemm.reads_input(layout)));
    for part in 0..gemm.parts {
        let first = part * filter.out_c;
        let channels = first..first + filter.out_c;
        // All are there, but for multipliers where results are sums.
        let args = &ConvArgs {
            input: args.input.get(part * gemm.panel.window.in_c..).unwrap_or_default(),
            weights: args.weights.get(part * part_len..).unwrap_or_default(),
            bias: args.bias.get(channels.clone()).unwrap_or_default(),
            multiplier: args.multiplier.get(channels).unwrap_or_default(),
            ..*args
        };
        // SAFETY: as the caller's; these are channels of the first pixel.
        unsafe { run(Part { filter, panel, pitch, args, output: output.add(first), shifts, scratch }) };
    }
    true
}

/// A product of its own, of a part of the channels of an image.
pub struct Part<'a> {
    filter: &'a Filter,
    /// Where windows lie, and whether that is the input itself; none where there is one that is all of the input.
    panel: Option<(&'a Panel, bool)>,
    /// Channels of the image.
    pitch: usize,
    args: &'a ConvArgs<'a>,
    output: Dst,
    /// What is added to the sums of each pixel, if anything is.
    shifts: Option<*const i32>,
    scratch: &'a mut [u8],
}

/// Convolves a part.
///
/// # Safety
/// The CPU has the instruction set, for whose layout it was made.
pub unsafe fn run<S: Simd>(part: Part<'_>) {
    let Part { filter, panel, pitch, args, output, shifts, scratch } = part;
    let (params, memory) = Params::new(S::LAYOUT, args, filter.out_c, scratch);
    let memory = memory.as_mut_ptr();
    let mut product = Product {
        filter,
        panel: memory,
        windows: &[0],
        weights: args.weights.as_ptr().wrapping_add(S::LAYOUT.header_len(filter.out_c)),
        params,
        out: Epilogue::from(&args.out),
        dst: output,
        shifts,
        columns: 1,
        pixel_step: 0,
        #[cfg(target_arch = "x86_64")]
        unit: None,
    };
    let Some((panel, in_place)) = panel else {
        // SAFETY: as the caller's; all values are under the one window, for which there is room.
        unsafe {
            if S::LAYOUT.reads(filter.segment) {
                product.panel = args.input.as_ptr().cast();
            } else {
                vectorized!(S, S::widen(args.input.as_ptr(), filter.segment, memory));
            }
            columns::<S>(&product);
        }
        return;
    };
    let mut windows = [const { MaybeUninit::uninit() }; MAX_PIXELS];
    let windows = panel.windows(&mut windows);
    let in_c = panel.window.in_c;
    let source = Widened::<S> { input: args.input, in_c, pitch, pad: S::LAYOUT.quad(args.input_zp), simd: PhantomData };
    #[cfg(target_arch = "x86_64")]
    let unit = if const { S::UNIT } { Tiles::new(panel, filter) } else { None };
    #[cfg(target_arch = "x86_64")]
    {
        product.unit = unit.as_ref();
    }
    product.pixel_step = panel.col_step;
    for region in panel.regions() {
        product.columns = region.cols;
        let pixels = region.rows * region.cols;
        let first = region.y * panel.window.out_w + region.x;
        product.windows = &windows[..pixels];
        // SAFETY: regions are parts of the output.
        product.dst = unsafe { output.add(first * filter.out_step) };
        product.shifts = shifts.map(|shifts| shifts.wrapping_add(first));
        if in_place {
            product.panel = args.input[region.x * panel.col_step..].as_ptr().cast();
        }
        // SAFETY: the region is no larger than the one that the panel and the windows were made for.
        unsafe {
            if !in_place {
                vectorized!(S, panel.fill(&source, region, memory));
            }
            columns::<S>(&product);
        }
    }
}

/// Pixels as the quads of an instruction set want them.
struct Widened<'a, S> {
    input: &'a [i8],
    /// Values of a pixel that are taken, and from one pixel to the next.
    in_c: usize,
    pitch: usize,
    /// Two values of padding.
    pad: [u8; 4],
    simd: PhantomData<S>,
}

impl<S: Simd> Fill for Widened<'_, S> {
    #[inline(always)]
    unsafe fn pixels(&self, first: usize, skip: usize, count: usize, dst: *mut u8) {
        let pixel_bytes = self.in_c * S::LAYOUT.value_bytes();
        // SAFETY: pixels are inside the image, and there is room for them.
        unsafe {
            let src = self.input.as_ptr().add(first * self.pitch);
            if skip == 1 && self.in_c == self.pitch {
                S::widen(src, count * self.in_c, dst);
                return;
            }
            for x in 0..count {
                S::widen(src.add(x * skip * self.pitch), self.in_c, dst.add(x * pixel_bytes));
            }
        }
    }

    #[inline(always)]
    unsafe fn pad(&self, count: usize, dst: *mut u8) {
        let values = count * self.in_c;
        // SAFETY: `values` of 1 or 2 bytes.
        unsafe {
            if S::LAYOUT.value_bytes() == 1 {
                dst.write_bytes(self.pad[0], values);
            } else {
                for i in 0..values {
                    dst.add(i * 2).cast::<[u8; 2]>().write([self.pad[0], self.pad[1]]);
                }
            }
        }
    }
}
