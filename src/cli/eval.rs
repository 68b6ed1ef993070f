//! `tractlet eval`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tractlet::{EngineName, TensorSpec, npy};

use super::elements::{Elements, argmax};
use super::failure::Failure;
use super::metric::{Metric, auc, mean, mean_squared_error};
use super::runner::Runner;
use super::samples::Samples;
use super::torch::{ToldBy, TorchArgs};
use super::{ModelArgs, files, output};

/// Measure a model's quality on labelled samples
///
/// The model has one input and one output. Shapes are as for `tractlet run`. Labels of top1 and
/// auc are whole numbers (int64, int32 or uint8), of mse a list of outputs.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    torch: TorchArgs,
    /// .npy file with the samples
    #[arg(long, value_name = "X.npy")]
    inputs: PathBuf,
    /// .npy file with a label for each sample, or for each group
    #[arg(long, value_name = "Y.npy")]
    labels: PathBuf,
    #[arg(long, value_enum, default_value_t = Metric::Top1)]
    metric: Metric,
    /// With auc: average G consecutive samples into one score, with one label
    #[arg(long, value_name = "G", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    group: u32,
    /// Samples that run at the same time [default: the number of cores]. The value does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet eval model.onnx --inputs x.npy --labels y.npy
  tractlet eval autoencoder.onnx --inputs windows.npy --labels clips.npy --metric auc --group 196

auc: labels are 0 (normal) or 1 (anomalous), and ties count half.
JSON: engine, samples, metric, value, group, threads.";

#[derive(Serialize)]
struct Report {
    engine: EngineName,
    samples: usize,
    metric: Metric,
    value: f64,
    group: usize,
    threads: usize,
}

pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let group = args.group as usize;
    if group > 1 && args.metric != Metric::Auc {
        return Err(format!("--group is for --metric auc, not {}", args.metric.name()).into());
    }
    let model = args.model.open()?;
    let new_session = || args.torch.session(&args.model, &model, ToldBy::File(&args.inputs), 1);
    let session = new_session()?;
    let ([input], [output]) = (session.inputs(), session.outputs()) else {
        let (inputs, outputs) = (session.inputs().len(), session.outputs().len());
        return Err(
            format!("the model has {inputs} inputs and {outputs} outputs; eval takes models with one of each").into()
        );
    };
    let samples = Samples::open(&args.inputs, "input", input)?;
    let truth = Truth::open(args, input, output, samples.count(), group)?;
    let (engine, count) = (session.engine(), samples.count());

    let threads = args.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), |n| n as usize);
    let threads = threads.min(count);
    // Sessions are made here: a thread's stack is a quarter of the main one's.
    let others = (1..threads).map(|_| new_session()).collect::<Result<Vec<_>, _>>()?;
    drop(model);
    let runners = std::iter::once(session).chain(others).map(Runner::new).collect();
    let work = Work { samples: &[samples], truth: &truth, bar: progress(count) };
    let scores = work.scores(count, runners);
    work.bar.finish_and_clear();
    let value = truth.value(&scores?, group)?;
    if args.model.json {
        return output::json(&Report { engine, samples: count, metric: args.metric, value, group, threads });
    }
    output::text(&format!("{} {value:.4}  on {count} samples, engine {engine}", args.metric.name()))
}

/// Drawn where stderr is a terminal, and nowhere else.
fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {eta} left");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Work<'a> {
    /// One file: the model has one input.
    samples: &'a [Samples; 1],
    truth: &'a Truth,
    bar: ProgressBar,
}

impl Work<'_> {
    /// The score of each sample, in order: how many threads there are changes no bit of the value.
    fn scores(&self, count: usize, runners: Vec<Runner>) -> Result<Vec<f64>, Failure> {
        let share = count.div_ceil(runners.len());
        thread::scope(|scope| {
            let mut started = Vec::new();
            for (index, runner) in runners.into_iter().enumerate() {
                let range = (index * share).min(count)..((index + 1) * share).min(count);
                started.push(scope.spawn(|| self.range(range, runner)));
            }
            // All are joined; of several failures the one of the first sample is told.
            let joined: Vec<_> = started.into_iter().map(|thread| thread.join()).collect();
            let mut scores = Vec::with_capacity(count);
            for result in joined {
                scores.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(scores)
        })
    }

    fn range(&self, range: Range<usize>, mut runner: Runner) -> Result<Vec<f64>, Failure> {
        let score = |sample| {
            runner.run_sample(self.samples, sample)?;
            self.bar.inc(1);
            self.truth.score(sample, &runner)
        };
        range.map(score).collect()
    }
}

