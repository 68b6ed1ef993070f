//! Input for measurements, the same on every machine.

/// Pseudo-random numbers: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug, Default)]
pub struct Noise(u64);

impl Noise {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-1, 1), with as many bits as an f32 holds.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 40) as f64 / f64::from(1 << 23) - 1.0
    }
}
