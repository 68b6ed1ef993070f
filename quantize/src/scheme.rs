//! What is quantized, and what an integer of a tensor stands for: scale and zero point, from a range of values.

use crate::onnx::proto::data_type;

/// What of a model becomes integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Weights and activations, whose ranges the samples set.
    #[default]
    Static,
    /// Weights alone: they are stored as int8, and computed with as floats.
    WeightOnly,
    /// Weights, and the inputs of what has weights, whose ranges are drawn anew at each run.
    Dynamic,
}

/// The type of quantized activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// int8, -128 to 127.
    #[default]
    Int8,
    /// uint8, 0 to 255.
    Uint8,
    /// int16, -32768 to 32767.
    Int16,
    /// uint16, 0 to 65535.
    Uint16,
}

impl Activations {
    /// The least and the greatest integer.
    pub fn bounds(self) -> (i32, i32) {
        match self {
            Activations::Int8 => (-128, 127),
            Activations::Uint8 => (0, 255),
            Activations::Int16 => (-32768, 32767),
            Activations::Uint16 => (0, 65535),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Activations::Int8 => "int8",
            Activations::Uint8 => "uint8",
            Activations::Int16 => "int16",
            Activations::Uint16 => "uint16",
        }
    }

    /// Whether an integer has 16 bits.
    pub fn is_wide(self) -> bool {
        matches!(self, Activations::Int16 | Activations::Uint16)
    }

    /// How many integers there are.
    pub fn levels(self) -> u32 {
        if self.is_wide() { 1 << 16 } else { 1 << 8 }
    }

    /// The type in ONNX, and a number of it as that stores it.
    pub fn stored(self, number: i32) -> (i32, Vec<u8>) {
        match self {
            Activations::Int8 => (data_type::INT8, vec![number as u8]),
            Activations::Uint8 => (data_type::UINT8, vec![number as u8]),
            Activations::Int16 => (data_type::INT16, (number as u16).to_le_bytes().into()),
            Activations::Uint16 => (data_type::UINT16, (number as u16).to_le_bytes().into()),
        }
    }
}

/// The values that a tensor takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub min: f32,
    /// The greatest.
    pub max: f32,
}

impl Range {
    /// Holds no value yet.
    pub const EMPTY: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// The least range that holds both.
    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The least range that holds it and 0, which padding needs exactly.
    pub fn with_zero(self) -> Range {
        Range { min: self.min.min(0.0), max: self.max.max(0.0) }
    }
}

/// `real = scale * (integer - zero_point)`, for a whole tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QParams {
    /// Greater than 0.
    pub scale: f32,
    /// Within the bounds of the type.
    pub zero_point: i32,
}

impl QParams {
    /// For a range of values; a symmetric one has its zero point in the middle of the type.
    ///
    /// A range of nothing but 0 has the scale 1: there is nothing to be exact about.
    pub fn of(range: Range, activations: Activations, symmetric: bool) -> QParams {
        let (low, high) = activations.bounds();
        let Range { min, max } = range.with_zero();
        if max - min < f32::MIN_POSITIVE {
            return QParams { scale: 1.0, zero_point: if symmetric { (low + high + 1) / 2 } else { low } };
        }
        if symmetric {
            // -127 to 127, as TensorRT has it; with 16 bits as much less than the whole.
            let scale = max.max(-min) / ((high - low) / 2) as f32;
            return QParams { scale: scale.max(f32::MIN_POSITIVE), zero_point: (low + high + 1) / 2 };
        }
        let scale = ((f64::from(max) - f64::from(min)) / f64::from(high - low)) as f32;
        let scale = scale.max(f32::MIN_POSITIVE);
        let zero_point = f64::from(low) - f64::from(min) / f64::from(scale);
        QParams { scale, zero_point: (zero_point.round_ties_even() as i32).clamp(low, high) }
    }

    /// Puts in place of each value what its integer stands for.
    pub fn round_trip(self, activations: Activations, values: &mut [f32]) {
        let (low, high) = activations.bounds();
        let (low, high) = ((low - self.zero_point) as f32, (high - self.zero_point) as f32);
        for value in values {
            *value = self.scale * (*value / self.scale).round_ties_even().clamp(low, high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_ends_are_within_half_a_step() {
        for (min, max) in [(0.0, 6.0), (-3.0, 5.0), (-8.0, -2.0), (1.0, 2.0), (-1e-30, 1e-30), (-1e30, 3.0)] {
            for (activations, symmetric) in [
                (Activations::Int8, false),
                (Activations::Uint8, false),
                (Activations::Int8, true),
                (Activations::Uint16, false),
                (Activations::Int16, true),
            ] {
                let q = QParams::of(Range { min, max }, activations, symmetric);
                let (low, high) = activations.bounds();
                assert!(q.scale > 0.0 && (low..=high).contains(&q.zero_point), "{min} {max} {q:?}");
                for value in [min, max, 0.0] {
                    let integer = ((value / q.scale).round() as i32 + q.zero_point).clamp(low, high);
                    let real = q.scale * (integer - q.zero_point) as f32;
                    assert!((real - value).abs() <= q.scale * 0.51, "{value} as {real}, {q:?}");
                }
            }
        }
    }

    #[test]
    fn a_constant_zero_has_a_scale() {
        assert_eq!(QParams::of(Range { min: 0.0, max: 0.0 }, Activations::Int8, false).scale, 1.0);
        assert_eq!(QParams::of(Range::EMPTY, Activations::Int8, false).scale, 1.0);
    }
}
