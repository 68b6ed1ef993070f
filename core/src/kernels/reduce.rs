//! From all elements along a dimension to one.

use crate::plan::Reduction;
use crate::shape::Along;

use super::binary::{larger, smaller};
use super::lanes::fold_lanes;
use super::per_isa::per_isa;
use super::root::sqrt;

/// Lanes of a range.
const RANGE_LANES: usize = 32;

per_isa! {
    /// [`ReduceF32`](crate::plan::ReduceF32): `x` is `[outer, len, inner]`, `y` `[outer, inner]`.
    pub fn reduce_f32(x: &[f32], y: &mut [f32], along: &Along, function: Reduction) {
        let add = |a: f32, b: f32| a + b;
        let squares = |sum: f32, x: f32| sum + x * x;
        match function {
            Reduction::Sum | Reduction::Mean | Reduction::LogSum => fold(x, y, along, 0.0, add, add),
            Reduction::Max => fold(x, y, along, f32::NEG_INFINITY, larger, larger),
            Reduction::Min => fold(x, y, along, f32::INFINITY, smaller, smaller),
            Reduction::Product => fold(x, y, along, 1.0, |a, b| a * b, |a, b| a * b),
            Reduction::L1 => fold(x, y, along, 0.0, |sum, x: f32| sum + x.abs(), add),
            Reduction::L2 | Reduction::SumSquare => fold(x, y, along, 0.0, squares, add),
            Reduction::LogSumExp => log_sum_exp(x, y, along),
        }
        match function {
            Reduction::Mean => y.iter_mut().for_each(|y| *y /= along.len as f32),
            Reduction::L2 => y.iter_mut().for_each(|y| *y = sqrt(*y)),
            Reduction::LogSum => y.iter_mut().for_each(|y| *y = libm::logf(*y)),
            _ => {}
        }
    }

    /// [`DynamicRange`](crate::plan::DynamicRange): the least and the greatest of `x`.
    pub fn range(x: &[f32], range: &mut [f32; 2]) {
        // What compares takes no NaN, which is kept beside it: that is fewer instructions than to keep it in each of both.
        let (mut least, mut greatest) = ([f32::INFINITY; RANGE_LANES], [f32::NEG_INFINITY; RANGE_LANES]);
        let mut nan = [0u32; RANGE_LANES];
        let mut take = |lane: usize, x: f32| {
            least[lane] = if x < least[lane] { x } else { least[lane] };
            greatest[lane] = if x > greatest[lane] { x } else { greatest[lane] };
            nan[lane] |= u32::from(x.is_nan());
        };
        let (blocks, rest) = x.as_chunks::<RANGE_LANES>();
        for block in blocks {
            (0..RANGE_LANES).for_each(|lane| take(lane, block[lane]));
        }
        rest.iter().enumerate().for_each(|(lane, x)| take(lane, *x));
        *range = if nan.iter().any(|nan| *nan > 0) {
            [f32::NAN; 2]
        } else {
            [least.into_iter().fold(f32::INFINITY, smaller), greatest.into_iter().fold(f32::NEG_INFINITY, larger)]
        };
    }
}

/// `step` takes an element into a partial result, `join` two of these.
#[inline(always)]
fn fold(
    x: &[f32],
    y: &mut [f32],
    along: &Along,
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) {
    let Along { len, inner, .. } = *along;
    if inner == 1 {
        for (x, y) in x.chunks_exact(len).zip(y) {
            *y = fold_lanes(x, start, &step, &join);
        }
        return;
    }
    for (x, y) in x.chunks_exact(len * inner).zip(y.chunks_exact_mut(inner)) {
        y.fill(start);
        for row in x.chunks_exact(inner) {
            y.iter_mut().zip(row).for_each(|(y, x)| *y = step(*y, *x));
        }
    }
}

