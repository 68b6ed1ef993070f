//! A float model made ready: what only stands in the way of integers is folded into what computes, and
//! the operators are raised to the version that quantization needs. The model answers as before.

mod advance;
mod affine;
mod branches;
mod constants;
mod einsum;
mod opset;

use std::collections::{HashMap, HashSet};

use crate::onnx::proto::{ModelProto, NodeProto, data_type};
use crate::onnx::{Edges, floats};
use crate::pool::Pool;
use crate::sites;
use crate::{Engine, QuantizeError};

pub use opset::{OPSET, WIDE_OPSET};

/// What was done to a model, in words.
pub type Notes = Vec<String>;

/// Prepares a float model; its operators are those of opset `needed` afterwards, or of a later one.
///
/// # Errors
/// It is quantized already, holds NaN or infinite weights, or needs operators of a later opset that
/// cannot be had.
pub fn prepare(mut model: ModelProto, engine: &dyn Engine, needed: i64) -> Result<(ModelProto, Notes), QuantizeError> {
    refuse_quantized(&model)?;
    refuse_not_finite(&model)?;
    let mut notes = Notes::new();
    drop_defaults(&mut model);
    branches::inline(&mut model, &mut notes);
    drop_identities(&mut model, &mut notes);
    sum_to_add(&mut model);
    let before = shapes(&model, engine, first_inputs(&model, &["Softmax", "LogSoftmax"]))?;
    opset::raise(&mut model, &before, needed, &mut notes)?;
    constants::store(&mut model);
    constants::fold(&mut model, &mut notes);
    let operands = shapes(&model, engine, einsum::computed(&model))?;
    einsum::to_matmul(&mut model, &operands, &mut notes);
    advance::advance(&mut model);
    let rows = shapes(&model, engine, first_inputs(&model, &["MatMul"]))?;
    matmul_to_gemm(&mut model, &rows.into_iter().map(|(name, shape)| (name, shape.len())).collect());
    affine::fold(&mut model, &mut notes);
    refuse_not_finite(&model)?;
    model.graph_mut().sweep();
    Ok((model, notes))
}

/// Before IR version 4 stored tensors had to be inputs too, and nobody overrode them. From then on they need not.
fn drop_defaults(model: &mut ModelProto) {
    if model.ir_version.unwrap_or(0) < 4 {
        model.ir_version = Some(4);
        let graph = model.graph_mut();
        let stored: HashSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
        graph.input.retain(|input| input.name.as_deref().is_none_or(|name| !stored.contains(name)));
    }
}

/// What operators of these kinds read first.
fn first_inputs(model: &ModelProto, ops: &[&str]) -> Vec<String> {
    let nodes = model.nodes().iter().filter(|node| ops.contains(&node.op()));
    nodes.filter_map(|node| node.arg(0)).map(str::to_owned).collect()
}

/// Shapes of these tensors.
fn shapes(
    model: &ModelProto,
    engine: &dyn Engine,
    mut taps: Vec<String>,
) -> Result<HashMap<String, Vec<usize>>, QuantizeError> {
    taps.sort_unstable();
    taps.dedup();
    if taps.is_empty() {
        return Ok(HashMap::new());
    }
    let shapes = Pool::open(engine, model, &taps)?.shapes()?;
    Ok(taps.into_iter().zip(shapes).collect())
}

/// A sum of two operands, as Caffe2 writes what a residual adds.
fn sum_to_add(model: &mut ModelProto) {
    for node in model.graph_mut().node.iter_mut().filter(|node| node.op() == "Sum" && node.input.len() == 2) {
        node.op_type = Some("Add".into());
    }
}

/// A product of rows by a stored matrix, which may have a bias as a Gemm.
fn matmul_to_gemm(model: &mut ModelProto, ranks: &HashMap<String, usize>) {
    let Some(graph) = &model.graph else { return };
    let stored = graph.stored();
    let is_matrix =
        |name: Option<&str>| name.and_then(|name| stored.get(name)).is_some_and(|tensor| tensor.dims.len() == 2);
    let rows = |node: &NodeProto| node.arg(0).and_then(|name| ranks.get(name)) == Some(&2) && is_matrix(node.arg(1));
    let found: Vec<usize> =
        graph.node.iter().enumerate().filter(|(_, n)| n.op() == "MatMul" && rows(n)).map(|(i, _)| i).collect();
    for index in found {
        model.graph_mut().node[index].op_type = Some("Gemm".into());
    }
}

fn refuse_quantized(model: &ModelProto) -> Result<(), QuantizeError> {
    let quantizing = |op: &str| {
        op.starts_with("QLinear")
            || op.ends_with("Integer")
            || op.ends_with("QuantizeLinear")
            || op == "QGemm"
            || op == "DequantizeLinear"
    };
    match model.nodes().iter().find(|node| node.op_type.as_deref().is_some_and(quantizing)) {
        Some(node) => Err(QuantizeError::AlreadyQuantized {
            node: node.title().into(),
            op: node.op_type.clone().unwrap_or_default(),
        }),
        None => Ok(()),
    }
}

