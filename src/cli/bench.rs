//! `tractlet bench`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tractlet::footprint::heap;
use tractlet::{EngineName, StepTime};

use super::cpu::Cpu;
use super::failure::Failure;
use super::ratios::{Comparison, Earlier, Setting};
use super::runner::Runner;
use super::svg::Histogram;
use super::threads::ThreadArgs;
use super::torch::{ToldBy, TorchArgs};
use super::{BatchArgs, HopArgs, ModelArgs, files, output, synthetic};

/// Measure latency and heap allocations of one inference
///
/// Runs one inference after the other, on pseudo-random input that is the same
/// everywhere. Times are in microseconds; p90 and p99 are nearest-rank percentiles, and jitter is the
/// median distance of a run from the median. Frequency and temperature are the CPU's right after the
/// timed runs, as the kernel has them.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    torch: TorchArgs,
    /// Runs that are timed [default: as many as take a second, at least 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    runs: Option<u32>,
    /// Runs before those [default: as many as take a fifth of a second, at least 3]
    #[arg(long, value_name = "N")]
    warmup: Option<u32>,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    hop: HopArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Also time each step, in as many further runs; only the first of them count where there would be more than 262144
    /// times to keep (2 MiB)
    #[arg(long)]
    profile: bool,
    /// Also print the ratio to an earlier report, which `bench --json` wrote; below 1 is faster now. What else is not as it
    /// was then, such as the model or threads, is noted
    #[arg(long, value_name = "OTHER.json")]
    compare: Option<PathBuf>,
    /// Also draw the times of the runs into this file, as a histogram
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet bench model.onnx
  tractlet bench model.onnx --runs 1000 --profile --json >before.json
  tractlet bench model.onnx --profile --compare before.json
  tractlet bench model.onnx --svg latency.svg

JSON: model, model_sha256 (of the model and what it reads of other files, also where a plan was made of it), engine, \
provider (with engines ort and torch), runs, warmup, threads, batch, hop (where it runs hop by hop, its rows), min_us, \
median_us, mean_us, p90_us, p99_us, max_us, jitter_us (the median absolute deviation), throughput_per_s (samples, one \
inference after the other), allocations_per_run, bytes_allocated_per_run, input, cpu.{model, governor, frequency_mhz, \
temperature_celsius, note} (each null where the kernel does not say; note says so if the governor is not \
`performance`); with --profile profiled_runs and ops[].{name, kind, dtype, median_us, share, macs, gmac_per_s}, where \
share is of the sum of the medians, from 0 to 1, and the last two are null where multiply-accumulates are not counted \
or there are none; with --compare comparison.{file, earlier_engine, earlier_median_us, median_ratio, \
differences[].{what, now, earlier} (null where it is not stated), ops[].{name, kind, now_us, earlier_us, ratio}}, \
where ops is null unless both reports have a profile, and what only one has is null.";

/// Times are kept, and not only counted: this many are where a second is up on any model.
const MOST_RUNS: usize = 1_000_000;

/// Times of steps that are kept, of all runs together; the help states it.
const MOST_STEP_TIMES: usize = 1 << 18;

const TIMED: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "output::path_text")]
    model: PathBuf,
    model_sha256: String,
    engine: EngineName,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    runs: usize,
    warmup: usize,
    threads: u32,
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    hop: Option<usize>,
    #[serde(flatten)]
    latency: Latency,
    /// Null where the engine has memory that is not the program's to count.
    allocations_per_run: Option<f64>,
    bytes_allocated_per_run: Option<f64>,
    input: &'static str,
    cpu: Cpu,
    #[serde(flatten)]
    profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

#[derive(Serialize)]
struct Latency {
    min_us: f64,
    median_us: f64,
    mean_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
    /// Median absolute deviation from the median: a few interrupted runs leave it as it is.
    jitter_us: f64,
    throughput_per_s: f64,
}

#[derive(Serialize)]
struct Profile {
    profiled_runs: usize,
    ops: Vec<Op>,
}

#[derive(Serialize)]
struct Op {
    name: String,
    kind: String,
    dtype: String,
    median_us: f64,
    share: f64,
    /// Null on an engine that does not count them.
    macs: Option<u64>,
    gmac_per_s: Option<f64>,
}

