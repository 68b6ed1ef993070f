//! Operators that rearrange, repeat, resize or make tensors: their sizes come from attributes and
//! from the values of small inputs. Those that take parts of one are in [`super::parts`].

use super::context::Context;
use super::fact::{Dims, Fact, VALUES_LIMIT, axis, broadcast, same, show, volume};
use super::{Misfit, Ruled, values};
use crate::model::graph::{AttributeValue, DType};

type Outputs = Vec<Option<Fact>>;

pub(super) fn one(c: &Context<'_>, dims: Option<Dims>) -> Ruled<Outputs> {
    Ok(vec![Some(Fact::new(c.dtype(0), dims))])
}

pub(super) fn size(value: i64, what: &str) -> Ruled<usize> {
    usize::try_from(value).map_err(|_| Misfit::Attribute(format!("{what} is {value}; it must not be negative")))
}

pub(super) fn sizes(values: &[i64], what: &str) -> Ruled<Dims> {
    values.iter().map(|&value| size(value, what).map(Some)).collect()
}

pub(super) fn constant_of_shape(c: &Context<'_>) -> Ruled<Outputs> {
    let stored = match c.node.attribute("value") {
        Some(AttributeValue::Tensor(tensor)) => (c.stored)(tensor).map_err(|e| Misfit::Attribute(e.to_string()))?,
        _ => Fact::new(Some(DType::F32), None),
    };
    if stored.dims.as_deref().is_some_and(|dims| volume(dims) != Some(1)) {
        return Err(Misfit::Attribute("attribute `value` must hold one number".into()));
    }
    let dims = c.known(0)?.map(|values| sizes(values, "a dimension of its shape")).transpose()?;
    let value = stored.values.as_deref().and_then(<[i64]>::first).zip(dims.as_ref());
    let values = value.and_then(|(value, dims)| values::filled(*value, dims));
    Ok(vec![Some(Fact { values, ..Fact::new(stored.dtype, dims) })])
}

pub(super) fn range(c: &Context<'_>) -> Ruled<Outputs> {
    [(0, "start"), (1, "limit"), (2, "delta")].into_iter().try_for_each(|(index, what)| c.scalar(index, what))?;
    if c.dtype(0).is_some_and(|dtype| !matches!(dtype, DType::I64 | DType::I32)) {
        let (Some(&[start]), Some(&[limit]), Some(&[delta])) = (c.reals(0), c.reals(1), c.reals(2)) else {
            return one(c, Some(vec![None]));
        };
        let steps = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil();
        if !steps.is_finite() {
            return Err(Misfit::Attribute(format!("from {start} to {limit} by {delta} there is no number of steps")));
        }
        return one(c, Some(vec![Some(steps.max(0.0) as usize)]));
    }
    let (Some(&[start]), Some(&[limit]), Some(&[delta])) = (c.numbers(0)?, c.numbers(1)?, c.numbers(2)?) else {
        return one(c, Some(vec![None]));
    };
    if delta == 0 {
        return Err(Misfit::Attribute("its delta is 0".into()));
    }
    let (span, step) = (i128::from(limit) - i128::from(start), i128::from(delta));
    let steps = if (span > 0) == (step > 0) { (span.abs() + step.abs() - 1) / step.abs() } else { 0 };
    let length = usize::try_from(steps).unwrap_or(usize::MAX);
    let at = |i: usize| i64::try_from(i).ok()?.checked_mul(delta)?.checked_add(start);
    let values = if length <= VALUES_LIMIT { (0..length).map(at).collect() } else { None };
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(vec![Some(length)])) })])
}

