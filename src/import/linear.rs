//! QuantizeLinear and DequantizeLinear as operators of our own.
//!
//! tract's own become element-wise tables at declutter, which turns Dequantize → Softmax →
//! Quantize into a constant; ours stay what they are. Scale and zero point are inputs like any
//! other, so they may be computed.
//!
//! Semantics: ONNX operator specification, opset 13 and 21. `q = saturate(round_half_even(x / s) + z)`
//! with a true division; `x = (q - z) * s`. Two more stand at the ends of a QOperator's product
//! ([`super::qoperator::Form::Whole`]): Centre, `q - z` as a float, and Requantize,
//! `saturate(round_half_even(x * m) + z)`.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

/// Replaces tract's operators of these names.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("QuantizeLinear", |_: &ParsingContext, node| build(node, Direction::Quantize));
    register.insert("DequantizeLinear", |_: &ParsingContext, node| build(node, Direction::Dequantize));
    register.insert("Centre", |_: &ParsingContext, node| build(node, Direction::Centre));
    register.insert("Requantize", |_: &ParsingContext, node| build(node, Direction::Requantize));
}

fn build(node: &NodeProto, direction: Direction) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0) as usize;
    let stated: Option<i64> = node.get_attr_opt("output_dtype")?;
    let default = match stated.filter(|_| direction == Direction::Quantize) {
        None | Some(0 | 2) => DatumType::U8,
        Some(3) => DatumType::I8,
        Some(4) => DatumType::U16,
        Some(5) => DatumType::I16,
        Some(other) => bail!("output_dtype {other} is not supported"),
    };
    Ok((expand(Linear { direction, axis, block, default }), vec![]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Quantize,
    Dequantize,
    Centre,
    Requantize,
}

/// Inputs: the tensor, its scale (Centre has none) and, optionally, its zero point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Linear {
    direction: Direction,
    axis: i64,
    /// Indices along the axis that share their parameters; 0 where scales are not blocked.
    block: usize,
    /// Quantized type where there is no zero point to tell it.
    default: DatumType,
}

impl Linear {
    fn output_type(&self, inputs: &[DatumType]) -> DatumType {
        match self.direction {
            Direction::Quantize | Direction::Requantize => inputs.get(2).copied().unwrap_or(self.default),
            Direction::Dequantize => inputs[1],
            Direction::Centre => f32::datum_type(),
        }
    }
}

