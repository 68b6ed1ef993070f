//! Shapes and numeric parameters that the planner, the verifier and the kernels share.
//!
//! Activations are NHWC; a 1-D network has height 1. The batch is not part of a shape:
//! the executor runs one sample.

use core::ops::Range;

/// A sliding window over an NHWC image: what convolution and pooling have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Kernel rows.
    pub kernel_h: usize,
    /// Kernel columns.
    pub kernel_w: usize,
    /// Rows from one window to the next.
    pub stride_h: usize,
    /// Columns from one window to the next.
    pub stride_w: usize,
    /// Rows from one tap to the next.
    pub dilation_h: usize,
    /// Columns from one tap to the next.
    pub dilation_w: usize,
    /// Padding before the first row; what follows the last is implied by `out_h` and `out_w`.
    pub pad_top: usize,
    /// Padding before the first column.
    pub pad_left: usize,
}

/// A window over some of the output's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPart {
    /// What slides over `input` and gives these lines.
    pub window: Window,
    /// The lines of the input that are under it.
    pub input: Range<usize>,
}

impl Window {
    /// A kernel of one pixel over so many pixels in a row: a fully connected layer on each of them.
    pub const fn pixels(count: usize, in_c: usize) -> Window {
        Window {
            in_h: 1,
            in_w: count,
            in_c,
            out_h: 1,
            out_w: count,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
        }
    }

    /// Whether lines are columns: the image is a single row.
    pub(crate) fn is_row(&self) -> bool {
        (self.in_h, self.out_h, self.kernel_h, self.pad_top) == (1, 1, 1, 0)
    }

    /// Lines of the output: what follows each other in memory and can be computed apart. They are rows, and in an
    /// image of one row its columns.
    pub fn lines(&self) -> usize {
        if self.is_row() { self.out_w } else { self.out_h }
    }

    /// Elements of an image that it is over, and of its results of so many channels.
    pub(crate) fn lens(&self, out_c: usize) -> [usize; 2] {
        [volume([self.in_h, self.in_w, self.in_c]), volume([self.out_h, self.out_w, out_c])]
    }

    /// Pixels in a line of the input and of the output.
    pub fn line_pixels(&self) -> [usize; 2] {
        if self.is_row() { [1, 1] } else { [self.in_w, self.out_w] }
    }

    /// The window that gives `lines` of the output and nothing else: some, and no more than there are.
    pub fn part(&self, lines: Range<usize>) -> WindowPart {
        let w = *self;
        let under = |size: usize, kernel: usize, stride: usize, dilation: usize, pad: usize| {
            let start = lines.start * stride;
            let end = lines.end.saturating_sub(1) * stride + kernel.saturating_sub(1) * dilation + 1;
            (start.saturating_sub(pad)..end.saturating_sub(pad).min(size), pad.saturating_sub(start))
        };
        if self.is_row() {
            let (input, pad_left) = under(w.in_w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left);
            WindowPart { window: Window { in_w: input.len(), out_w: lines.len(), pad_left, ..w }, input }
        } else {
            let (input, pad_top) = under(w.in_h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top);
            WindowPart { window: Window { in_h: input.len(), out_h: lines.len(), pad_top, ..w }, input }
        }
    }

    /// Which of the kernel's rows lie inside the image, where the output row is `out_y`.
    #[inline(always)]
    pub(crate) fn rows_inside(&self, out_y: usize) -> Range<usize> {
        inside(out_y * self.stride_h, self.kernel_h, self.dilation_h, self.pad_top, self.in_h)
    }

    /// Which of its columns do, where the output column is `out_x`.
    #[inline(always)]
    pub(crate) fn cols_inside(&self, out_x: usize) -> Range<usize> {
        inside(out_x * self.stride_w, self.kernel_w, self.dilation_w, self.pad_left, self.in_w)
    }