pub(super) fn reshape(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(target) = c.steering("shape", 1)? else { return one(c, None) };
    let keeps_zero = c.int("allowzero").unwrap_or(0) != 0;
    if keeps_zero && target.contains(&0) && target.contains(&-1) {
        return Err(Misfit::Attribute(format!("its shape {target:?} has a dimension of 0, and -1 could be any")));
    }
    let mut dims = Dims::new();
    let mut inferred = None;
    for (i, &value) in target.iter().enumerate() {
        match value {
            -1 if inferred.is_some() => {
                return Err(Misfit::Attribute(format!("its shape {target:?} has more than one -1")));
            }
            -1 => {
                inferred = Some(i);
                dims.push(None);
            }
            0 if !keeps_zero => {
                let Some(input) = c.dims(0) else { return one(c, None) };
                let kept = input.get(i).ok_or_else(|| {
                    Misfit::Shape(format!(
                        "its shape {target:?} keeps dimension {i}, which input {} has not",
                        show(input)
                    ))
                })?;
                dims.push(*kept);
            }
            _ => dims.push(Some(size(value, "a dimension of its shape")?)),
        }
    }
    if let Some(input) = c.dims(0)
        && let Some(elements) = volume(input)
    {
        let misfit =
            || Misfit::Shape(format!("input {} of {elements} elements does not fit its shape {target:?}", show(input)));
        match inferred {
            Some(i) => {
                let others: Dims = dims.iter().enumerate().filter(|(at, _)| *at != i).map(|(_, dim)| *dim).collect();
                match volume(&others) {
                    Some(0) => dims[i] = Some(0),
                    Some(others) if elements % others == 0 => dims[i] = Some(elements / others),
                    _ => return Err(misfit()),
                }
            }
            None if volume(&dims) != Some(elements) => return Err(misfit()),
            None => {}
        }
    }
    Ok(vec![Some(values::carried(c, Some(dims)))])
}

pub(super) fn flatten(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return one(c, None) };
    let asked = c.int("axis").unwrap_or(1);
    let at = if asked == input.len() as i64 { input.len() } else { axis(asked, input.len())? };
    let (before, after) = input.split_at(at);
    one(c, Some(vec![volume(before), volume(after)]))
}

pub(super) fn squeeze(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return one(c, None) };
    let dims: Option<Dims> = match axes(c)? {
        Some(axes) => {
            let mut dims = input.clone();
            let mut at = axes.iter().map(|&a| axis(a, input.len())).collect::<Ruled<Vec<_>>>()?;
            at.sort_unstable();
            at.dedup();
            for &i in at.iter().rev() {
                if let Some(size) = dims.remove(i).filter(|&size| size != 1) {
                    return Err(Misfit::Shape(format!(
                        "dimension {i} of input {} is {size}; only 1 can be squeezed",
                        show(input)
                    )));
                }
            }
            Some(dims)
        }
        None if c.fact(1).is_some() => None,
        None => input.iter().all(Option::is_some).then(|| input.iter().copied().filter(|d| *d != Some(1)).collect()),
    };
    Ok(vec![Some(values::carried(c, dims))])
}

pub(super) fn unsqueeze(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(input), Some(axes)) = (c.dims(0), axes(c)?) else { return one(c, None) };
    let rank = input.len() + axes.len();
    let at = distinct(axes, rank)?;
    let mut dims = input.clone();
    at.iter().for_each(|&i| dims.insert(i, Some(1)));
    Ok(vec![Some(values::carried(c, Some(dims)))])
}

/// Of Squeeze and Unsqueeze; exporters write a single one as a scalar.
fn axes<'c>(c: &Context<'c>) -> Ruled<Option<&'c [i64]>> {
    match c.ints("axes") {
        Some(axes) => Ok(Some(axes)),
        None => c.numbers(1),
    }
}

/// Dimensions of which none may be named twice, in order.
pub(super) fn distinct(axes: &[i64], rank: usize) -> Ruled<Vec<usize>> {
    let mut at = axes.iter().map(|&a| axis(a, rank)).collect::<Ruled<Vec<_>>>()?;
    at.sort_unstable();
    if at.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Misfit::Attribute(format!("axes {axes:?} name a dimension twice")));
    }
    Ok(at)
}

