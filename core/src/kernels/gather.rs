//! Looking elements up by index.

use crate::plan::Gather;
use crate::shape::Along;

/// [`Gather`], the elements as `T`. `None` if an index lies outside of the dimension.
pub fn gather<T: Copy>(x: &[T], indices: &[i64], y: &mut [T], op: &Gather) -> Option<()> {
    let Along { len, inner, .. } = op.along;
    let (from, to) = (len * inner, op.count * inner);
    for (outer, (x, y)) in x.chunks_exact(from).zip(y.chunks_exact_mut(to)).enumerate() {
        if op.each {
            let indices = indices.get(outer * to..)?.get(..to)?;
            for (at, (y, &index)) in y.iter_mut().zip(indices).enumerate() {
                *y = *x.get(position(index, len)? * inner + at % inner)?;
            }
        } else {
            for (y, &index) in y.chunks_exact_mut(inner).zip(indices) {
                y.copy_from_slice(x.get(position(index, len)? * inner..)?.get(..inner)?);
            }
        }
    }
    Some(())
}

/// Where an index points along a dimension of `len`; negative ones count from the end.
#[inline]
pub fn position(index: i64, len: usize) -> Option<usize> {
    let from_start = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(from_start).ok().filter(|&position| position < len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Operand;

    fn op(along: Along, count: usize, each: bool) -> Gather {
        let none = Operand::default();
        Gather { input: none, indices: none, output: none, element_bytes: 1, along, count, each }
    }

    #[test]
    fn rows_are_looked_up_from_either_end() {
        let along = Along { outer: 2, len: 3, inner: 2 };
        let x: [u8; 12] = core::array::from_fn(|i| i as u8);
        let mut y = [0; 8];
        gather(&x, &[2, -3], &mut y, &op(along, 2, false)).unwrap();
        assert_eq!(y, [4, 5, 0, 1, 10, 11, 6, 7]);
    }

    #[test]
    fn each_element_has_its_own_index() {
        let along = Along { outer: 2, len: 2, inner: 2 };
        let x: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut y = [0; 4];
        gather(&x, &[1, 0, 0, -1], &mut y, &op(along, 1, true)).unwrap();
        assert_eq!(y, [2, 1, 4, 7]);
    }

    #[test]
    fn an_index_outside_is_refused() {
        let along = Along { outer: 1, len: 3, inner: 1 };
        for index in [3, -4, i64::MIN, i64::MAX] {
            assert_eq!(gather(&[1u8, 2, 3], &[index], &mut [0], &op(along, 1, false)), None);
        }
    }
}
