//! Triangular filters, evenly spaced on the mel scale of HTK: mel = 1127 ln(1 + f / 700).
//!
//! The triangles are straight on the mel scale, not in hertz, and the bin of frequency zero belongs to none:
//! as TensorFlow's `linear_to_mel_weight_matrix` makes them. Source of the scale: Young et al., "The HTK Book".

use heapless::Vec;

use super::{Unfit, series};

/// The most bands.
pub const MAX_BANDS: usize = 128;
/// The most bins of a spectrum: half of the longest FFT, and frequency zero.
pub const MAX_BINS: usize = super::spectral::MAX_FFT / 2 + 1;

/// Where the bands are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MelScale {
    /// How many bands.
    pub bands: usize,
    /// Lower edge of the lowest, in hertz.
    pub low_hz: f32,
    /// Upper edge of the highest, in hertz.
    pub high_hz: f32,
}

impl MelScale {
    pub(super) const fn check(&self, rate_hz: f32) -> Result<(), Unfit> {
        let (field, expected) = if self.bands == 0 || self.bands > MAX_BANDS {
            ("bands", "from 1 to 128")
        } else if !(self.low_hz >= 0.0 && self.low_hz < self.high_hz) {
            ("low_hz", "0 or above, and below `high_hz`")
        } else if self.high_hz > rate_hz / 2.0 {
            ("high_hz", "at most half of `rate_hz`")
        } else {
            return Ok(());
        };
        Err(Unfit { field, expected })
    }

    /// The band that rises at a bin, of so many up to half of `rate_hz`, and the bin's share in it; none outside of all bands. It
    /// may be one past the last. The band before it falls there, and has the rest.
    pub(super) const fn flank(&self, bin: usize, bins: usize, rate_hz: f32) -> Option<(usize, f64)> {
        let (low, high) = (mel(self.low_hz as f64), mel(self.high_hz as f64));
        let step = (high - low) / (self.bands + 1) as f64;
        let at = (mel(rate_hz as f64 / 2.0 * bin as f64 / (bins - 1) as f64) - low) / step;
        if !(at >= 0.0 && at <= (self.bands + 1) as f64) {
            return None;
        }
        let flank = if at as usize > self.bands { self.bands } else { at as usize };
        Some((flank, at - flank as f64))
    }
}

/// A bank of filters for spectra of one size.
///
/// Neighbouring triangles share their flanks, so a bin lies on one flank at most: it adds to the band that
/// rises there and to the one before, which falls.
#[derive(Debug)]
pub struct MelBank {
    bands: usize,
    /// The first bin that lies on a flank.
    first: usize,
    /// From there on, for each bin: the band that rises, which may be one past the last, and its share.
    flanks: Vec<(u8, f32), MAX_BINS>,
}

impl MelBank {
    /// Filters for spectra of `bins` up to half of `rate_hz`.
    ///
    /// # Errors
    /// Where the bands are none or too many, or the edges are not below each other and half the rate.
    pub fn new(scale: MelScale, bins: usize, rate_hz: f32) -> Result<MelBank, Unfit> {
        scale.check(rate_hz)?;
        if !(2..=MAX_BINS).contains(&bins) {
            return Err(Unfit { field: "fft", expected: "a power of two from 16 to 2048" });
        }
        let mut bank = MelBank { bands: scale.bands, first: 1, flanks: Vec::new() };
        for bin in 1..bins {
            match scale.flank(bin, bins, rate_hz) {
                // No more bins than `MAX_BINS`: there is room.
                Some((flank, rising)) => _ = bank.flanks.push((flank as u8, rising as f32)),
                None if bank.flanks.is_empty() => bank.first = bin + 1,
                None => {}
            }
        }
        Ok(bank)
    }

    /// How many bands it has.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Sums a spectrum's bins into bands; `out` has one element a band.
    pub fn apply(&self, spectrum: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (&(flank, rising), value) in self.flanks.iter().zip(spectrum.iter().skip(self.first)) {
            let flank = usize::from(flank);
            if let Some(band) = out.get_mut(flank) {
                *band += rising * value;
            }
            if let Some(band) = flank.checked_sub(1).and_then(|before| out.get_mut(before)) {
                *band += (1.0 - rising) * value;
            }
        }
    }
}

const fn mel(hz: f64) -> f64 {
    1127.0 * series::ln(1.0 + hz / 700.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, filter by filter.
    #[test]
    fn bands_are_the_triangles_of_the_definition() {
        let (bands, bins, rate) = (40, 257, 16000.0);
        let bank = MelBank::new(MelScale { bands, low_hz: 20.0, high_hz: 4000.0 }, bins, rate as f32).unwrap();
        let edges: std::vec::Vec<f64> =
            (0..bands + 2).map(|i| mel(20.0) + (mel(4000.0) - mel(20.0)) * i as f64 / (bands + 1) as f64).collect();
        for bin in 0..bins {
            let mut spectrum = [0f32; 257];
            spectrum[bin] = 1.0;
            let mut out = [0f32; 40];
            bank.apply(&spectrum, &mut out);
            let at = mel(rate / 2.0 * bin as f64 / (bins - 1) as f64);
            for band in 0..bands {
                let rise = (at - edges[band]) / (edges[band + 1] - edges[band]);
                let fall = (edges[band + 2] - at) / (edges[band + 2] - edges[band + 1]);
                let expected = if bin == 0 { 0.0 } else { rise.min(fall).max(0.0) };
                assert!((f64::from(out[band]) - expected).abs() < 1e-6, "bin {bin}, band {band}");
            }
        }
    }

    #[test]
    fn a_band_past_half_the_rate_is_refused() {
        let scale = MelScale { bands: 40, low_hz: 20.0, high_hz: 9000.0 };
        assert_eq!(MelBank::new(scale, 257, 16000.0).unwrap_err().field, "high_hz");
    }
}
