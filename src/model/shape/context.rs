//! A node as its rule reads it: attributes and inputs by index, of which each must be what it is asked for as.

use super::fact::{Dims, Fact, show};
use super::{Misfit, Ruled};
use crate::model::error::Fault;
use crate::model::graph::{AttributeValue, DType, Node, Tensor};

/// One node with what is known of its inputs.
pub(super) struct Context<'a> {
    pub node: &'a Node,
    pub opset: i64,
    pub inputs: &'a [Option<Fact>],
    pub stored: &'a dyn Fn(&Tensor) -> Result<Fact, Fault>,
}

impl<'a> Context<'a> {
    pub fn fact(&self, index: usize) -> Option<&'a Fact> {
        self.inputs.get(index)?.as_ref()
    }

    pub fn dims(&self, index: usize) -> Option<&'a Dims> {
        self.fact(index)?.dims.as_ref()
    }

    pub fn dtype(&self, index: usize) -> Option<DType> {
        self.fact(index)?.dtype
    }

    pub fn values(&self, index: usize) -> Option<&'a [i64]> {
        self.fact(index)?.values.as_deref()
    }

    pub fn reals(&self, index: usize) -> Option<&'a [f32]> {
        self.fact(index)?.reals.as_deref()
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.node.attribute(name)? {
            AttributeValue::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        match self.node.attribute(name)? {
            AttributeValue::Ints(values) => Some(values),
            _ => None,
        }
    }

    pub fn floats(&self, name: &str) -> Option<&'a [f32]> {
        match self.node.attribute(name)? {
            AttributeValue::Floats(values) => Some(values),
            _ => None,
        }
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.node.attribute(name)? {
            AttributeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Values that steer the output's size: from an attribute in old opsets, from an input since.
    /// `None` where they depend on data; refused where they are constant and yet not known.
    pub fn steering(&self, attribute: &str, input: usize) -> Ruled<Option<&'a [i64]>> {
        if let Some(values) = self.ints(attribute) {
            return Ok(Some(values));
        }
        self.known(input)
    }

    /// As [`Context::steering`], from an input alone, which is a vector.
    pub fn known(&self, input: usize) -> Ruled<Option<&'a [i64]>> {
        match self.dims(input) {
            Some(dims) if dims.is_empty() => {
                Err(Misfit::Shape(format!("input `{}` is a scalar; it must be a vector", self.node.inputs[input])))
            }
            _ => self.numbers(input),
        }
    }

    /// As [`Context::known`], from an input that may also be a scalar.
    pub fn numbers(&self, input: usize) -> Ruled<Option<&'a [i64]>> {
        self.indices(input)?;
        if let Some(dims) = self.dims(input).filter(|dims| dims.len() > 1) {
            return Err(Misfit::Shape(format!(
                "input `{}` is {}; it must be a vector",
                self.node.inputs[input],
                show(dims)
            )));
        }
        match self.fact(input) {
            Some(fact) if fact.values.is_none() && fact.constant => {
                let name = &self.node.inputs[input];
                Err(Misfit::Unsupported(format!(
                    "input `{name}` sets a size and is computed from constants; fold constants (onnxruntime or onnx-simplifier do) and export again"
                )))
            }
            Some(fact) => Ok(fact.values.as_deref()),
            None => Ok(None),
        }
    }

    /// A single value.
    pub fn scalar(&self, index: usize, what: &str) -> Ruled<()> {
        match self.dims(index) {
            Some(dims) if !matches!(dims.as_slice(), [] | [None | Some(1)]) => {
                Err(Misfit::Shape(format!("its {what} {} must be a scalar", show(dims))))
            }
            _ => Ok(()),
        }
    }

    /// A tensor of int64 or int32.
    pub fn indices(&self, index: usize) -> Ruled<()> {
        match self.dtype(index) {
            Some(dtype) if !matches!(dtype, DType::I64 | DType::I32) => {
                Err(Misfit::Attribute(format!("input `{}` is {dtype}; it must be int64", self.node.inputs[index])))
            }
            _ => Ok(()),
        }
    }

    pub fn float(&self, index: usize) -> Ruled<()> {
        match self.dtype(index) {
            Some(dtype) if dtype != DType::F32 => {
                Err(Misfit::Attribute(format!("input `{}` is {dtype}; it must be float32", self.node.inputs[index])))
            }
            _ => Ok(()),
        }
    }
}
