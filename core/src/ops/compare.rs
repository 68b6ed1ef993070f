//! Questions about elements, and logic on their answers.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast};
use crate::isa::Isa;
use crate::kernels::compare;
use crate::plan::rules::{check_repeats, check_tensor};
use crate::plan::wire::{codes, record};
use crate::plan::{DType, FieldFault, Operand, Verifier};

record! {
    /// 1 where `a` and `b` compare so, else 0; as IEEE 754 has it, so that NaN is unequal to all.
    /// `b` is repeated along `a`.
    pub struct CompareF32 {
        /// f32.
        a: Operand,
        /// f32, of a length that divides that of `a`.
        b: Operand,
        /// bool, as many as `a` has elements.
        output: Operand,
        /// What is asked.
        comparison: Comparison,
    }
}

impl Operation for CompareF32 {
    operands!(a, b => output);

    fn dtype(&self) -> DType {
        DType::Bool
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "a", self.a, &[self.output.len], 4)?;
        check_repeats(plan, "b", self.b, 4, self.output.len)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (a, b) = (cast(rest.operand(self.a)?)?, cast(rest.operand(self.b)?)?);
        compare::compare_f32(isa, a, b, output, self.comparison);
        Some(())
    }
}

codes! {
    /// A question about two values.
    Comparison {
        /// `a == b`
        Equal = 0,
        /// `a != b`
        NotEqual = 1,
        /// `a < b`
        Less = 2,
        /// `a <= b`
        LessOrEqual = 3,
        /// `a > b`
        Greater = 4,
        /// `a >= b`
        GreaterOrEqual = 5,
    }
}

record! {
    /// `function(a, b)`, `b` repeated along `a`. May work in place on `a`.
    pub struct LogicBool {
        /// bool, as long as the output.
        a: Operand,
        /// bool, of a length that divides that of `a`.
        b: Operand,
        /// bool.
        output: Operand,
        /// What is computed.
        function: Logic,
    }
}

impl Operation for LogicBool {
    operands!(a, b => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::Bool
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "a", self.a, &[self.output.len], 1)?;
        check_repeats(plan, "b", self.b, 1, self.output.len)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, a) = memory.in_place(self.a, self.output)?;
        compare::logic(isa, a, rest.operand(self.b)?, self.function);
        Some(())
    }
}

codes! {
    /// A function of two truth values.
    Logic {
        /// Both.
        And = 0,
        /// At least one.
        Or = 1,
        /// One and not the other.
        Xor = 2,
    }
}
