//! Products of matrices that are both computed.

use crate::isa::Isa;
use crate::shape::{ConvShape, Window};

use super::conv_f32::{self, ConvF32Args, Weights};

/// Sizes of [`MatMulF32`](crate::ops::MatMulF32).
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of a matrix `a`.
    pub rows: usize,
    /// What is summed over.
    pub inner: usize,
    /// Columns of a matrix `b`.
    pub cols: usize,
}

impl Product {
    /// One product as a fully connected layer whose weights are `b`.
    fn layer(&self) -> ConvShape {
        let window = Window::pixels(self.rows, self.inner);
        ConvShape { window, out_c: self.cols, groups: 1 }
    }

    /// `f32` values of scratch: a bias of zeros.
    pub fn scratch_len(&self) -> usize {
        self.cols
    }

    /// `y[i] = a[i] * b[i]` with the matrices of `a` and of `b` repeated where they are fewer than those of `y`; `false`
    /// where slices do not fit.
    pub fn run(&self, isa: Isa, a: &[f32], b: &[f32], y: &mut [f32], bias: &mut [f32]) -> bool {
        let shape = self.layer();
        bias.fill(0.0);
        let a = a.chunks_exact(self.rows * self.inner).cycle();
        let b = b.chunks_exact(self.inner * self.cols).cycle();
        a.zip(b).zip(y.chunks_exact_mut(self.rows * self.cols)).all(|((input, weights), y)| {
            let args = ConvF32Args {
                input,
                weights: Weights::Rows(weights),
                bias,
                min: f32::NEG_INFINITY,
                max: f32::INFINITY,
            };
            conv_f32::run(isa, &shape, &args, y)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;

    use super::*;
    use crate::kernels::noise::noise;

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            rows in 1usize..20, inner in 1usize..40, cols in 1usize..70, count in 1usize..4,
            a_once: bool, b_once: bool, seed: u32,
        ) {
            let product = Product { rows, inner, cols };
            let matrices = |once: bool| if once { 1 } else { count };
            let a = noise(seed, matrices(a_once) * rows * inner);
            let b = noise(seed ^ 0x5555, matrices(b_once) * inner * cols);
            for isa in Isa::ALL {
                let mut y = vec![f32::NAN; count * rows * cols];
                let mut scratch = vec![f32::NAN; product.scratch_len()];
                prop_assert!(product.run(isa, &a, &b, &mut y, &mut scratch));
                for (at, y) in y.into_iter().enumerate() {
                    let (matrix, row, col) = (at / (rows * cols), at / cols % rows, at % cols);
                    let a = &a[if a_once { 0 } else { matrix * rows * inner }..];
                    let b = &b[if b_once { 0 } else { matrix * inner * cols }..];
                    let exact: f64 = (0..inner)
                        .map(|k| f64::from(a[row * inner + k]) * f64::from(b[k * cols + col]))
                        .sum();
                    prop_assert!((f64::from(y) - exact).abs() <= 1e-5, "{y} is not {exact}");
                }
            }
        }
    }
}