pub fn bench(mut args: BenchArgs) -> Result<(), Failure> {
    args.model.resolve()?;
    let args = &args;
    // First: a report that cannot be read should not cost a measurement.
    let earlier = args.compare.as_deref().map(Earlier::read).transpose()?;
    let model = args.hop.open(&args.model, || args.batch.open(&args.model))?;
    if let Some(target) = &args.svg {
        let read = args.model.read(&model);
        files::expect_apart(target, "the drawing", read.iter().chain(&args.compare).map(PathBuf::as_path))?;
        output::expect_writable(target)?;
    }
    // With a batch it is another model in memory than in its file.
    let model_sha256 = match args.batch.samples() {
        1 => model.model_digest(),
        _ => args.model.open_itself()?.model_digest(),
    };
    let options = args.model.options(&model, &args.model.model)?.threads(args.threads.count());
    let options = args.hop.options(options);
    let session = args.torch.session(&args.model, &model, ToldBy::Nobody, options)?;
    let session = args.hop.held(session, &args.model.model)?;
    drop(model);
    let (engine, provider) = (session.engine(), session.provider().map(str::to_owned));
    args.threads.expect_used(engine)?;
    let mut runner = Runner::new(session);
    synthetic::fill(&mut runner);
    let (session, inputs, mut outputs) = runner.parts();
    let mut fastest = Duration::MAX;
    let warmup = repeat(args.warmup, 3..MOST_RUNS, Duration::from_millis(200), || {
        let start = Instant::now();
        session.run(&inputs, &mut outputs)?;
        fastest = fastest.min(start.elapsed());
        Ok(())
    })?;
    let most = args.runs.map_or_else(|| most_runs(warmup, fastest), |runs| runs as usize);
    // All of it now, since what is timed allocates nothing of ours.
    let mut nanos = Vec::with_capacity(most);
    let before = heap();
    let runs = repeat(args.runs, 10..most, TIMED, || {
        let start = Instant::now();
        session.run(&inputs, &mut outputs)?;
        nanos.push(start.elapsed().as_nanos() as u64);
        Ok(())
    })?;
    let used = heap().since(&before);
    let cpu = Cpu::here();
    let batch = args.batch.samples();
    nanos.sort_unstable();
    let latency = Latency::of(&nanos, batch);
    let profile = if args.profile {
        // A plan says how many steps it has; of other engines' runs those are not kept that are too many.
        let runs = runs.min(kept(session.steps().len()));
        Some(Profile::of(|each| Ok(session.profile(&inputs, &mut outputs, runs, each)?))?)
    } else {
        None
    };
    let hop = session.hop().map(|hop| hop.rows);
    let setting = Setting {
        model: Some(args.model.model.display().to_string()),
        model_sha256: Some(model_sha256.clone()),
        engine: engine.to_string(),
        provider: provider.clone(),
        threads: Some(args.threads.threads),
        batch: Some(batch),
        hop,
    };
    let steps = profile.as_ref().map(|profile| profile.ops.iter());
    let steps = steps.map(|ops| ops.map(|op| (op.name.as_str(), op.kind.as_str(), op.median_us)));
    let comparison = earlier.map(|earlier| earlier.compare(&setting, latency.median_us, steps));
    // libtorch has an allocator of its own.
    let per_run = |used: f64| (engine != EngineName::Torch).then_some(used / runs as f64);
    let report = Report {
        model: args.model.model.clone(),
        model_sha256,
        engine,
        provider,
        runs,
        warmup,
        threads: args.threads.threads,
        batch,
        hop,
        latency,
        allocations_per_run: per_run(used.allocations as f64),
        bytes_allocated_per_run: per_run(used.allocated_bytes as f64),
        input: synthetic::WHAT,
        cpu,
        profile,
        comparison,
    };
    // The report first, and the drawing even where nobody reads that.
    let told = if args.model.json { output::json(&report) } else { output::text(&report.text()) };
    if let Some(target) = &args.svg {
        report.draw(&nanos, &args.model.model, target)?;
    }
    told
}

/// More runs than the time that they are timed for will hold, by the fastest of those to warm up.
fn most_runs(warmup: usize, fastest: Duration) -> usize {
    // Of a few, each may be one that prepares what the later ones use.
    if warmup < 3 {
        return MOST_RUNS;
    }
    let expected = TIMED.as_nanos() * 5 / 4 / fastest.as_nanos().max(1);
    usize::try_from(expected).unwrap_or(MOST_RUNS).clamp(10, MOST_RUNS)
}

/// Runs of which the times of so many steps are kept.
fn kept(steps: usize) -> usize {
    (MOST_STEP_TIMES / steps.max(1)).max(1)
}

