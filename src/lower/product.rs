//! Convolutions and fully connected layers on integers, with their weights and biases.

use std::rc::Rc;

use tractlet_core::kernels::ConvKernel;
use tractlet_core::kernels::conv::Form;
use tractlet_core::plan::{ArenaSpan, ConvS8, DataSpan};
use tractlet_core::shape::{ConvShape, Requantize, Window};

use super::quantized::Input;
use super::unread::Filters;
use super::value::{Act, Layout, QParams, StoredQuant, Value};
use super::{Lowering, Why, geometry, int, number};
use crate::model::{DType, Node};

/// Weights as they are stored, and less their zero points.
pub(super) type Stored8<'m> = (StoredQuant<'m>, Vec<i8>);

/// Weights of a convolution or a fully connected layer.
pub(super) struct Weights {
    /// OHWI.
    pub values: Vec<i8>,
    /// One for each output channel of the model.
    pub scales: Vec<f32>,
    /// Which of those channels each one here is, if they are not the same.
    pub outputs: Option<Rc<[usize]>>,
}

impl Weights {
    /// Which channels of the model have weights of 0 alone, in rows of that length; so are all on a scale of 0 from here on.
    fn dead(&mut self, row: usize) -> Vec<bool> {
        let mut dead = vec![true; self.scales.len()];
        for (at, row) in self.values.chunks_mut(row.max(1)).enumerate() {
            let channel = self.outputs.as_ref().map_or(at, |outputs| outputs[at]);
            if self.scales[channel] == 0.0 {
                row.fill(0);
            }
            dead[channel] &= row.iter().all(|&w| w == 0);
        }
        dead
    }
}

/// A bias as a number of steps of the sums that it is added to.
struct BiasSteps {
    steps: f64,
    /// What rounding to a whole number of them costs, in steps of the output.
    off: f64,
}

impl BiasSteps {
    fn of(bias: f32, weight_scale: f32, x: QParams, to: QParams) -> BiasSteps {
        if bias == 0.0 {
            return BiasSteps { steps: 0.0, off: 0.0 };
        }
        let step = f64::from(x.scale) * f64::from(weight_scale);
        let steps = f64::from(bias) / step;
        BiasSteps { steps, off: (steps - steps.round_ties_even()).abs() * step / f64::from(to.scale) }
    }

    /// Neither for NaN, nor where a channel's scale is 0.
    fn hold(&self) -> bool {
        self.steps.abs() <= f64::from(i32::MAX) && self.off <= 0.25
    }
}

impl<'m> Lowering<'m> {
    pub(super) fn conv_s8(
        &mut self,
        node: &Node,
        x: Input,
        (stored, values): Stored8<'m>,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let act = self.channels_last(&node.name, x.act)?;
        let scales = spread(&stored, 0, stored.tensor.dims[0])?;
        let Filters { mut values, out_c, in_c, kernel, groups, outputs } =
            self.filters(node, values, &stored.tensor.dims)?;
        let mut output_dims = self.output_dims(node)?;
        output_dims[1] = out_c;
        let window = geometry::window(node, &act, &output_dims, &kernel)?;
        // Else they lie so already.
        let taps = kernel.iter().product();
        if taps > 1 && in_c > 1 {
            values = geometry::ohwi(&values, in_c, taps);
        }
        let weights = Weights { values, scales, outputs };
        let shape = ConvShape { window, out_c, groups };
        let output = self.program.bytes(output_dims, Layout::ChannelsLast);
        self.conv_op(node, &Input { act, q: x.q }, shape, weights, (to, requantize), &output)?;
        Ok(output)
    }

    /// Gemm and MatMul by stored weights.
    pub(super) fn fully_connected_s8(
        &mut self,
        node: &Node,
        x: Input,
        (stored, mut values): Stored8<'m>,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let act = self.plain(&node.name, x.act)?;
        let &[a, b] = stored.tensor.dims.as_slice() else {
            return Err("its weights must be a matrix".into());
        };
        let transposed = int(node, "transB", 0) != 0;
        let (in_c, out_c) = if transposed { (b, a) } else { (a, b) };
        if !transposed {
            values = transpose(&values, in_c, out_c);
        }
        let weights = Weights { values, scales: spread(&stored, usize::from(!transposed), out_c)?, outputs: None };
        if act.dims.last() != Some(&in_c) {
            return Err("its input does not end in the weights' rows".into());
        }
        let shape = ConvShape { window: Window::pixels(act.elements() / in_c, in_c), out_c, groups: 1 };
        let output_dims = self.output_dims(node)?;
        let output = self.program.bytes(output_dims, Layout::Plain);
        self.conv_op(node, &Input { act, q: x.q }, shape, weights, (to, requantize), &output)?;
        Ok(output)
    }

