//! Along what ops are cut.

use core::ops::Range;

use crate::plan::Operand;
use crate::shape::Window;

/// Lines of an op's output: what lies together in memory and can be computed apart, such as the rows of an image or
/// of a softmax.
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    /// How many there are.
    pub count: usize,
    /// Of how many a part has to be a multiple, what is left over going to one of them.
    pub unit: usize,
}

impl Lines {
    /// An op that goes whole.
    pub const WHOLE: Lines = Lines::of(1);

    pub const fn of(count: usize) -> Lines {
        Lines { count, unit: 1 }
    }
}

/// Bytes that stay together where each value is computed alone: a line of a cache has one writer.
const RUN: usize = 64;

/// The lines of an op that computes each value of `a` alone, with a value of `b`, which is repeated along it.
pub(super) fn runs(a: Operand, b: Operand) -> Lines {
    Lines::of(a.len.div_ceil(run_bytes(a.len, b.len)))
}

/// Leaves some lines of operands of such an op; one that is repeated stays as it is.
pub(super) fn cut_runs<const N: usize>(operands: [&mut Operand; N], lines: &Range<usize>) {
    let lens = operands.each_ref().map(|operand| operand.len);
    let [longest, shortest] = [lens.iter().max(), lens.iter().min()].map(|len| len.copied().unwrap_or_default());
    let run = run_bytes(longest, shortest);
    operands.into_iter().filter(|operand| operand.len == longest).for_each(|operand| cut(operand, lines, run));
}

/// Bytes of a line: repetitions of the shorter operand, whole.
fn run_bytes(longest: usize, shortest: usize) -> usize {
    if longest == shortest { RUN } else { shortest.max(1) * RUN.div_ceil(shortest.max(1)) }
}

/// Leaves some lines of a window over an image, of which a pixel has so many bytes on either side.
pub(super) fn cut_window(
    window: &mut Window,
    (input, in_bytes): (&mut Operand, usize),
    (output, out_bytes): (&mut Operand, usize),
    lines: &Range<usize>,
) {
    let [in_pixels, out_pixels] = window.line_pixels();
    let part = window.part(lines.clone());
    cut(input, &part.input, in_pixels * in_bytes);
    cut(output, lines, out_pixels * out_bytes);
    *window = part.window;
}

/// Leaves the lines, of so many bytes, of an operand.
pub(crate) fn cut(operand: &mut Operand, lines: &Range<usize>, line_bytes: usize) {
    let [start, end] = [lines.start, lines.end].map(|line| (line * line_bytes).min(operand.len));
    (operand.offset, operand.len) = (operand.offset + start, end - start);
}
