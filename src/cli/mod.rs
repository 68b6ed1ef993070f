//! The command line: parses, calls the library, prints. One file per command, named as it is; the
//! other files are what several of them share.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bench;
mod board;
mod budget;
mod compare;
mod cpu;
mod elements;
mod eval;
mod failure;
mod files;
mod footprint;
mod inspect;
mod metric;
mod output;
mod run;
mod runner;
mod samples;
mod size;
mod stream;
mod svg;
mod synthetic;
mod targets;

use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tractlet::{EngineChoice, Model, Session, SessionOptions};

use failure::Failure;

/// Runs quantized ONNX models on small boards, within a memory bound.
///
/// Every command but `targets` takes an .onnx file. `tractlet COMMAND --help` is its manual.
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
    Stream(Box<stream::StreamArgs>),
    Targets(targets::TargetsArgs),
}

/// What every command takes.
#[derive(Args)]
struct ModelArgs {
    /// The model, an .onnx file
    model: PathBuf,
    /// Engine that runs it; `auto` takes the best that can
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = str::parse::<EngineChoice>)]
    engine: EngineChoice,
    /// Size of a dimension that the model leaves open; repeatable. An open batch is 1
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, usize)>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl ModelArgs {
    fn open(&self) -> Result<Model, Failure> {
        Ok(Model::open(&self.model)?)
    }

    fn session(&self, model: &Model) -> Result<Session, Failure> {
        let options = SessionOptions::default().engine(self.engine);
        let options = self.dim.iter().fold(options, |options, (name, size)| options.bind(name, *size));
        Ok(Session::new(model, options)?)
    }
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=SIZE, such as batch=1")?;
    match size.parse() {
        Ok(size) if size > 0 => Ok((name.to_owned(), size)),
        _ => Err(format!("`{size}` is not a size; expected a whole number above 0")),
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    // Panics are caught, here at the latest: they end as an error like any other.
    panic::set_hook(Box::new(|info| log::debug!("{info}")));
    let Cli { command } = Cli::parse();
    let work = || match command {
        Command::Run(args) => run::run(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Footprint(args) => footprint::footprint(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Stream(args) => stream::stream(&args),
        Command::Targets(args) => targets::targets(&args),
    };
    let done = panic::catch_unwind(panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err("tractlet failed in a way that it should not; please report it with what RUST_LOG=debug shows".into())
    });
    match done {
        // Whoever read stdout has seen enough.
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Because(reason)) => {
            output::error(&reason);
            ExitCode::FAILURE
        }
    }
}
