//! Tensors beside each other in one, of one kind of elements.

use tractlet_core::plan::StridedCopy;

use super::edges::padded;
use super::value::{Act, Layout, Value};
use super::views::lying;
use super::{Lowering, Why, axis_of, int};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn concat(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let dims = self.output_dims(node)?;
        let axis = axis_of(int(node, "axis", 0), dims.len())?;
        // What is empty adds nothing; a plan holds no such tensor.
        let empty = |i: &usize| self.shapes.get(&node.inputs[*i]).is_some_and(|(_, dims)| dims.contains(&0));
        let parts: Vec<usize> = (0..node.inputs.len()).filter(|i| !empty(i)).collect();
        let values = parts.into_iter().map(|i| self.movable(node, i)).collect::<Result<Vec<_>, _>>()?;
        let (kind, parts) = self.alike(node, &values)?;
        Ok(kind.with(self.joined(&node.name, parts, axis, dims)?))
    }

    /// Tensors with elements of one kind, of which the first result is; quantized ones are brought to the scale that
    /// follows the node.
    pub(super) fn alike(&mut self, node: &Node, values: &[Value<'m>]) -> Result<(Value<'m>, Vec<Act>), Why> {
        let follows = self.tail(node)?.quantized.map(|(q, _)| q);
        let first = values.first().ok_or("all of its inputs are empty")?;
        let kind = match (first, follows) {
            (Value::Integers(_, dtype), _) => {
                if !values.iter().all(|v| matches!(v, Value::Integers(_, other) if other == dtype)) {
                    return Err("it joins integers with something else".into());
                }
                first.clone()
            }
            (Value::Raw(_, dtype), _) => {
                if !values.iter().all(|v| matches!(v, Value::Raw(_, other) if other == dtype)) {
                    return Err("it joins tensors of different types".into());
                }
                first.clone()
            }
            (Value::Dequantized(act, _), Some(to)) if values.iter().all(|v| matches!(v, Value::Dequantized(..))) => {
                Value::Dequantized(act.clone(), to)
            }
            _ => Value::Real(Act { tensor: 0, dims: vec![], layout: Layout::Plain }),
        };
        let mut parts = vec![];
        for value in values {
            parts.push(match (value, &kind) {
                (Value::Dequantized(act, from), Value::Dequantized(_, to)) if from != to => {
                    let (from, to) = (*from, *to);
                    self.table(&node.name, act, |x| to.quantize(from.dequantize(x)))
                }
                (value, Value::Real(_)) => self.real(&node.name, value)?,
                (value, _) => value.act().ok_or("it joins a constant")?.clone(),
            });
        }
        Ok((kind, parts))
    }

    /// One after the other along an axis, in a tensor of `dims`: an image if all of them are.
    pub(super) fn joined(&mut self, name: &str, parts: Vec<Act>, axis: usize, dims: Vec<usize>) -> Result<Act, Why> {
        let alone = axis > 0 && dims[0] == 1;
        let image = matches!(dims.len(), 3 | 4)
            && parts.iter().all(|p| p.layout == Layout::ChannelsLast || p.layouts_agree())
            && (alone || parts.iter().any(|p| !p.layouts_agree()));
        let layout = if image { Layout::ChannelsLast } else { Layout::Plain };
        let element_bytes = self.element_bytes(&parts[0]);
        let (whole, at) = lying(&dims, layout, axis);
        let stride = whole[at..].iter().product();
        let result = self.program.tensor(dims, layout, element_bytes);
        let output = self.program.span(&result);
        let mut output_start = 0;
        for part in parts {
            let part = self.laid(name, part, layout)?;
            let (lie, _) = lying(&part.dims, layout, axis);
            let (rows, row) = (lie[..at].iter().product(), lie[at..].iter().product());
            let op = StridedCopy {
                input: self.program.span(&part),
                output,
                element_bytes,
                dims: padded(&[rows, row], 1),
                input_start: 0,
                input_strides: padded(&[row, 1], 0),
                output_start,
                output_strides: padded(&[stride, 1], 0),
            };
            self.program.push(name, op);
            output_start += row;
        }
        Ok(result)
    }
}
