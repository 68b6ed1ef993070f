//! `tractlet footprint`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tractlet::footprint::{Loading, Measured, Timeline, Watch, heap};
use tractlet::{EngineName, MemoryPlan};

use super::budget::{self, Budget, BudgetArg, Held};
use super::failure::Failure;
use super::runner::Runner;
use super::svg::Memory;
use super::threads::ThreadArgs;
use super::{HopArgs, ModelArgs, cap, files, output, size, synthetic};

/// State and measure the memory that a model takes, and hold it against a budget
///
/// The plan engine states what it will use before the first run: packed weights, the arena of
/// activations, by how much the scratch of kernels makes it larger, and the inputs and outputs, which
/// the caller holds and nothing copies. Then the model runs a few times in this process. Peaks and resident sizes are the
/// whole process's as the kernel counts them, the program itself included; heap figures are the
/// program's own requests. Page faults are the process's too, of loading and of all runs together.
///
/// A budget is checked twice: what the plan states before the first run, which there is none of if
/// that is too much, and what was measured after the last.
///
/// For a drawing a second thread looks at the process every tenth of a millisecond or so, which takes some time and
/// some 100 KiB of its own, and the figures contain that.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct FootprintArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    hop: HopArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Most that may be taken: exit 1 above it. A size that may be resident at any time, in bytes or with
    /// a unit (8MiB, 8MB); a board of `tractlet targets`, for its budget; or a .toml file of limits
    #[arg(long, value_name = "SIZE|BOARD|FILE.toml", value_parser = budget::parse)]
    budget: Option<BudgetArg>,
    /// Also draw memory over the time of loading and of the first run into this file
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet footprint model.onnx
  tractlet footprint model.onnx --budget 32MiB
  tractlet footprint model.onnx --budget pi4
  tractlet footprint model.onnx --budget budget.toml
  tractlet footprint model.onnx --svg memory.svg
  tractlet footprint model.onnx --max-rss 24MiB
  tractlet footprint model.onnx --hop 16

A file of limits has whole numbers of bytes under any of: total_bytes, weights_bytes, arena_bytes, scratch_bytes, \
io_bytes (of the plan), heap_peak_bytes and peak_bytes (as measured, the whole process).

JSON, in bytes: engine, predicted.{weights_bytes, arena_bytes, scratch_bytes, state_bytes, io_bytes, total_bytes, \
arena_lower_bound_bytes} (null where the engine states nothing; total is the sum of weights, arena, scratch and io; of \
the arena, state is kept from hop to hop with --hop, else 0; scratch lies in the arena, where no tensor is alive: \
scratch_bytes is what the arena would save without it, and what further threads work in; the lower bound is one of \
arena and scratch together, on one thread), measured.{load_peak_bytes, run_peak_bytes, peaks_apart, rss_bytes, \
pss_bytes, rss_anon_bytes, rss_file_bytes, rss_shmem_bytes, heap_peak_bytes, load_heap_peak_bytes, \
run_heap_peak_bytes, heap_live_bytes, load_allocations, run_allocations, load_minor_faults, load_major_faults, \
run_minor_faults, run_major_faults, stack_bytes, stack_touched_bytes} (null where it was not run), binary_bytes, \
model_bytes; with --budget also budget.{source, bytes, peak_bytes, fits, limits[].{part, limit_bytes, bytes, fits}}, \
bytes being null for a file. Allocations and faults are counts; run_allocations is of one run. stack_bytes is what the \
main thread's stack spans, which the kernel starts with some of; stack_touched_bytes what it ever used.";

/// The first run of an engine may prepare what the later ones use.
const RUNS: usize = 5;

#[derive(Serialize)]
struct Report {
    engine: EngineName,
    /// For an engine that plans its memory; the others allocate as they go.
    predicted: Option<MemoryPlan>,
    /// Nothing where the plan alone is over budget.
    measured: Option<Measured>,
    /// The program's own file.
    binary_bytes: Option<u64>,
    model_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Verdict>,
}

