//! Quantization by the range that a tensor has at each run: DynamicQuantizeLinear, and the sums that MatMulInteger and
//! ConvInteger make of what it gives. Scale and zero point are tensors of one value; the nodes behind bring sums to scale.

use tractlet_core::plan::{DynamicQuantize, DynamicRange, DynamicScale, DynamicZeroPoint, Operand};

use super::value::{Constant, Layout, StoredQuant, Value};
use super::{Lowering, Why};
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

    /// A MatMulInteger or ConvInteger by stored weights.
    pub(super) fn integer_sums(&mut self, node: &Node) -> Result<(), Why> {
        let Value::Integers(act, dtype) = self.movable(node, 0)? else {
            return Err("its first operand is neither int8 nor uint8".into());
        };
        let zero_point = self.zero_point_of(node, dtype)?;
        let stored = self.stored_operand(node)?;
        let weights = match self.centred(stored.clone())? {
            Some((_, values)) => (values, None),
            None => self.held(&stored).map(|(values, shifts)| (values, Some(shifts)))?,
        };
        let (result, _) = self.sums(node, act, zero_point, &stored.tensor.dims, weights)?;
        self.set(node, Value::Raw(result, DType::I32));
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
        Ok(StoredQuant { tensor: Constant::Stored(tensor), scales: vec![1.0; zero_points.len()], zero_points, axis })
    }
}
