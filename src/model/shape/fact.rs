//! What is known of one tensor, and the shape algebra on it.

use super::{Misfit, Ruled};
use crate::model::graph::DType;

/// Integer tensors up to this many elements are followed by value.
pub const VALUES_LIMIT: usize = 64;

/// Dimensions, each known or not.
pub type Dims = Vec<Option<usize>>;

/// Type, dimensions and values of a tensor, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fact {
    pub dtype: Option<DType>,
    pub dims: Option<Dims>,
    /// Of small integer tensors.
    pub values: Option<Vec<i64>>,
    /// Of small float vectors, stored or following from shapes: the scales of Resize, sizes on their way through floats.
    pub reals: Option<Vec<f32>>,
    /// Made of initializers alone: what an engine may compute at load.
    pub constant: bool,
}

impl Fact {
    pub fn unknown() -> Fact {
        Fact::default()
    }

    pub fn new(dtype: Option<DType>, dims: Option<Dims>) -> Fact {
        Fact { dtype, dims, ..Fact::default() }
    }

    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }
}

/// An axis as an index; negative ones count from the end.
pub fn axis(axis: i64, rank: usize) -> Ruled<usize> {
    let index = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < rank)
        .ok_or_else(|| Misfit::Attribute(format!("axis {axis} is out of range for {rank} dimensions")))
}

/// Dimensions after broadcasting (ONNX "Multidirectional Broadcasting").
pub fn broadcast(a: &Dims, b: &Dims) -> Ruled<Dims> {
    let rank = a.len().max(b.len());
    let dim = |dims: &Dims, i: usize| (i + dims.len()).checked_sub(rank).map_or(Some(1), |at| dims[at]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (Some(1), other) | (other, Some(1)) => Ok(other),
            (Some(x), Some(y)) if x != y => {
                Err(Misfit::Shape(format!("its inputs {} and {} do not broadcast", show(a), show(b))))
            }
            // Not 1, so an unknown partner is the same or 1.
            (Some(size), _) | (_, Some(size)) => Ok(Some(size)),
            (None, None) => Ok(None),
        })
        .collect()
}

/// Dimensions for messages: `[1, ?, 3]`.
pub fn show(dims: &Dims) -> String {
    let dims: Vec<String> = dims.iter().map(|dim| dim.map_or("?".to_owned(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// Refuses two sizes that are both known and differ.
pub fn same(a: Option<usize>, b: Option<usize>, what: impl Fn(usize, usize) -> String) -> Ruled<Option<usize>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(Misfit::Shape(what(a, b))),
        (a, b) => Ok(a.or(b)),
    }
}

/// Whether dimensions may be those that are expected: as many, and none of which it is known that it is another.
pub fn may_be(own: &[Option<usize>], expected: &[Option<usize>]) -> bool {
    own.len() == expected.len()
        && own.iter().zip(expected).all(|(own, other)| own.zip(*other).is_none_or(|(a, b)| a == b))
}

/// Product of all dimensions, where all are known.
pub fn volume(dims: &[Option<usize>]) -> Option<usize> {
    dims.iter().try_fold(1usize, |volume, dim| volume.checked_mul((*dim)?))
}
