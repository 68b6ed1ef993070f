//! What follows from constants alone is computed now: the scale of a QOperator's bias, a state of zeros that is expanded
//! to a batch.

use tractlet_core::isa::Isa;
use tractlet_core::kernels::reduce::reduce_f32;
use tractlet_core::plan::Reduction;
use tractlet_core::shape::Along;

use super::along::reduction;
use super::binary::broadcast_dims;
use super::edges::row_major;
use super::value::{Constant, StoredQuant, Value};
use super::{Lowering, Why, axis_of, float, int, ints};
use crate::model::{AttributeValue, DType, Node, Tensor};

impl<'m> Lowering<'m> {
    /// The node's output, if its operator is one of these and all that it computes on is constant.
    pub(super) fn folded(&mut self, node: &Node) -> Result<Option<Value<'m>>, Why> {
        if node.op == "ConstantOfShape" {
            let value = match node.attribute("value") {
                Some(AttributeValue::Tensor(tensor)) => match tensor.dtype {
                    DType::F32 | DType::F16 => self.stored_floats(tensor)?.first().copied(),
                    _ => return self.whole_of_shape(node, tensor).map(Some),
                },
                _ => Some(0.0),
            };
            return self.numbers(node, |dims| Ok(vec![value.unwrap_or(0.0); dims.iter().product()])).map(Some);
        }
        if node.op == "EyeLike" && self.shapes.get(&node.outputs[0]).is_some_and(|(dtype, _)| dtype == DType::F32) {
            let shift = int(node, "k", 0);
            return self
                .numbers(node, |dims| {
                    let &[rows, cols] = dims else { return Err("it needs a matrix".into()) };
                    let at = |row: usize, col: usize| {
                        f32::from(u8::from((col as i64).checked_sub(shift) == Some(row as i64)))
                    };
                    Ok((0..rows).flat_map(|row| (0..cols).map(move |col| at(row, col))).collect())
                })
                .map(Some);
        }
        if node.op == "Range"
            && let Some(range) = self.range(node)?
        {
            return Ok(Some(range));
        }
        let constant = |index| self.value(node, index).is_ok_and(|value| value.is_constant() && !value.is_known());
        // What is no floats is computed where the plan runs.
        let floats = |index| match self.value(node, index) {
            Ok(Value::Stored(tensor)) => matches!(tensor.dtype, DType::F32 | DType::F16),
            _ => constant(index),
        };
        match node.op.as_str() {
            "Transpose" if let Some(turned) = self.turned_integers(node)? => return Ok(Some(turned)),
            "Cast" if int(node, "to", 0) == 1 && self.value(node, 0).is_ok_and(|value| value.is_constant()) => {}
            "CastLike" if floats(0) && self.is_cast_to_floats(node) => {}
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Expand" if floats(0) => {}
            "Concat" if (0..node.inputs.len()).all(floats) => return self.folded_concat(node).map(Some),
            "Slice" if floats(0) => return self.folded_slice(node).map(Some),
            "Add" | "Sub" | "Mul" | "Div" if floats(0) && floats(1) => return self.folded_binary(node).map(Some),
            op if floats(0)
                && let Some(function) = reduction(op) =>
            {
                return self.folded_reduction(node, function).map(Some);
            }
            _ if node.inputs.len() == 1 && constant(0) || node.op == "Clip" && floats(0) => {
                let Some(function) = float::unary(self, node)? else { return Ok(None) };
                let (values, _) = self.floats_of(&self.value(node, 0)?)?;
                return self.numbers(node, |_| Ok(values.iter().map(|x| function.of(*x)).collect())).map(Some);
            }
            _ => return Ok(None),
        }
        let value = self.value(node, 0)?;
        // Whole numbers become floats by a Cast and by nothing else.
        let (values, from) = match &value {
            Value::Known(values) => (values.iter().map(|&v| v as f32).collect(), vec![]),
            value if node.op == "Cast" => self.numbers_of(value)?,
            value => self.floats_of(value)?,
        };
        match node.op.as_str() {
            "Transpose" => {
                let strides = row_major(&from);
                let strides: Vec<usize> = permutation(node, from.len()).iter().map(|&p| strides[p]).collect();
                self.numbers(node, |dims| Ok(strided(&values, dims, &strides)))
            }
            "Expand" => self.numbers(node, |dims| Ok(strided(&values, dims, &repeating(&from, dims)))),
            _ => self.numbers(node, |_| Ok(values)),
        }
        .map(Some)
    }

    /// A ConstantOfShape of whole numbers.
    fn whole_of_shape(&self, node: &Node, stored: &Tensor) -> Result<Value<'m>, Why> {
        let &value = self.wholes_of(stored).as_deref().and_then(<[i64]>::first).ok_or("its value is not one number")?;
        let dims = self.output_dims(node)?;
        let count = dims.iter().product();
        Ok(match stored.dtype {
            DType::I64 | DType::I32 | DType::Bool => Value::Known(vec![value; count].into()),
            dtype => {
                let name = node.outputs.first().map_or("", String::as_str);
                let values = std::iter::repeat_n(value as i32, count);
                Value::Quantized(Constant::made(name, dtype, dims, values))
            }
        })
    }

    /// Stored bytes that a Transpose turns stay quantized: weights, as exporters turn those of a MatMul.
    fn turned_integers(&self, node: &Node) -> Result<Option<Value<'m>>, Why> {
        let Ok(Value::DequantizedStored(stored)) = self.value(node, 0) else { return Ok(None) };
        if !matches!(stored.tensor.dtype, DType::I8 | DType::U8) {
            return Ok(None);
        }
        let (values, strides) = (self.stored_integers(&stored.tensor)?, row_major(&stored.tensor.dims));
        let perm = permutation(node, strides.len());
        let strides: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
        let dims: Vec<usize> = perm.iter().map(|&p| stored.tensor.dims[p]).collect();
        let values = strided(&values, &dims, &strides).into_iter();
        let axis = perm.iter().position(|&p| p == stored.axis).unwrap_or(0);
        let name = node.outputs.first().map_or("", String::as_str);
        let tensor = Constant::made(name, stored.tensor.dtype, dims, values);
        Ok(Some(Value::DequantizedStored(StoredQuant { tensor: Constant::Made(tensor), axis, ..stored })))
    }

    fn is_cast_to_floats(&self, node: &Node) -> bool {
        node.input(1).and_then(|like| self.shapes.get(like)).is_some_and(|(dtype, _)| dtype == DType::F32)
    }

    /// Numbers from the first on, if all that steers them is constant.
    fn range(&mut self, node: &Node) -> Result<Option<Value<'m>>, Why> {
        let Some((dtype, dims)) = self.shapes.get(&node.outputs[0]) else { return Ok(None) };
        let count = dims.iter().product();
        if dtype == DType::F32 {
            let (start, delta) = (self.value(node, 0)?, self.value(node, 2)?);
            let (Ok(start), Ok(delta)) = (self.floats_of(&start), self.floats_of(&delta)) else { return Ok(None) };
            let (Some(&start), Some(&delta)) = (start.0.first(), delta.0.first()) else { return Ok(None) };
            self.tabulate(count, size_of::<f32>())?;
            return self.numbers(node, |_| Ok((0..count).map(|i| start + i as f32 * delta).collect())).map(Some);
        }
        let one = |index| self.shapes.integers(node.input(index)?)?.first().copied();
        let (Some(start), Some(delta)) = (one(0), one(2)) else { return Ok(None) };
        self.tabulate(count, size_of::<i64>())?;
        Ok(Some(Value::Known((0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))).collect())))
    }

    /// Reads what is cut out and no more: a model may cut one large tensor in thousands of pieces.
    fn folded_slice(&self, node: &Node) -> Result<Value<'m>, Why> {
        let value = self.value(node, 0)?;
        let from = match &value {
            Value::Numbers(_, dims) => dims,
            Value::Stored(tensor) => &tensor.dims,
            Value::DequantizedStored(stored) => &stored.tensor.dims,
            _ => return Err("an input that must be constant is computed".into()),
        };
        let (strides, sliced) = (row_major(from), self.sliced(node, from)?);
        let start = strides.iter().zip(&sliced).map(|(stride, &(start, _))| stride * start).sum();
        let step = |(stride, &(_, step)): (&usize, &(usize, i64))| stride.wrapping_mul(step as usize);
        let strides: Vec<usize> = strides.iter().zip(&sliced).map(step).collect();
        self.numbers(node, |dims| {
            let places = places(start, dims, &strides);
            let picked = |values: &[f32]| places.iter().map(|&place| values[place]).collect();
            match &value {
                Value::Numbers(values, _) => Ok(picked(values)),
                Value::Stored(tensor) if tensor.dtype == DType::F32 => {
                    let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
                    let values = bytes.as_chunks().0;
                    Ok(places.iter().map(|&place| f32::from_le_bytes(values[place])).collect())
                }
                value => self.floats_of(value).map(|(values, _)| picked(&values)),
            }
        })
    }

    fn folded_concat(&self, node: &Node) -> Result<Value<'m>, Why> {
        let parts = (0..node.inputs.len()).map(|index| self.floats_of(&self.value(node, index)?));
        let parts: Vec<(Vec<f32>, Vec<usize>)> = parts.collect::<Result<_, Why>>()?;
        self.numbers(node, |dims| {
            let axis = axis_of(int(node, "axis", 0), dims.len())?;
            let outer = dims[..axis].iter().product();
            let runs = |index| {
                parts.iter().flat_map(move |(values, from)| {
                    let run: usize = from[axis..].iter().product();
                    &values[index * run..][..run]
                })
            };
            Ok((0..outer).flat_map(runs).copied().collect())
        })
    }

    fn folded_binary(&self, node: &Node) -> Result<Value<'m>, Why> {
        let (a, a_dims) = self.floats_of(&self.value(node, 0)?)?;
        let (b, b_dims) = self.floats_of(&self.value(node, 1)?)?;
        let function = match node.op.as_str() {
            "Add" => |a: f32, b: f32| a + b,
            "Sub" => |a: f32, b: f32| a - b,
            "Mul" => |a: f32, b: f32| a * b,
            _ => |a: f32, b: f32| a / b,
        };
        // The node may be one of a chain that stands for another, of which no shape is known.
        let dims = broadcast_dims(&a_dims, &b_dims)?;
        let spread = |values: &[f32], from: &[usize]| strided(values, &dims, &repeating(from, &dims));
        let values = spread(&a, &a_dims).into_iter().zip(spread(&b, &b_dims)).map(|(a, b)| function(a, b)).collect();
        Ok(Value::Numbers(values, dims))
    }

    fn folded_reduction(&self, node: &Node, function: Reduction) -> Result<Value<'m>, Why> {
        let (values, from) = self.floats_of(&self.value(node, 0)?)?;
        if values.is_empty() {
            return Err("what it reduces is empty".into());
        }
        let axes = self.axes(node, from.len())?;
        let len = axes.iter().map(|&axis| from[axis]).product();
        let strides = row_major(&from);
        let order = (0..from.len()).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied());
        let (sizes, strides): (Vec<usize>, Vec<usize>) = order.map(|axis| (from[axis], strides[axis])).unzip();
        let rows = strided(&values, &sizes, &strides);
        self.numbers(node, |dims| {
            let mut reduced = vec![0.0; dims.iter().product()];
            let along = Along { outer: reduced.len(), len, inner: 1 };
            reduce_f32(Isa::Generic, &rows, &mut reduced, &along, function);
            Ok(reduced)
        })
    }

    /// Stored values as they are repeated to dimensions `dims`, which their own broadcast to. Their number is that of an
    /// operand that the model states nowhere, and is counted first.
    pub(super) fn spread<T: Copy>(&mut self, values: &[T], from: &[usize], dims: &[usize]) -> Result<Vec<T>, Why> {
        let count = dims.iter().fold(1, |count: usize, dim| count.saturating_mul(*dim));
        if count > values.len() {
            self.tabulate(count, size_of::<T>())?;
        }
        Ok(strided(values, dims, &repeating(from, dims)))
    }

    fn numbers(&self, node: &Node, compute: impl FnOnce(&[usize]) -> Result<Vec<f32>, Why>) -> Result<Value<'m>, Why> {
        let dims = self.output_dims(node)?;
        let values = compute(&dims)?;
        debug_assert_eq!(values.len(), dims.iter().product::<usize>());
        Ok(Value::Numbers(values.into(), dims))
    }
}

