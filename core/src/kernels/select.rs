//! Which of the int8 convolution kernels a shape takes.

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::{ConvArgs, Form, Results};
use super::{conv, depthwise};

/// The int8 convolution kernel of a shape: a function of the shape and the form of its weights alone, so that packing and
/// running agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvKernel {
    /// Of each output channel all inputs, or those of a group, [`conv`].
    Dense(Form),
    /// A group of one output for each input channel, [`depthwise`].
    Depthwise,
}

impl ConvKernel {
    /// The kernel for `shape`; only one in one group has a choice of forms.
    pub const fn of(shape: &ConvShape, form: Form) -> Self {
        match shape.groups {
            1 => Self::Dense(form),
            groups if groups == shape.window.in_c && groups == shape.out_c => Self::Depthwise,
            _ => Self::Dense(Form::Compact),
        }
    }

    /// Bytes that packed weights take at most.
    pub fn max_packed_len(self, isa: Isa, shape: &ConvShape) -> usize {
        match self {
            Self::Dense(form) => conv::max_packed_len(isa, shape, form),
            Self::Depthwise => depthwise::max_packed_len(isa, shape),
        }
    }

    /// Bytes that these OHWI `weights` take once they are packed, which for some is worked out like packing itself.
    pub fn packed_len(self, isa: Isa, shape: &ConvShape, weights: &[i8]) -> usize {
        match self {
            Self::Dense(form) => conv::packed_len(isa, shape, form, weights),
            _ => self.max_packed_len(isa, shape),
        }
    }

    /// Lays out OHWI `weights` for `isa` in `dst`, which has from [`ConvKernel::packed_len`] to
    /// [`ConvKernel::max_packed_len`] bytes; returns how many they take.
    pub fn pack(self, isa: Isa, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) -> usize {
        match self {
            Self::Dense(form) => conv::pack(isa, shape, form, weights, dst),
            Self::Depthwise => depthwise::pack(isa, shape, weights, dst),
        }
    }

    /// Whether `packed` is laid out as [`ConvKernel::pack`] does it for `shape`.
    pub fn holds(self, isa: Isa, shape: &ConvShape, packed: &[u8]) -> bool {
        match self {
            Self::Dense(form) => conv::holds(isa, shape, form, packed),
            Self::Depthwise => depthwise::holds(isa, shape, packed),
        }
    }

    /// Lines of which parts are multiples so that weights packed for all of `shape` serve them; `None` if it goes
    /// whole.
    pub fn line_unit(self, isa: Isa, shape: &ConvShape) -> Option<usize> {
        match self {
            Self::Dense(form) => conv::line_unit(isa, shape, form),
            Self::Depthwise => depthwise::line_unit(isa, shape),
        }
    }

    /// Bytes of scratch that a run works in.
    pub fn scratch_len(self, isa: Isa, shape: &ConvShape) -> usize {
        match self {
            Self::Dense(form) => conv::scratch_len(isa, shape, form),
            Self::Depthwise => depthwise::scratch_len(isa, shape),
        }
    }

    /// Convolves, and returns whether it did: what does not fit leaves `output` as it was.
    pub fn run(
        self,
        isa: Isa,
        shape: &ConvShape,
        args: &ConvArgs<'_>,
        output: Results<'_>,
        scratch: &mut [u8],
    ) -> bool {
        match self {
            Self::Dense(form) => conv::run(isa, shape, form, args, output, scratch),
            Self::Depthwise => depthwise::run(isa, shape, args, output, scratch),
        }
    }
}
