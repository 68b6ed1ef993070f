//! From an index to a row that is one value but for one place.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::gather;
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};

record! {
    /// `on` at `[o, indices[o, i], i]`, `off` everywhere else. A negative index counts from the end; one
    /// outside of the depth is nowhere.
    pub struct OneHotF32 {
        /// i64 `[outer, inner]`.
        indices: Operand,
        /// f32 `[outer, depth, inner]`.
        output: Operand,
        /// How many places there are.
        depth: usize,
        /// Elements of the dimensions after it.
        inner: usize,
        /// Where the index does not point.
        off: f32,
        /// Where it does.
        on: f32,
    }
}

impl Operation for OneHotF32 {
    operands!(indices => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let count = self.indices.len / 8;
        require(self.depth > 0, "depth", Fault::OutOfRange)?;
        require(self.inner > 0 && count.is_multiple_of(self.inner), "inner", Fault::OutOfRange)?;
        check_tensor(plan, "indices", self.indices, &[count], 8)?;
        check_tensor(plan, "output", self.output, &[count, self.depth], 4)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let indices: &[i64] = cast(rest.operand(self.indices)?)?;
        let output: &mut [f32] = cast_mut(output)?;
        output.fill(self.off);
        let rows = output.chunks_exact_mut(self.depth * self.inner).zip(indices.chunks_exact(self.inner));
        for (output, indices) in rows {
            for (at, &index) in indices.iter().enumerate() {
                if let Some(position) = gather::position(index, self.depth) {
                    *output.get_mut(position * self.inner + at)? = self.on;
                }
            }
        }
        Some(())
    }
}
