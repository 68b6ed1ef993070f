//! Between the thread that reads and the one that infers: the ring, and who waits for whom.

#[cfg(feature = "mqtt")]
mod messages;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tractlet_core::ring::{FrameRing, Overflow, Taken, Tally, Windowing};

use super::Control;
use super::counters::Counters;
use super::mqtt::Message;
use super::source::{Batch, Frames, Kind, Pace, Progress, Source, SourceError, Timeline};

/// How long either side waits before it looks at signals.
const PATIENCE: Duration = Duration::from_millis(200);

pub struct Feed {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    started: Instant,
}

struct State {
    ring: FrameRing<Box<[f32]>, Box<[u64]>>,
    /// Nothing will come any more, and why if that is an error.
    ended: bool,
    fault: Option<SourceError>,
    /// Frames that were read and found no way into the ring, since the stream was stopped.
    left_over: u64,
    first_malformed: Option<String>,
    /// For each window that waits the message that it came in, where it came in one.
    messages: VecDeque<Message>,
}

/// What there is for the model.
pub enum Next {
    /// A window was copied.
    Window(Taken, Option<Message>),
    /// None yet.
    Nothing,
    /// And none will come.
    End,
}

/// What is known at the end.
pub struct Ending {
    pub tally: Tally,
    pub fault: Option<SourceError>,
    pub first_malformed: Option<String>,
}

impl Feed {
    /// None where a window does not fit `capacity` frames.
    pub fn new(capacity: usize, channels: usize, windowing: Windowing, overflow: Overflow) -> Option<Feed> {
        let values = vec![0.0; capacity.checked_mul(channels)?].into_boxed_slice();
        let times = vec![0; capacity].into_boxed_slice();
        let ring = FrameRing::new(values, times, channels, windowing, overflow)?;
        let messages = VecDeque::new();
        let state = State { ring, ended: false, fault: None, left_over: 0, first_malformed: None, messages };
        let (filled, drained) = (Condvar::new(), Condvar::new());
        Some(Feed { state: Mutex::new(state), filled, drained, started: Instant::now() })
    }

    /// Now, on the clock of arrivals.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads a source to its end, or until the stream is stopped.
    pub fn pump(&self, source: &mut Source, control: &Control, counters: &Counters) {
        let ending = Ended(self);
        let pumped = match source.kind() {
            Kind::Frames(frames) => self.pumped(frames, control, counters),
            #[cfg(feature = "mqtt")]
            Kind::Messages(inbox) => self.take_in(inbox, control, counters),
        };
        let mut state = self.lock();
        state.first_malformed = source.first_malformed().map(ToString::to_string);
        state.fault = pumped.err();
        drop(state);
        drop(ending);
    }