#[derive(Serialize)]
struct Verdict {
    source: String,
    bytes: Option<u64>,
    peak_bytes: Option<u64>,
    fits: bool,
    limits: Vec<Held>,
}

pub fn footprint(mut args: FootprintArgs) -> Result<(), Failure> {
    args.model.resolve()?;
    let args = &args;
    let budget = args.budget.as_ref().map(Budget::read).transpose()?;
    if let Some(target) = &args.svg {
        output::expect_writable(target)?;
    }
    let watch = args.svg.as_ref().map(|_| Watch::start("open and check")).transpose()?;
    let phase = |name| watch.as_ref().map_or(Ok(()), |watch| watch.phase(name));
    let loading = Loading::start();
    // The model goes before anything is measured: a session needs nothing of it.
    let open = || {
        let model = args.hop.open(&args.model, || args.model.open())?;
        if let Some(target) = &args.svg {
            let limits = args.budget.as_ref().and_then(BudgetArg::file);
            files::expect_apart(
                target,
                "the drawing",
                args.model.read(&model).iter().map(PathBuf::as_path).chain(limits),
            )?;
        }
        phase("make ready")?;
        let by_hops = |options| args.hop.options(options);
        let session = args.model.session_on(&args.threads, &model, &args.model.model, by_hops)?;
        Ok::<_, Failure>((args.hop.held(session, &args.model.model)?, model.file_bytes()))
    };
    let (session, model_bytes) = open()?;
    phase("inputs and outputs")?;
    let mut runner = Runner::new(session);
    synthetic::fill(&mut runner);
    let (session, inputs, mut outputs) = runner.parts();
    phase("first run")?;
    // The kernel forgets the peak of loading here.
    cap::check()?;
    let running = loading.loaded()?;
    let (engine, predicted) = (session.engine(), session.memory());
    let mut limits = match &budget {
        Some(budget) => budget.on_plan(predicted.as_ref(), engine)?,
        None => vec![],
    };
    let (mut measured, mut timeline) = (None, None);
    if limits.iter().all(|held| held.fits) {
        session.run(&inputs, &mut outputs)?;
        timeline = watch.map(Watch::finish).transpose()?;
        let mut before = heap();
        for _ in 1..RUNS {
            before = heap();
            session.run(&inputs, &mut outputs)?;
        }
        let figures = running.finished(&before)?;
        limits.extend(budget.iter().flat_map(|budget| budget.on_runs(&figures)));
        measured = Some(figures);
    }
    let excess = budget::excess(&limits, session, measured.as_ref());
    let binary_bytes = std::env::current_exe().and_then(|path| path.metadata()).map(|file| file.len()).ok();
    let budget = budget.map(|Budget { source, bytes, .. }| Verdict {
        source,
        bytes,
        peak_bytes: measured.as_ref().map(Measured::peak_bytes),
        fits: excess.is_none(),
        limits,
    });
    let report = Report { engine, predicted, measured, binary_bytes, model_bytes, budget };
    // The report first, and the drawing even where nobody reads that.
    let told = if args.model.json { output::json(&report) } else { output::text(&report.text()) };
    match (&args.svg, &timeline) {
        (Some(target), Some(timeline)) => report.draw(timeline, &args.model.model, target)?,
        (Some(target), None) => log::warn!("{}: not drawn, since the model was not run", target.display()),
        (None, _) => {}
    }
    told?;
    excess.map_or(Ok(()), |why| Err(why.into()))
}

impl Report {
    fn draw(&self, timeline: &Timeline, model: &Path, target: &Path) -> Result<(), Failure> {
        let human = |bytes: usize| size::human(bytes as u64);
        let heap = self.measured.map_or(0, |measured| measured.heap_peak_bytes);
        let facts = format!(
            "engine {}; file {}; heap at most {}; {} samples",
            self.engine,
            human(self.model_bytes),
            human(heap),
            timeline.samples.len()
        );
        let budget = self.budget.as_ref();
        let memory = Memory {
            title: format!("Memory of {}", model.display()),
            facts,
            timeline,
            peak_bytes: self.measured.as_ref().map_or(0, Measured::peak_bytes),
            stated_bytes: self.predicted.map(|plan| plan.total_bytes as u64),
            budget: budget.and_then(|budget| Some((budget.source.clone(), budget.bytes?))),
        };
        output::file(target, memory.svg())
    }

