//! Memory over time: a second thread looks at this process while it works.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::proc::{self, Kinds};
use super::{heap, trace};

/// What was resident at a time, and how much heap was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the watch began.
    pub at: Duration,
    /// Resident pages.
    pub resident: Kinds,
    /// Held of the heap; of fresh memory that nobody touched yet less is resident.
    pub heap_bytes: usize,
}

/// What was seen, in the order of time, and where phases began.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// At least the beginning of each phase, and the end of the last.
    pub samples: Vec<Sample>,
    /// Bytes of heap that are held from a time on: every change, but for those that are small beside the whole.
    /// The first alone where [`super::CountingAllocator`] is not installed.
    pub heap: Vec<(Duration, usize)>,
    /// When each phase began, with its name.
    pub phases: Vec<(Duration, &'static str)>,
}

/// A watch that goes on until it is finished; one at a time. Neither it nor its thread allocates meanwhile.
///
/// ```
/// use tractlet::footprint::Watch;
///
/// let watch = Watch::start("one")?;
/// let pages = vec![1u8; 1 << 20];
/// watch.phase("two")?;
/// drop(pages);
/// let timeline = watch.finish()?;
/// assert_eq!(timeline.phases.len(), 2);
/// assert!(timeline.samples.iter().any(|sample| sample.resident.anon_bytes >= 1 << 20));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    kinds: File,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    timeline: Timeline,
    /// How long it sleeps between two samples.
    pause: Duration,
    done: bool,
}

/// As many as an image has columns, or fewer; and few enough to be no memory of note.
const MOST_SAMPLES: usize = 1024;
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Watch {
    /// Begins to watch, in a phase.
    ///
    /// # Errors
    /// Where /proc cannot be read, or there can be no thread.
    pub fn start(phase: &'static str) -> io::Result<Watch> {
        let (samples, phases) = (Vec::with_capacity(MOST_SAMPLES), Vec::with_capacity(16));
        let timeline = Timeline { samples, heap: vec![], phases };
        let seen = Mutex::new(Seen { timeline, pause: SHORTEST_PAUSE, done: false });
        let start = Instant::now();
        let shared = Arc::new(Shared { start, kinds: proc::open_kinds()?, seen });
        trace::start(start, heap().live_bytes);
        let watched = Arc::clone(&shared);
        // It needs room for one reading of /proc, and little else.
        let thread = thread::Builder::new().name("watch".into()).stack_size(64 << 10).spawn(move || watched.watch())?;
        let watch = Watch { shared, thread };
        watch.phase(phase)?;
        Ok(watch)
    }

    /// A phase begins.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn phase(&self, name: &'static str) -> io::Result<()> {
        let mut seen = self.shared.seen();
        let sample = self.shared.sample()?;
        seen.push(sample);
        seen.timeline.phases.push((sample.at, name));
        Ok(())
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn finish(self) -> io::Result<Timeline> {
        let Watch { shared, thread } = self;
        {
            let mut seen = shared.seen();
            seen.push(shared.sample()?);
            seen.done = true;
        }
        thread.thread().unpark();
        // It returns nothing that could be lost with it.
        let _ = thread.join();
        let mut timeline = std::mem::take(&mut shared.seen().timeline);
        timeline.heap = trace::stop();
        timeline.begin_at_the_first_phase();
        Ok(timeline)
    }
}

impl Timeline {
    /// Makes the first phase begin at 0: what came before is the watch's own.
    fn begin_at_the_first_phase(&mut self) {
        let Some((first, _)) = self.phases.first().copied() else { return };
        let before = self.heap.partition_point(|(at, _)| *at <= first);
        self.heap.drain(..before.saturating_sub(1));
        self.samples.retain(|sample| sample.at >= first);
        let times = self.samples.iter_mut().map(|sample| &mut sample.at);
        let times = times.chain(self.heap.iter_mut().map(|(at, _)| at)).chain(self.phases.iter_mut().map(|(at, _)| at));
        times.for_each(|at| *at = at.saturating_sub(first));
    }
}

impl Shared {
    /// Samples are whole whatever happened to the other thread.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self) -> io::Result<Sample> {
        let resident = proc::read_kinds(&self.kinds)?;
        Ok(Sample { at: self.start.elapsed(), resident, heap_bytes: heap().live_bytes })
    }

    fn watch(&self) {
        loop {
            let pause = {
                let mut seen = self.seen();
                if seen.done {
                    return;
                }
                // What it cannot read now the others can, or they say why.
                if let Ok(sample) = self.sample() {
                    seen.push(sample);
                }
                seen.pause
            };
            thread::park_timeout(pause);
        }
    }
}

impl Seen {
    /// Where there is no room, of each two the one with more in it stays, and from then on half as many are taken.
    fn push(&mut self, sample: Sample) {
        let samples = &mut self.timeline.samples;
        if samples.len() >= MOST_SAMPLES {
            let size = |sample: &Sample| sample.resident.all_bytes() + sample.heap_bytes as u64;
            // The first stays: it is where the time begins.
            let mut kept = 1;
            for pair in 0..(MOST_SAMPLES - 1) / 2 {
                let (one, other) = (1 + 2 * pair, 2 + 2 * pair);
                let (Some(a), Some(b)) = (samples.get(one).copied(), samples.get(other).copied()) else { break };
                if let Some(place) = samples.get_mut(kept) {
                    *place = if size(&b) > size(&a) { b } else { a };
                }
                kept += 1;
            }
            samples.truncate(kept);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        samples.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(micros: u64, bytes: u64) -> Sample {
        let resident = Kinds { anon_bytes: bytes, ..Kinds::default() };
        Sample { at: Duration::from_micros(micros), resident, heap_bytes: 0 }
    }

    #[test]
    fn however_long_it_takes_peaks_and_the_first_are_kept() {
        let mut seen = Seen { timeline: Timeline::default(), pause: SHORTEST_PAUSE, done: false };
        let peak = 100_003;
        for micros in 0..200_000 {
            seen.push(sample(micros, if micros == peak { 9999 } else { micros % 7 }));
        }
        let samples = &seen.timeline.samples;
        assert!(samples.len() <= MOST_SAMPLES && samples.len() > MOST_SAMPLES / 4);
        assert!(samples.is_sorted_by_key(|sample| sample.at));
        assert_eq!(samples[0], sample(0, 0));
        assert!(samples.contains(&sample(peak, 9999)));
        assert!(seen.pause > SHORTEST_PAUSE);
    }

    #[test]
    fn phases_begin_with_a_sample_each() {
        let watch = Watch::start("first").unwrap();
        watch.phase("second").unwrap();
        let timeline = watch.finish().unwrap();
        let names: Vec<_> = timeline.phases.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!((timeline.phases[0].0, timeline.samples[0].at), (Duration::ZERO, Duration::ZERO));
        for (at, _) in &timeline.phases {
            assert!(timeline.samples.iter().any(|sample| sample.at == *at));
        }
        assert!(timeline.samples.is_sorted_by_key(|sample| sample.at));
    }
}