    fn pumped(&self, source: &mut Frames, control: &Control, counters: &Counters) -> Result<(), SourceError> {
        let mut batch = source.batch();
        let mut resampling = source.resampling()?;
        let mut timeline = source.timeline();
        let mut replay = Replay::default();
        let mut malformed = 0;
        let give = |values: &[f32], times: &[u64]| {
            Counters::add(&counters.read, times.len() as u64);
            self.push(values, times, control);
        };
        loop {
            if control.is_stopped() {
                return Ok(());
            }
            let progress = source.read(&mut batch);
            if malformed == 0
                && let Some(first) = source.first_malformed()
            {
                let spec = source.spec();
                log::warn!("{spec}: {first}; what is malformed is left out, and `malformed` counts how much that is");
            }
            Counters::add(&counters.read, source.malformed() - malformed);
            malformed = source.malformed();
            counters.malformed.store(malformed, Relaxed);
            if batch.frames() > 0 {
                if replay.begins(source.pass()) {
                    resampling.iter_mut().for_each(|resampling| resampling.end(give));
                    timeline.iter_mut().for_each(Timeline::restart);
                    self.tear(control);
                }
                self.keep_pace(source, &batch, &mut replay, control);
                match (&mut resampling, &mut timeline) {
                    (Some(resampling), _) => resampling.push(batch.values(), batch.times(), give),
                    (None, Some(timeline)) => {
                        let gap = || {
                            Counters::add(&counters.interrupted, 1);
                            self.tear(control);
                        };
                        in_order(&batch, timeline, give, gap)?;
                    }
                    (None, None) => give(batch.values(), batch.times()),
                }
                batch.clear();
            }
            if !matches!(progress, Ok(Progress::Frames | Progress::Idle)) {
                resampling.iter_mut().for_each(|resampling| resampling.end(give));
            }
            match (progress, source.options().reconnect) {
                (Ok(Progress::End), _) => return Ok(()),
                (Ok(Progress::Frames | Progress::Idle), _) => {}
                (Ok(Progress::Interrupted), _) => {
                    Counters::add(&counters.interrupted, 1);
                    log::warn!("{}: it lost some, since nothing read it for too long", source.spec());
                    self.tear(control);
                }
                (Err(error), Some(pause)) if error.is_gone() => {
                    log::warn!("{error}; opening it anew every {pause:?}");
                    self.reopen(source, pause, control, counters);
                    (batch, resampling) = (source.batch(), source.resampling()?);
                    timeline.iter_mut().for_each(Timeline::restart);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Waits until what a batch holds would have happened, in a replay at real speed.
    fn keep_pace(&self, source: &Frames, batch: &Batch, replay: &mut Replay, control: &Control) {
        if source.options().pace != Pace::Real || !source.spec().is_recorded() {
            return;
        }
        let due = replay.due(batch.times(), self.started.elapsed());
        while let Some(early) = due.checked_sub(self.started.elapsed()) {
            if control.is_stopped() || early.is_zero() {
                return;
            }
            thread::sleep(early.min(PATIENCE));
        }
    }

    fn push(&self, mut values: &[f32], mut times: &[u64], control: &Control) {
        let channels = values.len() / times.len().max(1);
        let arrival_ns = self.now_ns();
        let mut state = self.lock();
        loop {
            let taken = state.ring.push(values, times, arrival_ns);
            values = values.get(taken * channels..).unwrap_or_default();
            times = times.get(taken..).unwrap_or_default();
            if state.ring.ready() {
                self.filled.notify_one();
            }
            if times.is_empty() {
                return;
            }
            if control.is_stopped() {
                state.left_over += times.len() as u64;
                return;
            }
            state = wait(&self.drained, state, PATIENCE);
        }
    }

    /// No window spans what came before and what comes now.
    fn tear(&self, control: &Control) {
        let mut state = self.lock();
        while !state.ring.break_here() && !control.is_stopped() {
            // Frames between two gaps that no window will hold make way.
            if !state.ring.ready() && state.ring.break_here() {
                return;
            }
            state = wait(&self.drained, state, PATIENCE);
        }
    }

    fn reopen(&self, source: &mut Frames, pause: Duration, control: &Control, counters: &Counters) {
        self.tear(control);
        loop {
            let until = Instant::now() + pause;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                && !control.is_stopped()
            {
                thread::sleep(left.min(PATIENCE));
            }
            if control.is_stopped() {
                return;
            }
            match source.reopen() {
                Ok(()) => {
                    Counters::add(&counters.reconnects, 1);
                    return;
                }
                Err(error) => log::debug!("{error}"),
            }
        }
    }

    /// Copies the next window, for which it waits at most `patience`.
    pub fn next(&self, window: &mut [f32], patience: Duration, counters: &Counters) -> Next {
        let mut state = self.lock();
        let mut waited = false;
        loop {
            let taken = state.ring.take(window);
            counters.tallied(state.ring.tally());
            if let Some(taken) = taken {
                self.drained.notify_one();
                return Next::Window(taken, state.messages.pop_front());
            }
            if state.ended {
                return Next::End;
            }
            if waited || patience.is_zero() {
                return Next::Nothing;
            }
            state = wait(&self.filled, state, patience);
            waited = true;
        }
    }

    /// What became of everything, once [`Feed::pump`] has returned.
    pub fn ending(&self) -> Ending {
        let mut state = self.lock();
        // A gap at the end leaves frames that no window will hold.
        state.ring.ready();
        let mut tally = state.ring.tally();
        tally.waiting += state.left_over;
        Ending { tally, fault: state.fault.take(), first_malformed: state.first_malformed.take() }
    }

    /// Lets a reader that waits for room look at the signals.
    pub fn wake(&self) {
        self.drained.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands frames on, and says between which of them their times have a gap.
fn in_order(
    batch: &Batch,
    timeline: &mut Timeline,
    give: impl Fn(&[f32], &[u64]),
    gap: impl Fn(),
) -> Result<(), SourceError> {
    let (mut values, mut times) = (batch.values(), batch.times());
    let channels = values.len() / times.len().max(1);
    let mut given = 0;
    for (index, time) in batch.times().iter().enumerate() {
        if timeline.breaks_before(*time)? {
            let (before, behind) = times.split_at(index - given);
            let (values_before, values_behind) = values.split_at((index - given) * channels);
            give(values_before, before);
            gap();
            (values, times, given) = (values_behind, behind, index);
        }
    }
    give(values, times);
    Ok(())
}

/// Where a replay is in its file, which may start at any time and be read again and again.
#[derive(Default)]
struct Replay {
    pass: u64,
    /// Time of the pass's first frame, and when that was replayed.
    base: Option<(u64, Duration)>,
}

impl Replay {
    /// Whether frames of this pass follow those of another.
    fn begins(&mut self, pass: u64) -> bool {
        let another = self.pass != pass;
        if another {
            *self = Replay { pass, base: None };
        }
        another
    }

    /// When the last of these frames would have happened, counted as `now` is. A pass starts where it is begun.
    fn due(&mut self, times: &[u64], now: Duration) -> Duration {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return now };
        let (base, begun) = *self.base.get_or_insert((*first, now));
        begun.saturating_add(Duration::from_nanos(last.saturating_sub(base)))
    }
}

/// Says that nothing will come any more, however the reader ends.
struct Ended<'a>(&'a Feed);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.filled.notify_all();
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>, patience: Duration) -> MutexGuard<'a, State> {
    on.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::recipe::{Channel, Input};
    use crate::sensor::source::{SourceOptions, SourceSpec};

    #[test]
    fn no_window_spans_two_readings_of_a_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("six.csv");
        std::fs::write(&path, "1\n2\n3\n4\n5\n6\n").unwrap();
        let windowing = Windowing { length: 4, hop: 4 };
        let input =
            Input { rate_hz: None, channels: vec![Channel { name: "a".into(), unit: None }], named: true, windowing };
        let options = SourceOptions { repeat: Some(3), ..SourceOptions::default() };
        let mut source = Source::open(&SourceSpec::File(path), options, &input).unwrap();
        let feed = Feed::new(64, 1, windowing, Overflow::Block).unwrap();
        let counters = Counters::default();
        feed.pump(&mut source, &Control::default(), &counters);
        let (mut window, mut windows) = ([0.0; 4], 0);
        while let Next::Window(..) = feed.next(&mut window, Duration::ZERO, &counters) {
            assert_eq!(window, [1.0, 2.0, 3.0, 4.0]);
            windows += 1;
        }
        assert_eq!(windows, 3);
    }

    #[test]
    fn a_device_that_comes_back_is_read_by_the_scale_that_it_has_then() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("in_a_raw", "2\n");
        write("in_a_scale", "0.5\n");
        let windowing = Windowing { length: 1, hop: 1 };
        let channels = vec![Channel { name: "a".into(), unit: None }];
        let input = Input { rate_hz: Some(1000.0), channels, named: true, windowing };
        let options = SourceOptions { reconnect: Some(Duration::from_millis(1)), ..SourceOptions::default() };
        let spec = SourceSpec::Iio(folder.path().to_owned());
        let mut source = Source::open(&spec, options, &input).unwrap();
        let feed = Feed::new(64, 1, windowing, Overflow::DropOldest).unwrap();
        let (control, counters) = (Control::default(), Counters::default());
        thread::scope(|scope| {
            scope.spawn(|| feed.pump(&mut source, &control, &counters));
            write("in_a_scale", "5\n");
            while counters.reconnects.load(Relaxed) == 0 {
                for text in ["", "2\n"] {
                    write("in_a_raw", text);
                    thread::sleep(Duration::from_millis(5));
                }
            }
            let mut window = [0.0];
            let found = (0..1000).any(|_| {
                feed.next(&mut window, PATIENCE, &counters);
                window == [10.0]
            });
            control.stop.store(true, Relaxed);
            assert!(found, "{window:?}");
        });
    }

