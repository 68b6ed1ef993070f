//! Frames on their way from a source to the ring.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::sensor::unit::Line;

/// Values that are handed on at once, about.
const BATCH_VALUES: usize = 4096;

/// Some frames with their times, in memory that is allocated once.
pub struct Batch {
    /// Interleaved channels.
    values: Vec<f32>,
    /// A time for each frame, in nanoseconds.
    times: Vec<u64>,
    capacity: usize,
    /// From what the source gives to what the model takes, for each channel.
    lines: Vec<Line>,
    clock: Clock,
}

/// The time of frames that bring none of their own.
struct Clock {
    period_ns: f64,
    /// Frames of a recording so far, the malformed included: each took its time.
    number: u64,
    /// A recording starts at 0; a live source has the time of day at which its frames arrived.
    now_ns: Option<u64>,
}

impl Batch {
    /// `paced` is for a replay at real speed: a batch is then no more than what happens in 20 ms.
    pub(super) fn new(lines: Vec<Line>, rate_hz: Option<f64>, recorded: bool, paced: bool) -> Batch {
        let most = (BATCH_VALUES / lines.len().max(1)).max(1);
        let capacity = if paced { rate_hz.map_or(1, |rate| (rate * 0.02) as usize).clamp(1, most) } else { most };
        let clock = Clock {
            period_ns: rate_hz.map_or(0.0, |rate| 1e9 / rate),
            number: 0,
            now_ns: (!recorded).then(time_of_day_ns),
        };
        Batch {
            values: Vec::with_capacity(capacity * lines.len()),
            times: Vec::with_capacity(capacity),
            capacity,
            lines,
            clock,
        }
    }

    /// Values of all frames, interleaved.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A time for each frame, in nanoseconds.
    pub fn times(&self) -> &[u64] {
        &self.times
    }

    /// How many frames it has.
    pub fn frames(&self) -> usize {
        self.times.len()
    }

    /// Whether it has room for no more.
    pub fn is_full(&self) -> bool {
        self.frames() >= self.capacity
    }

    /// Forgets its frames.
    pub fn clear(&mut self) {
        self.values.clear();
        self.times.clear();
    }

    /// Adds a frame of what the source gave, with its own time if it has one; not where a value is not finite
    /// in the end, and then tells which channel.
    pub(super) fn push(&mut self, raw: &[f64], time_ns: Option<u64>) -> Result<(), usize> {
        let start = self.values.len();
        for (channel, (value, line)) in raw.iter().zip(&self.lines).enumerate() {
            let value = line.at(*value) as f32;
            if !value.is_finite() {
                self.values.truncate(start);
                return Err(channel);
            }
            self.values.push(value);
        }
        let time_ns = time_ns.unwrap_or_else(|| self.clock.frame());
        self.clock.number += 1;
        self.times.push(time_ns);
        Ok(())
    }

    /// A frame was there and did not decode: its time passed.
    pub(super) fn missed(&mut self) {
        self.clock.number += 1;
    }

    /// What is added next has just arrived.
    pub(super) fn came_now(&mut self) {
        if self.clock.now_ns.is_some() {
            self.clock.now_ns = Some(time_of_day_ns());
        }
    }
}

impl Clock {
    fn frame(&self) -> u64 {
        self.now_ns.unwrap_or((self.number as f64 * self.period_ns) as u64)
    }
}

fn time_of_day_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
