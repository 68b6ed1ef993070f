//! Functions of two tensors, element by element, the second repeated along the first.
//!
//! They work in place: the first operand becomes the result.

use crate::isa::Isa;
use crate::plan::{AddS8, Binary, BinaryF32, MulS8};

use super::per_isa::per_isa;
use super::round::ToI8;

/// [`AddS8`]: `a += b`. The length of `b` divides that of `a`.
pub fn add_s8(isa: Isa, a: &mut [i8], b: &[i8], op: &AddS8) {
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic && b.len() >= super::simd::bytes::LANES {
        use super::simd::bytes;

        for a in a.chunks_mut(b.len()) {
            let whole = a.len().min(b.len()) / bytes::LANES * bytes::LANES;
            let ((a, a_rest), (b, b_rest)) = (a.split_at_mut(whole), b.split_at(whole));
            bytes::add(a, b, op);
            plain_add_s8(isa, a_rest, b_rest, op);
        }
        return;
    }
    plain_add_s8(isa, a, b, op);
}

per_isa! {
    #[inline(never)]
    fn plain_add_s8(a: &mut [i8], b: &[i8], op: &AddS8) {
        let to_i8 = ToI8::new(&op.requantize);
        let (a_zero_point, b_zero_point) = (i32::from(op.a_zero_point), i32::from(op.b_zero_point));
        let (a_multiplier, b_multiplier) = (op.a_multiplier, op.b_multiplier);
        zip_repeated(a, b, |a, b| {
            let a = (i32::from(a) - a_zero_point) as f32 * a_multiplier;
            let b = (i32::from(b) - b_zero_point) as f32 * b_multiplier;
            to_i8.apply(a + b)
        });
    }

    /// [`MulS8`]: `a *= b`. The length of `b` divides that of `a`.
    pub fn mul_s8(a: &mut [i8], b: &[i8], op: &MulS8) {
        let to_i8 = ToI8::new(&op.requantize);
        let (a_zero_point, b_zero_point) = (i32::from(op.a_zero_point), i32::from(op.b_zero_point));
        let multiplier = op.multiplier;
        zip_repeated(a, b, |a, b| {
            let product = (i32::from(a) - a_zero_point) * (i32::from(b) - b_zero_point);
            to_i8.apply(product as f32 * multiplier)
        });
    }

    /// [`BinaryF32`], then limited to `min..=max`; a NaN stays one.
    pub fn binary_f32(a: &mut [f32], b: &[f32], op: &BinaryF32) {
        let BinaryF32 { min, max, inner, .. } = *op;
        let clamp = |value: f32| limit(value, min, max);
        match op.function {
            Binary::Add => zip_runs(a, b, inner, |a, b| clamp(a + b)),
            Binary::Sub => zip_runs(a, b, inner, |a, b| clamp(a - b)),
            Binary::ReverseSub => zip_runs(a, b, inner, |a, b| clamp(b - a)),
            Binary::Mul => zip_runs(a, b, inner, |a, b| clamp(a * b)),
            Binary::Div => zip_runs(a, b, inner, |a, b| clamp(a / b)),
            Binary::ReverseDiv => zip_runs(a, b, inner, |a, b| clamp(b / a)),
            Binary::Min => zip_runs(a, b, inner, |a, b| clamp(smaller(a, b))),
            Binary::Max => zip_runs(a, b, inner, |a, b| clamp(larger(a, b))),
            Binary::Power => zip_runs(a, b, inner, |a, b| clamp(libm::powf(a, b))),
            Binary::Remainder => zip_runs(a, b, inner, |a, b| clamp(libm::fmodf(a, b))),
            Binary::LeakyRelu => zip_runs(a, b, inner, |a, b| clamp(if a < 0.0 { a * b } else { a })),
        }
    }
}

/// `x` limited to `min..=max`; NaN stays NaN.
#[inline(always)]
pub(super) fn limit(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// The larger one; NaN if one of them is.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// The smaller one; NaN if one of them is.
#[inline(always)]
pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if a <= b || a.is_nan() { a } else { b }
}

/// As [`zip_repeated`], each of `b` for `inner` of `a` in a row.
#[inline(always)]
fn zip_runs<T: Copy>(a: &mut [T], b: &[T], inner: usize, function: impl Fn(T, T) -> T) {
    if inner <= 1 {
        return zip_repeated(a, b, function);
    }
    for (run, b) in a.chunks_mut(inner).zip(b.iter().cycle()) {
        run.iter_mut().for_each(|a| *a = function(*a, *b));
    }
}

