//! Raising the operators to opset 13, from which on weights may have a scale for each channel.

use std::collections::HashMap;

use super::Notes;
use crate::QuantizeError;
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::onnx::{Names, i64s};

/// What QuantizeLinear and DequantizeLinear with an axis came with.
const NEEDED: i64 = 13;

/// Operators that mean the same in opset 10 and in 13.
const UNCHANGED: [&str; 37] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "Pow",
    "PRelu",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Tanh",
];

/// Raises an older model; leaves one of opset 13 or later as it is.
pub fn raise(model: &mut ModelProto, ranks: &HashMap<String, usize>, notes: &mut Notes) -> Result<(), QuantizeError> {
    let opset = model.opset();
    if opset >= NEEDED {
        return Ok(());
    }
    let mut names = Names::of(model);
    let mut stored = Vec::new();
    for node in &mut model.graph_mut().node {
        let (op, known) = (
            node.op().to_owned(),
            node.domain.as_deref().is_none_or(|domain| domain.is_empty() || domain == "ai.onnx"),
        );
        let raised = match op.as_str() {
            _ if !known => true,
            op if UNCHANGED.contains(&op) && opset >= 7 => true,
            "Transpose" | "Gather" => true,
            "Softmax" | "LogSoftmax" => softmax(node, ranks),
            "Squeeze" | "Unsqueeze" | "ReduceSum" => {
                axes(node, &mut names, &mut stored);
                true
            }
            "Clip" | "Pad" | "Slice" | "Resize" => opset >= 11,
            "Dropout" => opset >= 7 && node.output.len() == 1 && node.input.len() == 1,
            _ => false,
        };
        if !raised {
            return Err(QuantizeError::Opset { opset, node: node.title().into(), op });
        }
        if op == "Dropout" {
            // The ratio became an input, and does nothing outside training.
            node.attribute.clear();
        }
    }
    model.graph_mut().initializer.extend(stored);
    model.set_opset(NEEDED);
    // Opset 13 came with IR version 7.
    model.ir_version = Some(model.ir_version.unwrap_or(0).max(7));
    notes.push(format!("opset {opset} raised to {NEEDED}"));
    Ok(())
}

/// Before opset 13 all dimensions from the axis on were one row: the same where that is the last one.
fn softmax(node: &mut NodeProto, ranks: &HashMap<String, usize>) -> bool {
    let axis = node.int("axis", 1);
    let rank = node.arg(0).and_then(|input| ranks.get(input));
    let last = axis == -1 || rank.is_some_and(|&rank| axis + 1 == rank as i64);
    if last {
        node.set_int("axis", -1);
    }
    last
}

/// Axes became an input.
fn axes(node: &mut NodeProto, names: &mut Names, stored: &mut Vec<crate::onnx::proto::TensorProto>) {
    if let Some(axes) = node.ints("axes").map(<[i64]>::to_vec) {
        let name = names.fresh(&format!("{}_axes", node.title()));
        stored.push(i64s(&name, &[axes.len()], &axes));
        node.attribute.retain(|attribute| attribute.name.as_deref() != Some("axes"));
        node.input.push(name);
    }
}
