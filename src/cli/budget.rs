//! What a model may take at most: the limits of `footprint --budget`, and what is over them.

use std::cmp::Reverse;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tractlet::footprint::Measured;
use tractlet::{EngineName, MemoryPlan, Session};

use super::board::named;
use super::failure::Failure;
use super::size;

/// `--budget` as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum BudgetArg {
    Size(u64),
    File(PathBuf),
    Board { name: &'static str, bytes: u64 },
}

impl BudgetArg {
    pub fn file(&self) -> Option<&Path> {
        match self {
            BudgetArg::File(path) => Some(path),
            BudgetArg::Size(_) | BudgetArg::Board { .. } => None,
        }
    }
}

/// A size, a .toml file, or a board's name.
pub fn parse(text: &str) -> Result<BudgetArg, String> {
    if text.ends_with(".toml") {
        return Ok(BudgetArg::File(text.into()));
    }
    let not_a_size = match size::parse(text) {
        Ok(bytes) => return Ok(BudgetArg::Size(bytes)),
        Err(why) => why,
    };
    match named(text) {
        Ok(board) => Ok(BudgetArg::Board { name: board.board, bytes: board.budget_bytes }),
        Err(names) => Err(format!("{not_a_size}, or a .toml file of limits, or a board: {names}")),
    }
}

/// Limits, each under the name that the figure has in the report.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    total_bytes: Option<u64>,
    weights_bytes: Option<u64>,
    arena_bytes: Option<u64>,
    scratch_bytes: Option<u64>,
    io_bytes: Option<u64>,
    heap_peak_bytes: Option<u64>,
    peak_bytes: Option<u64>,
}

pub struct Budget {
    /// As it was given.
    pub source: String,
    /// The one size that it is, where it is one.
    pub bytes: Option<u64>,
    limits: Limits,
}

/// A limit, and what came of it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Held {
    pub part: &'static str,
    pub limit_bytes: u64,
    pub bytes: u64,
    pub fits: bool,
    /// What it is in a sentence.
    #[serde(skip)]
    what: &'static str,
}

const MOST_BYTES: u64 = 1 << 20;

impl Budget {
    pub fn read(argument: &BudgetArg) -> Result<Budget, Failure> {
        match argument {
            BudgetArg::Size(bytes) => Ok(Budget::whole(size::human(*bytes), *bytes)),
            BudgetArg::Board { name, bytes } => Ok(Budget::whole((*name).to_owned(), *bytes)),
            BudgetArg::File(path) => {
                Ok(Budget { source: path.display().to_string(), bytes: None, limits: read(path)? })
            }
        }
    }

    /// One size is a limit on what is resident, and so on what a plan states too.
    fn whole(source: String, bytes: u64) -> Budget {
        let limits = Limits { total_bytes: Some(bytes), peak_bytes: Some(bytes), ..Limits::default() };
        Budget { source, bytes: Some(bytes), limits }
    }

    /// Before the first run: the limits on what a plan states.
    pub fn on_plan(&self, memory: Option<&MemoryPlan>, engine: EngineName) -> Result<Vec<Held>, Failure> {
        let Limits { total_bytes, weights_bytes, arena_bytes, scratch_bytes, io_bytes, .. } = self.limits;
        let limits = [
            ("total_bytes", "the plan's total of", total_bytes),
            ("weights_bytes", "the plan's weights of", weights_bytes),
            ("arena_bytes", "the plan's arena of", arena_bytes),
            ("scratch_bytes", "the plan's scratch of", scratch_bytes),
            ("io_bytes", "the plan's inputs and outputs of", io_bytes),
        ];
        let Some(memory) = memory else {
            // A size is held against the peak in any case; a limit of a file may not go unheld in silence.
            let unheld = limits.iter().find(|(_, _, limit)| limit.is_some() && self.bytes.is_none());
            return unheld.map_or(Ok(vec![]), |(part, _, _)| {
                let what = format!("{}: `{part}` limits what a plan states", self.source);
                Err(format!("{what}, and the {engine} engine states nothing; limit `peak_bytes` instead").into())
            });
        };
        let bytes =
            [memory.total_bytes, memory.weights_bytes, memory.arena_bytes, memory.scratch_bytes, memory.io_bytes];
        Ok(hold(limits.into_iter().zip(bytes.map(|bytes| bytes as u64))))
    }

