//! `tractlet inspect`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tractlet::{ArenaBlock, EngineName, HopReport, ModelFile, NodeReport, Session, StepReport, TensorSpec, int8_ratio};

use super::failure::Failure;
use super::svg::Arena;
use super::torch::{ToldBy, TorchArgs};
use super::{HopArgs, ModelArgs, files, output, size};

/// Show a model's inputs, outputs and nodes, and how each node is run
///
/// The dtype of a node is the type that it computes in, whatever the types at its ends. The int8
/// ratio is the share of int8 among the nodes that do arithmetic on activations. On the plan engine
/// the steps of a run follow, in their order: multiply-accumulates, and the bytes that each reads,
/// writes and works in.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    torch: TorchArgs,
    #[command(flatten)]
    hop: HopArgs,
    /// Also draw the plan's arena into this file: what lies where from step to step
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tractlet inspect model.onnx
  tractlet inspect model.onnx --svg arena.svg
  tractlet inspect model.onnx --json | jq .int8_ratio
  tractlet inspect model.onnx --hop 16

JSON: engine, fallback_reason (null where the engine is the first choice), inputs[] and outputs[] of {name, dtype, \
shape}, nodes[].{name, op, dtype, engine, why_float (of what is quantized, and in float)}, int8_ratio (null where \
nothing computes), steps[].{name, kind, dtype, macs, read_bytes, written_bytes, scratch_bytes} and arena[].{scratch, \
names, offset, bytes, first_step, last_step} (both empty where there is no plan; steps count from 0, names are of the \
steps that write there, scratch is true where a kernel works and no tensor lies), hop (null without --hop) of {axis, \
rows, window_rows, runs (that fill the first window), window_macs, whole_from.{step, why}}, model.{path, bytes, \
sha256, opset, producer, held}.
Of a .plan file instead of model plan.{path, bytes, isa, model_name, model_sha256, held}, and no nodes: a plan has \
steps, not the nodes of its model.";

#[derive(Serialize)]
struct Report<'a> {
    engine: EngineName,
    /// Why it is not the first choice of `auto`.
    fallback_reason: Option<&'a str>,
    #[serde(flatten)]
    file: File<'a>,
    inputs: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
    nodes: &'a [NodeReport],
    int8_ratio: Option<f64>,
    steps: &'a [StepReport],
    arena: &'a [ArenaBlock],
    /// How it runs hop by hop, if it does.
    hop: Option<&'a HopReport>,
}

/// What the file says of itself, under its own key.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum File<'a> {
    Model {
        #[serde(serialize_with = "output::path_text")]
        path: &'a Path,
        bytes: usize,
        sha256: String,
        opset: i64,
        producer: &'a str,
        held: Held,
    },
    Plan {
        #[serde(serialize_with = "output::path_text")]
        path: &'a Path,
        bytes: usize,
        isa: &'static str,
        /// The model that it was made from.
        model_name: &'a str,
        model_sha256: String,
        held: Held,
    },
    #[cfg(feature = "torch")]
    Torch {
        #[serde(serialize_with = "output::path_text")]
        path: &'a Path,
        bytes: usize,
        sha256: String,
        parameters: u64,
        held: Held,
    },
}

/// How the bytes of the file are held.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Held {
    Mapped,
    Snapshot,
}

