//! Log-mel energies and cepstral coefficients in integers, for cores without an FPU.
//!
//! What [`spectral`](super::spectral) makes of floats, of the same [`SpectralShape`]: samples of 16 bits in, logarithms with 16 bits
//! behind the point out. Each frame is shifted up to its largest sample before it is transformed, so quiet frames are as exact as
//! loud ones, and a window is divided by its peak by taking the peak's logarithm off.
//!
//! No float is computed with after the tables are made, and the compiler makes them where the shape is a constant:
//!
//! ```
//! use tractlet_core::signal::fixed::{FULL_SCALE, Fixed, peak, value};
//! use tractlet_core::signal::spectral::{Log, Magnitude, SpectralShape};
//! use tractlet_core::signal::{mel::MelScale, taper::Taper};
//!
//! // 3.7 KB of tables in flash, beside 3.1 KB that are for all shapes: half of the FFT, and coefficients by bands.
//! static MFCC: Fixed<256, 400> = match Fixed::new(SpectralShape {
//!     rate_hz: 16000.0, frame: 480, hop: 320, fft: 512, taper: Taper::Hann, magnitude: Magnitude::Absolute,
//!     mel: Some(MelScale { bands: 40, low_hz: 20.0, high_hz: 4000.0 }),
//!     log: Some(Log::Natural { offset: 1e-6 }), coefficients: Some(10),
//! }) {
//!     Ok(mfcc) => mfcc,
//!     Err(_) => panic!("the shape does not fit"),
//! };
//!
//! let samples = [0i16; 16000];
//! let mut work = [[0; 2]; 256];
//! let mut features = [0; 490];
//! let unit = peak(samples.iter().copied()).unwrap_or(FULL_SCALE);
//! MFCC.run(&samples, 1, 0, unit, &mut work, &mut features);
//! assert!((value(features[0]) - 40.0 * 1e-6f32.ln() * (2f32 / 40.0).sqrt()).abs() < 1e-3);
//! ```

mod fft;
mod number;

use core::f64::consts::{LN_2, LOG10_2};

use super::Unfit;
use super::mel::MAX_BANDS;
use super::spectral::{Log, Magnitude, SpectralShape, cosine};
use number::{LOG_BITS, Number};

/// The unit of samples of a converter: they are from -1 to 1.
pub const FULL_SCALE: u16 = 1 << 15;

/// Of factors of the taper, of cosines, of a bin's share in a band, of features, behind the point.
const TAPER_BITS: u32 = 30;
const COSINE_BITS: u32 = 30;
const SHARE_BITS: u32 = 24;
const FEATURE_BITS: u32 = 16;
/// Of tapered samples before they are shifted up: 2^29 is what the transform takes.
const FRAME_BITS: u32 = 28;

/// Memory that a frame is transformed in.
pub type Work<const HALF: usize> = [[i32; 2]; HALF];

/// A front end with its tables, with room for an FFT of twice `HALF` and for `COSINES` coefficients by bands.
#[derive(Debug)]
pub struct Fixed<const HALF: usize, const COSINES: usize> {
    shape: SpectralShape,
    bands: usize,
    offset: Number,
    /// What an octave is in the logarithm that was asked for, with [`LOG_BITS`] behind the point.
    octave: i64,
    /// The first half of the taper, without the middle: the second mirrors it.
    taper: [i32; HALF],
    /// The first bin that lies on a flank, and how many do.
    first: usize,
    flanks: usize,
    /// For each of them the band that rises there, which may be one past the last, in the upper 8 bits, and its share.
    shares: [u32; HALF],
    /// `coefficients` rows of a cosine for each band.
    cosines: [i32; COSINES],
}

