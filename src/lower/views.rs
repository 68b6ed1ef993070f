//! Operators that only move elements: they work on integers and floats alike, and most of them
//! move nothing.

use tractlet_core::plan::{COPY_DIMS, Fill, Operand, StridedCopy};

use super::edges::{padded, row_major};
use super::parts::Walk;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, axis_of, ints, number};
use crate::model::{AttributeValue, DType, Node};

/// Whether an operator only hands elements on, whatever they are.
pub(crate) fn moves(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Dropout"
            | "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Concat"
            | "Pad"
            | "Slice"
            | "Split"
            | "Tile"
            | "Expand"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Scatter"
            | "ScatterElements"
            | "ScatterND"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "OneHot"
    )
}

impl<'m> Lowering<'m> {
    pub(super) fn view(&mut self, node: &Node) -> Result<(), Why> {
        let moved = match node.op.as_str() {
            "Identity" => self.value(node, 0)?,
            "Concat" => self.concat(node)?,
            "ScatterND" | "ScatterElements" | "Scatter" => self.scatter(node)?,
            "OneHot" => self.one_hot(node)?,
            op => {
                let value = self.movable(node, 0)?;
                let act = value.act().ok_or("it works on a constant")?.clone();
                let act = match op {
                    "Split" => return self.split(node, &value),
                    "Dropout" => self.dropout(node, act)?,
                    "Pad" => self.pad(node, &value, act)?,
                    "Slice" => self.slice(node, act)?,
                    "Tile" => self.tile(node, act)?,
                    "Expand" => self.expand(node, act)?,
                    "Gather" => self.gather(node, act)?,
                    "GatherElements" => self.gather_elements(node, act)?,
                    "GatherND" => self.gather_nd(node, act)?,
                    "DepthToSpace" | "SpaceToDepth" => self.depth_space(node, act)?,
                    "Transpose" => self.transpose(node, act)?,
                    _ => self.reshape(node, act)?,
                };
                value.with(act)
            }
        };
        self.set(node, moved);
        Ok(())
    }

    fn expand(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let dims = self.output_dims(node)?;
        self.expanded(&node.name, act, &dims)
    }

    /// Nothing is dropped, which the mask says too.
    fn dropout(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        self.hold_inference(node)?;
        if let Some(mask) = node.outputs.get(1).filter(|name| !name.is_empty()) {
            let kept = self.program.bytes(act.dims.clone(), Layout::Plain);
            let output = self.program.span(&kept);
            self.program.push(&node.name, Fill { output, element_bytes: 1, bits: 1 });
            self.values.insert(mask.clone(), Value::Raw(kept, DType::Bool));
        }
        Ok(act)
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
        if act.layout == Layout::Plain && matches!(rank, 3 | 4) && perm == first {
            return Ok(act.viewed(dims, Layout::ChannelsLast));
        }
        let act = self.plain(&node.name, act)?;
        self.permuted(&node.name, &act, &perm)
    }

    /// A border of one value, or of the tensor's own.
    fn pad(&mut self, node: &Node, value: &Value<'m>, act: Act) -> Result<Act, Why> {
        let rank = act.dims.len();
        let stated = match (ints(node, "pads"), node.input(1)) {
            (Some(pads), _) => pads.to_vec(),
            (None, Some(_)) => self.stored_longs(node, 1)?.ok_or("its pads are computed")?,
            _ => return Err("it has no pads".into()),
        };
        let axes: Vec<usize> = match node.input(3) {
            None => (0..rank).collect(),
            Some(_) => {
                let axes = self.stored_longs(node, 3)?.ok_or("its axes are computed")?;
                axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<_, _>>()?
            }
        };
        if stated.len() != 2 * axes.len() || stated.iter().any(|p| *p < 0) {
            return Err("negative pads are not taken".into());
        }
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        for (i, &axis) in axes.iter().enumerate() {
            (before[axis], after[axis]) = (stated[i] as usize, stated[axes.len() + i] as usize);
        }
        match node.attribute("mode") {
            None => self.border(node, value, act, &before),
            Some(AttributeValue::Text(mode)) if mode == "constant" => self.border(node, value, act, &before),
            Some(AttributeValue::Text(mode)) => {
                let mut act = act;
                for axis in (0..rank).filter(|&axis| before[axis] + after[axis] > 0) {
                    let length = act.dims[axis].saturating_add(before[axis]).saturating_add(after[axis]);
                    self.tabulate(length, size_of::<i64>())?;
                    let indices = mirrored(mode, act.dims[axis], before[axis], after[axis])?;
                    act = self.picked(&node.name, act, axis, &indices)?;
                }
                Ok(act)
            }
            _ => Err("its mode is no text".into()),
        }
    }

