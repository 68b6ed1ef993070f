//! The panel: the part of the input under a *region* of output pixels, widened into scratch with
//! its padding, so that a dense convolution is a matrix product whose rows overlap in memory.
//!
//! Kernel columns times channels are contiguous there, so the window of a pixel is `outer * inner`
//! contiguous segments and nothing is copied once per kernel element.

use crate::shape::{ConvShape, Window};

use super::Layout;
use super::ops::Simd;
use super::params::Params;

/// Panel bytes aimed at: half a first-level cache, the other half is for weights.
const PANEL_BYTES: usize = 16 << 10;
/// Pixels a region has at most: a multiple of the height of tiles.
pub const MAX_PIXELS: usize = 40 * super::gemm::MAX_ROWS;
/// What vectors may read or write beyond the end of the panel.
const SLACK: usize = 64;

/// How a dense convolution is cut into regions, and a pixel's window into segments.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    pub window: Window,
    pub out_c: usize,
    /// Output rows and columns of a region; more than one row only if all columns.
    pub rows: usize,
    pub cols: usize,
    /// Bytes between windows of adjacent pixels.
    pub row_step: usize,
    pub col_step: usize,
    /// Segments of a window, bytes between them, quads of each.
    pub outer: usize,
    pub outer_step: usize,
    pub inner: usize,
    pub inner_step: usize,
    pub quads: usize,
    vertical: Axis,
    horizontal: Axis,
    pitch: usize,
    value_bytes: usize,
}

/// `rows * cols` output pixels from row `y` and column `x`.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub y: usize,
    pub x: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Gemm {
    pub fn new(layout: Layout, shape: &ConvShape) -> Gemm {
        let w = flatten(shape.window);
        let value_bytes = layout.value_bytes();
        let pixel_bytes = w.in_c * value_bytes;
        let vertical = Axis::new(w.kernel_h, w.stride_h, w.dilation_h);
        let horizontal = Axis::new(w.kernel_w, w.stride_w, w.dilation_w);
        let mut cols =
            horizontal.part(w.out_w, PANEL_BYTES, vertical.inputs(1).saturating_mul(pixel_bytes), MAX_PIXELS);
        let mut rows = 1;
        if cols < w.out_w {
            cols = cols.next_multiple_of(super::gemm::MAX_ROWS);
        } else if w.out_h > 1 {
            rows = vertical.part(
                w.out_h,
                PANEL_BYTES,
                horizontal.inputs(cols).saturating_mul(pixel_bytes),
                MAX_PIXELS / cols,
            );
        }
        let pitch = horizontal.inputs(cols).saturating_mul(pixel_bytes);
        let whole_rows = w.dilation_w == 1 || w.kernel_w == 1;
        let one_segment = whole_rows && w.dilation_h == 1 && horizontal.inputs(cols) == w.kernel_w;
        let (outer, inner, segment) = match (one_segment, whole_rows) {
            (true, _) => (1, 1, w.kernel_h * w.kernel_w * w.in_c),
            (_, true) => (w.kernel_h, 1, w.kernel_w * w.in_c),
            _ => (w.kernel_h, w.kernel_w, w.in_c),
        };
        Gemm {
            window: w,
            out_c: shape.out_c,
            rows,
            cols,
            row_step: pitch.saturating_mul(vertical.step),
            col_step: pixel_bytes * horizontal.step,
            outer,
            outer_step: pitch.saturating_mul(w.dilation_h),
            inner,
            inner_step: pixel_bytes * w.dilation_w,
            quads: segment.div_ceil(layout.taps),
            vertical,
            horizontal,
            pitch,
            value_bytes,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, layout: Layout) -> usize {
        self.block_bytes(layout)
            .saturating_mul(self.out_c.div_ceil(layout.lanes))
            .saturating_add(layout.header_len(self.out_c))
    }

    /// Bytes that a run works in.
    pub fn scratch_len(&self, layout: Layout) -> usize {
        Params::scratch_len(layout, self.out_c, self.out_c).saturating_add(self.panel_len())
    }

    /// Bytes of the weights of a block of channels.
    pub fn block_bytes(&self, layout: Layout) -> usize {
        (self.outer * self.inner * self.quads).saturating_mul(layout.lanes * layout.taps)
    }

    /// Bytes of the panel.
    fn panel_len(&self) -> usize {
        self.vertical.inputs(self.rows).saturating_mul(self.pitch).saturating_add(SLACK)
    }

    /// Widens the input under `region`.
    ///
    /// # Safety
    /// The CPU has the instruction set; `input` is the whole image; `panel` has
    /// [`panel_len`](Self::panel_len) bytes; the region is no larger than [`Gemm::rows`] and
    /// [`Gemm::cols`].
    #[inline(always)]
    pub unsafe fn fill<S: Simd>(&self, input: &[i8], pad: i8, region: Region, panel: *mut u8) {
        let w = &self.window;
        let pixel_bytes = w.in_c * self.value_bytes;
        let rows = self.vertical.span(region.y, region.rows, w.pad_top, w.in_h);
        let cols = self.horizontal.span(region.x, region.cols, w.pad_left, w.in_w);
        let all = cols.before + cols.inside + cols.after;
        // SAFETY: spans count no more than the inputs of the region's outputs, for which there is
        // room, and what they call inside is inside the image.
        unsafe {
            for row in 0..rows.before {
                self.pad::<S>(pad, all, panel.add(row * self.pitch));
            }
            for row in 0..rows.inside {
                let y = rows.first + row * self.vertical.skip;
                let src = input.as_ptr().add((y * w.in_w + cols.first) * w.in_c);
                let dst = panel.add((rows.before + row) * self.pitch);
                let inside = dst.add(cols.before * pixel_bytes);
                self.pad::<S>(pad, cols.before, dst);
                if self.horizontal.skip == 1 {
                    S::widen(src, cols.inside * w.in_c, inside);
                } else {
                    for x in 0..cols.inside {
                        S::widen(src.add(x * self.horizontal.skip * w.in_c), w.in_c, inside.add(x * pixel_bytes));
                    }
                }
                self.pad::<S>(pad, cols.after, inside.add(cols.inside * pixel_bytes));
            }
            for row in rows.before + rows.inside..rows.before + rows.inside + rows.after {
                self.pad::<S>(pad, all, panel.add(row * self.pitch));
            }
        }
    }

    /// Writes `pixels` of padding.
    ///
    /// # Safety
    /// `dst` has room for them.
    #[inline(always)]
    unsafe fn pad<S: Simd>(&self, value: i8, pixels: usize, dst: *mut u8) {
        let quad = S::LAYOUT.quad(value);
        let values = pixels * self.window.in_c;
        // SAFETY: `values` of 1 or 2 bytes.
        unsafe {
            if S::LAYOUT.taps == 4 {
                dst.write_bytes(quad[0], values);
            } else {
                for i in 0..values {
                    dst.add(i * 2).cast::<[u8; 2]>().write([quad[0], quad[1]]);
                }
            }
        }
    }
}

/// How inputs lie under outputs along rows or columns of the panel.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Inputs under one output.
    extent: usize,
    /// Inputs from one output to the next, in the panel.
    step: usize,
    /// Inputs of the image from one in the panel to the next: a kernel of 1 leaves out what its
    /// stride steps over.
    skip: usize,
    stride: usize,
}

