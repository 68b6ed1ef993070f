//! Borders: what a Pad puts around a tensor, or cuts off it, and what other operators need around theirs.

use tractlet_core::plan::{COPY_DIMS, Fill, Operand, StridedCopy};

use super::edges::{padded, row_major};
use super::parts::Walk;
use super::value::{Act, QParams, Value};
use super::views::lying;
use super::{Lowering, Why, axis_of, ints, number};
use crate::model::{AttributeValue, DType, Node};

/// The element that a border is of: by its bits, or where it will be.
pub(super) enum Border {
    Bits(u64),
    Held(Operand),
}

impl<'m> Lowering<'m> {
    /// A border of one value, or of the tensor's own; negative pads cut off first.
    pub(super) fn pad(&mut self, node: &Node, value: Value<'m>, act: Act) -> Result<Value<'m>, Why> {
        let [before, after] = self.pads(node, act.dims.len())?;
        let act = self.cropped(&node.name, act, &before, &after)?;
        let around = |pads: Vec<i64>| pads.into_iter().map(|pad| size(pad.max(0) as u64)).collect::<Vec<usize>>();
        let (before, after) = (around(before), around(after));
        if before.iter().chain(&after).all(|pad| *pad == 0) {
            return Ok(value.with(act));
        }
        match node.attribute("mode") {
            None => self.border(node, value, act, &before),
            Some(AttributeValue::Text(mode)) if mode == "constant" => self.border(node, value, act, &before),
            Some(AttributeValue::Text(mode)) => {
                let mut act = act;
                for axis in (0..before.len()).filter(|&axis| before[axis] > 0 || after[axis] > 0) {
                    let length = act.dims[axis].saturating_add(before[axis]).saturating_add(after[axis]);
                    self.tabulate(length, size_of::<i64>())?;
                    let indices = mirrored(mode, act.dims[axis], before[axis], after[axis])?;
                    act = self.picked(&node.name, act, axis, &indices)?;
                }
                Ok(value.with(act))
            }
            _ => Err("its mode is no text".into()),
        }
    }

    /// What a Pad states of each dimension, before and after.
    fn pads(&self, node: &Node, rank: usize) -> Result<[Vec<i64>; 2], Why> {
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
        if stated.len() != 2 * axes.len() {
            return Err("its pads are not two for each dimension".into());
        }
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        for (i, &axis) in axes.iter().enumerate() {
            (before[axis], after[axis]) = (stated[i], stated[axes.len() + i]);
        }
        Ok([before, after])
    }

    /// What negative pads leave.
    fn cropped(&mut self, name: &str, act: Act, before: &[i64], after: &[i64]) -> Result<Act, Why> {
        let cut = |pads: &[i64]| pads.iter().map(|pad| size(pad.min(&0).unsigned_abs())).collect::<Vec<usize>>();
        let (before, after) = (cut(before), cut(after));
        let left = |(dim, (before, after)): (&usize, (&usize, &usize))| {
            let left = dim.saturating_sub(before.saturating_add(*after));
            if left > 0 { Ok(left) } else { Err("its pads cut off all of a dimension".to_owned()) }
        };
        let dims = act.dims.iter().zip(before.iter().zip(&after)).map(left).collect::<Result<_, _>>()?;
        self.part(name, act, &before, &vec![1; before.len()], dims)
    }

    fn border(&mut self, node: &Node, value: Value<'m>, act: Act, before: &[usize]) -> Result<Value<'m>, Why> {
        let dims = self.output_dims(node)?;
        let name = &node.name;
        if let Value::Raw(_, dtype) | Value::Integers(_, dtype) = value {
            let number = match node.input(2) {
                None => 0,
                Some(_) => self.whole_of(&self.value(node, 2)?).ok_or("its value is not one that is stored")?,
            };
            // A model's uint8 is held less 128.
            let held = if dtype == DType::U8 { number.wrapping_sub(128) } else { number };
            let mask = u64::MAX >> (64 - 8 * dtype.size());
            return Ok(value.with(self.bordered(name, act, Border::Bits(held as u64 & mask), before, dims)?));
        }
        let border = match node.input(2) {
            Some(_) => self.scalar_of(&self.value(node, 2)?).ok_or("its value is computed")?,
            None => number(node, "value", 0.0),
        };
        if let Value::Dequantized(_, q) = value {
            let nearest = q.quantize(border);
            if q.dequantize(nearest) == border || self.is_quantized_next(node, q) {
                let bits = Border::Bits(u64::from(nearest as u8));
                return Ok(value.with(self.bordered(name, act, bits, before, dims)?));
            }
            self.in_float(node, "its border is no value of its input's scale, and what follows is on another")?;
        }
        let floats = self.real(name, &value.with(act))?;
        Ok(Value::Real(self.bordered(name, floats, Border::Bits(border.to_bits().into()), before, dims)?))
    }

    /// Whether all that becomes of a node's output is quantized as its input is, by which a border goes to the nearest value.
    fn is_quantized_next(&self, node: &Node, q: QParams) -> bool {
        let Some((_, reader)) = node.outputs.first().and_then(|output| self.sole_reader(output)) else { return false };
        let quantizes = reader.op == "QuantizeLinear" && reader.input(0) == node.outputs.first().map(String::as_str);
        let to = || self.quantized_dtype(reader).and_then(|dtype| self.per_tensor(reader, dtype));
        quantizes && to() == Ok(q)
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

/// On a board of 32 bits, as much as it has.
fn size(pad: u64) -> usize {
    usize::try_from(pad).unwrap_or(usize::MAX)
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
