//! The command line: parses, calls the library, prints. One file per command, named as it is; the
//! other files are what several of them share.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod apart;
mod bench;
mod board;
mod budget;
#[cfg(feature = "quantize")]
mod calibration;
mod cap;
#[cfg(feature = "quantize")]
mod compare;
mod compile;
mod confine;
mod cpu;
mod elements;
mod eval;
mod failure;
mod files;
mod footprint;
mod in_use;
mod inspect;
mod interrupt;
mod login;
mod metric;
#[cfg(feature = "quantize")]
mod npz;
#[cfg(feature = "ort")]
mod ort;
mod output;
#[cfg(feature = "quantize")]
mod prune;
#[cfg(feature = "quantize")]
mod quantize;
mod ratios;
mod reload;
mod run;
mod runner;
mod samples;
mod set;
mod size;
mod slot;
mod stream;
mod streams;
mod svg;
mod sweep;
mod synthetic;
mod targets;
mod threads;
mod torch;

use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::AtomicBool;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use signal_hook::consts::{SIGABRT, SIGXFSZ};
use signal_hook::flag;
use tractlet::footprint::{room_for, when_exhausted};
use tractlet::sandbox::Sandbox;
use tractlet::whole::when_visible;
use tractlet::{EngineChoice, Model, ModelFile, PlanCache, Session, SessionOptions, TensorSpec};

use failure::Failure;
use set::SetArgs;
use threads::ThreadArgs;

/// Runs quantized ONNX models on small boards, within a memory bound.
///
/// Every command but `targets`, `streams` and `slot` takes an .onnx file. What `compile` made of one, a .plan file, is taken just
/// as well, but by `compile`, `quantize`, `prune` and `compare`. `tractlet COMMAND --help` is its manual.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 the work failed, and stderr says why; 2 the command line is wrong.
With --json, stdout is one JSON object. Logs go to stderr: RUST_LOG=info or RUST_LOG=debug shows more.";

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Eval(eval::EvalArgs),
    Bench(bench::BenchArgs),
    Footprint(footprint::FootprintArgs),
    Inspect(inspect::InspectArgs),
    #[cfg(feature = "quantize")]
    Compare(compare::CompareArgs),
    #[cfg(feature = "quantize")]
    Prune(prune::PruneArgs),
    #[cfg(feature = "quantize")]
    Quantize(quantize::QuantizeArgs),
    Compile(compile::CompileArgs),
    Stream(Box<stream::StreamArgs>),
    Streams(streams::StreamsArgs),
    Slot(slot::SlotArgs),
    Targets(targets::TargetsArgs),
}

/// What every command takes.
#[derive(Args)]
struct ModelArgs {
    /// The model: an .onnx file, a .plan file that `tractlet compile` made of one, or a folder of slots (`tractlet slot`)
    #[cfg_attr(
        feature = "torch",
        arg(
            help = "The model: an .onnx file, a .plan file that `tractlet compile` made of one, or a folder of slots (`tractlet slot`); run, eval, bench and inspect also take a TorchScript file"
        )
    )]
    model: PathBuf,
    /// Engine that runs it; `auto` takes the best that can
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = str::parse::<EngineChoice>)]
    engine: EngineChoice,
    /// Size of a dimension that the model leaves open, by its name or, without one, as INPUT:AXIS; repeatable. An open batch is 1
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, usize)>,
    #[command(flatten)]
    set: SetArgs,
    /// With a .plan file: refuse it unless it was made from this model as it is now
    #[arg(long, value_name = "MODEL.onnx")]
    from: Option<PathBuf>,
    /// With an .onnx file: keep its plan in this folder and start from it the next time; by default the
    /// one that TRACTLET_PLAN_CACHE names, and without that none
    #[arg(long, value_name = "FOLDER")]
    plan_cache: Option<PathBuf>,
    /// Most that may be resident at any time, such as 24MiB, or the budget of a board, such as pi4: what would pass it is refused, and exit 1. Heap and copies of
    /// files never do, but for those of the libraries of the engines ort and torch. The program's own pages and stacks, which no program can refuse itself, are measured once the model
    /// is opened, once it is ready, and at the end; what they took too much is an error then. For a bound that the kernel
    /// holds, see MemoryMax= of systemd
    #[arg(long, value_name = "SIZE|BOARD", value_parser = board::bytes)]
    max_rss: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[cfg(feature = "ort")]
    #[command(flatten)]
    ort: ort::OrtArgs,
}

/// What commands take that run many samples.
#[derive(Args)]
struct BatchArgs {
    /// Samples of one inference: the leading dimension of inputs and outputs, which the model has as 1 or open
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
}

impl BatchArgs {
    fn samples(&self) -> usize {
        self.batch as usize
    }

    /// The model for that many.
    fn open(&self, args: &ModelArgs) -> Result<ModelFile, Failure> {
        if self.batch == 1 {
            return args.open();
        }
        match args.open_itself()? {
            ModelFile::Model(model) => Ok(ModelFile::Model(model.with_batch(self.samples())?)),
            ModelFile::Plan(plan) => {
                let plan = plan.path().display();
                Err(format!("{plan}: --batch is for a model, and this is a plan, whose sizes are set").into())
            }
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => {
                let file = file.path().display();
                Err(format!("{file}: --batch is for an ONNX model; --shape says what a TorchScript file takes").into())
            }
        }
    }
}