    pub(super) fn conv_op(
        &mut self,
        node: &Node,
        x: &Input,
        shape: ConvShape,
        mut weights: Weights,
        to: (QParams, Requantize),
        output: &Act,
    ) -> Result<(), Why> {
        if ConvKernel::of(&shape, Form::Fast).max_packed_len(self.builder.isa(), &shape) == usize::MAX {
            return Err("its sizes are beyond what kernels count to".into());
        }
        let out_c = weights.scales.len();
        let row = weights.values.len() / shape.out_c;
        let biases = self.bias_of(node, out_c)?;
        for (c, is_dead) in weights.dead(row).into_iter().enumerate() {
            if is_dead && !BiasSteps::of(biases[c], weights.scales[c], x.q, to.0).hold() {
                // Nothing else is scaled by it, and so fine that nothing is lost.
                weights.scales[c] = to.0.scale / x.q.scale / 65536.0;
            }
        }
        let scale = |c: usize| f64::from(x.q.scale) * f64::from(weights.scales[c]);
        // Saturating where the output does.
        let steps = |(c, &value)| if value == 0.0 { 0.0 } else { (f64::from(value) / scale(c)).round_ties_even() };
        let saturated = |steps: f64| steps.clamp(-f64::from(i32::MAX), f64::from(i32::MAX)) as i32;
        let mut bias: Vec<i32> = biases.iter().enumerate().map(steps).map(saturated).collect();
        if let Ok(Value::DequantizedStored(q)) = self.value(node, 2)
            && q.tensor.dtype == DType::I32
        {
            self.exact_bias(&q, scale, &mut bias)?;
        }
        if let Some(outputs) = &weights.outputs {
            bias = outputs.iter().map(|&c| bias[c]).collect();
            weights.scales = outputs.iter().map(|&c| weights.scales[c]).collect();
        }
        hold_sums(&weights.values, row, x.q.zero_point, &bias)?;
        for (bias, row) in bias.iter_mut().zip(weights.values.chunks(row)) {
            let sum: i32 = row.iter().map(|&w| i32::from(w)).sum();
            *bias = bias.wrapping_sub(i32::from(x.q.zero_point).wrapping_mul(sum));
        }
        // In f32 and in this order, as ONNX Runtime has it: the last bit decides where a sum is halfway.
        let multipliers: Vec<f32> = weights.scales.iter().map(|scale| x.q.scale * scale / to.0.scale).collect();
        if multipliers.iter().any(|m| !m.is_finite()) {
            return Err("its scales are too far apart".into());
        }
        let op = ConvS8 {
            input: self.program.span(&x.act),
            output: self.program.span(output),
            shape,
            input_zero_point: x.q.zero_point,
            requantize: to.1,
            compact: false,
            // Until it is packed.
            weights: DataSpan { offset: self.program.keep_weights(weights.values), len: 0 },
            bias: self.builder.data(&bias),
            multipliers: self.builder.data(&multipliers),
            scratch: ArenaSpan::default(),
        };
        self.program.push(&node.name, op);
        Ok(())
    }

    /// Whether the bias in steps of the sums is what the model states, to a quarter of the output's step; a layer is left to
    /// floats else.
    pub(super) fn bias_holds(&self, node: &Node, x: QParams, (stored, values): &Stored8<'m>, to: QParams) -> bool {
        let dims = &stored.tensor.dims;
        let (out_c, of_rows) = match node.op.as_str() {
            "Conv" => (dims[0], true),
            "ConvTranspose" => (dims[1] * int(node, "group", 1) as usize, false),
            _ if int(node, "transB", 0) != 0 => (dims[0], true),
            _ => (dims[dims.len() - 1], false),
        };
        let scale = |c: usize| stored.scales[c % stored.scales.len()];
        let has_no_weight = |c: usize| match node.op.as_str() {
            "ConvTranspose" => false,
            _ if of_rows => values.chunks(values.len() / out_c).nth(c).is_some_and(|row| row.iter().all(|&w| w == 0)),
            _ => values.iter().skip(c).step_by(out_c).all(|&w| w == 0),
        };
        let is_dead = |c: usize| scale(c) == 0.0 || has_no_weight(c);
        // What is none for each channel is refused where it is used.
        let biases = self.bias_of(node, out_c).unwrap_or_default();
        let own = match self.value(node, 2) {
            Ok(Value::DequantizedStored(q)) => Some(q),
            _ => None,
        };
        let step = |c: usize| f64::from(x.scale) * f64::from(scale(c));
        let is_exact = |c: usize| own.as_ref().is_some_and(|q| is_in_steps(q, c, step(c)));
        let holds = |(c, &bias): (usize, &f32)| {
            is_exact(c) || BiasSteps::of(bias, scale(c), x, to).hold() || !bias.is_nan() && is_dead(c)
        };
        biases.iter().enumerate().all(holds)
    }

    /// An int32 bias that has the accumulator's own scale, to a rounding, is taken as it is.
    fn exact_bias(&self, q: &StoredQuant<'_>, scale: impl Fn(usize) -> f64, bias: &mut [i32]) -> Result<(), Why> {
        let stored = self.stored_integers(q.tensor)?;
        for (c, bias) in bias.iter_mut().enumerate() {
            if is_in_steps(q, c, scale(c)) {
                *bias = stored[c % stored.len()];
            }
        }
        Ok(())
    }

