//! `tractlet run`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tractlet::sandbox::Sandbox;
use tractlet::{EngineName, TensorSpec, npy};

use super::confine::{confine, expect_one_thread};
use super::elements::{Elements, top};
use super::failure::Failure;
use super::in_use::InUse;
use super::output::{self, Out};
use super::runner::Runner;
use super::samples::{Samples, sample_shape};
use super::threads::ThreadArgs;
use super::torch::{ToldBy, TorchArgs};
use super::{ModelArgs, cap, files, interrupt, or_here, usage};

/// Run a model on the samples of .npy files
///
/// An input file has the shape of the model's input, for one sample; or that shape behind a first
/// axis that lists samples. A leading 1 of the model's shape, its batch, may be left out: for an
/// input of [1, 1, 49, 10] files of [1, 1, 49, 10], [n, 1, 49, 10] and [n, 1, 1, 49, 10] are
/// taken. The element type must be the model's. Samples are read one at a time. An .npz file, as numpy.savez writes it,
/// has an array for each input by its name; a build without the feature `quantize` reads none.
///
/// An output file stacks what the samples gave: [n, 12] for an output of [1, 12]. Each is written
/// whole before the first gets its name; several get theirs one after the other, and not at one
/// instant.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    torch: TorchArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// .npy file for an input, or a folder of them; NAME may be left out where there is one input
    #[arg(long, visible_alias = "inputs", value_name = "[NAME=]X.npy", required = true)]
    input: Vec<PathBuf>,
    /// Write an output to a .npy file; NAME may be left out where there is one output
    #[arg(short, long, value_name = "[NAME=]Y.npy")]
    output: Vec<PathBuf>,
    /// Text file with a label a line, one for each element of the first output
    #[arg(long, value_name = "L.txt")]
    labels: Option<PathBuf>,
    /// Show the K largest elements of the first output [default with --labels: 3]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Once everything is open, give up files, the network and other programs for good (Landlock and seccomp)
    #[arg(long)]
    sandbox: bool,
}

const EXAMPLES: &str = "\
Examples:
  tractlet run model.onnx --input x.npy --labels labels.txt --top 3
  tractlet run model.onnx --input x.npy -o y.npy
  tractlet run model.onnx --input left=a.npy --input right=b.npy --json

JSON: engine, samples, outputs[].{name, shape, dtype, values}; `values` are flat in row-major order and complete, NaN \
and infinities as null. With --top or --labels also top[][].{index, label, score}: for each sample, the largest first.

A file whose own name has a `=` is written as a path: --input ./a=b.npy";

/// Values that a line of text shows of an output.
const SHOWN: usize = 8;

#[derive(Serialize)]
struct Report {
    engine: EngineName,
    samples: usize,
    outputs: Vec<Output>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Vec<Score>>>,
}

#[derive(Serialize)]
struct Output {
    name: String,
    shape: Vec<usize>,
    dtype: &'static str,
    values: Elements,
}

#[derive(Serialize)]
struct Score {
    index: usize,
    label: Option<String>,
    score: f64,
}

pub fn run(mut args: RunArgs) -> Result<(), Failure> {
    if let Err(what) = expect_one_thread(args.sandbox, &args.threads) {
        usage("run", what);
    }
    let (in_use, model) = args.model.begin_use()?;
    args.model.model = model;
    let done = samples(&args, &in_use);
    in_use.end(true, done)
}