impl Axis {
    fn new(kernel: usize, stride: usize, dilation: usize) -> Axis {
        // Packing does not check shapes; a stride of 0 is refused by the run.
        let stride = stride.max(1);
        if kernel == 1 {
            Axis { extent: 1, step: 1, skip: stride, stride }
        } else {
            Axis { extent: (kernel - 1) * dilation + 1, step: stride, skip: 1, stride }
        }
    }

    /// Inputs under `outputs`.
    fn inputs(&self, outputs: usize) -> usize {
        (outputs.saturating_sub(1)).saturating_mul(self.step).saturating_add(self.extent)
    }

    /// The size of the largest of equal parts of `outputs`, each at most `most` and with inputs
    /// of at most `bytes`, where one input has `input_bytes`.
    fn part(&self, outputs: usize, bytes: usize, input_bytes: usize, most: usize) -> usize {
        if outputs <= most && self.inputs(outputs).saturating_mul(input_bytes) <= bytes {
            return outputs;
        }
        let fitting = (bytes / input_bytes.max(1)).saturating_sub(self.extent) / self.step + 1;
        outputs.div_ceil(outputs.div_ceil(fitting.min(most).max(1)))
    }

    /// Which inputs lie under `outputs` from `first` in an image of `size`.
    fn span(&self, first: usize, outputs: usize, pad: usize, size: usize) -> Span {
        let count = self.inputs(outputs);
        let start = first * self.stride;
        let per_skip = |inputs: usize| {
            if self.skip == 1 { inputs } else { inputs.div_ceil(self.skip) }
        };
        let before = per_skip(pad.saturating_sub(start)).min(count);
        let first = (start + before * self.skip).saturating_sub(pad);
        let inside = per_skip(size.saturating_sub(first)).min(count - before);
        Span { before, first: first.min(size), inside, after: count - before - inside }
    }
}

/// Rows or columns of the panel: those before the image, inside it from `first` on, and after it.
struct Span {
    before: usize,
    first: usize,
    inside: usize,
    after: usize,
}

/// A 1x1 kernel that visits every pixel once sees one long row.
fn flatten(w: Window) -> Window {
    let pointwise = (w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_top, w.pad_left) == (1, 1, 1, 1, 0, 0);
    if pointwise && (w.in_h, w.in_w) == (w.out_h, w.out_w) {
        let pixels = w.in_h * w.in_w;
        Window { in_h: 1, in_w: pixels, out_h: 1, out_w: pixels, ..w }
    } else {
        w
    }
}
