//! From one rate to another: a low-pass filter in as many rows as there are places of an output between two inputs.
//!
//! Rates in the ratio `up / down` have `up` such places, so that a value is one dot product with the row of its place. The
//! filter is a sinc under a Kaiser window, 90 dB down from half the lower rate on, and flat to 0.82 of that. Sources: Crochiere
//! and Rabiner, "Interpolation and decimation of digital signals", 1981; Kaiser, "Nonrecursive digital filter design using the
//! I0-sinh window function", 1974.
//!
//! ```
//! use tractlet_core::signal::resample::{Ratio, Resampler};
//!
//! let ratio = Ratio::new(48000.0, 16000.0)?;
//! let room = ratio.room(1);
//! let mut resampler = Resampler::new(ratio, 1, vec![0f32; room.values], vec![0u64; room.times]).unwrap();
//! assert_eq!(resampler.push(&[1.0; 4], &[0, 20833, 41667, 62500]), 4);
//! resampler.end();
//! let mut frame = [0f32];
//! assert_eq!([resampler.next(&mut frame), resampler.next(&mut frame)], [Some(0), Some(62500)]);
//! assert_eq!(resampler.next(&mut frame), None);
//! # Ok::<(), tractlet_core::signal::Unfit>(())
//! ```

use core::f64::consts::PI;

use super::Unfit;

/// Zeros of the sinc on either side.
const CROSSINGS: usize = 32;
/// How far the filter is down where it stops, in decibels, and what follows from that by Kaiser's formulas: the window's
/// shape, and how wide the slope is as a part of the lower rate.
const STOP_DB: f64 = 90.0;
const BETA: f64 = 0.1102 * (STOP_DB - 8.7);
const SLOPE: f64 = (STOP_DB - 7.95) / (14.36 * 2.0 * CROSSINGS as f64);
/// The most that one rate may be of the other.
const MAX_STEP: u64 = 64;
/// The longest table: 1 MiB.
const MAX_TABLE: u64 = 1 << 18;
/// Frames that find room behind those that the next output depends on.
const PIECE: usize = 256;

/// Two rates as a fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    up: usize,
    down: usize,
    /// Nanoseconds from one place between two inputs to the next.
    place_ns: f64,
}

/// Memory that a [`Resampler`] works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Floats.
    pub values: usize,
    /// Times.
    pub times: usize,
}

impl Ratio {
    /// # Errors
    /// Where the rates are not in whole millihertz, too far apart, or in the ratio of large numbers alone.
    pub fn new(from_hz: f64, to_hz: f64) -> Result<Ratio, Unfit> {
        let unfit = |expected| Unfit { field: "rate_hz", expected };
        let whole = |hz: f64| {
            let millihertz = libm::round(hz * 1e3);
            let is_whole = (1.0..=1e12).contains(&millihertz) && libm::fabs(hz * 1e3 - millihertz) <= 1e-6 * millihertz;
            is_whole.then_some(millihertz as u64).ok_or(unfit("a number of whole millihertz to be resampled"))
        };
        let (from, to) = (whole(from_hz)?, whole(to_hz)?);
        if from > to * MAX_STEP || to > from * MAX_STEP {
            return Err(unfit("within 64 times the other rate to be resampled"));
        }
        let common = gcd(from, to);
        let (up, down) = (to / common, from / common);
        if up * taps(up, down) > MAX_TABLE {
            return Err(unfit("in a ratio of smaller numbers to the other rate to be resampled"));
        }
        Ok(Ratio { up: up as usize, down: down as usize, place_ns: 1e9 / (from_hz * up as f64) })
    }

    /// What a [`Resampler`] of so many channels needs.
    pub fn room(&self, channels: usize) -> Room {
        Room { values: self.up * self.taps() + channels * self.capacity(), times: self.capacity() }
    }

    /// Inputs that an output depends on.
    fn taps(&self) -> usize {
        taps(self.up as u64, self.down as u64) as usize
    }