pub(super) fn transpose(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return one(c, None) };
    let perm: Vec<usize> = match c.ints("perm") {
        Some(perm) => perm.iter().map(|&i| i as usize).collect(),
        None => (0..input.len()).rev().collect(),
    };
    if perm.len() != input.len() {
        return Err(Misfit::Attribute(format!("attribute `perm` has {} values for input {}", perm.len(), show(input))));
    }
    let dims = perm.iter().map(|&i| input[i]).collect();
    let values = values::moved(c, 0, &dims, |to| {
        let mut from = vec![0; perm.len()];
        perm.iter().zip(to).for_each(|(&i, at)| from[i] = *at);
        Some(from)
    });
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

/// `parts` are the indices of the inputs that are joined.
pub(super) fn concat(c: &Context<'_>, parts: &[usize], dtype: Option<DType>) -> Ruled<Outputs> {
    let known: Option<Vec<&Dims>> = parts.iter().map(|&i| c.dims(i)).collect();
    let Some((first, rest)) = known.as_deref().and_then(|k| k.split_first()) else {
        return Ok(vec![Some(Fact::new(dtype, None))]);
    };
    let at = axis(c.int("axis").unwrap_or(0), first.len())?;
    let mut dims = (*first).clone();
    for part in rest {
        let misfit =
            || Misfit::Shape(format!("its inputs {} and {} cannot be joined along axis {at}", show(first), show(part)));
        if part.len() != first.len() {
            return Err(misfit());
        }
        for (i, dim) in dims.iter_mut().enumerate() {
            *dim = if i == at {
                dim.zip(part[i]).map(|(a, b)| a.saturating_add(b))
            } else {
                same(*dim, part[i], |_, _| String::new()).map_err(|_| misfit())?
            };
        }
    }
    // Along the outermost axis one follows the other.
    let values = values::joined(parts.iter().map(|&i| c.values(i).filter(|_| at == 0)));
    let reals = values::joined(parts.iter().map(|&i| c.reals(i).filter(|_| at == 0)));
    Ok(vec![Some(Fact { values, reals, ..Fact::new(dtype, Some(dims)) })])
}

pub(super) fn pad(c: &Context<'_>) -> Ruled<Outputs> {
    if let (Some(data), Some(border)) = (c.dtype(0), c.dtype(2))
        && data != border
    {
        let what = format!("its value `{}` is {border}, its input {data}; they must be the same", c.node.inputs[2]);
        return Err(Misfit::Attribute(what));
    }
    let (Some(input), Some(pads)) = (c.dims(0), c.steering("pads", 1)?) else { return one(c, None) };
    let all: Vec<i64> = (0..input.len() as i64).collect();
    let axes = match c.known(3)? {
        None if c.fact(3).is_some() => return one(c, None),
        axes => axes.unwrap_or(&all),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Misfit::Attribute(format!(
            "pads has {} values; {} are needed for {} dimensions",
            pads.len(),
            2 * axes.len(),
            axes.len()
        )));
    }
    distinct(axes, input.len())?;
    c.scalar(2, "value")?;
    let reflects = c.text("mode") == Some("reflect");
    let mut dims = input.clone();
    for (i, &a) in axes.iter().enumerate() {
        let at = axis(a, input.len())?;
        let (before, after) = (pads[i], pads[axes.len() + i]);
        let total = before.checked_add(after).ok_or_else(|| Misfit::Attribute("pads overflow".into()))?;
        let Some(length) = input[at] else { continue };
        // Negative ones cut off first.
        let left = (length as i64).saturating_add(before.min(0)).saturating_add(after.min(0));
        let most = before.max(after);
        if reflects && most > 0 && most >= left.max(1) {
            return Err(Misfit::Attribute(format!("a pad of {most} reflects more than there is of {left}")));
        }
        dims[at] = Some(size((length as i64).saturating_add(total), "a padded dimension")?);
    }
    let values = padded(c, pads, dims.first().copied().flatten());
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

