//! Dense convolution as a matrix product: rows are the windows of output pixels in the panel,
//! columns are output channels. Accumulators start from the bias and leave as i8, or as they are.
//!
//! The window of a pixel is `outer * inner` contiguous segments of the panel: `Gemm` says which,
//! `tiles` multiplies.

mod tiles;

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::kernels::conv::{ConvArgs, Results};
use crate::shape::ConvShape;

use super::Layout;
use super::ops::{Epilogue, Simd, vectorized};
use super::panel::{Fill, Panel};
use super::params::Params;
use super::target::{Dst, Target};
use tiles::{Product, columns};

/// Pixels a region has at most: a multiple of the height of tiles, whichever it is.
const MAX_PIXELS: usize = 240;

/// How a dense convolution is cut into regions, and a pixel's window into segments.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    pub panel: Panel,
    pub out_c: usize,
    /// Segments of a window, bytes between them, quads of each.
    pub outer: usize,
    pub outer_step: usize,
    pub inner: usize,
    pub inner_step: usize,
    pub quads: usize,
    /// Values of a segment.
    pub segment: usize,
}

impl Gemm {
    pub fn new(layout: Layout, shape: &ConvShape) -> Gemm {
        let w = shape.window.flattened();
        let panel = Panel::new(w, w.in_c * layout.value_bytes(), MAX_PIXELS, layout.rows);
        let whole_rows = w.dilation_w == 1 || w.kernel_w == 1;
        let one_segment = whole_rows && w.dilation_h == 1 && panel.input_cols() == w.kernel_w;
        let (outer, inner, segment) = match (one_segment, whole_rows) {
            (true, _) => (1, 1, w.kernel_h * w.kernel_w * w.in_c),
            (_, true) => (w.kernel_h, 1, w.kernel_w * w.in_c),
            _ => (w.kernel_h, w.kernel_w, w.in_c),
        };
        Gemm {
            panel,
            out_c: shape.out_c,
            outer,
            outer_step: panel.pitch.saturating_mul(w.dilation_h),
            inner,
            inner_step: panel.pixel_bytes * w.dilation_w,
            quads: segment.div_ceil(layout.taps),
            segment,
        }
    }

    /// Whether windows are read in the input itself. Vectors have to end where segments do: nobody has slack there.
    pub fn reads_input(&self, layout: Layout) -> bool {
        layout.is_plain() && self.segment.is_multiple_of(16) && self.panel.is_image()
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, layout: Layout) -> usize {
        self.block_bytes(layout)
            .saturating_mul(self.out_c.div_ceil(layout.lanes))
            .saturating_add(layout.header_len(self.out_c))
    }

    /// Bytes that a run works in.
    pub fn scratch_len(&self, layout: Layout) -> usize {
        Params::scratch_len(layout, self.out_c, self.out_c).saturating_add(self.panel.len())
    }

    /// Bytes of the weights of a block of channels.
    pub fn block_bytes(&self, layout: Layout) -> usize {
        (self.outer * self.inner * self.quads).saturating_mul(layout.lanes * layout.taps)
    }

    /// The groups of blocks of channels that go together: the first block of each, and how many.
    pub fn groups(&self, layout: Layout) -> impl Iterator<Item = (usize, usize)> + use<> {
        let each = |run: Groups| (0..run.groups).map(move |group| (run.first + group * run.blocks, run.blocks));
        self.sizes(layout).into_iter().flat_map(each)
    }

    /// The groups of each of two sizes. They are alike: 5 blocks are 3 and 2, not 4 and 1.
    pub fn sizes(&self, layout: Layout) -> [Groups; 2] {
        let blocks = self.out_c.div_ceil(layout.lanes);
        let groups = blocks.div_ceil(layout.blocks);
        let (small, large) = (blocks / groups.max(1), blocks % groups.max(1));
        let first = large * (small + 1);
        [Groups { first: 0, blocks: small + 1, groups: large }, Groups { first, blocks: small, groups: groups - large }]
    }
}

/// Groups of as many blocks of channels.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// The first block of the first group; the others follow.
    pub first: usize,
    /// Blocks of each.
    pub blocks: usize,
    pub groups: usize,
}

