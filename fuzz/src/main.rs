//! The driver: `tractlet-fuzz fuzz TARGET`, `replay TARGET [FILE…]`, `minimise TARGET`. CONTRIBUTING.md says how it is used.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tractlet::footprint::CountingAllocator;
use tractlet_fuzz::driver::{self, Plan};
use tractlet_fuzz::{TARGETS, Target, corpus};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const USAGE: &str = "usage:
  tractlet-fuzz fuzz TARGET|all [--seconds N] [--seed N] [--work DIR]
  tractlet-fuzz replay TARGET|all [FILE...] [--work DIR]
  tractlet-fuzz minimise TARGET|all [--work DIR]

fuzz changes inputs for N seconds a target [10]; replay runs files, or the corpus, as they are; minimise puts the
inputs that fuzz found into the repository's corpus, as far as they reach what its seeds do not.
DIR [target/fuzz/work] has a folder of inputs and one of findings for each target.";

/// Bytes of a target's folder in the repository, at most.
const MAX_CORPUS_BYTES: usize = 20 << 10;

struct Args {
    command: String,
    targets: Vec<&'static Target>,
    files: Vec<PathBuf>,
    seconds: u64,
    seed: u64,
    work: PathBuf,
}

fn main() -> ExitCode {
    // A thread of its own, with the stack that any thread of a program has: overflows are found as they would be there.
    let work = std::thread::Builder::new().stack_size(2 << 20).spawn(|| run().map_err(|error| error.to_string()));
    match work.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(true))) => ExitCode::SUCCESS,
        Ok(Ok(Ok(false))) => ExitCode::FAILURE,
        Ok(Ok(Err(error))) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Ok(Err(_)) | Err(_) => ExitCode::from(2),
    }
}

/// Tells whether nothing was found.
fn run() -> Result<bool, Box<dyn Error>> {
    let args = parse(std::env::args().skip(1))?;
    driver::set_up()?;
    let mut sound = true;
    for &target in &args.targets {
        sound &= match args.command.as_str() {
            "fuzz" => fuzz(target, &args)?,
            "replay" => replay(target, &args)?,
            "minimise" => minimise(target, &args)?,
            other => return Err(format!("there is no command `{other}`\n{USAGE}").into()),
        };
    }
    Ok(sound)
}

fn fuzz(target: &Target, args: &Args) -> Result<bool, Box<dyn Error>> {
    let plan = Plan {
        corpus: args.work.join("corpus").join(target.name),
        artifacts: findings(target, args),
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    let outcome = driver::fuzz(target, &plan)?;
    let edges = match outcome.edges {
        Some((reached, all)) => format!("{reached} of {all} edges"),
        None => "built without counters: inputs are changed blindly".into(),
    };
    let (name, runs, inputs, count) = (target.name, outcome.runs, outcome.corpus, outcome.findings.len());
    println!("{name:10} {runs:9} runs, {inputs:5} inputs, {edges}, {count} findings");
    Ok(outcome.findings.is_empty())
}

fn replay(target: &Target, args: &Args) -> Result<bool, Box<dyn Error>> {
    let inputs = match args.files.as_slice() {
        [] => [corpus::read(&corpus::committed(target.name)), (target.seeds)()].concat(),
        files => files.iter().map(std::fs::read).collect::<Result<_, _>>()?,
    };
    let findings = driver::replay(target, &inputs, &findings(target, args))?;
    for (index, finding) in &findings {
        let file = args.files.get(*index).map_or(format!("input {index}"), |path| path.display().to_string());
        println!("{}: {file}: {finding}", target.name);
    }
    println!("{:10} {:9} runs, {} findings", target.name, inputs.len(), findings.len());
    Ok(findings.is_empty())
}

fn minimise(target: &Target, args: &Args) -> Result<bool, Box<dyn Error>> {
    let folder = corpus::committed(target.name);
    let found = corpus::read(&args.work.join("corpus").join(target.name));
    let inputs = [corpus::read(&folder), found].concat();
    let before = inputs.len();
    let kept = driver::minimise(target, inputs, MAX_CORPUS_BYTES).ok_or("this needs counters: make fuzz-minimise")?;
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder)?;
    }
    kept.iter().try_for_each(|input| corpus::write(&folder, input))?;
    let bytes: usize = kept.iter().map(Vec::len).sum();
    println!("{:10} {} of {before} inputs, {bytes} bytes", target.name, kept.len());
    Ok(true)
}

fn findings(target: &Target, args: &Args) -> PathBuf {
    args.work.join("findings").join(target.name)
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Args, Box<dyn Error>> {
    let command = given.next().ok_or(USAGE)?;
    let name = given.next().ok_or(USAGE)?;
    let targets = match (name.as_str(), Target::named(&name)) {
        ("all", _) => TARGETS.iter().collect(),
        (_, Some(target)) => vec![target],
        _ => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            return Err(format!("there is no target `{name}`; expected all, {}", names.join(", ")).into());
        }
    };
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz/work");
    let mut args = Args { command, targets, files: Vec::new(), seconds: 10, seed: 1, work };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("nothing follows {argument}"));
        match argument.as_str() {
            "--seconds" => args.seconds = value()?.parse()?,
            "--seed" => args.seed = value()?.parse()?,
            "--work" => args.work = value()?.into(),
            option if option.starts_with("--") => return Err(format!("there is no option {option}\n{USAGE}").into()),
            file => args.files.push(file.into()),
        }
    }
    Ok(args)
}
