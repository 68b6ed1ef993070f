//! Convolutions, and as such fully connected layers.

use core::ops::Range;

use super::lines::cut_window;
use super::{Lines, Operation, bytes_of, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::ConvKernel;
use crate::kernels::conv::{ConvArgs, Form, MAX_SIZE, Results};
use crate::kernels::conv_f32::{self, ConvF32Args, Weights};
use crate::plan::rules::{check_conv, check_multiplier, check_requantize, product, require};
use crate::plan::wire::record;
use crate::plan::{ArenaSpan, DType, DataSpan, Fault, FieldFault, Operand, Verifier};
use crate::shape::{ConvShape, Requantize, Window};

record! {
    /// Convolution and, as a 1x1 window over a 1x1 image, the fully connected layer:
    /// `acc = bias[c] + sum x * w` in wrapping i32, then [`Requantize`] with `multipliers[c]`.
    /// Padding reads `input_zero_point`.
    pub struct ConvS8 {
        /// i8 `[in_h, in_w, in_c]`.
        input: Operand,
        /// i8 `[out_h, out_w, out_c]`.
        output: Operand,
        /// Window, output channels, groups.
        shape: ConvShape,
        /// Zero point of the input.
        input_zero_point: i8,
        /// From the accumulator to the output.
        requantize: Requantize,
        /// Whether weights are packed to be small, for which a group of its own is needed, and not to be fast.
        compact: bool,
        /// Packed by [`ConvKernel::pack`](ConvKernel::pack) for the plan's ISA.
        weights: DataSpan,
        /// i32 `[out_c]`, the zero point folded in: `bias[c] - input_zero_point * sum w[c]`.
        bias: DataSpan,
        /// f32 `[out_c]`: `input_scale * weight_scale[c] / output_scale`.
        multipliers: DataSpan,
        /// What the kernel works in; [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl ConvS8 {
    /// What packs its weights and runs it.
    pub fn kernel(&self) -> ConvKernel {
        ConvKernel::of(&self.shape, if self.compact { Form::Compact } else { Form::Fast })
    }
}

impl Operation for ConvS8 {
    operands!(input => output, scratch);

    fn constants(&self) -> [DataSpan; 3] {
        [self.weights, self.bias, self.multipliers]
    }

    fn macs(&self) -> u64 {
        macs(&self.shape)
    }

    fn work(&self) -> u64 {
        work(&self.shape)
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [1, 1]))
    }

    fn lines(&self, isa: Isa) -> Lines {
        let unit = self.kernel().line_unit(isa, &self.shape);
        unit.map_or(Lines::WHOLE, |unit| Lines { count: flattened(&self.shape).lines(), unit })
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.shape, (&mut self.input, 1), (&mut self.output, 1), &lines);
    }

    fn scratch_bytes(&self, isa: Isa) -> usize {
        self.kernel().scratch_len(isa, &self.shape)
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_conv(plan, &self.shape, (self.input, 1), (self.output, 1))?;
        check_requantize(&self.requantize)?;
        let weights = plan.block("weights", self.weights, self.weights.len)?;
        require(!self.compact || self.shape.groups == 1, "compact", Fault::OutOfRange)?;
        require(self.kernel().holds(plan.isa, &self.shape, weights), "weights", Fault::Packing)?;
        plan.block::<i32>("bias", self.bias, self.shape.out_c)?;
        let multipliers = plan.block("multipliers", self.multipliers, self.shape.out_c)?;
        multipliers.iter().try_for_each(|&value| check_multiplier("multipliers", value))
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        // Where it is, for what is copied has to be written first, which takes as long as a small layer.
        let Some((rest, output, scratch)) = &mut memory.split_scratch(self.output, self.scratch) else { return None };
        let args = ConvArgs {
            input: cast(rest.operand(self.input)?)?,
            weights: rest.data(self.weights)?,
            bias: cast(rest.data(self.bias)?)?,
            multiplier: cast(rest.data(self.multipliers)?)?,
            input_zp: self.input_zero_point,
            out: self.requantize,
        };
        self.kernel().run(isa, &self.shape, &args, Results::Bytes(cast_mut(output)?), scratch).then_some(())
    }
}

