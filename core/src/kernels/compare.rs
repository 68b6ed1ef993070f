//! Comparisons, and logic on what they give.

use crate::plan::{Comparison, Logic};

use super::per_isa::per_isa;

per_isa! {
    /// [`CompareF32`](crate::plan::CompareF32). The length of `b` divides that of `a` and `y`.
    pub fn compare_f32(a: &[f32], b: &[f32], y: &mut [u8], comparison: Comparison) {
        match comparison {
            Comparison::Equal => each(a, b, y, |a, b| a == b),
            Comparison::NotEqual => each(a, b, y, |a, b| a != b),
            Comparison::Less => each(a, b, y, |a, b| a < b),
            Comparison::LessOrEqual => each(a, b, y, |a, b| a <= b),
            Comparison::Greater => each(a, b, y, |a, b| a > b),
            Comparison::GreaterOrEqual => each(a, b, y, |a, b| a >= b),
        }
    }

    /// [`LogicBool`](crate::plan::LogicBool): `a = function(a, b)`. The length of `b` divides that of `a`.
    pub fn logic(a: &mut [u8], b: &[u8], function: Logic) {
        for row in a.chunks_mut(b.len().max(1)) {
            for (a, b) in row.iter_mut().zip(b) {
                let (x, y) = (*a != 0, *b != 0);
                *a = u8::from(match function {
                    Logic::And => x & y,
                    Logic::Or => x | y,
                    Logic::Xor => x ^ y,
                });
            }
        }
    }
}

#[inline(always)]
fn each(a: &[f32], b: &[f32], y: &mut [u8], holds: impl Fn(f32, f32) -> bool) {
    let row = b.len().max(1);
    for (y, a) in y.chunks_mut(row).zip(a.chunks(row)) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = u8::from(holds(*a, *b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn a_number_compares_as_ieee_754_says() {
        let a = [1.0, 2.0, f32::NAN, -0.0, f32::INFINITY, 3.0];
        let b = [1.0, 3.0, f32::NAN, 0.0, f32::INFINITY, 1.0];
        let cases = [
            (Comparison::Equal, [1, 0, 0, 1, 1, 0]),
            (Comparison::NotEqual, [0, 1, 1, 0, 0, 1]),
            (Comparison::Less, [0, 1, 0, 0, 0, 0]),
            (Comparison::LessOrEqual, [1, 1, 0, 1, 1, 0]),
            (Comparison::Greater, [0, 0, 0, 0, 0, 1]),
            (Comparison::GreaterOrEqual, [1, 0, 0, 1, 1, 1]),
        ];
        for isa in Isa::ALL {
            for (comparison, expected) in cases {
                let mut y = [7; 6];
                compare_f32(isa, &a, &b, &mut y, comparison);
                assert_eq!(y, expected, "{comparison:?}");
                // The second operand repeated.
                compare_f32(isa, &a, &b[..2], &mut y, comparison);
                assert_eq!(y[0], expected[0]);
                assert_eq!(
                    y[5],
                    u8::from(matches!(
                        comparison,
                        Comparison::Equal | Comparison::LessOrEqual | Comparison::GreaterOrEqual
                    ))
                );
            }
        }
    }

    #[test]
    fn whatever_is_not_zero_is_true() {
        for isa in Isa::ALL {
            for (function, expected) in
                [(Logic::And, [0, 0, 0, 1]), (Logic::Or, [0, 1, 1, 1]), (Logic::Xor, [0, 1, 1, 0])]
            {
                let mut a = [0, 0, 1, 255];
                logic(isa, &mut a, &[0, 2, 0, 1], function);
                assert_eq!(a, expected, "{function:?}");
            }
        }
    }
}
