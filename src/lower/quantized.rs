//! Float operators on integers whose result is quantized again: one integer op each.
//!
//! `DequantizeLinear → op → Relu or Clip → QuantizeLinear` computes `op` on integers and clamps
//! where the result is rounded: quantizing is monotone, so clamping before it or after it is the
//! same. Requantization: `multiplier = input_scale * weight_scale / output_scale`, ONNX's QLinearConv.

use tractlet_core::plan::{AddS8, AveragePoolS8, ConvS8, MaxPoolS8, MulS8, Operand, SoftmaxS8};
use tractlet_core::shape::{ConvShape, Requantize, Window};

use super::value::{Act, Layout, QParams, StoredQuant, Value};
use super::{Lowering, Why, float, geometry, int, ints, number};
use crate::model::{DType, Node};

pub(super) const UNALIGNED: &str = "its operands broadcast in a way that is not taken";

/// What follows an operator and goes into its op.
pub(super) struct Tail {
    /// The last tensor that the op makes.
    pub output: String,
    pub min: f32,
    pub max: f32,
    /// Parameters and type of the QuantizeLinear at the end, where there is one.
    pub quantized: Option<(QParams, DType)>,
    /// The nodes between, by index.
    pub nodes: Vec<usize>,
}

/// An integer operator's input.
struct Input {
    act: Act,
    q: QParams,
}

/// Weights as they are stored, and less their zero points.
type Stored8<'m> = (StoredQuant<'m>, Vec<i8>);

/// Weights of a convolution or a fully connected layer.
struct Weights {
    /// OHWI.
    values: Vec<i8>,
    /// One for each output channel.
    scales: Vec<f32>,
}

impl<'m> Lowering<'m> {
    /// Lowers a node to an integer op if it works on integers from end to end.
    ///
    /// # Errors
    /// It does, but is not covered; `Ok(false)` leaves it to floats.
    pub(super) fn quantized(&mut self, node: &Node) -> Result<bool, Why> {
        let (act, q) = match (self.value(node, self.operand(node))?, node.op.as_str()) {
            // The greatest integer is the greatest number: the scale does not matter.
            (Value::Integers(act, dtype), "MaxPool") => {
                let pooled = self.max_pool(node, &act)?;
                self.set(node, Value::Integers(pooled, dtype));
                return Ok(true);
            }
            (Value::Dequantized(act, q), "MaxPool") => {
                let pooled = self.max_pool(node, &act)?;
                self.set(node, Value::Dequantized(pooled, q));
                return Ok(true);
            }
            (Value::Dequantized(act, q), _) => (act, q),
            _ => return Ok(false),
        };
        let tail = self.tail(node)?;
        let Some((to, dtype)) = tail.quantized else {
            return Ok(false);
        };
        let x = Input { act, q };
        let requantize = requantize(&tail, to);
        let output = match node.op.as_str() {
            "Conv" | "Gemm" | "MatMul" => match self.weights_of(node)? {
                Some(stored) if node.op == "Conv" => self.conv_s8(node, x, stored, to, requantize)?,
                Some(stored) if unscaled(node) => self.fully_connected_s8(node, x, stored, to, requantize)?,
                _ => return Ok(false),
            },
            "AveragePool" | "GlobalAveragePool" | "ReduceMean" => self.average_pool_s8(node, x, to, requantize)?,
            "Softmax" => self.softmax_s8(node, x, to, requantize)?,
            op => match float::unary(self, node)? {
                Some(function) => {
                    self.table(&node.name, &x.act, |v| limited(to.quantize(function.of(x.q.dequantize(v))), requantize))
                }
                None if matches!(op, "Add" | "Sub" | "Mul") => match self.binary_s8(node, x, to, requantize)? {
                    Some(output) => output,
                    None => return Ok(false),
                },
                None => return Ok(false),
            },
        };
        self.take(tail, Value::Integers(output, dtype));
        Ok(true)
    }

