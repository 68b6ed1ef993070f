//! Parts of a tensor, and tensors made of repeated parts: strided copies and looked up elements.

use tractlet_core::plan::{COPY_DIMS, DataSpan, Gather, OneHotF32, Operand};

use super::binary::merged;
use super::edges::row_major;
use super::value::{Act, Layout, Value};
use super::views::lying;
use super::{Lowering, Why, axis_of, int, ints};
use crate::model::{AttributeValue, DType, Node, Tensor};

/// A walk over the elements of a tensor, in the order in which they are wanted.
pub(super) struct Walk<'w> {
    pub start: usize,
    pub dims: &'w [usize],
    pub strides: &'w [usize],
}

impl<'m> Lowering<'m> {
    pub(super) fn slice(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let sliced = self.sliced(node, &act.dims)?;
        let dims = self.output_dims(node)?;
        let (mut begin, mut stride, mut forward) = (vec![0; dims.len()], vec![1; dims.len()], act.dims.clone());
        for (axis, &(start, step)) in sliced.iter().enumerate() {
            if step >= 0 {
                let step = usize::try_from(step).map_err(|_| "a step is out of range")?;
                (begin[axis], stride[axis], forward[axis]) = (start, step, dims[axis]);
            }
        }
        let mut act = self.part(&node.name, act, &begin, &stride, forward)?;
        for (axis, (start, step)) in sliced.into_iter().enumerate().filter(|(_, (_, step))| *step < 0) {
            self.tabulate(dims[axis], size_of::<i64>())?;
            let index = |i: i64| (start as i64).saturating_add(i.saturating_mul(step));
            let indices: Vec<i64> = (0..dims[axis] as i64).map(index).collect();
            act = self.picked(&node.name, act, axis, &indices)?;
        }
        Ok(act)
    }

