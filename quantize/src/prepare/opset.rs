//! Raising the operators to opset 13, from which on weights may have a scale for each channel, or to opset 21, from which
//! on activations may have 16 bits.

use std::collections::HashMap;

use super::Notes;
use crate::QuantizeError;
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Names, f32s, i64s};

/// What QuantizeLinear and DequantizeLinear with an axis came with.
pub const OPSET: i64 = 13;
/// What those of 16 bits came with.
pub const WIDE_OPSET: i64 = 21;

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
    "Einsum",
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

/// Operators beside [`UNCHANGED`] that mean the same in opset 13 and in 21, where both have them.
const UNCHANGED_LATER: &[&str] = &[
    "BatchNormalization",
    "Celu",
    "Clip",
    "CumSum",
    "Dropout",
    "GatherElements",
    "GatherND",
    "Gelu",
    "GreaterOrEqual",
    "HardSwish",
    "LayerNormalization",
    "LessOrEqual",
    "LogSoftmax",
    "Mish",
    "Pad",
    "ReduceSum",
    // From 18 on it has more attributes, whose defaults are what it did.
    "Resize",
    "Slice",
    "Softmax",
    "Squeeze",
    "TopK",
    "Trilu",
    "Unsqueeze",
];

/// Raises an older model to opset `needed`; leaves one of that or a later opset as it is.
pub fn raise(
    model: &mut ModelProto,
    shapes: &HashMap<String, Vec<usize>>,
    needed: i64,
    notes: &mut Notes,
) -> Result<(), QuantizeError> {
    let opset = model.opset();
    if opset < OPSET {
        to_13(model, shapes, needed)?;
    }
    if opset < needed && needed > OPSET {
        to_21(model, opset)?;
    }
    if opset < needed {
        model.set_opset(needed);
        // Opset 13 came with IR version 7, and 21 with 10.
        let least = if needed > OPSET { 10 } else { 7 };
        model.ir_version = Some(model.ir_version.unwrap_or(0).max(least));
        notes.push(format!("opset {opset} raised to {needed}"));
    }
    Ok(())
}

/// From one of 13 or later.
fn to_21(model: &mut ModelProto, stated: i64) -> Result<(), QuantizeError> {
    let opset = model.opset();
    let mut names = Names::of(model);
    let mut stored = Vec::new();
    for node in &mut model.graph_mut().node {
        let op = node.op().to_owned();
        let is_own = node.domain.as_deref().is_none_or(|domain| domain.is_empty() || domain == "ai.onnx");
        let raised = match op.as_str() {
            _ if !is_own => true,
            op if op.starts_with("Reduce") && opset < 18 => {
                to_input(node, "axes", 1, &mut names, &mut stored);
                true
            }
            // Without sizes it has to state the number of its parts from opset 18 on.
            "Split" => {
                if opset < 18 && node.arg(1).is_none() {
                    node.set_int("num_outputs", node.output.len() as i64);
                }
                true
            }
            op => UNCHANGED.contains(&op) || UNCHANGED_LATER.contains(&op) || op.starts_with("Reduce"),
        };
        if !raised {
            return Err(QuantizeError::Opset { opset: stated, needed: WIDE_OPSET, node: node.title().into(), op });
        }
    }
    model.graph_mut().initializer.extend(stored);
    Ok(())
}

fn to_13(model: &mut ModelProto, shapes: &HashMap<String, Vec<usize>>, needed: i64) -> Result<(), QuantizeError> {
    let opset = model.opset();
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
            "Slice" => {
                let attributes = ["starts", "ends", "axes"];
                (1..).zip(attributes).for_each(|(at, name)| to_input(node, name, at, &mut names, &mut stored));
                true
            }
            "Pad" if (2..11).contains(&opset) => {
                let value = f32s(&names.fresh(&format!("{}_value", node.title())), &[], &[node.float("value", 0.0)]);
                node.attribute.retain(|held| held.name.as_deref() != Some("value"));
                to_input(node, "pads", 1, &mut names, &mut stored);
                node.input.extend(value.name.clone());
                stored.push(value);
                true
            }
            "Clip" | "Pad" | "Resize" | "TopK" => opset >= 11,
            // The ratio became an input, and does nothing outside training.
            "Dropout" => {
                node.attribute.retain(|attribute| attribute.name.as_deref() != Some("ratio"));
                opset >= 7 && node.output.len() == 1
            }
            _ => false,
        };
        if !raised {
            return Err(QuantizeError::Opset { opset, needed, node: node.title().into(), op });
        }
    }
    model.graph_mut().initializer.extend(stored);
    model.set_opset(OPSET);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, OperatorSetIdProto};
    use crate::onnx::{floats, integers};

    #[test]
    fn what_was_an_attribute_is_an_input() {
        let mut pad = NodeProto::test("Pad", &["x"], "a");
        pad.set_ints("pads", vec![0, 1, 0, 1]);
        let mut slice = NodeProto::test("Slice", &["a"], "y");
        slice.set_ints("starts", vec![1]);
        slice.set_ints("ends", vec![3]);
        let graph = GraphProto { node: vec![pad, slice], ..GraphProto::default() };
        let opset_import = vec![OperatorSetIdProto { version: Some(9), ..OperatorSetIdProto::default() }];
        let mut model = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() };
        raise(&mut model, &HashMap::new(), OPSET, &mut Notes::new()).unwrap();
        let graph = model.graph.as_ref().unwrap();
        let (stored, pad, slice) = (graph.stored(), &graph.node[0], &graph.node[1]);
        let values = |node: &NodeProto, input: usize| integers(stored[node.arg(input).unwrap()]).unwrap();
        assert_eq!((values(pad, 1), floats(stored[pad.arg(2).unwrap()]).unwrap()), (vec![0, 1, 0, 1], vec![0.0]));
        assert_eq!((values(slice, 1), values(slice, 2), slice.input.len()), (vec![1], vec![3], 3));
        assert!(graph.node.iter().all(|node| node.attribute.is_empty()));
        assert_eq!(model.opset(), OPSET);
    }

    #[test]
    fn what_means_the_same_stays_as_it_is() {
        for (op, opset) in [("Resize", 13), ("Resize", 17), ("Gelu", 20), ("Trilu", 14)] {
            let node = NodeProto::test(op, &["x"], "y");
            let graph = GraphProto { node: vec![node.clone()], ..GraphProto::default() };
            let opset_import = vec![OperatorSetIdProto { version: Some(opset), ..OperatorSetIdProto::default() }];
            let mut model = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() };
            raise(&mut model, &HashMap::new(), WIDE_OPSET, &mut Notes::new()).unwrap();
            assert_eq!((model.opset(), &model.nodes()[0]), (WIDE_OPSET, &node), "{op} of {opset}");
        }
    }

    #[test]
    fn a_split_into_even_parts_says_how_many_there_are() {
        let mut split = NodeProto::test("Split", &["x"], "a");
        split.output.extend(["b".into(), "c".into()]);
        for (opset, parts) in [(13, 3), (17, 3), (18, 0)] {
            let graph = GraphProto { node: vec![split.clone()], ..GraphProto::default() };
            let opset_import = vec![OperatorSetIdProto { version: Some(opset), ..OperatorSetIdProto::default() }];
            let mut model = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() };
            raise(&mut model, &HashMap::new(), 21, &mut Notes::new()).unwrap();
            assert_eq!((model.opset(), model.nodes()[0].int("num_outputs", 0)), (21, parts), "{opset}");
        }
    }
}
