//! Functions of one f32 value, in place.

use core::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::plan::Unary;

use super::binary::limit;
use super::exp;
use super::lanes::each;
use super::per_isa::per_isa;
use super::root::sqrt;

per_isa! {
    #![avx512]

    /// [`UnaryF32`](crate::plan::UnaryF32): `y = function(y)`. NaN stays NaN. The functions that
    /// are not algebraic are those of libm, within one unit in the last place, but for what is made of `exp`, three; of the two
    /// Gelus these are units of `x`.
    pub fn unary_f32(y: &mut [f32], function: Unary, alpha: f32, beta: f32) {
        let map = |y: &mut [f32], function: &dyn Fn(f32) -> f32| {
            y.iter_mut().for_each(|y| *y = function(*y));
        };
        match function {
            Unary::Clamp => each!(y, |x| limit(x, alpha, beta)),
            Unary::LeakyRelu => each!(y, |x| if x < 0.0 { alpha * x } else { x }),
            Unary::Abs => each!(y, |x| x.abs()),
            Unary::Neg => each!(y, |x| -x),
            Unary::Affine => each!(y, |x| alpha * x + beta),
            Unary::HardSigmoid => each!(y, |x| limit(alpha * x + beta, 0.0, 1.0)),
            Unary::HardSwish => each!(y, |x| x * limit(alpha * x + beta, 0.0, 1.0)),
            Unary::Sigmoid => each!(y, |x| exp::sigmoid(x)),
            Unary::Swish => each!(y, |x| x * exp::sigmoid(alpha * x)),
            Unary::Tanh => each!(y, |x| exp::tanh(x)),
            Unary::GeluTanh => each!(y, |x| {
                // sqrt(2 / pi)
                let inner = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + exp::tanh(inner))
            }),
            Unary::Exp => each!(y, |x| exp::exp(x)),
            Unary::Log => map(y, &libm::logf),
            Unary::Sqrt => each!(y, |x| sqrt(x)),
            Unary::Erf => each!(y, |x| exp::erf(x)),
            Unary::Reciprocal => each!(y, |x| 1.0 / x),
            Unary::Floor => map(y, &libm::floorf),
            Unary::Ceil => map(y, &libm::ceilf),
            Unary::Round => map(y, &libm::rintf),
            Unary::Sign => each!(y, |x| sign(x)),
            Unary::Softplus => each!(y, |x| exp::softplus(x)),
            Unary::Softsign => each!(y, |x| x / (1.0 + x.abs())),
            Unary::Elu | Unary::Selu | Unary::Celu => {
                let scale = if function == Unary::Selu { beta } else { 1.0 };
                let width = if function == Unary::Celu { alpha } else { 1.0 };
                each!(y, |x| scale * if x < 0.0 { alpha * exp::exp_m1(x / width) } else { x });
            }
            Unary::ThresholdedRelu => each!(y, |x| if x <= alpha { 0.0 } else { x }),
            Unary::Shrink => each!(y, |x| shrink(x, alpha, beta)),
            Unary::Mish => each!(y, |x| exp::mish(x)),
            Unary::Gelu => each!(y, |x| 0.5 * x * (1.0 + exp::erf(x * FRAC_1_SQRT_2))),
            Unary::Sin => map(y, &libm::sinf),
            Unary::Cos => map(y, &libm::cosf),
            Unary::Tan => map(y, &libm::tanf),
            Unary::Asin => map(y, &libm::asinf),
            Unary::Acos => map(y, &libm::acosf),
            Unary::Atan => map(y, &libm::atanf),
            Unary::Sinh => map(y, &libm::sinhf),
            Unary::Cosh => map(y, &libm::coshf),
            Unary::Asinh => map(y, &libm::asinhf),
            // Beyond its domain libm's has numbers.
            Unary::Acosh => map(y, &|x| if x < 1.0 { f32::NAN } else { libm::acoshf(x) }),
            Unary::Atanh => map(y, &libm::atanhf),
            // As good, and vectors can. The third is that of a Gelu by its tanh, as exporters write it out.
            Unary::Power if alpha == 2.0 || alpha == 3.0 => {
                let is_cube = alpha == 3.0;
                each!(y, |x| x * x * if is_cube { x } else { 1.0 });
            }
            Unary::Power => map(y, &|x| libm::powf(x, alpha)),
            Unary::Snap => each!(y, |x| alpha * nearest(x / alpha, beta)),
        }
    }
}

/// The nearest of 65536 whole numbers from `least`, which is not far from 0; of two the even one, and the least for NaN.
#[inline(always)]
fn nearest(x: f32, least: f32) -> f32 {
    // With so much added there are no bits left below the unit, so that the sum is what rounds.
    const ROUNDING: f32 = 12_582_912.0;
    let x = if x > least { x } else { least };
    limit(x, least, least + 65_535.0) + ROUNDING - ROUNDING
}

