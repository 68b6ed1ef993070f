//! Rows brought to a mean of 0 and a variance of 1.

use super::per_isa::per_isa;
use super::root::sqrt;
use super::softmax::sum_lanes;

per_isa! {
    /// [`NormalizeF32`](crate::ops::NormalizeF32) of rows of `cols` values, in place.
    pub fn normalize_f32(y: &mut [f32], cols: usize, run: usize, scale: &[f32], bias: &[f32], epsilon: f32) {
        for (row, y) in y.chunks_exact_mut(cols).enumerate() {
            let count = cols as f32;
            let mean = sum_lanes(y, |y| y) / count;
            let variance = sum_lanes(y, |y| (y - mean) * (y - mean)) / count;
            let inverse = 1.0 / sqrt(variance + epsilon);
            let apply = |y: &mut f32, scale: f32, bias: f32| *y = (*y - mean) * inverse * scale + bias;
            // Each value of a row has its own.
            if run == 1 && scale.len() == cols {
                for (y, (scale, bias)) in y.iter_mut().zip(scale.iter().zip(bias)) {
                    apply(y, *scale, *bias);
                }
                continue;
            }
            let first = row * (cols / run);
            for (index, y) in y.chunks_exact_mut(run).enumerate() {
                let channel = (first + index) % scale.len();
                let (scale, bias) = (scale[channel], bias[channel]);
                y.iter_mut().for_each(|y| apply(y, scale, bias));
            }
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

    proptest! {
        #[test]
        fn agrees_with_double_precision(
            values in vec(-4f32..4.0, 1..200), runs in 1usize..6, rows in 1usize..5, per_value: bool,
        ) {
            // Rows of some runs; a scale for each value of a row, or for each run of all rows.
            let run = values.len().div_ceil(rows * runs);
            let (run, cols) = if per_value { (1, run * runs) } else { (run.max(2), run.max(2) * runs) };
            let x: Vec<f32> = values.iter().cycle().take(rows * cols).copied().collect();
            let channels = if per_value { cols } else { rows * runs };
            let scale: Vec<f32> = (0..channels).map(|c| 0.5 + c as f32 / 8.0).collect();
            let bias: Vec<f32> = (0..channels).map(|c| c as f32 / 16.0 - 1.0).collect();
            let mut plain = x.clone();
            normalize_f32(Isa::Generic, &mut plain, cols, run, &scale, &bias, 1e-3);
            for (at, y) in plain.iter().enumerate() {
                let row: Vec<f64> = x[at / cols * cols..][..cols].iter().map(|x| f64::from(*x)).collect();
                let mean = row.iter().sum::<f64>() / cols as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
                let channel = if per_value { at % cols } else { at / run };
                let exact = (f64::from(x[at]) - mean) / (variance + 1e-3).sqrt() * f64::from(scale[channel])
                    + f64::from(bias[channel]);
                prop_assert!((f64::from(*y) - exact).abs() <= 2e-4 * (1.0 + exact.abs()), "{y} is not {exact}");
            }
            for isa in Isa::ALL {
                let mut y = x.clone();
                normalize_f32(isa, &mut y, cols, run, &scale, &bias, 1e-3);
                prop_assert_eq!(&y, &plain);
            }
        }
    }
}
