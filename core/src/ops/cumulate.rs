//! Sums of all elements so far.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::plan::rules::check_along;
use crate::plan::wire::record;
use crate::plan::{DType, FieldFault, Operand, Verifier};
use crate::shape::Along;

record! {
    /// The sum of the elements up to each one along a dimension.
    pub struct CumulateF32 {
        /// f32 `[outer, len, inner]`.
        input: Operand,
        /// f32 `[outer, len, inner]`.
        output: Operand,
        /// The dimension.
        along: Along,
        /// Whether an element's own value is left out.
        exclusive: bool,
        /// From the last to the first.
        reverse: bool,
    }
}

impl Operation for CumulateF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_along(plan, &self.along, (self.input, 4), (self.output, self.along.len, 4))
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input: &[f32] = cast(rest.operand(self.input)?)?;
        let output: &mut [f32] = cast_mut(output)?;
        let Along { len, inner, .. } = self.along;
        for (x, y) in input.chunks_exact(len * inner).zip(output.chunks_exact_mut(len * inner)) {
            for column in 0..inner {
                let mut sum = 0.0;
                for step in 0..len {
                    let index = if self.reverse { len - 1 - step } else { step } * inner + column;
                    let (x, y) = (*x.get(index)?, y.get_mut(index)?);
                    *y = if self.exclusive { sum } else { sum + x };
                    sum += x;
                }
            }
        }
        Some(())
    }
}