/// Works as often as is asked, or until the time is up and within bounds; returns how often.
fn repeat(
    asked: Option<u32>,
    bounds: Range<usize>,
    time: Duration,
    mut work: impl FnMut() -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let start = Instant::now();
    let enough = |done: usize| match asked {
        Some(runs) => done >= runs as usize,
        None => done >= bounds.end || (done >= bounds.start && start.elapsed() >= time),
    };
    let mut done = 0;
    while !enough(done) {
        work()?;
        done += 1;
    }
    Ok(done)
}

impl Profile {
    /// Each step's median over the first runs, in the order in which they run.
    fn of(work: impl FnOnce(&mut dyn FnMut(&[StepTime])) -> Result<(), Failure>) -> Result<Profile, Failure> {
        let (mut first, mut nanos): (Vec<StepTime>, Vec<Vec<u64>>) = (Vec::new(), Vec::new());
        let mut profiled_runs = 0;
        work(&mut |steps| {
            if first.is_empty() {
                first = steps.to_vec();
                nanos = vec![Vec::new(); steps.len()];
            }
            if profiled_runs < kept(steps.len()) {
                profiled_runs += 1;
                nanos.iter_mut().zip(steps).for_each(|(all, step)| all.push(step.nanos));
            }
        })?;
        let median = |nanos: &mut Vec<u64>| {
            nanos.sort_unstable();
            microseconds(nearest_rank(nanos, 50))
        };
        let medians: Vec<f64> = nanos.iter_mut().map(median).collect();
        let total: f64 = medians.iter().sum();
        let op = |(step, median_us): (StepTime, f64)| Op {
            name: step.name,
            kind: step.kind,
            dtype: step.dtype,
            median_us,
            share: median_us / total.max(f64::MIN_POSITIVE),
            macs: step.macs,
            gmac_per_s: step.macs.filter(|&macs| macs > 0 && median_us > 0.0).map(|macs| macs as f64 / median_us / 1e3),
        };
        Ok(Profile { profiled_runs, ops: first.into_iter().zip(medians).map(op).collect() })
    }
}

impl Latency {
    /// Of times in ascending order, of runs of `batch` samples each.
    fn of(nanos: &[u64], batch: usize) -> Latency {
        let mean_us = nanos.iter().sum::<u64>() as f64 / nanos.len() as f64 / 1e3;
        let at = |percent| microseconds(nearest_rank(nanos, percent));
        let [min_us, median_us, p90_us, p99_us, max_us] = [0, 50, 90, 99, 100].map(at);
        let jitter_us = microseconds(median_distance(nanos));
        let throughput_per_s = batch as f64 * 1e6 / mean_us;
        Latency { min_us, median_us, mean_us, p90_us, p99_us, max_us, jitter_us, throughput_per_s }
    }
}

/// The median of what lies between each and their median.
fn median_distance(sorted: &[u64]) -> Option<u64> {
    let median = nearest_rank(sorted, 50)?;
    let mut distances: Vec<u64> = sorted.iter().map(|time| time.abs_diff(median)).collect();
    distances.sort_unstable();
    nearest_rank(&distances, 50)
}

