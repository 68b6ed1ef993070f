//! Convolutions and fully connected layers on integers, with their weights and biases.

use std::rc::Rc;

use tractlet_core::kernels::ConvKernel;
use tractlet_core::kernels::conv::Form;
use tractlet_core::plan::{ArenaSpan, ConvS8, DataSpan};
use tractlet_core::shape::{ConvShape, Requantize, Window};

use super::binary::repeats;
use super::pad::Border;
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

/// What is added to the sums of each output channel: the bias of the node, and the row of an Add behind it.
struct Bias<'m> {
    /// One for each channel.
    values: Vec<f32>,
    /// The integers that they are stored as, where they are.
    stored: Option<(StoredQuant<'m>, Vec<i32>)>,
}

impl Bias<'_> {
    /// A channel's bias as a number of steps of its sums, and what rounding to a whole number of them costs, in steps of
    /// the output. Integers on the steps of the sums, to a rounding, are taken as they are.
    fn in_steps(&self, channel: usize, step: f64, to: QParams) -> (f64, f64) {
        let value = f64::from(self.values[channel]);
        match &self.stored {
            Some((q, integers)) if is_in_steps(q, channel, step) => {
                (f64::from(integers[channel % integers.len()]), 0.0)
            }
            _ if value == 0.0 => (0.0, 0.0),
            _ => {
                let steps = value / step;
                (steps, (steps - steps.round_ties_even()).abs() * step / f64::from(to.scale))
            }
        }
    }

    /// Whether that many steps are what the model states, and fit 32 bits beside products of that magnitude. Not so for
    /// NaN, nor where a channel's scale is 0.
    fn hold((steps, off): (f64, f64), products: i64) -> bool {
        steps.abs() + products as f64 <= f64::from(i32::MAX) && off <= 0.25
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
        let zero = Border::Bits(u64::from(x.q.zero_point as u8));
        let (act, window) = self.conv_window(node, act, &output_dims, &kernel, zero)?;
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
        self.is_counted(&shape, Form::Fast)?;
        let out_c = weights.scales.len();
        let row = weights.values.len() / shape.out_c;
        let bias = self.bias(node, out_c)?;
        let step = |scale: f32| f64::from(x.q.scale) * f64::from(scale);
        for (c, is_dead) in weights.dead(row).into_iter().enumerate() {
            if is_dead && !Bias::hold(bias.in_steps(c, step(weights.scales[c]), to.0), 0) {
                // Nothing else is scaled by it, and so fine that nothing is lost.
                weights.scales[c] = to.0.scale / x.q.scale / 65536.0;
            }
        }
        // Saturating where the output does.
        let saturated = |steps: f64| steps.round_ties_even().clamp(-f64::from(i32::MAX), f64::from(i32::MAX)) as i32;
        let steps = |(c, &scale): (usize, &f32)| saturated(bias.in_steps(c, step(scale), to.0).0);
        let mut bias: Vec<i32> = weights.scales.iter().enumerate().map(steps).collect();
        if let Some(outputs) = &weights.outputs {
            bias = outputs.iter().map(|&c| bias[c]).collect();
            weights.scales = outputs.iter().map(|&c| weights.scales[c]).collect();
        }
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

    /// Refuses an int8 convolution of sizes that no kernel takes.
    pub(super) fn is_counted(&self, shape: &ConvShape, form: Form) -> Result<(), Why> {
        match ConvKernel::of(shape, form).max_packed_len(self.builder.isa(), shape) {
            usize::MAX => Err("its sizes are beyond what kernels count to".into()),
            _ => Ok(()),
        }
    }

    /// Whether the sums fit 32 bits, whatever the input, and with them the bias, which in their steps is what the model
    /// states to a quarter of the output's step; a layer is left to floats else, for the reason that is the error.
    pub(super) fn sums_hold(
        &self,
        node: &Node,
        x: QParams,
        (stored, values): &Stored8<'m>,
        to: QParams,
    ) -> Result<(), String> {
        let magnitudes = magnitudes(node, &stored.tensor.dims, values);
        let farthest = (127 - i64::from(x.zero_point)).max(i64::from(x.zero_point) + 128);
        // What is none for each channel is refused where it is used.
        let Ok(bias) = self.bias(node, magnitudes.len()) else { return Ok(()) };
        for (c, &magnitude) in magnitudes.iter().enumerate() {
            let scale = stored.scales[c % stored.scales.len()];
            let steps = bias.in_steps(c, f64::from(x.scale) * f64::from(scale), to);
            let is_dead = scale == 0.0 || magnitude == 0;
            if Bias::hold(steps, magnitude * farthest) || is_dead && !bias.values[c].is_nan() {
                continue;
            }
            return Err(match Bias::hold((steps.0, 0.0), magnitude * farthest) {
                _ if bias.values[c].is_nan() => format!("the bias of its channel {c} is NaN"),
                true => {
                    format!("the bias of its channel {c} is too fine to be a whole number of the steps of its sums")
                }
                false => format!("the sums of its channel {c}, with the bias, may leave 32 bits"),
            });
        }
        Ok(())
    }

    /// What is added to the sums of each output channel, as floats.
    pub(super) fn bias_values(&self, node: &Node, out_c: usize) -> Result<Vec<f32>, Why> {
        Ok(self.bias(node, out_c)?.values)
    }

    /// Of a node on integers alone: on floats the bias may have a factor that the row has not.
    fn bias(&self, node: &Node, out_c: usize) -> Result<Bias<'m>, Why> {
        let mut values = self.bias_of(node, out_c)?;
        let mut summands = Vec::from_iter(self.value(node, 2));
        if let Some((_, row)) = self.added_row(node) {
            let (added, _) = self.floats_of(&row)?;
            values.iter_mut().zip(added.iter().cycle()).for_each(|(value, added)| *value += added);
            summands.push(row);
        }
        let stored = match summands.as_slice() {
            [Value::DequantizedStored(q)] if q.tensor.dtype == DType::I32 => {
                Some((q.clone(), self.stored_integers(&q.tensor)?))
            }
            _ => None,
        };
        Ok(Bias { values, stored })
    }

    /// The Add, by index, that alone reads what a product gives, where it adds a stored row: one value for each output
    /// channel, or one for all.
    pub(super) fn added_row(&self, product: &Node) -> Option<(usize, Value<'m>)> {
        let output = product.outputs.first()?;
        let (index, add) = self.sole_reader(output).filter(|(_, reader)| reader.op == "Add")?;
        let row = self.value(add, usize::from(add.input(0) == Some(output))).ok().filter(Value::is_constant)?;
        let (_, dims) = self.floats_of(&row).ok()?;
        let layout = if product.op.starts_with("Conv") { Layout::ChannelsLast } else { Layout::Plain };
        repeats(&self.output_dims(product).ok()?, layout, &dims).then_some((index, row))
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
        let bytes = self.model.bytes(&q.tensor).map_err(|e| e.to_string())?;
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

/// What the magnitudes of each output channel's weights add up to.
fn magnitudes(node: &Node, dims: &[usize], weights: &[i8]) -> Vec<i64> {
    let sum = |weights: &[i8]| weights.iter().map(|w| i64::from(w.unsigned_abs())).sum::<i64>();
    match node.op.as_str() {
        "ConvTranspose" => {
            let groups = int(node, "group", 1) as usize;
            // A kernel for each input and each output of its group.
            let (each, taps) = (dims[1], dims[2..].iter().product::<usize>());
            let mut sums = vec![0; each * groups];
            for (kernel, weights) in weights.chunks(taps.max(1)).enumerate() {
                sums[kernel / each * groups / dims[0] * each + kernel % each] += sum(weights);
            }
            sums
        }
        op if op == "Conv" || int(node, "transB", 0) != 0 => {
            let row = weights.len() / dims[0].max(1);
            weights.chunks(row.max(1)).map(sum).collect()
        }
        _ => {
            let mut sums = vec![0; dims[dims.len() - 1]];
            for row in weights.chunks(sums.len().max(1)) {
                sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += i64::from(w.unsigned_abs()));
            }
            sums
        }
    }
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
    use crate::model::{Attribute, AttributeValue, Domain};

    fn node(op: &str, attributes: &[(&str, i64)]) -> Node {
        let attributes = attributes
            .iter()
            .map(|(name, value)| Attribute { name: (*name).into(), value: AttributeValue::Int(*value) });
        let (name, op, domain) = (String::new(), op.into(), Domain::Onnx);
        Node { name, op, domain, inputs: vec![], outputs: vec![], attributes: attributes.collect() }
    }

    #[test]
    fn magnitudes_are_those_of_each_output_channel() {
        let weights: Vec<i8> = (0..12).map(|i| if i % 2 == 0 { i } else { -i }).collect();
        let of = |op, attributes: &[_], dims: &[usize]| magnitudes(&node(op, attributes), dims, &weights);
        assert_eq!(of("Conv", &[], &[3, 2, 1, 2]), [6, 22, 38]);
        assert_eq!(of("Gemm", &[("transB", 1)], &[3, 4]), [6, 22, 38]);
        assert_eq!(of("Gemm", &[], &[3, 4]), [12, 15, 18, 21]);
        assert_eq!(of("MatMul", &[], &[4, 3]), [18, 22, 26]);
        // Of two inputs, each with three outputs of two taps; and of two groups of two inputs.
        assert_eq!(of("ConvTranspose", &[], &[2, 3, 2]), [1 + 13, 5 + 17, 9 + 21]);
        assert_eq!(of("ConvTranspose", &[("group", 2)], &[4, 1, 3]), [3 + 12, 21 + 30]);
    }

    #[test]
    fn a_bias_holds_beside_the_products_that_it_is_added_to() {
        let to = QParams { scale: 1.0, zero_point: 0 };
        let holds = |value: f32, products: i64| {
            let bias = Bias { values: vec![value], stored: None };
            Bias::hold(bias.in_steps(0, 0.5, to), products)
        };
        // 255 * 127 * 66,311 is the last product below 2^31.
        assert!(holds(0.0, 255 * 127 * 66_311) && !holds(0.0, 255 * 127 * 66_312));
        assert!(holds(0.5, i64::from(i32::MAX) - 1) && !holds(0.5, i64::from(i32::MAX)));
        assert!(holds(-1e9, 1) && !holds(-1e9, 1 << 28) && !holds(f32::NAN, 0));
        // A quarter of the output's step off, and no more.
        assert!(holds(100.25, 0));
        let coarse = Bias { values: vec![100.125], stored: None };
        assert!(!Bias::hold(coarse.in_steps(0, 0.75, to), 0));
    }
}
