//! Short-time spectra and what is made of them: power, log-mel energies, cepstral coefficients.
//!
//! Frame by frame: taper, zero-pad, real FFT, magnitude or power, and as asked mel bands, logarithm, and a
//! DCT-II scaled by sqrt(2 / bands). Source: Davis and Mermelstein, "Comparison of parametric representations
//! for monosyllabic word recognition", 1980.
//!
//! ```
//! use tractlet_core::signal::spectral::{Log, Magnitude, Spectral, SpectralShape};
//! use tractlet_core::signal::{mel::MelScale, taper::Taper};
//!
//! let shape = SpectralShape {
//!     rate_hz: 16000.0, frame: 480, hop: 320, fft: 512, taper: Taper::Hann, magnitude: Magnitude::Absolute,
//!     mel: Some(MelScale { bands: 40, low_hz: 20.0, high_hz: 4000.0 }),
//!     log: Some(Log::Natural { offset: 1e-6 }), coefficients: Some(10),
//! };
//! let mut mfcc = Spectral::new(shape)?;
//! assert_eq!((mfcc.frames(16000), mfcc.width()), (49, 10));
//! let mut features = [0f32; 490];
//! mfcc.run(&[0.0; 16000], 1, 0, 1.0, &mut features);
//! assert!((features[0] - 40.0 * 1e-6f32.ln() * (2f32 / 40.0).sqrt()).abs() < 1e-3);
//! # Ok::<(), tractlet_core::signal::Unfit>(())
//! ```

use core::f64::consts::PI;

use heapless::Vec;
use microfft::real;

use crate::kernels::root::sqrt;

use super::mel::{MAX_BANDS, MAX_BINS, MelBank, MelScale};
use super::taper::Taper;
use super::{Unfit, series};

/// The longest FFT.
pub const MAX_FFT: usize = 2048;
/// The most cepstral coefficients.
pub const MAX_COEFFICIENTS: usize = 64;

/// What is taken of a complex bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magnitude {
    /// Its absolute value.
    Absolute,
    /// The square of that.
    Power,
}

/// A logarithm that zero does not break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Log {
    /// ln(x + offset).
    Natural {
        /// Above 0.
        offset: f32,
    },
    /// 10 log10(x + offset).
    Decibel {
        /// Above 0.
        offset: f32,
    },
}

/// What to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpectralShape {
    /// Samples a second.
    pub rate_hz: f32,
    /// Samples of a frame, at most `fft`.
    pub frame: usize,
    /// Samples from the start of a frame to the start of the next.
    pub hop: usize,
    /// Length of the FFT: a power of two from 16 to [`MAX_FFT`]; frames are padded with zeros.
    pub fft: usize,
    /// What a frame is multiplied with.
    pub taper: Taper,
    /// What is taken of a bin.
    pub magnitude: Magnitude,
    /// Sums bins into bands.
    pub mel: Option<MelScale>,
    /// Of bins or bands.
    pub log: Option<Log>,
    /// The first of the cosine transform of bands.
    pub coefficients: Option<usize>,
}

impl SpectralShape {
    pub(super) const fn check(&self) -> Result<(), Unfit> {
        let offset = match self.log {
            Some(Log::Natural { offset } | Log::Decibel { offset }) => offset,
            None => 1.0,
        };
        let bands = match &self.mel {
            Some(mel) => mel.bands,
            None => 0,
        };
        let (field, expected) = if !self.fft.is_power_of_two() || self.fft < 16 || self.fft > MAX_FFT {
            ("fft", "a power of two from 16 to 2048")
        } else if self.frame == 0 || self.frame > self.fft {
            ("frame", "from 1 to `fft`")
        } else if self.hop == 0 {
            ("hop", "1 or more")
        } else if !(offset > 0.0 && offset.is_finite()) {
            ("log_offset", "above 0")
        } else if let Some(coefficients) = self.coefficients
            && (coefficients == 0 || coefficients > bands || coefficients > MAX_COEFFICIENTS)
        {
            ("coefficients", "from 1 to `bands`, and 64 at most")
        } else if let Some(mel) = &self.mel {
            return mel.check(self.rate_hz);
        } else {
            return Ok(());
        };
        Err(Unfit { field, expected })
    }