fn nearest_rank(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

fn microseconds(nanos: Option<u64>) -> f64 {
    nanos.map_or(f64::NAN, |nanos| nanos as f64 / 1e3)
}

impl Report {
    /// The histogram of `nanos`, which are in ascending order.
    fn draw(&self, nanos: &[u64], model: &Path, target: &Path) -> Result<(), Failure> {
        let Latency { median_us, p90_us, p99_us, jitter_us, max_us, .. } = self.latency;
        let name = model.display();
        let threads = if self.threads == 1 { "one thread".to_owned() } else { format!("{} threads", self.threads) };
        let engine = output::engine_on(self.engine, self.provider.as_deref());
        let facts = format!(
            "{} runs on {threads} of {}; engine {engine}; jitter {jitter_us:.1} us; max {max_us:.1} us",
            self.runs,
            self.cpu.text(),
        );
        let marks = [("median", median_us), ("p90", p90_us), ("p99", p99_us)];
        let histogram = Histogram { title: format!("Latency of {name}"), facts, nanos, marks: &marks };
        output::file(target, histogram.svg())
    }

    fn text(&self) -> String {
        let Latency { min_us, median_us, mean_us, p90_us, p99_us, max_us, jitter_us, throughput_per_s } = self.latency;
        let engine = output::engine_on(self.engine, self.provider.as_deref());
        let mut text = format!("engine {engine}, {} runs after {} to warm up\n", self.runs, self.warmup);
        text += &format!("input {}\ncpu {}\n", self.input, self.cpu.text());
        if let Some(note) = &self.cpu.note {
            text += &format!("note: {note}\n");
        }
        text.push('\n');
        text += &format!(
            "median {median_us:.1} us  (min {min_us:.1}, mean {mean_us:.1}, p90 {p90_us:.1}, p99 {p99_us:.1}, max {max_us:.1})\n"
        );
        text += &format!("jitter {jitter_us:.1} us, the median distance from the median\n");
        text += &match self.batch {
            1 => format!("rate   {throughput_per_s:.1} inferences a second, one after the other\n"),
            batch => format!("rate   {throughput_per_s:.1} samples a second, {batch} to an inference\n"),
        };
        text += &match (self.allocations_per_run, self.bytes_allocated_per_run) {
            (Some(allocations), Some(bytes)) => {
                let own = if self.engine == EngineName::Ort { "; ONNX Runtime's own are not counted" } else { "" };
                format!("heap   {allocations:.1} allocations a run, {bytes:.0} bytes{own}\n")
            }
            _ => format!("heap   not counted: the {} engine allocates by itself\n", self.engine),
        };
        if let Some(Profile { profiled_runs, ops }) = &self.profile {
            let row = |op: &Op| {
                let (time, share) = (format!("{:.1}", op.median_us), format!("{:.1}", 100.0 * op.share));
                let macs = op.macs.filter(|&macs| macs > 0).map_or(String::new(), |macs| macs.to_string());
                let speed = op.gmac_per_s.map_or(String::new(), |speed| format!("{speed:.1}"));
                vec![op.name.clone(), op.kind.clone(), op.dtype.clone(), time, share, macs, speed]
            };
            let header = ["step", "kind", "dtype", "median us", "%", "MAC", "GMAC/s"];
            text += &format!("\n{}", output::table(&header, 3, ops.iter().map(row)));
            if *profiled_runs < self.runs {
                text += &format!("of {profiled_runs} further runs\n");
            }
        }
        if let Some(comparison) = &self.comparison {
            text += &format!("\n{}", comparison.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let nanos: Vec<u64> = (1..=100).map(|us| us * 1000).collect();
        let latency = Latency::of(&nanos, 1);
        assert_eq!((latency.min_us, latency.median_us, latency.p90_us), (1.0, 50.0, 90.0));
        assert_eq!((latency.p99_us, latency.max_us, latency.mean_us), (99.0, 100.0, 50.5));
        let alone = Latency::of(&[8000], 2);
        assert_eq!((alone.p99_us, alone.jitter_us, alone.throughput_per_s), (8.0, 0.0, 250_000.0));
    }

    #[test]
    fn room_is_for_what_the_time_will_hold() {
        let runs = |warmup, micros| most_runs(warmup, Duration::from_micros(micros));
        assert_eq!([runs(3, 100), runs(4000, 50), runs(3, 0)], [12_500, 25_000, MOST_RUNS]);
        assert_eq!(runs(3, 5_000_000), 10, "as many as are timed at least");
        assert_eq!([runs(0, 100), most_runs(0, Duration::MAX)], [MOST_RUNS; 2], "nothing is known");
    }

    #[test]
    fn a_profile_keeps_the_first_times_and_no_more_than_it_may() {
        let step = |name: &str, nanos| StepTime {
            name: name.to_owned(),
            kind: "Copy".to_owned(),
            dtype: "int8".to_owned(),
            macs: None,
            nanos,
        };
        let steps = 1 << 10;
        let ran = |runs| {
            let work = |each: &mut dyn FnMut(&[StepTime])| {
                (0..runs).for_each(|run| each(&vec![step("s", if run < 256 { 1_000 } else { 9_000 }); steps]));
                Ok(())
            };
            Profile::of(work).unwrap_or_else(|_| unreachable!())
        };
        assert_eq!(ran(5).profiled_runs, 5);
        let profile = ran(1000);
        assert_eq!((profile.profiled_runs, profile.ops.len()), (256, steps));
        assert!(profile.ops.iter().all(|op| op.median_us == 1.0));
    }

    #[test]
    fn one_run_that_was_interrupted_is_no_jitter() {
        let latency = Latency::of(&[9_000, 10_000, 10_000, 10_000, 11_000, 12_000, 500_000], 1);
        assert_eq!((latency.median_us, latency.jitter_us, latency.max_us), (10.0, 1.0, 500.0));
    }
}
