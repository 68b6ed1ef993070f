//! `tractlet compare`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
#[cfg(feature = "torch")]
use tractlet::Session;
use tractlet::{EngineChoice, Model, ModelFile, OpenOptions, SessionOptions};
use tractlet_quantize::{Comparison, LayerError};

use super::calibration::{Bar, Sessions, in_threads};
use super::failure::Failure;
use super::files;
use super::output::{self, table};
use super::parse_dim;
use super::set::SetArgs;
use super::svg::curve;
use super::torch::TorchArgs;
#[cfg(feature = "torch")]
use super::{calibration::Run, samples::Samples, torch::ToldBy};

/// Hold a model against a reference, tensor by tensor
///
/// Most often the reference is a float model and the other one is quantized. Tensors with the same name and outputs are
/// compared, the worst first, but for those that only lead into a Relu or Clip; of a quantized tensor what its readers see, the dequantized values. With one model
/// twice and two engines the engines are compared.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct CompareArgs {
    /// The reference, an .onnx file
    #[cfg_attr(feature = "torch", arg(help = "The reference, an .onnx file or a TorchScript file"))]
    reference: PathBuf,
    /// The model to hold against it, an .onnx file
    #[cfg_attr(feature = "torch", arg(help = "The model to hold against it, an .onnx file or a TorchScript file"))]
    model: PathBuf,
    /// .npy file with samples for an input, or a folder of them; NAME may be left out where there is one input. Or one .npz
    /// file, as numpy.savez writes it, with an array for each input by its name
    #[arg(long, visible_alias = "input", value_name = "[NAME=]X.npy", required = true)]
    inputs: Vec<PathBuf>,
    /// Engine that runs the reference
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = str::parse::<EngineChoice>)]
    engine_a: EngineChoice,
    /// Engine that runs the model
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = str::parse::<EngineChoice>)]
    engine_b: EngineChoice,
    /// Size of a dimension that the models leave open; repeatable. An open batch is 1
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, usize)>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    torch: TorchArgs,
    /// Keep one pair of tensors in memory at a time, at the price of a run for each
    #[arg(long)]
    low_memory: bool,
    /// Draw the SQNR along the network to this file
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    #[cfg(feature = "ort")]
    #[command(flatten)]
    ort: super::ort::OrtArgs,
}

impl CompareArgs {
    /// Both models. One that was quantized with `--set` has its values, and that input no more.
    fn open(&self) -> Result<(ModelFile, ModelFile), Failure> {
        let open = |path| ModelFile::open(path, &OpenOptions::default());
        let (reference, model) = (open(&self.reference)?, open(&self.model)?);
        if self.set.is_empty() {
            return Ok((reference, model));
        }
        let lacks = |file: &ModelFile, input: &str| match file {
            ModelFile::Model(model) => model.inputs().iter().all(|known| known.name != input),
            _ => false,
        };
        let fixed = |file: &ModelFile, other: &ModelFile| {
            let options = self.set.options_of(|input| !lacks(file, input) || lacks(other, input))?;
            Ok::<_, Failure>(ModelFile::open(file.path(), &options)?)
        };
        Ok((fixed(&reference, &model)?, fixed(&model, &reference)?))
    }

    fn options(&self, engine: EngineChoice) -> Result<SessionOptions, Failure> {
        let options = SessionOptions::default().engine(engine);
        #[cfg(feature = "ort")]
        let options = options.ort(self.ort.options(&[self.engine_a, self.engine_b])?);
        Ok(options)
    }

    /// With the sizes of what the model leaves open.
    #[cfg(feature = "torch")]
    fn bound(&self, engine: EngineChoice) -> Result<SessionOptions, Failure> {
        Ok(self.dim.iter().fold(self.options(engine)?, super::calibration::bind))
    }
}

const EXAMPLES: &str = "\
Examples:
  tractlet compare f32.onnx int8.onnx --inputs x.npy
  tractlet compare model.onnx model.onnx --inputs x.npy \\
    --engine-a tract --engine-b plan

