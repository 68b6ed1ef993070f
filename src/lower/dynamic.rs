//! Quantization by the range that a tensor has at each run: DynamicQuantizeLinear, and the sums that MatMulInteger and
//! ConvInteger make of what it gives. Scale and zero point are tensors of one value; the nodes behind bring sums to scale.

use tractlet_core::kernels::conv::Form;
use tractlet_core::plan::{
    ArenaSpan, ConvS32, DataSpan, DynamicQuantize, DynamicRange, DynamicScale, DynamicZeroPoint, LessS32, Operand,
};
use tractlet_core::shape::{ConvShape, Window};

use super::product::transpose;
use super::value::{Act, Layout, StoredQuant, Value};
use super::{Lowering, Why, geometry, int};
use crate::model::{DType, Node};

impl<'m> Lowering<'m> {
    pub(super) fn dynamic_quantize(&mut self, node: &Node) -> Result<(), Why> {
        let name = &node.name;
        let act = self.real(name, &self.value(node, 0)?)?;
        let range = self.program.floats(vec![2], Layout::Plain);
        let (input, range) = (self.program.span(&act), self.program.span(&range));
        let (scale, zero_point) =
            (self.program.floats(vec![], Layout::Plain), self.program.bytes(vec![], Layout::Plain));
        let (scale_span, zero_point_span) = (self.program.span(&scale), self.program.span(&zero_point));
        self.program.push(name, DynamicRange { input, output: range });
        self.program.push(name, DynamicScale { range, output: scale_span });
        self.program.push(name, DynamicZeroPoint { range, scale: scale_span, output: zero_point_span });
        let (result, channels, pixels) = self.as_bytes(node, &act);
        let op = DynamicQuantize {
            input,
            scale: scale_span,
            zero_point: zero_point_span,
            output: self.program.span(&result),
            channels,
            pixels,
        };
        self.program.push(name, op);
        let made = [Value::Integers(result, DType::U8), Value::Real(scale), Value::Integers(zero_point, DType::U8)];
        self.values.extend(node.outputs.iter().cloned().zip(made).filter(|(name, _)| !name.is_empty()));
        Ok(())
    }

    /// A MatMulInteger or ConvInteger by stored weights. Where these, less their zero points, do not fit int8, as those in uint8
    /// with a zero point of their own, they are taken as they are held, and the sums put right by those of their windows:
    /// `sum x * (w - zero_point) = sum x * held - shift * sum x`, in each bit.
    pub(super) fn integer_sums(&mut self, node: &Node) -> Result<(), Why> {
        let Value::Integers(act, dtype) = self.movable(node, 0)? else {
            return Err("its first operand is neither int8 nor uint8".into());
        };
        let zero_point = self.zero_point_of(node, dtype)?;
        let dims = self.output_dims(node)?;
        let stored = self.stored_operand(node)?;
        let of_weights = stored.tensor.dims.as_slice();
        let (values, shifts) = match self.centred(stored.clone())? {
            Some((_, values)) => (values, None),
            None => self.held(&stored).map(|(values, shifts)| (values, Some(shifts)))?,
        };
        let (act, shape, weights, layout) = if node.op == "ConvInteger" {
            let act = self.channels_last(&node.name, act)?;
            let (&[out_c, in_c], kernel) = of_weights.split_first_chunk().ok_or("its weights are no filters")?;
            let window = geometry::window(node, &act, &dims, kernel)?;
            let weights = geometry::ohwi(&values, in_c, kernel.iter().product());
            (act, ConvShape { window, out_c, groups: int(node, "group", 1) as usize }, weights, Layout::ChannelsLast)
        } else {
            let &[in_c, out_c] = of_weights else { return Err("its weights must be a matrix".into()) };
            let act = self.plain(&node.name, act)?;
            let window = Window::pixels(act.elements() / in_c, in_c);
            (act, ConvShape { window, out_c, groups: 1 }, transpose(&values, in_c, out_c), Layout::Plain)
        };
        let (input, pixels) = (self.program.span(&act), dims.iter().product::<usize>() / shape.out_c.max(1));
        let mut result = self.program.tensor(dims, layout, 4);
        self.sums(node, input, zero_point, shape, weights, &result)?;
        if let Some(shifts) = shifts {
            let (channels, groups) = (shape.out_c, shape.groups);
            let ones = vec![1; shape.window.in_c * shape.window.kernel_h * shape.window.kernel_w];
            let of_windows = self.program.tensor(vec![pixels, groups], Layout::Plain, 4);
            self.sums(node, input, zero_point, ConvShape { out_c: groups, ..shape }, ones, &of_windows)?;
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
            result = less;
        }
        self.set(node, Value::Raw(result, DType::I32));
        Ok(())
    }

    /// Sums of products by OHWI weights.
    fn sums(
        &mut self,
        node: &Node,
        input: Operand,
        zero_point: Operand,
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

    /// The zero point of the first operand, as that is held; it may be computed.
    fn zero_point_of(&mut self, node: &Node, dtype: DType) -> Result<Operand, Why> {
        let offset = if dtype == DType::U8 { 128 } else { 0 };
        let stored = match node.input(2) {
            None => Some(0),
            Some(_) => self.whole_of(&self.value(node, 2)?),
        };
        if let Some(zero_point) = stored {
            let held = i8::try_from(zero_point.wrapping_sub(offset)).map_err(|_| "its zero point is out of range")?;
            return Ok(self.builder.data(&[held]).into());
        }
        match self.value(node, 2)? {
            Value::Integers(act, of) if of == dtype && act.elements() == 1 => Ok(self.program.span(&act)),
            _ => Err("its first zero point is not one value of the operand's own type".into()),
        }
    }

    /// The stored second operand with its zero points: one, or one for each output channel.
    fn stored_operand(&self, node: &Node) -> Result<StoredQuant<'m>, Why> {
        let Value::Stored(tensor) = self.value(node, 1)? else { return Err("its weights are computed".into()) };
        let axis = if node.op == "ConvInteger" { 0 } else { 1 };
        let zero_points = match node.input(3) {
            None => vec![0],
            Some(_) => match self.value(node, 3)? {
                Value::Stored(zero_points) if zero_points.dtype == tensor.dtype && zero_points.dims.len() < 2 => {
                    self.stored_integers(zero_points)?
                }
                _ => return Err("the zero points of its weights are not a stored vector of their type".into()),
            },
        };
        if zero_points.len() != 1 && tensor.dims.get(axis) != Some(&zero_points.len()) {
            return Err("the zero points of its weights are not one for each output channel".into());
        }
        Ok(StoredQuant { tensor, scales: vec![1.0; zero_points.len()], zero_points, axis })
    }

    /// Weights as int8 holds them, uint8 less 128, and what each zero point is then.
    fn held(&self, stored: &StoredQuant<'m>) -> Result<(Vec<i8>, Vec<i32>), Why> {
        let bytes = self.model.bytes(stored.tensor).map_err(|e| e.to_string())?;
        let offset = match stored.tensor.dtype {
            DType::U8 => 128,
            DType::I8 => 0,
            other => return Err(format!("its weights are {other}, and no int8 or uint8")),
        };
        let values = bytes.iter().map(|byte| byte.wrapping_sub(offset) as i8).collect();
        Ok((values, stored.zero_points.iter().map(|zero_point| zero_point - i32::from(offset)).collect()))
    }
}
