//! Window functions, in their periodic form, as for spectra that overlap.
//!
//! Source: Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform", 1978.

use core::f64::consts::TAU;

use super::series::cos;

/// What a frame is multiplied with before its spectrum is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taper {
    /// 1 everywhere.
    Rectangular,
    /// 0.5 - 0.5 cos(2 pi n / N).
    Hann,
    /// 0.54 - 0.46 cos(2 pi n / N).
    Hamming,
}

impl Taper {
    /// The factor of sample `n` of `len`.
    pub const fn at(self, n: usize, len: usize) -> f32 {
        self.exact(n, len) as f32
    }

    pub(super) const fn exact(self, n: usize, len: usize) -> f64 {
        let angle = TAU * n as f64 / len as f64;
        match self {
            Taper::Rectangular => 1.0,
            Taper::Hann => 0.5 - 0.5 * cos(angle),
            Taper::Hamming => 0.54 - 0.46 * cos(angle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hann_is_periodic() {
        let factors: std::vec::Vec<f32> = (0..4).map(|n| Taper::Hann.at(n, 4)).collect();
        assert_eq!(factors, [0.0, 0.5, 1.0, 0.5]);
    }
}
