//! Quantization by the range that a tensor turns out to have, and products of what it makes.

use core::ops::Range;

use super::conv::{cut, flattened, macs, work};
use super::{Lines, Operation, bytes_of, lines, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::conv::{ConvArgs, Form, Results};
use crate::kernels::{ConvKernel, quantize, reduce, scale};
use crate::plan::rules::{check_conv, check_tensor, require};
use crate::plan::wire::record;
use crate::plan::{ALIGN, ArenaSpan, DType, DataSpan, Fault, FieldFault, Operand, Verifier};
use crate::shape::{ConvShape, Requantize, volume};

record! {
    /// The least and the greatest value; both are NaN where one is.
    pub struct DynamicRange {
        /// f32, one or more.
        input: Operand,
        /// f32 `[2]`.
        output: Operand,
    }
}

impl Operation for DynamicRange {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        require(self.input.len > 0, "input", Fault::OutOfRange)?;
        check_tensor(plan, "input", self.input, &[self.input.len / 4], 4)?;
        check_tensor(plan, "output", self.output, &[2], 4)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        reduce::range(isa, cast(rest.operand(self.input)?)?, cast_mut::<f32>(output)?.first_chunk_mut()?);
        Some(())
    }
}

record! {
    /// The scale of a range in 8 bits, 0 being part of it: `(max - min) / 255`, or 1 where nothing is in it but 0. NaN
    /// stays NaN.
    pub struct DynamicScale {
        /// f32 `[2]`: the least value and the greatest.
        range: Operand,
        /// f32 `[1]`.
        output: Operand,
    }
}

impl Operation for DynamicScale {
    operands!(range => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "range", self.range, &[2], 4)?;
        check_tensor(plan, "output", self.output, &[1], 4)
    }

    fn run<I: Input, O: Output>(&self, _: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let &[min, max]: &[f32] = cast(rest.operand(self.range)?)? else { return None };
        let range = if max <= 0.0 { 0.0 } else { max } - if min >= 0.0 { 0.0 } else { min };
        cast_mut(output)?.copy_from_slice(&[if range == 0.0 { 1.0 } else { range / 255.0 }]);
        Some(())
    }
}

record! {
    /// What stands for 0 on such a scale, as int8 is held: `clamp(round(-min / scale), 0, 255) - 128`; NaN becomes -128.
    pub struct DynamicZeroPoint {
        /// f32 `[2]`: the least value, of which only what is below 0 counts, and the greatest.
        range: Operand,
        /// f32 `[1]`.
        scale: Operand,
        /// i8 `[1]`.
        output: Operand,
    }
}

impl Operation for DynamicZeroPoint {
    operands!(range, scale => output);

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_tensor(plan, "range", self.range, &[2], 4)?;
        check_tensor(plan, "scale", self.scale, &[1], 4)?;
        check_tensor(plan, "output", self.output, &[1], 1)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let (&[min, _], &[scale]): (&[f32], &[f32]) =
            (cast(rest.operand(self.range)?)?, cast(rest.operand(self.scale)?)?)
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

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of([volume([1, self.channels, self.pixels]); 2], [4, 1]))
    }

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
        /// Packed by [`ConvKernel::pack`](ConvKernel::pack) for the plan's ISA, to be small; less their zero points.
        weights: DataSpan,
        /// i32 `[out_c]`: `sum w[c]`.
        weight_sums: DataSpan,
        /// What the kernel works in; [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl ConvS32 {
    /// What packs its weights and runs it.
    pub fn kernel(&self) -> ConvKernel {
        ConvKernel::of(&self.shape, Form::Compact)
    }

    /// Bytes of scratch before those of the kernel: what each sum begins with.
    fn bias_bytes(&self) -> usize {
        self.shape.out_c.saturating_mul(size_of::<i32>()).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
    }
}

impl Operation for ConvS32 {
    operands!(input, zero_point => output, scratch);

