//! The front end of models/kws_dscnn in fixed point, whose tables are made by the compiler.

use tractlet_core::signal::fixed::Fixed;
use tractlet_core::signal::mel::MelScale;
use tractlet_core::signal::spectral::{Log, Magnitude, SpectralShape};
use tractlet_core::signal::taper::Taper;

/// Samples of a window, and features of it.
pub const SAMPLES: usize = 16000;
pub const FEATURES: usize = 490;

pub const SHAPE: SpectralShape = SpectralShape {
    rate_hz: 16000.0,
    frame: 480,
    hop: 320,
    fft: 512,
    taper: Taper::Hann,
    magnitude: Magnitude::Absolute,
    mel: Some(MelScale { bands: 40, low_hz: 20.0, high_hz: 4000.0 }),
    log: Some(Log::Natural { offset: 1e-6 }),
    coefficients: Some(10),
};

pub static MFCC: Fixed<256, 400> = match Fixed::new(SHAPE) {
    Ok(mfcc) => mfcc,
    Err(_) => panic!("the shape does not fit"),
};