#[inline(always)]
fn zip_repeated<T: Copy>(a: &mut [T], b: &[T], function: impl Fn(T, T) -> T) {
    match b {
        [] => {}
        [b] => a.iter_mut().for_each(|a| *a = function(*a, *b)),
        b => {
            for row in a.chunks_mut(b.len()) {
                row.iter_mut().zip(b).for_each(|(a, b)| *a = function(*a, *b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::plan::Operand;
    use crate::shape::Requantize;

    /// `b`, and `a` of one to five times its length.
    fn operands() -> impl Strategy<Value = (Vec<i8>, Vec<i8>)> {
        (1usize..70, 1usize..6).prop_flat_map(|(len, repeats)| (vec(any::<i8>(), len * repeats), vec(any::<i8>(), len)))
    }

    fn requantize() -> impl Strategy<Value = Requantize> {
        any::<(i8, i8, i8)>().prop_map(|(zero_point, a, b)| Requantize { zero_point, min: a.min(b), max: a.max(b) })
    }

    fn finish(value: f64, requantize: &Requantize) -> i8 {
        (value.round_ties_even() + f64::from(requantize.zero_point))
            .clamp(f64::from(requantize.min), f64::from(requantize.max)) as i8
    }

    proptest! {
        #[test]
        fn quantized_functions_agree_with_their_definition(
            (a, b) in operands(),
            zero_points: (i8, i8),
            multipliers in (-2f32..2.0, -2f32..2.0),
            requantize in requantize(),
        ) {
            let add = AddS8 {
                a: Operand::default(),
                b: Operand::default(),
                output: Operand::default(),
                a_multiplier: multipliers.0,
                b_multiplier: multipliers.1,
                a_zero_point: zero_points.0,
                b_zero_point: zero_points.1,
                requantize,
            };
            let mul = MulS8 {
                a: add.a,
                b: add.b,
                output: add.output,
                multiplier: multipliers.0,
                a_zero_point: zero_points.0,
                b_zero_point: zero_points.1,
                requantize,
            };
            let pairs = || a.iter().zip(b.iter().cycle()).map(|(a, b)| {
                let a = i32::from(*a) - i32::from(zero_points.0);
                (a, i32::from(*b) - i32::from(zero_points.1))
            });
            let sums: Vec<i8> = pairs()
                .map(|(a, b)| finish((a as f32 * multipliers.0 + b as f32 * multipliers.1).into(), &requantize))
                .collect();
            let products: Vec<i8> = pairs()
                .map(|(a, b)| finish(((a * b) as f32 * multipliers.0).into(), &requantize))
                .collect();
            for isa in Isa::ALL {
                let mut y = a.clone();
                add_s8(isa, &mut y, &b, &add);
                prop_assert_eq!(&y, &sums);
                let mut y = a.clone();
                mul_s8(isa, &mut y, &b, &mul);
                prop_assert_eq!(&y, &products);
            }
        }
    }

    #[test]
    fn f32_functions_are_limited_and_keep_nan() {
        let run = |function, a: &[f32], b: &[f32]| {
            let mut y = a.to_vec();
            let none = Operand::default();
            let op = BinaryF32 { a: none, b: none, output: none, function, inner: 1, min: -10.0, max: 10.0 };
            binary_f32(Isa::detect(), &mut y, b, &op);
            // Each value of the second for a run of the first.
            let twice: Vec<f32> = a.iter().flat_map(|&a| [a, a]).collect();
            let mut runs = twice.clone();
            binary_f32(Isa::detect(), &mut runs, b, &BinaryF32 { inner: 2, ..op });
            assert!(runs.iter().step_by(2).zip(&y).all(|(run, y)| run == y || run.is_nan() && y.is_nan()));
            y
        };
        let a = [1.0, -8.0, 6.0, 2.0];
        let b = [2.0, 4.0];
        assert_eq!(run(Binary::Add, &a, &b), [3.0, -4.0, 8.0, 6.0]);
        assert_eq!(run(Binary::Sub, &a, &b), [-1.0, -10.0, 4.0, -2.0]);
        assert_eq!(run(Binary::ReverseSub, &a, &b), [1.0, 10.0, -4.0, 2.0]);
        assert_eq!(run(Binary::Mul, &a, &b), [2.0, -10.0, 10.0, 8.0]);
        assert_eq!(run(Binary::Div, &a, &b), [0.5, -2.0, 3.0, 0.5]);
        assert_eq!(run(Binary::ReverseDiv, &a, &[1.0]), [1.0, -0.125, 1.0 / 6.0, 0.5]);
        assert_eq!(run(Binary::Min, &a, &b), [1.0, -8.0, 2.0, 2.0]);
        assert_eq!(run(Binary::Max, &a, &b), [2.0, 4.0, 6.0, 4.0]);
        assert_eq!(run(Binary::Power, &[2.0, 3.0], &[3.0, -1.0]), [8.0, 1.0 / 3.0]);
        assert_eq!(run(Binary::Remainder, &[-7.5, 7.5], &[2.0, -2.0]), [-1.5, 1.5]);
        assert_eq!(run(Binary::LeakyRelu, &[-2.0, 2.0], &[0.5]), [-1.0, 2.0]);
        for function in [Binary::Add, Binary::Min, Binary::Max] {
            assert!(run(function, &[f32::NAN], &[1.0])[0].is_nan());
            assert!(run(function, &[1.0], &[f32::NAN])[0].is_nan());
        }
    }
}