    /// Frames that are kept: those of an output, what is given beside them, and the end.
    fn capacity(&self) -> usize {
        2 * self.taps() + PIECE
    }
}

fn taps(up: u64, down: u64) -> u64 {
    2 * (CROSSINGS as u64 * down.max(up)).div_ceil(up)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Brings frames to another rate. They keep their times: an output has that of the input before it, and the part of a period
/// beyond.
#[derive(Debug)]
pub struct Resampler<V, T> {
    ratio: Ratio,
    channels: usize,
    /// A row of `taps` for each place; behind them a channel's frames in succession, for each channel.
    values: V,
    /// A time for each frame.
    times: T,
    /// Where the inputs of the next output begin, and which place it has between the two in their middle.
    first: usize,
    place: usize,
    /// Frames that there are.
    end: usize,
    /// Whether a frame came since the last reset.
    begun: bool,
}

impl<V, T> Resampler<V, T>
where
    V: AsRef<[f32]> + AsMut<[f32]>,
    T: AsRef<[u64]> + AsMut<[u64]>,
{
    /// Makes the filter in memory as [`Ratio::room`] says; none where there is less.
    pub fn new(ratio: Ratio, channels: usize, mut values: V, times: T) -> Option<Self> {
        let room = ratio.room(channels);
        if channels == 0 || values.as_ref().len() < room.values || times.as_ref().len() < room.times {
            return None;
        }
        // The filter is as long before a place as behind it: from the middle on rows are those before it turned round.
        let (taps, middle) = (ratio.taps(), ratio.up / 2 + 1);
        let (designed, turned) = values.as_mut()[..ratio.up * taps].split_at_mut(middle * taps);
        designed.chunks_exact_mut(taps).enumerate().for_each(|(place, row)| design(&ratio, place, row));
        for (place, row) in (middle..ratio.up).zip(turned.chunks_exact_mut(taps)) {
            let of = &designed[(ratio.up - place) * taps..][..taps];
            row.iter_mut().zip(of.iter().rev()).for_each(|(to, from)| *to = *from);
        }
        let mut resampler = Resampler { ratio, channels, values, times, first: 0, place: 0, end: 0, begun: false };
        resampler.reset();
        Some(resampler)
    }

    /// Takes interleaved frames as far as there is room, and says how many that were: after [`Resampler::next`] gave all it
    /// had, at least one.
    pub fn push(&mut self, values: &[f32], times: &[u64]) -> usize {
        // What the end needs stays free.
        let capacity = self.ratio.capacity() - self.ratio.taps() / 2;
        if self.end == capacity {
            self.move_up();
        }
        let count = times.len().min(capacity - self.end);
        let (start, end) = (self.end, self.end + count);
        for channel in 0..self.channels {
            if let (false, Some(&value)) = (self.begun, values.get(channel)) {
                self.plane(channel)[..start].fill(value);
            }
            let from = values.iter().skip(channel).step_by(self.channels);
            self.plane(channel)[start..end].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        self.times.as_mut()[start..end].copy_from_slice(&times[..count]);
        (self.end, self.begun) = (end, self.begun || count > 0);
        count
    }

    /// Fills a frame and gives its time, if all came that it depends on.
    pub fn next(&mut self, frame: &mut [f32]) -> Option<u64> {
        let (taps, capacity) = (self.ratio.taps(), self.ratio.capacity());
        if self.first + taps > self.end {
            return None;
        }
        let (table, planes) = self.values.as_ref().split_at(self.ratio.up * taps);
        let row = &table[self.place * taps..][..taps];
        for (value, plane) in frame.iter_mut().zip(planes.chunks_exact(capacity)) {
            *value = dot(row, &plane[self.first..][..taps]);
        }
        let before = self.times.as_ref()[self.first + taps / 2 - 1];
        let time = before.saturating_add((self.place as f64 * self.ratio.place_ns) as u64);
        self.place += self.ratio.down;
        self.first += self.place / self.ratio.up;
        self.place %= self.ratio.up;
        Some(time)
    }

    /// Nothing follows: what is left to give is as if the last frame stayed. To be called once, until [`Resampler::reset`].
    pub fn end(&mut self) {
        self.move_up();
        let (start, end) = (self.end, self.end + self.ratio.taps() / 2);
        for channel in 0..self.channels {
            let plane = self.plane(channel);
            let last = start.checked_sub(1).map_or(0.0, |last| plane[last]);
            plane[start..end].fill(last);
        }
        self.times.as_mut()[start..end].fill(0);
        self.end = end;
    }

    /// What comes now follows nothing: it is as if its first frame had been there before.
    pub fn reset(&mut self) {
        let before = self.ratio.taps() / 2 - 1;
        (0..self.channels).for_each(|channel| self.plane(channel)[..before].fill(0.0));
        (self.first, self.place, self.end, self.begun) = (0, 0, before, false);
    }

    /// Frames that no output depends on any more make room.
    fn move_up(&mut self) {
        let gone = self.first.min(self.end);
        let kept = gone..self.end;
        (0..self.channels).for_each(|channel| self.plane(channel).copy_within(kept.clone(), 0));
        self.times.as_mut().copy_within(kept.clone(), 0);
        (self.first, self.end) = (self.first - gone, kept.len());
    }

    fn plane(&mut self, channel: usize) -> &mut [f32] {
        let (table, capacity) = (self.ratio.up * self.ratio.taps(), self.ratio.capacity());
        &mut self.values.as_mut()[table + channel * capacity..][..capacity]
    }
}

/// The row of a place, whose sum is 1: what stands still stays as it is.
fn design(ratio: &Ratio, place: usize, row: &mut [f32]) {
    let half = row.len() as f64 / 2.0;
    let cutoff = (1.0 - SLOPE) * (ratio.up as f64 / ratio.down as f64).min(1.0);
    let at = |tap: usize| {
        let t = tap as f64 - (half - 1.0) - place as f64 / ratio.up as f64;
        let angle = PI * cutoff * t;
        let sinc = if angle == 0.0 { 1.0 } else { libm::sin(angle) / angle };
        let within = 1.0 - (t / half) * (t / half);
        sinc * bessel(BETA * libm::sqrt(within.max(0.0)))
    };
    row.iter_mut().enumerate().for_each(|(tap, value)| *value = at(tap) as f32);
    let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
    row.iter_mut().for_each(|value| *value = (f64::from(*value) / sum) as f32);
}

/// The modified Bessel function of the first kind and order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > 1e-17 * sum {
        term *= (x / (2.0 * k)) * (x / (2.0 * k));
        sum += term;
        k += 1.0;
    }
    sum
}