Saturation is the share of the reference's values that lie outside what the quantized tensor can hold.
Where it says `channels scaled`, the model has the tensor's channels by factors, as `tractlet quantize` evens them out; \
they are compared less their factors. A factor that is there by mistake shows in the layers behind and at the output.
NaN and infinities that the reference has not are an infinite difference, and -150 dB.

JSON: layers[].{name, node, op, sqnr_db, max_abs, saturation, cosine, scaled} in the network's order, unlike[] \
(tensors that share a name and not a shape, outputs that are not float32), output.{sqnr_db, worst_db, max_abs, \
top1_agreement}, samples. The answer and worst_db are as `tractlet quantize --help` has them. max_abs is null where it \
is infinite or channels are scaled, cosine where max_abs is infinite.";

#[derive(Serialize)]
struct Report<'a> {
    layers: Vec<Layer<'a>>,
    unlike: &'a [String],
    output: Output,
    samples: usize,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    node: &'a str,
    op: &'a str,
    sqnr_db: f64,
    max_abs: Option<f32>,
    saturation: f64,
    cosine: f64,
    scaled: bool,
}

#[derive(Serialize)]
struct Output {
    sqnr_db: f64,
    worst_db: f64,
    max_abs: f32,
    top1_agreement: Option<f64>,
}

pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let (reference, model) = args.open()?;
    let compared = match (&reference, &model) {
        (ModelFile::Model(reference), ModelFile::Model(model)) => tensor_by_tensor(args, reference, model)?,
        #[cfg(feature = "torch")]
        (ModelFile::Torch(_), _) | (_, ModelFile::Torch(_)) => outputs_alone(args, &reference, &model)?,
        (ModelFile::Plan(plan), _) | (_, ModelFile::Plan(plan)) => {
            let (path, name) = (plan.path().display(), plan.model_name());
            return Err(format!("{path}: a plan has no tensors by name; name the model, {name}").into());
        }
    };
    if let Some(target) = &args.svg {
        let title = format!("{} beside {}", args.model.display(), args.reference.display());
        let points = compared.layers.iter().map(|layer| (layer.node.as_str(), layer.sqnr_db)).collect::<Vec<_>>();
        output::file(target, curve(&title, "SQNR, dB", &points))?;
    }
    if args.json { output::json(&Report::of(&compared)) } else { output::text(&text(&compared)) }
}

fn tensor_by_tensor(args: &CompareArgs, reference: &Model, model: &Model) -> Result<Comparison, Failure> {
    args.torch.expect_unused(&args.reference.display())?;
    let sessions = |model, engine| Sessions::new(model, (args.options(engine)?, &args.dim), "inputs", &args.inputs);
    let (a, b) = (sessions(reference, args.engine_a)?, sessions(model, args.engine_b)?);
    if let Some(svg) = args.svg.as_ref().filter(|svg| a.reads(svg) || b.reads(svg)) {
        let what = "the drawing would overwrite what it is made of";
        return Err(format!("{}: {what}; give --svg another name", svg.display()).into());
    }
    if let Some(svg) = &args.svg {
        files::expect_file(svg)?;
        output::expect_writable(svg)?;
    }
    let bar = Bar::new();
    let work = || tractlet_quantize::compare((reference.file(), &a), (model.file(), &b), args.low_memory, &bar);
    let compared = in_threads(args.threads, work)?;
    bar.clear();
    Ok(compared.map_err(|error| format!("{}: {error}", args.model.display()))?)
}

