//! Borrowing an op's slices from the arena.

use bytemuck::{AnyBitPattern, NoUninit, Pod};

use crate::plan::{ArenaSpan, DataSpan, Operand, Section};

/// What an op can name.
pub(super) struct Memory<'m> {
    pub(super) arena: &'m mut [u8],
    pub(super) data: &'m [u8],
}

/// All of the memory but the output of an op.
pub(super) struct Rest<'m> {
    before: &'m [u8],
    after: &'m [u8],
    after_offset: usize,
    data: &'m [u8],
}

impl Memory<'_> {
    /// The output to write, and everything else to read.
    #[inline]
    pub(super) fn split(&mut self, output: ArenaSpan) -> Option<(Rest<'_>, &mut [u8])> {
        let (before, from) = self.arena.split_at_mut_checked(output.offset)?;
        let (bytes, after) = from.split_at_mut_checked(output.len)?;
        let after_offset = output.offset + output.len;
        Some((Rest { before, after, after_offset, data: self.data }, bytes))
    }

    /// Like [`split`](Self::split), with the output holding `input` already.
    #[inline]
    pub(super) fn in_place(&mut self, input: ArenaSpan, output: ArenaSpan) -> Option<(Rest<'_>, &mut [u8])> {
        let (rest, bytes) = self.split(output)?;
        if input != output {
            let input = rest.arena(input)?;
            bytes.get_mut(..input.len())?.copy_from_slice(input);
        }
        Some((rest, bytes))
    }
}

impl<'m> Rest<'m> {
    /// A tensor in the arena.
    #[inline]
    pub(super) fn arena(&self, span: ArenaSpan) -> Option<&'m [u8]> {
        match span.offset.checked_sub(self.after_offset) {
            Some(offset) => self.after.get(offset..)?.get(..span.len),
            None => self.before.get(span.offset..)?.get(..span.len),
        }
    }

    /// A constant.
    #[inline]
    pub(super) fn data(&self, span: DataSpan) -> Option<&'m [u8]> {
        self.data.get(span.offset..)?.get(..span.len)
    }

    /// A tensor that is either.
    #[inline]
    pub(super) fn operand(&self, Operand { section, offset, len }: Operand) -> Option<&'m [u8]> {
        match section {
            Section::Arena => self.arena(ArenaSpan { offset, len }),
            Section::Data => self.data(DataSpan { offset, len }),
        }
    }
}

/// Bytes as elements; `None` if they are not aligned.
#[inline]
pub(super) fn cast<T: AnyBitPattern>(bytes: &[u8]) -> Option<&[T]> {
    bytemuck::try_cast_slice(bytes).ok()
}

/// Bytes as elements; `None` if they are not aligned.
#[inline]
pub(super) fn cast_mut<T: AnyBitPattern + NoUninit + Pod>(bytes: &mut [u8]) -> Option<&mut [T]> {
    bytemuck::try_cast_slice_mut(bytes).ok()
}
