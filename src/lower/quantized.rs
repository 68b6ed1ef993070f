//! Float operators on integers whose result is quantized again: one integer op each.
//!
//! `DequantizeLinear → op → Relu or Clip → QuantizeLinear` computes `op` on integers and clamps
//! where the result is rounded: quantizing is monotone, so clamping before it or after it is the
//! same. What an Add right behind a product adds to each row goes into its bias. Requantization: `multiplier = input_scale * weight_scale / output_scale`, ONNX's QLinearConv.

use tractlet_core::plan::SoftmaxS8;
use tractlet_core::shape::Requantize;

use super::product::unscaled;
use super::value::{Act, QParams, Value};
use super::{Lowering, Why, axis_of, float, int, number};
use crate::model::{DType, Node};

/// Why a node is in float of whose operator, or of this form of it, there is none on integers.
const NO_OP: &str = "there is no op on integers for it";

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
pub(super) struct Input {
    pub act: Act,
    pub q: QParams,
}

impl<'m> Lowering<'m> {
    /// Lowers a node to an integer op if it works on integers from end to end.
    ///
    /// # Errors
    /// It does, but is not covered; `Ok(false)` leaves it to floats, and says [why](Self::in_float) of one that is quantized.
    pub(super) fn quantized(&mut self, node: &Node) -> Result<bool, Why> {
        let (act, q) = match (self.value(node, self.operand(node))?, node.op.as_str()) {
            // The greatest integer is the greatest number: the scale does not matter.
            (Value::Integers(act, dtype), "MaxPool") => {
                let pooled = self.max_pool(node, &act)?;
                self.set(node, Value::Integers(pooled, dtype));
                return Ok(true);
            }
            (Value::Dequantized(act, q), "MaxPool" | "GlobalMaxPool") => {
                let pooled = self.max_pool(node, &act)?;
                self.set(node, Value::Dequantized(pooled, q));
                return Ok(true);
            }
            (Value::Integers(act, dtype), "Resize" | "Upsample") if Self::picks(node) => {
                let resized = self.resized(node, act)?;
                self.set(node, Value::Integers(resized, dtype));
                return Ok(true);
            }
            (Value::Dequantized(act, q), "Resize" | "Upsample") if Self::picks(node) => {
                let resized = self.resized(node, act)?;
                self.set(node, Value::Dequantized(resized, q));
                return Ok(true);
            }
            (Value::Dequantized(act, q), "ReduceMax") => {
                let Some(reduced) = self.reduce_max_s8(node, act)? else { return self.in_float(node, NO_OP) };
                self.set(node, Value::Dequantized(reduced, q));
                return Ok(true);
            }
            (Value::Dequantized(act, q), _) => (act, q),
            (Value::Real(_), _) if matches!(self.value(node, 1), Ok(Value::DequantizedStored(_))) => {
                return self.in_float(node, "its stored operand is quantized, its input is not");
            }
            _ => return Ok(false),
        };
        let is_product = matches!(node.op.as_str(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
        let is_layer = is_product && !self.is_of_matrices(node);
        let tail = if is_layer { self.tail_of_product(node)? } else { self.tail(node)? };
        let Some((to, dtype)) = tail.quantized else {
            let follows = self.follows(&tail.output);
            return self.in_float(node, follows);
        };
        let x = Input { act, q };
        let requantize = requantize(&tail, to);
        let output = match node.op.as_str() {
            _ if is_product && !is_layer => match self.matmul_s8(node, (to, requantize))? {
                Ok(output) => output,
                Err(why) => return self.in_float(node, why),
            },
            _ if is_product => {
                let Some(stored) = self.weights_of(node)? else {
                    if let Some(output) = self.layer_of_held(node, &x, &tail)? {
                        self.take(tail, Value::Integers(output, dtype));
                        return Ok(true);
                    }
                    let why = no_weights(&self.value(node, 1)?);
                    return self.in_float(node, why);
                };
                if let Err(why) = self.sums_hold(node, x.q, &stored, to) {
                    return self.in_float(node, why);
                }
                match node.op.as_str() {
                    "Conv" => self.conv_s8(node, x, stored, to, requantize)?,
                    "ConvTranspose" => self.conv_transpose_s8(node, x, stored, to, requantize)?,
                    _ if unscaled(node) && self.is_layer(node) => {
                        self.fully_connected_s8(node, x, stored, to, requantize)?
                    }
                    _ => {
                        return self
                            .in_float(node, "it is more than a product by a stored matrix and a row that is added");
                    }
                }
            }
            "ReduceMean" | "ReduceSum" if node.op == "ReduceSum" || !self.is_over_pixels(node, &x.act) => {
                match self.reduce_s8(node, x, to, requantize)? {
                    Some(output) => output,
                    None => return self.in_float(node, NO_OP),
                }
            }
            "AveragePool" | "GlobalAveragePool" | "ReduceMean" => self.average_pool_s8(node, x, to, requantize)?,
            "Softmax" => self.softmax_s8(node, x, to, requantize)?,
            // Blended in the integers' own steps: with another scale behind it, floats round once.
            "Resize" | "Upsample" if to == x.q && tail.nodes.len() == 1 && !Self::is_cubic(node) => {
                self.resized(node, x.act)?
            }
            "Div" => {
                let Some((c, first)) = self.scalar_operand(node) else { return self.in_float(node, NO_OP) };
                self.tabled(node, &x, (to, requantize), |x| if first { c / x } else { x / c })
            }
            "Mul" if self.scalar_operand(node).is_some() => {
                let c = self.scalar_operand(node).map_or(1.0, |(c, _)| c);
                self.tabled(node, &x, (to, requantize), |x| x * c)
            }
            op => match float::unary(self, node)? {
                Some(function) => self.tabled(node, &x, (to, requantize), |x| function.of(x)),
                None if matches!(op, "Add" | "Sub" | "Mul") => match self.binary_s8(node, x, to, requantize)? {
                    Some(output) => output,
                    None => {
                        return self
                            .in_float(node, "its other operand is not quantized in 8 bits, for all of it alike");
                    }
                },
                None => return self.in_float(node, NO_OP),
            },
        };
        self.take(tail, Value::Integers(output, dtype));
        Ok(true)
    }

    /// A function of each value.
    fn tabled(
        &mut self,
        node: &Node,
        x: &Input,
        (to, requantize): (QParams, Requantize),
        function: impl Fn(f32) -> f32,
    ) -> Act {
        let limited = |q: i8| q.clamp(requantize.min, requantize.max);
        self.table(&node.name, &x.act, |q| limited(to.quantize(function(x.q.dequantize(q)))))
    }

    /// Whether a MatMul or Gemm multiplies otherwise than by a stored matrix from the right.
    fn is_of_matrices(&self, node: &Node) -> bool {
        let is_computed = |index| self.value(node, index).is_ok_and(|value| value.act().is_some());
        let stored = || matches!(self.value(node, 1), Ok(Value::DequantizedStored(q)) if q.tensor.dims.len() > 2);
        matches!(node.op.as_str(), "MatMul" | "Gemm") && (is_computed(1) || stored())
    }

    /// Leaves a node that is quantized to floats, and keeps why for who asks.
    pub(super) fn in_float(&mut self, node: &Node, why: impl Into<String>) -> Result<bool, Why> {
        if let Some(output) = node.outputs.first() {
            let origin = self.origins.get(output.as_str()).copied().unwrap_or(output);
            self.why_float.insert(origin.to_owned(), why.into());
        }
        Ok(false)
    }

    /// What there is behind a tensor in place of the QuantizeLinear that would make an integer op of what it comes from.
    fn follows(&self, tensor: &str) -> String {
        let reader = self.sole_reader(tensor).map(|(_, reader)| reader.op.as_str());
        match (reader, self.readers.get(tensor).map_or(0, Vec::len)) {
            (Some("QuantizeLinear"), _) => "a QuantizeLinear to 16 bits follows it".into(),
            (Some(op), _) => format!("{op} follows it, and no QuantizeLinear"),
            (None, 0 | 1) => "its result is an output of the model, and not quantized".into(),
            (None, readers) => format!("its result has {readers} readers, and no QuantizeLinear before them"),
        }
    }

    /// Follows the single readers of a node's output through Relu, Clip and Identity to a QuantizeLinear.
    pub(super) fn tail(&self, node: &Node) -> Result<Tail, Why> {
        let output = node.outputs.first().ok_or("it has no output")?.clone();
        let mut tail = Tail { output, min: f32::NEG_INFINITY, max: f32::INFINITY, quantized: None, nodes: vec![] };
        while let Some((index, reader)) = self.sole_reader(&tail.output) {
            if reader.input(0) != Some(&tail.output) {
                break;
            }
            if reader.op == "QuantizeLinear" {
                let dtype = self.quantized_dtype(reader)?;
                if self.levels(reader, dtype)?.is_some() {
                    break;
                }
                tail.quantized = Some((self.per_tensor(reader, dtype)?, dtype));
            } else if let Some((min, max)) = self.clamp(reader) {
                (tail.min, tail.max) = (tail.min.clamp(min, max), tail.max.clamp(min, max));
            } else if reader.op != "Identity" {
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

    /// The same of a product by stored weights, whose sums take in what an Add behind it adds to each row.
    fn tail_of_product(&self, node: &Node) -> Result<Tail, Why> {
        let Some((index, _)) = self.added_row(node) else { return self.tail(node) };
        let mut tail = self.tail(self.nodes[index].get())?;
        tail.nodes.insert(0, index);
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
                // Where they cross, all becomes the upper one.
                (!min.is_nan() && !max.is_nan()).then_some((min.min(max), max))
            }
            _ => None,
        }
    }

    /// Marks the tail's nodes as computed, with the value at its end.
    pub(super) fn take(&mut self, tail: Tail, value: Value<'m>) {
        self.consumed.extend(tail.nodes);
        self.values.insert(tail.output, value);
    }

    fn softmax_s8(&mut self, node: &Node, x: Input, to: QParams, requantize: Requantize) -> Result<Act, Why> {
        let (act, rows, cols, axis) = self.rows_of_softmax(node, x.act)?;
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
        self.with_axis_at(&node.name, output, axis)
    }

    /// The input with the axis of a softmax innermost, its rows and columns, and where the axis was if it had to move.
    pub(super) fn rows_of_softmax(&mut self, node: &Node, act: Act) -> Result<(Act, usize, usize, Option<usize>), Why> {
        let rank = act.dims.len();
        let until_12 = self.model.opset() < 13;
        let axis = axis_of(int(node, "axis", if until_12 { 1 } else { -1 }), rank)?;
        if axis == 1 && act.is_image() && !until_12 {
            let act = self.channels_last(&node.name, act)?;
            let (rows, cols) = (act.elements() / act.channels(), act.channels());
            return Ok((act, rows, cols, None));
        }
        let act = self.plain(&node.name, act)?;
        if axis + 1 != rank && !until_12 {
            let (rows, cols) = (act.elements() / act.dims[axis], act.dims[axis]);
            let order: Vec<usize> = (0..rank).filter(|&d| d != axis).chain([axis]).collect();
            let act = self.permuted(&node.name, &act, &order)?;
            return Ok((act, rows, cols, Some(axis)));
        }
        // Up to opset 12 all dimensions from the axis on are one row.
        let cols: usize = act.dims[axis..].iter().product();
        let rows = act.elements() / cols;
        Ok((act, rows, cols, None))
    }

    /// The last dimension moved to where `axis` says it belongs.
    pub(super) fn with_axis_at(&mut self, name: &str, act: Act, axis: Option<usize>) -> Result<Act, Why> {
        let Some(axis) = axis else { return Ok(act) };
        let last = act.dims.len() - 1;
        let order: Vec<usize> = (0..axis).chain([last]).chain(axis..last).collect();
        self.permuted(name, &act, &order)
    }
}

fn requantize(tail: &Tail, to: QParams) -> Requantize {
    let bound = |value: f32, open: i8| if value.is_finite() { to.quantize(value) } else { open };
    Requantize { zero_point: to.zero_point, min: bound(tail.min, i8::MIN), max: bound(tail.max, i8::MAX) }
}

/// Why what a product has for weights are none to integers.
fn no_weights(value: &Value<'_>) -> String {
    match value {
        Value::DequantizedStored(q) if matches!(q.tensor.dtype, DType::I8 | DType::U8) => {
            "its weights, less their zero points, are no int8".into()
        }
        Value::DequantizedStored(q) => format!("its weights are {}", q.tensor.dtype),
        _ => "its weights are not quantized".into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::lower::golden;

    /// Why nodes of a golden model are in float, in the order of their names.
    fn why_float(name: &str) -> Vec<String> {
        let mut reasons: Vec<_> = golden(name).why_float.into_iter().collect();
        reasons.sort();
        reasons.into_iter().map(|(_, why)| why).collect()
    }

    #[test]
    fn what_is_quantized_and_in_float_says_why() {
        let cases = [
            ("layer_norm_quantized", "there is no op on integers for it"),
            ("resize_linear_to_another_scale", "there is no op on integers for it"),
            ("conv_float_weights", "its weights are not quantized"),
            ("conv_transpose_u8_weights_far_zero_point", "its weights, less their zero points, are no int8"),
            ("gemm_computed_quantized_bias", "it is more than the product of both its operands"),
            ("matmul_computed_half_quantized", "one of its operands is not quantized in 8 bits, for all of it alike"),
            ("matmul_computed_sums_that_do_not_fit", "its sums may leave 32 bits"),
            ("gemm_alpha_beta", "it is more than a product by a stored matrix and a row that is added"),
            ("add_constant_image", "its other operand is not quantized in 8 bits, for all of it alike"),
            ("matmul_add_column", "Add follows it, and no QuantizeLinear"),
            ("output_before_its_activation", "its result is an output of the model, and not quantized"),
            ("quantized_twice", "its result has 2 readers, and no QuantizeLinear before them"),
            ("unread_channels_of_a_product_of_floats", "its stored operand is quantized, its input is not"),
            (
                "conv_int32_bias_between_coarse_sums",
                "the bias of its channel 0 is too fine to be a whole number of the steps of its sums",
            ),
        ];
        for (name, why) in cases {
            assert_eq!(why_float(name), [why], "{name}");
        }
        let full = why_float("matmul_add_row_that_fills_the_sums");
        assert!(full.contains(&"the sums of its channel 0, with the bias, may leave 32 bits".to_owned()), "{full:?}");
    }

    #[test]
    fn what_is_in_integers_or_not_quantized_has_nothing_to_say() {
        for name in ["conv_3x3_pad", "conv_f32_relu6", "add_channels", "div_scalar", "div_scalar_first"] {
            assert!(why_float(name).is_empty(), "{name}");
        }
    }
}
