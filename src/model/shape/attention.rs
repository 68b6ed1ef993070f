//! Attention and rotary embeddings of opset 23 on: what must hold of their sizes.

use super::context::Context;
use super::fact::{Dims, Fact, broadcast, may_be, same, show};
use super::{Misfit, Ruled};
use crate::model::graph::AttributeValue;

type Dim = Option<usize>;

/// A tensor as `[batch, heads, rows, of each head]`.
type Heads = [Dim; 4];

/// Scores of every query with every key, softened, and what of the values that picks.
pub(super) fn attention(c: &Context<'_>) -> Ruled<Vec<Option<Fact>>> {
    bounded(c)?;
    let ranks: Vec<usize> = (0..3).filter_map(|index| c.fact(index).and_then(Fact::rank)).collect();
    let &[rank, ..] = ranks.as_slice() else { return Ok(vec![Some(Fact::new(c.dtype(0), None))]) };
    if !matches!(rank, 3 | 4) || ranks.iter().any(|other| *other != rank) {
        return Err(Misfit::Shape("its queries, keys and values must all have three or all four dimensions".into()));
    }
    let q = heads(c, 0, "q_num_heads")?;
    let (k, v) = (heads(c, 1, "kv_num_heads")?, heads(c, 2, "kv_num_heads")?);
    let differ = |what: &'static str| move |a: usize, b: usize| format!("its {what} differ: {a} and {b}");
    let batch = same(q[0], same(k[0], v[0], differ("batches"))?, differ("batches"))?;
    let groups = same(k[1], v[1], differ("heads of keys and values"))?;
    let new = same(k[2], v[2], differ("numbers of keys and values"))?;
    let depth = same(q[3], k[3], differ("sizes of a query and of a key"))?;
    if let (Some(heads), Some(groups)) = (q[1], groups)
        && heads.checked_rem(groups).is_none_or(|rest| rest != 0)
    {
        return Err(Misfit::Shape(format!("its {groups} heads of keys do not divide {heads} heads of queries")));
    }
    if c.fact(4).is_some() != c.fact(5).is_some() {
        return Err(Misfit::Shape("it has past keys or past values alone".into()));
    }
    if c.fact(4).is_some() && c.fact(6).is_some() {
        return Err(Misfit::Shape("it has past keys beside lengths of keys".into()));
    }
    let past = same(past(c, 4, [batch, groups, depth])?, past(c, 5, [batch, groups, v[3]])?, differ("past rows"))?;
    let has_past = c.fact(4).is_some();
    let keys = if has_past { past.zip(new).and_then(|(past, new)| past.checked_add(new)) } else { new };
    let scores = vec![batch, q[1], q[2], keys];
    mask(c, &scores)?;
    if let Some(lengths) = c.dims(6)
        && lengths.len() != 1
    {
        return Err(Misfit::Shape(format!("its lengths of keys {} must be a vector", show(lengths))));
    }
    same(batch, c.dims(6).and_then(|dims| dims.first().copied().flatten()), differ("batch and lengths of keys"))?;
    let y = match rank {
        3 => vec![batch, q[2], q[1].zip(v[3]).and_then(|(heads, columns)| heads.checked_mul(columns))],
        _ => vec![batch, q[1], q[2], v[3]],
    };
    let made = [y, vec![batch, groups, keys, depth], vec![batch, groups, keys, v[3]], scores];
    let dtypes = [c.dtype(0), c.dtype(1), c.dtype(2), c.dtype(0)];
    Ok(made.into_iter().zip(dtypes).map(|(dims, dtype)| Some(Fact::new(dtype, Some(dims)))).collect())
}

/// Bounds of its attributes.
fn bounded(c: &Context<'_>) -> Ruled<()> {
    let within = |name: &str, least: i64, most: i64| match c.int(name) {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Misfit::Attribute(format!("attribute `{name}` is {value}; it must be from {least} to {most}")))
        }
        _ => Ok(()),
    };
    within("qk_matmul_output_mode", 0, 3)?;
    within("left_window_size", -1, i64::MAX)?;
    within("right_window_size", -1, i64::MAX)?;
    for name in ["softcap", "scale"] {
        if let Some(AttributeValue::Float(value)) = c.node.attribute(name)
            && !(value.is_finite() && *value >= 0.0)
        {
            return Err(Misfit::Attribute(format!("attribute `{name}` is {value}; it must be a number from 0 on")));
        }
    }
    Ok(())
}

