//! One output channel: which way each weight is rounded.

use super::moments::Centred;
use crate::layer::Bound;

/// Shrunken scales that are tried: fewer weights at the ends, finer steps for the rest.
const SCALES: [f32; 6] = [1.0, 0.97, 0.94, 0.9, 0.85, 0.8];
/// Inputs of a channel above which the scale stays as it is: trying one costs their square.
const WIDE: usize = 1152;
/// How much the moments are drawn towards their diagonal, as a share of its mean. Few samples of many inputs
/// see directions that are there by chance.
const RIDGES: [f64; 3] = [0.03, 0.3, 3.0];

/// The integers and the scale of a row, the best found on samples that were held out; `start` is rounding to the
/// nearest.
pub fn round(
    weights: &[f32],
    start: (&[i8], f32),
    bound: &Bound,
    (learned, held_out): (&Centred, &Centred),
    row: usize,
) -> (Vec<i8>, f32) {
    let (nearest, scale) = start;
    if scale == 0.0 {
        return (nearest.to_vec(), scale);
    }
    let cols = weights.len();
    let targets = |moments: &Centred| moments.xy[row * cols..(row + 1) * cols].to_vec();
    let judge = Quadratic { matrix: &held_out.xx, stiffness: 0.0, target: targets(held_out) };
    let mean = |moments: &Centred| (0..cols).map(|i| moments.xx[i * cols + i]).sum::<f64>() / cols as f64;
    // Nothing held out, as with very few samples: what was learned from has to do, and only the stiffest ridge.
    let has_judge = mean(held_out) > 0.0;
    let mut best = (judge.value(nearest, scale), nearest.to_vec(), scale);
    let ridges = if has_judge { &RIDGES[..] } else { &RIDGES[2..] };
    for &ridge in ridges {
        let stiffness = ridge * mean(learned);
        let mut target = targets(learned);
        target.iter_mut().zip(weights).for_each(|(t, &w)| *t += stiffness * f64::from(w));
        let quadratic = Quadratic { matrix: &learned.xx, stiffness, target };
        // The scale by rounding to the nearest, which is cheap; then the roundings.
        let tried = if cols <= WIDE { &SCALES[..] } else { &SCALES[..1] };
        let shrunk = tried.iter().map(|&share| scale * share).filter_map(|scale| {
            let integers = super::super::layer::round_row(weights, scale);
            bound.holds(&integers).then(|| (quadratic.value(&integers, scale), integers, scale))
        });
        let from = shrunk.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_else(|| (0.0, nearest.to_vec(), scale));
        let (_, mut integers, scale) = from;
        quadratic.descend(&mut integers, scale, weights, bound);
        let value = if has_judge { judge.value(&integers, scale) } else { f64::NEG_INFINITY };
        if value < best.0 {
            best = (value, integers, scale);
        }
    }
    (best.1, best.2)
}

/// `w' (matrix + stiffness) w - 2 w' target`, the squared error at the output less a constant.
struct Quadratic<'a> {
    matrix: &'a [f64],
    /// Added along the diagonal.
    stiffness: f64,
    target: Vec<f64>,
}

impl Quadratic<'_> {
    fn value(&self, integers: &[i8], scale: f32) -> f64 {
        let scale = f64::from(scale);
        let cols = integers.len();
        let term = |(i, &q): (usize, &i8)| {
            if q == 0 {
                return 0.0;
            }
            let row = &self.matrix[i * cols..(i + 1) * cols];
            let product: f64 = row.iter().zip(integers).map(|(m, &q)| m * f64::from(q)).sum();
            let product = product + self.stiffness * f64::from(q);
            scale * f64::from(q) * (scale * product - 2.0 * self.target[i])
        };
        integers.iter().enumerate().map(term).sum()
    }

    /// Changes one weight after the other by a step, the one that helps most first, until none helps. A weight stays
    /// within a step of what it stands for.
    fn descend(&self, integers: &mut [i8], scale: f32, weights: &[f32], bound: &Bound) {
        let cols = integers.len();
        let step = f64::from(scale);
        // Half the gradient.
        let mut slope: Vec<f64> = self.target.iter().map(|target| -target).collect();
        for (i, &q) in integers.iter().enumerate().filter(|(_, q)| **q != 0) {
            let row = &self.matrix[i * cols..(i + 1) * cols];
            slope.iter_mut().zip(row).for_each(|(slope, m)| *slope += step * f64::from(q) * m);
            slope[i] += step * f64::from(q) * self.stiffness;
        }
        for _ in 0..4 * cols {
            let change = |i: usize| {
                let direction = if slope[i] > 0.0 { -1i32 } else { 1 };
                let next = i32::from(integers[i]) + direction;
                let near = (f64::from(next) - f64::from(weights[i]) / step).abs() < 1.0;
                let gain = 2.0 * slope[i].abs() * step - step * step * (self.matrix[i * cols + i] + self.stiffness);
                (gain > 0.0 && near && bound.allows(integers, i, next)).then_some((gain, i, direction))
            };
            let Some((_, i, direction)) = (0..cols).filter_map(change).max_by(|a, b| a.0.total_cmp(&b.0)) else {
                return;
            };
            integers[i] = (i32::from(integers[i]) + direction) as i8;
            let row = &self.matrix[i * cols..(i + 1) * cols];
            slope.iter_mut().zip(row).for_each(|(slope, m)| *slope += step * f64::from(direction) * m);
            slope[i] += step * f64::from(direction) * self.stiffness;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Neighbours;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn descending_never_rises_and_stays_within_a_step(
            rows in prop::collection::vec(prop::collection::vec(-1f64..1.0, 5), 8),
            weights in prop::collection::vec(-1f32..1.0, 5),
            portable: bool,
        ) {
            let mut matrix = vec![0.0; 25];
            for row in &rows {
                for i in 0..25 { matrix[i] += row[i / 5] * row[i % 5]; }
            }
            let target: Vec<f64> = (0..5).map(|i| (0..5).map(|j| matrix[i * 5 + j] * f64::from(weights[j])).sum()).collect();
            let quadratic = Quadratic { matrix: &matrix, stiffness: 0.0, target };
            let chain = |i: usize| (0..5usize).filter(|j| j.abs_diff(i) == 1).collect();
            let bound = if portable { Bound::Neighbours(Neighbours::of((0..5).map(chain).collect())) } else { Bound::Full };
            let scale = bound.scale(&weights).max(1e-6) * 8.0;
            let mut integers = crate::layer::round_row(&weights, scale);
            let before = quadratic.value(&integers, scale);
            quadratic.descend(&mut integers, scale, &weights, &bound);
            prop_assert!(quadratic.value(&integers, scale) <= before + 1e-9);
            prop_assert!(bound.holds(&integers));
            for (&w, &q) in weights.iter().zip(&integers) {
                prop_assert!((w / scale - f32::from(q)).abs() < 1.001);
            }
        }
    }

    #[test]
    fn inputs_that_go_together_are_rounded_together() {
        // Two equal inputs: 0.4 + 0.4 is nearer to 1 + 0 than to 0 + 0.
        let moments = Centred { xx: vec![100.0; 4], xy: vec![80.0; 2] };
        let (integers, scale) = round(&[0.4, 0.4], (&[0, 0], 1.0), &Bound::Full, (&moments, &moments), 0);
        let sum: f32 = integers.iter().map(|&q| scale * f32::from(q)).sum();
        assert!((sum - 0.8).abs() < 0.25, "{integers:?} {scale}");
    }
}
