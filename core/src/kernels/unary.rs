//! Functions of one f32 value, in place.

use crate::plan::Unary;

use super::per_isa::per_isa;

per_isa! {
    /// [`UnaryF32`](crate::plan::UnaryF32): `y = function(y)`. NaN stays NaN. The functions that
    /// are not algebraic are those of libm, within one unit in the last place.
    pub fn unary_f32(y: &mut [f32], function: Unary, alpha: f32, beta: f32) {
        let map = |y: &mut [f32], function: &dyn Fn(f32) -> f32| {
            y.iter_mut().for_each(|y| *y = function(*y));
        };
        match function {
            Unary::Clamp => y.iter_mut().for_each(|y| *y = limit(*y, alpha, beta)),
            Unary::LeakyRelu => {
                y.iter_mut().for_each(|y| *y = if *y < 0.0 { alpha * *y } else { *y });
            }
            Unary::Abs => y.iter_mut().for_each(|y| *y = y.abs()),
            Unary::Neg => y.iter_mut().for_each(|y| *y = -*y),
            Unary::Affine => y.iter_mut().for_each(|y| *y = alpha * *y + beta),
            Unary::HardSigmoid => {
                y.iter_mut().for_each(|y| *y = limit(alpha * *y + beta, 0.0, 1.0));
            }
            Unary::HardSwish => {
                y.iter_mut().for_each(|y| *y *= limit(alpha * *y + beta, 0.0, 1.0));
            }
            Unary::Sigmoid => map(y, &|x| 1.0 / (1.0 + libm::expf(-x))),
            Unary::Tanh => map(y, &libm::tanhf),
            Unary::Exp => map(y, &libm::expf),
            Unary::Log => map(y, &libm::logf),
            Unary::Sqrt => map(y, &libm::sqrtf),
            Unary::Erf => map(y, &libm::erff),
            Unary::Elu => map(y, &|x| if x < 0.0 { alpha * libm::expm1f(x) } else { x }),
        }
    }
}

/// `x` limited to `min..=max`; NaN stays NaN.
#[inline(always)]
fn limit(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn agrees_with_double_precision() {
        type Exact = fn(f64) -> f64;
        let sixth = 1.0 / 6.0;
        let cases: [(Unary, f32, f32, Exact); 13] = [
            (Unary::Clamp, -1.0, 6.0, |x| x.clamp(-1.0, 6.0)),
            (Unary::LeakyRelu, 0.25, 0.0, |x| if x < 0.0 { 0.25 * x } else { x }),
            (Unary::Sigmoid, 0.0, 0.0, |x| 1.0 / (1.0 + (-x).exp())),
            (Unary::Tanh, 0.0, 0.0, f64::tanh),
            (Unary::Exp, 0.0, 0.0, f64::exp),
            (Unary::Log, 0.0, 0.0, f64::ln),
            (Unary::Sqrt, 0.0, 0.0, f64::sqrt),
            (Unary::Abs, 0.0, 0.0, f64::abs),
            (Unary::Neg, 0.0, 0.0, |x| -x),
            (Unary::HardSigmoid, 0.2, 0.5, |x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
            (Unary::HardSwish, sixth, 0.5, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            (Unary::Elu, 1.5, 0.0, |x| if x < 0.0 { 1.5 * x.exp_m1() } else { x }),
            (Unary::Affine, 3.0, -2.0, |x| 3.0 * x - 2.0),
        ];
        for (function, alpha, beta, exact) in cases {
            for isa in Isa::ALL {
                let x: [f32; 401] = core::array::from_fn(|index| (index as f32 - 200.0) / 20.0);
                let mut y = x;
                unary_f32(isa, &mut y, function, alpha, beta);
                for (x, y) in x.into_iter().zip(y) {
                    let expected = exact(x.into());
                    let close = (f64::from(y) - expected).abs() <= 3e-6 * expected.abs().max(1.0);
                    let same = close || y.is_nan() && expected.is_nan() || f64::from(y) == expected;
                    assert!(same, "{function:?}({x}) = {y}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn nan_stays_nan_and_erf_is_odd() {
        let functions = [
            (Unary::Clamp, -1.0, 1.0),
            (Unary::LeakyRelu, 0.1, 0.0),
            (Unary::HardSwish, 0.2, 0.5),
            (Unary::Sigmoid, 0.0, 0.0),
            (Unary::Erf, 0.0, 0.0),
        ];
        for (function, alpha, beta) in functions {
            let mut y = [f32::NAN];
            unary_f32(Isa::detect(), &mut y, function, alpha, beta);
            assert!(y[0].is_nan(), "{function:?}");
        }
        let mut y = [-0.5, 0.5, 0.0];
        unary_f32(Isa::detect(), &mut y, Unary::Erf, 0.0, 0.0);
        assert_eq!(y[0], -y[1]);
        assert!((y[1] - 0.520_499_9).abs() < 1e-6 && y[2] == 0.0);
    }
}
