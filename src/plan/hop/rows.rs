//! Tensors as rows along time, and which rows of one follow from which rows of another.
//!
//! Windows slide over a series by whole rows of the input. A row of a later tensor that depends on what the window
//! holds, and not on where it ends, is in the next window the same, some rows earlier: it is *steady*. Padding makes
//! rows at the borders unsteady, and what follows from those.

use std::ops::Range;

use tractlet_core::plan::{Op, Operand, Section, StridedCopy};
use tractlet_core::shape::Window;

use crate::lower::{TensorId, reads};

/// A tensor that lies row by row along time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub count: usize,
    /// Of one row.
    pub bytes: usize,
    /// Those that the next window has too, `shift` rows earlier, as far as they are still in it.
    pub steady: Range<usize>,
    pub shift: usize,
}

impl Rows {
    /// Whether the next window has any of them.
    pub fn recur(&self) -> bool {
        self.steady.len() > self.shift
    }

    /// What the parts of a tensor, each by another step, have in common; `None` where they do not fit together.
    pub fn with(&self, other: &Rows) -> Option<Rows> {
        let fit = (self.count, self.bytes, self.shift) == (other.count, other.bytes, other.shift);
        let start = self.steady.start.max(other.steady.start);
        let steady = start..self.steady.end.min(other.steady.end).max(start);
        fit.then(|| Rows { steady, ..self.clone() })
    }
}

/// How rows of an output follow from those of the inputs: row `t` from `reach` rows, the first `t * stride - pad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Law {
    pub reach: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Law {
    /// Row for row.
    pub const EACH: Law = Law { reach: 1, stride: 1, pad: 0 };

    /// Rows of an input of `count` that these rows of the output, at least one, are made of.
    pub fn taken(&self, rows: &Range<usize>, count: usize) -> Range<usize> {
        let start = (rows.start * self.stride).saturating_sub(self.pad);
        let end = ((rows.end - 1) * self.stride + self.reach).saturating_sub(self.pad).min(count);
        start.min(end)..end
    }

    /// What of an output of `count` rows of `bytes` is steady.
    fn follow(&self, input: &Rows, count: usize, bytes: usize) -> Result<Rows, String> {
        if !input.shift.is_multiple_of(self.stride) {
            let (stride, shift) = (self.stride, input.shift);
            return Err(format!("its stride along time, {stride}, does not divide the {shift} rows of a hop"));
        }
        let start = (input.steady.start + self.pad).div_ceil(self.stride);
        let last = (input.steady.end + self.pad).checked_sub(self.reach).map(|last| last / self.stride);
        let end = last.map_or(0, |last| last + 1).min(count);
        Ok(Rows { count, bytes, steady: start.min(end)..end, shift: input.shift / self.stride })
    }
}

/// The network's input while it is followed.
pub(super) struct Source {
    pub tensor: TensorId,
    /// The dimension that is time.
    pub axis: usize,
    /// Values that lie before time, of which each has all rows: the channels of an image. 1 where rows are dense.
    pub outer: usize,
    pub rows: Rows,
}

/// What is known of each tensor.
#[derive(Clone, Debug)]
pub(super) enum Along {
    /// Nothing has written it.
    Unwritten,
    /// The same everywhere, so far.
    Even,
    Rows(Rows),
    /// It is computed as a whole at each hop.
    Whole,
}

/// How a step's rows follow from its inputs, or why they do not; `Ok(None)` for one that fills a tensor.
pub(super) fn follow(op: &Op, source: &Source, along: &[Along]) -> Result<Option<(Law, Rows)>, String> {
    let rows_of = |operand: Operand| match along.get(operand.offset) {
        Some(Along::Rows(rows)) if operand.section == Section::Arena => Ok(rows),
        _ => Err("it follows from what is computed of the whole window".to_owned()),
    };
    let across = source.outer > 1 && reads(op).any(|tensor| tensor == source.tensor);
    let output_bytes = op.output().len;
    let each = |rows: &Rows| {
        let bytes = output_bytes / rows.count;
        if bytes * rows.count != output_bytes {
            return Err("it does not go row by row".to_owned());
        }
        Law::EACH.follow(rows, rows.count, bytes).map(|rows| Some((Law::EACH, rows)))
    };
    let slide = |window: &Window, input: Operand, out_c: usize, element_bytes: usize| {
        let rows = rows_of(input)?;
        let (law, count, pixels) = sliding(window, rows, element_bytes).ok_or("its rows are not those of time")?;
        Ok(Some((law, law.follow(rows, count, pixels * out_c * element_bytes)?)))
    };
    let pair = |a: Operand, b: Operand| {
        let rows = rows_of(a)?;
        match b.section {
            Section::Data if rows.bytes.is_multiple_of(b.len) => each(rows),
            Section::Data => Err("its constant differs along time".to_owned()),
            _ if a.len != b.len => Err("it repeats a tensor along time".to_owned()),
            _ => each(&rows.with(rows_of(b)?).ok_or("its operands move along at different paces")?),
        }
    };
    match op {
        op if across && channels_of(op) == Some(source.outer) => each(&source.rows),
        _ if across => Err("it takes the input in an order in which rows are not together".to_owned()),
        Op::Quantize(op) if op.channels == 1 => each(rows_of(op.input)?),
        Op::Dequantize(op) if op.channels == 1 => each(rows_of(op.input)?),
        Op::LutS8(op) => each(rows_of(op.input)?),
        Op::UnaryF32(op) => each(rows_of(op.input)?),
        Op::SoftmaxS8(op) if rows_of(op.input)?.bytes.is_multiple_of(op.cols) => each(rows_of(op.input)?),
        Op::SoftmaxF32(op) if rows_of(op.input)?.bytes.is_multiple_of(4 * op.cols) => each(rows_of(op.input)?),
        Op::AddS8(op) => pair(op.a, op.b),
        Op::MulS8(op) => pair(op.a, op.b),
        Op::BinaryF32(op) if op.inner == 1 => pair(op.a, op.b),
        Op::ConvS8(op) => slide(&op.shape.window, op.input, op.shape.out_c, 1),
        Op::ConvF32(op) => slide(&op.shape.window, op.input, op.shape.out_c, 4),
        Op::MaxPoolS8(op) => slide(&op.window, op.input, op.window.in_c, 1),
        Op::AveragePoolS8(op) => slide(&op.window, op.input, op.window.in_c, 1),
        Op::MaxPoolF32(op) => slide(&op.window, op.input, op.window.in_c, 4),
        Op::AveragePoolF32(op) => slide(&op.window, op.input, op.window.in_c, 4),
        Op::StridedCopy(op) => {
            let rows = rows_of(op.input)?;
            let copied = Copied::of(op, rows).ok_or("it does not go row by row")?;
            let law = Law { pad: copied.first, ..Law::EACH };
            let count = op.output.len / copied.row_bytes;
            Ok(Some((law, law.follow(rows, count, copied.row_bytes)?)))
        }
        Op::Fill(_) => Ok(None),
        _ => Err("it takes the whole window at once".to_owned()),
    }
}

