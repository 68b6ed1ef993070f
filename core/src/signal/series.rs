//! Cosine, logarithm and square root as constant functions, by which the compiler makes tables: libm's are none.

use core::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, LN_2, PI, SQRT_2, TAU};

/// Of an angle that is not below 0, by Taylor's series within a quarter of a turn.
pub(super) const fn cos(angle: f64) -> f64 {
    let turned = angle - (angle / TAU) as u64 as f64 * TAU;
    let mirrored = if turned > PI { TAU - turned } else { turned };
    let (x, sign) = if mirrored > FRAC_PI_2 { (PI - mirrored, -1.0) } else { (mirrored, 1.0) };
    let (mut sum, mut term, mut n) = (1.0, 1.0, 0);
    // What follows is below 1e-19.
    while n < 24 {
        term *= -x * x / ((n + 1) * (n + 2)) as f64;
        sum += term;
        n += 2;
    }
    sign * sum
}

/// Of a number above 0: 2 artanh((x - 1) / (x + 1)), once x is within a factor of sqrt(2) of 1.
pub(super) const fn ln(x: f64) -> f64 {
    let (mut x, mut octaves) = (x, 0.0);
    while x > SQRT_2 {
        (x, octaves) = (x / 2.0, octaves + 1.0);
    }
    while x < FRAC_1_SQRT_2 {
        (x, octaves) = (x * 2.0, octaves - 1.0);
    }
    let t = (x - 1.0) / (x + 1.0);
    let (mut sum, mut power, mut n) = (0.0, t, 1);
    while n < 25 {
        sum += power / n as f64;
        power *= t * t;
        n += 2;
    }
    octaves * LN_2 + 2.0 * sum
}

/// Of a number from 1e-3 to 1e3, by Newton's method.
pub(super) const fn sqrt(x: f64) -> f64 {
    let (mut root, mut step) = (1.0, 0);
    while step < 12 {
        root = (root + x / root) / 2.0;
        step += 1;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_libm_has() {
        for n in 0..100_000 {
            let x = f64::from(n) * 2.3e-3;
            assert!((cos(x) - libm::cos(x)).abs() < 1e-13, "cos {x}");
            let x = 1e-3 + f64::from(n) * 1e-2;
            assert!((sqrt(x) - libm::sqrt(x)).abs() < 1e-14 * x.max(1.0), "sqrt {x}");
            assert!((ln(x) - libm::log(x)).abs() < 1e-14, "ln {x}");
        }
    }
}