impl Expansion for Linear {
    fn name(&self) -> StaticName {
        match self.direction {
            Direction::Quantize => "QuantizeLinear".into(),
            Direction::Dequantize => "DequantizeLinear".into(),
            Direction::Centre => "Centre".into(),
            Direction::Requantize => "Requantize".into(),
        }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let least = if self.direction == Direction::Centre { 1 } else { 2 };
        ensure!((least..=least + 1).contains(&inputs.len()), "{} inputs of {}", inputs.len(), Expansion::name(self));
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)?;
        match (self.direction, inputs.get(2)) {
            (Direction::Quantize | Direction::Requantize, Some(zero_point)) => {
                s.equals(&outputs[0].datum_type, &zero_point.datum_type)
            }
            (Direction::Quantize | Direction::Requantize, None) => s.equals(&outputs[0].datum_type, self.default),
            (Direction::Centre, _) => s.equals(&outputs[0].datum_type, f32::datum_type()),
            (Direction::Dequantize, _) => s.equals(&outputs[0].datum_type, &inputs[1].datum_type),
        }
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Linear {
    fn name(&self) -> StaticName {
        Expansion::name(self)
    }

    op_as_typed_op!();
}

impl TypedOp for Linear {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let types: TVec<DatumType> = inputs.iter().map(|fact| fact.datum_type).collect();
        Ok(tvec!(self.output_type(&types).fact(inputs[0].shape.clone())))
    }
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = &inputs[0];
        let types: TVec<DatumType> = inputs.iter().map(|tensor| tensor.datum_type()).collect();
        let output_type = self.output_type(&types);
        let centre = self.direction == Direction::Centre;
        let zero_points = match inputs.get(if centre { 1 } else { 2 }) {
            Some(tensor) => tensor.cast_to::<i32>()?.into_owned(),
            None => tensor0(0i32),
        };
        let scales = if centre { tensor0(1f32) } else { inputs[1].cast_to::<f32>()?.into_owned() };
        let parameters = if scales.len() >= zero_points.len() { scales.shape() } else { zero_points.shape() };
        let layout = Layout { axis: self.axis, block: self.block, parameters };
        let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?;
        let zero_points = zero_points.try_as_plain_ram()?.as_slice::<i32>()?;
        let channels = Channels::new(layout, x.shape(), scales, zero_points)?;
        let output = match self.direction {
            Direction::Quantize | Direction::Requantize => {
                let multiplies = self.direction == Direction::Requantize;
                let x = x.cast_to::<f32>()?;
                let x = x.try_as_plain_ram()?.as_slice::<f32>()?;
                match output_type {
                    DatumType::I8 => channels.quantize::<i8>(x, inputs[0].shape(), multiplies),
                    DatumType::U8 => channels.quantize::<u8>(x, inputs[0].shape(), multiplies),
                    DatumType::I16 => channels.quantize::<i16>(x, inputs[0].shape(), multiplies),
                    DatumType::U16 => channels.quantize::<u16>(x, inputs[0].shape(), multiplies),
                    other => bail!("cannot quantize to {other:?}"),
                }?
            }
            Direction::Dequantize | Direction::Centre => {
                let q = x.cast_to::<i32>()?;
                let q = q.try_as_plain_ram()?.as_slice::<i32>()?;
                channels.dequantize(q, x.shape())?.cast_to_dt(output_type)?.into_owned()
            }
        };
        Ok(tvec!(output.into_tvalue()))
    }
}

/// How parameters lie beside a tensor.
struct Layout<'a> {
    axis: i64,
    block: usize,
    parameters: &'a [usize],
}

/// Scales and zero points laid along the elements: one for all, one for each index of an axis, or
/// one for each block of an axis and each index of the others.
struct Channels<'a> {
    scales: &'a [f32],
    zero_points: &'a [i32],
    /// Length of the axis, and of all behind it.
    length: usize,
    inner: usize,
    /// As in [`Layout`].
    block: usize,
}

