//! Sums of products of integers by stored weights, in int32. Where these, less their zero points, do not fit int8, as those in uint8 with
//! a zero point of their own, they are taken as they are held, and the sums put right by those of their windows:
//! `sum x * (w - zero_point) = sum x * held - shift * sum x`, in each bit.

use tractlet_core::kernels::conv::Form;
use tractlet_core::plan::{ArenaSpan, ConvS32, DataSpan, LessS32, Operand, ScaleS32};
use tractlet_core::shape::{ConvShape, Window};

use super::pad::Border;
use super::product::{spread, transpose, unscaled};
use super::quantized::{Input, Tail};
use super::value::{Act, Layout, StoredQuant, Value};
use super::{Lowering, Why, geometry, int};
use crate::model::{DType, Node};

/// Weights in the model's order, and by how much each is less, for all channels or one after the other, if that is to be put right.
pub(super) type Held = (Vec<i8>, Option<Vec<i32>>);

impl<'m> Lowering<'m> {
    /// A convolution or a fully connected layer between quantized ends, by weights that do not fit int8: sums in integers, brought
    /// to scale and quantized in f32. `None` where it is no such layer, or its sums may leave 32 bits.
    pub(super) fn layer_of_held(&mut self, node: &Node, x: &Input, tail: &Tail) -> Result<Option<Act>, Why> {
        let (Value::DequantizedStored(stored), Some((to, _))) = (self.value(node, 1)?, tail.quantized) else {
            return Ok(None);
        };
        let dims = stored.tensor.dims.clone();
        let output_first = node.op == "Conv" || int(node, "transB", 0) != 0;
        let is_layer = match node.op.as_str() {
            // Of one channel each, sums of windows are as much work as the layer: floats take less.
            "Conv" => dims.first().is_some_and(|&out_c| out_c == 1 || int(node, "group", 1) != out_c as i64),
            "Gemm" | "MatMul" => {
                unscaled(node) && self.is_layer(node) && x.act.dims.last() == dims.get(usize::from(output_first))
            }
            _ => false,
        };
        let axis = usize::from(!output_first);
        let (true, DType::I8 | DType::U8, Some(&out_c)) = (is_layer, stored.tensor.dtype, dims.get(axis)) else {
            return Ok(None);
        };
        let products = dims.iter().product::<usize>() / out_c.max(1);
        let scales: Vec<f32> = spread(&stored, axis, out_c)?.iter().map(|scale| x.q.scale * scale).collect();
        if products > i32::MAX as usize / (255 * 255) || !scales.iter().all(|scale| scale.is_finite()) {
            return Ok(None);
        }
        let bias = self.bias_values(node, out_c)?;
        let (values, shifts) = self.held(&stored)?;
        let zero_point = self.builder.data(&[x.q.zero_point]).into();
        let (sums, channels) = self.sums(node, x.act.clone(), zero_point, &dims, (values, Some(shifts)))?;
        let floats = self.program.floats(sums.dims.clone(), sums.layout);
        let op = ScaleS32 {
            input: self.program.span(&sums),
            scale: self.builder.data(&scales).into(),
            bias: self.builder.data(&bias).into(),
            output: self.program.span(&floats),
            channels,
            min: tail.min,
            max: tail.max,
        };
        self.program.push(&node.name, op);
        let last = tail.nodes.last().map_or(node, |&index| self.nodes[index].get());
        Ok(Some(self.quantized_act(last, &floats, to)))
    }

