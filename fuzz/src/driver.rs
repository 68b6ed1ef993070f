//! Runs a target on input after input, and sees to it that none panics, takes long or takes much memory.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tractlet::footprint::{heap, reset_heap_peak};

use crate::artifact::Artifacts;
use crate::corpus::{self, Corpus};
use crate::coverage::Coverage;
use crate::mutate::mutate;
use crate::rng::Rng;
use crate::targets::Target;

/// What one input may take of the processor, and of the heap.
const MAX_TIME: Duration = Duration::from_secs(1);
const MAX_HEAP_BYTES: usize = 64 << 20;
/// An input that does not end by then never will: what it takes of the processor, and on the clock, where it may wait for
/// something that does not come. A process that others starve takes little of the first in much of the second.
const HANG: Duration = Duration::from_secs(20);
const HANG_ON_THE_CLOCK: Duration = Duration::from_secs(1200);
/// Address space of the process: an allocation beyond is an abort, which leaves the input behind.
const MAX_ADDRESS_SPACE: u64 = 8 << 30;
/// Bytes of an input, at most.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// The last panic, caught or not: where, and what it said.
static PANIC: Mutex<Option<String>> = Mutex::new(None);
/// The number of the input that runs; 0 while none does.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Where things are kept, and for how long it goes on.
pub struct Plan {
    /// New inputs of the corpus, which further runs begin with.
    pub corpus: PathBuf,
    /// What was found.
    pub artifacts: PathBuf,
    /// How long.
    pub time: Duration,
    /// What the changes follow from.
    pub seed: u64,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Inputs that ran.
    pub runs: u64,
    /// Inputs that are kept.
    pub corpus: usize,
    /// Edges reached, of all; none without instrumentation.
    pub edges: Option<(usize, usize)>,
    /// What was found, once for each place, with the file of the input.
    pub findings: Vec<(String, PathBuf)>,
}

/// Sets up what holds for the whole process. Call it once, before anything else, on the thread that is to run inputs.
///
/// # Errors
/// The limit on memory, or the pool of one thread, cannot be had.
pub fn set_up() -> io::Result<()> {
    std::panic::set_hook(Box::new(|info| {
        // A panic counts even where it is caught on its way: the first is the one to look at.
        let mut panic = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        panic.get_or_insert_with(|| format!("{info}{}", callers()));
    }));
    // Threads that wait for work take more time than the work does, and reach nothing that one does not.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().map_err(io::Error::other)?;
    let limit = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(MAX_ADDRESS_SPACE), ..limit })?;
    std::thread::spawn(watch);
    Ok(())
}

/// The places in this project that led to a panic, innermost first: many panic in the standard library.
fn callers() -> String {
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let foreign = ["/rustc/", "/registry/", "fuzz/src/"];
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let own = places.filter(|place| foreign.iter().all(|part| !place.contains(part)));
    own.take(3).map(|place| format!(" < {place}")).collect()
}

/// Ends the process where an input never ends.
fn watch() {
    let start = Instant::now();
    let mut looked = Looked::default();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        if looked.hangs(BEGUN.load(Relaxed), processor_time(), start.elapsed()) {
            eprintln!("an input does not end; it is in the folder of artifacts, as `running`");
            std::process::exit(3);
        }
    }
}

/// What was seen when an input was first seen to run.
#[derive(Default)]
struct Looked {
    begun: u64,
    processor: Duration,
    clock: Duration,
}

impl Looked {
    /// Whether an input has run for too long by now, as `begun` says, and both times count it.
    fn hangs(&mut self, begun: u64, processor: Duration, clock: Duration) -> bool {
        if begun == 0 || begun != self.begun {
            *self = Looked { begun, processor, clock };
        }
        processor.saturating_sub(self.processor) > HANG || clock.saturating_sub(self.clock) > HANG_ON_THE_CLOCK
    }
}

/// Runs one input; what is wrong with it, in words. Time is taken twice before it counts: a machine that is busy with
/// other things may charge for them.
fn attempt(target: &Target, input: &[u8], number: u64) -> Option<String> {
    once(target, input, number).and_then(|finding| match finding.starts_with("slow") {
        true => once(target, input, number),
        false => Some(finding),
    })
}

fn once(target: &Target, input: &[u8], number: u64) -> Option<String> {
    let live = heap().live_bytes;
    reset_heap_peak();
    let begun = processor_time();
    BEGUN.store(number, Relaxed);
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    BEGUN.store(0, Relaxed);
    let time = processor_time().saturating_sub(begun);
    let bytes = heap().peak_bytes.saturating_sub(live);
    let panic = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    match panic {
        Some(panic) => Some(panic),
        None if result.is_err() => Some("panicked without a word".into()),
        None if time > MAX_TIME => Some(format!("slow: {:.1} s", time.as_secs_f64())),
        None if bytes > MAX_HEAP_BYTES => Some(format!("large: {} MiB of heap", bytes >> 20)),
        None => None,
    }
}