/// Which way time goes in a window, with the rows of its output and the pixels of one.
fn sliding(window: &Window, rows: &Rows, element_bytes: usize) -> Option<(Law, usize, usize)> {
    let w = window;
    let law = |kernel: usize, dilation: usize, stride, pad| Law { reach: (kernel - 1) * dilation + 1, stride, pad };
    let down = w.in_h == rows.count && w.in_w * w.in_c * element_bytes == rows.bytes;
    let right = w.in_h == 1 && w.out_h == 1 && w.in_w == rows.count && w.in_c * element_bytes == rows.bytes;
    if down {
        Some((law(w.kernel_h, w.dilation_h, w.stride_h, w.pad_top), w.out_h, w.out_w))
    } else if right {
        Some((law(w.kernel_w, w.dilation_w, w.stride_w, w.pad_left), w.out_w, 1))
    } else {
        None
    }
}

/// The part of a window that makes these rows of the output of those of the input.
pub(super) fn slid(window: &Window, law: &Law, rows: &Range<usize>, taken: &Range<usize>) -> Window {
    let pad = law.pad.saturating_sub(rows.start * law.stride);
    match window.in_h {
        1 => Window { in_w: taken.len(), out_w: rows.len(), pad_left: pad, ..*window },
        _ => Window { in_h: taken.len(), out_h: rows.len(), pad_top: pad, ..*window },
    }
}

/// The channels of an image that an op lays innermost, if that is what it does: of one, not of several.
pub(super) fn channels_of(op: &Op) -> Option<usize> {
    let copy = match op {
        Op::Quantize(op) => return (4 * op.pixels * op.channels == op.input.len).then_some(op.channels),
        Op::StridedCopy(copy) => copy,
        _ => return None,
    };
    let ([.., pixels, channels], [.., down, right]) = (copy.dims, copy.input_strides);
    let all = 4 * pixels * channels == copy.input.len && copy.input.len == copy.output.len;
    let swaps = (down, right) == (1, pixels) && copy.output_strides.ends_with(&[channels, 1]);
    (all && swaps && channels > 1 && copy.element_bytes == 4).then_some(channels)
}

/// A copy of whole rows, or of the same part of each, into rows of another tensor.
pub(super) struct Copied {
    /// Of the copy's dimensions, the one that is time, perhaps with what lies within it.
    pub dimension: usize,
    /// Steps of that dimension in a row.
    pub steps: usize,
    /// The row of the output that the input's first becomes.
    pub first: usize,
    /// Of the output.
    pub row_bytes: usize,
}

impl Copied {
    pub fn of(copy: &StridedCopy, rows: &Rows) -> Option<Copied> {
        let element = copy.element_bytes;
        let dimension = copy.dims.iter().position(|&dim| dim > 1)?;
        let steps = copy.dims[dimension].checked_div(rows.count).filter(|steps| *steps > 0)?;
        let [input_row, output_row] =
            [copy.input_strides, copy.output_strides].map(|strides| strides[dimension] * steps * element);
        // How far the elements of one row lie apart.
        let within = |strides: &[usize]| -> usize {
            let inner = copy.dims.iter().zip(strides).skip(dimension + 1);
            ((steps - 1) * strides[dimension] + inner.map(|(dim, stride)| (dim - 1) * stride).sum::<usize>() + 1)
                * element
        };
        let start = element * copy.output_start;
        let whole = steps * rows.count == copy.dims[dimension] && input_row == rows.bytes && output_row > 0;
        let inside = whole
            && copy.output.len.is_multiple_of(output_row)
            && element * copy.input_start + within(&copy.input_strides) <= input_row
            && start % output_row + within(&copy.output_strides) <= output_row;
        inside.then(|| Copied { dimension, steps, first: start / output_row, row_bytes: output_row })
    }
}
