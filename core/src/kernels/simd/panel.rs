//! The panel: the part of the input under a *region* of output pixels, widened into scratch with
//! its padding, so that windows of neighbouring pixels overlap in memory and nothing is copied once
//! per kernel element. Kernel columns times channels are contiguous there.

use core::mem::MaybeUninit;
use core::slice;

use crate::shape::Window;

/// Panel bytes aimed at: half a first-level cache, the other half is for weights.
const PANEL_BYTES: usize = 16 << 10;
/// What vectors may read or write beyond the end of the panel.
pub const SLACK: usize = 64;

/// How an image is cut into regions, and how their inputs lie in the panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub window: Window,
    /// Output rows and columns of a region; more than one row only if all columns.
    pub rows: usize,
    pub cols: usize,
    /// Bytes between windows of adjacent pixels.
    pub row_step: usize,
    pub col_step: usize,
    /// Bytes from one input row to the next, and of one input pixel.
    pub pitch: usize,
    pub pixel_bytes: usize,
    vertical: Axis,
    horizontal: Axis,
}

/// `rows * cols` output pixels from row `y` and column `x`.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub y: usize,
    pub x: usize,
    pub rows: usize,
    pub cols: usize,
}

/// What is written into a panel.
///
/// # Safety
/// Both write `count` pixels at `dst`, which has room for them and [`SLACK`] more, on a CPU that
/// has the instruction set.
#[allow(clippy::missing_safety_doc)]
pub trait Fill {
    /// The pixel `first` of the image and every `skip`th after it.
    unsafe fn pixels(&self, first: usize, skip: usize, count: usize, dst: *mut u8);
    /// Padding.
    unsafe fn pad(&self, count: usize, dst: *mut u8);
}

impl Panel {
    /// A panel of pixels of `pixel_bytes`, whose regions have at most `most` pixels, in rows of a
    /// multiple of `tile` pixels where a row of the image is cut.
    pub fn new(window: Window, pixel_bytes: usize, most: usize, tile: usize) -> Panel {
        Panel::within(PANEL_BYTES, window, pixel_bytes, most, tile)
    }

    /// The same, with another aim than [`PANEL_BYTES`].
    pub fn within(bytes: usize, window: Window, pixel_bytes: usize, most: usize, tile: usize) -> Panel {
        let w = window;
        let vertical = Axis::new(w.kernel_h, w.stride_h, w.dilation_h);
        let horizontal = Axis::new(w.kernel_w, w.stride_w, w.dilation_w);
        let mut cols = horizontal.part(w.out_w, bytes, vertical.inputs(1).saturating_mul(pixel_bytes), most);
        let mut rows = 1;
        if cols < w.out_w {
            cols = cols.next_multiple_of(tile);
        } else if w.out_h > 1 {
            rows = vertical.part(w.out_h, bytes, horizontal.inputs(cols).saturating_mul(pixel_bytes), most / cols);
        }
        let pitch = horizontal.inputs(cols).saturating_mul(pixel_bytes);
        Panel {
            window,
            rows,
            cols,
            row_step: pitch.saturating_mul(vertical.step),
            col_step: pixel_bytes * horizontal.step,
            pitch,
            pixel_bytes,
            vertical,
            horizontal,
        }
    }

    /// Bytes of the panel.
    pub fn len(&self) -> usize {
        self.vertical.inputs(self.rows).saturating_mul(self.pitch).saturating_add(SLACK)
    }

    /// Input columns under a region.
    pub fn input_cols(&self) -> usize {
        self.horizontal.inputs(self.cols)
    }

    /// The regions of an image. The pixels of one follow each other in the output, because a
    /// region of more than one row has all columns.
    pub fn regions(&self) -> impl Iterator<Item = Region> + use<> {
        let Panel { window: w, rows, cols, .. } = *self;
        (0..w.out_h).step_by(rows).flat_map(move |y| {
            (0..w.out_w).step_by(cols).map(move |x| Region {
                y,
                x,
                rows: rows.min(w.out_h - y),
                cols: cols.min(w.out_w - x),
            })
        })
    }

    /// Where the windows of the pixels of a region begin, worked out in `memory`, which has room for a region.
    pub fn windows<'a>(&self, memory: &'a mut [MaybeUninit<u32>]) -> &'a [u32] {
        let windows = &mut memory[..self.rows * self.cols];
        for (y, row) in windows.chunks_exact_mut(self.cols).enumerate() {
            for (x, window) in row.iter_mut().enumerate() {
                window.write((y * self.row_step + x * self.col_step) as u32);
            }
        }
        // SAFETY: they are whole rows, each of whose windows has been written.
        unsafe { slice::from_raw_parts(windows.as_ptr().cast(), windows.len()) }
    }

    /// Whether the image has all that windows read, in the order of a panel: it is one row without padding, of which
    /// nothing is stepped over.
    pub fn is_image(&self) -> bool {
        let w = &self.window;
        let row = (w.in_h, w.out_h, w.kernel_h, w.pad_top, w.pad_left) == (1, 1, 1, 0, 0);
        row && self.horizontal.skip == 1 && self.horizontal.inputs(w.out_w) <= w.in_w
    }

    /// Writes the input under `region`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `source`, which reads the whole image; `panel` has
    /// [`len`](Self::len) bytes; the region is no larger than [`Panel::rows`] and [`Panel::cols`].
    #[inline(always)]
    pub unsafe fn fill(&self, source: &impl Fill, region: Region, panel: *mut u8) {
        let w = &self.window;
        let rows = self.vertical.span(region.y, region.rows, w.pad_top, w.in_h);
        let cols = self.horizontal.span(region.x, region.cols, w.pad_left, w.in_w);
        let all = cols.before + cols.inside + cols.after;
        // SAFETY: spans count no more than the inputs of the region's outputs, for which there is
        // room, and what they call inside is inside the image.
        unsafe {
            for row in 0..rows.before {
                source.pad(all, panel.add(row * self.pitch));
            }
            for row in 0..rows.inside {
                let y = rows.first + row * self.vertical.skip;
                let dst = panel.add((rows.before + row) * self.pitch);
                let inside = dst.add(cols.before * self.pixel_bytes);
                source.pad(cols.before, dst);
                source.pixels(y * w.in_w + cols.first, self.horizontal.skip, cols.inside, inside);
                source.pad(cols.after, inside.add(cols.inside * self.pixel_bytes));
            }
            for row in rows.before + rows.inside..rows.before + rows.inside + rows.after {
                source.pad(all, panel.add(row * self.pitch));
            }
        }
    }
}

/// A one-column image becomes a one-row one: regions cut rows, too. A single pixel is a row already, with the strides of
/// the row that it may be a part of.
pub fn lying(w: Window) -> Window {
    if w.is_row() || (w.in_w, w.out_w, w.kernel_w, w.pad_left) != (1, 1, 1, 0) {
        return w;
    }
    Window {
        in_h: 1,
        in_w: w.in_h,
        out_h: 1,
        out_w: w.out_h,
        kernel_h: 1,
        kernel_w: w.kernel_h,
        stride_h: 1,
        stride_w: w.stride_h,
        dilation_h: 1,
        dilation_w: w.dilation_h,
        pad_top: 0,
        pad_left: w.pad_top,
        ..w
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
        if outputs == 1 || outputs <= most && self.inputs(outputs).saturating_mul(input_bytes) <= bytes {
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