impl<const HALF: usize, const COSINES: usize> Fixed<HALF, COSINES> {
    /// Makes the tables.
    ///
    /// # Errors
    /// With the field that is out of range, does not go with another, or takes more room than there is.
    pub const fn new(shape: SpectralShape) -> Result<Self, Unfit> {
        if let Err(unfit) = shape.check() {
            return Err(unfit);
        }
        let (Some(mel), Some(log)) = (shape.mel, shape.log) else {
            return Err(Unfit { field: "kind", expected: "`log-mel` or `mfcc`, of which there are fixed-point ones" });
        };
        if shape.fft > 2 * HALF {
            return Err(Unfit { field: "fft", expected: "at most twice `HALF`" });
        }
        let coefficients = match shape.coefficients {
            Some(coefficients) => coefficients,
            None => 0,
        };
        if coefficients * mel.bands > COSINES {
            return Err(Unfit { field: "coefficients", expected: "by `bands`, at most `COSINES`" });
        }
        let (offset, octave) = match log {
            Log::Natural { offset } => (Number::of(offset), LN_2),
            Log::Decibel { offset } => (Number::of(offset), 10.0 * LOG10_2),
        };
        let octave = rounded(octave, LOG_BITS);
        let (taper, shares, cosines) = ([0; HALF], [0; HALF], [0; COSINES]);
        let mut fixed = Fixed { shape, bands: mel.bands, offset, octave, taper, first: 1, flanks: 0, shares, cosines };
        let mut n = 0;
        while n < HALF && n <= shape.frame / 2 {
            fixed.taper[n] = rounded(shape.taper.exact(n, shape.frame), TAPER_BITS) as i32;
            n += 1;
        }
        let mut bin = 1;
        while bin <= shape.fft / 2 {
            match mel.flank(bin, shape.fft / 2 + 1, shape.rate_hz) {
                Some((flank, share)) => {
                    // A share of 1 is one of 0 in the next band, which past the last adds to none.
                    let place = ((flank as u64) << SHARE_BITS) + rounded(share, SHARE_BITS) as u64;
                    fixed.shares[fixed.flanks] = place as u32;
                    fixed.flanks += 1;
                }
                None if fixed.flanks == 0 => fixed.first = bin + 1,
                None => {}
            }
            bin += 1;
        }
        let mut at = 0;
        while at < coefficients * mel.bands {
            fixed.cosines[at] = rounded(cosine(at / mel.bands, at % mel.bands, mel.bands), COSINE_BITS) as i32;
            at += 1;
        }
        Ok(fixed)
    }

    /// What it computes.
    pub const fn shape(&self) -> &SpectralShape {
        &self.shape
    }

    /// Features of one channel of interleaved samples, of which `unit` is to be 1: [`SpectralShape::frames`] rows of
    /// [`SpectralShape::width`] in `out`, each with 16 bits behind the point. A `unit` of 0 counts as 1.
    pub fn run(
        &self,
        samples: &[i16],
        channels: usize,
        channel: usize,
        unit: u16,
        work: &mut Work<HALF>,
        out: &mut [i32],
    ) {
        let frames = self.shape.frames(samples.len() / channels.max(1));
        let unit = Unit::new(unit.max(1), self.offset, self.shape.magnitude);
        for (frame, row) in out.chunks_exact_mut(self.shape.width()).take(frames).enumerate() {
            let start = frame * self.shape.hop * channels;
            let samples = super::channel(samples.get(start..).unwrap_or_default(), channels, channel);
            let points = &mut work[..self.shape.fft / 2];
            let shift = self.transform(samples.take(self.shape.frame), points);
            let mut logs = [0; MAX_BANDS];
            let logs = &mut logs[..self.bands];
            self.logarithms(points, shift, &unit, logs);
            if self.shape.coefficients.is_none() {
                row.copy_from_slice(logs);
                continue;
            }
            for (coefficient, cosines) in row.iter_mut().zip(self.cosines.chunks_exact(self.bands)) {
                let sum: i64 = logs.iter().zip(cosines).map(|(&log, &cosine)| i64::from(log) * i64::from(cosine)).sum();
                *coefficient = ((sum + (1 << (COSINE_BITS - 1))) >> COSINE_BITS) as i32;
            }
        }
    }

