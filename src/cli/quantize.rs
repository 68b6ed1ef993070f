//! `tractlet quantize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tractlet::Model;
use tractlet_quantize::{Activations, Effort, Engine, EngineError, Method, NodeReport, Options, Progress, Report, Target};

use super::ModelArgs;
use super::failure::Failure;
use super::output::{self, table};
use super::runner::Runner;
use super::samples::Samples;

/// Make an int8 model of a float one, by samples of its input
///
/// Some tens to hundreds of typical inputs set the ranges of activations; no labels are needed. The
/// result is an ONNX file in QDQ form that runs here and in any ONNX runtime, with inputs and outputs
/// as before. The same input gives the same file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// .npy file with samples for an input; NAME may be left out where there is one input
    #[arg(long, value_name = "[NAME=]X.npy", required = true)]
    calibration: Vec<PathBuf>,
    /// Write the quantized model to this file
    #[arg(long, short, value_name = "OUT.onnx")]
    output: PathBuf,
    /// How much work goes into it
    #[arg(long, value_enum, default_value_t = EffortArg::Standard)]
    effort: EffortArg,
    /// How ranges of activations are drawn
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    method: MethodArg,
    /// Type of quantized activations
    #[arg(long, value_enum, default_value_t = ActivationsArg::Int8)]
    activations: ActivationsArg,
    /// Zero points of activations in the middle of the type, as some accelerators need them
    #[arg(long)]
    symmetric: bool,
    /// Keep neighbouring weights within what no CPU saturates at, so that other runtimes give the same answers: the
    /// default
    #[arg(long, conflicts_with = "full_range")]
    portable: bool,
    /// Let weights use all 8 bits, on which ONNX Runtime saturates on x86 CPUs without VNNI
    #[arg(long)]
    full_range: bool,
    /// Leave a node in float; repeatable
    #[arg(long, value_name = "NODE")]
    keep: Vec<String>,
    /// Leave as few nodes in float as give this SQNR at the output
    #[arg(long, value_name = "DB", value_parser = decibels, conflicts_with = "target_drop")]
    target_sqnr: Option<f64>,
    /// Leave as few nodes in float as give other answers on no more than this share of the samples
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    target_drop: Option<f64>,
    /// Threads [default: the number of cores]. The result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet quantize model.onnx --calibration x.npy -o int8.onnx
  tractlet quantize model.onnx --calibration x.npy -o int8.onnx --effort best
  tractlet quantize model.onnx --calibration a=a.npy --calibration b=b.npy -o int8.onnx --keep conv1

JSON: nodes[].{name, op, scheme, how, sqnr_db}, sqnr_db, agreement, bytes_before, bytes_after, samples, notes.";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EffortArg {
    /// One rule for all ranges, weights to the nearest integer, biases corrected
    Fast,
    /// Channels evened out, a rule for each range, weights rounded so that layers answer as the float ones
    Standard,
    /// The same, learned from and judged on more samples
    Best,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// For each tensor the one of the others with the least error at the output
    Auto,
    /// Least and greatest value
    Minmax,
    /// Those of each sample, averaged
    MovingAverage,
    /// Without the outermost 0.005 % on either side
    Percentile,
    /// Most of the distribution kept, by Kullback-Leibler divergence
    Entropy,
    /// Least squared error
    Mse,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ActivationsArg {
    Int8,
    Uint8,
}

#[derive(Serialize)]
struct Json<'a> {
    nodes: Vec<Node<'a>>,
    sqnr_db: f64,
    agreement: f64,
    bytes_before: usize,
    bytes_after: usize,
    samples: usize,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    op: &'a str,
    scheme: &'a str,
    how: &'a str,
    sqnr_db: Option<f64>,
}

impl Node<'_> {
    fn of(node: &NodeReport) -> Node<'_> {
        let NodeReport { name, op, scheme, how, sqnr_db } = node;
        Node { name, op, scheme, how, sqnr_db: *sqnr_db }
    }
}

pub fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let model = args.model.open()?;
    let session = args.model.session(&model)?;
    let files = Samples::open_all("calibration", &args.calibration, session.inputs())?;
    drop(session);
    let bytes = model.file().to_vec();
    drop(model);
    let engine = Sessions { args: &args.model, count: files.first().map_or(0, Samples::count), files: &files };
    let bar = Bar::hidden_unless_terminal();
    let options = args.options();
    let work = || tractlet_quantize::quantize(&bytes, &engine, &options, &bar);
    let done = match args.threads {
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build();
            pool.map_err(|error| format!("cannot start {threads} threads: {error}"))?.install(work)
        }
        None => work(),
    };
    bar.0.finish_and_clear();
    let quantized = done.map_err(|error| format!("{}: {error}", args.model.model.display()))?;
    // What is written is what was found to be sound.
    Model::from_bytes(&args.output, &quantized.model)?;
    output::file(&args.output, &quantized.model)?;
    report(args, &quantized.report)
}

