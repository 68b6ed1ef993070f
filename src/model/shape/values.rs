//! Small integer tensors that steer shapes, followed by value.

use super::fact::{Fact, VALUES_LIMIT};
use super::rules::Context;
use super::{Misfit, Ruled};
use crate::model::graph::{AttributeValue, DType};

type Outputs = Vec<Option<Fact>>;

pub(super) fn constant(c: &Context<'_>) -> Ruled<Outputs> {
    let vector = |dtype, length| Fact::new(Some(dtype), Some(vec![Some(length)]));
    let scalar = |dtype| Fact::new(Some(dtype), Some(vec![]));
    let attributes: Vec<_> = c.node.attributes.iter().map(|a| (a.name.as_str(), &a.value)).collect();
    let fact = match attributes[..] {
        [("value", AttributeValue::Tensor(tensor))] => {
            (c.stored)(tensor).map_err(|fault| Misfit::Attribute(fault.to_string()))?
        }
        [("value_int", AttributeValue::Int(value))] => Fact { values: Some(vec![*value]), ..scalar(DType::I64) },
        [("value_float", AttributeValue::Float(_))] => scalar(DType::F32),
        [("value_ints", AttributeValue::Ints(values))] => {
            Fact { values: short(values), ..vector(DType::I64, values.len()) }
        }
        [("value_floats", AttributeValue::Floats(values))] => vector(DType::F32, values.len()),
        _ => return Err(Misfit::Attribute("must have one attribute: a dense tensor of numbers, or numbers".into())),
    };
    Ok(vec![Some(fact)])
}

pub(super) fn shape(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(dims) = c.dims(0) else { return Ok(vec![Some(Fact::new(Some(DType::I64), Some(vec![None])))]) };
    let clamp =
        |at: i64| if at < 0 { at.saturating_add(dims.len() as i64) } else { at }.clamp(0, dims.len() as i64) as usize;
    let (start, end) = (clamp(c.int("start").unwrap_or(0)), clamp(c.int("end").unwrap_or(i64::MAX)));
    let dims = dims.get(start..end).unwrap_or_default();
    let values: Option<Vec<i64>> = dims.iter().map(|dim| dim.map(|d| d as i64)).collect();
    Ok(vec![Some(Fact { values, ..Fact::new(Some(DType::I64), Some(vec![Some(dims.len())])) })])
}

/// Add, Sub, Mul and Div of short integer vectors, with scalars broadcast.
pub(super) fn arithmetic(op: &str, inputs: &[Option<Fact>]) -> Option<Vec<i64>> {
    let [Some(a), Some(b)] = inputs else { return None };
    if !matches!(a.dtype, Some(DType::I64 | DType::I32)) {
        return None;
    }
    let (a, b) = (a.values.as_ref()?, b.values.as_ref()?);
    let length = a.len().max(b.len());
    let pick = |values: &[i64], i: usize| values.get(if values.len() == 1 { 0 } else { i }).copied();
    let apply = |i| {
        let (a, b) = (pick(a, i)?, pick(b, i)?);
        match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            _ => None,
        }
    };
    (0..length).map(apply).collect()
}

pub(super) fn short(values: &[i64]) -> Option<Vec<i64>> {
    (values.len() <= VALUES_LIMIT).then(|| values.to_vec())
}
