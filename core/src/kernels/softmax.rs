//! Softmax over rows, in place.

use crate::shape::Requantize;

use super::exp::exp;
use super::per_isa::per_isa;
use super::round::ToI8;

const LANES: usize = 8;

per_isa! {
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
        for row in y.chunks_exact_mut(cols) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for y in row.iter_mut() {
                *y = exp(*y - max);
            }
            let sum = sum_lanes(row, |y| y);
            row.iter_mut().for_each(|y| *y /= sum);
        }
    }
}

/// The sum of `value(x)` in the order that [`SoftmaxS8`](crate::plan::SoftmaxS8) states.
#[inline(always)]
pub(super) fn sum_lanes<T: Copy>(row: &[T], value: impl Fn(T) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    for chunk in row.chunks(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += value(*x));
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
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
