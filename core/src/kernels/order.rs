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

/// [`TopF32`], by a heap in `y` of what has been found, the least of it in front: n log k steps whatever the values.
pub fn top(x: &[f32], y: &mut [i64], op: &TopF32) {
    let Along { len, inner, .. } = op.along;
    for (x, y) in x.chunks_exact(len * inner).zip(y.chunks_exact_mut(op.count * inner)) {
        for column in 0..inner {
            let value = |index: i64| x[index as usize * inner + column];
            let ahead = |index: i64, other: i64| {
                let (x, y) = (value(index), value(other));
                beats(x, y, op.smallest) || index < other && !beats(y, x, op.smallest)
            };
            let mut heap = Heap { y: &mut *y, inner, column };
            for place in 0..op.count {
                heap.set(place, place as i64);
            }
            for place in (0..op.count / 2).rev() {
                heap.sink(place, op.count, ahead);
            }
            for index in op.count as i64..len as i64 {
                if ahead(index, heap.at(0)) {
                    heap.set(0, index);
                    heap.sink(0, op.count, ahead);
                }
            }
            for end in (1..op.count).rev() {
                let (first, last) = (heap.at(0), heap.at(end));
                heap.set(0, last);
                heap.set(end, first);
                heap.sink(0, end, ahead);
            }
        }
    }
}

/// Indices in a column of `y`: each is behind those below it, at twice its place and one or two on.
struct Heap<'y> {
    y: &'y mut [i64],
    inner: usize,
    column: usize,
}

impl Heap<'_> {
    fn at(&self, place: usize) -> i64 {
        self.y[place * self.inner + self.column]
    }

    fn set(&mut self, place: usize, index: i64) {
        self.y[place * self.inner + self.column] = index;
    }

    /// Moves what lies at a place down to where it belongs among the first `len`.
    fn sink(&mut self, mut place: usize, len: usize, ahead: impl Fn(i64, i64) -> bool) {
        let index = self.at(place);
        loop {
            let mut below = 2 * place + 1;
            if below + 1 < len && ahead(self.at(below), self.at(below + 1)) {
                below += 1;
            }
            if below >= len || ahead(self.at(below), index) {
                break;
            }
            self.set(place, self.at(below));
            place = below;
        }
        self.set(place, index);
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

    /// By insertion it took the square of that: a minute in a debug build.
    #[test]
    #[cfg_attr(miri, ignore = "it is about what takes long")]
    fn all_of_a_long_tensor_are_sorted_in_a_moment() {
        const LEN: usize = 200_000;
        let none = Operand::default();
        let along = Along { outer: 1, len: LEN, inner: 1 };
        let x: Vec<f32> = (0..LEN).map(|i| i as f32).collect();
        let mut y = std::vec![-1; LEN];
        top(&x, &mut y, &TopF32 { input: none, output: none, along, count: LEN, smallest: false });
        assert!(y.iter().copied().eq((0..LEN as i64).rev()));
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