/// A short vector of whole numbers with others of one value around it, if that is `length` long.
fn padded(c: &Context<'_>, pads: &[i64], length: Option<usize>) -> Option<Vec<i64>> {
    let (values, length, &[before, _]) = (c.values(0)?, length.filter(|length| *length <= VALUES_LIMIT)?, pads) else {
        return None;
    };
    let border = match (c.fact(2), c.values(2)) {
        (None, _) => 0,
        (Some(_), values) => *values?.first()?,
    };
    let is_constant = c.text("mode").is_none_or(|mode| mode == "constant");
    let place = |at: i64| usize::try_from(at.checked_sub(before)?).ok();
    let at = |at| place(at).and_then(|place| values.get(place)).copied().unwrap_or(border);
    (is_constant && c.dims(0)?.len() == 1).then(|| (0..length as i64).map(at).collect())
}

pub(super) fn tile(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(input), Some(repeats)) = (c.dims(0), c.known(1)?) else { return one(c, None) };
    if repeats.len() != input.len() {
        return Err(Misfit::Shape(format!(
            "it repeats {} dimensions, input {} has {}",
            repeats.len(),
            show(input),
            input.len()
        )));
    }
    let repeats = sizes(repeats, "a repeat")?;
    let dims = input.iter().zip(repeats).map(|(dim, n)| dim.zip(n).map(|(dim, n)| dim.saturating_mul(n))).collect();
    let values =
        values::moved(c, 0, &dims, |to| to.iter().zip(input).map(|(at, dim)| at.checked_rem((*dim)?)).collect());
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

pub(super) fn expand(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(input), Some(shape)) = (c.dims(0), c.known(1)?) else { return one(c, None) };
    let dims = broadcast(input, &sizes(shape, "a dimension of its shape")?)?;
    let values = values::moved(c, 0, &dims, |to| {
        let to = &to[to.len() - input.len()..];
        Some(to.iter().zip(input).map(|(at, dim)| if *dim == Some(1) { 0 } else { *at }).collect())
    });
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

pub(super) fn resize(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return one(c, None) };
    let scales_at = if c.node.op == "Upsample" || c.opset < 11 { 1 } else { 2 };
    let all: Vec<i64> = (0..input.len() as i64).collect();
    let stated = c.ints("axes").unwrap_or(&all);
    distinct(stated, input.len())?;
    let axes = stated.iter().map(|&a| axis(a, input.len())).collect::<Ruled<Vec<_>>>()?;
    if c.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch") {
        return one(c, None); // known to engines alone; held against the limit after import
    }
    let sized = scales_at == 2 && c.fact(3).is_some_and(|sizes| sizes.dims.as_deref() != Some(&[Some(0)]));
    let scaled_too = c.fact(scales_at).is_some_and(|scales| scales.dims.as_deref() != Some(&[Some(0)]));
    if sized == (scaled_too || c.floats("scales").is_some()) {
        let what = if sized { "both scales and sizes" } else { "neither scales nor sizes" };
        return Err(Misfit::Attribute(format!("it states {what}; one of them is needed")));
    }
    let along = |sizes: Dims| {
        let mut dims = input.clone();
        axes.iter().zip(sizes).for_each(|(&axis, size)| dims[axis] = size);
        Some(dims)
    };
    if let Some(sizes_in) = if scales_at == 2 { c.known(3)? } else { None } {
        if sizes_in.len() != axes.len() {
            return Err(Misfit::Shape(format!("it states {} sizes for input {}", sizes_in.len(), show(input))));
        }
        if sizes_in.contains(&0) {
            return Err(Misfit::Attribute("a size is 0; sizes must be positive".into()));
        }
        return one(c, along(sizes(sizes_in, "a size")?));
    }
    let scales = match c.floats("scales") {
        Some(scales) => scales,
        None => match c.fact(scales_at).and_then(|fact| fact.reals.as_deref()) {
            Some(scales) => scales,
            None => return one(c, None),
        },
    };
    if let Some(scale) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(Misfit::Attribute(format!("a scale is {scale}; scales must be positive and finite")));
    }
    if scales.len() != axes.len() {
        return Err(Misfit::Shape(format!("it states {} scales for input {}", scales.len(), show(input))));
    }
    let resized = |(&axis, &scale): (&usize, &f32)| input[axis].map(|dim| scaled(dim, scale));
    one(c, along(axes.iter().zip(scales).map(resized).collect()))
}

