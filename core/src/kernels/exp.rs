//! The exponential function and its kin, written so that a loop over them becomes vector code.
//!
//! Within three units in the last place of the exact value, a unit being that of 1 for `sigmoid`. Every
//! instruction set gives the same bits, since nothing is fused.

use core::f32::consts::LOG2_E;

/// Beyond these `exp` is 0 or infinite.
const LOWEST: f32 = -87.336_54;
const HIGHEST: f32 = 88.722_83;

/// `e^x`: 0 below the normal numbers, infinite above them. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let (mantissa, power) = reduced(x);
    let mantissa = mantissa + 1.0;
    // A normal number times 2^n has the exponents of both, as long as it is one.
    let y = f32::from_bits(mantissa.to_bits().wrapping_add(power));
    let y = if x < LOWEST { 0.0 } else { y };
    if x <= HIGHEST { y } else { x + f32::INFINITY }
}

/// `e^x - 1` without the loss of digits near 0; infinite from 88 on. NaN stays NaN.
#[inline(always)]
pub fn exp_m1(x: f32) -> f32 {
    // Below it is -1.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let (mantissa, power) = reduced(bounded);
    let power = f32::from_bits(1f32.to_bits().wrapping_add(power));
    let y = power * mantissa + (power - 1.0);
    if x < 88.0 { y } else { x + f32::INFINITY }
}

/// `e^x = 2^n * (1 + m)`: `m`, and `n` where a float has its exponent. Any numbers where that is no normal float.
#[inline(always)]
fn reduced(x: f32) -> (f32, u32) {
    // x = n * ln(2) + r with |r| at most ln(2) / 2; adding and subtracting 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln(2) in two parts, the first of few enough bits that its product with n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Cephes' polynomial for (e^r - 1 - r) / r^2.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    // The lowest bits of what was shifted are n, and the others leave at the upper end; a conversion, which would have to mind NaN,
    // is no vector code.
    (p * (r * r) + r, shifted.to_bits() << 23)
}

/// `ln(1 + x)` of `x` from 0 to 1.
#[inline(always)]
fn ln_1p(x: f32) -> f32 {
    // 2 atanh(s) by its series, of whose next term 1e-8 is left at s = 1/3.
    let s = x / (2.0 + x);
    let z = s * s;
    let p = 1.0 / 13.0;
    let p = p * z + 1.0 / 11.0;
    let p = p * z + 1.0 / 9.0;
    let p = p * z + 1.0 / 7.0;
    let p = p * z + 1.0 / 5.0;
    let p = p * z + 1.0 / 3.0;
    2.0 * (p * z * s + s)
}

/// `ln(1 + e^x)`
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    ln_1p(exp(-x.abs())) + if x > 0.0 { x } else { 0.0 }
}

/// `x tanh(ln(1 + e^x))`
#[inline(always)]
pub fn mish(x: f32) -> f32 {
    // tanh(ln(1 + t)) = (t^2 + 2t) / (t^2 + 2t + 2), with t = e^x or, divided by its square, without what overflows.
    let t = exp(-x.abs());
    let above = if x > 0.0 { 1.0 + 2.0 * t } else { t * t + 2.0 * t };
    let rest = if x > 0.0 { 2.0 * t * t } else { 2.0 };
    x * (above / (above + rest))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Cephes: near 0 a polynomial, since 1 - 2 / (e^2x + 1) would lose all that x is smaller than 1.
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let far = if x < 0.0 { -far } else { far };
    if x.abs() < 0.625 { near } else { far }
}

