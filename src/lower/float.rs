//! What is not quantized, in f32.

use bytemuck::NoUninit;
use tractlet_core::kernels::conv_f32;
use tractlet_core::plan::{AveragePoolF32, ConvF32, MaxPoolF32, Operand, SoftmaxF32, Unary, UnaryF32};
use tractlet_core::shape::{ConvShape, Window};

use super::binary::UNALIGNED;
use super::constant::normal;
use super::functions::Function;
pub(super) use super::functions::unary;
use super::pad::Border;
use super::pool::Pooled;
use super::unread::Filters;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, along, geometry, int, number, truth};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn float(&mut self, node: &Node) -> Result<(), Why> {
        let op = node.op.as_str();
        match op {
            "Conv" => return self.conv_f32(node),
            "ConvTranspose" => return self.conv_transpose_f32(node),
            "BatchNormalization" => return self.batch_norm_f32(node),
            "Gemm" | "MatMul" if self.is_layer(node) => return self.fully_connected_f32(node),
            "Gemm" => return self.gemm_f32(node),
            "MatMul" => return self.matmul_f32(node),
            "LayerNormalization" | "InstanceNormalization" | "GroupNormalization" => return self.norm_f32(node),
            "RMSNormalization" => return self.rms_norm_f32(node),
            "RNN" | "GRU" | "LSTM" => return self.recurrent_f32(node),
            "Attention" => return self.attention(node),
            "RotaryEmbedding" => return self.rotary(node),
            "Resize" | "Upsample" => {
                let input = self.real(&node.name, &self.value(node, 0)?)?;
                let output = self.resized(node, input)?;
                self.set(node, Value::Real(output));
                return Ok(());
            }
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => return self.pool_f32(node),
            "ReduceMean" if self.value(node, 0)?.act().is_some_and(|act| self.is_over_pixels(node, act)) => {
                return self.pool_f32(node);
            }
            "Softmax" => return self.softmax_f32(node),
            "Einsum" => return self.einsum_f32(node),
            _ => {}
        }
        if self.gated(node)? {
            return Ok(());
        }
        if let Some(function) = unary(self, node)? {
            let input = self.real(&node.name, &self.value(node, self.operand(node))?)?;
            let output = self.function_f32(&node.name, &input, function);
            self.set(node, Value::Real(output));
            return Ok(());
        }
        match op {
            "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Pow" | "Mod" | "PRelu" | "Sum" | "Mean" => {
                self.binary_f32(node)
            }
            "Clip" => self.clip_f32(node),
            "LpPool" => self.lp_pool_f32(node),
            op if along::works_along(op) => self.work_along(node),
            op if truth::asks(op) => self.ask(node),
            _ => Err(format!("operator {op} has no op in a plan")),
        }
    }

    /// A function of every element.
    pub(super) fn function_f32(&mut self, name: &str, input: &Act, function: Function) -> Act {
        let output = self.program.floats(input.dims.clone(), input.layout);
        let (input, span) = (self.program.span(input), self.program.span(&output));
        let Function { unary, alpha, beta } = function;
        self.program.push(name, UnaryF32 { input, output: span, function: unary, alpha, beta });
        output
    }

    fn conv_f32(&mut self, node: &Node) -> Result<(), Why> {
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.channels_last(&node.name, input)?;
        let (values, dims) = self.floats_of(&self.value(node, 1)?)?;
        let Filters { values, out_c, in_c, kernel, groups, outputs } = self.filters(node, values, &dims)?;
        let mut output_dims = self.output_dims(node)?;
        output_dims[1] = out_c;
        let (act, window) = self.conv_window(node, act, &output_dims, &kernel, Border::Bits(0))?;
        let taps: usize = kernel.iter().product();
        let weight = |[tap, input, output]: [usize; 3]| values[(output * in_c + input) * taps + tap];
        let shape = ConvShape { window, out_c, groups };
        let mut bias = self.bias_of(node, dims[0])?;
        if let Some(outputs) = outputs {
            bias = outputs.iter().map(|&channel| bias[channel]).collect();
        }
        let (name, output) = self.conv_op_f32(node, &act, shape, weight, &bias, (output_dims, Layout::ChannelsLast))?;
        self.values.insert(name, Value::Real(output));
        Ok(())
    }

    /// A batch norm that no convolution took in: one multiplication and one addition for each channel.
    fn batch_norm_f32(&mut self, node: &Node) -> Result<(), Why> {
        if int(node, "training_mode", 0) != 0 || node.outputs.len() > 1 {
            return Err("a batch norm that trains is not taken".into());
        }
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let image = input.dims.len() > 2;
        let act = if image { self.channels_last(&node.name, input)? } else { self.plain(&node.name, input)? };
        let parameter = |index| self.floats_of(&self.value(node, index)?).map(|(values, _)| values);
        let (scale, shift, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let channels = act.channels();
        if [&scale, &shift, &mean, &variance].iter().any(|values| values.len() != channels) {
            return Err(format!("its parameters are not one value for each of {channels} channels"));
        }
        let epsilon = number(node, "epsilon", 1e-5);
        let weights: Vec<f32> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let bias: Vec<f32> = shift.iter().zip(&mean).zip(&weights).map(|((b, m), w)| b - m * w).collect();
        let window = Window::pixels(act.elements() / channels, channels);
        let shape = ConvShape { window, out_c: channels, groups: channels };
        let made = (act.dims.clone(), act.layout);
        let (name, output) = self.conv_op_f32(node, &act, shape, |[_, _, output]| weights[output], &bias, made)?;
        self.values.insert(name, Value::Real(output));
        Ok(())
    }

    /// Whether a Gemm or MatMul multiplies by a stored matrix from the right and adds one value for each column.
    pub(super) fn is_layer(&self, node: &Node) -> bool {
        let matrix = |value: &Value<'m>| match value {
            Value::Stored(tensor) => tensor.dims.len() == 2,
            Value::DequantizedStored(q) => q.tensor.dims.len() == 2,
            Value::Numbers(_, dims) => dims.len() == 2,
            _ => false,
        };
        let (Ok(a), Ok(b)) = (self.value(node, 0), self.value(node, 1)) else { return false };
        let bias = || match self.value(node, 2).and_then(|bias| self.floats_of(&bias)) {
            Ok((values, dims)) => values.len() == 1 || dims.last() == Some(&values.len()),
            Err(_) => false,
        };
        a.act().is_some_and(|act| !act.dims.is_empty())
            && matrix(&b)
            && int(node, "transA", 0) == 0
            && (node.input(2).is_none() || bias())
    }

    fn fully_connected_f32(&mut self, node: &Node) -> Result<(), Why> {
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.plain(&node.name, input)?;
        let (values, dims) = self.floats_of(&self.value(node, 1)?)?;
        let &[a, b] = dims.as_slice() else { return Err("its weights must be a matrix".into()) };
        let transposed = int(node, "transB", 0) != 0;
        let (in_c, out_c) = if transposed { (b, a) } else { (a, b) };
        let alpha = number(node, "alpha", 1.0);
        let weight = |[_, i, o]: [usize; 3]| alpha * values[if transposed { o * in_c + i } else { i * out_c + o }];
        if act.dims.last() != Some(&in_c) {
            return Err("its input does not end in the weights' rows".into());
        }
        let shape = ConvShape { window: Window::pixels(act.elements() / in_c, in_c), out_c, groups: 1 };
        let beta = number(node, "beta", 1.0);
        let bias: Vec<f32> = self.bias_of(node, out_c)?.into_iter().map(|bias| beta * bias).collect();
        let output_dims = self.output_dims(node)?;
        let (name, output) = self.conv_op_f32(node, &act, shape, weight, &bias, (output_dims, Layout::Plain))?;
        self.values.insert(name, Value::Real(output));
        Ok(())
    }

    /// A convolution with the row that is added to it and the clamps that follow: the tensor at their end by name, and where it is.
    /// Weights are asked for by tap, input channel of the group, and output channel.
    pub(super) fn conv_op_f32(
        &mut self,
        node: &Node,
        act: &Act,
        shape: ConvShape,
        weight: impl Fn([usize; 3]) -> f32,
        bias: &[f32],
        output: (Vec<usize>, Layout),
    ) -> Result<(String, Act), Why> {
        let (bias, last) = self.with_added_row(node, bias);
        let (name, min, max) = self.clamped(last)?;
        let output = self.program.floats(output.0, output.1);
        self.push_conv_f32(&node.name, (act, &output), shape, weight, &bias, (min, max));
        Ok((name, output))
    }

    /// The bias with what an Add behind a product adds to each row, and the node behind which it then goes on.
    fn with_added_row<'n>(&mut self, node: &'n Node, bias: &[f32]) -> (Vec<f32>, &'n Node)
    where
        'm: 'n,
    {
        let added = matches!(node.op.as_str(), "Conv" | "Gemm" | "MatMul").then(|| self.added_row(node)).flatten();
        let row = added.and_then(|(index, row)| Some((index, self.floats_of(&row).ok()?.0)));
        match row {
            Some((index, row)) if row.len() == 1 || row.len() == bias.len() => {
                self.report(self.nodes[index].origin(), crate::model::DType::F32);
                self.consumed.insert(index);
                let sums = bias.iter().zip(row.iter().cycle()).map(|(bias, more)| bias + more);
                (sums.collect(), self.nodes[index].get())
            }
            _ => (bias.to_vec(), node),
        }
    }

    /// The convolution from one tensor to another, of weights that are asked for as above.
    pub(super) fn push_conv_f32(
        &mut self,
        name: &str,
        (input, output): (&Act, &Act),
        shape: ConvShape,
        weight: impl Fn([usize; 3]) -> f32,
        bias: &[f32],
        (min, max): (f32, f32),
    ) {
        let op = ConvF32 {
            input: self.program.span(input),
            output: self.program.span(output),
            shape,
            // Straight into the plan, of which they may be most.
            weights: self.builder.data_of(conv_f32::order(&shape).map(|at| normal(weight(at)))),
            bias: self.builder.data_of(bias.iter().copied().map(normal)),
            min,
            max,
        };
        self.program.push(name, op);
    }

    /// Takes the Relu and Clip that follow a node: the name at their end, and the bounds.
    pub(super) fn clamped(&mut self, node: &Node) -> Result<(String, f32, f32), Why> {
        let mut tail = self.tail(node)?;
        if tail.quantized.is_some() {
            // The quantization is an op of its own here.
            let last = tail.nodes.pop().ok_or("a tail without nodes")?;
            tail.output = self.nodes[last].get().input(0).unwrap_or_default().to_owned();
        }
        for &index in &tail.nodes {
            self.report(self.nodes[index].origin(), crate::model::DType::F32);
        }
        self.consumed.extend(&tail.nodes);
        Ok((tail.output, tail.min, tail.max))
    }

    fn pool_f32(&mut self, node: &Node) -> Result<(), Why> {
        if node.outputs.len() > 1 {
            return Err("the indices of a MaxPool are not taken".into());
        }
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.channels_last(&node.name, input)?;
        let Pooled { act, window, dims, count_include_pad } = self.pooled(node, act, 0)?;
        let result = self.program.floats(dims, Layout::ChannelsLast);
        let (input, output) = (self.program.span(&act), self.program.span(&result));
        if node.op.contains("Max") {
            self.program.push(&node.name, MaxPoolF32 { input, output, window });
        } else {
            self.program.push(&node.name, AveragePoolF32 { input, output, window, count_include_pad });
        }
        self.set(node, Value::Real(result));
        Ok(())
    }

    /// `(sum |x|^p)^(1 / p)` over a window, the sum by an average that counts the padding.
    fn lp_pool_f32(&mut self, node: &Node) -> Result<(), Why> {
        let p = int(node, "p", 2) as f32;
        let name = &node.name;
        let function = |unary, alpha| Function { unary, alpha, beta: 0.0 };
        let input = self.real(name, &self.value(node, 0)?)?;
        let act = self.channels_last(name, input)?;
        let sizes = self.function_f32(name, &act, function(Unary::Abs, 0.0));
        let powers = self.function_f32(name, &sizes, function(Unary::Power, p));
        let Pooled { act: powers, window, dims, .. } = self.pooled(node, powers, 0)?;
        let means = self.program.floats(dims, Layout::ChannelsLast);
        let (input, output) = (self.program.span(&powers), self.program.span(&means));
        self.program.push(name, AveragePoolF32 { input, output, window, count_include_pad: true });
        let taps = (window.kernel_h * window.kernel_w) as f32;
        let sums = self.function_f32(name, &means, function(Unary::Affine, taps));
        let roots = self.function_f32(name, &sums, function(Unary::Power, 1.0 / p));
        self.set(node, Value::Real(roots));
        Ok(())
    }

    fn softmax_f32(&mut self, node: &Node) -> Result<(), Why> {
        let input = self.real(&node.name, &self.value(node, 0)?)?;
        let (act, rows, cols, axis) = self.rows_of_softmax(node, input)?;
        let output = self.program.floats(act.dims.clone(), act.layout);
        let (input, span) = (self.program.span(&act), self.program.span(&output));
        self.program.push(&node.name, SoftmaxF32 { input, output: span, rows, cols });
        let output = self.with_axis_at(&node.name, output, axis)?;
        self.set(node, Value::Real(output));
        Ok(())
    }

    /// `a`, and a constant as it repeats along it: a scalar, one value a channel, or of the same shape.
    pub(super) fn constant_along<T: NoUninit>(
        &mut self,
        name: &str,
        a: Act,
        values: Vec<T>,
        dims: &[usize],
    ) -> Result<(Act, Operand), Why> {
        if values.len() == a.elements() && a.dims.ends_with(dims) {
            let values = match a.layout {
                Layout::Plain => values,
                Layout::ChannelsLast => geometry::ohwi(&values, a.channels(), a.pixels()),
            };
            return Ok((a, self.builder.data(&values).into()));
        }
        let a = self.along(name, a, dims)?.ok_or(UNALIGNED)?;
        Ok((a, self.builder.data(&values).into()))
    }
}

#[cfg(test)]
mod tests {
    use crate::lower::golden;

    #[test]
    fn a_row_that_is_added_and_a_clamp_behind_it_go_into_the_product() {
        for name in ["row_behind_conv_f32", "row_behind_matmul_f32"] {
            let kinds: Vec<&str> = golden(name).program.steps.iter().map(|step| step.op.kind()).collect();
            let computing = kinds.iter().filter(|kind| **kind != "StridedCopy");
            assert_eq!(computing.collect::<Vec<_>>(), [&"ConvF32"], "{name}");
        }
    }
}