    /// Whether there is one place for the kernel, in which it has all of the image under it, each value once.
    pub(crate) const fn is_whole(&self) -> bool {
        const fn whole(size: usize, kernel: usize, dilation: usize, pad: usize) -> bool {
            kernel == size && pad == 0 && (kernel == 1 || dilation == 1)
        }
        self.out_h == 1
            && self.out_w == 1
            && whole(self.in_h, self.kernel_h, self.dilation_h, self.pad_top)
            && whole(self.in_w, self.kernel_w, self.dilation_w, self.pad_left)
    }

    /// A 1x1 kernel that visits every pixel once sees one long row.
    pub(crate) fn flattened(self) -> Window {
        let w = self;
        let pointwise = (w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_top, w.pad_left) == (1, 1, 1, 1, 0, 0);
        if pointwise && (w.in_h, w.in_w) == (w.out_h, w.out_w) {
            let pixels = w.in_h * w.in_w;
            Window { in_h: 1, in_w: pixels, out_h: 1, out_w: pixels, ..w }
        } else {
            w
        }
    }
}

/// Elements of an image of so many rows, columns and channels; `usize::MAX` is more than there can be.
pub(crate) fn volume(dims: [usize; 3]) -> usize {
    dims.into_iter().fold(1, usize::saturating_mul)
}

/// Which taps of a kernel that starts at `start`, counted from the padding's first row, lie inside
/// `size` rows.
#[inline(always)]
fn inside(start: usize, kernel: usize, dilation: usize, pad: usize, size: usize) -> Range<usize> {
    // Divisions would take longer than a small window.
    let taps = |rows: usize| if dilation == 1 { rows } else { rows.div_ceil(dilation) };
    let first = taps(pad.saturating_sub(start)).min(kernel);
    let end = taps((size + pad).saturating_sub(start)).min(kernel);
    first..end.max(first)
}

/// A convolution. Weights are OHWI: `[out_c, kernel_h, kernel_w, in_c / groups]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Where it slides, and over what.
    pub window: Window,
    /// Output channels.
    pub out_c: usize,
    /// Groups of channels that do not mix.
    pub groups: usize,
}

impl ConvShape {
    /// Elements of an image, and of what it gives.
    pub(crate) fn lens(&self) -> [usize; 2] {
        self.window.lens(self.out_c)
    }

    /// One of its groups, on an image of that group's channels alone.
    pub(crate) const fn group(&self) -> ConvShape {
        let groups = if self.groups == 0 { 1 } else { self.groups };
        let window = Window { in_c: self.window.in_c / groups, ..self.window };
        ConvShape { window, out_c: self.out_c / groups, groups: 1 }
    }
}

/// An image and what it is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// Rows of the input.
    pub in_h: usize,
    /// Columns of the input.
    pub in_w: usize,
    /// Rows of the output.
    pub out_h: usize,
    /// Columns of the output.
    pub out_w: usize,
    /// Channels of both.
    pub channels: usize,
}

impl Resized {
    /// Elements of the input and of the output.
    pub(crate) fn lens(&self) -> [usize; 2] {
        [volume([self.in_h, self.in_w, self.channels]), volume([self.out_h, self.out_w, self.channels])]
    }
}

/// One dimension of a tensor, or several that follow each other, among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Along {
    /// Elements of all dimensions before.
    pub outer: usize,
    /// Elements of the dimension itself.
    pub len: usize,
    /// Elements of all dimensions after.
    pub inner: usize,
}

/// How an i32 accumulator becomes an int8 value:
/// `clamp(round_half_even(acc as f32 * multiplier[c]) + zero_point, min, max)`.
///
/// The multiplier is `input_scale * weight_scale[c] / output_scale` (ONNX QLinearConv); a fused
/// ReLU or Clip is `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantize {
    /// The integer that stands for 0.
    pub zero_point: i8,
    /// Lower bound of the result.
    pub min: i8,
    /// Upper bound of the result.
    pub max: i8,
}
