//! Layer, instance and group norms.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::norm;
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, DataSpan, Fault, FieldFault, Operand, Verifier};

record! {
    /// `(x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c]` over rows: the mean, and the mean square of what is
    /// left, are those of the row, in eight lanes like the sums of [`SoftmaxS8`](super::SoftmaxS8). May work in place.
    ///
    /// The channel `c` of element `i` of the tensor is `i / run % channels`: with a run of 1 and as many channels as
    /// columns each value of a row has its own (a layer norm), with one as long as the row each row has (an instance norm).
    pub struct NormalizeF32 {
        /// f32 `[rows, cols]`.
        input: Operand,
        /// f32 `[rows, cols]`.
        output: Operand,
        /// Independent rows.
        rows: usize,
        /// Values in a row.
        cols: usize,
        /// Neighbours that share a channel, which divide the columns.
        run: usize,
        /// How many values `scale` and `bias` have.
        channels: usize,
        /// f32 `[channels]`.
        scale: DataSpan,
        /// f32 `[channels]`.
        bias: DataSpan,
        /// Added to the variance.
        epsilon: f32,
    }
}

impl Operation for NormalizeF32 {
    operands!(input => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.scale, self.bias, DataSpan::default()]
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let Self { rows, cols, run, channels, epsilon, .. } = *self;
        check_tensor(plan, "input", self.input, &[rows, cols], 4)?;
        check_tensor(plan, "output", self.output, &[rows, cols], 4)?;
        require(channels > 0, "channels", Fault::OutOfRange)?;
        require(run > 0 && cols.is_multiple_of(run), "run", Fault::OutOfRange)?;
        require(epsilon.is_finite() && epsilon >= 0.0, "epsilon", Fault::OutOfRange)?;
        plan.block::<f32>("scale", self.scale, channels)?;
        plan.block::<f32>("bias", self.bias, channels).map(|_| ())
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.in_place(self.input, self.output)?;
        let (scale, bias) = (cast(rest.data(self.scale)?)?, cast(rest.data(self.bias)?)?);
        norm::normalize_f32(isa, cast_mut(output)?, self.cols, self.run, scale, bias, self.epsilon);
        Some(())
    }
}
