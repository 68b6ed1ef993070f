//! Where the largest and smallest elements lie.

use crate::plan::{ExtremeF32, TopF32};
use crate::shape::Along;

/// [`ExtremeF32`].
pub fn extreme(x: &[f32], y: &mut [i64], op: &ExtremeF32) {
    let Along { len, inner, .. } = op.along;
    for (x, y) in x.chunks_exact(len * inner).zip(y.chunks_exact_mut(inner)) {
        for (column, y) in y.iter_mut().enumerate() {
            let mut best = f32::NAN;
            *y = 0;
            for (index, &x) in x.iter().skip(column).step_by(inner).enumerate() {
                if beats(x, best, op.smallest) || op.last && x == best {
                    (*y, best) = (index as i64, x);
                }
            }
        }
    }
}

/// [`TopF32`], by insertion: what has been found lies in order in `y`.
pub fn top(x: &[f32], y: &mut [i64], op: &TopF32) {
    let Along { len, inner, .. } = op.along;
    for (x, y) in x.chunks_exact(len * inner).zip(y.chunks_exact_mut(op.count * inner)) {
        for column in 0..inner {
            let value = |index: i64| x[index as usize * inner + column];
            for index in 0..len as i64 {
                let found = op.count.min(index as usize);
                let ahead = |&place: &usize| !beats(value(index), value(y[place * inner + column]), op.smallest);
                // From the back: in most tensors most elements are not among the first.
                let place = (0..found).rev().find(ahead).map_or(0, |place| place + 1);
                if place == op.count {
                    continue;
                }
                for later in (place + 1..op.count.min(found + 1)).rev() {
                    y[later * inner + column] = y[(later - 1) * inner + column];
                }
                y[place * inner + column] = index;
            }
        }
    }
}

/// Whether `x` comes before `other`: it is larger or smaller, or the other is NaN.
#[inline]
fn beats(x: f32, other: f32, smallest: bool) -> bool {
    (if smallest { x < other } else { x > other }) || other.is_nan() && !x.is_nan()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::plan::Operand;

    proptest! {
        #[test]
        fn the_top_is_the_front_of_a_stable_sort(
            (outer, len, inner) in (1usize..4, 1usize..12, 1usize..4),
            values in vec(-3i8..4, 4 * 12 * 4),
            count in 1usize..12,
            smallest: bool,
        ) {
            let along = Along { outer, len, inner };
            let x: Vec<f32> = values[..outer * len * inner].iter().map(|&v| f32::from(v)).collect();
            let count = count.min(len);
            let none = Operand::default();
            let mut y = std::vec![-1; outer * count * inner];
            top(&x, &mut y, &TopF32 { input: none, output: none, along, count, smallest });
            let extremes = |last| {
                let mut y = std::vec![-1; outer * inner];
                extreme(&x, &mut y, &ExtremeF32 { input: none, output: none, along, smallest, last });
                y
            };
            let (first, last) = (extremes(false), extremes(true));
            for o in 0..outer {
                for i in 0..inner {
                    let at = |index: &usize| x[(o * len + index) * inner + i];
                    let mut order: Vec<usize> = (0..len).collect();
                    order.sort_by(|a, b| if smallest { at(a).total_cmp(&at(b)) } else { at(b).total_cmp(&at(a)) });
                    let got: Vec<usize> = (0..count).map(|k| y[(o * count + k) * inner + i] as usize).collect();
                    prop_assert_eq!(&got, &order[..count]);
                    prop_assert_eq!(first[o * inner + i] as usize, order[0]);
                    let equal = order.iter().filter(|index| at(index) == at(&order[0])).max();
                    prop_assert_eq!(Some(last[o * inner + i] as usize), equal.copied());
                }
            }
        }
    }

    #[test]
    fn nan_comes_last() {
        let none = Operand::default();
        let along = Along { outer: 1, len: 4, inner: 1 };
        let x = [f32::NAN, 1.0, f32::NAN, 2.0];
        let mut y = [-1; 4];
        top(&x, &mut y, &TopF32 { input: none, output: none, along, count: 4, smallest: false });
        assert_eq!(y, [3, 1, 0, 2]);
        extreme(&x, &mut y[..1], &ExtremeF32 { input: none, output: none, along, smallest: true, last: false });
        assert_eq!(y[0], 1);
    }
}