#[inline(always)]
fn log_sum_exp(x: &[f32], y: &mut [f32], along: &Along) {
    let Along { len, inner, .. } = *along;
    for (x, y) in x.chunks_exact(len * inner).zip(y.chunks_exact_mut(inner)) {
        for (index, y) in y.iter_mut().enumerate() {
            let column = || x.iter().skip(index).step_by(inner);
            let largest = column().fold(f32::NEG_INFINITY, |a, &b| larger(a, b));
            let shift = if largest.is_finite() { largest } else { 0.0 };
            let sum: f32 = column().map(|&x| libm::expf(x - shift)).sum();
            *y = shift + libm::logf(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::isa::Isa;

    fn tensor() -> impl Strategy<Value = (Along, Vec<f32>)> {
        (1usize..4, 1usize..40, 1usize..11).prop_flat_map(|(outer, len, inner)| {
            (Just(Along { outer, len, inner }), vec(-4f32..4.0, outer * len * inner))
        })
    }

    proptest! {
        #[test]
        fn agrees_with_double_precision_on_every_instruction_set((along, x) in tensor()) {
            type Exact = fn(&[f64]) -> f64;
            let functions: [(Reduction, Exact); 10] = [
                (Reduction::Sum, |x| x.iter().sum()),
                (Reduction::Mean, |x| x.iter().sum::<f64>() / x.len() as f64),
                (Reduction::Max, |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
                (Reduction::Min, |x| x.iter().copied().fold(f64::INFINITY, f64::min)),
                (Reduction::Product, |x| x.iter().product()),
                (Reduction::L1, |x| x.iter().map(|x| x.abs()).sum()),
                (Reduction::L2, |x| x.iter().map(|x| x * x).sum::<f64>().sqrt()),
                (Reduction::SumSquare, |x| x.iter().map(|x| x * x).sum()),
                (Reduction::LogSum, |x| x.iter().sum::<f64>().ln()),
                (Reduction::LogSumExp, |x| x.iter().map(|x| x.exp()).sum::<f64>().ln()),
            ];
            for (function, exact) in functions {
                let mut plain = std::vec![7.0; along.outer * along.inner];
                reduce_f32(Isa::Generic, &x, &mut plain, &along, function);
                for (at, &y) in plain.iter().enumerate() {
                    let (outer, inner) = (at / along.inner, at % along.inner);
                    let column: Vec<f64> =
                        (0..along.len).map(|i| x[(outer * along.len + i) * along.inner + inner].into()).collect();
                    let expected = exact(&column);
                    // The logarithm of a sum that cancels magnifies its rounding.
                    let sum: f64 = column.iter().sum();
                    if function == Reduction::LogSum && sum < 0.1 {
                        continue;
                    }
                    let scale = expected.abs().max(1.0) * if function == Reduction::LogSum { 1e-4 / sum.min(1.0) } else { 2e-5 };
                    prop_assert!((f64::from(y) - expected).abs() <= scale, "{function:?}: {y}, not {expected}");
                }
                for isa in Isa::ALL {
                    let mut y = std::vec![7.0; plain.len()];
                    reduce_f32(isa, &x, &mut y, &along, function);
                    prop_assert!(y.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_range_is_that_of_the_definition(x in vec(any::<f32>(), 1..200), nan in prop::option::of(any::<prop::sample::Index>())) {
            let mut x = x;
            if let Some(nan) = nan {
                *nan.get_mut(&mut x) = f32::NAN;
            }
            let mut sorted = x.clone();
            sorted.sort_by(f32::total_cmp);
            for isa in Isa::ALL {
                let mut range = [7.0; 2];
                super::range(isa, &x, &mut range);
                match nan {
                    None => prop_assert_eq!(range, [sorted[0], sorted[x.len() - 1]]),
                    Some(_) => prop_assert!(range.iter().all(|end| end.is_nan())),
                }
            }
        }
    }

    #[test]
    fn large_exponents_do_not_overflow() {
        let along = Along { outer: 1, len: 2, inner: 1 };
        let mut y = [0.0];
        reduce_f32(Isa::Generic, &[1e4, 1e4], &mut y, &along, Reduction::LogSumExp);
        assert!((y[0] - 10_000.693).abs() < 1e-2);
        reduce_f32(Isa::Generic, &[f32::NEG_INFINITY; 2], &mut y, &along, Reduction::LogSumExp);
        assert_eq!(y, [f32::NEG_INFINITY]);
    }

    /// As in ONNX Runtime, and unlike `f32::max`: along rows, in lanes and without, and along columns.
    #[test]
    fn the_largest_and_smallest_keep_nan() {
        for (len, inner) in [(3, 1), (40, 1), (5, 3)] {
            for at in 0..len {
                let mut x: Vec<f32> = (0..len * inner).map(|i| i as f32 - 7.0).collect();
                x[at * inner] = f32::NAN;
                for (isa, function) in
                    Isa::ALL.into_iter().flat_map(|isa| [(isa, Reduction::Max), (isa, Reduction::Min)])
                {
                    let mut y = std::vec![0.0; inner];
                    reduce_f32(isa, &x, &mut y, &Along { outer: 1, len, inner }, function);
                    assert!(y[0].is_nan() && y[1..].iter().all(|y| !y.is_nan()), "{isa} {function:?} {len} {at}");
                }
            }
        }
    }
}