/// NaN stays NaN.
#[inline(always)]
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

#[inline(always)]
fn shrink(x: f32, lambda: f32, bias: f32) -> f32 {
    if x < -lambda {
        x + bias
    } else if x > lambda {
        x - bias
    } else if x.is_nan() {
        x
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// Values from -10 to 10, fewer under Miri, which takes minutes for them.
    const STEP: usize = if cfg!(miri) { 10 } else { 1 };
    const VALUES: usize = 400 / STEP + 1;

    #[test]
    fn agrees_with_double_precision() {
        type Exact = fn(f64) -> f64;
        let sixth = 1.0 / 6.0;
        let cases: [(Unary, f32, f32, Exact); 41] = [
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
            (Unary::Reciprocal, 0.0, 0.0, |x| 1.0 / x),
            (Unary::Floor, 0.0, 0.0, f64::floor),
            (Unary::Ceil, 0.0, 0.0, f64::ceil),
            (Unary::Round, 0.0, 0.0, f64::round_ties_even),
            (Unary::Sign, 0.0, 0.0, |x| if x == 0.0 { 0.0 } else { x.signum() }),
            (Unary::Softplus, 0.0, 0.0, |x| (-x.abs()).exp().ln_1p() + x.max(0.0)),
            (Unary::Softsign, 0.0, 0.0, |x| x / (1.0 + x.abs())),
            (Unary::Selu, 1.5, 2.0, |x| 2.0 * if x < 0.0 { 1.5 * x.exp_m1() } else { x }),
            (Unary::Celu, 2.0, 0.0, |x| if x < 0.0 { 2.0 * (x / 2.0).exp_m1() } else { x }),
            (Unary::ThresholdedRelu, 2.0, 0.0, |x| if x > 2.0 { x } else { 0.0 }),
            (Unary::Shrink, 1.0, 0.5, |x| if x.abs() > 1.0 { x - 0.5 * x.signum() } else { 0.0 }),
            (Unary::Mish, 0.0, 0.0, |x| x * ((-x.abs()).exp().ln_1p() + x.max(0.0)).tanh()),
            (Unary::GeluTanh, 0.0, 0.0, |x| 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x.powi(3))).tanh())),
            (Unary::Swish, 2.0, 0.0, |x| x / (1.0 + (-2.0 * x).exp())),
            (Unary::Erf, 0.0, 0.0, libm::erf),
            (Unary::Gelu, 0.0, 0.0, |x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))),
            (Unary::Sin, 0.0, 0.0, f64::sin),
            (Unary::Cos, 0.0, 0.0, f64::cos),
            (Unary::Asin, 0.0, 0.0, f64::asin),
            (Unary::Acos, 0.0, 0.0, f64::acos),
            (Unary::Atan, 0.0, 0.0, f64::atan),
            (Unary::Sinh, 0.0, 0.0, f64::sinh),
            (Unary::Cosh, 0.0, 0.0, f64::cosh),
            (Unary::Asinh, 0.0, 0.0, f64::asinh),
            (Unary::Acosh, 0.0, 0.0, f64::acosh),
            (Unary::Atanh, 0.0, 0.0, f64::atanh),
            (Unary::Power, 2.0, 0.0, |x| x.powi(2)),
            (Unary::Power, 3.0, 0.0, |x| x.powi(3)),
        ];
        let mut far = [-306.2, -100.0, 0.999];
        unary_f32(Isa::Generic, &mut far, Unary::Acosh, 0.0, 0.0);
        assert!(far.iter().all(|y| y.is_nan()), "{far:?}");
        for (function, alpha, beta, exact) in cases {
            for isa in Isa::ALL {
                let x: [f32; VALUES] = core::array::from_fn(|index| ((index * STEP) as f32 - 200.0) / 20.0);
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
    fn sixteen_bits_are_what_quantizing_and_dequantizing_leaves() {
        // Of int16 and uint16, and with a zero point at either end.
        for (least, scale) in [(-32_768.0, 0.01), (0.0, 0.37), (-65_535.0, 3e-4), (-20_000.0, 1.0)] {
            let mut x: [f32; 517] = core::array::from_fn(|index| (index as f32 - 200.0) * 173.3 * scale);
            (x[0], x[1], x[2], x[3]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.5 * scale);
            let exact = x.map(|x| {
                let whole = (x / scale).round_ties_even().clamp(least, least + 65_535.0);
                scale * if whole.is_nan() { least } else { whole }
            });
            for isa in Isa::ALL {
                let mut y = x;
                unary_f32(isa, &mut y, Unary::Snap, scale, least);
                assert_eq!(y, exact, "{isa}, from {least} by {scale}");
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
