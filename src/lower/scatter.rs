//! A tensor with some of its parts replaced: of these and the tensor's own, one after the other, those that the result has
//! are looked up.

use super::edges::row_major;
use super::parts::element_of;
use super::value::{Layout, Value};
use super::{Lowering, Why, axis_of, int};
use crate::model::{AttributeValue, Node};

impl<'m> Lowering<'m> {
    pub(super) fn scatter(&mut self, node: &Node) -> Result<Value<'m>, Why> {
        match node.attribute("reduction") {
            None => {}
            Some(AttributeValue::Text(how)) if how == "none" => {}
            Some(_) => return Err("updates that are reduced with what is there are not taken".into()),
        }
        let dims = self.output_dims(node)?;
        let (places, depth) = match node.op.as_str() {
            "ScatterND" => self.places_of(node, &dims)?.ok_or("its indices are computed")?,
            _ => (self.element_places(node, &dims)?, dims.len()),
        };
        let (rows, row) = (dims[..depth].iter().product::<usize>(), dims[depth..].iter().product::<usize>());
        self.tabulate(rows, size_of::<i64>())?;
        let mut from: Vec<i64> = (0..rows as i64).collect();
        for (update, &place) in places.iter().enumerate() {
            // The last one where there are several.
            let slot = usize::try_from(place).ok().and_then(|place| from.get_mut(place));
            *slot.ok_or("its indices are out of range")? = (rows + update) as i64;
        }
        let values = [self.movable(node, 0)?, self.movable(node, 2)?];
        let (kind, parts) = self.alike(node, &values)?;
        let mut flat = vec![];
        for (part, rows) in parts.into_iter().zip([rows, places.len()]) {
            flat.push(self.plain(&node.name, part)?.viewed(vec![rows, row], Layout::Plain));
        }
        let all = self.joined(&node.name, flat, 0, vec![rows + places.len(), row])?;
        let picked = self.picked(&node.name, all, 0, &from)?;
        Ok(kind.with(picked.viewed(dims, Layout::Plain)))
    }

    /// Where stored indices of single elements along an axis of a tensor of `dims` point.
    fn element_places(&self, node: &Node, dims: &[usize]) -> Result<Vec<i64>, Why> {
        let indices = self.stored_longs(node, 1)?.ok_or("its indices are computed")?;
        let (_, shape) = self.shapes.get(node.input(1).unwrap_or_default()).ok_or("its indices have no shape")?;
        if shape.len() != dims.len() || shape.iter().product::<usize>() != indices.len() {
            return Err("its indices have not the dimensions of its data".into());
        }
        let axis = axis_of(int(node, "axis", 0), dims.len())?;
        let (own, strides) = (row_major(&shape), row_major(dims));
        let place = |(at, &index): (usize, &i64)| {
            let index = element_of(index, dims[axis])?;
            let along = |d: usize| if d == axis { index } else { at / own[d] % shape[d] };
            Ok((0..dims.len()).map(|d| along(d) * strides[d]).sum::<usize>() as i64)
        };
        indices.iter().enumerate().map(place).collect()
    }
}