fn samples(args: &RunArgs, in_use: &InUse) -> Result<(), Failure> {
    let told = ToldBy::Arguments("input", &args.input);
    let model = args.model.open()?;
    let options = args.model.options(&model, &args.model.model)?.threads(args.threads.count());
    let mut runner = Runner::new(args.torch.session(&args.model, &model, told, options)?);
    args.threads.expect_used(runner.session().engine())?;
    let read = args.model.read(&model);
    drop(model);
    if let Some(hop) = runner.session().hop().filter(|hop| hop.runs > 1) {
        let (plan, before) = (args.model.model.display(), hop.runs - 1);
        log::warn!("{plan}: samples are hops in succession; the first {before} answers are of no whole window");
    }
    let specs = runner.session().outputs().to_vec();
    let ranking = Ranking::new(args, &specs)?;
    let inputs = Samples::open_all("input", &args.input, runner.session().inputs())?;
    let samples = inputs.first().map_or(1, Samples::count);
    let outputs = files::assign(("output", "output"), &args.output, &specs)?;
    for (_, path) in &outputs {
        let files = read.iter().chain(&args.labels).map(PathBuf::as_path);
        let samples = inputs.iter().any(|samples| samples.reads(path)).then_some(path.as_path());
        files::expect_apart(path, "an output", files.chain(samples))?;
    }
    let mut writers = open_outputs(outputs, &specs, samples)?;
    if args.sandbox {
        confine(&args.needs(&specs, in_use)?, runner.session().engine())?;
    }

    let mut results: Vec<Vec<u8>> = vec![Vec::new(); specs.len()];
    let mut tops = Vec::new();
    let mut screen = Screen::new(args, samples, ranking.as_ref());
    for sample in 0..samples {
        interrupt::heed()?;
        runner.run_sample(&inputs, sample)?;
        for (writer, tensor) in &mut writers {
            writer.write(runner.output(*tensor))?;
        }
        let scores = match (&ranking, specs.first()) {
            (Some(ranking), Some(spec)) => {
                Some(ranking.rank(&Elements::decode(spec.dtype, runner.output(0))?.to_f64()))
            }
            _ => None,
        };
        if args.model.json {
            results.iter_mut().enumerate().for_each(|(tensor, all)| all.extend_from_slice(runner.output(tensor)));
            tops.extend(scores);
        } else {
            screen.sample(sample, scores.as_deref(), &specs, &runner)?;
        }
    }
    // No file is published that took more than it might.
    cap::check()?;
    publish(writers)?;
    if !args.model.json {
        return screen.end(&args.output);
    }
    let output = |(spec, bytes): (&TensorSpec, Vec<u8>)| {
        let values = Elements::decode(spec.dtype, &bytes)?;
        Ok(Output { name: spec.name.clone(), shape: stacked(spec, samples), dtype: spec.dtype.name(), values })
    };
    let outputs = specs.iter().zip(results).map(output).collect::<Result<_, Failure>>()?;
    let top = ranking.is_some().then_some(tops);
    output::json(&Report { engine: runner.session().engine(), samples, outputs, top })
}

impl RunArgs {
    /// Files get their names at the end, and the use of a slot is told of.
    fn needs(&self, specs: &[TensorSpec], in_use: &InUse) -> Result<Sandbox, Failure> {
        let outputs = files::assign(("output", "output"), &self.output, specs)?;
        let folders = outputs.iter().map(|(_, path)| {
            let target = path.canonicalize().unwrap_or_else(|_| path.clone());
            target.parent().map_or_else(|| ".".into(), or_here)
        });
        let write = folders.chain(in_use.folder().map(PathBuf::from)).collect();
        Ok(Sandbox { read: vec!["/proc/self".into()], write, network: false })
    }
}

/// Opened before anything runs: a folder that cannot be written costs no computation.
fn open_outputs(
    assigned: Vec<(usize, PathBuf)>,
    specs: &[TensorSpec],
    samples: usize,
) -> Result<Vec<(npy::Writer, usize)>, Failure> {
    let is_taken = |(i, (_, path)): &(usize, &(usize, PathBuf))| {
        assigned.iter().take(*i).any(|(_, other)| files::same(other, path))
    };
    if let Some((index, (_, path))) = assigned.iter().enumerate().find(is_taken) {
        return Err(
            format!("{}: output {index} would overwrite another; give each its own file", path.display()).into()
        );
    }
    let mut writers = Vec::new();
    for (tensor, path) in assigned {
        if let Some(spec) = specs.get(tensor) {
            writers.push((npy::Writer::create(path, spec.dtype, &stacked(spec, samples))?, tensor));
        }
    }
    Ok(writers)
}

