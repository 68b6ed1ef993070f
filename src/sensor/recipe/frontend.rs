//! `[frontend]`: from a window to the model's input.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tractlet_core::signal::mel::MelScale;
use tractlet_core::signal::spectral::{Log, Magnitude, Spectral, SpectralShape};
use tractlet_core::signal::taper::Taper;

use super::input::Input;
use crate::sensor::fixed::FixedPoint;

/// What is computed of a window.
#[derive(Clone, Debug, PartialEq)]
pub enum FrontendKind {
    /// The samples themselves, `window` frames of all channels.
    Samples {
        /// In which order they are laid.
        layout: Layout,
        /// What is done to each channel.
        normalization: Normalization,
    },
    /// The root mean square of each channel: one value a channel.
    Rms,
    /// A short-time spectrum, and what is made of it: for each channel, frames of features.
    Spectral {
        /// What to compute.
        shape: SpectralShape,
        /// Each channel of a window is divided by its largest value before, with its sign, where that is above 0.
        peak_scaled: bool,
        /// In what.
        arithmetic: Arithmetic,
    },
}

/// What a spectrum is computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// Floats of 32 bits.
    #[default]
    Float,
    /// Integers, of samples of 16 bits from -1 to 1: what a core without an FPU computes, in every bit.
    Fixed,
}

/// The order of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All samples of the first channel, then of the second: [channels, time].
    ChannelsFirst,
    /// All channels of the first frame, then of the second: [time, channels].
    TimeFirst,
}

/// What is done to the samples of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Normalization {
    /// Nothing.
    None,
    /// Less the window's mean, by the window's deviation; a channel that stands still becomes zeros.
    ZScore,
    /// Less a mean, by a deviation, one of each for each channel: those of the training data.
    Standard {
        /// In the channel's unit.
        mean: Vec<f32>,
        /// In the channel's unit, above 0.
        deviation: Vec<f32>,
    },
}

/// What `kind` says that the table is.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontendName {
    Samples,
    Rms,
    Spectrum,
    LogMel,
    Mfcc,
}

