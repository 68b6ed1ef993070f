//! What happened, in numbers that add up.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use tractlet_core::ring::Tally;

use crate::EngineName;

/// Counters of a running stream; they may be read from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) read: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) stranded: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) windows: AtomicU64,
    pub(super) decisions: AtomicU64,
    pub(super) deadline_missed: AtomicU64,
    pub(super) latency_us: AtomicU64,
    pub(super) latency_max_us: AtomicU64,
    pub(super) interrupted: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) reloads: AtomicU64,
    pub(super) reloads_refused: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) undelivered: AtomicU64,
}

impl Counters {
    /// All of them, in the order in which they are shown.
    pub fn all(&self) -> [Counter; 18] {
        use Kind::{Counter as Adds, Gauge as Is};
        let of = |name, kind, help, value: &AtomicU64| Counter { name, kind, help, value: value.load(Relaxed) };
        [
            of("read", Adds, "Frames that the source gave, at the model's rate, and malformed ones", &self.read),
            of("answered", Adds, "Frames in at least one window that the model ran on", &self.answered),
            of("dropped", Adds, "Frames lost because inference did not keep up", &self.dropped),
            of("stranded", Adds, "Frames before a gap, too few for a window", &self.stranded),
            of("malformed", Adds, "Frames that did not decode", &self.malformed),
            of("skipped", Adds, "Frames between windows", &self.skipped),
            of("waiting", Is, "Frames whose window is not complete or not answered", &self.waiting),
            of("windows", Adds, "Windows that the model ran on", &self.windows),
            of("decisions", Adds, "Decisions that went to the sinks", &self.decisions),
            of("deadline_missed", Adds, "Windows decided later than the deadline allows", &self.deadline_missed),
            of("latency_us", Adds, "From a window's last frame to its decision, in microseconds", &self.latency_us),
            of("latency_max_us", Is, "The longest of those", &self.latency_max_us),
            of(
                "interrupted",
                Adds,
                "Times that a sound card lost samples, or the times of frames have a gap",
                &self.interrupted,
            ),
            of("reconnects", Adds, "Times that the source went away and came back", &self.reconnects),
            of("reloads", Adds, "Models exchanged", &self.reloads),
            of("reloads_refused", Adds, "Models that were not fit to take over", &self.reloads_refused),
            of("redelivered", Adds, "Messages that the broker says it may have given out before", &self.redelivered),
            of("undelivered", Adds, "Decisions lost because a broker was away for too long", &self.undelivered),
        ]
    }

    /// Windows that the model ran on.
    pub fn windows(&self) -> u64 {
        self.windows.load(Relaxed)
    }

    /// Models that took over.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Relaxed)
    }

    /// Models that were not fit to take over.
    pub fn reloads_refused(&self) -> u64 {
        self.reloads_refused.load(Relaxed)
    }

    /// Frames lost because inference did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Frames that did not decode.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Relaxed)
    }

    /// Windows decided later than the deadline allows.
    pub fn deadline_missed(&self) -> u64 {
        self.deadline_missed.load(Relaxed)
    }

    pub(super) fn tallied(&self, tally: Tally) {
        self.answered.store(tally.answered, Relaxed);
        self.dropped.store(tally.dropped, Relaxed);
        self.stranded.store(tally.stranded, Relaxed);
        self.skipped.store(tally.skipped, Relaxed);
        self.waiting.store(tally.waiting, Relaxed);
    }

    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }
}

/// A counter as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Its name, in small letters.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it counts.
    pub help: &'static str,
    /// How much that is.
    pub value: u64,
}

/// How a counter moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows, and never falls.
    Counter,
    /// It grows and falls.
    Gauge,
}