    /// Whole frames in `samples` samples of a channel.
    pub const fn frames(&self, samples: usize) -> usize {
        match samples.checked_sub(self.frame) {
            Some(rest) => rest / self.hop + 1,
            None => 0,
        }
    }

    /// Features of a frame: coefficients, bands or bins.
    pub const fn width(&self) -> usize {
        match (self.coefficients, &self.mel) {
            (Some(coefficients), _) => coefficients,
            (None, Some(mel)) => mel.bands,
            (None, None) => self.fft / 2 + 1,
        }
    }
}

/// What band `band` of `bands` counts in cosine `k`.
pub(super) const fn cosine(k: usize, band: usize, bands: usize) -> f64 {
    let angle = PI * k as f64 * (band as f64 + 0.5) / bands as f64;
    series::cos(angle) * series::sqrt(2.0 / bands as f64)
}

/// A front end with its tables: about 60 KB, whatever its shape.
#[derive(Debug)]
pub struct Spectral {
    shape: SpectralShape,
    taper: Vec<f32, MAX_FFT>,
    mel: Option<MelBank>,
    /// `coefficients` rows of a cosine for each band.
    cosines: Vec<f32, { MAX_COEFFICIENTS * MAX_BANDS }>,
    /// The frame, and in place its spectrum.
    samples: [f32; MAX_FFT],
    bins: [f32; MAX_BINS],
}

impl Spectral {
    /// Makes the tables.
    ///
    /// # Errors
    /// With the field that is out of range, or does not go with another.
    pub fn new(shape: SpectralShape) -> Result<Spectral, Unfit> {
        shape.check()?;
        let bins = shape.fft / 2 + 1;
        let mel = shape.mel.map(|scale| MelBank::new(scale, bins, shape.rate_hz)).transpose()?;
        let bands = mel.as_ref().map_or(0, MelBank::bands);
        let coefficients = shape.coefficients.unwrap_or(0);
        // Neither table is longer than its capacity: `frame` and `coefficients` are held above.
        let taper = (0..shape.frame).map(|n| shape.taper.at(n, shape.frame)).collect();
        let row = |k| (0..bands).map(move |band| cosine(k, band, bands) as f32);
        let cosines = (0..coefficients).flat_map(row).collect();
        Ok(Spectral { shape, taper, mel, cosines, samples: [0.0; MAX_FFT], bins: [0.0; MAX_BINS] })
    }

    /// Whole frames in `samples` samples of a channel.
    pub fn frames(&self, samples: usize) -> usize {
        self.shape.frames(samples)
    }

    /// Features of a frame.
    pub fn width(&self) -> usize {
        self.shape.width()
    }

    /// Features of one channel of interleaved samples, each times `gain`: [`Spectral::frames`] rows of
    /// [`Spectral::width`] in `out`.
    pub fn run(&mut self, samples: &[f32], channels: usize, channel: usize, gain: f32, out: &mut [f32]) {
        let (frames, width) = (self.frames(samples.len() / channels.max(1)), self.width());
        for (frame, row) in out.chunks_exact_mut(width).take(frames).enumerate() {
            let start = frame * self.shape.hop * channels;
            self.frame(super::channel(samples.get(start..).unwrap_or_default(), channels, channel), gain, row);
        }
    }

    fn frame(&mut self, samples: impl Iterator<Item = f32>, gain: f32, row: &mut [f32]) {
        self.samples.fill(0.0);
        for ((place, sample), factor) in self.samples.iter_mut().zip(samples).zip(&self.taper) {
            *place = sample * gain * factor;
        }
        self.transform();
        let bins = &self.bins[..self.shape.fft / 2 + 1];
        let Some(mel) = &self.mel else {
            row.copy_from_slice(bins);
            return logarithm(self.shape.log, row);
        };
        let mut bands = [0f32; MAX_BANDS];
        let bands = &mut bands[..mel.bands()];
        mel.apply(bins, bands);
        logarithm(self.shape.log, bands);
        if self.cosines.is_empty() {
            return row.copy_from_slice(bands);
        }
        for (coefficient, cosines) in row.iter_mut().zip(self.cosines.chunks_exact(bands.len())) {
            *coefficient = bands.iter().zip(cosines).map(|(band, cosine)| band * cosine).sum();
        }
    }

