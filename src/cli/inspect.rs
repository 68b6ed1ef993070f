//! `tractlet inspect`.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use tractlet::{EngineName, NodeReport, TensorSpec, int8_ratio};

use super::failure::Failure;
use super::{ModelArgs, output, size};

/// Show a model's inputs, outputs and nodes, and how each node is run
///
/// The dtype of a node is the type that it computes in, whatever the types at its ends. The int8
/// ratio is the share of int8 among the nodes that do arithmetic on activations.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
}

const EXAMPLES: &str = "\
Examples:
  tractlet inspect model.onnx
  tractlet inspect model.onnx --json | jq .int8_ratio

JSON: engine, fallback_reason (null where the engine is the first choice), inputs[] and outputs[] of {name, dtype, shape}, nodes[].{name, op, dtype, engine},
int8_ratio (null where nothing computes), model.{path, bytes, sha256, opset, producer, held}.";

#[derive(Serialize)]
struct Report<'a> {
    engine: EngineName,
    /// Why it is not the first choice of `auto`.
    fallback_reason: Option<&'a str>,
    model: File<'a>,
    inputs: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
    nodes: &'a [NodeReport],
    int8_ratio: Option<f64>,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a Path,
    bytes: usize,
    sha256: String,
    opset: i64,
    producer: &'a str,
    /// How its bytes are held: the file mapped, or a snapshot of it.
    held: &'static str,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

pub fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let model = args.model.open()?;
    let session = args.model.session(&model)?;
    let report = Report {
        engine: session.engine(),
        fallback_reason: session.fallback_reason(),
        model: File {
            path: model.path(),
            bytes: model.file_bytes(),
            sha256: model.digest(),
            opset: model.opset(),
            producer: model.producer(),
            held: if model.is_mapped_directly() { "mapped" } else { "snapshot" },
        },
        inputs: session.inputs().iter().map(Tensor::of).collect(),
        outputs: session.outputs().iter().map(Tensor::of).collect(),
        nodes: session.nodes(),
        int8_ratio: int8_ratio(session.nodes()),
    };
    if args.model.json { output::json(&report) } else { output::text(&report.text()) }
}

impl<'a> Tensor<'a> {
    fn of(spec: &'a TensorSpec) -> Tensor<'a> {
        Tensor { name: &spec.name, dtype: spec.dtype.name(), shape: &spec.shape }
    }
}

impl Report<'_> {
    fn text(&self) -> String {
        let File { path, bytes, sha256, opset, producer, held } = &self.model;
        let held = if *held == "mapped" { "the file itself is mapped" } else { "held as a snapshot" };
        let producer = if producer.is_empty() { "unknown" } else { producer };
        let size = size::human(*bytes as u64);
        let mut text =
            format!("{}\n  size      {size} ({bytes} bytes), {held}\n  sha256    {sha256}\n", path.display());
        let because = self.fallback_reason.map_or(String::new(), |why| format!(" ({why})"));
        text += &format!("  opset     {opset}\n  producer  {producer}\n  engine    {}{because}\n", self.engine);
        for (role, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for Tensor { name, dtype, shape } in tensors {
                text += &format!("  {role:<8}  {name}: {dtype} {shape:?}\n");
            }
        }
        let row = |node: &NodeReport| {
            vec![node.name.clone(), node.op.clone(), node.dtype.to_owned(), node.engine.to_string()]
        };
        let nodes = output::table(&["node", "op", "dtype", "engine"], 4, self.nodes.iter().map(row));
        let ratio = match self.int8_ratio {
            Some(ratio) => format!("{:.0} % of its computing nodes run in int8", 100.0 * ratio),
            None => "none of them computes".to_owned(),
        };
        format!("{text}\n{nodes}\n{} nodes; {ratio}\n", self.nodes.len())
    }
}
