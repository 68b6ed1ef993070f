//! Operators that only move elements: they work on integers and floats alike, and most of them
//! move nothing.

use tractlet_core::plan::{Fill, StridedCopy};

use super::edges::{padded, row_major};
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, axis_of, int, ints};
use crate::model::{AttributeValue, Node};

pub(super) fn moves(op: &str) -> bool {
    matches!(
        op,
        "Identity" | "Dropout" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Concat" | "Pad"
    )
}

impl<'m> Lowering<'m> {
    pub(super) fn view(&mut self, node: &Node) -> Result<(), Why> {
        let value = self.value(node, 0)?;
        let moved = match node.op.as_str() {
            "Identity" => value,
            "Dropout" => {
                self.hold_inference(node)?;
                value
            }
            "Concat" => self.concat(node)?,
            "Pad" => self.pad(node, value)?,
            op => {
                let act = value.act().ok_or("it works on a constant")?.clone();
                let act = if op == "Transpose" { self.transpose(node, act)? } else { self.reshape(node, act)? };
                value.with(act)
            }
        };
        self.set(node, moved);
        Ok(())
    }

    /// A Dropout that is told to train does drop.
    fn hold_inference(&self, node: &Node) -> Result<(), Why> {
        if node.input(2).is_none() {
            return Ok(());
        }
        match self.value(node, 2)? {
            Value::Stored(tensor) if self.model.bytes(tensor).is_ok_and(|bytes| bytes.iter().all(|b| *b == 0)) => {
                Ok(())
            }
            _ => Err("it may be told to train".into()),
        }
    }

    fn reshape(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let act = self.plain(&node.name, act)?;
        let dims = self.output_dims(node)?;
        Ok(act.viewed(dims, Layout::Plain))
    }

    fn transpose(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let rank = act.dims.len();
        if rank < 2 {
            return Ok(act);
        }
        let perm: Vec<usize> = match ints(node, "perm") {
            Some(perm) => perm.iter().map(|&p| p as usize).collect(),
            None => (0..rank).rev().collect(),
        };
        let dims: Vec<usize> = perm.iter().map(|&p| act.dims[p]).collect();
        // Between NCHW and NHWC nothing moves: images lie channels-last anyway.
        let last: Vec<usize> = std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
        let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        if act.layout == Layout::ChannelsLast && perm == last {
            return Ok(act.viewed(dims, Layout::Plain));
        }
        if act.layout == Layout::Plain && matches!(rank, 3 | 4) && act.dims[0] == 1 && perm == first {
            return Ok(act.viewed(dims, Layout::ChannelsLast));
        }
        let act = self.plain(&node.name, act)?;
        self.permuted(&node.name, &act, &perm)
    }

    /// Joins tensors of one kind; quantized ones are brought to the scale that follows.
    fn concat(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let values = (0..node.inputs.len()).map(|i| self.value(node, i)).collect::<Result<Vec<_>, _>>()?;
        let dims = self.output_dims(node)?;
        let axis = axis_of(int(node, "axis", 0), dims.len());
        let follows = self.tail(node)?.quantized.map(|(q, _)| q);
        let mut parts = vec![];
        let kind = match (&values[0], follows) {
            (Value::Integers(_, dtype), _) => {
                if !values.iter().all(|v| matches!(v, Value::Integers(_, other) if other == dtype)) {
                    return Err("it joins integers with something else".into());
                }
                values[0].clone()
            }
            (Value::Dequantized(..), Some(to)) if values.iter().all(|v| matches!(v, Value::Dequantized(..))) => {
                Value::Dequantized(values[0].act().ok_or("no input")?.clone(), to)
            }
            _ => Value::Real(Act { tensor: 0, dims: vec![], layout: Layout::Plain }),
        };
        for value in &values {
            let act = match (value, &kind) {
                (Value::Dequantized(act, from), Value::Dequantized(_, to)) if from != to => {
                    let (from, to) = (*from, *to);
                    self.table(&node.name, act, |x| to.quantize(from.dequantize(x)))
                }
                (value, Value::Real(_)) => self.real(&node.name, value)?,
                (value, _) => value.act().ok_or("it joins a constant")?.clone(),
            };
            parts.push(act);
        }
        let image = axis > 0
            && matches!(dims.len(), 3 | 4)
            && dims[0] == 1
            && parts.iter().all(|p| p.layout == Layout::ChannelsLast || p.layouts_agree());
        let layout = if image { Layout::ChannelsLast } else { Layout::Plain };
        let element_bytes = self.element_bytes(&parts[0]);
        let output = self.program.tensor(dims.clone(), layout, element_bytes);
        let mut start = 0;
        for part in parts {
            let part = if image { self.channels_last(&node.name, part)? } else { self.plain(&node.name, part)? };
            let (lie, at) = lying(&part.dims, layout, axis);
            let (whole, _) = lying(&dims, layout, axis);
            let inner: usize = lie[at + 1..].iter().product();
            let (rows, row) = (lie[..at].iter().product::<usize>(), lie[at] * inner);
            let op = StridedCopy {
                input: self.program.span(&part),
                output: self.program.span(&output),
                element_bytes,
                dims: padded(&[rows, row], 1),
                input_start: 0,
                input_strides: padded(&[row, 1], 0),
                output_start: start,
                output_strides: padded(&[whole[at] * inner, 1], 0),
            };
            self.program.push(&node.name, op);
            start += row;
        }
        Ok(kind.with(output))
    }

