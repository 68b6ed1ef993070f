//! `tractlet quantize`.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tractlet_quantize::{Activations, Effort, Method, NodeReport, Options, Report, Scheme, Target};

use super::calibration::RemakeArgs;
use super::failure::Failure;
use super::output::{self, table};

/// Make an int8 model of a float one, by samples of its input
///
/// Some tens to hundreds of typical inputs set the ranges of activations; no labels are needed. The
/// result is an ONNX file in QDQ form that runs here and in any ONNX runtime, with inputs and outputs
/// as before. On one kind of CPU the same input gives the same file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct QuantizeArgs {
    #[command(flatten)]
    remake: RemakeArgs,
    /// How much work goes into it
    #[arg(long, value_enum, default_value_t = EffortArg::Standard)]
    effort: EffortArg,
    /// How ranges of activations are drawn
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    method: MethodArg,
    /// Type of quantized activations. Those of 16 bits raise the model to opset 21, and plans compute in float
    /// between roundings to them
    #[arg(long, value_enum, default_value_t = ActivationsArg::Int8)]
    activations: ActivationsArg,
    /// Store weights as int8 and compute in float: a smaller file, and no faster
    #[arg(long, conflicts_with_all = ["dynamic", "activations", "method", "symmetric", "portable", "full_range"])]
    weight_only: bool,
    /// Draw the ranges of activations anew at each run, for what has weights: DynamicQuantizeLinear with MatMulInteger and
    /// ConvInteger
    #[arg(long, conflicts_with_all = ["activations", "method", "symmetric"])]
    dynamic: bool,
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
    /// Leave as few nodes in float as give this SQNR at every output
    #[arg(long, value_name = "DB", value_parser = decibels, conflicts_with = "target_drop")]
    target_sqnr: Option<f64>,
    /// Leave as few nodes in float as give other answers on no more than this share of the samples
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    target_drop: Option<f64>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet quantize model.onnx --calibration x.npy -o int8.onnx
  tractlet quantize model.onnx --calibration x.npy -o int8.onnx --effort best
  tractlet quantize model.onnx --calibration a=a.npy --calibration b=b.npy \\
    -o int8.onnx --keep conv1
  tractlet quantize model.onnx --calibration x.npy -o small.onnx --weight-only

SQNR of several outputs is that of the mean of their relative errors; worst_db is that of the worst of them.
The answer is the largest value of the first output, or of one value behind a Sigmoid the side of one half. Any other \
number is none: top1_agreement is null, and --target-drop is refused.

JSON: nodes[].{name, op, scheme, how, sqnr_db}, sqnr_db, worst_db, top1_agreement, bytes_before, bytes_after, samples, \
notes.";

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
    /// For each tensor the one of the others with the least error at the output; with 16 bits twice the range of minmax
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
    Int16,
    Uint16,
}

#[derive(Serialize)]
struct Json<'a> {
    nodes: Vec<Node<'a>>,
    sqnr_db: f64,
    worst_db: f64,
    top1_agreement: Option<f64>,
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
    let options = args.options();
    let made = args.remake.remake(
        "the quantized model would overwrite the float one",
        |bytes, engine, bar| tractlet_quantize::quantize(bytes, engine, &options, bar),
        |made| &made.model,
    )?;
    report(args, &made.report)
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
                ActivationsArg::Int16 => Activations::Int16,
                ActivationsArg::Uint16 => Activations::Uint16,
            },
            scheme: match (self.weight_only, self.dynamic) {
                (true, _) => Scheme::WeightOnly,
                (_, true) => Scheme::Dynamic,
                _ => Scheme::Static,
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
    if args.remake.json {
        return output::json(&Json {
            nodes: report.nodes.iter().map(Node::of).collect(),
            sqnr_db: report.score.sqnr_db,
            worst_db: report.score.worst_db,
            top1_agreement: report.score.agreement,
            bytes_before: report.bytes_before,
            bytes_after: report.bytes_after,
            samples: report.samples,
            notes: &report.notes,
        });
    }
    let rows = report.nodes.iter().map(|node| {
        let sqnr = node.sqnr_db.map_or("-".into(), |db| format!("{db:.1}"));
        vec![node.name.clone(), node.op.clone(), node.scheme.clone(), node.how.clone(), sqnr]
    });
    let mut text = table(&["node", "op", "scheme", "range", "SQNR dB"], 4, rows);
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    if report.score.worst_db < report.score.sqnr_db {
        text += &format!("the worst of the outputs: SQNR {:.1} dB\n", report.score.worst_db);
    }
    text += &format!(
        "output: SQNR {:.1} dB{}\n",
        report.score.sqnr_db,
        output::same_answer(report.score.agreement, "the samples judged")
    );
    let (before, after) = (report.bytes_before, report.bytes_after);
    text += &format!("stored tensors: {before} bytes before, {after} after; {} samples\n", report.samples);
    text += &format!("{}: written\n", args.remake.output.display());
    output::text(&text)
}