/// What the outputs are held against.
enum Truth {
    Classes(Vec<usize>),
    Anomalous(Vec<bool>),
    Outputs(Samples),
}

impl Truth {
    fn open(
        args: &EvalArgs,
        input: &TensorSpec,
        output: &TensorSpec,
        samples: usize,
        group: usize,
    ) -> Result<Truth, Failure> {
        let path = args.labels.display();
        let elements = |spec: &TensorSpec| spec.shape.iter().product::<usize>();
        let (truth, labels) = match args.metric {
            Metric::Top1 => {
                let classes = integer_labels(&args.labels, elements(output))?;
                let labels = classes.len();
                (Truth::Classes(classes), labels)
            }
            Metric::Auc => {
                if elements(input) != elements(output) {
                    let (i, o) = (&input.shape, &output.shape);
                    return Err(format!(
                        "auc compares output and input: they must be as long, and are {o:?} and {i:?}"
                    )
                    .into());
                }
                if !samples.is_multiple_of(group) {
                    let inputs = args.inputs.display();
                    return Err(format!("{inputs}: {samples} samples do not make whole groups of {group}").into());
                }
                let labels = integer_labels(&args.labels, 2)?;
                (Truth::Anomalous(labels.iter().map(|&label| label == 1).collect()), labels.len())
            }
            Metric::Mse => {
                let outputs = Samples::open(&args.labels, "output", output)?;
                let labels = outputs.count();
                (Truth::Outputs(outputs), labels)
            }
        };
        let expected = samples / group;
        if labels != expected {
            let of = if group > 1 {
                format!("{samples} samples in groups of {group}")
            } else {
                format!("{samples} samples")
            };
            return Err(format!("{path}: {labels} labels for {of}; expected {expected}").into());
        }
        Ok(truth)
    }

    fn score(&self, sample: usize, runner: &Runner) -> Result<f64, Failure> {
        let (inputs, outputs) = (runner.session().inputs(), runner.session().outputs());
        let decode = |specs: &[TensorSpec], bytes: &[u8]| match specs.first() {
            Some(spec) => Elements::decode(spec.dtype, bytes).map(|elements| elements.to_f64()),
            None => Ok(Vec::new()),
        };
        let output = decode(outputs, runner.output(0))?;
        if let Some(element) = output.iter().position(|value| value.is_nan()) {
            return Err(format!("sample {sample} (from 0): the output holds NaN at element {element}").into());
        }
        Ok(match self {
            Truth::Classes(labels) => f64::from(argmax(&output) == labels.get(sample).copied()),
            Truth::Anomalous(_) => mean_squared_error(&output, &decode(inputs, runner.input(0))?),
            Truth::Outputs(labels) => {
                let mut label = vec![0; runner.output(0).len()];
                labels.read(sample, &mut label)?;
                mean_squared_error(&output, &decode(outputs, &label)?)
            }
        })
    }

    fn value(&self, scores: &[f64], group: usize) -> Result<f64, Failure> {
        match self {
            Truth::Classes(_) | Truth::Outputs(_) => Ok(mean(scores)),
            Truth::Anomalous(labels) => {
                let scores: Vec<f64> = scores.chunks(group).map(mean).collect();
                let one_class = "all labels are of one class; auc needs normal (0) and anomalous (1) ones";
                auc(&scores, labels).ok_or_else(|| one_class.into())
            }
        }
    }
}

/// Labels from 0 to below `classes`.
fn integer_labels(path: &Path, classes: usize) -> Result<Vec<usize>, Failure> {
    let file = npy::Reader::open(path)?;
    let labels = files::integers(&file)?;
    let in_range = |(index, &label): (usize, &i64)| {
        let class = usize::try_from(label).ok().filter(|class| *class < classes);
        class.ok_or_else(|| {
            format!("{}: label {index} (from 0) is {label}; expected 0 to {}", path.display(), classes - 1).into()
        })
    };
    labels.iter().enumerate().map(in_range).collect()
}