    /// Tapers and transforms a frame, and gives by how many bits its samples were shifted up.
    fn transform(&self, samples: impl Iterator<Item = i16> + Clone, points: &mut [fft::Point]) -> u32 {
        let largest = samples.clone().map(i16::unsigned_abs).max().unwrap_or(0);
        let shift = largest.leading_zeros();
        points.fill([0; 2]);
        for ((n, sample), place) in samples.enumerate().zip(points.as_flattened_mut()) {
            let mirrored = n.min(self.shape.frame - n);
            // Every taper is 1 in its middle, which has no room where the frame is as long as the FFT.
            let factor = self.taper.get(mirrored).copied().unwrap_or(1 << TAPER_BITS);
            let product = (i64::from(sample) << shift) * i64::from(factor);
            let excess = 15 + TAPER_BITS - FRAME_BITS;
            *place = ((product + (1 << (excess - 1))) >> excess) as i32;
        }
        fft::transform(points);
        shift
    }

    /// Logarithms of the bands of a spectrum whose samples were shifted up by `shift`.
    fn logarithms(&self, points: &[fft::Point], shift: u32, unit: &Unit, logs: &mut [i32]) {
        let bins = self.first..self.first + self.flanks;
        // Bins are 4 / fft of the transform, of which the powers of all together are below 2^62, and magnitudes below 2^36.
        let scale = self.shape.fft.ilog2() as i32 - 2 - (FRAME_BITS + shift) as i32;
        let (exponent, excess) = match self.shape.magnitude {
            Magnitude::Absolute => (scale, 0),
            Magnitude::Power => {
                let total: u64 = bins.clone().map(|bin| fft::power(points, bin)).sum();
                let excess = (u64::BITS - total.leading_zeros()).saturating_sub(63 - SHARE_BITS);
                (2 * scale + excess as i32, excess)
            }
        };
        let mut sums = [0u64; MAX_BANDS];
        for (bin, share) in bins.zip(&self.shares) {
            let power = fft::power(points, bin);
            let value = if self.shape.magnitude == Magnitude::Power { power >> excess } else { power.isqrt() };
            let (flank, rising) = ((share >> SHARE_BITS) as usize, u64::from(share & ((1 << SHARE_BITS) - 1)));
            if let Some(sum) = sums.get_mut(flank) {
                *sum += rising * value;
            }
            if let Some(sum) = flank.checked_sub(1).and_then(|before| sums.get_mut(before)) {
                *sum += ((1 << SHARE_BITS) - rising) * value;
            }
        }
        for (log, &mantissa) in logs.iter_mut().zip(&sums) {
            let sum = Number { mantissa, exponent: exponent - SHARE_BITS as i32 }.plus(unit.offset);
            let excess = 2 * LOG_BITS - FEATURE_BITS;
            *log = (((sum.log2() - unit.log2) * self.octave + (1 << (excess - 1))) >> excess) as i32;
        }
    }
}

/// What is to be 1, to the power that magnitudes are of.
struct Unit {
    /// What is added to bands before their logarithm is taken, in samples as they are.
    offset: Number,
    log2: i64,
}

impl Unit {
    fn new(unit: u16, offset: Number, magnitude: Magnitude) -> Unit {
        let (mantissa, exponent) = match magnitude {
            Magnitude::Absolute => (u64::from(unit), -15),
            Magnitude::Power => (u64::from(unit).pow(2), -30),
        };
        let log2 = Number { mantissa, exponent }.log2();
        // 24 bits by 32.
        Unit { offset: Number { mantissa: offset.mantissa * mantissa, exponent: offset.exponent + exponent }, log2 }
    }
}

/// The largest sample, as the unit of a window that is divided by its peak; none where no sample is above 0.
pub fn peak(samples: impl Iterator<Item = i16>) -> Option<u16> {
    samples.max().and_then(|largest| u16::try_from(largest).ok()).filter(|&largest| largest > 0)
}

/// A feature as a float.
pub fn value(feature: i32) -> f32 {
    feature as f32 / (1 << FEATURE_BITS) as f32
}

/// A number with so many bits behind the point.
const fn rounded(value: f64, bits: u32) -> i64 {
    let scaled = value * (1u64 << bits) as f64;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i64
}

#[cfg(test)]
mod tests;
