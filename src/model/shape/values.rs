//! Small integer tensors that steer shapes, followed by value.

use super::context::Context;
use super::fact::{Dims, Fact, VALUES_LIMIT};
use super::{Misfit, Ruled};
use crate::model::graph::{Attribute, AttributeValue, DType};

type Outputs = Vec<Option<Fact>>;

pub(super) fn constant(c: &Context<'_>) -> Ruled<Outputs> {
    // Numbers that it states otherwise are a tensor, too, once the model is read.
    let fact = match c.node.attributes.as_slice() {
        [Attribute { name, value: AttributeValue::Tensor(tensor) }] if name == "value" => {
            (c.stored)(tensor).map_err(|fault| Misfit::Attribute(fault.to_string()))?
        }
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

/// Arithmetic on and comparisons of short integer tensors, of which one may be a scalar; none where a value leaves its
/// type, in which it would come out on the other side.
pub(super) fn arithmetic(c: &Context<'_>) -> Option<Vec<i64>> {
    let [Some(a), Some(b)] = c.inputs else { return None };
    let asks = matches!(c.node.op.as_str(), "And" | "Or" | "Xor");
    if !matches!((a.dtype, asks), (Some(DType::I64 | DType::I32), false) | (Some(DType::Bool), true)) {
        return None;
    }
    let dtype = a.dtype;
    let (a, b) = (a.values.as_ref()?, b.values.as_ref()?);
    let apply = |i| {
        let (a, b) = (at(a, i)?, at(b, i)?);
        match c.node.op.as_str() {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            "Mod" if c.int("fmod").unwrap_or(0) == 0 => {
                // Of the sign of what it is divided by.
                let left = a.checked_rem(b)?;
                Some(if left != 0 && (left < 0) != (b < 0) { left + b } else { left })
            }
            "And" => Some(a & b),
            "Or" => Some(a | b),
            "Xor" => Some(a ^ b),
            "Equal" => Some(i64::from(a == b)),
            "Less" => Some(i64::from(a < b)),
            "LessOrEqual" => Some(i64::from(a <= b)),
            "Greater" => Some(i64::from(a > b)),
            "GreaterOrEqual" => Some(i64::from(a >= b)),
            _ => None,
        }
    };
    let values: Option<Vec<i64>> = (0..together(&[a, b])?).map(apply).collect();
    values.filter(|values| fit(dtype, values))
}

/// Short integer tensors with another sign, where that leaves no type.
pub(super) fn sign(c: &Context<'_>) -> Option<Vec<i64>> {
    let signed = |value: &i64| if c.node.op == "Neg" { value.checked_neg() } else { value.checked_abs() };
    c.values(0)?.iter().map(signed).collect::<Option<Vec<_>>>().filter(|values| fit(c.dtype(0), values))
}

/// A small tensor of other dimensions, whose elements stay in order.
pub(super) fn carried(c: &Context<'_>, dims: Option<Dims>) -> Fact {
    let (values, reals) = c.fact(0).map_or((None, None), |fact| (fact.values.clone(), fact.reals.clone()));
    Fact { values, reals, ..Fact::new(c.dtype(0), dims) }
}

/// Short tensors one behind the other, if all are known.
pub(super) fn joined<'a, T: Copy + 'a>(parts: impl Iterator<Item = Option<&'a [T]>>) -> Option<Vec<T>> {
    let joined = parts.collect::<Option<Vec<_>>>()?.concat();
    (joined.len() <= VALUES_LIMIT).then_some(joined)
}

/// A short tensor in another type, where it is one of those that are followed and holds all of its values.
pub(super) fn cast(c: &Context<'_>, to: Option<DType>) -> (Option<Vec<i64>>, Option<Vec<f32>>) {
    let whole = || match (c.values(0), c.reals(0)) {
        (Some(values), _) => Some(values.to_vec()),
        // Beyond 2^63 a float has no integer, and NaN has none.
        (None, reals) => reals?.iter().map(|real| (real.abs() < i64::MAX as f32).then_some(*real as i64)).collect(),
    };
    match to {
        Some(DType::Bool) => {
            let whole = c.values(0).map(|values| values.iter().map(|value| i64::from(*value != 0)).collect());
            let real = || Some(c.reals(0)?.iter().map(|real| i64::from(*real != 0.0)).collect());
            (whole.or_else(real), None)
        }
        Some(DType::I64 | DType::I32) => (whole().filter(|values| fit(to, values)), None),
        Some(DType::F32) => match c.values(0) {
            Some(values) => (None, Some(values.iter().map(|value| *value as f32).collect())),
            None => (None, c.reals(0).map(<[f32]>::to_vec)),
        },
        _ => (None, None),
    }
}

/// Short float tensors, brought to whole numbers.
pub(super) fn rounded(c: &Context<'_>) -> Option<Vec<f32>> {
    let round = match c.node.op.as_str() {
        "Floor" => f32::floor,
        "Ceil" => f32::ceil,
        _ => f32::round_ties_even,
    };
    Some(c.reals(0)?.iter().copied().map(round).collect())
}

/// Arithmetic on two short float tensors, of which one may be a scalar.
pub(super) fn real_arithmetic(c: &Context<'_>) -> Option<Vec<f32>> {
    let ([_, _], a, b) = (c.inputs, c.reals(0)?, c.reals(1)?) else { return None };
    let apply = |i| {
        let (a, b) = (at(a, i)?, at(b, i)?);
        match c.node.op.as_str() {
            "Add" => Some(a + b),
            "Sub" => Some(a - b),
            "Mul" => Some(a * b),
            "Div" => Some(a / b),
            _ => None,
        }
    };
    (0..together(&[a, b])?).map(apply).collect()
}

/// What a reduction over all of a short integer tensor comes to.
pub(super) fn reduced(c: &Context<'_>) -> Option<Vec<i64>> {
    let mut values = c.values(0)?.iter().copied();
    let one = match c.node.op.as_str() {
        "ReduceSum" => values.try_fold(0, i64::checked_add),
        "ReduceProd" => values.try_fold(1, i64::checked_mul),
        "ReduceMax" => values.max(),
        "ReduceMin" => values.min(),
        _ => None,
    };
    one.map(|value| vec![value]).filter(|values| fit(c.dtype(0), values))
}

fn fit(dtype: Option<DType>, values: &[i64]) -> bool {
    dtype != Some(DType::I32) || values.iter().all(|value| i32::try_from(*value).is_ok())
}

/// `condition ? a : b` of short tensors, of which some may be scalars.
pub(super) fn choice(c: &Context<'_>) -> Option<Vec<i64>> {
    let (condition, a, b) = (c.values(0)?, c.values(1)?, c.values(2)?);
    let pick = |i| if at(condition, i)? != 0 { at(a, i) } else { at(b, i) };
    (0..together(&[condition, a, b])?).map(pick).collect()
}

/// Elements of tensors that are as long as each other, or scalars.
fn together<T>(tensors: &[&[T]]) -> Option<usize> {
    let length = tensors.iter().map(|values| values.len()).max()?;
    tensors.iter().all(|values| values.len() == length || values.len() == 1).then_some(length)
}

fn at<T: Copy>(values: &[T], i: usize) -> Option<T> {
    values.get(if values.len() == 1 { 0 } else { i }).copied()
}

/// Input `index` of a node that moves elements: the output of dimensions `to` has at each position the element that
/// `from` names.
pub(super) fn moved(
    c: &Context<'_>,
    index: usize,
    to: &Dims,
    from: impl Fn(&[usize]) -> Option<Vec<usize>>,
) -> Option<Vec<i64>> {
    let (values, dims) = (c.values(index)?, sizes(c.dims(index)?)?);
    let to = sizes(to)?;
    let count = to.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
    if count > VALUES_LIMIT {
        return None;
    }
    (0..count)
        .map(|element| {
            let from = from(&position(element, &to))?;
            let place = from.iter().zip(&dims).try_fold(0, |place, (i, dim)| (i < dim).then_some(place * dim + i))?;
            values.get(place).copied()
        })
        .collect()
}

/// A short tensor of one value.
pub(super) fn filled(value: i64, dims: &Dims) -> Option<Vec<i64>> {
    let count = sizes(dims)?.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
    (count <= VALUES_LIMIT).then(|| vec![value; count])
}

fn sizes(dims: &Dims) -> Option<Vec<usize>> {
    dims.iter().copied().collect()
}

/// Where an element of a row-major tensor is.
fn position(element: usize, dims: &[usize]) -> Vec<usize> {
    let mut rest = element;
    let mut position: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| {
            let at = rest % dim;
            rest /= dim;
            at
        })
        .collect();
    position.reverse();
    position
}
