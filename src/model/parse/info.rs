//! What a graph says of its inputs, outputs and the tensors between them: element types and shapes.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Parser, set};
use crate::model::error::Fault;
use crate::model::graph::*;
use crate::model::schema::*;
use crate::model::wire::Fields;

impl Parser<'_> {
    pub(super) fn value_info(&mut self, mut fields: Fields<'_>) -> Result<(String, Option<ValueInfo>), Fault> {
        self.count()?;
        let (mut name, mut kind) = (None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut name, self.name(&field)?, &field)?,
                2 => set(&mut kind, field.fields(&TYPE)?, &field)?,
                _ => {}
            }
        }
        let name = name.unwrap_or_default();
        let Some(mut kind) = kind else { return Ok((name, None)) };
        let mut tensor = None;
        while let Some(field) = kind.next_field()? {
            match field.number {
                1 => set(&mut tensor, field.fields(&TENSOR_TYPE)?, &field)?,
                4 | 5 | 7 | 8 | 9 => {
                    return Err(Fault::unsupported(format!(
                        "`{name}` is a sequence, map, optional, opaque or sparse tensor; tractlet runs dense tensors"
                    )));
                }
                _ => {}
            }
        }
        let Some(tensor) = tensor else { return Ok((name, None)) };
        let info = self.tensor_type(name.clone(), tensor)?;
        Ok((name, info))
    }

    /// Name and element type of a tensor within a graph. Engines may have types that are not here, and need none of it.
    pub(super) fn declared(&self, mut fields: Fields<'_>) -> Result<Option<(String, DType)>, Fault> {
        let (mut name, mut kind, mut tensor, mut element) = (None, None, None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut name, self.name(&field)?, &field)?,
                2 => set(&mut kind, field.fields(&TYPE)?, &field)?,
                _ => {}
            }
        }
        while let Some(field) = kind.as_mut().map(Fields::next_field).transpose()?.flatten() {
            if field.number == 1 {
                set(&mut tensor, field.fields(&TENSOR_TYPE)?, &field)?;
            }
        }
        while let Some(field) = tensor.as_mut().map(Fields::next_field).transpose()?.flatten() {
            if field.number == 1 {
                set(&mut element, field.int()?, &field)?;
            }
        }
        Ok(name.zip(element.and_then(DType::from_onnx)))
    }

    /// None where a shape is missing.
    fn tensor_type(&mut self, name: String, mut fields: Fields<'_>) -> Result<Option<ValueInfo>, Fault> {
        let (mut element, mut shape) = (None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut element, field.int()?, &field)?,
                2 => set(&mut shape, field.fields(&SHAPE)?, &field)?,
                _ => {}
            }
        }
        let element = element.unwrap_or(0);
        let dtype = DType::from_onnx(element)
            .ok_or_else(|| Fault::unsupported(format!("`{name}` is of {}", unrun(element))))?;
        let Some(mut shape) = shape else { return Ok(None) };
        let mut dims = vec![];
        while let Some(field) = shape.next_field()? {
            if field.number != 1 {
                continue;
            }
            if dims.len() == self.limits.rank {
                return Err(Fault::limit(
                    format!("dimensions of `{name}`"),
                    dims.len() as u64 + 1,
                    self.limits.rank as u64,
                ));
            }
            dims.push(self.dimension(&name, dims.len(), field.fields(&DIM)?)?);
        }
        let fixed: Vec<usize> = dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).collect();
        self.limits
            .byte_len(&fixed, dtype)
            .map_err(|value| Fault::limit(format!("`{name}`: size in bytes"), value, self.limits.tensor_bytes))?;
        Ok(Some(ValueInfo { name, dtype, dims }))
    }

    fn dimension(&mut self, name: &str, index: usize, mut fields: Fields<'_>) -> Result<Dim, Fault> {
        let mut dim = None;
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => {
                    let stated = field.int()?;
                    let size = match usize::try_from(stated) {
                        Ok(size) => Dim::Fixed(size),
                        // What Paddle's exporter writes of one that is open.
                        Err(_) if stated == -1 => Dim::Symbol(String::new()),
                        Err(_) => {
                            let what = format!("dimension {index} of `{name}` is {stated}");
                            return Err(Fault::graph(format!(
                                "{what}; expected a size, or a name (dim_param) if it is open"
                            )));
                        }
                    };
                    set(&mut dim, size, &field)?;
                }
                2 => set(&mut dim, Dim::Symbol(self.name(&field)?), &field)?,
                _ => {}
            }
        }
        Ok(dim.unwrap_or(Dim::Symbol(String::new())))
    }
}

/// An input whose open dimensions all have names: one that has none, or the `?` that some write for each, is called after the input
/// and its place, such as `images:2`.
pub(super) fn named(mut input: ValueInfo) -> ValueInfo {
    for (index, dim) in input.dims.iter_mut().enumerate() {
        if matches!(dim, Dim::Symbol(symbol) if symbol.is_empty() || symbol == "?") {
            *dim = Dim::Symbol(format!("{}:{index}", input.name));
        }
    }
    input
}