impl<'a> Channels<'a> {
    fn new(
        layout: Layout<'_>,
        shape: &[usize],
        scales: &'a [f32],
        zero_points: &'a [i32],
    ) -> TractResult<Channels<'a>> {
        let (scale_count, zero_point_count) = (scales.len(), zero_points.len());
        let fit = scale_count == zero_point_count || scale_count == 1 || zero_point_count == 1;
        ensure!(fit, "{scale_count} scales, {zero_point_count} zero points");
        let count = scale_count.max(zero_point_count);
        ensure!(scales.iter().all(|s| s.is_finite() && *s >= 0.0), "a scale is negative or not finite");
        let Layout { axis, block, parameters } = layout;
        if count == 1 && block == 0 {
            return Ok(Channels { scales, zero_points, length: 1, inner: usize::MAX, block });
        }
        let at = if axis < 0 { axis + shape.len() as i64 } else { axis } as usize;
        let length = *shape.get(at).with_context(|| format!("axis {axis} of {shape:?}"))?;
        let expected: TVec<usize> = match block {
            0 => tvec!(length),
            _ => shape.iter().enumerate().map(|(i, &dim)| if i == at { dim.div_ceil(block) } else { dim }).collect(),
        };
        ensure!(parameters == &*expected, "scales of shape {parameters:?} along axis {at} of {shape:?}");
        Ok(Channels { scales, zero_points, length, inner: shape[at + 1..].iter().product(), block })
    }

    /// Which scale and zero point element `i` has.
    fn channel(&self, i: usize) -> usize {
        let row = i / self.inner;
        let (outer, along) = (row / self.length, row % self.length);
        match self.block {
            0 => along,
            block => (outer * self.length.div_ceil(block) + along / block) * self.inner + i % self.inner,
        }
    }

    fn quantize<T: Datum + Saturate>(&self, x: &[f32], shape: &[usize], multiplies: bool) -> TractResult<Tensor> {
        self.map(x, shape, |x, scale, zero_point| {
            let steps = if multiplies { x * scale } else { x / scale };
            T::saturate(steps.round_ties_even() + zero_point as f32)
        })
    }

    fn dequantize(&self, q: &[i32], shape: &[usize]) -> TractResult<Tensor> {
        self.map(q, shape, |q, scale, zero_point| q.wrapping_sub(zero_point) as f32 * scale)
    }

    fn map<A: Copy, B: Datum>(&self, from: &[A], shape: &[usize], f: impl Fn(A, f32, i32) -> B) -> TractResult<Tensor> {
        let mut output = Tensor::zero_dt(B::datum_type(), shape)?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let to = plain.as_slice_mut::<B>()?;
        // Neighbours share a channel, but where they lie in blocks of an outer axis.
        let run = if self.block == 0 { self.inner.clamp(1, from.len().max(1)) } else { 1 };
        for (index, (from, to)) in from.chunks(run).zip(to.chunks_mut(run)).enumerate() {
            let channel = self.channel(index * run);
            // One parameter for all stands beside those of each channel.
            let scale = self.scales[channel.min(self.scales.len() - 1)];
            let zero_point = self.zero_points[channel.min(self.zero_points.len() - 1)];
            from.iter().zip(to).for_each(|(&a, b)| *b = f(a, scale, zero_point));
        }
        Ok(output)
    }
}

/// To the nearest value of the type, as `as` saturates; NaN becomes the least.
trait Saturate {
    fn saturate(value: f32) -> Self;
}

macro_rules! saturate {
    ($($t:ty),*) => { $(impl Saturate for $t { fn saturate(value: f32) -> $t {
        if value.is_nan() { <$t>::MIN } else { value as $t }
    } })* };
}
saturate!(i8, u8, i16, u16);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(direction: Direction, axis: i64, inputs: &[Tensor]) -> Tensor {
        let op = Linear { direction, axis, block: 0, default: DatumType::U8 };
        let inputs = inputs.iter().map(|t| t.clone().into_tvalue()).collect();
        op.eval(&EvalContext::out_of_plan(), inputs).unwrap().remove(0).into_tensor()
    }

    #[test]
    fn rounds_half_to_even_and_saturates() {
        let x = tensor1(&[0.5f32, 1.5, 2.5, -0.5, 1e9, -1e9, f32::NAN]);
        let q = run(Direction::Quantize, 1, &[x, tensor0(1f32), tensor0(-3i8)]);
        assert_eq!(q, tensor1(&[-3i8, -1, -1, -3, 127, -128, -128]));
    }

    #[test]
    fn parameters_lie_along_the_axis() {
        let q = tensor2(&[[1i8, 2], [3, 4]]);
        let params = [tensor1(&[1f32, 10.0]), tensor1(&[0i8, 1])];
        let by = |axis| run(Direction::Dequantize, axis, &[q.clone(), params[0].clone(), params[1].clone()]);
        assert_eq!(by(0), tensor2(&[[1f32, 2.0], [20.0, 30.0]]));
        assert_eq!(by(-1), tensor2(&[[1f32, 10.0], [3.0, 30.0]]));
    }

    #[test]
    fn scales_that_do_not_fit_are_an_error() {
        let op = Linear { direction: Direction::Dequantize, axis: 0, block: 0, default: DatumType::U8 };
        let inputs = tvec!(tensor1(&[1i8, 2]).into_tvalue(), tensor1(&[1f32, 1.0, 1.0]).into_tvalue());
        assert!(op.eval(&EvalContext::out_of_plan(), inputs).is_err());
    }
}