    fn text(&self) -> String {
        let engine = self.engine;
        let mut text = format!("engine {engine}\n\npredicted\n");
        text += &match &self.predicted {
            None => format!("No prediction: the {engine} engine states none.\n"),
            Some(memory) => {
                rows(&parts(memory).into_iter().map(|(what, bytes)| (what, size::human(bytes))).collect::<Vec<_>>())
            }
        };
        text += &self.measured.as_ref().map_or_else(|| "\nNot measured: it was not run.\n".to_owned(), phases);
        let binary = self.binary_bytes.map_or("unknown".to_owned(), size::human);
        text += &format!("\nfiles\n{}", rows(&[("program", binary), ("model", size::human(self.model_bytes as u64))]));
        if let Some(budget) = &self.budget {
            let row = |held: &Held| {
                let (bytes, limit) = (held.bytes.to_string(), held.limit_bytes.to_string());
                vec![held.part.to_owned(), if held.fits { "fits" } else { "over" }.to_owned(), bytes, limit]
            };
            let table = output::table(&["limit", "", "bytes", "at most"], 2, budget.limits.iter().map(row));
            text += &format!("\nbudget {}\n{table}", budget.source);
        }
        text
    }
}

fn rows(rows: &[(&str, String)]) -> String {
    rows.iter().map(|(what, value)| format!("{what:<28}{value}\n")).collect()
}

/// What was measured while loading, while running, and afterwards.
fn phases(m: &Measured) -> String {
    let human = size::human;
    let together = if m.peaks_apart { "" } else { " (loading included: the kernel does not let them be told apart)" };
    let unknown = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human);
    let faults = |minor: u64, major: u64| format!("{minor} minor, {major} major");
    let loading = rows(&[
        ("resident, peak", human(m.load_peak_bytes)),
        ("heap, peak", human(m.load_heap_peak_bytes as u64)),
        ("allocations", m.load_allocations.to_string()),
        ("page faults", faults(m.load_minor_faults, m.load_major_faults)),
    ]);
    let running = rows(&[
        ("resident, peak", human(m.run_peak_bytes) + together),
        ("heap, peak", human(m.run_heap_peak_bytes as u64)),
        ("allocations, one run", m.run_allocations.to_string()),
        ("page faults, all runs", faults(m.run_minor_faults, m.run_major_faults)),
    ]);
    let after = rows(&[
        ("resident", human(m.rss_bytes)),
        ("  heap and stacks", human(m.rss_anon_bytes)),
        ("  program and mapped files", human(m.rss_file_bytes)),
        ("  shared memory", human(m.rss_shmem_bytes)),
        ("  proportional share", unknown(m.pss_bytes)),
        ("heap, held", human(m.heap_live_bytes as u64)),
        ("stack, main thread", format!("{} used of {}", unknown(m.stack_touched_bytes), unknown(m.stack_bytes))),
    ]);
    format!("\nmeasured, the whole process, loading\n{loading}\nrunning, {RUNS} times\n{running}\nafterwards\n{after}")
}

/// A part of the arena.
const KEPT: &str = "  kept from hop to hop";

/// What a plan will use, part by part and together.
fn parts(memory: &MemoryPlan) -> Vec<(&'static str, u64)> {
    let all = [
        ("weights and ops", memory.weights_bytes as u64),
        ("arena", memory.arena_bytes as u64),
        (KEPT, memory.state_bytes as u64),
        ("scratch", memory.scratch_bytes as u64),
        ("inputs and outputs", memory.io_bytes as u64),
        ("total", memory.total_bytes as u64),
    ];
    all.into_iter().filter(|part| *part != (KEPT, 0)).collect()
}