pub enum FrontendFile {
    Samples(SamplesFile),
    Rms(RmsFile),
    Spectrum(SpectrumFile),
    LogMel(LogMelFile),
    Mfcc(MfccFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    layout: Layout,
    #[serde(default)]
    normalize: Normalize,
    #[serde(default)]
    mean: Vec<f32>,
    #[serde(default)]
    deviation: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpectrumFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    frame: usize,
    hop: usize,
    fft: usize,
    #[serde(default)]
    taper: TaperName,
    #[serde(default)]
    magnitude: MagnitudeName,
    log: Option<LogName>,
    log_offset: Option<f32>,
    #[serde(default)]
    scale: ScaleName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogMelFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    frame: usize,
    hop: usize,
    fft: usize,
    #[serde(default)]
    taper: TaperName,
    #[serde(default)]
    magnitude: MagnitudeName,
    bands: usize,
    low_hz: f32,
    high_hz: f32,
    #[serde(default)]
    log: LogName,
    log_offset: f32,
    #[serde(default)]
    scale: ScaleName,
    #[serde(default)]
    arithmetic: Arithmetic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MfccFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    frame: usize,
    hop: usize,
    fft: usize,
    #[serde(default)]
    taper: TaperName,
    #[serde(default)]
    magnitude: MagnitudeName,
    bands: usize,
    low_hz: f32,
    high_hz: f32,
    log_offset: f32,
    coefficients: usize,
    #[serde(default)]
    scale: ScaleName,
    #[serde(default)]
    arithmetic: Arithmetic,
}

/// The table in the text of a recipe.
#[derive(Deserialize)]
struct Holding<T> {
    frontend: T,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    #[default]
    None,
    ZScore,
    Standard,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaperName {
    #[default]
    Hann,
    Hamming,
    Rectangular,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MagnitudeName {
    #[default]
    Absolute,
    Power,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogName {
    #[default]
    Natural,
    Decibel,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleName {
    #[default]
    None,
    Peak,
}

impl FrontendFile {
    /// Reads the table of a recipe as one of that kind: into the type itself, so that a fault has its line.
    pub fn read(text: &str, kind: FrontendName) -> Result<FrontendFile, String> {
        fn table<T: DeserializeOwned>(text: &str) -> Result<T, String> {
            crate::from_toml(text).map(|Holding { frontend }| frontend)
        }
        Ok(match kind {
            FrontendName::Samples => FrontendFile::Samples(table(text)?),
            FrontendName::Rms => FrontendFile::Rms(table(text)?),
            FrontendName::Spectrum => FrontendFile::Spectrum(table(text)?),
            FrontendName::LogMel => FrontendFile::LogMel(table(text)?),
            FrontendName::Mfcc => FrontendFile::Mfcc(table(text)?),
        })
    }

    pub fn check(self, input: &Input) -> Result<FrontendKind, String> {
        let channels = input.channels.len();
        let base = |frame, hop, fft, taper: TaperName, magnitude: MagnitudeName| SpectralShape {
            // Mel bands alone need it, and say where it is missing.
            rate_hz: input.rate_hz.unwrap_or(0.0) as f32,
            frame,
            hop,
            fft,
            taper: match taper {
                TaperName::Hann => Taper::Hann,
                TaperName::Hamming => Taper::Hamming,
                TaperName::Rectangular => Taper::Rectangular,
            },
            magnitude: match magnitude {
                MagnitudeName::Absolute => Magnitude::Absolute,
                MagnitudeName::Power => Magnitude::Power,
            },
            mel: None,
            log: None,
            coefficients: None,
        };
        let logarithm = |name, offset| match name {
            LogName::Natural => Log::Natural { offset },
            LogName::Decibel => Log::Decibel { offset },
        };
        let (shape, scale, arithmetic) = match self {
            FrontendFile::Rms(_) => return Ok(FrontendKind::Rms),
            FrontendFile::Samples(SamplesFile { layout, normalize, mean, deviation, .. }) => {
                let normalization = normalization(normalize, mean, deviation, channels)?;
                return Ok(FrontendKind::Samples { layout, normalization });
            }
            FrontendFile::Spectrum(file) => {
                let log = match (file.log, file.log_offset) {
                    (None, None) => None,
                    (Some(log), Some(offset)) => Some(logarithm(log, offset)),
                    _ => return Err("`frontend.log` and `frontend.log_offset` go together; give both or none".into()),
                };
                let base = base(file.frame, file.hop, file.fft, file.taper, file.magnitude);
                (SpectralShape { log, ..base }, file.scale, Arithmetic::Float)
            }
            FrontendFile::LogMel(file) => {
                let mel = Some(MelScale { bands: file.bands, low_hz: file.low_hz, high_hz: file.high_hz });
                let log = Some(logarithm(file.log, file.log_offset));
                let base = base(file.frame, file.hop, file.fft, file.taper, file.magnitude);
                (SpectralShape { mel, log, ..base }, file.scale, file.arithmetic)
            }
            FrontendFile::Mfcc(file) => {
                let mel = Some(MelScale { bands: file.bands, low_hz: file.low_hz, high_hz: file.high_hz });
                let log = Some(Log::Natural { offset: file.log_offset });
                let coefficients = Some(file.coefficients);
                let base = base(file.frame, file.hop, file.fft, file.taper, file.magnitude);
                (SpectralShape { mel, log, coefficients, ..base }, file.scale, file.arithmetic)
            }
        };
        if shape.mel.is_some() && input.rate_hz.is_none() {
            return Err("mel bands are in hertz: `input.rate_hz` is missing".into());
        }
        let made = match arithmetic {
            Arithmetic::Float => Spectral::new(shape).map(drop),
            Arithmetic::Fixed => FixedPoint::new(shape, false, 0, 0).map(drop),
        };
        made.map_err(|unfit| format!("`frontend.{}` has to be {}", unfit.field, unfit.expected))?;
        if shape.frames(input.windowing.length) == 0 {
            let window = input.windowing.length;
            return Err(format!("`frontend.frame` is {} samples, and `input.window` only {window}", shape.frame));
        }
        Ok(FrontendKind::Spectral { shape, peak_scaled: scale == ScaleName::Peak, arithmetic })
    }
}

fn normalization(
    kind: Normalize,
    mean: Vec<f32>,
    deviation: Vec<f32>,
    channels: usize,
) -> Result<Normalization, String> {
    if kind != Normalize::Standard {
        if !mean.is_empty() || !deviation.is_empty() {
            return Err("`frontend.mean` and `frontend.deviation` are for normalize = \"standard\"".into());
        }
        return Ok(if kind == Normalize::ZScore { Normalization::ZScore } else { Normalization::None });
    }
    for (field, values) in [("mean", &mean), ("deviation", &deviation)] {
        if values.len() != channels {
            let found = values.len();
            return Err(format!("`frontend.{field}` has {found} values; expected one for each of {channels} channels"));
        }
        // Values are multiplied with a deviation's reciprocal.
        let divides = |value: f32| value > 0.0 && value.recip().is_finite();
        if let Some(bad) = values.iter().find(|v| !v.is_finite() || (field == "deviation" && !divides(**v))) {
            return Err(format!("`frontend.{field}` holds {bad:e}; expected finite numbers, deviations above 3e-39"));
        }
    }
    Ok(Normalization::Standard { mean, deviation })
}
