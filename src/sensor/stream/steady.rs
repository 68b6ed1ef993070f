//! What a stream took and did, for its summary.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Control;
use crate::Session;
use crate::footprint::proc::exact_bytes;
use crate::footprint::{Heap, heap};
use crate::sensor::counters::Summary;

/// Memory between a window after which everything has been used, and the end.
#[derive(Default)]
pub(super) struct Steady {
    warm: Option<(Heap, Option<u64>)>,
    allocations: Option<u64>,
    growth: Option<i64>,
}

impl Steady {
    pub fn after(&mut self, windows: u64) {
        if windows == Summary::WARM && self.warm.is_none() {
            // Looking allocates: the heap is read after it.
            let private = private_bytes();
            self.warm = Some((heap(), private));
        }
    }

    pub fn end(&mut self, windows: u64) {
        let Some((before, private)) = &self.warm else { return };
        let now = heap();
        if windows > Summary::WARM && now.allocations > 0 {
            self.allocations = Some(now.since(before).allocations);
            let growth = |now: u64, before: u64| i64::try_from(now).ok()?.checked_sub(i64::try_from(before).ok()?);
            self.growth = private_bytes().zip(*private).and_then(|(now, before)| growth(now, before));
        }
    }
}

/// Pages of the program come and go as the kernel sees fit; what grows is what a process makes itself.
fn private_bytes() -> Option<u64> {
    exact_bytes().map(|(_, private)| private)
}

/// What a stream has to tell in the end.
pub(super) fn summary(
    session: &Session,
    control: &Control,
    started: Instant,
    steady: &Steady,
    first_malformed: Option<String>,
) -> Summary {
    let counters = &control.counters;
    let windows = counters.windows();
    Summary {
        engine: session.engine(),
        macs_per_hop: session.memory().map(|_| session.steps().iter().map(|step| step.macs).sum()),
        whole_windows: None,
        resampled_from_hz: None,
        read: counters.read.load(Relaxed),
        answered: counters.answered.load(Relaxed),
        dropped: counters.dropped(),
        stranded: counters.stranded.load(Relaxed),
        malformed: counters.malformed(),
        first_malformed,
        skipped: counters.skipped.load(Relaxed),
        remainder: counters.waiting.load(Relaxed),
        windows,
        decisions: counters.decisions.load(Relaxed),
        deadline_missed: counters.deadline_missed(),
        latency_mean_us: counters.latency_us.load(Relaxed) as f64 / windows.max(1) as f64,
        latency_max_us: counters.latency_max_us.load(Relaxed),
        interrupted: counters.interrupted.load(Relaxed),
        reconnects: counters.reconnects.load(Relaxed),
        reloads: counters.reloads.load(Relaxed),
        reloads_refused: counters.reloads_refused.load(Relaxed),
        redelivered: counters.redelivered.load(Relaxed),
        undelivered: counters.undelivered.load(Relaxed),
        seconds: started.elapsed().as_secs_f64(),
        steady_allocations: steady.allocations,
        steady_growth_bytes: steady.growth,
    }
}