impl Held {
    fn of(mapped_directly: bool) -> Held {
        if mapped_directly { Held::Mapped } else { Held::Snapshot }
    }
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

pub fn inspect(mut args: InspectArgs) -> Result<(), Failure> {
    args.model.resolve()?;
    let args = &args;
    // The model itself: a plan that is kept of it has no nodes to show.
    let opened = args.model.open_itself()?;
    let options = args.hop.options(args.model.options(&opened, &args.model.model)?.placement(true));
    let session = args.torch.session(&args.model, &opened, ToldBy::Nobody, options)?;
    let session = args.hop.held(session, &args.model.model)?;
    let report = Report {
        engine: session.engine(),
        fallback_reason: session.fallback_reason(),
        file: File::of(&opened)?,
        inputs: session.inputs().iter().map(Tensor::of).collect(),
        outputs: session.outputs().iter().map(Tensor::of).collect(),
        nodes: session.nodes(),
        int8_ratio: int8_ratio(session.nodes()),
        steps: session.steps(),
        arena: session.arena(),
        hop: session.hop(),
    };
    if let Some(target) = &args.svg {
        files::expect_apart(target, "the drawing", args.model.read(&opened).iter().map(PathBuf::as_path))?;
        draw(&session, opened.path(), target)?;
    }
    if args.model.json { output::json(&report) } else { output::text(&report.text()) }
}

/// The arena of a session that has one, as an image.
fn draw(session: &Session, model: &Path, target: &Path) -> Result<(), Failure> {
    let Some(memory) = session.memory() else {
        let engine = session.engine();
        return Err(format!("--svg: the {engine} engine has no arena that could be drawn; `plan` has one").into());
    };
    let title = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let drawing = Arena { title, memory, steps: session.steps(), blocks: session.arena() };
    output::file(target, drawing.svg())
}

impl<'a> File<'a> {
    fn of(opened: &'a ModelFile) -> Result<File<'a>, Failure> {
        let (path, bytes) = (opened.path(), opened.file_bytes());
        Ok(match opened {
            ModelFile::Model(model) => File::Model {
                path,
                bytes,
                sha256: model.digest(),
                opset: model.opset(),
                producer: model.producer(),
                held: Held::of(model.is_mapped_directly()),
            },
            ModelFile::Plan(plan) => File::Plan {
                path,
                bytes,
                isa: plan.isa().name(),
                model_name: plan.model_name(),
                model_sha256: plan.model_digest(),
                held: Held::of(plan.is_mapped_directly()),
            },
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => File::Torch {
                path,
                bytes,
                sha256: file.digest(),
                parameters: file.parameters().map_err(|error| error.to_string())?,
                held: Held::of(file.is_mapped_directly()),
            },
        })
    }

    fn text(&self) -> String {
        let size = |bytes: usize, held| {
            let held = if matches!(held, Held::Mapped) { "the file itself is mapped" } else { "held as a snapshot" };
            format!("  size      {} ({bytes} bytes), {held}\n", size::human(bytes as u64))
        };
        match *self {
            File::Model { path, bytes, ref sha256, opset, producer, held } => {
                let producer = if producer.is_empty() { "unknown" } else { producer };
                let size = size(bytes, held);
                let path = path.display();
                format!("{path}\n{size}  sha256    {sha256}\n  opset     {opset}\n  producer  {producer}\n")
            }
            File::Plan { path, bytes, isa, model_name, ref model_sha256, held } => {
                let (path, size) = (path.display(), size(bytes, held));
                format!(
                    "{path}\n{size}  model     {model_name}\n  sha256    {model_sha256}, the model's\n  isa       {isa}\n"
                )
            }
            #[cfg(feature = "torch")]
            File::Torch { path, bytes, ref sha256, parameters, held } => {
                let (path, size) = (path.display(), size(bytes, held));
                format!("{path}\n{size}  sha256    {sha256}\n  weights   {parameters} elements of parameters\n")
            }
        }
    }
}

impl<'a> Tensor<'a> {
    fn of(spec: &'a TensorSpec) -> Tensor<'a> {
        Tensor { name: &spec.name, dtype: spec.dtype.name(), shape: &spec.shape }
    }
}

impl Report<'_> {
    fn text(&self) -> String {
        let because = self.fallback_reason.map_or(String::new(), |why| format!(" ({why})"));
        let mut text = format!("{}  engine    {}{because}\n", self.file.text(), self.engine);
        for (role, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for Tensor { name, dtype, shape } in tensors {
                text += &format!("  {role:<8}  {name}: {dtype} {shape:?}\n");
            }
        }
        if !matches!(self.file, File::Model { .. }) {
            return format!("{text}{}", self.steps_text());
        }
        let row = |node: &NodeReport| {
            let engine = node.provider.clone().unwrap_or_else(|| node.engine.to_string());
            vec![node.name.clone(), node.op.clone(), node.dtype.to_owned(), engine]
        };
        let nodes = output::table(&["node", "op", "dtype", "engine"], 4, self.nodes.iter().map(row));
        let ratio = match self.int8_ratio {
            Some(ratio) => format!("{:.0} % of its computing nodes run in int8", 100.0 * ratio),
            None => "none of them computes".to_owned(),
        };
        format!("{text}\n{nodes}\n{} nodes; {ratio}\n{}{}", self.nodes.len(), self.floats_text(), self.steps_text())
    }

    /// Why nodes that are quantized compute in float.
    fn floats_text(&self) -> String {
        let lines = self
            .nodes
            .iter()
            .filter_map(|node| Some(format!("  {} ({}): {}\n", node.name, node.op, node.why_float.as_ref()?)));
        match lines.collect::<String>() {
            none if none.is_empty() => none,
            lines => format!("\nQuantized, but in float:\n{lines}"),
        }
    }

    /// The plan, where there is one.
    fn steps_text(&self) -> String {
        if self.steps.is_empty() {
            return String::new();
        }
        let row = |step: &StepReport| {
            let StepReport { name, kind, dtype, macs, read_bytes, written_bytes, scratch_bytes } = step;
            let numbers = [*macs, *read_bytes, *written_bytes, *scratch_bytes as u64].map(|number| number.to_string());
            [vec![name.clone(), (*kind).to_owned(), (*dtype).to_owned()], numbers.to_vec()].concat()
        };
        let header = ["step", "kind", "dtype", "MAC", "read", "written", "scratch"];
        let steps = output::table(&header, 3, self.steps.iter().map(row));
        let macs: u64 = self.steps.iter().map(|step| step.macs).sum();
        let moved: u64 = self.steps.iter().map(|step| step.read_bytes + step.written_bytes).sum();
        let moved = size::human(moved);
        let hop = self.hop.map_or(String::new(), |hop| hop_text(hop, macs));
        format!("\n{steps}\n{} steps; {:.2} MMAC, {moved} read and written\n{hop}", self.steps.len(), macs as f64 / 1e6)
    }
}

/// What a hop takes beside a window.
fn hop_text(hop: &HopReport, macs: u64) -> String {
    let HopReport { axis, rows, window_rows, runs, window_macs, whole_from } = hop;
    let share = window_macs.map_or(String::new(), |all| {
        format!(
            "; a hop takes {:.1} % of the {:.2} MMAC of a window",
            100.0 * macs as f64 / all as f64,
            all as f64 / 1e6
        )
    });
    let whole = whole_from.as_ref().map_or(String::new(), |whole| {
        format!("computed of the whole window at each hop from step `{}` on: {}\n", whole.step, whole.why)
    });
    format!(
        "by hops of {rows} of {window_rows} rows along dimension {axis}; {runs} of them fill the first window{share}\n{whole}"
    )
}