/// With a TorchScript file on one side or both: it has no tensors by name. It is given what the ONNX model takes.
#[cfg(feature = "torch")]
fn outputs_alone(args: &CompareArgs, reference: &ModelFile, model: &ModelFile) -> Result<Comparison, Failure> {
    if args.svg.is_some() {
        return Err("--svg draws tensors along the network, and of a TorchScript file only outputs are compared".into());
    }
    let torch = |engine, told| {
        let torch = args.torch.options(told)?.threads(args.threads.map_or(1, |threads| threads as usize));
        Ok::<_, Failure>(SessionOptions::default().engine(engine).torch(torch))
    };
    let (engine_a, engine_b) = (args.engine_a, args.engine_b);
    let (a, b) = match (reference, model) {
        (ModelFile::Torch(_), ModelFile::Torch(_)) => {
            // Nothing that was asked for is passed over.
            args.options(engine_a)?;
            let told = ToldBy::Arguments("inputs", &args.inputs);
            (reference.session(torch(engine_a, told)?)?, model.session(torch(engine_b, told)?)?)
        }
        (reference @ ModelFile::Torch(_), model) => {
            let b = model.session(args.bound(engine_b)?)?;
            (reference.session(torch(engine_a, ToldBy::Model(b.inputs()))?)?, b)
        }
        (reference, model) => {
            let a = reference.session(args.bound(engine_a)?)?;
            let b = model.session(torch(engine_b, ToldBy::Model(a.inputs()))?)?;
            (a, b)
        }
    };
    let takes = |session: &Session| session.inputs().iter().map(|i| (i.dtype, i.shape.clone())).collect::<Vec<_>>();
    if takes(&a) != takes(&b) {
        return Err(format!("--shape: the reference takes {:?}, and the model {:?}", takes(&a), takes(&b)).into());
    }
    let named = if matches!(reference, ModelFile::Torch(_)) { b.inputs() } else { a.inputs() };
    let samples = Samples::open_all("inputs", &args.inputs, named)?;
    let (count, shared) = (samples.first().map_or(0, Samples::count), samples.iter().map(Samples::shared).collect());
    let bar = Bar::new();
    let compared = tractlet_quantize::compare_outputs(&mut Run::new(a, samples), &mut Run::new(b, shared), count, &bar);
    bar.clear();
    Ok(compared.map_err(|error| format!("{}: {error}", args.model.display()))?)
}

impl Report<'_> {
    fn of(compared: &Comparison) -> Report<'_> {
        Report {
            layers: compared.layers.iter().map(Layer::of).collect(),
            unlike: &compared.unlike,
            output: Output {
                sqnr_db: compared.output.sqnr_db,
                worst_db: compared.output.worst_db,
                max_abs: compared.output_max_abs,
                top1_agreement: compared.output.agreement,
            },
            samples: compared.samples,
        }
    }
}

impl Layer<'_> {
    fn of(layer: &LayerError) -> Layer<'_> {
        let LayerError { tensor, node, op, sqnr_db, max_abs, saturation, cosine, scaled } = layer;
        let (sqnr_db, saturation, cosine) = (*sqnr_db, *saturation, *cosine);
        Layer { name: tensor, node, op, sqnr_db, max_abs: *max_abs, saturation, cosine, scaled: *scaled }
    }
}

fn text(compared: &Comparison) -> String {
    let mut worst: Vec<&LayerError> = compared.layers.iter().collect();
    worst.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    let rows = worst.iter().map(|layer| {
        let max_abs = layer.max_abs.map_or("channels scaled".into(), |max| format!("{max:.3e}"));
        vec![
            layer.tensor.clone(),
            layer.op.clone(),
            format!("{:.1}", layer.sqnr_db),
            max_abs,
            format!("{:.2} %", 100.0 * layer.saturation),
            format!("{:.6}", layer.cosine),
        ]
    });
    let mut text = table(&["tensor", "op", "SQNR dB", "max abs", "saturated", "cosine"], 2, rows);
    if compared.layers.is_empty() {
        text = "the models have no tensor in common but their outputs\n".into();
    }
    if !compared.unlike.is_empty() {
        let what = "of other shapes in the other model or not float32, and not compared";
        text += &format!("{what}: {}\n", compared.unlike.join(", "));
    }
    if compared.output.worst_db < compared.output.sqnr_db {
        text += &format!("the worst of the outputs: SQNR {:.1} dB\n", compared.output.worst_db);
    }
    text + &format!(
        "output: SQNR {:.1} dB, max abs {:.3e} on {} samples{}\n",
        compared.output.sqnr_db,
        compared.output_max_abs,
        compared.samples,
        output::same_answer(compared.output.agreement, "them")
    )
}
