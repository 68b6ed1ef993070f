//! Groups on small graphs, and removal of channels that are nothing, on an engine that computes them plainly.

mod follow;
mod whole;

use super::*;
use crate::onnx::proto::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::onnx::{dims, f32s, floats, i64s, stored};
use crate::pool::Pool;
use crate::{EngineError, Runner};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
    NodeProto::new(op, format!("{output}_node"), inputs, vec![output.to_owned()])
}

fn weights(name: &str, shape: &[usize]) -> TensorProto {
    // Any values that differ, of either sign.
    let value = |i: usize| ((i * 7919 + name.len() * 104_729) % 41) as f32 / 20.0 - 1.0;
    f32s(name, shape, &(0..shape.iter().product()).map(value).collect::<Vec<_>>())
}

fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = nodes.last().map(|node| ValueInfoProto::untyped(node.out()));
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![ValueInfoProto::untyped("x")],
        output: output.into_iter().collect(),
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(13) }];
    ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Convolution, a depthwise one, ReLU, flattened into a Gemm; channel 1 of 4 is nothing, and so is what it meets.
fn flattened() -> ModelProto {
    let mut first = weights("w0", &[4, 2, 1, 1]);
    let mut values = floats(&first).unwrap();
    values[2..4].fill(0.0);
    first = f32s("w0", &[4, 2, 1, 1], &values);
    let mut depthwise = node("Conv", &["b", "w1"], "c");
    depthwise.set_int("group", 4);
    let mut product = node("Gemm", &["d", "w2", "b2"], "y");
    product.set_int("transB", 1);
    model(
        vec![
            node("Conv", &["x", "w0", "b0"], "a"),
            node("Relu", &["a"], "b"),
            depthwise,
            node("Reshape", &["c", "shape"], "d"),
            product,
        ],
        vec![
            first,
            f32s("b0", &[4], &[0.5, 0.0, -0.25, 0.125]),
            weights("w1", &[4, 1, 1, 1]),
            i64s("shape", &[2], &[1, 24]),
            weights("w2", &[3, 24]),
            f32s("b2", &[3], &[0.0, 1.0, 2.0]),
        ],
    )
}

/// Runs what these graphs consist of, with 1x1 windows: input `x` is an image of 2 channels, 2 by 3.
struct Plain(Vec<Vec<f32>>);

impl Plain {
    fn new() -> Plain {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
        Plain((0..64).map(|sample| (0..12).map(|i| value(sample * 12 + i)).collect()).collect())
    }
}

struct Run {
    model: ModelProto,
    samples: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    shapes: Vec<Vec<usize>>,
}

impl Engine for Plain {
    fn samples(&self) -> usize {
        self.0.len()
    }

    fn shape(&self, _: &str) -> Option<&[usize]> {
        None
    }

    fn stored(&self, _tensor: &str) -> Result<Vec<u8>, EngineError> {
        Err(EngineError("nothing lies elsewhere".into()))
    }

    fn open(&self, model: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
        let model = onnx::decode(model).map_err(|error| EngineError(error.to_string()))?;
        let mut run = Run { model, samples: self.0.clone(), outputs: vec![], shapes: vec![] };
        run.run(0, &[])?;
        Ok(Box::new(run))
    }
}

impl Runner for Run {
    fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    fn run(&mut self, sample: usize, _: &[&[f32]]) -> Result<(), EngineError> {
        let graph = self.model.graph.as_ref().unwrap();
        let declared: HashSet<&str> = graph.output_names().into_iter().collect();
        if declared.len() < graph.output.len() {
            return Err(EngineError("an output is declared twice".into()));
        }
        let mut held: HashMap<&str, (Vec<usize>, Vec<f32>)> = HashMap::new();
        held.insert("x", (vec![1, 2, 2, 3], self.samples[sample].clone()));
        let stored = graph.stored();
        for node in &graph.node {
            let (shape, x) = held[node.input[0].as_str()].clone();
            let operand = |i: usize| node.arg(i).map(|name| floats(stored[name]).unwrap());
            let made = match node.op() {
                "Identity" => (shape, x),
                "Add" => (shape, x.iter().zip(&held[node.input[1].as_str()].1).map(|(x, y)| x + y).collect()),
                "Relu" => (shape, x.iter().map(|x| x.max(0.0)).collect()),
                "Reshape" => {
                    let target = onnx::integers(stored[node.input[1].as_str()]).unwrap();
                    (target.iter().map(|&size| size as usize).collect(), x)
                }
                op => {
                    let w = operand(1).unwrap();
                    let plane: usize = if op == "Conv" { shape[2..].iter().product() } else { 1 };
                    let rows = stored[node.input[1].as_str()].dims[0] as usize;
                    let bias = operand(2).unwrap_or_else(|| vec![0.0; rows]);
                    let (cols, depthwise) = (w.len() / rows, node.int("group", 1) > 1);
                    let y = (0..rows * plane).map(|i| {
                        let (row, place) = (i / plane, i % plane);
                        let from = |col: usize| if depthwise { row } else { col };
                        bias[row] + (0..cols).map(|col| w[row * cols + col] * x[from(col) * plane + place]).sum::<f32>()
                    });
                    let shape = [&[1, rows], shape.get(2..).unwrap_or_default()].concat();
                    (shape, y.collect())
                }
            };
            held.insert(node.out(), made);
        }
        (self.shapes, self.outputs) = graph.output_names().iter().map(|name| held[name].clone()).unzip();
        Ok(())
    }

    fn output(&self, index: usize) -> &[f32] {
        &self.outputs[index]
    }
}
