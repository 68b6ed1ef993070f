//! Softmax over rows.

use core::ops::Range;

use super::lines::cut;
use super::{Lines, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::softmax;
use crate::plan::rules::{check_requantize, check_scale, check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{DType, DataSpan, Fault, FieldFault, Operand, Verifier};
use crate::shape::Requantize;

record! {
    /// Softmax over rows: `e[i] = exp_table[row_max - x[i]]`, `s = sum e` in eight lanes
    /// (`lane = i % 8`, then `((0+4)+(2+6))+((1+5)+(3+7))`), and
    /// `clamp(round((e[i] / s) / output_scale) + zero_point)`. May work in place.
    pub struct SoftmaxS8 {
        /// i8 `[rows, cols]`.
        input: Operand,
        /// i8 `[rows, cols]`.
        output: Operand,
        /// Independent rows.
        rows: usize,
        /// Values in a row.
        cols: usize,
        /// f32 `[256]`: `exp(-d * input_scale)` at `d`.
        exp_table: DataSpan,
        /// Scale of the output.
        output_scale: f32,
        /// Zero point and range of the output.
        requantize: Requantize,
    }
}

impl Operation for SoftmaxS8 {
    operands!(input => output);

    fn in_place(&self) -> bool {
        true
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.exp_table, DataSpan::default(), DataSpan::default()]
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.rows)
    }

    fn cut(&mut self, lines: Range<usize>) {
        self.rows = lines.len();
        cut(&mut self.input, &lines, self.cols);
        cut(&mut self.output, &lines, self.cols);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.rows, self.cols], 1)?;
        check_tensor(plan, "output", self.output, &[self.rows, self.cols], 1)?;
        check_scale("output_scale", self.output_scale)?;
        check_requantize(&self.requantize)?;
        // A first entry of 1 keeps every sum at or above 1.
        let table = plan.block::<f32>("exp_table", self.exp_table, 256)?;
        let legal = table.iter().all(|value| (0.0..=1.0).contains(value));
        require(legal && table.first() == Some(&1.0), "exp_table", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.in_place(self.input, self.output)?;
        let table: &[f32] = cast(rest.data(self.exp_table)?)?;
        let table = table.try_into().ok()?;
        let output = cast_mut(output)?;
        softmax::softmax_s8(isa, output, self.cols, table, self.output_scale, &self.requantize);
        Some(())
    }
}

record! {
    /// Softmax over rows. May work in place.
    pub struct SoftmaxF32 {
        /// f32 `[rows, cols]`.
        input: Operand,
        /// f32 `[rows, cols]`.
        output: Operand,
        /// Independent rows.
        rows: usize,
        /// Values in a row.
        cols: usize,
    }
}

impl Operation for SoftmaxF32 {
    operands!(input => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.rows)
    }

    fn cut(&mut self, lines: Range<usize>) {
        self.rows = lines.len();
        cut(&mut self.input, &lines, 4 * self.cols);
        cut(&mut self.output, &lines, 4 * self.cols);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.rows, self.cols], 4)?;
        check_tensor(plan, "output", self.output, &[self.rows, self.cols], 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (_, output) = memory.in_place(self.input, self.output)?;
        softmax::softmax_f32(isa, cast_mut(output)?, self.cols);
        Some(())
    }
}