impl QuantizeArgs {
    fn options(&self) -> Options {
        Options {
            effort: match self.effort {
                EffortArg::Fast => Effort::Fast,
                EffortArg::Standard => Effort::Standard,
                EffortArg::Best => Effort::Best,
            },
            method: match self.method {
                MethodArg::Auto => Method::Auto,
                MethodArg::Minmax => Method::MinMax,
                MethodArg::MovingAverage => Method::MovingAverage,
                MethodArg::Percentile => Method::Percentile,
                MethodArg::Entropy => Method::Entropy,
                MethodArg::Mse => Method::Mse,
            },
            activations: match self.activations {
                ActivationsArg::Int8 => Activations::Int8,
                ActivationsArg::Uint8 => Activations::Uint8,
            },
            symmetric: self.symmetric,
            portable: self.portable || !self.full_range,
            keep: self.keep.clone(),
            target: self.target_sqnr.map(Target::SqnrDb).or(self.target_drop.map(Target::Drop)),
        }
    }
}

fn decibels(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("dB").unwrap_or(text).trim_end().parse::<f64>();
    number.ok().filter(|db| db.is_finite()).ok_or_else(|| format!("`{text}` is no ratio in dB, such as 30 or 30dB"))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse::<f64>();
    let share = number.ok().filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
    share.ok_or_else(|| format!("`{text}` is no share, such as 0.5 or 0.5%"))
}

fn report(args: &QuantizeArgs, report: &Report) -> Result<(), Failure> {
    if args.model.json {
        return output::json(&Json {
            nodes: report.nodes.iter().map(Node::of).collect(),
            sqnr_db: report.score.sqnr_db,
            agreement: report.score.agreement,
            bytes_before: report.bytes_before,
            bytes_after: report.bytes_after,
            samples: report.samples,
            notes: &report.notes,
        });
    }
    let rows = report.nodes.iter().map(|node| {
        let sqnr = node.sqnr_db.map_or("-".into(), |db| format!("{db:.1}"));
        vec![node.name.clone(), node.op.clone(), node.scheme.to_owned(), node.how.clone(), sqnr]
    });
    let mut text = table(&["node", "op", "scheme", "range", "SQNR dB"], 4, rows);
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    text += &format!(
        "output: SQNR {:.1} dB, the same largest value on {:.1} % of the samples judged\n",
        report.score.sqnr_db,
        100.0 * report.score.agreement
    );
    let (before, after) = (report.bytes_before, report.bytes_after);
    text += &format!("stored tensors: {before} bytes before, {after} after; {} samples\n", report.samples);
    text += &format!("{}: written\n", args.output.display());
    output::text(&text)
}

/// Sessions over the calibration files.
struct Sessions<'a> {
    args: &'a ModelArgs,
    files: &'a [Samples],
    count: usize,
}

impl Engine for Sessions<'_> {
    fn samples(&self) -> usize {
        self.count
    }

    fn open(&self, model: &[u8]) -> Result<Box<dyn tractlet_quantize::Runner>, EngineError> {
        let model = Model::from_bytes(&self.args.model, model).map_err(|error| EngineError(error.to_string()))?;
        let session = self.args.session(&model).map_err(words)?;
        let shapes = session.outputs().iter().map(|spec| spec.shape.clone()).collect();
        let files = self.files.iter().map(Samples::shared).collect();
        Ok(Box::new(Run { runner: Runner::new(session), files, shapes }))
    }
}

/// A session with the files that it reads.
struct Run {
    runner: Runner,
    files: Vec<Samples>,
    shapes: Vec<Vec<usize>>,
}

impl tractlet_quantize::Runner for Run {
    fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    fn run(&mut self, sample: usize) -> Result<(), EngineError> {
        self.runner.run_sample(&self.files, sample).map_err(words)
    }

    fn output(&self, index: usize) -> &[f32] {
        let is_float = self.runner.session().outputs().get(index).is_some_and(|spec| spec.dtype == tractlet::DType::F32);
        let bytes = if is_float { self.runner.output(index) } else { &[] };
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }
}

fn words(failure: Failure) -> EngineError {
    EngineError(match failure {
        Failure::Because(reason) => reason,
        Failure::Closed => "standard output was closed".into(),
    })
}

/// Drawn where stderr is a terminal, and nowhere else.
struct Bar(ProgressBar);

impl Bar {
    fn hidden_unless_terminal() -> Bar {
        let style = ProgressStyle::with_template("{msg:24} {bar:40} {pos}/{len}, {eta} left");
        Bar(ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total: usize) {
        self.0.reset();
        self.0.set_length(total as u64);
        self.0.set_message(what.to_owned());
    }

    fn advance(&self, done: usize) {
        self.0.inc(done as u64);
    }
}