    /// Where a Slice of a tensor of `dims` begins along each of them, and its step there.
    pub(super) fn sliced(&self, node: &Node, dims: &[usize]) -> Result<Vec<(usize, i64)>, Why> {
        let steering = |name: &str, index: usize| match (ints(node, name), node.input(index)) {
            (Some(values), _) => Ok(Some(values.to_vec())),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                self.stored_longs(node, index)?.map(Some).ok_or_else(|| format!("its {name} are computed"))
            }
        };
        let starts = steering("starts", 1)?.ok_or("it has no starts")?;
        let axes = steering("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steering("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        let mut sliced = vec![(0, 1); dims.len()];
        for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
            let axis = axis_of(axis, dims.len())?;
            let length = dims[axis] as i64;
            let start = if start < 0 { start.saturating_add(length) } else { start };
            let last = if step < 0 { length - 1 } else { length };
            sliced[axis] = (start.clamp(0, last.max(0)) as usize, step);
        }
        Ok(sliced)
    }

    /// The elements from `begin` on along each dimension, every so many, in the layout that they have.
    pub(super) fn part(
        &mut self,
        name: &str,
        act: Act,
        begin: &[usize],
        step: &[usize],
        dims: Vec<usize>,
    ) -> Result<Act, Why> {
        if dims == act.dims {
            return Ok(act);
        }
        let lie = |values: &[usize]| lying(values, act.layout, 0).0;
        let strides = row_major(&lie(&act.dims));
        let start = strides.iter().zip(lie(begin)).map(|(stride, begin)| stride * begin).sum();
        let strides: Vec<usize> =
            strides.iter().zip(lie(step)).map(|(stride, step)| stride.saturating_mul(step)).collect();
        self.walked(name, &act, &Walk { start, dims: &lie(&dims), strides: &strides }, dims.clone(), act.layout)
    }

    /// A dense copy of the elements on a walk.
    pub(super) fn walked(
        &mut self,
        name: &str,
        act: &Act,
        walk: &Walk<'_>,
        shape: Vec<usize>,
        layout: Layout,
    ) -> Result<Act, Why> {
        let (dims, strides) = merged(walk.dims, walk.strides);
        if dims.len() > COPY_DIMS {
            return Err(format!("a walk over {} dimensions is not taken", dims.len()));
        }
        let (input, element_bytes) = (self.program.span(act), self.element_bytes(act));
        let walk = Walk { start: walk.start, dims: &dims, strides: &strides };
        Ok(self.copied_from(name, (input, element_bytes), &walk, (shape, layout)))
    }

    /// One output after the other along an axis; what has no name is passed over.
    pub(super) fn split(&mut self, node: &Node, value: &Value<'m>) -> Result<(), Why> {
        let act = value.act().ok_or("it has no input")?.clone();
        let axis = axis_of(int(node, "axis", 0), act.dims.len())?;
        let mut begin = vec![0; act.dims.len()];
        let step = vec![1; act.dims.len()];
        for (output, length) in node.outputs.iter().zip(self.lengths(node, act.dims[axis])?) {
            let mut dims = act.dims.clone();
            dims[axis] = length;
            if !output.is_empty() {
                let part = match length {
                    // A plan holds no such tensor, and what joins it with others passes it over.
                    0 => Value::Numbers([].into(), dims),
                    _ => value.with(self.part(&node.name, act.clone(), &begin, &step, dims)?),
                };
                self.values.insert(output.clone(), part);
            }
            begin[axis] += length;
        }
        Ok(())
    }

    /// How much of a dimension of `total` each output of a Split has.
    fn lengths(&self, node: &Node, total: usize) -> Result<Vec<usize>, Why> {
        let stated = match (ints(node, "split"), node.input(1)) {
            (Some(lengths), _) => Some(lengths.to_vec()),
            (None, Some(_)) => Some(self.stored_longs(node, 1)?.ok_or("its split is computed")?),
            (None, None) => None,
        };
        if let Some(stated) = stated {
            return Ok(stated.into_iter().map(|length| length as usize).collect());
        }
        let each = total.div_ceil(node.outputs.len().max(1));
        Ok((0..node.outputs.len()).map(|part| each.min(total.saturating_sub(part * each))).collect())
    }

    /// One axis after the other.
    pub(super) fn tile(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let dims = self.output_dims(node)?;
        let mut act = self.plain(&node.name, act)?;
        for axis in (0..dims.len()).rev().filter(|&axis| dims[axis] != act.dims[axis]).collect::<Vec<_>>() {
            let along = Self::along_axis(&act, axis);
            let run = along.len * along.inner;
            let mut shape = act.dims.clone();
            shape[axis] = dims[axis];
            let walk = Walk { start: 0, dims: &[along.outer, dims[axis] / along.len, run], strides: &[run, 0, 1] };
            act = self.walked(&node.name, &act, &walk, shape, Layout::Plain)?;
        }
        Ok(act)
    }

    /// Between channels and pixels.
    pub(super) fn depth_space(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let act = self.plain(&node.name, act)?;
        let dims = self.output_dims(node)?;
        let block = int(node, "blocksize", 1) as usize;
        let &[n, c, h, w] = act.dims.as_slice() else { return Err("it needs four dimensions".into()) };
        // Whether a channel's pixels, or a pixel's channels, are together.
        let crd = match node.attribute("mode") {
            None => false,
            Some(AttributeValue::Text(mode)) if mode == "CRD" || mode == "DCR" => mode == "CRD",
            _ => return Err("its mode is neither DCR nor CRD".into()),
        };
        let (split, order): ([usize; 6], [usize; 6]) = if node.op == "SpaceToDepth" {
            let order = if crd { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
            ([n, c, h / block, block, w / block, block], order)
        } else if crd {
            let c = c / (block * block);
            ([n, c, block, block, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            let c = c / (block * block);
            ([n, block, block, c, h, w], [0, 3, 4, 1, 5, 2])
        };
        let strides = row_major(&split);
        let (walk_dims, strides) = (order.map(|d| split[d]), order.map(|d| strides[d]));
        self.walked(&node.name, &act, &Walk { start: 0, dims: &walk_dims, strides: &strides }, dims, Layout::Plain)
    }

    pub(super) fn gather(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let act = self.plain(&node.name, act)?;
        let rank = act.dims.len();
        let axis = axis_of(int(node, "axis", 0), rank)?;
        let stored = match self.stored_longs(node, 1)? {
            Some(indices) => self.stored_indices(&indices, act.dims[axis])?,
            None => {
                let indices = self.indices(node, 1)?;
                self.program.span(&indices)
            }
        };
        let dims = self.output_dims(node)?;
        Ok(self.looked_up(&node.name, &act, axis, (stored, stored.len / 8, false), dims))
    }

    /// Each element with an index of its own.
    pub(super) fn gather_elements(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let mut act = self.plain(&node.name, act)?;
        let dims = self.output_dims(node)?;
        let axis = axis_of(int(node, "axis", 0), act.dims.len())?;
        let indices = match self.stored_longs(node, 1)? {
            Some(indices) => self.stored_indices(&indices, act.dims[axis])?,
            None => {
                let indices = self.indices(node, 1)?;
                self.program.span(&indices)
            }
        };
        // Of the other dimensions, only what has indices.
        let mut used = dims.clone();
        used[axis] = act.dims[axis];
        let zeros = vec![0; used.len()];
        act = self.part(&node.name, act, &zeros, &vec![1; used.len()], used)?;
        let count = dims[axis];
        Ok(self.looked_up(&node.name, &act, axis, (indices, count, true), dims))
    }

    /// Parts that indices name by their first dimensions: along these as if they were one, which they are where the
    /// indices are computed.
    pub(super) fn gather_nd(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        if int(node, "batch_dims", 0) != 0 {
            return Err("indices of their own for each of a batch are not taken".into());
        }
        let act = self.plain(&node.name, act)?;
        let dims = self.output_dims(node)?;
        if let Some((places, depth)) = self.places_of(node, &act.dims)? {
            let named = act.dims[..depth].iter().product();
            let act = act.viewed([&[named], &act.dims[depth..]].concat(), Layout::Plain);
            let count = places.len();
            let stored = self.stored_indices(&places, named)?;
            return Ok(self.looked_up(&node.name, &act, 0, (stored, count, false), dims));
        }
        let indices = self.indices(node, 1)?;
        if indices.dims.last() != Some(&1) {
            return Err("its indices are computed, and of several dimensions".into());
        }
        let (count, indices) = (indices.elements(), self.program.span(&indices));
        Ok(self.looked_up(&node.name, &act, 0, (indices, count, false), dims))
    }

    /// Where the rows of stored indices point, and how many of the data's dimensions, `dims`, each of them names; `None`
    /// if they are computed.
    pub(super) fn places_of(&self, node: &Node, dims: &[usize]) -> Result<Option<(Vec<i64>, usize)>, Why> {
        let Some(indices) = self.stored_longs(node, 1)? else { return Ok(None) };
        let (_, shape) = self.shapes.get(node.input(1).unwrap_or_default()).ok_or("its indices have no shape")?;
        let depth = shape.last().copied().filter(|depth| (1..=dims.len()).contains(depth));
        let depth = depth.ok_or("its indices name no dimensions, or more than there are")?;
        let place = |row: &[i64]| {
            let mut along = row.iter().zip(dims);
            along.try_fold(0, |place: i64, (&index, &dim)| Ok(place * dim as i64 + element_of(index, dim)? as i64))
        };
        Ok(Some((indices.chunks(depth).map(place).collect::<Result<_, Why>>()?, depth)))
    }

    /// Elements along an axis by indices that are known.
    pub(super) fn picked(&mut self, name: &str, act: Act, axis: usize, indices: &[i64]) -> Result<Act, Why> {
        let act = self.plain(name, act)?;
        let stored = self.stored_indices(indices, act.dims[axis])?;
        let mut dims = act.dims.clone();
        dims[axis] = indices.len();
        Ok(self.looked_up(name, &act, axis, (stored, indices.len(), false), dims))
    }

    fn stored_indices(&mut self, indices: &[i64], length: usize) -> Result<Operand, Why> {
        let inside = |index: &&i64| !(-(length as i64)..length as i64).contains(*index);
        match indices.iter().find(inside) {
            Some(index) => Err(format!("index {index} is out of range for {length}")),
            None => Ok(self.builder.data(indices).into()),
        }
    }

    /// What `(indices, count, each)` name along an axis.
    pub(super) fn looked_up(
        &mut self,
        name: &str,
        act: &Act,
        axis: usize,
        (indices, count, each): (Operand, usize, bool),
        dims: Vec<usize>,
    ) -> Act {
        let element_bytes = self.element_bytes(act);
        let along = Self::along_axis(act, axis);
        let result = self.program.tensor(dims, Layout::Plain, element_bytes);
        let (input, output) = (self.program.span(act), self.program.span(&result));
        self.program.push(name, Gather { input, indices, output, element_bytes, along, count, each });
        result
    }

    pub(super) fn one_hot(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        let dims = self.output_dims(node)?;
        let axis = axis_of(int(node, "axis", -1), dims.len())?;
        let (values, _) = self.floats_of(&self.value(node, 2)?)?;
        let &[off, on] = values.as_slice() else { return Err("its values are not two".into()) };
        let indices = self.indices(node, 0)?;
        let result = self.program.floats(dims, Layout::Plain);
        let inner = result.dims[axis + 1..].iter().product();
        let (indices, output) = (self.program.span(&indices), self.program.span(&result));
        self.program.push(&node.name, OneHotF32 { indices, output, depth: result.dims[axis], inner, off, on });
        Ok(Value::Real(result))
    }

    /// An input of a node as a tensor, a constant among them: it is copied to where it can be worked on.
    pub(super) fn movable(&mut self, node: &Node, index: usize) -> Result<Value<'m>, Why> {
        let value = self.value(node, index)?;
        let input = node.input(index).unwrap_or_default();
        self.placed(&node.name, input, value)
    }

    /// A value as a tensor; `of` is its name in the model.
    pub(super) fn placed(&mut self, name: &str, of: &str, value: Value<'m>) -> Result<Value<'m>, Why> {
        let known = |this: &Self| this.shapes.get(of).ok_or_else(|| format!("the shape of `{of}` is not known"));
        if value.is_constant() && self.shapes.get(of).is_some_and(|(_, dims)| dims.contains(&0)) {
            return Err(format!("`{of}` is empty"));
        }
        match value {
            Value::Known(values) => {
                let (dtype, dims) = known(self)?;
                let data = match dtype {
                    DType::I64 => self.builder.data(&values),
                    DType::I32 => self.builder.data(&values.iter().map(|&v| v as i32).collect::<Vec<_>>()),
                    DType::Bool => self.builder.data(&values.iter().map(|&v| u8::from(v != 0)).collect::<Vec<_>>()),
                    other => return Err(format!("`{of}` is {other}, which plans do not hold")),
                };
                Ok(Value::Raw(self.stored_copy(name, data, dims, dtype.size()), dtype))
            }
            Value::Stored(tensor) if matches!(tensor.dtype, DType::I64 | DType::I32 | DType::Bool) => {
                let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
                let data = self.builder.data::<u8>(bytes);
                Ok(Value::Raw(self.stored_copy(name, data, tensor.dims.clone(), tensor.dtype.size()), tensor.dtype))
            }
            Value::Stored(tensor) if matches!(tensor.dtype, DType::I8 | DType::U8) => self.placed_bytes(name, tensor),
            Value::Quantized(tensor) if matches!(tensor.dtype, DType::I8 | DType::U8) => {
                self.placed_bytes(name, &tensor)
            }
            value if value.is_constant() => {
                let (values, dims) = self.floats_of(&value)?;
                let data = self.builder.data(&values);
                Ok(Value::Real(self.stored_copy(name, data, dims, 4)))
            }
            value => Ok(value),
        }
    }

    /// Stored integers of 8 bits: uint8 is held less 128.
    fn placed_bytes(&mut self, name: &str, tensor: &Tensor) -> Result<Value<'m>, Why> {
        let offset = if tensor.dtype == DType::U8 { 128 } else { 0 };
        let values: Vec<i8> = self.stored_integers(tensor)?.iter().map(|v| (v - offset) as i8).collect();
        let data = self.builder.data(&values);
        Ok(Value::Integers(self.stored_copy(name, data, tensor.dims.clone(), 1), tensor.dtype))
    }

    pub(super) fn stored_copy(&mut self, name: &str, data: DataSpan, dims: Vec<usize>, element_bytes: usize) -> Act {
        let all = Walk { start: 0, dims: &[dims.iter().product()], strides: &[1] };
        self.copied_from(name, (data.into(), element_bytes), &all, (dims, Layout::Plain))
    }
}

/// An index of an element along a dimension; negative ones count from the end.
pub(super) fn element_of(index: i64, length: usize) -> Result<usize, Why> {
    let at = if index < 0 { index.saturating_add(length as i64) } else { index };
    let at = usize::try_from(at).ok().filter(|at| *at < length);
    at.ok_or_else(|| format!("index {index} is out of range for {length}"))
}