/// In float32, as ONNX Runtime computes it.
fn scaled(dim: usize, scale: f32) -> usize {
    (dim as f32 * scale).floor() as usize
}

pub(super) fn one_hot(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(indices) = c.dims(0) else { return Ok(vec![]) };
    let asked = c.int("axis").unwrap_or(-1);
    let at = axis(asked, indices.len() + 1)?;
    c.scalar(1, "depth")?;
    if let Some(values) = c.dims(2).filter(|values| !matches!(values.as_slice(), [None | Some(2)])) {
        return Err(Misfit::Shape(format!("its values {} must be two, for off and on", show(values))));
    }
    // A depth may be a float too.
    let depth = match c.fact(1).and_then(|fact| fact.reals.as_deref()) {
        Some(&[depth]) if depth.fract() == 0.0 => Some(size(depth as i64, "its depth")?),
        Some(_) => return Err(Misfit::Attribute("its depth must be one whole number".into())),
        None if c.dtype(1) == Some(DType::F32) => None,
        None => match c.numbers(1)? {
            Some(&[depth]) => Some(size(depth, "its depth")?),
            _ => None,
        },
    };
    let mut dims = indices.clone();
    dims.insert(at, depth);
    Ok(vec![Some(Fact::new(c.dtype(2), Some(dims)))])
}

pub(super) fn depth_space(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(input), Some(block)) = (c.dims(0), c.int("blocksize")) else { return one(c, None) };
    let &[n, depth, h, w] = input.as_slice() else {
        return Err(Misfit::Shape(format!("input {} must have 4 dimensions", show(input))));
    };
    let block = block as usize;
    let square = block.saturating_mul(block);
    let divided = |dim: Option<usize>, by: usize| match dim {
        Some(dim) if dim % by != 0 => {
            Err(Misfit::Shape(format!("block size {block} does not divide input {}", show(input))))
        }
        dim => Ok(dim.map(|d| d / by)),
    };
    let times = |dim: Option<usize>, by: usize| dim.map(|d| d.saturating_mul(by));
    let dims = if c.node.op == "DepthToSpace" {
        vec![n, divided(depth, square)?, times(h, block), times(w, block)]
    } else {
        vec![n, times(depth, square), divided(h, block)?, divided(w, block)?]
    };
    one(c, Some(dims))
}

/// Reduce* with `axes`, ArgMax and ArgMin with `axis`.
pub(super) fn reduce(c: &Context<'_>, dtype: Option<DType>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return Ok(vec![Some(Fact::new(dtype, None))]) };
    let keep = c.int("keepdims").unwrap_or(1) != 0;
    let single = [c.int("axis").unwrap_or(0)];
    let axes = if c.node.op.starts_with("Arg") { Some(&single[..]) } else { c.steering("axes", 1)? };
    let all = c.int("noop_with_empty_axes").unwrap_or(0) == 0;
    let reduced: Vec<usize> = match axes {
        Some(axes) if !axes.is_empty() => distinct(axes, input.len())?,
        None if c.fact(1).is_some() => return Ok(vec![Some(Fact::new(dtype, None))]),
        _ if all => (0..input.len()).collect(),
        _ => vec![],
    };
    let dims = input.iter().enumerate().filter_map(|(i, dim)| match (reduced.contains(&i), keep) {
        (false, _) => Some(*dim),
        (true, true) => Some(Some(1)),
        (true, false) => None,
    });
    let dims: Dims = dims.collect();
    let values = if reduced.len() == input.len() { values::reduced(c) } else { None };
    Ok(vec![Some(Fact { values, ..Fact::new(dtype, Some(dims)) })])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_resized_in_single_precision() {
        // 0.7 is a little less in float64 than in float32, and seven tenths of ten as much less than 7.
        assert_eq!((scaled(10, 0.7), scaled(3, 2.5), scaled(5, 0.1)), (7, 7, 0));
    }
}