    /// A border of one value.
    fn pad(&mut self, node: &Node, value: Value<'m>) -> Result<Value<'m>, Why> {
        if !matches!(node.attribute("mode"), None | Some(AttributeValue::Text(_)))
            || matches!(node.attribute("mode"), Some(AttributeValue::Text(mode)) if mode != "constant")
        {
            return Err("a border of one value is taken, not of the image's own".into());
        }
        let act = value.act().ok_or("it pads a constant")?.clone();
        let pads = match (ints(node, "pads"), node.input(1), node.input(3)) {
            (Some(pads), ..) => pads.to_vec(),
            (None, Some(_), None) => self.stored_longs(node, 1)?.ok_or("its pads are computed")?,
            _ => return Err("pads along named axes are not taken".into()),
        };
        let rank = act.dims.len();
        if pads.len() != 2 * rank || pads.iter().any(|p| *p < 0) {
            return Err("negative pads are not taken".into());
        }
        let border = match node.input(2) {
            Some(_) => self.scalar_of(&self.value(node, 2)?).ok_or("its value is computed")?,
            None => match node.attribute("value") {
                Some(AttributeValue::Float(value)) => *value,
                _ => 0.0,
            },
        };
        let bits = match &value {
            Value::Real(_) => border.to_bits(),
            Value::Dequantized(_, q) if q.dequantize(q.quantize(border)) == border => {
                u32::from(q.quantize(border) as u8)
            }
            _ => return Err("its value is not one of the quantized ones".into()),
        };
        let dims = self.output_dims(node)?;
        // Channels-last images have a batch of 1.
        let act = if dims.first() == act.dims.first() { act } else { self.plain(&node.name, act)? };
        let element_bytes = self.element_bytes(&act);
        let output = self.program.tensor(dims.clone(), act.layout, element_bytes);
        let span = self.program.span(&output);
        self.program.push(&node.name, Fill { output: span, element_bytes, bits });
        let (inside, _) = lying(&act.dims, act.layout, 0);
        let (whole, _) = lying(&dims, act.layout, 0);
        let before: Vec<usize> = pads[..rank].iter().map(|&p| p as usize).collect();
        let (before, _) = lying(&before, act.layout, 0);
        if rank > 6 {
            return Err(format!("a pad of {rank} dimensions is not taken"));
        }
        let strides = row_major(&whole);
        let op = StridedCopy {
            input: self.program.span(&act),
            output: span,
            element_bytes,
            dims: padded(&inside, 1),
            input_start: 0,
            input_strides: padded(&row_major(&inside), 0),
            output_start: before.iter().zip(&strides).map(|(b, s)| b * s).sum(),
            output_strides: padded(&strides, 0),
        };
        self.program.push(&node.name, op);
        Ok(value.with(output))
    }
}

/// Dimensions in the order in which elements lie, and where `axis` is among them.
fn lying(dims: &[usize], layout: Layout, axis: usize) -> (Vec<usize>, usize) {
    match layout {
        Layout::Plain => (dims.to_vec(), axis),
        Layout::ChannelsLast => {
            let order: Vec<usize> = std::iter::once(0).chain(2..dims.len()).chain(std::iter::once(1)).collect();
            let at = order.iter().position(|&d| d == axis).unwrap_or(0);
            (order.iter().map(|&d| dims[d]).collect(), at)
        }
    }
}

impl<'m> Value<'m> {
    /// The same kind of value in another place.
    fn with(&self, act: Act) -> Value<'m> {
        match self {
            Value::Integers(_, dtype) => Value::Integers(act, *dtype),
            Value::Dequantized(_, q) => Value::Dequantized(act, *q),
            _ => Value::Real(act),
        }
    }
}
