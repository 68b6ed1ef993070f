//! `tractlet-plan bench`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tractlet_core::exec::Hook;

use crate::args::Args;
use crate::failure::Failure;
use crate::json::Json;
use crate::os;
use crate::out::Out;
use crate::session::Session;

/// Times are kept: this many are where a second is up on any plan.
const MOST_RUNS: usize = 100_000;

pub fn bench(args: &Args<'_>, allocations: fn() -> u64, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut session = Session::open(args.plan)?;
    session.fill();
    let mut warmup = 0;
    let start = os::nanoseconds();
    while args.warmup.map_or_else(|| warmup < 3 || os::nanoseconds() - start < 200_000_000, |asked| warmup < asked) {
        session.run(&mut ())?;
        warmup += 1;
    }
    let mut nanos = Vec::with_capacity(args.runs.unwrap_or(MOST_RUNS));
    let before = allocations();
    let start = os::nanoseconds();
    let enough = |done: usize| match args.runs {
        Some(asked) => done >= asked,
        None => done >= MOST_RUNS || done >= 10 && os::nanoseconds() - start >= 1_000_000_000,
    };
    while !enough(nanos.len()) {
        let start = os::nanoseconds();
        session.run(&mut ())?;
        nanos.push(os::nanoseconds() - start);
    }
    let runs = nanos.len();
    let allocations = (allocations() - before) as f64 / runs as f64;
    let latency = Latency::of(&mut nanos);
    let steps = if args.profile { Some(profile(&mut session, runs)?) } else { None };
    let report = Report { runs, warmup, allocations, latency, steps };
    out.text(&if args.json { report.json() } else { report.text() })
}

struct Report {
    runs: usize,
    warmup: usize,
    allocations: f64,
    latency: Latency,
    steps: Option<Vec<Step>>,
}

struct Step {
    name: String,
    kind: &'static str,
    dtype: &'static str,
    macs: u64,
    median_us: f64,
}

/// In microseconds.
struct Latency {
    min: f64,
    median: f64,
    mean: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// Sorts them; percentiles are of the nearest rank.
    fn of(nanos: &mut [u64]) -> Latency {
        nanos.sort_unstable();
        let rank = |percent: usize| (nanos.len() * percent).div_ceil(100).saturating_sub(1);
        let at = |percent| nanos.get(rank(percent)).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3);
        let mean = nanos.iter().sum::<u64>() as f64 / nanos.len() as f64 / 1e3;
        Latency { min: at(0), median: at(50), mean, p90: at(90), p99: at(99), max: at(100) }
    }
}

/// Each step's median over `runs` further runs.
fn profile(session: &mut Session, runs: usize) -> Result<Vec<Step>, Failure> {
    let mut watch = Stopwatch { start: 0, nanos: session.plan().ops().map(|_| Vec::with_capacity(runs)).collect() };
    for _ in 0..runs {
        session.run(&mut watch)?;
    }
    let medians = watch.nanos.iter_mut().map(|nanos| Latency::of(nanos).median);
    let step = |((name, op), median_us): ((&str, tractlet_core::plan::Op), f64)| Step {
        name: name.to_owned(),
        kind: op.kind(),
        dtype: op.dtype().name(),
        macs: op.macs(),
        median_us,
    };
    Ok(session.plan().ops().zip(medians).map(step).collect())
}

struct Stopwatch {
    start: u64,
    nanos: Vec<Vec<u64>>,
}

impl Hook for Stopwatch {
    fn before(&mut self, _: usize) {
        self.start = os::nanoseconds();
    }

    fn after(&mut self, index: usize, _: &[u8]) {
        let nanos = os::nanoseconds() - self.start;
        if let Some(times) = self.nanos.get_mut(index) {
            times.push(nanos);
        }
    }
}

impl Report {
    fn json(&self) -> String {
        let Latency { min, median, mean, p90, p99, max } = self.latency;
        let mut json = Json::default();
        json.open('{')
            .string("engine", "plan")
            .field("runs", self.runs)
            .field("warmup", self.warmup)
            .field("threads", 1);
        for (key, value) in [
            ("min_us", min),
            ("median_us", median),
            ("mean_us", mean),
            ("p90_us", p90),
            ("p99_us", p99),
            ("max_us", max),
            ("throughput_per_s", 1e6 / mean),
            ("allocations_per_run", self.allocations),
        ] {
            json.number(key, value);
        }
        if let Some(steps) = &self.steps {
            json.open_field("ops", '[');
            for Step { name, kind, dtype, macs, median_us } in steps {
                json.open('{').string("name", name).string("kind", kind).string("dtype", dtype);
                json.number("median_us", *median_us).field("macs", macs).close('}');
            }
            json.close(']');
        }
        json.close('}');
        json.line()
    }

    fn text(&self) -> String {
        let Latency { min, median, mean, p90, p99, max } = self.latency;
        let mut text = format!("engine plan, {} runs after {} to warm up\n\n", self.runs, self.warmup);
        text += &format!(
            "median {median:.1} us  (min {min:.1}, mean {mean:.1}, p90 {p90:.1}, p99 {p99:.1}, max {max:.1})\n"
        );
        text += &format!("heap   {:.1} allocations a run\n", self.allocations);
        for Step { name, kind, median_us, macs, .. } in self.steps.iter().flatten() {
            text += &format!("{median_us:>10.1} us  {macs:>10} MAC  {kind:<15} {name}\n");
        }
        text
    }
}
