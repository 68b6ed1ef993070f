//! Features in fixed point of windows of floats: what a board without an FPU computes of its converter's samples, in every bit.

use tractlet_core::signal::fixed::{FULL_SCALE, Fixed, Work, peak, value};
use tractlet_core::signal::mel::MAX_BANDS;
use tractlet_core::signal::spectral::{MAX_COEFFICIENTS, MAX_FFT, SpectralShape};
use tractlet_core::signal::{Unfit, channel};

/// Of every shape that there is.
const HALF: usize = MAX_FFT / 2;
const COSINES: usize = MAX_COEFFICIENTS * MAX_BANDS;

/// A front end with its tables and the memory that it works in.
pub struct FixedPoint {
    tables: Fixed<HALF, COSINES>,
    peak_scaled: bool,
    channels: usize,
    samples: Vec<i16>,
    features: Vec<i32>,
    work: Work<HALF>,
    /// Whether it was said that samples are clipped.
    has_told: bool,
}

impl FixedPoint {
    /// For `length` frames of `channels`.
    ///
    /// # Errors
    /// With the field of the shape that is unfit, or that there is nothing of in fixed point.
    pub fn new(shape: SpectralShape, peak_scaled: bool, channels: usize, length: usize) -> Result<FixedPoint, Unfit> {
        let tables = Fixed::new(shape)?;
        let (samples, features) = (vec![0; channels * length], vec![0; shape.frames(length) * shape.width()]);
        Ok(FixedPoint { tables, peak_scaled, channels, samples, features, work: [[0; 2]; HALF], has_told: false })
    }

    /// Fills `out` from interleaved frames of sound from -1 to 1.
    pub fn run(&mut self, window: &[f32], out: &mut [f32]) {
        if !self.has_told && window.iter().any(|sample| sample.abs() > 1.0) {
            self.has_told = true;
            log::warn!(
                "samples beyond -1 to 1 are clipped, as a converter does: `frontend.arithmetic` = \"fixed\" takes sound; see --scale"
            );
        }
        for (sample, &value) in self.samples.iter_mut().zip(window) {
            // The cast clips.
            *sample = (value * f32::from(FULL_SCALE)).round() as i16;
        }
        for (index, out) in out.chunks_exact_mut(self.features.len().max(1)).enumerate() {
            let loudest = || peak(channel(&self.samples, self.channels, index));
            // Silence has no peak to scale by.
            let unit = self.peak_scaled.then(loudest).flatten().unwrap_or(FULL_SCALE);
            self.tables.run(&self.samples, self.channels, index, unit, &mut self.work, &mut self.features);
            out.iter_mut().zip(&self.features).for_each(|(place, &feature)| *place = value(feature));
        }
    }
}
