//! Features in fixed point of the first second of 16-bit samples in a file, one a line as hexadecimal: what the firmware of
//! `targets/` has to print of the same.

mod front;

use std::process::ExitCode;
use std::{env, fs};

use front::{FEATURES, MFCC, SAMPLES};
use tractlet_core::signal::fixed::{FULL_SCALE, peak};

fn main() -> ExitCode {
    let bytes = match env::args().nth(1).map(fs::read) {
        Some(Ok(bytes)) if bytes.len() >= 2 * SAMPLES => bytes,
        _ => {
            eprintln!("usage: mfcc FILE, of {SAMPLES} little-endian samples of 16 bits or more");
            return ExitCode::from(2);
        }
    };
    let samples: Vec<i16> =
        bytes.chunks_exact(2).take(SAMPLES).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect();
    let (mut work, mut features) = ([[0; 2]; 256], [0; FEATURES]);
    let unit = peak(samples.iter().copied()).unwrap_or(FULL_SCALE);
    MFCC.run(&samples, 1, 0, unit, &mut work, &mut features);
    features.iter().for_each(|feature| println!("feature {feature:08x}"));
    ExitCode::SUCCESS
}
