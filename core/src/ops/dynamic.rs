//! Quantization by the range that a tensor turns out to have, and products of what it makes.

use core::ops::Range;

use super::conv::{cut, flattened, macs, work};
use super::{Lines, Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::quantize;
use crate::kernels::sums::{self, SumsArgs};
use crate::plan::rules::{check_conv, check_tensor, product};
use crate::plan::wire::record;
use crate::plan::{ArenaSpan, DType, DataSpan, FieldFault, Operand, Verifier};
use crate::shape::ConvShape;

record! {
    /// The scale of a range in 8 bits, 0 being part of it: `(max - min) / 255`, or 1 where nothing is in it but 0. NaN
    /// stays NaN.
    pub struct DynamicScale {
        /// f32 `[1]`: the least value.
        min: Operand,
        /// f32 `[1]`: the greatest.
        max: Operand,
        /// f32 `[1]`.
        output: Operand,
    }
}

impl Operation for DynamicScale {
    operands!(min, max => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "min", self.min, &[1], 4)?;
        check_tensor(plan, "max", self.max, &[1], 4)?;
        check_tensor(plan, "output", self.output, &[1], 4)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (&[min], &[max]): (&[f32], &[f32]) = (cast(rest.operand(self.min)?)?, cast(rest.operand(self.max)?)?)
        else {
            return None;
        };
        let range = if max <= 0.0 { 0.0 } else { max } - if min >= 0.0 { 0.0 } else { min };
        cast_mut(output)?.copy_from_slice(&[if range == 0.0 { 1.0 } else { range / 255.0 }]);
        Some(())
    }
}

record! {
    /// What stands for 0 on such a scale, as int8 is held: `clamp(round(-min / scale), 0, 255) - 128`; NaN becomes -128.
    pub struct DynamicZeroPoint {
        /// f32 `[1]`: the least value, of which only what is below 0 counts.
        min: Operand,
        /// f32 `[1]`.
        scale: Operand,
        /// i8 `[1]`.
        output: Operand,
    }
}

impl Operation for DynamicZeroPoint {
    operands!(min, scale => output);

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "min", self.min, &[1], 4)?;
        check_tensor(plan, "scale", self.scale, &[1], 4)?;
        check_tensor(plan, "output", self.output, &[1], 1)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (&[min], &[scale]): (&[f32], &[f32]) = (cast(rest.operand(self.min)?)?, cast(rest.operand(self.scale)?)?)
        else {
            return None;
        };
        let least = if min >= 0.0 { 0.0 } else { min };
        quantize::quantize(isa, &[-least], cast_mut(output)?, 1, scale, -128);
        Some(())
    }
}

record! {
    /// [`Quantize`](super::Quantize) by a scale and a zero point that are computed.
    pub struct DynamicQuantize {
        /// f32 `[channels, pixels]`.
        input: Operand,
        /// f32 `[1]`.
        scale: Operand,
        /// i8 `[1]`.
        zero_point: Operand,
        /// i8 `[pixels, channels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Height times width.
        pixels: usize,
    }
}

impl Operation for DynamicQuantize {
    operands!(input, scale, zero_point => output);

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "input", self.input, &[self.channels, self.pixels], 4)?;
        check_tensor(plan, "scale", self.scale, &[1], 4)?;
        check_tensor(plan, "zero_point", self.zero_point, &[1], 1)?;
        check_tensor(plan, "output", self.output, &[self.pixels, self.channels], 1)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (&[scale], &[zero_point]): (&[f32], &[i8]) =
            (cast(rest.operand(self.scale)?)?, cast(rest.operand(self.zero_point)?)?)
        else {
            return None;
        };
        let input = cast(rest.operand(self.input)?)?;
        quantize::quantize(isa, input, cast_mut(output)?, self.channels, scale, zero_point);
        Some(())
    }
}

record! {
    /// The sums of a convolution, whatever they are worth: `sum (x - zero_point) * w` in wrapping i32. Padding adds nothing.
    pub struct ConvS32 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[1]`: zero point of the input.
        zero_point: Operand,
        /// i32 `[out_h, out_w, out_c]`.
        output: Operand,
        /// Window, output channels, groups.
        shape: ConvShape,
        /// i8 `[out_c, kernel_h, kernel_w, in_c / groups]`, less their zero points.
        weights: DataSpan,
        /// What the kernel works in; [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl Operation for ConvS32 {
    operands!(input, zero_point => output, scratch);

    fn dtype(&self) -> DType {
        DType::I32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.weights, DataSpan::default(), DataSpan::default()]
    }

    fn macs(&self) -> u64 {
        macs(&self.shape)
    }

    fn work(&self) -> u64 {
        work(&self.shape)
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(flattened(&self.shape).lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.shape, (&mut self.input, 1), (&mut self.output, 4), &lines);
    }

    fn scratch_bytes(&self, _: Isa) -> usize {
        sums::scratch_len(&self.shape)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_conv(plan, &self.shape, (self.input, 1), (self.output, 4))?;
        check_tensor(plan, "zero_point", self.zero_point, &[1], 1)?;
        let ConvShape { window, out_c, groups } = self.shape;
        let weights = [out_c, window.kernel_h, window.kernel_w, window.in_c / groups];
        plan.block::<i8>("weights", self.weights, product("weights", &weights)?).map(|_| ())
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output, scratch) = memory.split_scratch(self.output, self.scratch)?;
        let &[zero_point] = cast(rest.operand(self.zero_point)?)? else { return None };
        let args =
            SumsArgs { input: cast(rest.operand(self.input)?)?, zero_point, weights: cast(rest.data(self.weights)?)? };
        sums::run(isa, &self.shape, &args, cast_mut(output)?, cast_mut(scratch)?).then_some(())
    }
}