fn heads(c: &Context<'_>, index: usize, attribute: &str) -> Ruled<Heads> {
    let stated = match c.int(attribute) {
        Some(heads) => Some(
            usize::try_from(heads)
                .ok()
                .filter(|heads| *heads > 0)
                .ok_or_else(|| Misfit::Attribute(format!("attribute `{attribute}` is {heads}; it must be above 0")))?,
        ),
        None => None,
    };
    match (c.dims(index).map(Vec::as_slice), stated) {
        (Some(&[batch, heads, rows, depth]), stated) => {
            let heads = same(heads, stated, |has, stated| {
                format!("input `{}` has {has} heads, and `{attribute}` is {stated}", c.node.inputs[index])
            })?;
            Ok([batch, heads, rows, depth])
        }
        (Some(&[..]), None) => {
            Err(Misfit::Attribute(format!("attribute `{attribute}` is missing, which inputs of three dimensions need")))
        }
        (Some(&[batch, rows, all]), Some(heads)) => {
            if all.is_some_and(|all| !all.is_multiple_of(heads)) {
                let (name, dims) = (&c.node.inputs[index], show(&vec![batch, rows, all]));
                return Err(Misfit::Shape(format!("{heads} heads do not divide input `{name}` of {dims}")));
            }
            Ok([batch, Some(heads), rows, all.map(|all| all / heads)])
        }
        (_, stated) => Ok([None, stated, None, None]),
    }
}

/// Rows of what was kept, if the rest is `[batch, heads, of each head]`.
fn past(c: &Context<'_>, index: usize, [batch, heads, depth]: [Dim; 3]) -> Ruled<Dim> {
    expect(c, index, &vec![batch, heads, None, depth])?;
    Ok(c.dims(index).and_then(|dims| dims.get(2).copied().flatten()))
}

/// An input that is there must have these dimensions, as far as they are known.
fn expect(c: &Context<'_>, index: usize, expected: &Dims) -> Ruled<()> {
    match c.dims(index) {
        Some(dims) if !may_be(dims, expected) => {
            let (name, dims, expected) = (&c.node.inputs[index], show(dims), show(expected));
            Err(Misfit::Shape(format!("input `{name}` is {dims}; it must be {expected}")))
        }
        _ => Ok(()),
    }
}

/// A mask may end before the last keys, which none sees then.
fn mask(c: &Context<'_>, scores: &Dims) -> Ruled<()> {
    let Some(dims) = c.dims(3) else { return Ok(()) };
    let fits = || {
        let (reached, outer) = dims.split_last()?;
        let [seen, keys] = [(*reached)?, scores[3].unwrap_or(usize::MAX)];
        let wide = broadcast(&outer.to_vec(), &scores[..3].to_vec()).ok()?;
        Some(seen <= keys && may_be(&wide, &scores[..3]))
    };
    match dims.last() {
        Some(None) => Ok(()),
        _ if fits() == Some(true) => Ok(()),
        _ => Err(Misfit::Shape(format!("its mask {} does not fit scores of {}", show(dims), show(scores)))),
    }
}

/// Elements turned by angles, whose cosines and sines are given by place.
pub(super) fn rotary(c: &Context<'_>) -> Ruled<Vec<Option<Fact>>> {
    let x = Fact::new(c.dtype(0), c.dims(0).cloned());
    let Some(dims) = c.dims(0) else { return Ok(vec![Some(x)]) };
    let heads = c.int("num_heads").unwrap_or(0);
    let (batch, rows, depth) = match *dims.as_slice() {
        [batch, own, rows, depth] => {
            let stated = usize::try_from(heads).ok().filter(|_| heads != 0);
            if heads < 0 || own.zip(stated).is_some_and(|(own, stated)| own != stated) {
                let what = format!("attribute `num_heads` is {heads}, and its input of {} has others", show(dims));
                return Err(Misfit::Attribute(what));
            }
            (batch, rows, depth)
        }
        [batch, rows, all] => {
            let heads = usize::try_from(heads).ok().filter(|heads| *heads > 0);
            let heads = heads.ok_or_else(|| {
                Misfit::Attribute("attribute `num_heads` must be above 0 for an input of three dimensions".into())
            })?;
            if all.is_some_and(|all| !all.is_multiple_of(heads)) {
                return Err(Misfit::Shape(format!("{heads} heads do not divide its input of {}", show(dims))));
            }
            (batch, rows, all.map(|all| all / heads))
        }
        _ => return Err(Misfit::Shape(format!("its input {} must have three or four dimensions", show(dims)))),
    };
    let turned = match c.int("rotary_embedding_dim").unwrap_or(0) {
        0 => depth,
        stated => {
            Some(usize::try_from(stated).ok().filter(|stated| depth.is_none_or(|depth| *stated <= depth)).ok_or_else(
                || {
                    Misfit::Attribute(format!(
                        "attribute `rotary_embedding_dim` is {stated}, and a head has {}",
                        show(&vec![depth])
                    ))
                },
            )?)
        }
    };
    if turned.is_some_and(|turned| !turned.is_multiple_of(2)) {
        return Err(Misfit::Shape(format!("what is turned of each head, {}, is not even", show(&vec![turned]))));
    }
    let half = turned.map(|turned| turned / 2);
    let by_place = c.fact(3).is_some();
    let angles = if by_place { vec![None, half] } else { vec![batch, rows, half] };
    expect(c, 1, &angles)?;
    expect(c, 2, &angles)?;
    expect(c, 3, &vec![batch, rows])?;
    Ok(vec![Some(x)])
}
