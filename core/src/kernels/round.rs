//! From f32 to i8.

use crate::shape::Requantize;

/// 1.5 * 2^23: floats of this size are whole numbers, with as many in front of them as behind.
const MAGIC: f32 = 12_582_912.0;

/// `clamp(round_half_even(value) + zero_point, min, max)`, in a form that vectorizes.
#[derive(Clone, Copy)]
pub(super) struct ToI8 {
    low: f32,
    high: f32,
    zero_point: i32,
}

impl ToI8 {
    pub(super) fn new(requantize: &Requantize) -> Self {
        let zero_point = i32::from(requantize.zero_point);
        Self {
            low: (i32::from(requantize.min) - zero_point) as f32,
            high: (i32::from(requantize.max) - zero_point) as f32,
            zero_point,
        }
    }

    /// What a value is clamped to before and what is added after it is rounded.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn bounds(self) -> (f32, f32, i16) {
        (self.low, self.high, self.zero_point as i16)
    }

    /// What it was made of.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn requantize(self) -> Requantize {
        let whole = |bound: f32| (bound as i32 + self.zero_point) as i8;
        Requantize { zero_point: self.zero_point as i8, min: whole(self.low), max: whole(self.high) }
    }

    /// NaN becomes `min`.
    #[inline(always)]
    pub(super) fn apply(self, value: f32) -> i8 {
        self.rounded(self.clamp(value)).0
    }

    /// The same of a value that is not NaN, in fewer instructions where comparing floats takes several: once shifted, they are in
    /// the order of their bits.
    #[inline(always)]
    pub(super) fn apply_number(self, value: f32) -> i8 {
        let bits = |value: f32| (value + MAGIC).to_bits().cast_signed();
        let clamped = bits(value).max(bits(self.low)).min(bits(self.high));
        clamped.wrapping_sub(MAGIC.to_bits().cast_signed()).wrapping_add(self.zero_point) as i8
    }

    /// The result, and how far it is from the clamped value.
    #[inline(always)]
    pub(super) fn apply_with_distance(self, value: f32) -> (i8, f32) {
        let clamped = self.clamp(value);
        let (result, rounded) = self.rounded(clamped);
        (result, (clamped - rounded).abs())
    }

    /// Comparisons in the order in which vector instructions have them: NaN becomes the lower bound.
    #[inline(always)]
    fn clamp(self, value: f32) -> f32 {
        let value = if value > self.low { value } else { self.low };
        if value < self.high { value } else { self.high }
    }

    /// Clamping first agrees with clamping last, the bounds being integers. The addition then
    /// leaves no bits below the unit, so that it rounds, and the integer is in the low bits.
    #[inline(always)]
    fn rounded(self, clamped: f32) -> (i8, f32) {
        let shifted = clamped + MAGIC;
        let integer = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed();
        (integer.wrapping_add(self.zero_point) as i8, shifted - MAGIC)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_its_definition(
            value in prop_oneof![prop::num::f32::ANY, -300f32..300.0, (-600i32..600).prop_map(|n| n as f32 / 2.0)],
            zero_point: i8,
            a: i8,
            b: i8,
        ) {
            let requantize = Requantize { zero_point, min: a.min(b), max: a.max(b) };
            let exact = (f64::from(value).round_ties_even() + f64::from(zero_point))
                .max(f64::from(requantize.min))
                .min(f64::from(requantize.max));
            prop_assert_eq!(ToI8::new(&requantize).apply(value), exact as i8);
            if !value.is_nan() {
                prop_assert_eq!(ToI8::new(&requantize).apply_number(value), exact as i8);
            }
        }
    }
}
