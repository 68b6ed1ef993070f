//! Operators that take parts of a tensor: by ranges, by indices, by size.

use super::context::Context;
use super::fact::{Dims, Fact, axis, show};
use super::views::{distinct, one, size, sizes};
use super::{Misfit, Ruled, values};
use crate::model::graph::DType;

type Outputs = Vec<Option<Fact>>;

pub(super) fn split(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return Ok(vec![]) };
    let at = axis(c.int("axis").unwrap_or(0), input.len())?;
    let parts = c.node.outputs.len();
    if let Some(stated) = c.int("num_outputs").filter(|&stated| stated != parts as i64) {
        return Err(Misfit::Attribute(format!("attribute `num_outputs` is {stated}, it has {parts} outputs")));
    }
    let lengths: Dims = match (c.steering("split", 1)?, input[at]) {
        (Some(lengths), total) => {
            let lengths = sizes(lengths, "a length of its split")?;
            if lengths.len() != parts || total.zip(volume_sum(&lengths)).is_some_and(|(total, sum)| total != sum) {
                return Err(Misfit::Shape(format!(
                    "its split {} does not divide {} of input {} among {parts} outputs",
                    show(&lengths),
                    total.unwrap_or(0),
                    show(input)
                )));
            }
            lengths
        }
        (None, Some(total)) if c.fact(1).is_none() => {
            if c.opset >= 18 && c.int("num_outputs").is_none() {
                return Err(Misfit::Attribute("attribute `num_outputs` is missing, and so is its split".into()));
            }
            if c.opset < 18 && total % parts != 0 {
                let what = format!("{total} of input {} do not make {parts} equal outputs", show(input));
                return Err(Misfit::Shape(what));
            }
            let each = total.div_ceil(parts);
            (0..parts).map(|i| Some(each.min(total.saturating_sub(i * each)))).collect()
        }
        _ => vec![None; parts],
    };
    let mut begin = Some(0);
    let mut part = |length: &Option<usize>| {
        let mut dims = input.clone();
        dims[at] = *length;
        let values = begin.and_then(|begin| {
            values::moved(c, 0, &dims, |to| {
                let mut from = to.to_vec();
                *from.get_mut(at)? += begin;
                Some(from)
            })
        });
        begin = begin.zip(*length).and_then(|(begin, length): (usize, usize)| begin.checked_add(length));
        Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })
    };
    Ok(lengths.iter().map(&mut part).collect())
}

fn volume_sum(lengths: &Dims) -> Option<usize> {
    lengths.iter().try_fold(0usize, |sum, length| sum.checked_add((*length)?))
}

pub(super) fn slice(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return one(c, None) };
    let (Some(starts), Some(ends)) = (c.steering("starts", 1)?, c.steering("ends", 2)?) else { return one(c, None) };
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = match c.steering("axes", 3)? {
        None if c.fact(3).is_some() => return one(c, None),
        axes => axes.unwrap_or(&all),
    };
    let ones = vec![1; starts.len()];
    let steps = match c.known(4)? {
        None if c.fact(4).is_some() => return one(c, None),
        steps => steps.unwrap_or(&ones),
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Misfit::Shape("its starts, ends, axes and steps differ in length".into()));
    }
    distinct(axes, input.len())?;
    let mut dims = input.clone();
    // First element and step along each dimension.
    let mut walks: Vec<(i64, i64)> = vec![(0, 1); input.len()];
    for (i, &a) in axes.iter().enumerate() {
        let at = axis(a, input.len())?;
        let step = steps[i];
        if step == 0 {
            return Err(Misfit::Attribute("a step is 0".into()));
        }
        let Some(length) = input[at] else { continue };
        let length = length as i64;
        let from_end = |v: i64| if v < 0 { v.saturating_add(length) } else { v };
        let (start, end) = (from_end(starts[i]), from_end(ends[i]));
        let (start, span) = if step > 0 {
            let start = start.clamp(0, length);
            (start, end.clamp(0, length) - start)
        } else {
            let last = (length - 1).max(0);
            let start = start.clamp(0, last);
            (start, start - end.clamp(-1, last))
        };
        walks[at] = (start, step);
        dims[at] = Some(span.clamp(0, length).unsigned_abs().div_ceil(step.unsigned_abs()) as usize);
    }
    let values = values::moved(c, 0, &dims, |to| {
        let along = |(&at, &(start, step)): (&usize, &(i64, i64))| usize::try_from(start + at as i64 * step).ok();
        to.iter().zip(&walks).map(along).collect()
    });
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

