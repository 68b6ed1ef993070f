//! Products of matrices that are both computed.

use core::ops::Range;

use super::{Lines, Operation, lines, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::conv::MAX_SIZE;
use crate::kernels::matmul::Product;
use crate::kernels::matmul_s8::{MAX_INNER, ProductS8};
use crate::plan::rules::{check_multiplier, check_requantize, check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{ArenaSpan, DType, Fault, FieldFault, Operand, Verifier};
use crate::shape::Requantize;

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
        let sizes = [("rows", self.rows), ("inner", self.inner), ("cols", self.cols)];
        sizes.iter().try_for_each(|(field, size)| require(*size > 0, field, Fault::OutOfRange))?;
        check_counts(self.count, self.a_count, self.b_count)?;
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

record! {
    /// `output[i] = a[i] * b[i]` on integers, for each of some matrices, repeated as those of [`MatMulF32`] are:
    /// `acc = sum (a - a_zero_point) * (b - b_zero_point)` in i32, then [`Requantize`] with `multiplier`.
    pub struct MatMulS8 {
        /// i8 `[a_count, rows, inner]`.
        a: Operand,
        /// i8 `[b_count, inner, cols]`, or `[b_count, cols, inner]`.
        b: Operand,
        /// i8 `[count, rows, cols]`.
        output: Operand,
        /// Matrices of the output.
        count: usize,
        /// Matrices of `a`, which divide those of the output.
        a_count: usize,
        /// Matrices of `b`, which divide those of the output.
        b_count: usize,
        /// Rows of a matrix of `a`.
        rows: usize,
        /// What is summed over: at most 33025 products, whose sums are exact.
        inner: usize,
        /// Columns of a matrix of `b`.
        cols: usize,
        /// Whether the matrices of `b` lie the other way round, so that each column is in one piece.
        turned: bool,
        /// Zero point of `a`.
        a_zero_point: i8,
        /// Zero point of `b`.
        b_zero_point: i8,
        /// `a_scale * b_scale / output_scale`.
        multiplier: f32,
        /// From the accumulator to the output.
        requantize: Requantize,
        /// What the kernel works in, `b` as it is packed at each run included;
        /// [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl MatMulS8 {
    fn product(&self) -> ProductS8 {
        let MatMulS8 { rows, inner, cols, turned, a_zero_point, b_zero_point, multiplier, requantize, .. } = *self;
        let sizes = Product { rows, inner, cols };
        ProductS8 { sizes, turned, a_zero_point, b_zero_point, multiplier, requantize }
    }
}

impl Operation for MatMulS8 {
    operands!(a, b => output, scratch);

    fn macs(&self) -> u64 {
        [self.count, self.rows, self.inner, self.cols].iter().map(|&size| size as u64).product()
    }

    /// Matrices, or the rows of one: each part packs what it multiplies with.
    fn lines(&self, _: Isa) -> Lines {
        match self.count {
            1 => Lines { count: self.rows, unit: 8 },
            count if [self.a_count, self.b_count].iter().all(|own| *own == count || *own == 1) => Lines::of(count),
            _ => Lines::WHOLE,
        }
    }

    fn cut(&mut self, lines: Range<usize>) {
        if self.count == 1 {
            self.rows = lines.len();
            lines::cut(&mut self.a, &lines, self.inner);
            lines::cut(&mut self.output, &lines, self.cols);
            return;
        }
        lines::cut(&mut self.output, &lines, self.rows * self.cols);
        if self.a_count > 1 {
            lines::cut(&mut self.a, &lines, self.rows * self.inner);
            self.a_count = lines.len();
        }
        if self.b_count > 1 {
            lines::cut(&mut self.b, &lines, self.inner * self.cols);
            self.b_count = lines.len();
        }
        self.count = lines.len();
    }

    fn scratch_bytes(&self, isa: Isa) -> usize {
        self.product().scratch_len(isa)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        for (field, size, most) in
            [("rows", self.rows, MAX_SIZE), ("inner", self.inner, MAX_INNER), ("cols", self.cols, MAX_SIZE)]
        {
            require((1..=most).contains(&size), field, Fault::OutOfRange)?;
        }
        check_counts(self.count, self.a_count, self.b_count)?;
        check_multiplier("multiplier", self.multiplier)?;
        check_requantize(&self.requantize)?;
        check_tensor(plan, "a", self.a, &[self.a_count, self.rows, self.inner], 1)?;
        check_tensor(plan, "b", self.b, &[self.b_count, self.inner, self.cols], 1)?;
        check_tensor(plan, "output", self.output, &[self.count, self.rows, self.cols], 1)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output, scratch) = memory.split_scratch(self.output, self.scratch)?;
        let (a, b) = (cast(rest.operand(self.a)?)?, cast(rest.operand(self.b)?)?);
        self.product().run(isa, a, b, cast_mut(output)?, scratch).then_some(())
    }
}

/// There are matrices, and as many of the output as make those of both operands go round.
fn check_counts(count: usize, a_count: usize, b_count: usize) -> Result<(), FieldFault> {
    for (field, own) in [("a_count", a_count), ("b_count", b_count)] {
        require(own > 0 && count.is_multiple_of(own), field, Fault::OutOfRange)?;
    }
    require(count > 0, "count", Fault::OutOfRange)
}
