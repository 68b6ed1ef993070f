//! `tractlet prune`.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tractlet_quantize::prune::{self, Allocation, Criterion, GroupReport, Options, Report, Size};

use super::calibration::RemakeArgs;
use super::failure::Failure;
use super::output::{self, table};
use super::size;

/// Take channels out of a float model, by samples of its input
///
/// Channels that matter least are removed from layers and from whatever goes with them, and the layers behind are
/// fitted anew by least squares. No labels are needed and nothing is trained. The result is an ordinary, smaller
/// ONNX model with inputs and outputs as before, for `tractlet quantize` or any runtime. On one kind of CPU the
/// same input gives the same file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PruneArgs {
    #[command(flatten)]
    remake: RemakeArgs,
    /// Share of channels to remove
    #[arg(long, value_name = "SHARE", default_value = "0.3", value_parser = share)]
    ratio: f64,
    /// By what channels are ranked
    #[arg(long, value_enum, default_value_t = CriterionArg::Activation)]
    criterion: CriterionArg,
    /// How the share is spread over groups of layers
    #[arg(long, value_enum, default_value_t = AllocationArg::Auto)]
    allocation: AllocationArg,
    /// Groups keep a multiple of so many channels, which kernels compute at a time; 1 for any number
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    multiple: u16,
    /// Leave the weights that stay as they are
    #[arg(long)]
    no_refit: bool,
}

const EXAMPLES: &str = "\
Examples:
  tractlet prune model.onnx --calibration x.npy -o smaller.onnx --ratio 0.3
  tractlet prune model.onnx --calibration x.npy -o smaller.onnx \\
    --ratio 0.5 --allocation global --multiple 4
  tractlet quantize smaller.onnx --calibration x.npy -o int8.onnx

JSON: groups[].{layers, before, after, why}, before and after.{macs, parameters, bytes}, sqnr_db, top1_agreement, \
samples, notes. top1_agreement is as `tractlet quantize --help` has it.";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CriterionArg {
    /// The error that a channel's removal makes at what reads it, on the samples
    Activation,
    /// The L2 norm of its filters
    Magnitude,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AllocationArg {
    /// Both of the others, and the one whose model is nearer to the original at the output
    Auto,
    /// The same share of each group
    Uniform,
    /// More where channels matter less for what they cost, until as much is saved as by the same share of each group
    Global,
}

#[derive(Serialize)]
struct Json<'a> {
    groups: Vec<Group<'a>>,
    before: Cost,
    after: Cost,
    sqnr_db: f64,
    top1_agreement: Option<f64>,
    samples: usize,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Group<'a> {
    layers: &'a [String],
    before: usize,
    after: usize,
    why: Option<&'a str>,
}

impl Group<'_> {
    fn of(group: &GroupReport) -> Group<'_> {
        let GroupReport { layers, before, after, why } = group;
        Group { layers, before: *before, after: *after, why: Some(why.as_str()).filter(|why| !why.is_empty()) }
    }
}

#[derive(Serialize)]
struct Cost {
    macs: u64,
    parameters: usize,
    bytes: usize,
}

impl From<Size> for Cost {
    fn from(Size { macs, parameters, bytes }: Size) -> Cost {
        Cost { macs, parameters, bytes }
    }
}

pub fn prune(args: &PruneArgs) -> Result<(), Failure> {
    let options = args.options();
    let made = args.remake.remake(
        "the pruned model would overwrite the one it is made of",
        |bytes, engine, bar| prune::prune(bytes, engine, &options, bar),
        |made| &made.model,
    )?;
    report(args, &made.report)
}

impl PruneArgs {
    fn options(&self) -> Options {
        Options {
            ratio: self.ratio,
            criterion: match self.criterion {
                CriterionArg::Activation => Criterion::Activation,
                CriterionArg::Magnitude => Criterion::Magnitude,
            },
            allocation: match self.allocation {
                AllocationArg::Auto => Allocation::Auto,
                AllocationArg::Global => Allocation::Global,
                AllocationArg::Uniform => Allocation::Uniform,
            },
            multiple: self.multiple.into(),
            refit: !self.no_refit,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent.trim_end(), 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / whole).filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("`{text}` is no share above 0 and below 1, such as 0.3 or 30%"))
}

fn report(args: &PruneArgs, report: &Report) -> Result<(), Failure> {
    let (before, after) = (report.before, report.after);
    if args.remake.json {
        return output::json(&Json {
            groups: report.groups.iter().map(Group::of).collect(),
            before: before.into(),
            after: after.into(),
            sqnr_db: report.score.sqnr_db,
            top1_agreement: report.score.agreement,
            samples: report.samples,
            notes: &report.notes,
        });
    }
    let rows = report.groups.iter().map(|group| {
        vec![group.layers.join(", "), group.why.clone(), group.before.to_string(), group.after.to_string()]
    });
    let mut text = table(&["layers", "what stood in the way", "channels", "kept"], 2, rows);
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    let of = |after: f64, before: f64| 100.0 * after / before.max(1.0);
    text += &format!(
        "multiply-adds: {} before, {} after, {:.1} %\n",
        before.macs,
        after.macs,
        of(after.macs as f64, before.macs as f64)
    );
    text += &format!(
        "parameters: {} before, {} after, {:.1} %\n",
        before.parameters,
        after.parameters,
        of(after.parameters as f64, before.parameters as f64)
    );
    text += &format!(
        "stored tensors: {} before, {} after; {} samples\n",
        size::human(before.bytes as u64),
        size::human(after.bytes as u64),
        report.samples
    );
    text += &format!(
        "output: SQNR {:.1} dB{}\n",
        report.score.sqnr_db,
        output::same_answer(report.score.agreement, "the samples judged")
    );
    text += &format!("{}: written\n", args.remake.output.display());
    output::text(&text)
}