    /// After the runs: the limits on what was measured.
    pub fn on_runs(&self, measured: &Measured) -> Vec<Held> {
        let limits = [
            ("heap_peak_bytes", "the heap's peak of", self.limits.heap_peak_bytes),
            ("peak_bytes", "the peak of", self.limits.peak_bytes),
        ];
        hold(limits.into_iter().zip([measured.heap_peak_bytes as u64, measured.peak_bytes()]))
    }
}

fn read(path: &Path) -> Result<Limits, Failure> {
    let fault = |why: String| Failure::Because(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    let bytes = read.map_err(|error| fault(format!("cannot read the budget: {error}")))?;
    if bytes as u64 > MOST_BYTES {
        return Err(fault(format!("more than {MOST_BYTES} bytes, which no budget has")));
    }
    let limits: Limits = tractlet::from_toml(&text).map_err(|why| fault(format!("not a budget: {why}")))?;
    let Limits { total_bytes, weights_bytes, arena_bytes, scratch_bytes, io_bytes, heap_peak_bytes, peak_bytes } =
        &limits;
    let all = [total_bytes, weights_bytes, arena_bytes, scratch_bytes, io_bytes, heap_peak_bytes, peak_bytes];
    if all.iter().all(|limit| limit.is_none()) {
        return Err(fault("a budget without a limit; it needs `total_bytes`, or a part's".to_owned()));
    }
    Ok(limits)
}

fn hold(limits: impl Iterator<Item = ((&'static str, &'static str, Option<u64>), u64)>) -> Vec<Held> {
    let held = |((part, what, limit), bytes): ((_, _, Option<u64>), u64)| {
        let limit_bytes = limit?;
        Some(Held { part, limit_bytes, bytes, fits: bytes <= limit_bytes, what })
    };
    limits.filter_map(held).collect()
}

/// Why a budget does not hold: each limit that is passed, with what takes the most of it.
pub fn excess(held: &[Held], session: &Session, measured: Option<&Measured>) -> Option<String> {
    let passed: Vec<String> = held
        .iter()
        .filter(|held| !held.fits)
        .map(|held| {
            let (bytes, limit) = (size::exact(held.bytes), size::exact(held.limit_bytes));
            let mut parts = parts(held.part, session, measured);
            parts.sort_by_key(|(_, bytes)| Reverse(*bytes));
            let parts: Vec<String> =
                parts.iter().take(3).map(|(what, bytes)| format!("{what} {}", size::exact(*bytes))).collect();
            let parts =
                if parts.is_empty() { String::new() } else { format!(" (largest parts: {})", parts.join(", ")) };
            format!("{} {bytes} is above {limit}{parts}", held.what)
        })
        .collect();
    let when = if measured.is_none() { "; it was not run" } else { "" };
    (!passed.is_empty()).then(|| format!("over budget: {}{when}", passed.join("; ")))
}

/// What a figure is made of.
fn parts(part: &str, session: &Session, measured: Option<&Measured>) -> Vec<(String, u64)> {
    let named = |parts: &[(&str, u64)]| parts.iter().map(|(what, bytes)| ((*what).to_owned(), *bytes)).collect();
    match (part, session.memory(), measured) {
        ("total_bytes", Some(memory), _) => named(&[
            ("weights and ops", memory.weights_bytes as u64),
            ("arena", memory.arena_bytes as u64),
            ("scratch", memory.scratch_bytes as u64),
            ("inputs and outputs", memory.io_bytes as u64),
        ]),
        ("arena_bytes", ..) => fullest(session),
        ("scratch_bytes", ..) => {
            session.steps().iter().map(|step| (format!("step `{}`", step.name), step.scratch_bytes as u64)).collect()
        }
        ("io_bytes", ..) => {
            let specs = session.inputs().iter().chain(session.outputs());
            specs.map(|spec| (format!("`{}`", spec.name), spec.byte_len() as u64)).collect()
        }
        ("heap_peak_bytes", _, Some(measured)) => named(&[
            ("loading", measured.load_heap_peak_bytes as u64),
            ("running", measured.run_heap_peak_bytes as u64),
        ]),
        ("peak_bytes", _, Some(measured)) => named(&[
            ("heap at its peak", measured.heap_peak_bytes as u64),
            ("program and mapped files", measured.rss_file_bytes),
            ("shared memory", measured.rss_shmem_bytes),
        ]),
        _ => vec![],
    }
}

/// What lies in the arena at the step at which most does.
fn fullest(session: &Session) -> Vec<(String, u64)> {
    let alive =
        |step: usize| session.arena().iter().filter(move |block| (block.first_step..=block.last_step).contains(&step));
    let full = (0..session.steps().len()).max_by_key(|step| alive(*step).map(|block| block.bytes).sum::<usize>());
    let name = |names: &[String]| names.first().map_or_else(String::new, |name| format!("output of `{name}`"));
    full.map_or_else(Vec::new, |step| alive(step).map(|block| (name(&block.names), block.bytes as u64)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Budget, String> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let argument = parse(file.path().to_str().unwrap()).unwrap();
        Budget::read(&argument).map_err(|failure| match failure {
            Failure::Because(why) if why.starts_with(&file.path().display().to_string()) => why,
            _ => panic!("the error does not name the file"),
        })
    }

    const MEMORY: MemoryPlan = MemoryPlan {
        weights_bytes: 500,
        arena_bytes: 300,
        scratch_bytes: 100,
        state_bytes: 0,
        io_bytes: 50,
        total_bytes: 950,
        arena_lower_bound_bytes: 300,
    };

    #[test]
    fn a_budget_is_a_size_a_file_or_a_board() {
        assert_eq!(parse("8MiB"), Ok(BudgetArg::Size(8 << 20)));
        assert_eq!(parse("a/b.toml"), Ok(BudgetArg::File("a/b.toml".into())));
        assert_eq!(parse("pi4"), Ok(BudgetArg::Board { name: "pi4", bytes: 64 << 20 }));
        let why = parse("pi44").unwrap_err();
        assert!(why.contains("`pi44` is not a size") && why.contains("a board: pi-zero-2w, pi3"), "{why}");
    }

    #[test]
    fn each_limit_is_held_against_its_own_figure() {
        let budget = file("# why\ntotal_bytes = 950\narena_bytes = 299\nscratch_bytes = 0\n").unwrap();
        let held = budget.on_plan(Some(&MEMORY), EngineName::Plan).ok().unwrap();
        let found: Vec<_> = held.iter().map(|held| (held.part, held.bytes, held.fits)).collect();
        assert_eq!(found, [("total_bytes", 950, true), ("arena_bytes", 300, false), ("scratch_bytes", 100, false)]);
    }

    #[test]
    fn a_limit_that_nothing_can_be_held_against_is_an_error() {
        let why = |budget: &Budget| match budget.on_plan(None, EngineName::Tract) {
            Err(Failure::Because(why)) => Some(why),
            _ => None,
        };
        let budget = file("weights_bytes = 950\npeak_bytes = 5\n").unwrap();
        assert!(why(&budget).unwrap().contains("`weights_bytes` limits what a plan states, and the tract engine"));
        assert_eq!(why(&file("heap_peak_bytes = 5").unwrap()), None);
        assert_eq!(why(&Budget::read(&BudgetArg::Size(5)).ok().unwrap()), None);
    }

    #[test]
    fn a_file_that_is_no_budget_is_refused_with_its_fault() {
        for (text, part) in [
            ("", "a budget without a limit"),
            ("arena = 5", "not a budget: line 1: unknown field `arena`"),
            ("# why\n\narena_bytes = -5", "not a budget: line 3: invalid value: integer `-5`"),
            ("arena_bytes = '8MiB'", "arena_bytes"),
            ("arena_bytes = ", "not a budget"),
        ] {
            let why = file(text).err().unwrap();
            assert!(why.contains(part) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
