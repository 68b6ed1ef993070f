//! Input for measurements, the same on every machine.

use tractlet::DType;

use super::runner::Runner;

/// What [`fill`] puts in, for the report.
pub const WHAT: &str = "pseudo-random (floats in [-1, 1), 8- and 16-bit integers of any value, all else 0)";

/// Fills a runner's inputs. Wide integers are mostly indices, of which 0 is always good.
pub fn fill(runner: &mut Runner) {
    let mut state = 0;
    runner.fill(|dtype, bytes| match dtype {
        DType::F32 => bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = (unit(&mut state) as f32).to_le_bytes()),
        DType::F64 => bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = unit(&mut state).to_le_bytes()),
        DType::I8 | DType::U8 | DType::I16 | DType::U16 => {
            bytes.iter_mut().for_each(|b| *b = split_mix(&mut state) as u8)
        }
        _ => bytes.fill(0),
    });
}

/// In [-1, 1), with as many bits as an f32 holds.
fn unit(state: &mut u64) -> f64 {
    (split_mix(state) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
