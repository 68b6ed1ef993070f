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
    // e^x = 2^n * e^r with |r| at most ln(2) / 2; adding and subtracting 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let bounded = if x > HIGHEST { HIGHEST } else { x };
    let bounded = if bounded < LOWEST { LOWEST } else { bounded };
    let shifted = bounded * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln(2) in two parts, the first of few enough bits that its product with n is exact.
    let r = (bounded - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Cephes' polynomial for (e^r - 1 - r) / r^2.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let mantissa = p * (r * r) + r + 1.0;
    // The lowest bits of what was shifted: a conversion, which would have to mind NaN, is no vector code. In two steps: 2^128
    // is no number, e^88.7 is. Whatever NaN makes of them, it stays NaN.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = mantissa * power(half) * power(n.wrapping_sub(half));
    let y = if x < LOWEST { 0.0 } else { y };
    if x > HIGHEST { f32::INFINITY } else { y }
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
        assert!([exp, sigmoid, tanh, erf].iter().all(|function| function(f32::NAN).is_nan()));
    }
}