pub(super) fn gather(c: &Context<'_>) -> Ruled<Outputs> {
    c.indices(1)?;
    let (Some(data), Some(indices)) = (c.dims(0), c.dims(1)) else { return one(c, None) };
    let at = axis(c.int("axis").unwrap_or(0), data.len())?;
    if let (Some(length), Some(values)) = (data[at], c.values(1)) {
        let length = length as i64;
        if let Some(index) = values.iter().find(|&&i| i < -length || i >= length) {
            return Err(Misfit::Attribute(format!("index {index} is out of range for {length} along axis {at}")));
        }
    }
    let dims = data[..at].iter().chain(indices).chain(&data[at + 1..]).copied().collect();
    let values = c.values(1).zip(data[at]).and_then(|(picks, length)| {
        values::moved(c, 0, &dims, |to| {
            let (before, rest) = to.split_at(at);
            let (index, after) = rest.split_at(indices.len());
            let place = index.iter().zip(indices).try_fold(0, |place, (i, dim)| Some(place * (*dim)? + i))?;
            let pick = *picks.get(place)?;
            let pick = usize::try_from(if pick < 0 { pick + length as i64 } else { pick }).ok()?;
            Some(before.iter().copied().chain([pick]).chain(after.iter().copied()).collect())
        })
    });
    Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), Some(dims)) })])
}

pub(super) fn gather_elements(c: &Context<'_>) -> Ruled<Outputs> {
    c.indices(1)?;
    within_data(c)?;
    one(c, c.dims(1).cloned())
}

/// Indices of single elements have the data's rank and, but along the axis, at most its dimensions.
fn within_data(c: &Context<'_>) -> Ruled<()> {
    let (Some(data), Some(indices)) = (c.dims(0), c.dims(1)) else { return Ok(()) };
    let at = axis(c.int("axis").unwrap_or(0), data.len())?;
    let beyond = |i: usize| i != at && indices[i].zip(data[i]).is_some_and(|(index, dim)| index > dim);
    if indices.len() != data.len() || (0..data.len()).any(beyond) {
        let what = format!("its indices {} do not fit input {} along axis {at}", show(indices), show(data));
        return Err(Misfit::Shape(what));
    }
    Ok(())
}

/// Each row of indices names a part of the data by its first dimensions, behind those of the batch.
pub(super) fn gather_nd(c: &Context<'_>) -> Ruled<Outputs> {
    let (Some(data), Some(indices)) = (c.dims(0), c.dims(1)) else { return one(c, None) };
    let batch = size(c.int("batch_dims").unwrap_or(0), "attribute `batch_dims`")?;
    if batch >= data.len().min(indices.len()) {
        let what = format!("attribute `batch_dims` is {batch}, input {} and its indices {}", show(data), show(indices));
        return Err(Misfit::Attribute(what));
    }
    one(c, parts(&data[batch..], indices)?)
}

pub(super) fn scatter_elements(c: &Context<'_>) -> Ruled<Outputs> {
    c.indices(1)?;
    within_data(c)?;
    if let (Some(indices), Some(updates)) = (c.dims(1), c.dims(2))
        && !may_be(updates, indices)
    {
        let what = format!("its updates {} must be {}, as its indices", show(updates), show(indices));
        return Err(Misfit::Shape(what));
    }
    one(c, c.dims(0).cloned())
}

pub(super) fn scatter_nd(c: &Context<'_>) -> Ruled<Outputs> {
    if let (Some(data), Some(indices), Some(updates)) = (c.dims(0), c.dims(1), c.dims(2))
        && let Some(wanted) = parts(data, indices)?
        && !may_be(updates, &wanted)
    {
        let what = format!("its updates {} must be {} for indices {}", show(updates), show(&wanted), show(indices));
        return Err(Misfit::Shape(what));
    }
    one(c, c.dims(0).cloned())
}

/// Whether dimensions may turn out to be others.
fn may_be(dims: &Dims, others: &Dims) -> bool {
    let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.zip(*b).is_none_or(|(a, b)| a == b);
    dims.len() == others.len() && dims.iter().zip(others).all(fits)
}

/// Dimensions of all parts that indices name: those of their rows, and of one part.
fn parts(data: &[Option<usize>], indices: &Dims) -> Ruled<Option<Dims>> {
    match indices.split_last() {
        None => Err(Misfit::Shape("its indices are a scalar".into())),
        Some((None, _)) => Ok(None),
        Some((Some(depth), rows)) => match data.get(*depth..).filter(|_| *depth > 0) {
            Some(part) => Ok(Some([rows, part].concat())),
            None => {
                let what = format!("its indices {} name {depth} of {} dimensions", show(indices), data.len());
                Err(Misfit::Shape(what))
            }
        },
    }
}

pub(super) fn top_k(c: &Context<'_>) -> Ruled<Outputs> {
    let Some(input) = c.dims(0) else { return Ok(vec![]) };
    let at = axis(c.int("axis").unwrap_or(-1), input.len())?;
    let given = c.known(1)?;
    c.scalar(1, "k")?;
    let k = match (c.int("k"), given) {
        (Some(k), _) | (None, Some(&[k])) => Some(size(k, "its k")?),
        _ => None,
    };
    if let (Some(k), Some(length)) = (k, input[at])
        && k > length
    {
        return Err(Misfit::Attribute(format!("its k of {k} is above {length} along axis {at}")));
    }
    let mut dims = input.clone();
    dims[at] = k;
    Ok(vec![Some(Fact::new(c.dtype(0), Some(dims.clone()))), Some(Fact::new(Some(DType::I64), Some(dims)))])
}
