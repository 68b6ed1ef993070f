//! Whether the times that frames bring along are those of frames in succession.

use super::SourceError;

/// A step in time of more periods than this is a gap, and of more than this part of a window: loggers are late now and then,
/// and stamp what came in one packet with one time.
const LATE_PERIODS: f64 = 5.0;
const LATE_WINDOWS: f64 = 0.25;
/// A window that takes so much longer or shorter than the rate says is told of.
const FACTOR: f64 = 1.5;
/// So many gaps in succession are no gaps: the times are not what they were said to be.
const MAX_GAPS: u32 = 16;

/// Holds times against the rate, and against each other.
pub struct Timeline {
    /// Of the source.
    name: String,
    /// Frames of a window.
    length: usize,
    /// By the rate, where there is one.
    period_ns: Option<f64>,
    /// The frame before.
    last_ns: Option<u64>,
    /// The first of a window's worth of frames that are counted, and how many there are.
    first_ns: u64,
    count: usize,
    gaps_in_succession: u32,
    has_told_gap: bool,
    has_told_rate: bool,
}

impl Timeline {
    pub fn new(name: String, length: usize, rate_hz: Option<f64>) -> Timeline {
        Timeline {
            name,
            length,
            period_ns: rate_hz.map(|rate| 1e9 / rate),
            last_ns: None,
            first_ns: 0,
            count: 0,
            gaps_in_succession: 0,
            has_told_gap: false,
            has_told_rate: false,
        }
    }

    /// What comes next follows nothing.
    pub fn restart(&mut self) {
        self.last_ns = None;
    }

    /// Whether no window may span what came before a frame of this time and what comes from it on.
    ///
    /// # Errors
    /// There are gaps and nothing else.
    pub fn breaks_before(&mut self, time_ns: u64) -> Result<bool, SourceError> {
        let last_ns = self.last_ns.replace(time_ns);
        let Some(last_ns) = last_ns.filter(|_| self.length > 1) else {
            (self.first_ns, self.count) = (time_ns, 1);
            return Ok(false);
        };
        let longest = self.period_ns.map(|period| period * LATE_PERIODS.max(LATE_WINDOWS * self.length as f64));
        let step = time_ns.checked_sub(last_ns);
        if step.is_some_and(|step| longest.is_none_or(|longest| step as f64 <= longest)) {
            self.gaps_in_succession = 0;
            self.count += 1;
            if self.count == self.length {
                self.hold_against_rate(time_ns);
                (self.first_ns, self.count) = (time_ns, 1);
            }
            return Ok(false);
        }
        (self.first_ns, self.count) = (time_ns, 1);
        self.gaps_in_succession += 1;
        let (from, to) = (seconds(last_ns), seconds(time_ns));
        let (what, remedy) = match step {
            Some(_) => (format!("from {from:.3} s to {to:.3} s frames are missing"), REMEDY),
            None => {
                (format!("from {from:.3} s its time goes back to {to:.3} s"), "leave --time out, or put them in order")
            }
        };
        if self.gaps_in_succession == MAX_GAPS {
            let what = format!("{what}, and so it goes on: {MAX_GAPS} in succession");
            return Err(SourceError::new(self.name.clone(), format!("{what}; {remedy}")));
        }
        if !std::mem::replace(&mut self.has_told_gap, true) {
            log::warn!("{}: {what}; no window spans that, and `interrupted` counts how often it is so", self.name);
        }
        Ok(true)
    }

    /// Tells once where a window's worth of frames takes another time than the rate says.
    fn hold_against_rate(&mut self, last_ns: u64) {
        let Some(period) = self.period_ns.filter(|_| !self.has_told_rate) else { return };
        let steps = (self.length - 1) as f64;
        let took = (last_ns - self.first_ns) as f64;
        if (1.0 / FACTOR..=FACTOR).contains(&(took / (steps * period))) {
            return;
        }
        self.has_told_rate = true;
        let rate = match took > 0.0 {
            true => format!("{:.4} a second", steps * 1e9 / took),
            false => "all at once".to_owned(),
        };
        let (name, expected) = (&self.name, 1e9 / period);
        log::warn!(
            "{name}: {} frames took {:.3} s by their times, {rate}, and the model takes {expected} a second; {REMEDY}",
            self.length,
            took / 1e9
        );
    }
}

const REMEDY: &str = "mind the unit of --time, or leave it out and say --rate, so that frames are resampled";

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The frames before which no window goes on, of 50 a second in windows of 40.
    fn breaks(times: impl IntoIterator<Item = u64>) -> Result<(Vec<usize>, [bool; 2]), String> {
        let mut timeline = Timeline::new("walk.csv".into(), 40, Some(50.0));
        let mut found = Vec::new();
        for (index, time) in times.into_iter().enumerate() {
            if timeline.breaks_before(time * MS).map_err(|error| error.to_string())? {
                found.push(index);
            }
        }
        Ok((found, [timeline.has_told_gap, timeline.has_told_rate]))
    }

    #[test]
    fn an_hour_that_is_missing_and_time_that_goes_back_are_gaps() {
        assert_eq!(breaks((0..200).map(|n| 20 * n)), Ok((vec![], [false, false])));
        let hour = |n: u64| if n < 70 { 20 * n } else { 3_600_000 + 20 * n };
        assert_eq!(breaks((0..200).map(hour)), Ok((vec![70], [true, false])));
        assert_eq!(breaks((0..200).map(|n| 20 * (n % 100))), Ok((vec![100], [true, false])));
        // 220 ms are more than a quarter of a window, 200 are not.
        assert_eq!(breaks([0, 20, 220, 240, 460]), Ok((vec![4], [true, false])));
    }

    #[test]
    fn what_a_logger_does_to_times_is_no_gap() {
        let jitter = |n: u64| 20 * n + n * 7919 % 90;
        let mut late = (0..400).map(jitter).collect::<Vec<_>>();
        late.sort_unstable();
        assert_eq!(breaks(late), Ok((vec![], [false, false])));
        // Packets of eight, each with one time.
        assert_eq!(breaks((0..400).map(|n| 160 * (n / 8))), Ok((vec![], [false, false])));
    }

    #[test]
    fn another_rate_is_told_and_times_that_are_none_are_refused() {
        for (period, told) in [(10, true), (14, false), (28, false), (40, true), (0, true)] {
            assert_eq!(breaks((0..200).map(|n| period * n)), Ok((vec![], [false, told])), "{period}");
        }
        let told = breaks((0..200).map(|n| 20_000 * n)).unwrap_err();
        assert!(
            told.starts_with("walk.csv: from 300.000 s to 320.000 s frames are missing, and so it goes on: 16"),
            "{told}"
        );
        let told = breaks((0..200).map(|n| 20 * (200 - n))).unwrap_err();
        assert!(told.contains("its time goes back to 3.680 s") && told.contains("put them in order"), "{told}");
    }

    #[test]
    fn frames_that_come_when_they_come_have_no_gaps_but_backwards() {
        let mut timeline = Timeline::new("doors.csv".into(), 4, None);
        let found = [0, 5, 3_600_000, 3_600_001, 7].map(|time| timeline.breaks_before(time * MS).unwrap());
        assert_eq!(found, [false, false, false, false, true]);
        let mut alone = Timeline::new("doors.csv".into(), 1, Some(50.0));
        assert!((0..40).all(|n| !alone.breaks_before((40 - n) * 3_600_000 * MS).unwrap()), "windows of one frame");
    }
}
