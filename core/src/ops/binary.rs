//! Functions of two tensors, element by element.

use core::ops::Range;

use super::lines::{cut_runs, runs};
use super::{Lines, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::binary;
use crate::plan::rules::{check_broadcast, check_multiplier, check_requantize, product, require};
use crate::plan::wire::{codes, record};
use crate::plan::{DType, Fault, FieldFault, Operand, Verifier};
use crate::shape::Requantize;

record! {
    /// `clamp(round((a - a_zero_point) * a_multiplier + (b - b_zero_point) * b_multiplier) + zero_point)`.
    /// `b` is repeated along `a`. May work in place on `a`.
    pub struct AddS8 {
        /// i8, as long as the output.
        a: Operand,
        /// i8, of a length that divides that of `a`.
        b: Operand,
        /// i8.
        output: Operand,
        /// `a_scale / output_scale`.
        a_multiplier: f32,
        /// `b_scale / output_scale`; negative to subtract.
        b_multiplier: f32,
        /// Zero point of `a`.
        a_zero_point: i8,
        /// Zero point of `b`.
        b_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }
}

impl Operation for AddS8 {
    operands!(a, b => output);

    fn in_place(&self) -> bool {
        true
    }

    fn lines(&self, _: Isa) -> Lines {
        runs(self.a, self.b)
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut_runs([&mut self.a, &mut self.b, &mut self.output], &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_broadcast(plan, self.a, self.b, self.output, 1)?;
        check_multiplier("a_multiplier", self.a_multiplier)?;
        check_multiplier("b_multiplier", self.b_multiplier)?;
        check_requantize(&self.requantize)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, a) = memory.in_place(self.a, self.output)?;
        binary::add_s8(isa, cast_mut(a)?, cast(rest.operand(self.b)?)?, self);
        Some(())
    }
}

record! {
    /// `clamp(round(((a - a_zero_point) * (b - b_zero_point)) * multiplier) + zero_point)`, the
    /// first product in i32. `b` is repeated along `a`. May work in place on `a`.
    pub struct MulS8 {
        /// i8, as long as the output.
        a: Operand,
        /// i8, of a length that divides that of `a`.
        b: Operand,
        /// i8.
        output: Operand,
        /// `a_scale * b_scale / output_scale`.
        multiplier: f32,
        /// Zero point of `a`.
        a_zero_point: i8,
        /// Zero point of `b`.
        b_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }
}

impl Operation for MulS8 {
    operands!(a, b => output);

    fn in_place(&self) -> bool {
        true
    }

    fn lines(&self, _: Isa) -> Lines {
        runs(self.a, self.b)
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut_runs([&mut self.a, &mut self.b, &mut self.output], &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_broadcast(plan, self.a, self.b, self.output, 1)?;
        check_multiplier("multiplier", self.multiplier)?;
        check_requantize(&self.requantize)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, a) = memory.in_place(self.a, self.output)?;
        binary::mul_s8(isa, cast_mut(a)?, cast(rest.operand(self.b)?)?, self);
        Some(())
    }
}

record! {
    /// `function(a, b)`, each value of `b` for `inner` elements of `a` in a row, and all of them repeated along
    /// `a`. May work in place on `a`.
    pub struct BinaryF32 {
        /// f32, as long as the output.
        a: Operand,
        /// f32; `inner` times its length divides that of `a`.
        b: Operand,
        /// f32.
        output: Operand,
        /// What is computed.
        function: Binary,
        /// Elements of `a` that meet one of `b` in a row.
        inner: usize,
        /// Lower bound of the output; may be infinite.
        min: f32,
        /// Upper bound of the output; may be infinite.
        max: f32,
    }
}

impl Operation for BinaryF32 {
    operands!(a, b => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn lines(&self, _: Isa) -> Lines {
        if self.inner == 1 { runs(self.a, self.b) } else { Lines::WHOLE }
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut_runs([&mut self.a, &mut self.b, &mut self.output], &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_broadcast(plan, self.a, self.b, self.output, 4)?;
        let run = product("inner", &[self.inner, self.b.len])?;
        require(run > 0 && self.a.len.is_multiple_of(run), "inner", Fault::OutOfRange)?;
        require(self.min <= self.max, "min", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, a) = memory.in_place(self.a, self.output)?;
        let b = cast(rest.operand(self.b)?)?;
        binary::binary_f32(isa, cast_mut(a)?, b, self);
        Some(())
    }
}

codes! {
    /// A function of two f32 values.
    Binary {
        /// `a + b`
        Add = 0,
        /// `a - b`
        Sub = 1,
        /// `b - a`
        ReverseSub = 2,
        /// `a * b`
        Mul = 3,
        /// `a / b`
        Div = 4,
        /// `b / a`
        ReverseDiv = 5,
        /// The smaller one.
        Min = 6,
        /// The larger one.
        Max = 7,
        /// `a` to the power of `b`.
        Power = 8,
        /// What is left of `a` after a whole number of `b`, with the sign of `a`: C's `fmod`.
        Remainder = 9,
        /// `a >= 0 ? a : a * b`: PRelu.
        LeakyRelu = 10,
    }
}
