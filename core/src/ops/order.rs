//! Where the largest and smallest elements lie.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::order;
use crate::plan::rules::{check_along, require};
use crate::plan::wire::record;
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};
use crate::shape::Along;

record! {
    /// Index of the largest or smallest element along one dimension. NaN is passed over.
    pub struct ExtremeF32 {
        /// f32 `[outer, len, inner]`.
        input: Operand,
        /// i64 `[outer, inner]`.
        output: Operand,
        /// The dimension.
        along: Along,
        /// The smallest, and not the largest.
        smallest: bool,
        /// Of equals the last, and not the first.
        last: bool,
    }
}

impl Operation for ExtremeF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::I64
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_along(plan, &self.along, (self.input, 4), (self.output, 1, 8))
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        order::extreme(cast(rest.operand(self.input)?)?, cast_mut(output)?, self);
        Some(())
    }
}

record! {
    /// Indices of the `count` largest or smallest elements along one dimension, the most extreme first and of
    /// equals the one with the lower index. NaN is the least extreme.
    pub struct TopF32 {
        /// f32 `[outer, len, inner]`.
        input: Operand,
        /// i64 `[outer, count, inner]`.
        output: Operand,
        /// The dimension.
        along: Along,
        /// How many.
        count: usize,
        /// The smallest, and not the largest.
        smallest: bool,
    }
}

impl Operation for TopF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::I64
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        require((1..=self.along.len).contains(&self.count), "count", Fault::OutOfRange)?;
        check_along(plan, &self.along, (self.input, 4), (self.output, self.count, 8))
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        order::top(cast(rest.operand(self.input)?)?, cast_mut(output)?, self);
        Some(())
    }
}
