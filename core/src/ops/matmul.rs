//! Products of matrices that are both computed.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::matmul::Product;
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{ArenaSpan, DType, Fault, FieldFault, Operand, Verifier};

record! {
    /// `output[i] = a[i] * b[i]` for each of some matrices, those of `a` and those of `b` repeated where they are
    /// fewer. Sums are in an order that differs between instruction sets.
    pub struct MatMulF32 {
        /// f32 `[a_count, rows, inner]`.
        a: Operand,
        /// f32 `[b_count, inner, cols]`.
        b: Operand,
        /// f32 `[count, rows, cols]`.
        output: Operand,
        /// Matrices of the output.
        count: usize,
        /// Matrices of `a`, which divide those of the output.
        a_count: usize,
        /// Matrices of `b`, which divide those of the output.
        b_count: usize,
        /// Rows of a matrix of `a`.
        rows: usize,
        /// What is summed over.
        inner: usize,
        /// Columns of a matrix of `b`.
        cols: usize,
        /// What the kernel works in; [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl MatMulF32 {
    fn product(&self) -> Product {
        Product { rows: self.rows, inner: self.inner, cols: self.cols }
    }
}

impl Operation for MatMulF32 {
    operands!(a, b => output, scratch);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn macs(&self) -> u64 {
        [self.count, self.rows, self.inner, self.cols].iter().map(|&size| size as u64).product()
    }

    fn scratch_bytes(&self, _: Isa) -> usize {
        self.product().scratch_len().saturating_mul(4)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let sizes = [("rows", self.rows), ("inner", self.inner), ("cols", self.cols), ("count", self.count)];
        sizes.iter().try_for_each(|(field, size)| require(*size > 0, field, Fault::OutOfRange))?;
        for (field, count) in [("a_count", self.a_count), ("b_count", self.b_count)] {
            require(count > 0 && self.count.is_multiple_of(count), field, Fault::OutOfRange)?;
        }
        check_tensor(plan, "a", self.a, &[self.a_count, self.rows, self.inner], 4)?;
        check_tensor(plan, "b", self.b, &[self.b_count, self.inner, self.cols], 4)?;
        check_tensor(plan, "output", self.output, &[self.count, self.rows, self.cols], 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output, scratch) = memory.split_scratch(self.output, self.scratch)?;
        let (a, b) = (cast(rest.operand(self.a)?)?, cast(rest.operand(self.b)?)?);
        self.product().run(isa, a, b, cast_mut(output)?, cast_mut(scratch)?).then_some(())
    }
}
