//! Frames of a source on their way to the model's rate.

use tractlet_core::signal::Unfit;
use tractlet_core::signal::resample::{Ratio, Resampler};

/// Values that are handed on at once, about.
const PIECE_VALUES: usize = 2048;

/// A resampler in memory that is allocated once.
pub struct Resampling {
    channels: usize,
    resampler: Resampler<Box<[f32]>, Box<[u64]>>,
    /// What is handed on next.
    values: Vec<f32>,
    times: Vec<u64>,
    capacity: usize,
}

impl Resampling {
    /// # Errors
    /// Where the two rates have no ratio that it takes.
    pub fn new(from_hz: f64, to_hz: f64, channels: usize) -> Result<Resampling, Unfit> {
        let ratio = Ratio::new(from_hz, to_hz)?;
        let room = ratio.room(channels);
        let memory = (vec![0.0; room.values].into_boxed_slice(), vec![0; room.times].into_boxed_slice());
        let none = Unfit { field: "channels", expected: "1 or more to be resampled" };
        let resampler = Resampler::new(ratio, channels, memory.0, memory.1).ok_or(none)?;
        let capacity = (PIECE_VALUES / channels).max(1);
        let (values, times) = (Vec::with_capacity(capacity * channels), Vec::with_capacity(capacity));
        Ok(Resampling { channels, resampler, values, times, capacity })
    }

    /// Gives what follows from these frames, in pieces.
    pub fn push(&mut self, mut values: &[f32], mut times: &[u64], mut give: impl FnMut(&[f32], &[u64])) {
        while !times.is_empty() {
            let taken = self.resampler.push(values, times);
            values = values.get(taken * self.channels..).unwrap_or_default();
            times = times.get(taken..).unwrap_or_default();
            self.drain(&mut give);
        }
    }

    /// Gives what is left; what comes later follows nothing.
    pub fn end(&mut self, mut give: impl FnMut(&[f32], &[u64])) {
        self.resampler.end();
        self.drain(&mut give);
        self.resampler.reset();
    }

    fn drain(&mut self, give: &mut impl FnMut(&[f32], &[u64])) {
        let mut more = true;
        while more {
            while more && self.times.len() < self.capacity {
                let start = self.values.len();
                self.values.resize(start + self.channels, 0.0);
                match self.resampler.next(self.values.get_mut(start..).unwrap_or_default()) {
                    Some(time) => self.times.push(time),
                    None => {
                        self.values.truncate(start);
                        more = false;
                    }
                }
            }
            if !self.times.is_empty() {
                give(&self.values, &self.times);
            }
            self.values.clear();
            self.times.clear();
        }
    }
}
