//! Operators of two tensors: which of their broadcasts an op can do, and the integer ones.
//!
//! An op repeats its second operand along the first as the elements lie: a scalar, one value for
//! each channel of an image, or a tensor of the same shape.

use tractlet_core::plan::{AddS8, MulS8};
use tractlet_core::shape::Requantize;

use super::quantized::Input;
use super::value::{Act, Layout, QParams, Value};
use super::{Lowering, Why};
use crate::model::Node;

pub(super) const UNALIGNED: &str = "its operands broadcast in a way that is not taken";

impl<'m> Lowering<'m> {
    /// Two tensors of integers, one of them stored perhaps; `None` leaves it to floats.
    pub(super) fn binary_s8(
        &mut self,
        node: &Node,
        x: Input,
        to: QParams,
        requantize: Requantize,
    ) -> Result<Option<Act>, Why> {
        let index = self.operand(node);
        let (a, b_q, b_span, swapped) = match self.value(node, 1 - index)? {
            Value::Dequantized(act, q) => {
                let swapped = act.elements() > x.act.elements();
                let (a, b) = if swapped { (Input { act, q }, x) } else { (x, Input { act, q }) };
                let (a_act, b_act) = self.aligned(&node.name, a.act, b.act)?;
                (Input { act: a_act, q: a.q }, b.q, self.program.span(&b_act), swapped)
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
pub(super) fn repeats(a: &[usize], layout: Layout, b: &[usize]) -> bool {
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
