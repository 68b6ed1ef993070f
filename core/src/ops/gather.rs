//! Looking elements up by index.

use super::{Operation, of_size, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::gather;
use crate::plan::rules::{check_along, check_element, check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, DataSpan, Fault, FieldFault, Operand, Section, Verifier};
use crate::shape::Along;

record! {
    /// `input[o, indices[j], i]` at `[o, j, i]`, or `input[o, indices[o, j, i], i]`. A negative index counts
    /// from the end. One outside of the dimension stops the run.
    pub struct Gather {
        /// `[outer, len, inner]`.
        input: Operand,
        /// i64 `[count]`, or `[outer, count, inner]`.
        indices: Operand,
        /// `[outer, count, inner]`.
        output: Operand,
        /// Bytes of an element: 1, 4 or 8.
        element_bytes: usize,
        /// The dimension that indices count along.
        along: Along,
        /// How many are looked up along it.
        count: usize,
        /// Whether each element has an index of its own.
        each: bool,
    }
}

impl Operation for Gather {
    operands!(input, indices => output);

    fn dtype(&self) -> DType {
        of_size(self.element_bytes)
    }

    fn looks_up(&self) -> bool {
        self.indices.section != Section::Data
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let Self { input, indices, output, element_bytes, along, count, each } = *self;
        check_element("element_bytes", element_bytes)?;
        check_along(plan, &along, (input, element_bytes), (output, count, element_bytes))?;
        let looked_up = if each { [along.outer, count, along.inner] } else { [1, count, 1] };
        check_tensor(plan, "indices", indices, &looked_up, 8)?;
        if self.looks_up() {
            return Ok(());
        }
        let stored = DataSpan { offset: indices.offset, len: indices.len };
        let stored = plan.block::<i64>("indices", stored, indices.len / 8)?;
        let inside = stored.iter().all(|&index| gather::position(index, along.len).is_some());
        require(inside, "indices", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (input, indices) = (rest.operand(self.input)?, cast(rest.operand(self.indices)?)?);
        match self.element_bytes {
            8 => gather::gather::<u64>(cast(input)?, indices, cast_mut(output)?, self),
            4 => gather::gather::<u32>(cast(input)?, indices, cast_mut(output)?, self),
            _ => gather::gather(input, indices, output, self),
        }
    }
}
