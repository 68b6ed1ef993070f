//! Ops cut into parts, which may run at the same time: a part of an op is the same op on some lines of its output.
//!
//! Each value of the output comes about in a part as it does in the whole, so that answers are the same bits whatever
//! the number of parts.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::Op;
use crate::isa::Isa;
use crate::ops::Lines;

/// Parts that an op is cut into at most, and so the threads of a run.
pub const MAX_PARTS: usize = 16;
/// The least work of a part, in multiply-accumulates: what is less is done sooner than another thread is told of it,
/// some microseconds on any CPU.
const MIN_WORK: u64 = 1 << 17;

/// The same for an op on `isa`: with 64 products of bytes an instruction, four times as much is done in that time.
fn min_work(op: &Op, isa: Isa) -> u64 {
    match (op, isa) {
        (Op::ConvS8(_) | Op::ConvS32(_), Isa::Avx512Vnni) => 4 * MIN_WORK,
        _ => MIN_WORK,
    }
}

impl Op {
    /// How many parts it pays to cut the op into where there are so many threads.
    #[inline]
    pub(crate) fn parts(&self, isa: Isa, threads: usize) -> usize {
        if threads < 2 {
            return 1;
        }
        match self.work() / min_work(self, isa) {
            0 | 1 => 1,
            worth => threads.min(usize::try_from(worth).unwrap_or(MAX_PARTS)).min(self.most_parts(isa)),
        }
    }

    /// How many parts the op can be cut into, whether it pays or not.
    pub(crate) fn most_parts(&self, isa: Isa) -> usize {
        let lines = self.lines(isa);
        (lines.count / lines.unit).clamp(1, MAX_PARTS)
    }

    fn work(&self) -> u64 {
        match self.images() {
            1 => self.operation().work(),
            images => self.some_images(0..1).operation().work().saturating_mul(images as u64),
        }
    }

    /// What it is cut along: images where there are several.
    fn lines(&self, isa: Isa) -> Lines {
        match self.images() {
            1 => self.operation().lines(isa),
            images => Lines::of(images),
        }
    }

    /// Part `index` of `count`, at least 2 and at most [`Op::most_parts`]. What it reads and writes lies in that of
    /// the op: outputs one after the other, inputs overlapping where a window has neighbours.
    #[must_use]
    pub(crate) fn part(&self, isa: Isa, index: usize, count: usize) -> Op {
        let lines = self.lines(isa);
        // On 32 bits the product may not fit; its share of the lines does.
        let units = (lines.count / lines.unit) as u64;
        let start = |index: usize| (units * index as u64 / count as u64) as usize * lines.unit;
        let end = if index + 1 < count { start(index + 1) } else { lines.count };
        let lines = start(index)..end;
        if self.images() > 1 {
            return self.some_images(lines);
        }
        let mut part = *self;
        part.operation_mut().cut(lines);
        part
    }
}