    /// Sums of a convolution, or of a product by a matrix, and how many channels they have.
    pub(super) fn sums(
        &mut self,
        node: &Node,
        act: Act,
        zero_point: Operand,
        of_weights: &[usize],
        (values, shifts): Held,
    ) -> Result<(Act, usize), Why> {
        let dims = self.output_dims(node)?;
        let (act, shape, weights, layout) = if node.op.starts_with("Conv") {
            let act = self.channels_last(&node.name, act)?;
            let (&[out_c, in_c], kernel) = of_weights.split_first_chunk().ok_or("its weights are no filters")?;
            let (act, window) = self.conv_window(node, act, &dims, kernel, Border::Held(zero_point))?;
            let weights = geometry::ohwi(&values, in_c, kernel.iter().product());
            (act, ConvShape { window, out_c, groups: int(node, "group", 1) as usize }, weights, Layout::ChannelsLast)
        } else {
            let &[a, b] = of_weights else { return Err("its weights must be a matrix".into()) };
            let act = self.plain(&node.name, act)?;
            let transposed = int(node, "transB", 0) != 0;
            let (in_c, out_c) = if transposed { (b, a) } else { (a, b) };
            let weights = if transposed { values } else { transpose(&values, in_c, out_c) };
            let window = Window::pixels(act.elements() / in_c, in_c);
            (act, ConvShape { window, out_c, groups: 1 }, weights, Layout::Plain)
        };
        let (input, pixels) = (self.program.span(&act), dims.iter().product::<usize>() / shape.out_c.max(1));
        let result = self.program.tensor(dims, layout, 4);
        self.push_sums(node, (input, zero_point), shape, weights, &result)?;
        let Some(shifts) = shifts else { return Ok((result, shape.out_c)) };
        let (channels, groups) = (shape.out_c, shape.groups);
        let ones = vec![1; shape.window.in_c * shape.window.kernel_h * shape.window.kernel_w];
        let of_windows = self.program.tensor(vec![pixels, groups], Layout::Plain, 4);
        self.push_sums(node, (input, zero_point), ConvShape { out_c: groups, ..shape }, ones, &of_windows)?;
        let shifts: Vec<i32> = shifts.iter().copied().cycle().take(channels).collect();
        let less = self.program.tensor(result.dims.clone(), layout, 4);
        let op = LessS32 {
            input: self.program.span(&result),
            window_sums: self.program.span(&of_windows),
            shifts: self.builder.data(&shifts).into(),
            output: self.program.span(&less),
            channels,
            groups,
        };
        self.program.push(&node.name, op);
        Ok((less, channels))
    }

    /// Sums of products of an input, which has a zero point, by OHWI weights.
    fn push_sums(
        &mut self,
        node: &Node,
        (input, zero_point): (Operand, Operand),
        shape: ConvShape,
        weights: Vec<i8>,
        result: &Act,
    ) -> Result<(), Why> {
        self.is_counted(&shape, Form::Compact)?;
        let sum = |weights: &[i8]| weights.iter().fold(0, |sum: i32, &w| sum.wrapping_add(w.into()));
        let weight_sums: Vec<i32> = weights.chunks((weights.len() / shape.out_c).max(1)).map(sum).collect();
        let op = ConvS32 {
            input,
            zero_point,
            output: self.program.span(result),
            shape,
            // Until it is packed.
            weights: DataSpan { offset: self.program.keep_weights(weights), len: 0 },
            weight_sums: self.builder.data(&weight_sums),
            scratch: ArenaSpan::default(),
        };
        self.program.push(&node.name, op);
        Ok(())
    }

    /// Weights as int8 holds them, uint8 less 128, and what each zero point is then.
    pub(super) fn held(&self, stored: &StoredQuant<'m>) -> Result<(Vec<i8>, Vec<i32>), Why> {
        let bytes = self.model.bytes(&stored.tensor).map_err(|e| e.to_string())?;
        let offset = match stored.tensor.dtype {
            DType::U8 => 128,
            DType::I8 => 0,
            other => return Err(format!("its weights are {other}, and no int8 or uint8")),
        };
        let values = bytes.iter().map(|byte| byte.wrapping_sub(offset) as i8).collect();
        Ok((values, stored.zero_points.iter().map(|zero_point| zero_point.wrapping_sub(offset.into())).collect()))
    }
}
