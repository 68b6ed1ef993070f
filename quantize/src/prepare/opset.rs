//! Raising the operators to opset 13, from which on weights may have a scale for each channel.

use std::collections::HashMap;

use super::Notes;
use crate::QuantizeError;
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Names, f32s, i64s};

/// What QuantizeLinear and DequantizeLinear with an axis came with.
const NEEDED: i64 = 13;

/// Operators that mean the same in opset 7 and in 13, where both have them.
const UNCHANGED: &[&str] = &[
    "Abs",
    "Acos",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Atan",
    "AveragePool",
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "HardSigmoid",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LSTM",
    "LeakyRelu",
    "Less",
    "Log",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pow",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "Tile",
    "Transpose",
    "Where",
    "Xor",
];

/// Raises an older model; leaves one of opset 13 or later as it is.
pub fn raise(
    model: &mut ModelProto,
    shapes: &HashMap<String, Vec<usize>>,
    notes: &mut Notes,
) -> Result<(), QuantizeError> {
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
            op if UNCHANGED.contains(&op) => opset >= 7,
            "BatchNormalization" => opset >= 7 && without_spatial(node),
            "Softmax" | "LogSoftmax" => softmax(node, shapes),
            "Squeeze" | "Unsqueeze" | "ReduceSum" => {
                to_input(node, "axes", 1, &mut names, &mut stored);
                true
            }
            "Split" => {
                to_input(node, "split", 1, &mut names, &mut stored);
                true
            }
            "Clip" if opset < 11 => {
                bounds(node, &mut names, &mut stored);
                true
            }
            "Slice" => opset >= 10,
            "Clip" | "Pad" | "Resize" | "TopK" => opset >= 11,
            // The ratio became an input, and does nothing outside training.
            "Dropout" => {
                node.attribute.retain(|attribute| attribute.name.as_deref() != Some("ratio"));
                opset >= 7 && node.output.len() == 1
            }
            _ => false,
        };
        if !raised {
            return Err(QuantizeError::Opset { opset, node: node.title().into(), op });
        }
    }
    model.graph_mut().initializer.extend(stored);
    model.set_opset(NEEDED);
    // Opset 13 came with IR version 7.
    model.ir_version = Some(model.ir_version.unwrap_or(0).max(7));
    notes.push(format!("opset {opset} raised to {NEEDED}"));
    Ok(())
}

/// Before opset 13 all dimensions from the axis on were one row: the same where those behind it are 1.
fn softmax(node: &mut NodeProto, shapes: &HashMap<String, Vec<usize>>) -> bool {
    let axis = node.int("axis", 1);
    let Some(shape) = node.arg(0).and_then(|input| shapes.get(input)) else { return axis == -1 };
    let from = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).unwrap_or(shape.len());
    let one_row = shape.get(from + 1..).is_some_and(|behind| behind.iter().all(|&dim| dim == 1));
    if one_row {
        node.set_int("axis", axis);
    }
    one_row
}

/// Opset 9 took the attribute away; 1, its default, is what is left.
fn without_spatial(node: &mut NodeProto) -> bool {
    let spatial = node.int("spatial", 1);
    node.attribute.retain(|attribute| attribute.name.as_deref() != Some("spatial"));
    spatial == 1
}

/// An attribute of integers that became an input.
fn to_input(node: &mut NodeProto, attribute: &str, at: usize, names: &mut Names, stored: &mut Vec<TensorProto>) {
    if let Some(values) = node.ints(attribute).map(<[i64]>::to_vec) {
        let name = names.fresh(&format!("{}_{attribute}", node.title()));
        stored.push(i64s(&name, &[values.len()], &values));
        node.attribute.retain(|held| held.name.as_deref() != Some(attribute));
        node.input.resize(at, String::new());
        node.input.push(name);
    }
}

/// The bounds of a Clip, which became inputs in opset 11.
fn bounds(node: &mut NodeProto, names: &mut Names, stored: &mut Vec<TensorProto>) {
    node.input.truncate(1);
    for (attribute, open) in [("min", f32::MIN), ("max", f32::MAX)] {
        let name = names.fresh(&format!("{}_{attribute}", node.title()));
        stored.push(f32s(&name, &[], &[node.float(attribute, open)]));
        node.input.push(name);
    }
    node.attribute.clear();
}