/// What finding it is, whatever the numbers in it: only one of a kind is kept.
fn kind(finding: &str) -> String {
    match finding.split_once(": ") {
        Some((measured @ ("slow" | "large"), _)) => measured.to_owned(),
        // The place, and who called; what it said may have numbers of the input in it.
        _ => {
            let (place, callers) = finding.split_once('\n').unwrap_or((finding, ""));
            let callers = callers.split_once(" < ").map_or("", |(_, callers)| callers);
            format!("{place} {callers}")
        }
    }
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Runs inputs as they are; what is wrong with them, by index.
///
/// # Errors
/// An artifact cannot be written.
pub fn replay(target: &Target, inputs: &[Vec<u8>], artifacts: &Path) -> io::Result<Vec<(usize, String)>> {
    let artifacts = Artifacts::within(artifacts)?;
    let mut findings = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        artifacts.running(input)?;
        findings.extend(attempt(target, input, index as u64 + 1).map(|finding| (index, finding)));
    }
    artifacts.done()?;
    Ok(findings)
}

/// Runs a target on its corpus, and on changes of it until the time is over.
///
/// # Errors
/// Artifacts or inputs cannot be written.
pub fn fuzz(target: &Target, plan: &Plan) -> io::Result<Outcome> {
    let artifacts = Artifacts::within(&plan.artifacts)?;
    let (mut outcome, mut corpus, mut rng) = (Outcome::default(), Corpus::default(), Rng::new(plan.seed));
    let mut coverage = Coverage::new();
    let mut kinds = BTreeSet::new();
    if let Some(path) = artifacts.died()? {
        outcome.findings.push(("an earlier process died of it".into(), path));
    }
    let mut waiting = corpus::read(&plan.corpus);
    waiting.extend(corpus::read(&corpus::committed(target.name)));
    waiting.extend((target.seeds)());
    let until = Instant::now() + plan.time;
    loop {
        let given = waiting.pop();
        // What is there to begin with is run in any case; nothing else is when the time is over.
        let (input, is_new) = match given {
            Some(input) => (input, false),
            None if Instant::now() > until => break,
            None => {
                let (input, other) = (corpus.draw(&mut rng), corpus.draw(&mut rng));
                (mutate(input, other, target.form, MAX_INPUT_BYTES, &mut rng), true)
            }
        };
        artifacts.running(&input)?;
        coverage.iter().for_each(Coverage::clear);
        outcome.runs += 1;
        if let Some(finding) = attempt(target, &input, outcome.runs) {
            if kinds.insert(kind(&finding)) {
                let path = artifacts.keep("found", &input)?;
                println!("  {finding}\n    {}", path.display());
                outcome.findings.push((finding, path));
            }
            continue;
        }
        // Without counters nothing tells what is worth keeping but having been given.
        let reaches = coverage.as_mut().is_some_and(Coverage::take);
        if reaches && is_new {
            corpus::write(&plan.corpus, &input)?;
        }
        if reaches || coverage.is_none() && !is_new {
            corpus.add(input);
        }
    }
    artifacts.done()?;
    outcome.corpus = corpus.len();
    outcome.edges = coverage.map(|coverage| coverage.edges());
    Ok(outcome)
}

/// The inputs of those that are needed to reach what all reach, in `most_bytes` together; `None` without counters.
pub fn minimise(target: &Target, mut inputs: Vec<Vec<u8>>, most_bytes: usize) -> Option<Vec<Vec<u8>>> {
    let mut coverage = Coverage::new()?;
    // What the seeds reach needs no file: they are there anyway.
    for (index, seed) in (target.seeds)().iter().enumerate() {
        coverage.clear();
        attempt(target, seed, index as u64 + 1);
        coverage.take();
    }
    // Large ones first, which reach more, so that few are needed; the largest are not worth their room.
    inputs.retain(|input| input.len() <= most_bytes / 16);
    inputs.sort_by_key(|input| (std::cmp::Reverse(input.len()), crate::artifact::name(input)));
    let mut kept = Vec::new();
    let mut bytes = 0;
    for (index, input) in inputs.into_iter().enumerate() {
        coverage.clear();
        let sound = attempt(target, &input, index as u64 + 1).is_none();
        let (before, _) = coverage.edges();
        // Code that nothing else reaches; how often it runs is left to chance.
        if bytes + input.len() <= most_bytes && sound && coverage.take() && coverage.edges().0 > before {
            bytes += input.len();
            kept.push(input);
        }
    }
    Some(kept)
}
