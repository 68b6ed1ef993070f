//! Between floats and quantized values.

use super::{Operation, bytes_of, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::quantize;
use crate::plan::rules::{check_scale, check_tensor};
use crate::plan::wire::record;
use crate::plan::{DType, FieldFault, Operand, Verifier};
use crate::shape::volume;

record! {
    /// `clamp(round(x / scale) + zero_point)` to -128..=127, with `[channels, pixels]` of the
    /// input transposed to `[pixels, channels]`; with one channel nothing is transposed. NaN
    /// becomes -128.
    pub struct Quantize {
        /// f32 `[channels, pixels]`.
        input: Operand,
        /// i8 `[pixels, channels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Height times width.
        pixels: usize,
        /// Scale of the output.
        scale: f32,
        /// Zero point of the output.
        zero_point: i8,
    }
}

impl Operation for Quantize {
    operands!(input => output);

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of([volume([1, self.channels, self.pixels]); 2], [4, 1]))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.channels, self.pixels], 4)?;
        check_tensor(plan, "output", self.output, &[self.pixels, self.channels], 1)?;
        check_scale("scale", self.scale)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = cast(rest.operand(self.input)?)?;
        let output = cast_mut(output)?;
        quantize::quantize(isa, input, output, self.channels, self.scale, self.zero_point);
        Some(())
    }
}

record! {
    /// `(x - zero_point) * scale`, with `[pixels, channels]` of the input transposed to
    /// `[channels, pixels]`; with one channel nothing is transposed.
    pub struct Dequantize {
        /// i8 `[pixels, channels]`.
        input: Operand,
        /// f32 `[channels, pixels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Height times width.
        pixels: usize,
        /// Scale of the input.
        scale: f32,
        /// Zero point of the input.
        zero_point: i8,
    }
}

impl Operation for Dequantize {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of([volume([1, self.channels, self.pixels]); 2], [1, 4]))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.pixels, self.channels], 1)?;
        check_tensor(plan, "output", self.output, &[self.channels, self.pixels], 4)?;
        check_scale("scale", self.scale)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let input = cast(rest.operand(self.input)?)?;
        let output = cast_mut(output)?;
        quantize::dequantize(isa, input, output, self.channels, self.scale, self.zero_point);
        Some(())
    }
}
