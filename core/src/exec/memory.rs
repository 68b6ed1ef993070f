//! Borrowing an op's slices from the arena and from what the caller gives.

use bytemuck::{AnyBitPattern, NoUninit, Pod};

use crate::plan::{DataSpan, Operand, Section};

/// What an op can name. Inputs and outputs are the caller's.
pub(super) struct Memory<'m, I, O> {
    pub(super) arena: &'m mut [u8],
    pub(super) data: &'m [u8],
    pub(super) inputs: &'m [I],
    pub(super) outputs: &'m mut [O],
}

/// All of the memory but the output of an op.
pub(super) struct Rest<'m, I, O> {
    /// The arena up to the output, and from its end on.
    before: &'m [u8],
    after: &'m [u8],
    after_offset: usize,
    data: &'m [u8],
    inputs: &'m [I],
    /// The caller's outputs up to the one that is written, and those that follow it.
    outputs_before: &'m [O],
    outputs_after: &'m [O],
}

impl<I: AsRef<[u8]>, O: AsRef<[u8]> + AsMut<[u8]>> Memory<'_, I, O> {
    /// The output to write, and everything else to read.
    #[inline]
    pub(super) fn split(&mut self, output: Operand) -> Option<(Rest<'_, I, O>, &mut [u8])> {
        let Operand { section, offset, len } = output;
        match section {
            Section::Arena => {
                let (before, from) = self.arena.split_at_mut_checked(offset)?;
                let (bytes, after) = from.split_at_mut_checked(len)?;
                let outputs = (&*self.outputs, &[][..]);
                Some((Rest::new((before, after, offset + len), self.data, self.inputs, outputs), bytes))
            }
            Section::Output(index) => {
                let (before, from) = self.outputs.split_at_mut_checked(index)?;
                let (output, after) = from.split_first_mut()?;
                let bytes = output.as_mut().get_mut(offset..)?.get_mut(..len)?;
                let arena = (&*self.arena, &[][..], self.arena.len());
                Some((Rest::new(arena, self.data, self.inputs, (before, after)), bytes))
            }
            Section::Data | Section::Input(_) => None,
        }
    }

    /// Like [`split`](Self::split), with the output holding `input` already.
    #[inline]
    pub(super) fn in_place(&mut self, input: Operand, output: Operand) -> Option<(Rest<'_, I, O>, &mut [u8])> {
        let (rest, bytes) = self.split(output)?;
        if input != output {
            let input = rest.operand(input)?;
            bytes.get_mut(..input.len())?.copy_from_slice(input);
        }
        Some((rest, bytes))
    }
}

impl<'m, I: AsRef<[u8]>, O: AsRef<[u8]>> Rest<'m, I, O> {
    #[inline]
    fn new(
        (before, after, after_offset): (&'m [u8], &'m [u8], usize),
        data: &'m [u8],
        inputs: &'m [I],
        (outputs_before, outputs_after): (&'m [O], &'m [O]),
    ) -> Self {
        Self { before, after, after_offset, data, inputs, outputs_before, outputs_after }
    }

    /// A tensor, wherever it lies.
    #[inline]
    pub(super) fn operand(&self, Operand { section, offset, len }: Operand) -> Option<&'m [u8]> {
        let (bytes, offset) = match section {
            Section::Arena => match offset.checked_sub(self.after_offset) {
                Some(offset) => (self.after, offset),
                None => (self.before, offset),
            },
            Section::Data => (self.data, offset),
            Section::Input(index) => (self.inputs.get(index)?.as_ref(), offset),
            Section::Output(index) => (self.output(index)?.as_ref(), offset),
        };
        bytes.get(offset..)?.get(..len)
    }

    /// A constant.
    #[inline]
    pub(super) fn data(&self, span: DataSpan) -> Option<&'m [u8]> {
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
pub(super) fn cast<T: AnyBitPattern>(bytes: &[u8]) -> Option<&[T]> {
    bytemuck::try_cast_slice(bytes).ok()
}

/// Bytes as elements; `None` if they are not aligned.
#[inline]
pub(super) fn cast_mut<T: AnyBitPattern + NoUninit + Pod>(bytes: &mut [u8]) -> Option<&mut [T]> {
    bytemuck::try_cast_slice_mut(bytes).ok()
}