    fn dtype(&self) -> DType {
        DType::I32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.weights, self.weight_sums, DataSpan::default()]
    }

    fn macs(&self) -> u64 {
        macs(&self.shape)
    }

    fn work(&self) -> u64 {
        work(&self.shape)
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [1, 4]))
    }

    fn lines(&self, isa: Isa) -> Lines {
        let unit = self.kernel().line_unit(isa, &self.shape);
        unit.map_or(Lines::WHOLE, |unit| Lines { count: flattened(&self.shape).lines(), unit })
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.shape, (&mut self.input, 1), (&mut self.output, 4), &lines);
    }

    fn scratch_bytes(&self, isa: Isa) -> usize {
        self.bias_bytes().saturating_add(self.kernel().scratch_len(isa, &self.shape))
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_conv(plan, &self.shape, (self.input, 1), (self.output, 4))?;
        check_tensor(plan, "zero_point", self.zero_point, &[1], 1)?;
        let weights = plan.block("weights", self.weights, self.weights.len)?;
        require(self.kernel().holds(plan.isa, &self.shape, weights), "weights", Fault::Packing)?;
        plan.block::<i32>("weight_sums", self.weight_sums, self.shape.out_c).map(|_| ())
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output, scratch) = memory.split_scratch(self.output, self.scratch)?;
        let &[zero_point]: &[i8] = cast(rest.operand(self.zero_point)?)? else { return None };
        let (bias, scratch) = scratch.split_at_mut_checked(self.bias_bytes())?;
        let (bias, weight_sums): (&mut [i32], &[i32]) = (cast_mut(bias)?, cast(rest.data(self.weight_sums)?)?);
        let bias = bias.get_mut(..weight_sums.len())?;
        for (bias, sum) in bias.iter_mut().zip(weight_sums) {
            *bias = sum.wrapping_mul(-i32::from(zero_point));
        }
        let args = ConvArgs {
            input: cast(rest.operand(self.input)?)?,
            weights: rest.data(self.weights)?,
            bias,
            multiplier: &[],
            input_zp: zero_point,
            out: Requantize { zero_point: 0, min: i8::MIN, max: i8::MAX },
        };
        self.kernel().run(isa, &self.shape, &args, Results::Sums(cast_mut(output)?), scratch).then_some(())
    }
}

record! {
    /// What sums stand for: `clamp(x * scale + bias)`, each step in f32. May work in place on `input`.
    pub struct ScaleS32 {
        /// i32 `[pixels, channels]`.
        input: Operand,
        /// f32 `[channels]`, or `[1]` for all of them.
        scale: Operand,
        /// f32 `[channels]`; empty if nothing is added.
        bias: Operand,
        /// f32 `[pixels, channels]`.
        output: Operand,
        /// Channels.
        channels: usize,
        /// Lower bound of the output; may be infinite.
        min: f32,
        /// Upper bound of the output; may be infinite.
        max: f32,
    }
}

impl ScaleS32 {
    fn pixel_bytes(&self) -> usize {
        self.channels.saturating_mul(size_of::<i32>()).max(1)
    }
}

impl Operation for ScaleS32 {
    operands!(input, scale, bias => output);

    fn in_place(&self) -> bool {
        true
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn lines(&self, _: Isa) -> Lines {
        // No shorter than a line of a cache.
        Lines { count: self.output.len / self.pixel_bytes(), unit: ALIGN.div_ceil(self.pixel_bytes()) }
    }

    fn cut(&mut self, lines: Range<usize>) {
        let pixel_bytes = self.pixel_bytes();
        [&mut self.input, &mut self.output].into_iter().for_each(|operand| lines::cut(operand, &lines, pixel_bytes));
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        require(self.channels > 0, "channels", Fault::OutOfRange)?;
        let count = self.input.len / size_of::<i32>();
        require(count.is_multiple_of(self.channels), "input", Fault::OutOfRange)?;
        check_tensor(plan, "input", self.input, &[count], 4)?;
        check_tensor(plan, "output", self.output, &[count], 4)?;
        check_tensor(plan, "scale", self.scale, &[if self.scale.len == 4 { 1 } else { self.channels }], 4)?;
        if self.bias.len > 0 {
            check_tensor(plan, "bias", self.bias, &[self.channels], 4)?;
        }
        require(self.min <= self.max, "min", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, sums) = memory.in_place(self.input, self.output)?;
        let bias = if self.bias.len > 0 { cast(rest.operand(self.bias)?)? } else { &[] };
        scale::scale_s32(isa, cast_mut(sums)?, cast(rest.operand(self.scale)?)?, bias, self);
        Some(())
    }
}