    /// The bits of the value that a constant border is of.
    fn border_bits(&self, node: &Node, value: &Value<'m>) -> Result<u64, Why> {
        if let Value::Raw(_, dtype) | Value::Integers(_, dtype) = value {
            let number = match node.input(2) {
                None => 0,
                Some(_) => self.whole_of(&self.value(node, 2)?).ok_or("its value is not one that is stored")?,
            };
            // A model's uint8 is held less 128.
            let held = if *dtype == DType::U8 { number.wrapping_sub(128) } else { number };
            let mask = u64::MAX >> (64 - 8 * dtype.size());
            return Ok(held as u64 & mask);
        }
        let border = match node.input(2) {
            Some(_) => self.scalar_of(&self.value(node, 2)?).ok_or("its value is computed")?,
            None => number(node, "value", 0.0),
        };
        match value {
            Value::Real(_) => Ok(border.to_bits().into()),
            Value::Dequantized(_, q) if q.dequantize(q.quantize(border)) == border => {
                Ok(u64::from(q.quantize(border) as u8))
            }
            _ => Err("its value is not one of the quantized ones".into()),
        }
    }

    fn border(&mut self, node: &Node, value: &Value<'m>, act: Act, before: &[usize]) -> Result<Act, Why> {
        let bits = self.border_bits(node, value)?;
        let dims = self.output_dims(node)?;
        self.bordered(&node.name, act, Border::Bits(bits), before, dims)
    }

    /// A tensor of dimensions `dims` that is one value but for `act`, which begins at `before`.
    pub(super) fn bordered(
        &mut self,
        name: &str,
        act: Act,
        border: Border,
        before: &[usize],
        dims: Vec<usize>,
    ) -> Result<Act, Why> {
        if dims.len() > COPY_DIMS {
            return Err(format!("a pad of {} dimensions is not taken", dims.len()));
        }
        let element_bytes = self.element_bytes(&act);
        let output = match border {
            Border::Bits(bits) => {
                let output = self.program.tensor(dims.clone(), act.layout, element_bytes);
                let span = self.program.span(&output);
                self.program.push(name, Fill { output: span, element_bytes, bits });
                output
            }
            Border::Held(value) => {
                let everywhere = Walk { start: 0, dims: &[dims.iter().product()], strides: &[0] };
                self.copied_from(name, (value, element_bytes), &everywhere, (dims.clone(), act.layout))
            }
        };
        let span = self.program.span(&output);
        let (inside, _) = lying(&act.dims, act.layout, 0);
        let (whole, _) = lying(&dims, act.layout, 0);
        let (before, _) = lying(before, act.layout, 0);
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
        self.program.push(name, op);
        Ok(output)
    }
}

/// The element that a border is of: by its bits, or where it will be.
pub(super) enum Border {
    Bits(u64),
    Held(Operand),
}

/// Which of `length` elements stands at each place of a border of the tensor's own, and between.
fn mirrored(mode: &str, length: usize, before: usize, after: usize) -> Result<Vec<i64>, Why> {
    let (length, before, after) = (length as i64, before as i64, after as i64);
    let at = |i: i64| match mode {
        "edge" => i.clamp(0, length - 1),
        "wrap" => i.rem_euclid(length),
        _ if length == 1 => 0,
        // Back and forth, without the ends twice.
        _ => {
            let place = i.rem_euclid(2 * (length - 1));
            if place < length { place } else { 2 * (length - 1) - place }
        }
    };
    if !matches!(mode, "edge" | "wrap" | "reflect") {
        return Err(format!("a border of mode {mode} is not taken"));
    }
    Ok((-before..length + after).map(at).collect())
}

/// Dimensions in the order in which elements lie, and where `axis` is among them.
pub(super) fn lying(dims: &[usize], layout: Layout, axis: usize) -> (Vec<usize>, usize) {
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
    pub(super) fn with(&self, act: Act) -> Value<'m> {
        match self {
            Value::Integers(_, dtype) => Value::Integers(act, *dtype),
            Value::Dequantized(_, q) => Value::Dequantized(act, *q),
            Value::Raw(_, dtype) => Value::Raw(act, *dtype),
            _ => Value::Real(act),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_of_the_elements_that_its_mode_says() {
        assert_eq!(mirrored("edge", 2, 1, 2).unwrap(), [0, 0, 1, 1, 1]);
        assert_eq!(mirrored("wrap", 3, 2, 1).unwrap(), [1, 2, 0, 1, 2, 0]);
        // As numpy and ONNX's reference, which go back and forth where the border is longer than the tensor.
        assert_eq!(mirrored("reflect", 2, 3, 2).unwrap(), [1, 0, 1, 0, 1, 0, 1]);
        assert!(mirrored("mirror", 2, 1, 1).is_err());
    }
}
