//! Activations of 16 bits, which stay floats.
//!
//! `QuantizeLinear → DequantizeLinear` of int16 or uint16 moves each number to the nearest that the integers have: one op, in
//! place. Layers between compute in float32, as ONNX Runtime does for want of kernels for such integers: sums of products of
//! 16 by 8 bits do not fit 32 bits.

use tractlet_core::plan::{Unary, UnaryF32};

use super::value::{Levels, Value};
use super::{Lowering, Why};
use crate::model::{DType, Node};

impl<'m> Lowering<'m> {
    /// What integers of 16 bits stand for at this QuantizeLinear or DequantizeLinear; `None` of any others.
    pub(super) fn levels(&self, node: &Node, dtype: DType) -> Result<Option<Levels>, Why> {
        let (least, most) = match dtype {
            DType::I16 => (i32::from(i16::MIN), i32::from(i16::MAX)),
            DType::U16 => (0, i32::from(u16::MAX)),
            _ => return Ok(None),
        };
        let (scale, zero_point) = self.sole_parameters(node)?;
        if !(least..=most).contains(&zero_point) {
            return Err("its zero point is out of range".into());
        }
        Ok(Some(Levels { scale, least: (least - zero_point) as f32, zero_point, dtype }))
    }

    /// A QuantizeLinear to 16 bits.
    pub(super) fn snap(&mut self, node: &Node, levels: Levels) -> Result<(), Why> {
        let value = self.value(node, 0)?;
        let act = self.real(&node.name, &value)?;
        let output = self.program.floats(act.dims.clone(), act.layout);
        let op = UnaryF32 {
            input: self.program.span(&act),
            output: self.program.span(&output),
            function: Unary::Snap,
            alpha: levels.scale,
            beta: levels.least,
        };
        self.program.push(&node.name, op);
        self.set(node, Value::Snapped(output, levels));
        Ok(())
    }
}