fn refuse_not_finite(model: &ModelProto) -> Result<(), QuantizeError> {
    // What nothing is to be taken of may be infinite: a bound that does nothing, a mask before a Softmax.
    let means_it = |op: &str| matches!(op, "Clip" | "Add" | "Sub" | "Where" | "Min" | "Max" | "Pad");
    let mut finite = HashSet::new();
    for node in model.nodes().iter().rev().filter(|node| !means_it(node.op())) {
        let read = || node.output.iter().any(|name| finite.contains(name.as_str()));
        if !(sites::hands_on(node.op()) || node.op() == "Trilu") || read() {
            finite.extend(node.input.iter().map(String::as_str));
        }
    }
    let graph = model.graph.iter().flat_map(|graph| &graph.initializer);
    for tensor in graph.filter(|tensor| tensor.data_type == Some(data_type::FLOAT)) {
        let name = tensor.name.as_deref().unwrap_or_default();
        let Some(values) = floats(tensor) else { continue };
        let is_damaged = |value: &f32| value.is_nan() || (value.is_infinite() && finite.contains(name));
        if let Some(index) = values.iter().position(is_damaged) {
            let (tensor, value) = (format!("stored tensor `{name}`"), values[index]);
            return Err(QuantizeError::NotFinite { tensor, index, value, advice: "train or export the model anew" });
        }
    }
    Ok(())
}

/// Takes out Identity, and Dropout that is not told to train.
fn drop_identities(model: &mut ModelProto, notes: &mut Notes) {
    let edges = Edges::of(model);
    let captured: HashSet<String> = {
        let mut names = HashSet::new();
        model.nodes().iter().for_each(|node| {
            node.captures(&mut |name| {
                names.insert(name.to_owned());
            })
        });
        names
    };
    // A chain of identities leads to its beginning.
    let mut stands_for: HashMap<String, String> = HashMap::new();
    let mut gone = HashSet::new();
    for (index, node) in model.nodes().iter().enumerate() {
        let idle = match node.op() {
            "Identity" => true,
            "Dropout" => {
                let is_unread = |mask: &String| edges.readers(mask).is_empty() && !edges.is_output(mask);
                node.arg(2).is_none() && node.output.iter().skip(1).all(is_unread)
            }
            _ => false,
        };
        // An output keeps its name, and what a subgraph reads cannot be renamed there.
        if idle
            && !edges.is_output(node.out())
            && !captured.contains(node.out())
            && let Some(source) = node.arg(0)
        {
            let source = stands_for.get(source).cloned().unwrap_or_else(|| source.to_owned());
            stands_for.insert(node.out().to_owned(), source);
            gone.insert(index);
        }
    }
    if gone.is_empty() {
        return;
    }
    notes.push(format!("{} Identity and Dropout nodes taken out", gone.len()));
    remove(model, &gone);
    for name in model.graph_mut().node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(source) = stands_for.get(name) {
            name.clone_from(source);
        }
    }
}

/// Takes nodes out by index.
fn remove(model: &mut ModelProto, gone: &HashSet<usize>) {
    let mut index = 0;
    model.graph_mut().node.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::f32s;
    use crate::onnx::proto::{GraphProto, ValueInfoProto};

    #[test]
    fn a_dropout_whose_mask_nobody_reads_is_taken_out() {
        let model = |reader: &[&str]| {
            let mut dropout = NodeProto::test("Dropout", &["a"], "b");
            dropout.output.push("mask".into());
            let graph = GraphProto {
                node: vec![NodeProto::test("Relu", &["x"], "a"), dropout, NodeProto::test("Concat", reader, "y")],
                output: vec![ValueInfoProto::untyped("y")],
                ..GraphProto::default()
            };
            let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
            drop_identities(&mut model, &mut Notes::new());
            model.nodes().iter().map(|node| node.op().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(model(&["b"]), ["Relu", "Concat"]);
        assert_eq!(model(&["b", "mask"]), ["Relu", "Dropout", "Concat"]);
    }

    #[test]
    fn a_mask_may_be_infinite_however_it_is_laid() {
        let refused = |last: &str| {
            let nodes = vec![
                NodeProto::test("Expand", &["infinite", "size"], "a"),
                NodeProto::test("Trilu", &["a"], "b"),
                NodeProto::test(last, &["x", "b"], "y"),
            ];
            let initializer = vec![f32s("infinite", &[1], &[f32::NEG_INFINITY])];
            let graph = GraphProto { node: nodes, initializer, ..GraphProto::default() };
            refuse_not_finite(&ModelProto { graph: Some(graph), ..ModelProto::default() }).is_err()
        };
        assert!(refused("Mul") && !refused("Add"));
    }

    #[test]
    fn a_sum_of_two_is_an_addition() {
        let nodes = vec![
            NodeProto::test("Sum", &["x", "x"], "a"),
            NodeProto::test("Sum", &["a"], "b"),
            NodeProto::test("Sum", &["a", "b", "x"], "y"),
        ];
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        sum_to_add(&mut model);
        assert_eq!(model.nodes().iter().map(NodeProto::op).collect::<Vec<_>>(), ["Add", "Sum", "Sum"]);
    }
}