/// All on disk before the first takes its name.
fn publish(writers: Vec<(npy::Writer, usize)>) -> Result<(), Failure> {
    let written = writers.into_iter().map(|(writer, _)| writer.finish()).collect::<Result<_, _>>()?;
    Ok(npy::Written::publish_all(written)?)
}

fn stacked(spec: &TensorSpec, samples: usize) -> Vec<usize> {
    std::iter::once(samples).chain(sample_shape(spec).iter().copied()).collect()
}

/// The largest elements of the first output, with their labels.
struct Ranking {
    labels: Option<Vec<String>>,
    k: usize,
}

impl Ranking {
    fn new(args: &RunArgs, outputs: &[TensorSpec]) -> Result<Option<Ranking>, Failure> {
        if args.labels.is_none() && args.top.is_none() {
            return Ok(None);
        }
        let labels = args.labels.as_deref().map(files::labels).transpose()?;
        if let (Some(path), Some(labels), Some(output)) = (&args.labels, &labels, outputs.first()) {
            let classes: usize = output.shape.iter().product();
            if labels.len() != classes {
                let what = format!(
                    "{}: {} labels, output `{}` has {classes} elements",
                    path.display(),
                    labels.len(),
                    output.name
                );
                return Err(format!("{what}; expected one label a line").into());
            }
        }
        Ok(Some(Ranking { labels, k: args.top.map_or(3, |k| k as usize) }))
    }

    fn rank(&self, values: &[f64]) -> Vec<Score> {
        let label = |index| self.labels.as_ref().and_then(|labels| labels.get(index).cloned());
        let score = |index| Score { index, label: label(index), score: values.get(index).copied().unwrap_or(f64::NAN) };
        top(values, self.k).into_iter().map(score).collect()
    }
}

/// A line a sample, as soon as it is known.
struct Screen {
    out: Out,
    /// With output files, samples are shown only where labels were asked for.
    rows: bool,
    /// The files are wanted even where nobody reads stdout any more.
    outlives_reader: bool,
    sample_width: usize,
    label_width: usize,
}

impl Screen {
    fn new(args: &RunArgs, samples: usize, ranking: Option<&Ranking>) -> Screen {
        let rows = args.output.is_empty() || ranking.is_some();
        let labels = ranking.and_then(|ranking| ranking.labels.as_ref());
        let label_width = labels.into_iter().flatten().map(|label| label.chars().count()).max().unwrap_or(4);
        let sample_width = (samples - 1).to_string().len();
        Screen { out: Out::stdout(), rows, outlives_reader: !args.output.is_empty(), sample_width, label_width }
    }

    fn sample(
        &mut self,
        sample: usize,
        top: Option<&[Score]>,
        specs: &[TensorSpec],
        runner: &Runner,
    ) -> Result<(), Failure> {
        if !self.rows {
            return Ok(());
        }
        let mut line = format!("{sample:>width$}", width = self.sample_width);
        match top {
            Some(scores) => line.extend(scores.iter().map(|score| score.cell(self.label_width))),
            None => {
                for (index, spec) in specs.iter().enumerate() {
                    line += &shortened(spec, runner.output(index))?;
                }
            }
        }
        match self.out.line(&line) {
            Err(Failure::Closed) if self.outlives_reader => {
                self.rows = false;
                Ok(())
            }
            result => result,
        }
    }

    fn end(&mut self, written: &[PathBuf]) -> Result<(), Failure> {
        for path in written {
            self.out.line(&format!("wrote {}", path.display()))?;
        }
        self.out.flush()
    }
}

impl Score {
    fn cell(&self, width: usize) -> String {
        let label = self.label.clone().unwrap_or_else(|| self.index.to_string());
        format!("  {label:<width$} {:>8.4}", self.score)
    }
}

fn shortened(spec: &TensorSpec, bytes: &[u8]) -> Result<String, Failure> {
    let values = Elements::decode(spec.dtype, bytes)?;
    let rest = (bytes.len() / spec.dtype.size()).saturating_sub(SHOWN);
    let more = if rest > 0 { format!("  and {rest} more") } else { String::new() };
    Ok(format!("  {}{}{more}", spec.name, values.cells(SHOWN)))
}