    /// Follows the single readers of a node's output through Relu and Clip to a QuantizeLinear.
    pub(super) fn tail(&self, node: &Node) -> Result<Tail, Why> {
        let output = node.outputs.first().ok_or("it has no output")?.clone();
        let mut tail = Tail { output, min: f32::NEG_INFINITY, max: f32::INFINITY, quantized: None, nodes: vec![] };
        while let Some((index, reader)) = self.sole_reader(&tail.output) {
            if reader.input(0) != Some(&tail.output) {
                break;
            }
            if reader.op == "QuantizeLinear" {
                let dtype = self.quantized_dtype(reader)?;
                tail.quantized = Some((self.per_tensor(reader, dtype)?, dtype));
            } else if let Some((min, max)) = self.clamp(reader) {
                (tail.min, tail.max) = (tail.min.clamp(min, max), tail.max.clamp(min, max));
            } else {
                break;
            }
            tail.nodes.push(index);
            tail.output.clone_from(&reader.outputs[0]);
            if tail.quantized.is_some() {
                break;
            }
        }
        Ok(tail)
    }

    /// The bounds of a Relu or a Clip.
    pub(super) fn clamp(&self, node: &Node) -> Option<(f32, f32)> {
        match node.op.as_str() {
            "Relu" => Some((0.0, f32::INFINITY)),
            "Clip" => {
                let bound = |index: usize, name: &str, default: f32| match node.input(index) {
                    Some(_) => self.value(node, index).ok().and_then(|value| self.scalar_of(&value)),
                    None => Some(number(node, name, default)),
                };
                let (min, max) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
                (min <= max).then_some((min, max))
            }
            _ => None,
        }
    }

    /// Marks the tail's nodes as computed, with the value at its end.
    pub(super) fn take(&mut self, tail: Tail, value: Value<'m>) {
        self.consumed.extend(tail.nodes);
        self.values.insert(tail.output, value);
    }

    fn conv_s8(
        &mut self,
        node: &Node,
        x: Input,
        (stored, values): Stored8<'m>,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let groups = int(node, "group", 1) as usize;
        let act = self.channels_last(&node.name, x.act)?;
        let dims = &stored.tensor.dims;
        let (out_c, in_c, kernel) = (dims[0], dims[1], dims[2..].to_vec());
        let output_dims = self.output_dims(node)?;
        let window = geometry::window(node, &act, &output_dims, &kernel)?;
        let values = geometry::ohwi(&values, out_c, in_c, kernel.iter().product());
        let weights = Weights { values, scales: spread(&stored, 0, out_c)? };
        let shape = ConvShape { window, out_c, groups };
        let output = self.program.bytes(output_dims, Layout::ChannelsLast);
        self.conv_op(node, &Input { act, q: x.q }, shape, weights, (to, requantize), &output)?;
        Ok(output)
    }

    /// Gemm and MatMul by stored weights.
    fn fully_connected_s8(
        &mut self,
        node: &Node,
        x: Input,
        (stored, values): Stored8<'m>,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Act, Why> {
        let act = self.plain(&node.name, x.act)?;
        let &[a, b] = stored.tensor.dims.as_slice() else {
            return Err("its weights must be a matrix".into());
        };
        let transposed = int(node, "transB", 0) != 0;
        let (in_c, out_c) = if transposed { (b, a) } else { (a, b) };
        let values = if transposed { values } else { transpose(&values, in_c, out_c) };
        let weights = Weights { values, scales: spread(&stored, usize::from(!transposed), out_c)? };
        if act.dims.last() != Some(&in_c) {
            return Err("its input does not end in the weights' rows".into());
        }
        let shape = ConvShape { window: geometry::rows(act.elements() / in_c, in_c), out_c, groups: 1 };
        let output_dims = self.output_dims(node)?;
        let output = self.program.bytes(output_dims, Layout::Plain);
        self.conv_op(node, &Input { act, q: x.q }, shape, weights, (to, requantize), &output)?;
        Ok(output)
    }