    /// From `samples` to the magnitude of `bins`.
    fn transform(&mut self) {
        macro_rules! by_size {
            ($($size:literal $fft:ident),*) => {
                match self.shape.fft {
                    $($size => self.samples.first_chunk_mut::<$size>().map(|samples| &real::$fft(samples)[..]),)*
                    _ => None,
                }
            };
        }
        let complex = by_size!(16 rfft_16, 32 rfft_32, 64 rfft_64, 128 rfft_128, 256 rfft_256, 512 rfft_512,
            1024 rfft_1024, 2048 rfft_2048);
        let magnitude = |power: f32| match self.shape.magnitude {
            Magnitude::Absolute => sqrt(power),
            Magnitude::Power => power,
        };
        // The real parts of frequency zero and of the highest share the first element.
        let Some([ends, inner @ ..]) = complex else { return };
        self.bins[0] = magnitude(ends.re * ends.re);
        self.bins[inner.len() + 1] = magnitude(ends.im * ends.im);
        for (bin, value) in self.bins[1..].iter_mut().zip(inner) {
            *bin = magnitude(value.re * value.re + value.im * value.im);
        }
    }
}

fn logarithm(log: Option<Log>, values: &mut [f32]) {
    match log {
        None => {}
        Some(Log::Natural { offset }) => values.iter_mut().for_each(|v| *v = libm::logf(*v + offset)),
        Some(Log::Decibel { offset }) => values.iter_mut().for_each(|v| *v = 10.0 * libm::log10f(*v + offset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(fft: usize) -> SpectralShape {
        SpectralShape {
            rate_hz: 100.0,
            frame: fft,
            hop: fft,
            fft,
            taper: Taper::Rectangular,
            magnitude: Magnitude::Power,
            mel: None,
            log: None,
            coefficients: None,
        }
    }

    #[test]
    fn bins_are_the_discrete_fourier_transform() {
        // Miri takes minutes for what is done in a second.
        for fft in [16, 32, 64, 128, 256, 512, 1024, 2048].into_iter().filter(|fft| !cfg!(miri) || *fft <= 128) {
            let samples: std::vec::Vec<f32> = (0..fft).map(|n| ((n * n + 3 * n) % 17) as f32 / 8.0 - 1.0).collect();
            let mut bins = std::vec![0f32; fft / 2 + 1];
            Spectral::new(plain(fft)).unwrap().run(&samples, 1, 0, 1.0, &mut bins);
            for (k, bin) in bins.iter().enumerate() {
                let (mut re, mut im) = (0f64, 0f64);
                for (n, &x) in samples.iter().enumerate() {
                    let angle = -2.0 * PI * ((k * n) % fft) as f64 / fft as f64;
                    re += f64::from(x) * libm::cos(angle);
                    im += f64::from(x) * libm::sin(angle);
                }
                let expected = re * re + im * im;
                assert!((f64::from(*bin) - expected).abs() < 1e-3 * (1.0 + expected), "fft {fft}, bin {k}");
            }
        }
    }

    #[test]
    fn a_channel_is_found_among_others() {
        let mut spectral = Spectral::new(plain(16)).unwrap();
        let interleaved: std::vec::Vec<f32> = (0..32).flat_map(|n| [0.0, (n % 4) as f32]).collect();
        let alone: std::vec::Vec<f32> = (0..32).map(|n| (n % 4) as f32).collect();
        let (mut a, mut b) = ([0f32; 18], [0f32; 18]);
        spectral.run(&interleaved, 2, 1, 2.0, &mut a);
        spectral.run(&alone, 1, 0, 2.0, &mut b);
        assert_eq!(a, b);
        assert!(a[9] > 0.0, "the second frame is there");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let field = |change: fn(&mut SpectralShape)| {
            let mut shape = plain(64);
            change(&mut shape);
            Spectral::new(shape).unwrap_err().field
        };
        assert_eq!(field(|s| s.fft = 100), "fft");
        assert_eq!(field(|s| s.frame = 65), "frame");
        assert_eq!(field(|s| s.hop = 0), "hop");
        assert_eq!(field(|s| s.coefficients = Some(10)), "coefficients");
        assert_eq!(field(|s| s.log = Some(Log::Natural { offset: 0.0 })), "log_offset");
    }
}