    /// Weights that are stored in 8 bits and fit int8 less their zero point; others are left to floats.
    pub(super) fn weights_of(&self, node: &Node) -> Result<Option<Stored8<'m>>, Why> {
        match self.value(node, 1)? {
            Value::DequantizedStored(q) => self.centred(q),
            _ => Ok(None),
        }
    }

    /// Stored 8 bits less their zero points, where these fit int8.
    pub(super) fn centred(&self, q: StoredQuant<'m>) -> Result<Option<Stored8<'m>>, Why> {
        if !matches!(q.tensor.dtype, DType::I8 | DType::U8) {
            return Ok(None);
        }
        // Byte by byte: weights are most of a model, and four bytes each would be most of the peak.
        let bytes = self.model.bytes(q.tensor).map_err(|e| e.to_string())?;
        let widened: fn(u8) -> i32 = if q.tensor.dtype == DType::I8 { |b| i32::from(b as i8) } else { i32::from };
        let centred = if q.tensor.dtype == DType::I8 && q.zero_points.iter().all(|&zero_point| zero_point == 0) {
            bytemuck::cast_slice(bytes).to_vec()
        } else {
            let channel = q.channels();
            let less = |(i, b): (usize, &u8)| i8::try_from(widened(*b).wrapping_sub(q.zero_points[channel(i)])).ok();
            geometry::sized(bytes.len(), bytes.iter().enumerate().map_while(less))
        };
        Ok((centred.len() == bytes.len()).then_some((q, centred)))
    }

    /// A bias as one value for each output channel.
    pub(super) fn bias_of(&self, node: &Node, out_c: usize) -> Result<Vec<f32>, Why> {
        if node.input(2).is_none() {
            return Ok(vec![0.0; out_c]);
        }
        let (values, dims) = self.floats_of(&self.value(node, 2)?)?;
        match *values.as_slice() {
            [value] => Ok(vec![value; out_c]),
            _ if values.len() == out_c && dims.last() == Some(&out_c) => Ok(values),
            _ => Err(format!("its bias of shape {dims:?} is not one value for each of {out_c} channels")),
        }
    }
}

/// Whether a stored bias is a number of the steps of a channel's sums, to a rounding.
fn is_in_steps(q: &StoredQuant<'_>, channel: usize, step: f64) -> bool {
    let own = f64::from(q.scales[channel % q.scales.len()]);
    let is_whole = q.tensor.dtype == DType::I32 && q.zero_points.iter().all(|z| *z == 0);
    is_whole && step > 0.0 && (own / step - 1.0).abs() < 1e-5
}

/// Whether a Gemm or MatMul is the bare product, which is what integers can have.
pub(super) fn unscaled(node: &Node) -> bool {
    number(node, "alpha", 1.0) == 1.0 && number(node, "beta", 1.0) == 1.0 && int(node, "transA", 0) == 0
}

/// Sums are exact in 32 bits whatever the input: the largest magnitudes of a channel are added up.
fn hold_sums(weights: &[i8], row: usize, zero_point: i8, bias: &[i32]) -> Result<(), Why> {
    let zero_point = i64::from(zero_point);
    let farthest = (127 - zero_point).max(zero_point + 128);
    for (c, (row, bias)) in weights.chunks(row).zip(bias).enumerate() {
        let weight: i64 = row.iter().map(|&w| i64::from(w).abs()).sum();
        if weight * farthest + i64::from(*bias).abs() > i64::from(i32::MAX) {
            return Err(format!("the sums of channel {c} may not fit 32 bits"));
        }
    }
    Ok(())
}

/// The scale of each output channel, where scales lie along `axis` or there is one.
pub(super) fn spread(q: &StoredQuant<'_>, axis: usize, out_c: usize) -> Result<Vec<f32>, Why> {
    match q.scales.as_slice() {
        &[scale] => Ok(vec![scale; out_c]),
        scales if q.axis == axis && scales.len() == out_c => Ok(scales.to_vec()),
        _ => Err("its weights' scales do not lie along the output channels".into()),
    }
}

pub(super) fn transpose(values: &[i8], rows: usize, cols: usize) -> Vec<i8> {
    geometry::ohwi(values, rows, cols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_could_leave_32_bits_are_refused() {
        // 255 * 127 * 66,312 is the last product below 2^31.
        let longest = (i32::MAX / (255 * 127)) as usize;
        assert!(hold_sums(&vec![127; longest], longest, -128, &[0]).is_ok());
        assert!(hold_sums(&vec![127; longest + 1], longest + 1, -128, &[0]).is_err());
        assert!(hold_sums(&[1, -1], 1, 0, &[i32::MAX - 128, i32::MIN + 100]).is_err());
    }
}