/// What a stream did, once it has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The engine that ran the model last.
    pub engine: EngineName,
    /// Multiply-accumulates of a run on that engine: of a window, or of what is new of one; none where the engine does not say.
    pub macs_per_hop: Option<u64>,
    /// Why the model took whole windows, where it was to take what is new of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_windows: Option<String>,
    /// The source's frames a second, where they were brought to the model's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resampled_from_hz: Option<f64>,
    /// Frames that the source gave, malformed ones included. Where they were resampled, as many as came of them.
    pub read: u64,
    /// Frames in at least one window that the model ran on.
    pub answered: u64,
    /// Frames lost because inference did not keep up.
    pub dropped: u64,
    /// Frames before a gap, too few for a window: where the source went away, lost some or begins anew.
    pub stranded: u64,
    /// Frames that did not decode.
    pub malformed: u64,
    /// The first of those, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_malformed: Option<String>,
    /// Frames between windows, where the hop is longer than the window.
    pub skipped: u64,
    /// Frames at the end that made no whole window.
    pub remainder: u64,
    /// Windows that the model ran on.
    pub windows: u64,
    /// Decisions that went to the sinks.
    pub decisions: u64,
    /// Windows decided later than the deadline allows.
    pub deadline_missed: u64,
    /// From the arrival of a window's last frame to its decision, on average, in microseconds.
    pub latency_mean_us: f64,
    /// The longest of those.
    pub latency_max_us: u64,
    /// Times that frames are missing and no other counter has them: a sound card lost samples before they were read, or the times
    /// that frames bring along have a gap.
    pub interrupted: u64,
    /// Times that the source went away and came back.
    pub reconnects: u64,
    /// Models exchanged.
    pub reloads: u64,
    /// Models that were not fit to take over.
    pub reloads_refused: u64,
    /// Messages that the broker says it may have given out before.
    pub redelivered: u64,
    /// Decisions lost because a broker was away for too long.
    pub undelivered: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Heap allocations between window [`Summary::WARM`] and the last; none where there were fewer windows, or
    /// the counting allocator is not installed. It counts the process: other streams in it are counted too, and so are
    /// messages from and to brokers, which are allocated one by one.
    pub steady_allocations: Option<u64>,
    /// By how much resident memory grew between the same two windows, pages of the program not counted, in bytes.
    pub steady_growth_bytes: Option<i64>,
}

/// In a line: windows, decisions, and what became of the frames.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { windows, decisions, read, answered, dropped, malformed, deadline_missed, .. } = self;
        let rest = self.stranded + self.skipped + self.remainder;
        write!(
            f,
            "{windows} windows, {decisions} decisions; {read} frames: {answered} answered, {dropped} dropped, {malformed} \
             malformed, {rest} in no window; {deadline_missed} deadlines missed"
        )
    }
}

impl Summary {
    /// Windows until everything has been used once.
    pub const WARM: u64 = 1024;

    /// Whether every frame is accounted for exactly once.
    pub fn adds_up(&self) -> bool {
        let Summary { read, answered, dropped, stranded, malformed, skipped, remainder, .. } = *self;
        read == answered + dropped + stranded + malformed + skipped + remainder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_summary_is_in_the_documentation_and_no_other() {
        let summary = Summary {
            engine: EngineName::Plan,
            macs_per_hop: None,
            whole_windows: Some(String::new()),
            resampled_from_hz: Some(1.0),
            read: 0,
            answered: 0,
            dropped: 0,
            stranded: 0,
            malformed: 0,
            first_malformed: Some(String::new()),
            skipped: 0,
            remainder: 0,
            windows: 0,
            decisions: 0,
            deadline_missed: 0,
            latency_mean_us: 0.0,
            latency_max_us: 0,
            interrupted: 0,
            reconnects: 0,
            reloads: 0,
            reloads_refused: 0,
            redelivered: 0,
            undelivered: 0,
            seconds: 0.0,
            steady_allocations: None,
            steady_growth_bytes: None,
        };
        let text = include_str!("../../docs/stream.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let stated: Vec<&str> =
            rows.flat_map(|keys| keys.split('`').step_by(2)).filter(|key| !key.is_empty()).collect();
        let serde_json::Value::Object(found) = serde_json::to_value(&summary).unwrap() else { panic!("an object") };
        let (mut stated, mut found) = (stated, found.keys().map(String::as_str).collect::<Vec<_>>());
        stated.sort_unstable();
        found.sort_unstable();
        assert_eq!(stated, found);
    }
}
