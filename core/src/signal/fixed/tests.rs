use super::*;
use crate::signal::mel::MelScale;
use crate::signal::spectral::{MAX_FFT, Spectral};
use crate::signal::taper::Taper;
use std::println;
use std::vec::Vec;

type Large = Fixed<{ MAX_FFT / 2 }, { 64 * MAX_BANDS }>;

fn keywords() -> SpectralShape {
    SpectralShape {
        rate_hz: 16000.0,
        frame: 480,
        hop: 320,
        fft: 512,
        taper: Taper::Hann,
        magnitude: Magnitude::Absolute,
        mel: Some(MelScale { bands: 40, low_hz: 20.0, high_hz: 4000.0 }),
        log: Some(Log::Natural { offset: 1e-6 }),
        coefficients: Some(10),
    }
}

/// Harmonics of a voice that glides, and noise, of 16 bits.
fn voice(len: usize, loudness: f64) -> Vec<i16> {
    let mut noise = 1u32;
    let sample = |n: usize| {
        noise = noise.wrapping_mul(1664525).wrapping_add(1013904223);
        let (t, hiss) = (n as f64 / 16000.0, f64::from(noise >> 8) / f64::from(1 << 24) - 0.5);
        let tone: f64 = (1..30).map(|k| libm::sin(f64::from(k) * t * (800.0 + 300.0 * t)) / f64::from(k)).sum();
        ((tone * 0.5 + hiss * 0.05) * loudness) as i16
    };
    (0..len).map(sample).collect()
}

/// Features in fixed point and in floats of a second of sound, divided by its peak.
fn both(shape: SpectralShape, samples: &[i16]) -> (Vec<f32>, Vec<f32>) {
    let fixed = Large::new(shape).unwrap();
    let count = shape.frames(samples.len()) * shape.width();
    let (mut integers, mut floats) = (std::vec![0; count], std::vec![0.0; count]);
    let unit = peak(samples.iter().copied()).unwrap_or(FULL_SCALE);
    fixed.run(samples, 1, 0, unit, &mut [[0; 2]; MAX_FFT / 2], &mut integers);
    let samples: Vec<f32> = samples.iter().map(|&sample| f32::from(sample) / 32768.0).collect();
    Spectral::new(shape).unwrap().run(&samples, 1, 0, 32768.0 / f32::from(unit), &mut floats);
    (integers.into_iter().map(value).collect(), floats)
}

fn worst(shape: SpectralShape, samples: &[i16]) -> f32 {
    let (fixed, float) = both(shape, samples);
    assert!(float.iter().all(|value| value.is_finite()));
    fixed.iter().zip(&float).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn features_are_those_in_floats_loud_or_quiet() {
    for loudness in [32767.0, 1000.0, 30.0] {
        let samples = voice(16000, loudness);
        let error = worst(keywords(), &samples);
        println!("mfcc, loudness {loudness}: {error:.1e}");
        assert!(error < 2e-4, "loudness {loudness}: {error}");
    }
}

#[test]
fn so_they_are_in_every_shape() {
    let samples = voice(8000, 20000.0);
    for fft in [16, 128, 1024, 2048] {
        for magnitude in [Magnitude::Absolute, Magnitude::Power] {
            for (taper, log) in [
                (Taper::Hamming, Log::Decibel { offset: 1e-10 }),
                (Taper::Rectangular, Log::Natural { offset: 1e20 }),
                (Taper::Hann, Log::Natural { offset: 1e-3 }),
            ] {
                let mel = Some(MelScale { bands: 20, low_hz: 0.0, high_hz: 8000.0 });
                let (frame, hop) = (fft, fft / 2);
                let shape = SpectralShape {
                    fft,
                    frame,
                    hop,
                    magnitude,
                    taper,
                    mel,
                    log: Some(log),
                    coefficients: None,
                    ..keywords()
                };
                let error = worst(shape, &samples);
                println!("{fft} {magnitude:?} {taper:?} {log:?}: {error:.1e}");
                assert!(error < 2e-3, "{shape:?}: {error}");
            }
        }
    }
}

#[test]
fn extremes_neither_overflow_nor_divide_by_zero() {
    type Sound = (&'static str, fn(usize) -> i16);
    let extremes: [Sound; 6] = [
        ("silence", |_| 0),
        ("the largest", |_| i16::MAX),
        ("the smallest", |_| i16::MIN),
        ("half the rate", |n| if n % 2 == 0 { i16::MAX } else { i16::MIN }),
        ("a square wave", |n| if n / 16 % 2 == 0 { i16::MAX } else { i16::MIN }),
        ("one sample", |n| if n == 700 { 1 } else { 0 }),
    ];
    for (name, sample) in extremes {
        let samples: Vec<i16> = (0..16000).map(sample).collect();
        for magnitude in [Magnitude::Absolute, Magnitude::Power] {
            let mel = Some(MelScale { bands: 40, low_hz: 0.0, high_hz: 8000.0 });
            for fft in [16, 2048] {
                let (frame, hop) = (fft, fft);
                // Where a tone is, floats leave 1e-4 of it in bins without any: that is not to count.
                let log = Some(Log::Natural { offset: 1.0 });
                let shape =
                    SpectralShape { fft, frame, hop, magnitude, mel, log, taper: Taper::Rectangular, ..keywords() };
                let error = worst(shape, &samples);
                println!("{name}, {fft} {magnitude:?}: {error:.1e}");
                assert!(error < 1e-3, "{name}, {magnitude:?}, fft {fft}: {error}");
            }
        }
    }
}

#[test]
fn a_channel_is_found_among_others() {
    let samples = voice(2000, 5000.0);
    let two: Vec<i16> = samples.iter().flat_map(|&sample| [-1, sample]).collect();
    let mfcc = Fixed::<256, 400>::new(keywords()).unwrap();
    let mut work = [[0; 2]; 256];
    let (mut one, mut other) = ([0; 50], [0; 50]);
    mfcc.run(&samples, 1, 0, FULL_SCALE, &mut work, &mut one);
    mfcc.run(&two, 2, 1, FULL_SCALE, &mut work, &mut other);
    assert!(one == other && one.iter().all(|&feature| feature != 0), "{one:?}");
}

#[test]
fn what_does_not_fit_is_named() {
    let field = |shape| Fixed::<256, 400>::new(shape).unwrap_err().field;
    assert_eq!(field(SpectralShape { fft: 1024, ..keywords() }), "fft");
    assert_eq!(field(SpectralShape { coefficients: Some(11), ..keywords() }), "coefficients");
    assert_eq!(field(SpectralShape { hop: 0, ..keywords() }), "hop");
    assert_eq!(field(SpectralShape { mel: None, coefficients: None, ..keywords() }), "kind");
    let mel = Some(MelScale { bands: 40, low_hz: 20.0, high_hz: 9000.0 });
    assert_eq!(field(SpectralShape { mel, ..keywords() }), "high_hz");
}