/// What commands take that show a model as `stream` runs it.
#[derive(Args)]
struct HopArgs {
    /// Run the model hop by hop, as `stream` does: it is given what is new of each window, so many rows of its input along time,
    /// and answers as for whole windows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    hop: Option<u32>,
}

impl HopArgs {
    fn rows(&self) -> Option<usize> {
        self.hop.map(|rows| rows as usize)
    }

    fn options(&self, options: SessionOptions) -> SessionOptions {
        self.rows().map_or(options.clone(), |rows| options.hop(rows))
    }

    /// The model; the plans that are kept of models take whole windows.
    fn open(
        &self,
        args: &ModelArgs,
        otherwise: impl FnOnce() -> Result<ModelFile, Failure>,
    ) -> Result<ModelFile, Failure> {
        if self.hop.is_some() { args.open_itself() } else { otherwise() }
    }

    /// What was asked for was had.
    fn held(&self, session: Session, model: &Path) -> Result<Session, Failure> {
        match session.whole_windows() {
            Some(why) => Err(format!("{}: --hop: it takes whole windows: {why}", model.display()).into()),
            None => Ok(session),
        }
    }
}

/// Names a folder for plans, where `--plan-cache` does not.
const CACHE_VARIABLE: &str = "TRACTLET_PLAN_CACHE";

impl ModelArgs {
    /// The model, or the plan that is kept of it.
    fn open(&self) -> Result<ModelFile, Failure> {
        self.open_at(&self.model)
    }

    /// As [`ModelArgs::open`], where MODEL is a folder that says which file is meant.
    fn open_at(&self, model: &Path) -> Result<ModelFile, Failure> {
        self.begin_opening(model)?;
        match self.cache() {
            Some(folder) if self.engine.is_planned() => {
                let file = PlanCache::new(folder).open(model, &self.dim, &self.set.options()?)?;
                self.checked(file, model)
            }
            _ => self.checked(ModelFile::open(model, &self.set.options()?)?, model),
        }
    }

    /// The folder where plans are kept, if there is one.
    fn cache(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(CACHE_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        self.plan_cache.clone().or_else(variable)
    }

    /// What opening `model` once more takes of the file system, and what the kernel says of the process.
    fn reopening(&self, model: &Path) -> Sandbox {
        let files = [Some(model), self.from.as_deref()].into_iter().flatten().chain(self.set.files());
        let read = files.filter_map(Path::parent).map(or_here);
        Sandbox {
            read: read.chain(["/proc/self".into()]).collect(),
            write: self.cache().into_iter().collect(),
            network: false,
        }
    }

    /// The files that `file`, which was opened for MODEL, was read from, and what it was held against.
    fn read(&self, file: &ModelFile) -> Vec<PathBuf> {
        let external: Vec<PathBuf> = match file {
            ModelFile::Model(model) => model.external_paths().collect(),
            _ => vec![],
        };
        let named = [Some(self.model.as_path()), self.from.as_deref()].into_iter().flatten().chain(self.set.files());
        named.map(PathBuf::from).chain(external).collect()
    }

    /// What MODEL names, and no plan in its place.
    fn open_itself(&self) -> Result<ModelFile, Failure> {
        self.open_itself_at(&self.model)
    }

    fn open_itself_at(&self, model: &Path) -> Result<ModelFile, Failure> {
        self.begin_opening(model)?;
        self.checked(ModelFile::open(model, &self.set.options()?)?, model)
    }

    /// From here on the cap on memory holds.
    fn begin_opening(&self, model: &Path) -> Result<(), Failure> {
        cap::begin(self.max_rss)?;
        cap::step(format!("opening {}", model.display()))
    }

    /// Holds a plan against the model that `--from` names.
    fn checked(&self, file: ModelFile, named: &Path) -> Result<ModelFile, Failure> {
        if let Some(model) = &self.from {
            let plan = match &file {
                ModelFile::Plan(plan) if plan.path() == named => plan,
                _ => return Err(format!("--from is for a .plan file, and {} is a model", named.display()).into()),
            };
            plan.expect_model(&Model::open(model)?)?;
        }
        Ok(file)
    }

    /// A session whose inferences as many threads share, hop by hop where that is said.
    fn session_on(
        &self,
        threads: &ThreadArgs,
        file: &ModelFile,
        named: &Path,
        by_hops: impl FnOnce(SessionOptions) -> SessionOptions,
    ) -> Result<Session, Failure> {
        #[cfg(feature = "torch")]
        if let ModelFile::Torch(file) = file {
            return Err(torch::not_taken(file));
        }
        let options = self.options(file, named)?.threads(threads.count());
        let session = self.ready(file, named, by_hops(options))?;
        threads.expect_used(session.engine())?;
        Ok(session)
    }

    fn options(&self, file: &ModelFile, named: &Path) -> Result<SessionOptions, Failure> {
        let options = SessionOptions::default().engine(self.engine);
        #[cfg(feature = "ort")]
        let options = options.ort(self.ort.options(&[self.engine])?);
        // A plan that is kept of the model has its sizes.
        let dims = if file.path() == named { self.dim.as_slice() } else { &[] };
        Ok(dims.iter().fold(options, |options, (name, size)| options.bind(name, *size)))
    }

    /// The session, with every step of it held against `--max-rss`.
    fn ready(&self, file: &ModelFile, named: &Path, options: SessionOptions) -> Result<Session, Failure> {
        cap::step(format!("making {} ready", named.display()))?;
        let session = file.session(options)?;
        let ends = session.inputs().iter().chain(session.outputs());
        room_for(format!("{}: inputs and outputs", named.display()), ends.map(TensorSpec::byte_len).sum())?;
        cap::step(format!("running {}", named.display()))?;
        Ok(session)
    }
}

/// A folder, which has no name where it is the working directory.
fn or_here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() }
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=SIZE, such as batch=1")?;
    match size.parse() {
        Ok(size) if size > 0 => Ok((name.to_owned(), size)),
        _ => Err(format!("`{size}` is not a size; expected a whole number above 0")),
    }
}