/// The error function. Polynomials by least squares weighted towards the least largest error (C. L. Lawson, Contributions to
/// the Theory of Linear Least Maximum Approximation, 1961): of `erf(x) / x` near 0, and of `ln(1 - erf(x))` beyond.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let z = x * x;
    let p = -6.090_358e-4;
    let p = p * z + 5.011_962_4e-3;
    let p = p * z - 2.677_890_9e-2;
    let p = p * z + 1.128_214_1e-1;
    let p = p * z - 3.761_252_3e-1;
    let p = p * z + 1.283_791_5e-1;
    let near = p * x + x;
    // Beyond 4 it is 1.
    let t = x.abs();
    let t = if t > 4.0 { 4.0 } else { t };
    let p = 1.971_811_7e-4;
    let p = p * t - 3.055_606_8e-3;
    let p = p * t + 2.227_708_4e-2;
    let p = p * t - 1.040_373_5e-1;
    let p = p * t - 6.370_597_6e-1;
    let p = p * t - 1.127_749_6;
    let p = p * t - 1.774_955e-4;
    let far = 1.0 - exp(p);
    let far = if x < 0.0 { -far } else { far };
    if x.abs() > 0.9 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from -100 to 100, close together around 0.
    fn samples() -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(|i| {
            let x = i as f32 / 20_000.0;
            x * x.abs() * 100.0
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "much arithmetic, and nothing unsafe")]
    fn functions_agree_with_double_precision() {
        for x in samples() {
            let exact = f64::from(x).exp();
            let normal = exact >= f64::from(f32::MIN_POSITIVE) && exact <= f64::from(f32::MAX);
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(!normal || error <= 3.0 * f64::from(f32::EPSILON), "exp({x}) = {}, not {exact}", exp(x));
            let near = |y: f32, exact: f64| (f64::from(y) - exact).abs() <= 3.0 * f64::from(f32::EPSILON);
            assert!(near(sigmoid(x), 1.0 / (1.0 + (-f64::from(x)).exp())), "sigmoid({x}) = {}", sigmoid(x));
            assert!(near(tanh(x), f64::from(x).tanh()), "tanh({x}) = {}", tanh(x));
            assert!(near(erf(x), libm::erf(x.into())), "erf({x}) = {}", erf(x));
            let exact = libm::erf(x.into());
            assert!((f64::from(erf(x)) - exact).abs() <= 3.0 * f64::from(f32::EPSILON) * exact.abs() + 1e-45);
            let exact = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 3.0 * f64::from(f32::EPSILON) * exact.abs() + 1e-45);
            let exact = f64::from(x).exp_m1();
            let error = (f64::from(exp_m1(x)) - exact).abs() / exact.abs().max(1e-45);
            assert!(x >= 88.0 || error <= 3.0 * f64::from(f32::EPSILON), "e^{x} - 1 = {}, not {exact}", exp_m1(x));
            let exact = (-f64::from(x).abs()).exp().ln_1p() + f64::from(x).max(0.0);
            let near = (f64::from(softplus(x)) - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * exact + 1e-37;
            assert!(near, "softplus({x}) = {}, not {exact}", softplus(x));
            let exact = f64::from(x) * exact.tanh();
            let error = (f64::from(mish(x)) - exact).abs();
            let near = error <= 5.0 * f64::from(f32::EPSILON) * exact.abs() + 1e-35;
            assert!(near, "mish({x}) = {}, not {exact}", mish(x));
        }
    }

    #[test]
    fn ends_are_those_of_the_functions() {
        assert_eq!((exp(f32::NEG_INFINITY), exp(f32::INFINITY), exp(0.0)), (0.0, f32::INFINITY, 1.0));
        assert_eq!((exp(-200.0), exp(200.0)), (0.0, f32::INFINITY));
        assert!(exp(88.7) < f32::INFINITY && exp(-87.3) > 0.0);
        assert_eq!((sigmoid(-1e30), sigmoid(1e30), sigmoid(0.0)), (0.0, 1.0, 0.5));
        assert_eq!((tanh(f32::NEG_INFINITY), tanh(f32::INFINITY), tanh(0.0)), (-1.0, 1.0, 0.0));
        assert_eq!(
            (erf(f32::NEG_INFINITY), erf(f32::INFINITY), erf(0.0), erf(-0.0).to_bits()),
            (-1.0, 1.0, 0.0, 1 << 31)
        );
        assert_eq!((exp_m1(f32::NEG_INFINITY), exp_m1(f32::INFINITY), exp_m1(0.0)), (-1.0, f32::INFINITY, 0.0));
        assert_eq!((exp_m1(87.9).is_finite(), exp_m1(-1e-30), exp_m1(3e38)), (true, -1e-30, f32::INFINITY));
        assert_eq!((softplus(f32::NEG_INFINITY), softplus(f32::INFINITY), softplus(-200.0)), (0.0, f32::INFINITY, 0.0));
        assert_eq!((mish(f32::INFINITY), mish(1e30), mish(-200.0), mish(0.0)), (f32::INFINITY, 1e30, 0.0, 0.0));
        assert!([exp, exp_m1, softplus, mish, sigmoid, tanh, erf].iter().all(|function| function(f32::NAN).is_nan()));
    }
}