    #[test]
    fn a_stop_ends_a_pause_however_short() {
        let gone = tempfile::TempDir::new().unwrap();
        std::fs::write(gone.path().join("in_a_raw"), "2\n").unwrap();
        let windowing = Windowing { length: 1, hop: 1 };
        let channels = vec![Channel { name: "a".into(), unit: None }];
        let input = Input { rate_hz: Some(1000.0), channels, named: true, windowing };
        let options = SourceOptions { reconnect: Some(Duration::ZERO), ..SourceOptions::default() };
        let mut source = Source::open(&SourceSpec::Iio(gone.path().to_owned()), options, &input).unwrap();
        std::fs::write(gone.path().join("in_a_raw"), "").unwrap();
        let feed = Feed::new(1, 1, windowing, Overflow::DropOldest).unwrap();
        let (control, counters) = (Control::default(), Counters::default());
        thread::scope(|scope| {
            let reader = scope.spawn(|| feed.pump(&mut source, &control, &counters));
            thread::sleep(Duration::from_millis(20));
            control.stop.store(true, Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(counters.reconnects.load(Relaxed), 0);
    }

    #[test]
    fn a_replay_takes_as_long_as_its_frames_wherever_their_time_starts() {
        const S: u64 = 1_000_000_000;
        let seconds = Duration::from_secs;
        let mut replay = Replay::default();
        assert!(!replay.begins(0));
        assert_eq!(replay.due(&[1_700_000_000 * S, 1_700_000_001 * S], seconds(3)), seconds(4));
        assert_eq!(replay.due(&[1_700_000_002 * S], seconds(4)), seconds(5));
        assert!(replay.begins(1) && !replay.begins(1));
        assert_eq!(replay.due(&[1_700_000_000 * S], seconds(5)), seconds(5), "time starts anew with the pass");
        assert_eq!(replay.due(&[1_699_999_000 * S], seconds(6)), seconds(5), "a time before the first");
    }
}