/// In sums that vectors have lanes for.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use std::{println, vec};

    /// All that comes of `frames` inputs of a function of time, given in pieces.
    fn resampled(from_hz: f64, to_hz: f64, frames: usize, value: impl Fn(f64) -> f64) -> (Vec<f32>, Vec<u64>) {
        let ratio = Ratio::new(from_hz, to_hz).unwrap();
        let room = ratio.room(2);
        let mut resampler = Resampler::new(ratio, 2, std::vec![0f32; room.values], std::vec![0; room.times]).unwrap();
        let (mut values, mut times, mut frame) = (Vec::new(), Vec::new(), [0f32; 2]);
        let mut all = |resampler: &mut Resampler<Vec<f32>, Vec<u64>>| {
            while let Some(time) = resampler.next(&mut frame) {
                assert!((frame[1] + 2.0 * frame[0]).abs() < 1e-5, "channels are apart");
                values.push(frame[0]);
                times.push(time);
            }
        };
        let (mut given, mut piece) = (0, 1);
        while given < frames {
            let count = piece.min(frames - given);
            let seconds = |index: usize| (given + index) as f64 / from_hz;
            let input: Vec<f32> =
                (0..count).flat_map(|i| [value(seconds(i)), -2.0 * value(seconds(i))]).map(|v| v as f32).collect();
            let at: Vec<u64> = (0..count).map(|i| (seconds(i) * 1e9) as u64).collect();
            let taken = resampler.push(&input, &at);
            assert!(taken > 0);
            given += taken;
            piece = piece % 701 + 37;
            all(&mut resampler);
        }
        resampler.end();
        all(&mut resampler);
        (values, times)
    }

    /// How far `found` is from `expected`, in decibels, its two ends apart.
    fn error_db(found: &[f32], expected: impl Fn(usize) -> f64, power: f64) -> f64 {
        let middle = 200..found.len() - 200;
        let squares: f64 = middle.clone().map(|n| (f64::from(found[n]) - expected(n)).powi(2)).sum();
        10.0 * (squares / middle.len() as f64 / power).log10()
    }

    #[test]
    fn a_tone_stays_what_it_is_and_keeps_its_time() {
        for (from, to) in [(44100.0, 16000.0), (48000.0, 16000.0), (8000.0, 16000.0), (11025.0, 16000.0), (104.0, 50.0)]
        {
            let low = f64::min(from, to);
            for part in [0.01, 0.1, 0.4] {
                let tone = |t: f64| (2.0 * PI * part * low * t + 0.3).sin();
                let frames = (4000.0 * from / to) as usize;
                let (found, times) = resampled(from, to, frames, tone);
                assert_eq!(found.len(), (frames as f64 * to / from).ceil() as usize);
                let db = error_db(&found, |n| tone(n as f64 / to), 0.5);
                println!("{from} to {to} Hz, tone at {part} of the lower: {db:.1} dB");
                assert!(db < -85.0, "{from} to {to}, {part}: {db}");
                let late = |(n, time): (usize, &u64)| (*time as f64 - n as f64 * 1e9 / to).abs();
                assert!(times.iter().enumerate().map(late).fold(0.0, f64::max) < 2.0);
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_have_is_not_folded_into_it() {
        for (from, to, hz) in [(48000.0, 16000.0, 9000.0), (44100.0, 16000.0, 8001.0), (100.0, 50.0, 30.0)] {
            let (found, _) = resampled(from, to, (4000.0 * from / to) as usize, |t| (2.0 * PI * hz * t).sin());
            let db = error_db(&found, |_| 0.0, 0.5);
            println!("{from} to {to} Hz, tone at {hz} Hz: {db:.1} dB");
            assert!(db < -85.0, "{from} to {to}, {hz}: {db}");
        }
        let (still, _) = resampled(26.0, 50.0, 1000, |_| 9.81);
        assert!(still.iter().all(|value| (value - 9.81).abs() < 1e-4), "what does not move, does so from end to end");
    }

    #[test]
    fn every_row_is_as_it_was_designed() {
        for (from, to) in [(8000.0, 16000.0), (44100.0, 16000.0), (2.0, 3.0), (100.0, 25.0)] {
            let ratio = Ratio::new(from, to).unwrap();
            let room = ratio.room(1);
            let resampler = Resampler::new(ratio, 1, vec![0f32; room.values], vec![0u64; room.times]).unwrap();
            let mut row = vec![0f32; ratio.taps()];
            for (place, found) in resampler.values.chunks_exact(ratio.taps()).take(ratio.up).enumerate() {
                design(&ratio, place, &mut row);
                let apart = row.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-7, "{from} to {to}, place {place}: {apart}");
            }
        }
    }

    #[test]
    fn rates_that_have_no_small_ratio_are_refused() {
        let unfit = |from, to| Ratio::new(from, to).unwrap_err().expected;
        assert!(unfit(16000.0, 0.0).contains("millihertz") && unfit(1.0 / 3.0, 1.0).contains("millihertz"));
        assert!(unfit(50.0, 16000.0).contains("64 times") && unfit(f64::NAN, 1.0).contains("millihertz"));
        assert!(unfit(44101.0, 16000.0).contains("smaller numbers"));
        assert!(Ratio::new(1600.0, 25.0).is_ok());
    }
}