/// With options that take -1 for a value, of which they say what they would have in its place, and not for an option.
fn told_of_numbers(command: clap::Command) -> clap::Command {
    let takes = |arg: clap::Arg| {
        let is_option = arg.get_long().is_some() && arg.get_action().takes_values();
        if is_option { arg.allow_negative_numbers(true) } else { arg }
    };
    command.mut_args(takes).mut_subcommands(told_of_numbers)
}

/// Ends the process as clap does, with 2: what the arguments of `command` alone show to be wrong.
fn usage(command: &str, what: &str) -> ! {
    let mut cli = Cli::command();
    // Its usage line begins with the program's name then.
    cli.build();
    let error = match cli.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ArgumentConflict, what),
        None => cli.error(ErrorKind::ArgumentConflict, what),
    };
    error.exit()
}

const PANICKED: &str = "tractlet failed in a way that it should not; please report it with what RUST_LOG=debug shows";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    static ALWAYS: AtomicBool = AtomicBool::new(true);
    static TOO_LARGE: AtomicBool = AtomicBool::new(false);
    // Before anything is asked for.
    when_exhausted(cap::exhausted);
    // What the standard library and the C library ask for beside the allocator, such as a thread's handle, ends in an abort, of
    // which they have said why.
    let ends = flag::register_conditional_shutdown(SIGABRT, 1, &ALWAYS);
    // Without somebody who listens, a file that may not grow any more ends the process; so it is an error of the write.
    let grows = flag::register(SIGXFSZ, &TOO_LARGE);
    // tract warns of each opset that it was not made for, at each opening; what it cannot run it refuses.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,tract_=error"))
        .format(output::log_line)
        .init();
    // Panics are caught, here at the latest: they end as an error like any other. A program that cannot unwind ends at once,
    // with the same error.
    panic::set_hook(Box::new(|info| {
        log::debug!("{info}");
        if cfg!(panic = "abort") {
            output::error(PANICKED);
            process::exit(1);
        }
    }));
    if let Err(error) = ends.and(grows) {
        log::warn!("want of memory, or a limit on the size of files, may end the program by a signal: {error}");
    }
    let matches = told_of_numbers(Cli::command()).try_get_matches();
    let Cli { command } =
        matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| login::exit(&error));
    // These end in an order of their own.
    if !matches!(command, Command::Stream(_) | Command::Streams(_)) {
        when_visible(interrupt::put_off);
    }
    let work = || match command {
        Command::Run(args) => run::run(args),
        Command::Eval(args) => eval::eval(args),
        Command::Bench(args) => bench::bench(args),
        Command::Footprint(args) => footprint::footprint(args),
        Command::Inspect(args) => inspect::inspect(args),
        #[cfg(feature = "quantize")]
        Command::Compare(args) => compare::compare(&args),
        #[cfg(feature = "quantize")]
        Command::Prune(args) => prune::prune(&args),
        #[cfg(feature = "quantize")]
        Command::Quantize(args) => quantize::quantize(&args),
        Command::Compile(args) => compile::compile(&args),
        Command::Stream(args) => stream::stream(&args),
        Command::Streams(args) => streams::streams(&args),
        Command::Slot(args) => slot::slot(&args),
        Command::Targets(args) => targets::targets(&args),
    };
    // What was done within the cap is a success, and nothing else.
    let work = || work().and_then(|()| cap::check());
    let done = panic::catch_unwind(panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(PANICKED.into()));
    let code = match done {
        // Whoever read stdout has seen enough.
        Ok(()) | Err(Failure::Closed) => 0,
        Err(Failure::Because(reason)) => {
            output::error(&reason);
            1
        }
    };
    #[cfg(feature = "ort")]
    ort::leave(code);
    #[cfg(not(feature = "ort"))]
    ExitCode::from(code)
}

#[cfg(test)]
mod tests;
