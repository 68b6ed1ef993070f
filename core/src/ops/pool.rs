//! Maximum and average over a sliding window.

use core::ops::Range;

use super::lines::cut_window;
use super::{Lines, Operation, bytes_of, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::pool;
use crate::plan::rules::{check_multiplier, check_pool, check_requantize};
use crate::plan::wire::record;
use crate::plan::{DType, FieldFault, Operand, Verifier};
use crate::shape::{Requantize, Window};

record! {
    /// Maximum over the window; padding does not take part, and a window that holds nothing but
    /// padding gives -128. Input and output have the same quantization.
    pub struct MaxPoolS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
    }
}

impl Operation for MaxPoolS8 {
    operands!(input => output);

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.window.lens(self.window.in_c), [1, 1]))
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.window.lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.window, (&mut self.input, &mut self.output), 1, &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_pool(plan, &self.window, self.input, self.output, 1)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = cast(rest.operand(self.input)?)?;
        pool::max_s8(isa, input, cast_mut(output)?, &self.window);
        Some(())
    }
}

record! {
    /// `clamp(round((sum (x - input_zero_point)) * (multiplier / count)) + zero_point)`, the sum
    /// in wrapping i32. A window over the whole image is the global average pool.
    pub struct AveragePoolS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
        /// Whether `count` is the size of the window, or of its part inside the image.
        count_include_pad: bool,
        /// `input_scale / output_scale`.
        multiplier: f32,
        /// Zero point of the input.
        input_zero_point: i8,
        /// Zero point and range of the output.
        requantize: Requantize,
    }
}

impl Operation for AveragePoolS8 {
    operands!(input => output);

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.window.lens(self.window.in_c), [1, 1]))
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.window.lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.window, (&mut self.input, &mut self.output), 1, &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_pool(plan, &self.window, self.input, self.output, 1)?;
        check_multiplier("multiplier", self.multiplier)?;
        check_requantize(&self.requantize)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        pool::average_s8(isa, cast(rest.operand(self.input)?)?, cast_mut(output)?, self);
        Some(())
    }
}

record! {
    /// Maximum over the window; a window that holds nothing but padding gives negative infinity.
    pub struct MaxPoolF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
    }
}

impl Operation for MaxPoolF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.window.lens(self.window.in_c), [4, 4]))
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.window.lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.window, (&mut self.input, &mut self.output), 4, &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_pool(plan, &self.window, self.input, self.output, 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = cast(rest.operand(self.input)?)?;
        pool::max_f32(isa, input, cast_mut(output)?, &self.window);
        Some(())
    }
}

record! {
    /// `(sum x) / count`.
    pub struct AveragePoolF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, in_c]`.
        output: Operand,
        /// The window.
        window: Window,
        /// Whether `count` is the size of the window, or of its part inside the image.
        count_include_pad: bool,
    }
}

impl Operation for AveragePoolF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.window.lens(self.window.in_c), [4, 4]))
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(self.window.lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.window, (&mut self.input, &mut self.output), 4, &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_pool(plan, &self.window, self.input, self.output, 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = cast(rest.operand(self.input)?)?;
        let output = cast_mut(output)?;
        pool::average_f32(isa, input, output, &self.window, self.count_include_pad);
        Some(())
    }
}

fn cut(window: &mut Window, (input, output): (&mut Operand, &mut Operand), element_bytes: usize, lines: &Range<usize>) {
    let pixel_bytes = window.in_c * element_bytes;
    cut_window(window, (input, pixel_bytes), (output, pixel_bytes), lines);
}