    fn conv_op(
        &mut self,
        node: &Node,
        x: &Input,
        shape: ConvShape,
        weights: Weights,
        to: (QParams, Requantize),
        output: &Act,
    ) -> Result<(), Why> {
        let out_c = shape.out_c;
        let scale = |c: usize| f64::from(x.q.scale) * f64::from(weights.scales[c]);
        let mut bias = vec![0i32; out_c];
        for (c, (bias, value)) in bias.iter_mut().zip(self.bias_of(node, out_c)?).enumerate() {
            // A channel of scale 0 has no weights to speak of; its bias cannot be expressed.
            let steps = if scale(c) > 0.0 { (f64::from(value) / scale(c)).round_ties_even() } else { 0.0 };
            if steps.abs() > f64::from(i32::MAX) {
                return Err(format!("its bias for channel {c} does not fit 32 bits"));
            }
            *bias = steps as i32;
        }
        if let Ok(Value::DequantizedStored(q)) = self.value(node, 2)
            && q.tensor.dtype == DType::I32
            && q.zero_points.iter().all(|z| *z == 0)
        {
            self.exact_bias(&q, scale, &mut bias)?;
        }
        let row = weights.values.len() / out_c;
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
            weights: self.builder.conv_weights(&shape, &weights.values),
            bias: self.builder.data(&bias),
            multipliers: self.builder.data(&multipliers),
        };
        self.program.push(&node.name, op);
        Ok(())
    }

    /// An int32 bias that has the accumulator's own scale, to a rounding, is taken as it is.
    fn exact_bias(&self, q: &StoredQuant<'_>, scale: impl Fn(usize) -> f64, bias: &mut [i32]) -> Result<(), Why> {
        let stored = self.stored_integers(q.tensor)?;
        for (c, bias) in bias.iter_mut().enumerate() {
            let own = f64::from(q.scales[c % q.scales.len()]);
            if scale(c) > 0.0 && (own / scale(c) - 1.0).abs() < 1e-5 {
                *bias = stored[c % stored.len()];
            }
        }
        Ok(())
    }

    /// Weights that are stored in 8 bits and fit int8 less their zero point; others are left to floats.
    fn weights_of(&self, node: &Node) -> Result<Option<Stored8<'m>>, Why> {
        let q = match self.value(node, 1)? {
            Value::DequantizedStored(q) if matches!(q.tensor.dtype, DType::I8 | DType::U8) => q,
            _ => return Ok(None),
        };
        // Byte by byte: weights are most of a model, and four bytes each would be most of the peak.
        let bytes = self.model.bytes(q.tensor).map_err(|e| e.to_string())?;
        let widened: fn(u8) -> i32 = if q.tensor.dtype == DType::I8 { |b| i32::from(b as i8) } else { i32::from };
        let centred: Result<Vec<i8>, _> = {
            let channel = q.channels();
            let less = |(i, b): (usize, &u8)| i8::try_from(widened(*b).wrapping_sub(q.zero_points[channel(i)]));
            bytes.iter().enumerate().map(less).collect()
        };
        Ok(centred.ok().map(|centred| (q, centred)))
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

    /// Two tensors of integers, one of them stored perhaps; `None` leaves it to floats.
    fn binary_s8(&mut self, node: &Node, x: Input, to: QParams, requantize: Requantize) -> Result<Option<Act>, Why> {
        let index = self.operand(node);
        let (a, b_q, b_span, swapped) = match self.value(node, 1 - index)? {
            Value::Dequantized(act, q) => {
                let swapped = act.elements() > x.act.elements();
                let (a, b) = if swapped { (Input { act, q }, x) } else { (x, Input { act, q }) };
                let (a_act, b_act) = self.aligned(&node.name, a.act, b.act)?;
                (Input { act: a_act, q: a.q }, b.q, Operand::from(self.program.span(&b_act)), swapped)
            }
            Value::DequantizedStored(stored) => {
                let Some((values, q)) = self.integers_of(&stored)? else { return Ok(None) };
                let (act, b) = self.constant_along(&node.name, x.act, values, &stored.tensor.dims)?;
                (Input { act, q: x.q }, q, b, index == 1)
            }
            _ => return Ok(None),
        };
        let output = self.program.bytes(a.act.dims.clone(), a.act.layout);
        let (a_span, out) = (self.program.span(&a.act), self.program.span(&output));
        let (a_zero_point, b_zero_point) = (a.q.zero_point, b_q.zero_point);
        let ratio = |scale: f32| (f64::from(scale) / f64::from(to.scale)) as f32;
        if node.op == "Mul" {
            let multiplier = (f64::from(a.q.scale) * f64::from(b_q.scale) / f64::from(to.scale)) as f32;
            self.program.push(
                &node.name,
                MulS8 { a: a_span, b: b_span, output: out, multiplier, a_zero_point, b_zero_point, requantize },
            );
        } else {
            let (mut a_multiplier, mut b_multiplier) = (ratio(a.q.scale), ratio(b_q.scale));
            if node.op == "Sub" {
                *(if swapped { &mut a_multiplier } else { &mut b_multiplier }) *= -1.0;
            }
            let op = AddS8 {
                a: a_span,
                b: b_span,
                output: out,
                a_multiplier,
                b_multiplier,
                a_zero_point,
                b_zero_point,
                requantize,
            };
            self.program.push(&node.name, op);
        }
        Ok(Some(output))
    }

    /// Both operands in layouts in which an op can repeat the second along the first.
    pub(super) fn aligned(&mut self, name: &str, a: Act, b: Act) -> Result<(Act, Act), Why> {
        if a.dims == b.dims {
            let b = self.laid(name, b, a.layout)?;
            return Ok((a, b));
        }
        let a = self.along(name, a, &b.dims)?.ok_or(UNALIGNED)?;
        Ok((a, b))
    }

    /// `a` in a layout along which a tensor of dimensions `b` repeats, if there is one.
    pub(super) fn along(&mut self, name: &str, a: Act, b: &[usize]) -> Result<Option<Act>, Why> {
        let image = matches!(a.dims.len(), 3 | 4) && a.dims[0] == 1;
        let layouts = [a.layout, if image && a.layout == Layout::Plain { Layout::ChannelsLast } else { Layout::Plain }];
        match layouts.into_iter().find(|&layout| repeats(&a.dims, layout, b)) {
            Some(layout) => self.laid(name, a, layout).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn max_pool(&mut self, node: &Node, act: &Act) -> Result<Act, Why> {
        if node.outputs.len() > 1 {
            return Err("the indices of a MaxPool are not taken".into());
        }
        let act = self.channels_last(&node.name, act.clone())?;
        let (window, dims) = self.pool_window(node, &act)?;
        let output = self.program.bytes(dims, Layout::ChannelsLast);
        let (input, span) = (self.program.span(&act), self.program.span(&output));
        self.program.push(&node.name, MaxPoolS8 { input, output: span, window });
        Ok(output)
    }

    fn average_pool_s8(&mut self, node: &Node, x: Input, to: QParams, requantize: Requantize) -> Result<Act, Why> {
        let act = self.channels_last(&node.name, x.act)?;
        let (window, dims) = self.pool_window(node, &act)?;
        let output = self.program.bytes(dims, Layout::ChannelsLast);
        let op = AveragePoolS8 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            window,
            count_include_pad: int(node, "count_include_pad", 0) != 0,
            multiplier: (f64::from(x.q.scale) / f64::from(to.scale)) as f32,
            input_zero_point: x.q.zero_point,
            requantize,
        };
        self.program.push(&node.name, op);
        Ok(output)
    }

    /// Window and output dimensions of a pool, be it by attributes or over the whole image.
    pub(super) fn pool_window(&self, node: &Node, act: &Act) -> Result<(Window, Vec<usize>), Why> {
        let dims = self.output_dims(node)?;
        match node.op.as_str() {
            "GlobalAveragePool" | "GlobalMaxPool" => Ok((geometry::whole(act), dims)),
            "ReduceMean" => {
                let rank = act.dims.len();
                let axes = self.reduced_axes(node)?;
                let axes: Vec<usize> =
                    axes.iter().map(|&a| if a < 0 { (a + rank as i64) as usize } else { a as usize }).collect();
                let spatial = (2..rank).all(|axis| axes.contains(&axis)) && axes.len() == rank - 2;
                if !spatial {
                    return Err(format!("a mean over dimensions {axes:?} is not taken, over all spatial ones it is"));
                }
                Ok((geometry::whole(act), dims))
            }
            _ => {
                let kernel: Vec<usize> =
                    ints(node, "kernel_shape").unwrap_or_default().iter().map(|&k| k as usize).collect();
                let window = geometry::window(node, act, &dims, &kernel)?;
                if node.op == "AveragePool" && (window.dilation_h, window.dilation_w) != (1, 1) {
                    return Err("a dilated average is not taken".into());
                }
                // Padding counts, what ceil_mode reaches for beyond it does not.
                if int(node, "count_include_pad", 0) != 0 && geometry::overhangs(node, &window) {
                    return Err("an average that counts padding, of windows beyond it, is not taken".into());
                }
                Ok((window, dims))
            }
        }
    }

    fn reduced_axes(&self, node: &Node) -> Result<Vec<i64>, Why> {
        if let Some(axes) = ints(node, "axes") {
            return Ok(axes.to_vec());
        }
        match self.value(node, 1) {
            Ok(Value::Stored(tensor)) if tensor.dtype == DType::I64 => {
                let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
                Ok(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            _ => Err("the axes of its mean are not stored".into()),
        }
    }

    fn softmax_s8(&mut self, node: &Node, x: Input, to: QParams, requantize: Requantize) -> Result<Act, Why> {
        let (act, rows, cols) = self.rows_of_softmax(node, x.act)?;
        let output = self.program.bytes(act.dims.clone(), act.layout);
        let op = SoftmaxS8 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            rows,
            cols,
            exp_table: self.builder.exp_table(x.q.scale),
            output_scale: to.scale,
            requantize,
        };
        self.program.push(&node.name, op);
        Ok(output)
    }

    /// The input with the axis of a softmax innermost, and its rows and columns.
    pub(super) fn rows_of_softmax(&mut self, node: &Node, act: Act) -> Result<(Act, usize, usize), Why> {
        let rank = act.dims.len();
        let until_12 = self.model.opset() < 13;
        let axis = int(node, "axis", if until_12 { 1 } else { -1 });
        let axis = (if axis < 0 { axis + rank as i64 } else { axis }) as usize;
        if axis == 1 && rank > 2 && !until_12 {
            let act = self.channels_last(&node.name, act)?;
            let (rows, cols) = (act.pixels(), act.channels());
            return Ok((act, rows, cols));
        }
        // Up to opset 12 all dimensions from the axis on are one row.
        if axis + 1 != rank && !until_12 {
            return Err(format!("a softmax along dimension {axis} of {rank} is not taken"));
        }
        let act = self.plain(&node.name, act)?;
        let cols: usize = act.dims[axis..].iter().product();
        let rows = act.elements() / cols;
        Ok((act, rows, cols))
    }

    /// The constant operand of a binary operator with a scalar, and whether it comes first.
    pub(super) fn scalar_operand(&self, node: &Node) -> Option<(f32, bool)> {
        let scalar = |index: usize, other: usize| {
            let (values, dims) = self.floats_of(&self.value(node, index).ok()?).ok()?;
            let other = self.value(node, other).ok()?;
            // A scalar of more dimensions would give its own to the result.
            (values.len() == 1 && dims.len() <= other.act()?.dims.len()).then(|| values[0])
        };
        scalar(1, 0).map(|value| (value, false)).or_else(|| scalar(0, 1).map(|value| (value, true)))
    }

    /// The first input of a node that is not constant, of the two that can be.
    pub(super) fn operand(&self, node: &Node) -> usize {
        usize::from(node.inputs.len() > 1 && self.value(node, 0).is_ok_and(|value| value.is_constant()))
    }
}

/// Whether a tensor of dimensions `b` repeats along one of dimensions `a` as its elements lie: a
/// scalar, or one value for each channel, innermost.
fn repeats(a: &[usize], layout: Layout, b: &[usize]) -> bool {
    // Dimensions of b count from the last of a's.
    let Some(missing) = a.len().checked_sub(b.len()) else { return false };
    let channel = match layout {
        Layout::ChannelsLast => 1,
        Layout::Plain => a.len().saturating_sub(1),
    };
    match b.iter().product() {
        1 => true,
        elements => a.get(channel) == Some(&elements) && b.get(channel.wrapping_sub(missing)) == Some(&elements),
    }
}

/// Whether a Gemm or MatMul is the bare product, which is what integers can have.
fn unscaled(node: &Node) -> bool {
    number(node, "alpha", 1.0) == 1.0 && number(node, "beta", 1.0) == 1.0 && int(node, "transA", 0) == 0
}

/// The scale of each output channel, where scales lie along `axis` or there is one.
fn spread(q: &StoredQuant<'_>, axis: usize, out_c: usize) -> Result<Vec<f32>, Why> {
    match q.scales.as_slice() {
        &[scale] => Ok(vec![scale; out_c]),
        scales if q.axis == axis && scales.len() == out_c => Ok(scales.to_vec()),
        _ => Err("its weights' scales do not lie along the output channels".into()),
    }
}

fn transpose(values: &[i8], rows: usize, cols: usize) -> Vec<i8> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

fn requantize(tail: &Tail, to: QParams) -> Requantize {
    let bound = |value: f32, open: i8| if value.is_finite() { to.quantize(value) } else { open };
    Requantize { zero_point: to.zero_point, min: bound(tail.min, i8::MIN), max: bound(tail.max, i8::MAX) }
}

fn limited(q: i8, requantize: Requantize) -> i8 {
    q.clamp(requantize.min, requantize.max)
}
