//! Softmax over rows, in place.

use crate::shape::Requantize;

use super::exp::exp;
use super::lanes::fold_lanes;
use super::per_isa::per_isa;
use super::round::ToI8;

/// About as many values as are worked on at a time.
const BLOCK: usize = 1024;

per_isa! {
    #![avx512]

    /// [`SoftmaxS8`](crate::plan::SoftmaxS8) of rows of `cols` values.
    pub fn softmax_s8(
        y: &mut [i8],
        cols: usize,
        exp_table: &[f32; 256],
        output_scale: f32,
        requantize: &Requantize,
    ) {
        let to_i8 = ToI8::new(requantize);
        for row in y.chunks_exact_mut(cols) {
            let max = row.iter().copied().max().unwrap_or(0);
            let exp = |x: i8| exp_table[usize::from(max.abs_diff(x))];
            let sum = sum_lanes(row, exp);
            for y in row {
                *y = to_i8.apply(exp(*y) / sum / output_scale);
            }
        }
    }

    /// [`SoftmaxF32`](crate::plan::SoftmaxF32) of rows of `cols` values. A row that holds a NaN
    /// or nothing but negative infinity becomes NaN.
    pub fn softmax_f32(y: &mut [f32], cols: usize) {
        // Several rows at a time are one to `exp`, which has less to do where vectors end.
        for rows in y.chunks_mut(BLOCK.div_ceil(cols).saturating_mul(cols)) {
            for row in rows.chunks_exact_mut(cols) {
                let max = fold_lanes(row, f32::NEG_INFINITY, |max, x| if x > max { x } else { max }, f32::max);
                for y in row {
                    *y -= max;
                }
            }
            for y in rows.iter_mut() {
                *y = exp(*y);
            }
            for row in rows.chunks_exact_mut(cols) {
                let sum = sum_lanes(row, |y| y);
                for y in row {
                    *y /= sum;
                }
            }
        }
    }
}

/// The sum of `value(x)` in the order that [`SoftmaxS8`](crate::plan::SoftmaxS8) states.
#[inline(always)]
pub(super) fn sum_lanes<T: Copy>(row: &[T], value: impl Fn(T) -> f32) -> f32 {
    fold_lanes(row, 0.0, |sum, x| sum + value(x), |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::isa::Isa;

    fn exact(row: &[f64]) -> Vec<f64> {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        row.iter().map(|x| x.exp() / sum).collect()
    }

    proptest! {
        #[test]
        fn every_isa_agrees_and_is_near_the_exact_value(
            row in vec(any::<i8>(), 1..60),
            input_scale in 0.001f32..0.3,
            zero_point: i8,
        ) {
            let table = core::array::from_fn(|d| (-(d as f64) * f64::from(input_scale)).exp() as f32);
            let requantize = Requantize { zero_point, min: -128, max: 127 };
            let output_scale = 1.0 / 256.0;
            let rows = [row.clone(), row.iter().rev().copied().collect()].concat();
            let real: Vec<f64> = row.iter().map(|&x| f64::from(x) * f64::from(input_scale)).collect();
            let expected = exact(&real);

            let mut plain = rows.clone();
            softmax_s8(Isa::Generic, &mut plain, row.len(), &table, output_scale, &requantize);
            for (y, p) in plain.iter().zip(&expected) {
                let ideal = (p * 256.0 + f64::from(zero_point)).clamp(-128.0, 127.0);
                prop_assert!((f64::from(*y) - ideal).abs() < 0.501);
            }
            for isa in Isa::ALL {
                let mut y = rows.clone();
                softmax_s8(isa, &mut y, row.len(), &table, output_scale, &requantize);
                prop_assert_eq!(&y, &plain);
            }

            let mut y: Vec<f32> = real.iter().map(|&x| x as f32).collect();
            softmax_f32(Isa::detect(), &mut y, row.len());
            for (y, p) in y.iter().zip(&expected) {
                prop_assert!((f64::from(*y) - p).abs() <= 1e-5 * p + 1e-30);
            }
        }
    }

    #[test]
    fn large_values_do_not_overflow() {
        let mut y = [1e30, 1e30, -1e30];
        softmax_f32(Isa::detect(), &mut y, 3);
        assert_eq!(y, [0.5, 0.5, 0.0]);
    }
}
