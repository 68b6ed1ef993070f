//! What can be wrong with a plan.

use core::fmt;

/// Why a plan was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The bytes do not begin with [`MAGIC`](super::MAGIC).
    NotAPlan,
    /// The plan was written by another version of this crate.
    Version {
        /// The version that the plan states.
        found: u32,
    },
    /// The bytes do not start at a multiple of [`ALIGN`](super::ALIGN).
    Unaligned,
    /// The content does not match the checksum in the header.
    Checksum,
    /// The plan was packed for an instruction set that this CPU does not have.
    Isa(super::IsaName),
    /// A field of the header is wrong.
    Header(FieldFault),
    /// A field of an input's descriptor is wrong.
    Input(usize, FieldFault),
    /// A field of an output's descriptor is wrong.
    Output(usize, FieldFault),
    /// A field of an op's record is wrong.
    Op {
        /// Which op, in execution order.
        index: usize,
        /// Its kind, empty if that is what is wrong.
        kind: &'static str,
        /// The field, and what is wrong with it.
        fault: FieldFault,
    },
}

/// A field, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end before it.
    Truncated,
    /// It reaches outside the section it points into.
    OutOfBounds,
    /// Its offset is not a multiple of what its type needs.
    Unaligned,
    /// Its length is not what the shape implies.
    Length {
        /// Bytes that the shape implies.
        expected: usize,
        /// Bytes that the plan states.
        found: usize,
    },
    /// It is not laid out as weights of the shape are for the plan's instruction set.
    Packing,
    /// A product of sizes does not fit.
    Overflow,
    /// Its value is outside the legal range.
    OutOfRange,
    /// It is not a number, or infinite where it must be finite.
    NotFinite,
    /// It is no code of this version.
    UnknownCode,
    /// It is not UTF-8.
    NotUtf8,
    /// It lies over another operand, and the op cannot work in place there.
    Overlap,
    /// It reads bytes that nothing has written.
    Unwritten,
    /// Finding out whether all that it reads was written takes too long: too many ops wrote a part of it.
    TooManyWriters,
    /// It lies where nothing may be written.
    ReadOnly,
    /// The combination of parameters has no kernel.
    Unsupported,
}

impl FieldFault {
    pub(crate) const fn new(field: &'static str, fault: Fault) -> Self {
        Self { field, fault }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPlan => write!(f, "not a plan"),
            Self::Version { found } => {
                write!(f, "plan version {found}, this build runs version {}", super::VERSION)
            }
            Self::Unaligned => write!(f, "plan is not {}-byte aligned in memory", super::ALIGN),
            Self::Checksum => write!(f, "plan is damaged: checksum mismatch"),
            Self::Isa(name) => {
                write!(f, "plan is for instruction set {name}, which this CPU does not have")
            }
            Self::Header(fault) => write!(f, "plan header: {fault}"),
            Self::Input(index, fault) => write!(f, "plan input {index}: {fault}"),
            Self::Output(index, fault) => write!(f, "plan output {index}: {fault}"),
            Self::Op { index, kind, fault } => write!(f, "plan op {index} {kind}: {fault}"),
        }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "ends early"),
            Self::OutOfBounds => write!(f, "out of bounds"),
            Self::Unaligned => write!(f, "unaligned"),
            Self::Length { expected, found } => {
                write!(f, "{found} bytes where the shape implies {expected}")
            }
            Self::Packing => write!(f, "not packed as weights of this shape are for the plan's instruction set"),
            Self::Overflow => write!(f, "size overflows"),
            Self::OutOfRange => write!(f, "out of range"),
            Self::NotFinite => write!(f, "not finite"),
            Self::UnknownCode => write!(f, "unknown code"),
            Self::NotUtf8 => write!(f, "not UTF-8"),
            Self::Overlap => write!(f, "overlaps another operand"),
            Self::Unwritten => write!(f, "read before it is written"),
            Self::TooManyWriters => write!(f, "written by too many ops to verify"),
            Self::ReadOnly => write!(f, "lies where nothing may be written"),
            Self::Unsupported => write!(f, "no kernel for these parameters"),
        }
    }
}

impl core::error::Error for PlanError {}
