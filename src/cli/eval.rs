//! `tractlet eval`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tractlet::{EngineName, Session, TensorMut, TensorRef, TensorSpec, npy};

use super::elements::{Elements, argmax};
use super::failure::Failure;
use super::metric::{Metric, auc, mean, mean_squared_error};
use super::runner::Buffer;
use super::samples::Samples;
use super::sweep::{Score, sweep};
use super::torch::{ToldBy, TorchArgs};
use super::{BatchArgs, ModelArgs, files, output, usage};

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
    /// .npy file with the samples, or a folder of them
    #[arg(long, visible_alias = "input", value_name = "X.npy")]
    inputs: PathBuf,
    /// .npy file with a label for each sample, or for each group
    #[arg(long, value_name = "TRUTH.npy")]
    labels: PathBuf,
    #[arg(long, value_enum, default_value_t = Metric::Top1)]
    metric: Metric,
    /// With auc: average G consecutive samples into one score, with one label
    #[arg(long, value_name = "G", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    group: u32,
    #[command(flatten)]
    batch: BatchArgs,
    /// Runs at the same time [default: the number of cores, one on a GPU]. The value does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet eval model.onnx --inputs x.npy --labels y.npy
  tractlet eval autoencoder.onnx --inputs windows.npy --labels clips.npy \\
    --metric auc --group 196

Labels of auc are 0 (normal) or 1 (anomalous), and ties count half.
JSON: engine, provider (with engines ort and torch), samples, metric, value, group, batch, threads, \
samples_per_second.";

#[derive(Serialize)]
struct Report<'a> {
    engine: EngineName,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    samples: usize,
    metric: Metric,
    value: f64,
    group: usize,
    batch: usize,
    threads: usize,
    samples_per_second: f64,
}

pub fn eval(mut args: EvalArgs) -> Result<(), Failure> {
    let group = args.group as usize;
    if group > 1 && args.metric != Metric::Auc {
        usage("eval", &format!("--group is for --metric auc, not {}", args.metric.name()));
    }
    args.model.resolve()?;
    let args = &args;
    let batch = args.batch.samples();
    let model = args.batch.open(&args.model)?;
    let new_session = || {
        let options = args.model.options(&model, &args.model.model)?;
        args.torch.session(&args.model, &model, ToldBy::File(&args.inputs), options)
    };
    let mut session = new_session()?;
    if session.hop().is_some() {
        let plan = args.model.model.display();
        return Err(format!(
            "{plan}: a plan that runs hop by hop answers for windows, not for samples; evaluate its model"
        )
        .into());
    }
    let ([input], [output]) = (session.inputs(), session.outputs()) else {
        let (inputs, outputs) = (session.inputs().len(), session.outputs().len());
        return Err(
            format!("the model has {inputs} inputs and {outputs} outputs; eval takes models with one of each").into()
        );
    };
    let (input, output) = (of_sample(input, batch), of_sample(output, batch));
    if let Some(empty) = [&input, &output].into_iter().find(|spec| spec.byte_len() == 0) {
        return Err(format!(
            "`{}` of shape {:?} has no elements; there is nothing to measure",
            empty.name, empty.shape
        )
        .into());
    }
    let samples = Samples::open(&args.inputs, "input", &input)?;
    let truth = Truth::open(args, input, output, samples.count(), group)?;
    if batch > 1 && samples.count() > 1 {
        expect_apart(&mut session, &samples, batch)?;
    }
    let (engine, provider, count) = (session.engine(), session.provider().map(str::to_owned), samples.count());

    let threads =
        args.threads.map_or_else(|| usable(provider.as_deref()), |threads| threads as usize).min(count.div_ceil(batch));
    // Sessions are made here: a thread's stack is a quarter of the main one's.
    let others = (1..threads).map(|_| new_session()).collect::<Result<Vec<_>, _>>()?;
    drop(model);
    let sessions = std::iter::once(session).chain(others).collect();
    let (bar, start) = (progress(count), Instant::now());
    let scores = sweep(sessions, &samples, batch, &truth, &bar);
    let samples_per_second = count as f64 / start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    bar.finish_and_clear();
    let value = truth.value(&scores?, group)?;
    let (metric, provider) = (args.metric, provider.as_deref());
    if args.model.json {
        let samples = count;
        let report = Report { engine, provider, samples, metric, value, group, batch, threads, samples_per_second };
        return output::json(&report);
    }
    let engine = output::engine_on(engine, provider);
    let what = format!("{} {}  on {count} samples, engine {engine}", metric.name(), metric.shown(value));
    output::text(&format!("{what}, {samples_per_second:.0} samples/s"))
}

