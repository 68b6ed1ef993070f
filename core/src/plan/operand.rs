//! What ops work on.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::error::Fault;
use super::wire::{DataSpan, Wire, Words, record};

/// Where an operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Section {
    /// In the arena: an activation.
    #[default]
    Arena,
    /// In the plan's data section: a constant.
    Data,
    /// In the slice that the caller gives for this input of the network, which is read and never written.
    Input(usize),
    /// In the slice that the caller gives for this output of the network.
    Output(usize),
}

impl Section {
    /// Whether an op may write there.
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Arena | Self::Output(_))
    }
}

/// One word: which section in the low byte, and above it which input or output.
impl Wire for Section {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(words: &mut Words<'_>) -> Self {
        let word = u32::read(words);
        let index = (word >> 8) as usize;
        match (word & 0xff, index) {
            (0, 0) => Self::Arena,
            (1, 0) => Self::Data,
            (2, _) => Self::Input(index),
            (3, _) => Self::Output(index),
            _ => {
                words.refuse(Fault::UnknownCode);
                Self::Arena
            }
        }
    }

    /// An index that does not fit is written as a code that no verified plan contains.
    fn write(&self, out: &mut impl FnMut(u32)) {
        let (code, index) = match *self {
            Self::Arena => (0, 0),
            Self::Data => (1, 0),
            Self::Input(index) => (2, index),
            Self::Output(index) => (3, index),
        };
        let word = u32::try_from(index).ok().and_then(|index| index.checked_mul(1 << 8));
        out(word.map_or(u32::MAX, |index| index | code));
    }
}

record! {
    /// Bytes that an op reads or writes: a tensor, dense unless the op says otherwise.
    #[derive(Default, Eq)]
    pub struct Operand {
        /// Which section it lies in.
        section: Section,
        /// Bytes from the start of the section.
        offset: usize,
        /// Length in bytes.
        len: usize,
    }
}

impl Operand {
    /// Bytes of the arena.
    pub const fn arena(offset: usize, len: usize) -> Self {
        Self { section: Section::Arena, offset, len }
    }

    /// The first `len` bytes of an input of the network.
    pub const fn input(index: usize, len: usize) -> Self {
        Self { section: Section::Input(index), offset: 0, len }
    }

    /// The first `len` bytes of an output of the network.
    pub const fn output(index: usize, len: usize) -> Self {
        Self { section: Section::Output(index), offset: 0, len }
    }
}

record! {
    /// Bytes of the arena that hold no tensor: the scratch of a kernel. It holds something while its op
    /// runs and at no other time, so that tensors may lie there before and after. Empty where a kernel
    /// takes none.
    #[derive(Default, Eq)]
    pub struct ArenaSpan {
        /// Bytes from the start of the arena.
        offset: usize,
        /// Length in bytes.
        len: usize,
    }
}

impl From<ArenaSpan> for Operand {
    fn from(span: ArenaSpan) -> Self {
        Self::arena(span.offset, span.len)
    }
}

impl From<DataSpan> for Operand {
    fn from(span: DataSpan) -> Self {
        Self { section: Section::Data, offset: span.offset, len: span.len }
    }
}
