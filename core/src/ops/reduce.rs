//! From all elements along a dimension to one.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::reduce;
use crate::plan::rules::check_along;
use crate::plan::wire::{codes, record};
use crate::plan::{DType, FieldFault, Operand, Verifier};
use crate::shape::Along;

record! {
    /// `function` of the elements along one dimension. Along the last one sums are in eight lanes
    /// (`lane = i % 8`, then `((0+4)+(2+6))+((1+5)+(3+7))`), along any other from the first to the last.
    /// Maximum and minimum keep NaN.
    pub struct ReduceF32 {
        /// f32 `[outer, len, inner]`.
        input: Operand,
        /// f32 `[outer, inner]`.
        output: Operand,
        /// The dimension.
        along: Along,
        /// What is computed.
        function: Reduction,
    }
}

impl Operation for ReduceF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_along(plan, &self.along, (self.input, 4), (self.output, 1, 4))
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        reduce::reduce_f32(isa, cast(rest.operand(self.input)?)?, cast_mut(output)?, &self.along, self.function);
        Some(())
    }
}

codes! {
    /// A function of many f32 values.
    Reduction {
        /// `sum x`
        Sum = 0,
        /// `(sum x) / count`
        Mean = 1,
        /// The largest.
        Max = 2,
        /// The smallest.
        Min = 3,
        /// `product x`
        Product = 4,
        /// `sum |x|`
        L1 = 5,
        /// `sqrt(sum x * x)`
        L2 = 6,
        /// `sum x * x`
        SumSquare = 7,
        /// `log(sum x)`
        LogSum = 8,
        /// `m + log(sum exp(x - m))`, `m` being the largest, or 0 where that is infinite.
        LogSumExp = 9,
    }
}
