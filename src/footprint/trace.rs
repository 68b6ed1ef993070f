//! Heap over time, to the allocation: what [`super::CountingAllocator`] writes down while somebody wants it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static TRACING: AtomicBool = AtomicBool::new(false);
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// Bytes held, each time that they are by `step` more or less than they were the last time.
#[derive(Debug)]
struct Trace {
    start: Instant,
    step: usize,
    /// Never grows: whoever writes is inside the allocator.
    points: Vec<(Duration, usize)>,
}

const MOST_POINTS: usize = 2048;

/// Begins a trace, in place of one that may have begun before.
pub(super) fn start(start: Instant, live_bytes: usize) {
    let mut points = Vec::with_capacity(MOST_POINTS);
    points.push((Duration::ZERO, live_bytes));
    let before = lock().replace(Trace { start, step: 256, points });
    TRACING.store(true, Relaxed);
    // Not under the lock, which the allocator takes.
    drop(before);
}

/// Ends it.
pub(super) fn stop() -> Vec<(Duration, usize)> {
    TRACING.store(false, Relaxed);
    let trace = lock().take();
    trace.map_or_else(Vec::new, |trace| trace.points)
}

/// `live_bytes` are held now.
#[inline]
pub(super) fn note(live_bytes: usize) {
    if TRACING.load(Relaxed)
        && let Some(trace) = lock().as_mut()
    {
        trace.note(live_bytes);
    }
}

/// Nothing that holds it panics.
fn lock() -> MutexGuard<'static, Option<Trace>> {
    TRACE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trace {
    fn note(&mut self, live_bytes: usize) {
        self.note_at(self.start.elapsed(), live_bytes);
    }

    fn note_at(&mut self, at: Duration, live_bytes: usize) {
        if self.points.last().is_some_and(|(_, before)| before.abs_diff(live_bytes) < self.step) {
            return;
        }
        while self.points.len() >= MOST_POINTS {
            self.step *= 2;
            let (step, mut last) = (self.step, None::<usize>);
            self.points.retain(|(_, bytes)| {
                let kept = last.is_none_or(|last| last.abs_diff(*bytes) >= step);
                last = if kept { Some(*bytes) } else { last };
                kept
            });
        }
        self.points.push((at, live_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_passes_the_curve_stays_within_a_step() {
        let mut trace = Trace { start: Instant::now(), step: 256, points: Vec::with_capacity(MOST_POINTS) };
        let live = |micros: u64| ((micros as f64 / 3000.0).sin().abs() * 1e6) as usize;
        for micros in 0..100_000 {
            trace.note_at(Duration::from_micros(micros), live(micros));
        }
        assert!(trace.points.len() <= MOST_POINTS && trace.points.capacity() == MOST_POINTS);
        assert!(trace.points.is_sorted_by_key(|(at, _)| *at));
        let mut points = trace.points.iter().peekable();
        let mut held = 0;
        for micros in 0..100_000 {
            while points.peek().is_some_and(|(at, _)| *at <= Duration::from_micros(micros)) {
                held = points.next().unwrap().1;
            }
            // One step where it was thinned, and one where it was not noted.
            assert!(held.abs_diff(live(micros)) < 2 * trace.step, "{micros}: {held}, step {}", trace.step);
        }
        assert!(trace.step < 100_000, "{}", trace.step);
    }
}
