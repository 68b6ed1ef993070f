//! Least squares with a ridge, by Cholesky's factors in f64.

use rayon::prelude::*;

/// Sums of products run in so many lanes, in a fixed order.
const LANES: usize = 8;

/// The lower factor of a symmetric positive definite matrix, row-major.
pub struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `matrix + ridge * I`, n by n; none where that is not positive definite.
    pub fn of(matrix: &[f64], n: usize, ridge: f64) -> Option<Cholesky> {
        let mut lower = matrix.to_vec();
        (0..n).for_each(|i| lower[i * n + i] += ridge);
        for column in 0..n {
            // By columns, from the left: rows below the diagonal do not wait for each other.
            let (above, below) = lower.split_at_mut((column + 1) * n);
            let own = &mut above[column * n..];
            let square = own[column] - dot(&own[..column], &own[..column]);
            if square.is_nan() || square <= 0.0 {
                return None;
            }
            let diagonal = square.sqrt();
            own[column] = diagonal;
            let own = &above[column * n..];
            let solve = |row: &mut [f64]| {
                row[column] = (row[column] - dot(&row[..column], &own[..column])) / diagonal;
            };
            if (n - column) * column > 1 << 14 {
                below.par_chunks_mut(n).with_min_len(32).for_each(solve);
            } else {
                below.chunks_mut(n).for_each(solve);
            }
        }
        Some(Cholesky { n, lower })
    }

    /// The `x` for which the matrix times `x` is `y`.
    pub fn solve(&self, mut y: Vec<f64>) -> Vec<f64> {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..=i * n + i];
            y[i] = (y[i] - dot(&row[..i], &y[..i])) / row[i];
        }
        for i in (0..n).rev() {
            let row = &self.lower[i * n..=i * n + i];
            y[i] /= row[i];
            let last = y[i];
            y[..i].iter_mut().zip(row).for_each(|(y, factor)| *y -= factor * last);
        }
        y
    }
}

/// A sum of products.
pub fn dot(one: &[f64], other: &[f64]) -> f64 {
    let (ones, one_rest) = one.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (one, other) in ones.iter().zip(others) {
        lanes.iter_mut().zip(one.iter().zip(other)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    lanes.iter().sum::<f64>() + one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_solved_for_gives_the_right_side(
            rows in prop::collection::vec(prop::collection::vec(-1f64..1.0, 12), 20),
            x in prop::collection::vec(-1f64..1.0, 12),
        ) {
            let n = x.len();
            let mut matrix = vec![0.0; n * n];
            rows.iter().for_each(|row| (0..n * n).for_each(|i| matrix[i] += row[i / n] * row[i % n]));
            let y = (0..n).map(|i| dot(&matrix[i * n..(i + 1) * n], &x) + 0.1 * x[i]).collect();
            let found = Cholesky::of(&matrix, n, 0.1).unwrap().solve(y);
            for (found, x) in found.iter().zip(&x) {
                prop_assert!((found - x).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factors() {
        assert!(Cholesky::of(&[1.0, 2.0, 2.0, 1.0], 2, 0.0).is_none());
        assert!(Cholesky::of(&[f64::NAN], 1, 0.0).is_none());
    }
}
