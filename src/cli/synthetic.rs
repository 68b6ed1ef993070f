//! Input for measurements, the same on every machine.

use tractlet::DType;
use tractlet_io::Noise;

use super::runner::Runner;

/// What [`fill`] puts in, for the report.
pub const WHAT: &str = "pseudo-random (floats in [-1, 1), 8- and 16-bit integers of any value, all else 0)";

/// Fills a runner's inputs. Wide integers are mostly indices, of which 0 is always good.
pub fn fill(runner: &mut Runner) {
    let mut noise = Noise::default();
    runner.fill(|dtype, bytes| match dtype {
        DType::F32 => bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = (noise.unit() as f32).to_le_bytes()),
        DType::F64 => bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = noise.unit().to_le_bytes()),
        DType::I8 | DType::U8 | DType::I16 | DType::U16 => bytes.iter_mut().for_each(|b| *b = noise.number() as u8),
        _ => bytes.fill(0),
    });
}