/// Refuses a graph that mixes the samples of a batch, which shapes do not show: one that takes their dimension for time, or sums over
/// it. Of a batch with others the first sample and the last have to be answered as in one of themselves alone.
fn expect_apart(session: &mut Session, samples: &Samples, batch: usize) -> Result<(), Failure> {
    let ([input], [output]) = (session.inputs(), session.outputs()) else { return Ok(()) };
    let (mut x, mut y) = (Buffer::new(input.dtype, input.byte_len()), Buffer::new(output.dtype, output.byte_len()));
    let sample_bytes = input.byte_len() / batch;
    let last = samples.count().min(batch) - 1;
    let mut answers = |of: &dyn Fn(usize) -> usize| -> Result<Option<Vec<f64>>, Failure> {
        for (place, bytes) in x.bytes_mut().chunks_exact_mut(sample_bytes).enumerate() {
            samples.read(of(place), bytes)?;
        }
        let input = TensorRef::from_bytes(x.dtype(), x.bytes());
        let ran = session.run(&[input], &mut [TensorMut::from_bytes(y.dtype(), y.bytes_mut())]);
        // What is wrong is told with its sample when they are measured.
        if ran.is_err() {
            return Ok(None);
        }
        Ok(Some(Elements::decode(y.dtype(), y.bytes())?.to_f64()))
    };
    let together = answers(&|place| place.min(last))?;
    for sample in [0, last] {
        let (Some(together), Some(alone)) = (&together, answers(&|_| sample)?) else { return Ok(()) };
        let elements = alone.len() / batch;
        let own = sample * elements..(sample + 1) * elements;
        let largest = alone.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        let mut pairs = together.iter().zip(&alone).skip(own.start).take(own.len());
        if pairs.any(|(a, b)| (a - b).abs() > 1e-3 * largest) {
            return Err(format!(
                "{}: sample {sample} (from 0) is answered otherwise in a batch with others than alone: the graph mixes what \
                 its leading dimension has; take --batch 1",
                samples.path().display()
            )
            .into());
        }
    }
    Ok(())
}

/// A tensor of one sample, of one for a batch of them.
fn of_sample(spec: &TensorSpec, batch: usize) -> TensorSpec {
    let mut spec = spec.clone();
    if let Some(leading) = spec.shape.first_mut() {
        *leading /= batch;
    }
    spec
}

/// Sessions that run side by side: a GPU is kept busy by one, whose next samples are ready when it is.
fn usable(provider: Option<&str>) -> usize {
    match provider {
        None | Some("cpu") => thread::available_parallelism().map_or(1, usize::from),
        Some(_) => 1,
    }
}

/// Drawn where stderr is a terminal, and nowhere else.
fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {per_sec}, {eta} left");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What the outputs are held against, and the tensors of one sample.
struct Truth {
    labels: Labels,
    input: TensorSpec,
    output: TensorSpec,
}

enum Labels {
    Classes(Vec<usize>),
    Anomalous(Vec<bool>),
    Outputs(Samples),
}

impl Truth {
    fn open(
        args: &EvalArgs,
        input: TensorSpec,
        output: TensorSpec,
        samples: usize,
        group: usize,
    ) -> Result<Truth, Failure> {
        let path = args.labels.display();
        let elements = |spec: &TensorSpec| spec.shape.iter().product::<usize>();
        let (labels, count) = match args.metric {
            Metric::Top1 => {
                let classes = integer_labels(&args.labels, elements(&output))?;
                let count = classes.len();
                (Labels::Classes(classes), count)
            }
            Metric::Auc => {
                if elements(&input) != elements(&output) {
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
                (Labels::Anomalous(labels.iter().map(|&label| label == 1).collect()), labels.len())
            }
            Metric::Mse => {
                let outputs = Samples::open(&args.labels, "output", &output)?;
                let count = outputs.count();
                (Labels::Outputs(outputs), count)
            }
        };
        let expected = samples / group;
        if count != expected {
            let of = if group > 1 {
                format!("{samples} samples in groups of {group}")
            } else {
                format!("{samples} samples")
            };
            return Err(format!("{path}: {count} labels for {of}; expected {expected}").into());
        }
        Ok(Truth { labels, input, output })
    }

    fn value(&self, scores: &[f64], group: usize) -> Result<f64, Failure> {
        match &self.labels {
            Labels::Classes(_) | Labels::Outputs(_) => Ok(mean(scores)),
            Labels::Anomalous(labels) => {
                let scores: Vec<f64> = scores.chunks(group).map(mean).collect();
                let one_class = "all labels are of one class; auc needs normal (0) and anomalous (1) ones";
                auc(&scores, labels).ok_or_else(|| one_class.into())
            }
        }
    }
}

impl Score for Truth {
    fn score(&self, sample: usize, input: &[u8], output: &[u8]) -> Result<f64, Failure> {
        let decode = |spec: &TensorSpec, bytes| Elements::decode(spec.dtype, bytes).map(|elements| elements.to_f64());
        let values = decode(&self.output, output)?;
        if let Some(element) = values.iter().position(|value| value.is_nan()) {
            return Err(format!("sample {sample} (from 0): the output holds NaN at element {element}").into());
        }
        Ok(match &self.labels {
            Labels::Classes(labels) => f64::from(argmax(&values) == labels.get(sample).copied()),
            Labels::Anomalous(_) => mean_squared_error(&values, &decode(&self.input, input)?),
            Labels::Outputs(labels) => {
                let mut label = vec![0; output.len()];
                labels.read(sample, &mut label)?;
                mean_squared_error(&values, &decode(&self.output, &label)?)
            }
        })
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
