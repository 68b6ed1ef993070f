//! Sums by weights that do not fit int8 less their zero points: by what they are less something else, and put right behind.

use core::ops::Range;

use super::lines;
use super::{Lines, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::less::less_s32;
use crate::plan::rules::{check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{ALIGN, DType, Fault, FieldFault, Operand, Verifier};

record! {
    /// `x - shift * window_sum` in wrapping i32: of `x = sum v * w` and `window_sum = sum v` of the group that a channel is of, what
    /// weights that are each less by `shift` give. May work in place on `input`.
    pub struct LessS32 {
        /// i32 `[pixels, channels]`.
        input: Operand,
        /// i32 `[pixels, groups]`.
        window_sums: Operand,
        /// i32 `[channels]`.
        shifts: Operand,
        /// i32 `[pixels, channels]`.
        output: Operand,
        /// Channels, of each group as many.
        channels: usize,
        /// Groups.
        groups: usize,
    }
}

impl LessS32 {
    fn pixel_bytes(&self) -> usize {
        self.channels.saturating_mul(size_of::<i32>()).max(1)
    }
}

impl Operation for LessS32 {
    operands!(input, window_sums, shifts => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::I32
    }

    fn lines(&self, _: Isa) -> Lines {
        // No shorter than a line of a cache.
        Lines { count: self.output.len / self.pixel_bytes(), unit: ALIGN.div_ceil(self.pixel_bytes()) }
    }

    fn cut(&mut self, lines: Range<usize>) {
        let (pixel_bytes, group_bytes) = (self.pixel_bytes(), self.groups.saturating_mul(size_of::<i32>()));
        [&mut self.input, &mut self.output].into_iter().for_each(|operand| lines::cut(operand, &lines, pixel_bytes));
        lines::cut(&mut self.window_sums, &lines, group_bytes);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        require(self.channels > 0, "channels", Fault::OutOfRange)?;
        require(self.groups > 0 && self.channels.is_multiple_of(self.groups), "groups", Fault::OutOfRange)?;
        let pixels = self.input.len / self.pixel_bytes();
        check_tensor(plan, "input", self.input, &[pixels, self.channels], 4)?;
        check_tensor(plan, "window_sums", self.window_sums, &[pixels, self.groups], 4)?;
        check_tensor(plan, "shifts", self.shifts, &[self.channels], 4)?;
        check_tensor(plan, "output", self.output, &[pixels, self.channels], 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, sums) = memory.in_place(self.input, self.output)?;
        let (window_sums, shifts) = (cast(rest.operand(self.window_sums)?)?, cast(rest.operand(self.shifts)?)?);
        less_s32(isa, cast_mut(sums)?, window_sums, shifts, self.groups);
        Some(())
    }
}