/// Which dimension of its input each of a Transpose's output is.
fn permutation(node: &Node, rank: usize) -> Vec<usize> {
    match ints(node, "perm") {
        Some(perm) => perm.iter().map(|&p| p as usize).collect(),
        None => (0..rank).rev().collect(),
    }
}

/// Strides by which a tensor of dimensions `from` is repeated to `to`, which it broadcasts to.
pub(super) fn repeating(from: &[usize], to: &[usize]) -> Vec<usize> {
    // What goes beyond is of ones.
    let from = &from[from.len().saturating_sub(to.len())..];
    let missing = to.len() - from.len();
    let strides = row_major(from).into_iter().zip(from).map(|(stride, dim)| if *dim == 1 { 0 } else { stride });
    std::iter::repeat_n(0, missing).chain(strides).collect()
}

/// The elements of `values` at all positions within `dims`, in row-major order.
pub(super) fn strided<T: Copy>(values: &[T], dims: &[usize], strides: &[usize]) -> Vec<T> {
    places(0, dims, strides).into_iter().map(|place| values[place]).collect()
}

/// Where all positions within `dims` lie, in row-major order, from `start` on. Strides may be negative ones, wrapped.
fn places(start: usize, dims: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut places = vec![start];
    for (&dim, &stride) in dims.iter().zip(strides) {
        let along = |place: usize| (0..dim).map(move |i: usize| place.wrapping_add(i.wrapping_mul(stride)));
        places = places.into_iter().flat_map(along).collect();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_repeated_and_transposed() {
        let values = [1.0, 2.0, 3.0];
        assert_eq!(strided(&values, &[2, 3], &repeating(&[3], &[2, 3])), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(strided(&values, &[3, 2], &repeating(&[3, 1], &[3, 2])), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(strided(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &[1, 2]), [1.0, 3.0, 2.0, 4.0]);
    }
}
