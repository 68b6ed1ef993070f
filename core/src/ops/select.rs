//! Choosing between two tensors.

use super::{Operation, of_size, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::copy;
use crate::plan::rules::{check_element, check_repeats, check_tensor};
use crate::plan::wire::record;
use crate::plan::{DType, FieldFault, Operand, Verifier};

record! {
    /// `a` where the condition holds, else `b`. All three are repeated along the output.
    pub struct Select {
        /// bool, of a number that divides the output's.
        condition: Operand,
        /// Of a number that divides the output's.
        a: Operand,
        /// Of a number that divides the output's.
        b: Operand,
        /// Elements of any type.
        output: Operand,
        /// Bytes of an element: 1, 4 or 8.
        element_bytes: usize,
    }
}

impl Operation for Select {
    operands!(condition, a, b => output);

    fn dtype(&self) -> DType {
        of_size(self.element_bytes)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_element("element_bytes", self.element_bytes)?;
        let elements = self.output.len / self.element_bytes;
        check_tensor(plan, "output", self.output, &[elements], self.element_bytes)?;
        check_repeats(plan, "condition", self.condition, 1, elements)?;
        check_repeats(plan, "a", self.a, self.element_bytes, elements)?;
        check_repeats(plan, "b", self.b, self.element_bytes, elements)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (condition, a, b) = (rest.operand(self.condition)?, rest.operand(self.a)?, rest.operand(self.b)?);
        match self.element_bytes {
            8 => copy::select::<u64>(condition, cast(a)?, cast(b)?, cast_mut(output)?),
            4 => copy::select::<u32>(condition, cast(a)?, cast(b)?, cast_mut(output)?),
            _ => copy::select(condition, a, b, output),
        }
        Some(())
    }
}
