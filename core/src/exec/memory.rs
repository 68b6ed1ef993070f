//! Borrowing an op's slices from the arena and from what the caller gives.

use bytemuck::{AnyBitPattern, NoUninit, Pod};

use crate::plan::{ArenaSpan, DataSpan, Operand, Section};

/// A slice of the caller's that is read, by more than one thread where parts of an op run at the same time.
pub(crate) trait Input: AsRef<[u8]> + Sync {}
impl<T: AsRef<[u8]> + Sync> Input for T {}

/// A slice of the caller's that is written.
pub(crate) trait Output: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}
impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync> Output for T {}

/// What an op can name. Inputs and outputs are the caller's.
pub(crate) enum Memory<'m, I, O> {
    /// All there is.
    Whole { arena: &'m mut [u8], data: &'m [u8], inputs: &'m [I], outputs: &'m mut [O] },
    /// What a part of an op has while others run: its piece of the output, which is what follows `output_start` in its
    /// section, scratch of its own, and what nobody writes.
    Part { rest: Rest<'m, I, O>, output: &'m mut [u8], output_start: usize, scratch: &'m mut [u8] },
}

/// What two spans leave of the arena: where each piece starts, in order, and its bytes.
type Pieces<'m> = [(usize, &'m [u8]); 3];

/// All of the memory but the output of an op and its scratch.
pub(crate) struct Rest<'m, I, O> {
    arena: Pieces<'m>,
    data: &'m [u8],
    inputs: &'m [I],
    /// The caller's outputs up to the one that is written, and those that follow it.
    outputs_before: &'m [O],
    outputs_after: &'m [O],
}

impl<I, O> Clone for Rest<'_, I, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> Copy for Rest<'_, I, O> {}

/// What an op reads, where it writes, and what it works in.
pub(super) type Split<'m, I, O> = (Rest<'m, I, O>, &'m mut [u8], &'m mut [u8]);

impl<I: Input, O: Output> Memory<'_, I, O> {
    /// The output to write, and everything else to read.
    #[inline]
    pub(crate) fn split(&mut self, output: Operand) -> Option<(Rest<'_, I, O>, &mut [u8])> {
        let (rest, bytes, _) = self.split_scratch(output, ArenaSpan::default())?;
        Some((rest, bytes))
    }

    /// The output to write, the scratch to work in, and everything else to read.
    #[inline]
    pub(crate) fn split_scratch(&mut self, output: Operand, scratch: ArenaSpan) -> Option<Split<'_, I, O>> {
        let Operand { section, offset, len } = output;
        let (arena, data, inputs, outputs) = match self {
            Memory::Whole { arena, data, inputs, outputs } => (&mut **arena, *data, *inputs, &mut **outputs),
            Memory::Part { rest, output, output_start, scratch } => {
                let output = output.get_mut(offset.checked_sub(*output_start)?..)?.get_mut(..len)?;
                return Some((*rest, output, scratch));
            }
        };
        match section {
            Section::Arena => {
                let (arena, bytes, scratch) = cut(arena, ArenaSpan { offset, len }, scratch)?;
                let rest = Rest { arena, data, inputs, outputs_before: &*outputs, outputs_after: &[] };
                Some((rest, bytes, scratch))
            }
            Section::Output(index) => {
                let (outputs_before, from) = outputs.split_at_mut_checked(index)?;
                let (output, outputs_after) = from.split_first_mut()?;
                let bytes = output.as_mut().get_mut(offset..)?.get_mut(..len)?;
                let (arena, _, scratch) = cut(arena, ArenaSpan::default(), scratch)?;
                Some((Rest { arena, data, inputs, outputs_before, outputs_after }, bytes, scratch))
            }
            Section::Data | Section::Input(_) => None,
        }
    }

    /// Like [`split`](Self::split), with the output holding `input` already.
    #[inline]
    pub(crate) fn in_place(&mut self, input: Operand, output: Operand) -> Option<(Rest<'_, I, O>, &mut [u8])> {
        let (rest, bytes) = self.split(output)?;
        if input != output {
            let input = rest.operand(input)?;
            bytes.get_mut(..input.len())?.copy_from_slice(input);
        }
        Some((rest, bytes))
    }
}

/// Two spans of the arena in whichever order they lie, and what they leave of it. `None` if they
/// overlap or one is not there.
#[inline]
fn cut(arena: &mut [u8], one: ArenaSpan, other: ArenaSpan) -> Option<(Pieces<'_>, &mut [u8], &mut [u8])> {
    // Of two that start together one is empty, and that one comes first.
    let in_order = (one.offset, one.len) < (other.offset, other.len);
    let (low, high) = if in_order { (one, other) } else { (other, one) };
    let (before, from) = arena.split_at_mut_checked(low.offset)?;
    let (low_bytes, from) = from.split_at_mut_checked(low.len)?;
    let low_end = low.offset + low.len;
    let (between, from) = from.split_at_mut_checked(high.offset.checked_sub(low_end)?)?;
    let (high_bytes, after) = from.split_at_mut_checked(high.len)?;
    let pieces: Pieces<'_> = [(0, before), (low_end, between), (high.offset + high.len, after)];
    Some(if in_order { (pieces, low_bytes, high_bytes) } else { (pieces, high_bytes, low_bytes) })
}

impl<'m, I: Input, O: AsRef<[u8]>> Rest<'m, I, O> {
    /// A tensor, wherever it lies.
    #[inline]
    pub(crate) fn operand(&self, Operand { section, offset, len }: Operand) -> Option<&'m [u8]> {
        let (bytes, offset) = match section {
            Section::Arena => {
                // The last piece that starts no later: an empty one may start where the next does.
                let (start, piece) = self.arena.iter().rev().find(|(start, _)| *start <= offset)?;
                (*piece, offset - start)
            }
            Section::Data => (self.data, offset),
            Section::Input(index) => (self.inputs.get(index)?.as_ref(), offset),
            Section::Output(index) => (self.output(index)?.as_ref(), offset),
        };
        bytes.get(offset..)?.get(..len)
    }

    /// A constant.
    #[inline]
    pub(crate) fn data(&self, span: DataSpan) -> Option<&'m [u8]> {
        self.data.get(span.offset..)?.get(..span.len)
    }

    /// One of the caller's outputs, unless it is the one that is written.
    #[inline]
    fn output(&self, index: usize) -> Option<&'m O> {
        match index.checked_sub(self.outputs_before.len()) {
            Some(beyond) => self.outputs_after.get(beyond.checked_sub(1)?),
            None => self.outputs_before.get(index),
        }
    }
}

/// Bytes as elements; `None` if they are not aligned.
#[inline]
pub(crate) fn cast<T: AnyBitPattern>(bytes: &[u8]) -> Option<&[T]> {
    bytemuck::try_cast_slice(bytes).ok()
}

/// Bytes as elements; `None` if they are not aligned.
#[inline]
pub(crate) fn cast_mut<T: AnyBitPattern + NoUninit + Pod>(bytes: &mut [u8]) -> Option<&mut [T]> {
    bytemuck::try_cast_slice_mut(bytes).ok()
}
