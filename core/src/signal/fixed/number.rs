//! Numbers that are not below 0, of any size, and their logarithms, in integers.

use crate::signal::series;

/// Of a logarithm, behind the point.
pub(super) const LOG_BITS: u32 = 24;
/// Steps of the table within an octave.
const STEPS: usize = 256;

/// log2(1 + i / STEPS); lines between them are at most 2.7e-6 off.
static LOGS: [u32; STEPS + 1] = {
    let mut logs = [0; STEPS + 1];
    let mut i = 0;
    while i <= STEPS {
        let log = series::ln(1.0 + i as f64 / STEPS as f64) / core::f64::consts::LN_2;
        logs[i] = (log * (1 << LOG_BITS) as f64 + 0.5) as u32;
        i += 1;
    }
    logs
};

/// `mantissa` times two to the power of `exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub mantissa: u64,
    pub exponent: i32,
}

impl Number {
    /// A finite float that is not below 0, exactly.
    pub const fn of(value: f32) -> Number {
        let (stored, exponent) = (value.to_bits() & 0x7f_ffff, (value.to_bits() >> 23) as i32);
        match exponent {
            0 => Number { mantissa: stored as u64, exponent: -149 },
            _ => Number { mantissa: (stored | 0x80_0000) as u64, exponent: exponent - 150 },
        }
    }

    /// The sum, to 62 bits.
    pub fn plus(self, other: Number) -> Number {
        let (large, small) = match (self.octave(), other.octave()) {
            (None, _) => return other,
            (_, None) => return self,
            (a, b) if a >= b => (self, other),
            _ => (other, self),
        };
        // Two bits of room, for the sum of both.
        let exponent = large.exponent - (large.mantissa.leading_zeros() as i32 - 2);
        Number { mantissa: large.at(exponent) + small.at(exponent), exponent }
    }

    /// Its mantissa for another exponent, under which it fits.
    fn at(self, exponent: i32) -> u64 {
        let right = exponent - self.exponent;
        match right {
            0.. => self.mantissa.checked_shr(right.unsigned_abs()).unwrap_or(0),
            _ => self.mantissa << right.unsigned_abs(),
        }
    }

    /// Which power of two it is not below; none is for 0.
    fn octave(self) -> Option<i32> {
        Some(self.exponent + self.mantissa.checked_ilog2()? as i32)
    }

    /// Its logarithm to the base of two, with [`LOG_BITS`] behind the point; that of 0 is as low as there is.
    pub fn log2(self) -> i64 {
        let Some(octave) = self.octave() else { return i64::from(i32::MIN) << LOG_BITS };
        // Behind the leading one: eight bits for the step, 24 for the place between two.
        let behind = (self.mantissa << self.mantissa.leading_zeros() << 1 >> 32) as u32;
        let (step, place) = ((behind >> 24) as usize, u64::from(behind & 0xff_ffff));
        let (from, to) = (LOGS[step], LOGS[step + 1]);
        let between = (u64::from(to - from) * place) >> 24;
        (i64::from(octave) << LOG_BITS) + i64::from(from) + between as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(number: Number) -> f64 {
        number.mantissa as f64 * libm::exp2(f64::from(number.exponent))
    }

    #[test]
    fn floats_are_taken_exactly() {
        for value in [0.0, 1e-45, 1e-38, 1e-6, 0.5, 1.0, 3.0, 1e30, f32::MAX] {
            assert_eq!(float(Number::of(value)), f64::from(value));
        }
    }

    #[test]
    fn sums_and_logarithms_are_those_of_floats() {
        let of = |mantissa, exponent| Number { mantissa, exponent };
        let numbers = [of(0, 90), of(1, -90), of(u64::MAX, -100), of(3, 0), of(1 << 40, -39), of(12345, 7), of(1, 64)];
        for a in numbers {
            for b in numbers {
                let (sum, expected) = (a.plus(b), float(a) + float(b));
                assert!((float(sum) - expected).abs() <= 1e-15 * expected, "{a:?} + {b:?} = {sum:?}");
                if expected > 0.0 {
                    let log = sum.log2() as f64 / f64::from(1 << LOG_BITS);
                    assert!((log - libm::log2(expected)).abs() < 3e-6, "log2 {sum:?} = {log}");
                }
            }
        }
    }
}