/// Corrections; then group by group of blocks of `lanes` channels, quad by quad of the window, and
/// block by block, the `taps` weights of every lane: in the order in which they are read. Lanes and
/// taps beyond the end are 0.
pub fn pack(layout: Layout, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    let gemm = Gemm::new(layout, shape);
    let filter_len = shape.window.kernel_h * shape.window.kernel_w * shape.window.in_c;
    let segment_len = filter_len / (gemm.outer * gemm.inner);
    assert_eq!(weights.len(), shape.out_c * filter_len);
    dst.fill(0);
    let (header, groups) = dst.split_at_mut(layout.header_len(shape.out_c));
    for (first, count) in gemm.groups(layout) {
        let group = &mut groups[first * gemm.block_bytes(layout)..];
        let channels = first * layout.lanes..((first + count) * layout.lanes).min(shape.out_c);
        for channel in channels {
            let filter = &weights[channel * filter_len..][..filter_len];
            layout.put_correction(header, channel, filter);
            let (block, lane) = (channel / layout.lanes - first, channel % layout.lanes);
            for (s, segment) in filter.chunks_exact(segment_len).enumerate() {
                for (q, taps) in segment.chunks(layout.taps).enumerate() {
                    let quad = (s * gemm.quads + q) * count + block;
                    let at = (quad * layout.lanes + lane) * layout.taps;
                    for (d, &w) in group[at..].iter_mut().zip(taps) {
                        *d = w as u8;
                    }
                }
            }
        }
    }
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`.
pub unsafe fn run<S: Simd>(shape: &ConvShape, args: &ConvArgs<'_>, output: Results<'_>, scratch: &mut [u8]) -> bool {
    let gemm = &Gemm::new(S::LAYOUT, shape);
    if args.weights.len() != gemm.packed_len(S::LAYOUT) || scratch.len() < gemm.scratch_len(S::LAYOUT) {
        return false;
    }
    let (params, panel) = Params::new(S::LAYOUT, args, shape.out_c, scratch);
    let panel = panel.as_mut_ptr();
    let output = Dst::from(output);
    let mut product = Product {
        gemm,
        panel,
        windows: &[0],
        weights: args.weights[S::LAYOUT.header_len(shape.out_c)..].as_ptr(),
        params,
        out: Epilogue::from(&args.out),
        dst: output,
        channel: 0,
        groups: 0,
    };
    let in_place = gemm.reads_input(S::LAYOUT);
    if in_place && gemm.panel.window.out_w == 1 {
        product.panel = args.input.as_ptr().cast();
        // SAFETY: as the caller's; all values are under the one window.
        unsafe { columns::<S>(product) };
        return true;
    }
    let mut windows = [const { MaybeUninit::uninit() }; MAX_PIXELS];
    let windows = gemm.panel.windows(&mut windows);
    let source = Widened::<S>::new(args, shape);
    for region in gemm.panel.regions() {
        let pixels = region.rows * region.cols;
        let first = (region.y * gemm.panel.window.out_w + region.x) * shape.out_c;
        product.windows = &windows[..pixels];
        // SAFETY: regions are parts of the output.
        product.dst = unsafe { output.add(first) };
        if in_place {
            product.panel = args.input[region.x * gemm.panel.col_step..].as_ptr().cast();
        }
        // SAFETY: the region is no larger than the one that the panel and the windows were made for.
        unsafe {
            if !in_place {
                vectorized!(S, gemm.panel.fill(&source, region, panel));
            }
            columns::<S>(product);
        }
    }
    true
}

/// Pixels as the quads of an instruction set want them.
struct Widened<'a, S> {
    input: &'a [i8],
    in_c: usize,
    /// Two values of padding.
    pad: [u8; 4],
    simd: PhantomData<S>,
}

impl<'a, S: Simd> Widened<'a, S> {
    fn new(args: &ConvArgs<'a>, shape: &ConvShape) -> Self {
        Widened { input: args.input, in_c: shape.window.in_c, pad: S::LAYOUT.quad(args.input_zp), simd: PhantomData }
    }
}

impl<S: Simd> Fill for Widened<'_, S> {
    #[inline(always)]
    unsafe fn pixels(&self, first: usize, skip: usize, count: usize, dst: *mut u8) {
        let pixel_bytes = self.in_c * S::LAYOUT.value_bytes();
        // SAFETY: pixels are inside the image, and there is room for them.
        unsafe {
            let src = self.input.as_ptr().add(first * self.in_c);
            if skip == 1 {
                S::widen(src, count * self.in_c, dst);
                return;
            }
            for x in 0..count {
                S::widen(src.add(x * skip * self.in_c), self.in_c, dst.add(x * pixel_bytes));
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