record! {
    /// Convolution in f32, then `clamp`. Sums are in an order that differs between instruction sets.
    pub struct ConvF32 {
        /// f32 `[in_h, in_w, in_c]`.
        input: Operand,
        /// f32 `[out_h, out_w, out_c]`.
        output: Operand,
        /// Window, output channels, groups.
        shape: ConvShape,
        /// f32, of each output channel `kernel_h * kernel_w * in_c / groups`, in their [`order`](crate::kernels::conv_f32::order).
        weights: DataSpan,
        /// f32 `[out_c]`.
        bias: DataSpan,
        /// Lower bound of the output; may be infinite.
        min: f32,
        /// Upper bound of the output; may be infinite.
        max: f32,
    }
}

impl Operation for ConvF32 {
    operands!(input => output);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.weights, self.bias, DataSpan::default()]
    }

    fn macs(&self) -> u64 {
        macs(&self.shape)
    }

    fn work(&self) -> u64 {
        work(&self.shape)
    }

    fn image_bytes(&self) -> Option<[usize; 2]> {
        Some(bytes_of(self.shape.lens(), [4, 4]))
    }

    fn lines(&self, _: Isa) -> Lines {
        Lines::of(flattened(&self.shape).lines())
    }

    fn cut(&mut self, lines: Range<usize>) {
        cut(&mut self.shape, (&mut self.input, 4), (&mut self.output, 4), &lines);
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        check_conv(plan, &self.shape, (self.input, 4), (self.output, 4))?;
        let ConvShape { window, out_c, groups } = self.shape;
        let per_channel = [window.kernel_h, window.kernel_w, window.in_c / groups, out_c];
        plan.block::<f32>("weights", self.weights, product("weights", &per_channel)?)?;
        plan.block::<f32>("bias", self.bias, out_c)?;
        require(self.min <= self.max, "min", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output) = memory.split(self.output)?;
        let args = ConvF32Args {
            input: cast(rest.operand(self.input)?)?,
            weights: Weights::Packed(cast(rest.data(self.weights)?)?),
            bias: cast(rest.data(self.bias)?)?,
            min: self.min,
            max: self.max,
        };
        conv_f32::run(isa, &self.shape, &args, cast_mut(output)?).then_some(())
    }
}

/// What a convolution is cut along: a pointwise one has as many lines as pixels, unless a row of them all would be
/// longer than kernels take.
pub(super) fn flattened(shape: &ConvShape) -> Window {
    let row = shape.window.flattened();
    if shape.groups == 1 && row.in_w <= MAX_SIZE { row } else { shape.window }
}

/// Cuts a convolution, whose input and output have elements of so many bytes.
pub(super) fn cut(
    shape: &mut ConvShape,
    (input, in_bytes): (&mut Operand, usize),
    (output, out_bytes): (&mut Operand, usize),
    lines: &Range<usize>,
) {
    shape.window = flattened(shape);
    let (pixel_in, pixel_out) = (shape.window.in_c * in_bytes, shape.out_c * out_bytes);
    cut_window(&mut shape.window, (input, pixel_in), (output, pixel_out), lines);
}

/// Products of few channels take about four times as long as those of a dense convolution.
pub(super) fn work(shape: &ConvShape) -> u64 {
    macs(shape) * if shape.groups == 1 { 1 } else { 4 }
}

pub(super) fn macs(shape: &ConvShape) -> u64 {
    let ConvShape { window, out_c, groups } = *shape;
    let taps = [window.kernel_h, window.kernel_w, window.in_c / groups.max(1)];
    [window.out_h, window.out_w, out_c].iter().chain(&taps).map(|&size| size as u64).product()
}
