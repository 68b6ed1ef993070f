//! What is true of every op: its record, what it reads, whether it works in place.

use super::error::FieldFault;
use super::op::*;
#[cfg(feature = "alloc")]
use super::operand::Section;
use super::operand::{ArenaSpan, Operand};
use super::wire::{NameSpan, Wire, Words};
use crate::isa::Isa;
use crate::kernels::{ConvKernel, conv_f32};

impl Op {
    /// What the op reads. The first may be the output itself where [`Op::in_place`] says so.
    pub fn inputs(&self) -> [Operand; 2] {
        let none = Operand::default();
        match *self {
            Self::ConvS8(ConvS8 { input, .. })
            | Self::MaxPoolS8(MaxPoolS8 { input, .. })
            | Self::AveragePoolS8(AveragePoolS8 { input, .. })
            | Self::LutS8(LutS8 { input, .. })
            | Self::SoftmaxS8(SoftmaxS8 { input, .. })
            | Self::Quantize(Quantize { input, .. })
            | Self::Dequantize(Dequantize { input, .. })
            | Self::StridedCopy(StridedCopy { input, .. })
            | Self::ConvF32(ConvF32 { input, .. })
            | Self::UnaryF32(UnaryF32 { input, .. })
            | Self::MaxPoolF32(MaxPoolF32 { input, .. })
            | Self::AveragePoolF32(AveragePoolF32 { input, .. })
            | Self::SoftmaxF32(SoftmaxF32 { input, .. }) => [input, none],
            Self::AddS8(AddS8 { a, b, .. })
            | Self::MulS8(MulS8 { a, b, .. })
            | Self::BinaryF32(BinaryF32 { a, b, .. }) => [a, b],
            Self::Fill(_) => [none, none],
        }
    }

    /// Moves every tensor that the op names, constants aside, to where `place` says it lies.
    #[cfg(feature = "alloc")]
    pub fn relocate(&mut self, place: impl Fn(Operand) -> Operand) {
        let (first, second, output) = match self {
            Self::ConvS8(ConvS8 { input, output, .. })
            | Self::MaxPoolS8(MaxPoolS8 { input, output, .. })
            | Self::AveragePoolS8(AveragePoolS8 { input, output, .. })
            | Self::LutS8(LutS8 { input, output, .. })
            | Self::SoftmaxS8(SoftmaxS8 { input, output, .. })
            | Self::Quantize(Quantize { input, output, .. })
            | Self::Dequantize(Dequantize { input, output, .. })
            | Self::StridedCopy(StridedCopy { input, output, .. })
            | Self::ConvF32(ConvF32 { input, output, .. })
            | Self::UnaryF32(UnaryF32 { input, output, .. })
            | Self::MaxPoolF32(MaxPoolF32 { input, output, .. })
            | Self::AveragePoolF32(AveragePoolF32 { input, output, .. })
            | Self::SoftmaxF32(SoftmaxF32 { input, output, .. }) => (Some(input), None, output),
            Self::AddS8(AddS8 { a, b, output, .. })
            | Self::MulS8(MulS8 { a, b, output, .. })
            | Self::BinaryF32(BinaryF32 { a, b, output, .. }) => (Some(a), Some(b), output),
            Self::Fill(Fill { output, .. }) => (None, None, output),
        };
        let named = [first, second, Some(output)].into_iter().flatten();
        named.filter(|operand| operand.section != Section::Data).for_each(|operand| *operand = place(*operand));
    }

    /// Whether the output may lie exactly where the first input does.
    pub const fn in_place(&self) -> bool {
        matches!(
            self,
            Self::AddS8(_)
                | Self::MulS8(_)
                | Self::LutS8(_)
                | Self::SoftmaxS8(_)
                | Self::BinaryF32(_)
                | Self::UnaryF32(_)
                | Self::SoftmaxF32(_)
        )
    }

    /// Where the scratch lies that the op works in.
    #[inline]
    pub const fn scratch(&self) -> ArenaSpan {
        match self {
            Self::ConvS8(op) => op.scratch,
            Self::ConvF32(op) => op.scratch,
            _ => ArenaSpan { offset: 0, len: 0 },
        }
    }

    /// The op with as much scratch as it takes on `isa`, at `offset` in the arena.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn with_scratch_at(mut self, isa: Isa, offset: usize) -> Self {
        let len = self.scratch_bytes(isa);
        if let Self::ConvS8(ConvS8 { scratch, .. }) | Self::ConvF32(ConvF32 { scratch, .. }) = &mut self
            && len > 0
        {
            *scratch = ArenaSpan { offset, len };
        }
        self
    }

    /// Bytes of scratch that the op takes on `isa`.
    pub fn scratch_bytes(&self, isa: Isa) -> usize {
        match self {
            Self::ConvS8(op) => ConvKernel::of(&op.shape).scratch_len(isa, &op.shape),
            Self::ConvF32(op) => conv_f32::scratch_len(&op.shape),
            _ => 0,
        }
    }

    /// Whether the output's elements are f32, and not i8.
    pub const fn writes_f32(&self) -> bool {
        match self {
            Self::Dequantize(_)
            | Self::ConvF32(_)
            | Self::BinaryF32(_)
            | Self::UnaryF32(_)
            | Self::MaxPoolF32(_)
            | Self::AveragePoolF32(_)
            | Self::SoftmaxF32(_) => true,
            Self::StridedCopy(StridedCopy { element_bytes, .. }) | Self::Fill(Fill { element_bytes, .. }) => {
                *element_bytes == 4
            }
            _ => false,
        }
    }
}

/// An op and where its name lies in the string table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OpRecord {
    pub(super) name: NameSpan,
    pub(super) op: Op,
}

impl OpRecord {
    #[inline]
    pub(super) fn decode(bytes: &[u8; OP_BYTES]) -> Result<Self, (&'static str, FieldFault)> {
        let mut words = Words::new(bytes);
        let name = NameSpan::read(&mut words).map_err(|fault| ("", fault.within("name")))?;
        let code = u32::read(&mut words).map_err(|fault| ("", fault.within("kind")))?;
        Ok(Self { name, op: Op::read(code, &mut words)? })
    }

    /// Hands out exactly [`OP_WORDS`] words.
    #[cfg(feature = "alloc")]
    pub(super) fn encode(&self, out: &mut impl FnMut(u32)) {
        let mut written = 0;
        let mut count = |word| {
            written += 1;
            out(word);
        };
        self.name.write(&mut count);
        self.op.write(&mut count);
        (written..OP_WORDS).for_each(|_| out(0));
    }
}
