//! From a window of samples to what a model takes. Nothing allocates, and tables are made once.
//!
//! - [`fixed`]: what [`spectral`] gives of mel bands, in integers
//! - [`mel`]: triangular filters on the mel scale
//! - [`resample`]: frames brought to another rate
//! - [`spectral`]: frames, real FFT, mel bands, logarithm, cosine transform: spectrum, log-mel or MFCC
//! - [`stats`]: peak, root mean square, mean and deviation of a channel
//! - [`taper`]: window functions
//!
//! Samples of several channels lie interleaved, as frames come from a sensor.

pub mod fixed;
pub mod mel;
pub mod resample;
mod series;
pub mod spectral;
pub mod stats;
pub mod taper;

/// A front end that cannot be made: which field, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Name of the field.
    pub field: &'static str,
    /// What it has to be.
    pub expected: &'static str,
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "`{}` has to be {}", self.field, self.expected)
    }
}

impl core::error::Error for Unfit {}

/// One channel of interleaved samples.
pub fn channel<T: Copy>(samples: &[T], channels: usize, channel: usize) -> impl Iterator<Item = T> + Clone + '_ {
    samples.iter().skip(channel).step_by(channels.max(1)).copied()
}
