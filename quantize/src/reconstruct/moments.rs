//! First and second moments of what a layer reads, with what it should answer.

use super::patches::Patches;

/// Sums over rows of inputs `x` and outputs `y`, for one group of channels.
#[derive(Clone, Debug)]
pub struct Moments {
    cols: usize,
    rows: usize,
    count: f64,
    x: Vec<f64>,
    y: Vec<f64>,
    /// `x x'`, cols by cols; empty where only means are wanted.
    xx: Vec<f64>,
    /// `x y'`, cols by rows.
    xy: Vec<f64>,
}

/// Moments about the means, for each row.
#[derive(Clone, Debug)]
pub struct Centred {
    /// Covariance of inputs times their count, cols by cols.
    pub xx: Vec<f64>,
    /// Covariance of inputs and outputs times their count, rows by cols.
    pub xy: Vec<f64>,
}

impl Moments {
    /// Nothing seen yet.
    pub fn new(cols: usize, rows: usize, second: bool) -> Moments {
        let (xx, xy) = if second { (vec![0.0; cols * cols], vec![0.0; cols * rows]) } else { (vec![], vec![]) };
        Moments { cols, rows, count: 0.0, x: vec![0.0; cols], y: vec![0.0; rows], xx, xy }
    }

    /// Adds every `step`th position of an image for a group whose first output channel is `first` of
    /// `channels`, with what the layer reads and what it should answer, as often as `weight` says.
    pub fn add(
        &mut self,
        patches: &Patches,
        group: usize,
        (input, output): (&[f32], &[f32]),
        channels: usize,
        (offset, step): (usize, usize),
        weight: f64,
    ) {
        let positions: Vec<usize> = (offset..patches.positions()).step_by(step.max(1)).collect();
        let (n, cols, rows) = (positions.len(), self.cols, self.rows);
        let mut x = vec![0f32; n * cols];
        let mut y = vec![0f32; n * rows];
        for (index, &position) in positions.iter().enumerate() {
            let row = &mut x[index * cols..(index + 1) * cols];
            patches.row(input, group, position, row);
            self.x.iter_mut().zip(&*row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            for (channel, out) in y[index * rows..(index + 1) * rows].iter_mut().enumerate() {
                *out = patches.output(output, group * rows + channel, position, channels);
                self.y[channel] += weight * f64::from(*out);
            }
        }
        self.count += weight * n as f64;
        if self.xx.is_empty() {
            return;
        }
        if weight != 1.0 {
            let root = weight.sqrt() as f32;
            x.iter_mut().chain(&mut y).for_each(|value| *value *= root);
        }
        accumulate(&x, &x, n, cols, cols, &mut self.xx);
        accumulate(&x, &y, n, cols, rows, &mut self.xy);
    }

    /// Adds the sums of other rows.
    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        let pairs =
            [(&mut self.x, &other.x), (&mut self.y, &other.y), (&mut self.xx, &other.xx), (&mut self.xy, &other.xy)];
        for (all, more) in pairs {
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        }
    }

    /// Mean of each input.
    pub fn mean_x(&self) -> Vec<f64> {
        self.x.iter().map(|sum| sum / self.count.max(1.0)).collect()
    }

    /// Mean of an output.
    pub fn mean_y(&self, row: usize) -> f64 {
        self.y[row] / self.count.max(1.0)
    }

    /// About zero, for what has no bias to take up the means.
    pub fn raw(&self) -> Centred {
        let xy = |i: usize| self.xy[i % self.cols * self.rows + i / self.cols];
        Centred { xx: self.xx.clone(), xy: (0..self.rows * self.cols).map(xy).collect() }
    }

    /// About the means.
    pub fn centred(&self) -> Centred {
        let mean = self.mean_x();
        let xx = (0..self.cols * self.cols).map(|i| self.xx[i] - self.x[i / self.cols] * mean[i % self.cols]).collect();
        let xy = |i: usize| {
            let (row, col) = (i / self.cols, i % self.cols);
            self.xy[col * self.rows + row] - mean[col] * self.y[row]
        };
        Centred { xx, xy: (0..self.rows * self.cols).map(xy).collect() }
    }
}

/// `sum += a' b` for `n` rows of `a` and `b`.
fn accumulate(a: &[f32], b: &[f32], n: usize, a_cols: usize, b_cols: usize, sum: &mut [f64]) {
    // In f32 over a few hundred rows, then in f64: rounding stays far below what rows differ by.
    const ROWS: usize = 256;
    let mut part = vec![0f32; a_cols * b_cols];
    for start in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - start);
        let (a, b) = (&a[start * a_cols..(start + rows) * a_cols], &b[start * b_cols..(start + rows) * b_cols]);
        product(a, b, rows, a_cols, b_cols, &mut part);
        sum.iter_mut().zip(&part).for_each(|(sum, part)| *sum += f64::from(*part));
    }
}

#[allow(unsafe_code)]
pub fn product(a: &[f32], b: &[f32], rows: usize, a_cols: usize, b_cols: usize, out: &mut [f32]) {
    assert!(a.len() == rows * a_cols && b.len() == rows * b_cols && out.len() == a_cols * b_cols);
    let (m, k, n) = (a_cols, rows, b_cols);
    // SAFETY: `a` is read as its transpose, m by k with strides 1 and a_cols; `b` as k by n with strides b_cols and
    // 1; `out` is m by n. The assertion above holds all three slices to these sizes.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            1,
            m as isize,
            b.as_ptr(),
            n as isize,
            1,
            0.0,
            out.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_of_outer_products() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, -1.0, 2.0, 1.0, 0.5]);
        let mut sum = vec![0.0; 6];
        accumulate(&a, &b, 2, 2, 3, &mut sum);
        assert_eq!(sum, [7.0, 3.0, 0.5, 10.0, 4.0, 0.0]);
    }
}
