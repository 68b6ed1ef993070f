//! `tractlet footprint`.

use clap::Args;
use serde::Serialize;
use tractlet::footprint::{Loading, Measured, heap};
use tractlet::{EngineName, MemoryPlan};

use super::failure::Failure;
use super::runner::Runner;
use super::{ModelArgs, output, size, synthetic};

/// State and measure the memory that a model takes, and hold it against a budget
///
/// The plan engine states what it will use before the first run: packed weights, the arena of
/// activations, by how much the scratch of kernels makes it larger, and the inputs and outputs, which
/// the caller holds and nothing copies. Then the model runs a few times in this process. Peaks and resident sizes are the
/// whole process's as the kernel counts them, the program itself included; heap figures are the
/// program's own requests.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct FootprintArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Most that may be resident at any time, in bytes or with a unit (8MiB, 8MB): exit 1 above it
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    budget: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet footprint model.onnx
  tractlet footprint model.onnx --budget 32MiB

JSON, in bytes: engine, predicted.{weights_bytes, arena_bytes, scratch_bytes, io_bytes, total_bytes,
arena_lower_bound_bytes} (null where the engine states nothing; total is the sum of the first four; scratch
lies in the arena, where no tensor is alive: scratch_bytes is what the arena would save without it, and the
lower bound one of both together), measured.{
load_peak_bytes, run_peak_bytes, peaks_apart, rss_bytes, pss_bytes, rss_anon_bytes, rss_file_bytes,
rss_shmem_bytes, heap_peak_bytes, heap_live_bytes, load_allocations, run_allocations}; with --budget
also budget.{bytes, peak_bytes, fits}. The allocations are counts; run_allocations is of one run.";

/// The first run of an engine may prepare what the later ones use.
const RUNS: usize = 5;

#[derive(Serialize)]
struct Report {
    engine: EngineName,
    /// For an engine that plans its memory; the others allocate as they go.
    predicted: Option<MemoryPlan>,
    measured: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
}

#[derive(Serialize)]
struct Budget {
    bytes: u64,
    peak_bytes: u64,
    fits: bool,
}

pub fn footprint(args: &FootprintArgs) -> Result<(), Failure> {
    let loading = Loading::start();
    let mut runner = Runner::new(args.model.session(&args.model.open()?)?);
    synthetic::fill(&mut runner);
    let (session, inputs, mut outputs) = runner.parts();
    let running = loading.loaded()?;
    let predicted = session.memory();
    if let (Some(memory), Some(budget)) = (&predicted, args.budget)
        && memory.total_bytes as u64 > budget
    {
        return Err(foreseen(memory, budget).into());
    }
    let mut before = heap();
    for _ in 0..RUNS {
        before = heap();
        session.run(&inputs, &mut outputs)?;
    }
    let measured = running.finished(&before)?;
    let peak_bytes = measured.peak_bytes();
    let budget = args.budget.map(|bytes| Budget { bytes, peak_bytes, fits: peak_bytes <= bytes });
    let report = Report { engine: session.engine(), predicted, measured, budget };
    if args.model.json {
        output::json(&report)?
    } else {
        output::text(&report.text())?
    }
    match &report.budget {
        Some(budget) if !budget.fits => Err(report.excess(budget).into()),
        _ => Ok(()),
    }
}

impl Report {
    fn text(&self) -> String {
        let m = &self.measured;
        let human = |bytes: u64| size::human(bytes);
        let together =
            if m.peaks_apart { "" } else { " (loading included: the kernel does not let them be told apart)" };
        let pss = m.pss_bytes.map_or("unknown".to_owned(), human);
        let rows = [
            ("peak, loading", human(m.load_peak_bytes)),
            ("peak, running", human(m.run_peak_bytes) + together),
            ("resident", human(m.rss_bytes)),
            ("  heap and stacks", human(m.rss_anon_bytes)),
            ("  program and mapped files", human(m.rss_file_bytes)),
            ("  shared memory", human(m.rss_shmem_bytes)),
            ("  proportional share", pss),
            ("heap, peak", human(m.heap_peak_bytes as u64)),
            ("heap, held", human(m.heap_live_bytes as u64)),
            ("allocations, loading", m.load_allocations.to_string()),
            ("allocations, one run", m.run_allocations.to_string()),
        ];
        let rows: String = rows.iter().map(|(what, value)| format!("{what:<28}{value}\n")).collect();
        let engine = self.engine;
        let predicted = match &self.predicted {
            None => format!("No prediction: the {engine} engine states none.\n"),
            Some(memory) => {
                parts(memory).iter().map(|(what, bytes)| format!("{what:<28}{}\n", human(*bytes))).collect()
            }
        };
        format!("engine {engine}\n\npredicted\n{predicted}\nmeasured, the whole process\n{rows}")
    }

    /// Why the budget does not hold, the largest part first.
    fn excess(&self, budget: &Budget) -> String {
        let m = &self.measured;
        let mut parts = [
            ("heap at its peak", m.heap_peak_bytes as u64),
            ("program and mapped files", m.rss_file_bytes),
            ("shared memory", m.rss_shmem_bytes),
        ];
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let parts: Vec<String> = parts.iter().map(|(what, bytes)| format!("{what} {}", size::human(*bytes))).collect();
        let (peak, limit) = (size::human(budget.peak_bytes), size::human(budget.bytes));
        format!("over budget: the peak of {peak} is above {limit}; largest parts: {}", parts.join(", "))
    }
}

/// What a plan will use, part by part and together.
fn parts(memory: &MemoryPlan) -> [(&'static str, u64); 5] {
    [
        ("weights and ops", memory.weights_bytes as u64),
        ("arena", memory.arena_bytes as u64),
        ("scratch", memory.scratch_bytes as u64),
        ("inputs and outputs", memory.io_bytes as u64),
        ("total", memory.total_bytes as u64),
    ]
}

/// Why a model is not run at all: what it will use is above the budget already.
fn foreseen(memory: &MemoryPlan, budget: u64) -> String {
    let parts: Vec<String> =
        parts(memory).iter().map(|(what, bytes)| format!("{what} {}", size::human(*bytes))).collect();
    format!("over budget: the plan alone is above {}: {}", size::human(budget), parts.join(", "))
}
