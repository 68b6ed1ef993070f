//! Which of the int8 convolution kernels a shape takes.

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::ConvArgs;
use super::{conv, depthwise, grouped};

/// The int8 convolution kernel of a shape: a function of the shape alone, so that packing and
/// running agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvKernel {
    /// One group, [`conv`].
    Dense,
    /// One group for each input channel, [`depthwise`].
    Depthwise,
    /// Anything between, [`grouped`].
    Grouped,
}

impl ConvKernel {
    /// The kernel for `shape`.
    pub const fn of(shape: &ConvShape) -> Self {
        match shape.groups {
            1 => Self::Dense,
            groups if groups == shape.window.in_c => Self::Depthwise,
            _ => Self::Grouped,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(self, isa: Isa, shape: &ConvShape) -> usize {
        match self {
            Self::Dense => conv::packed_len(isa, shape),
            Self::Depthwise => depthwise::packed_len(isa, shape),
            Self::Grouped => grouped::packed_len(isa, shape),
        }
    }

    /// Lays out OHWI `weights` for `isa` in `dst`, which has [`ConvKernel::packed_len`] bytes.
    pub fn pack(self, isa: Isa, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
        match self {
            Self::Dense => conv::pack(isa, shape, weights, dst),
            Self::Depthwise => depthwise::pack(isa, shape, weights, dst),
            Self::Grouped => grouped::pack(isa, shape, weights, dst),
        }
    }

    /// Bytes of scratch that a run works in.
    pub fn scratch_len(self, isa: Isa, shape: &ConvShape) -> usize {
        match self {
            Self::Dense => conv::scratch_len(isa, shape),
            Self::Depthwise => depthwise::scratch_len(isa, shape),
            Self::Grouped => grouped::scratch_len(isa, shape),
        }
    }

    /// Convolves.
    pub fn run(self, isa: Isa, shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) {
        match self {
            Self::Dense => conv::run(isa, shape, args, output, scratch),
            Self::Depthwise => depthwise::run(isa, shape, args, output, scratch),
            Self::Grouped => grouped::run(isa, shape, args, output, scratch),
        }
    }
}
