//! Attributes of each node: of which kind, within which range.
//!
//! ONNX gives an attribute's name the same meaning wherever it stands, so the rules go by name.
//! Ranges are those that the operator specifications state, and besides an upper bound where an
//! absurd value would only show as an absurd size later.

use super::{fault, signature};
use crate::model::error::Fault;
use crate::model::graph::{AttributeValue, DType, Node};

/// Above any kernel, stride, dilation or padding of a real network.
const WINDOW_LIMIT: i64 = 1 << 16;

pub(super) fn check(node: &Node, opset: i64) -> Result<(), Fault> {
    signature::check(node, opset)?;
    required(node, opset)?;
    for attribute in &node.attributes {
        let name = attribute.name.as_str();
        let above = |value: i64| Fault::limit(format!("node `{}` ({}): attribute `{name}`", node.name, node.op), value as u64, WINDOW_LIMIT as u64);
        let fail = |what: String| Err(fault(node, format!("attribute `{name}` {what}")));
        let expected = |kind: &str| fail(format!("must be {kind}, not {}", attribute.value.kind()));
        match (name, &attribute.value) {
            ("strides" | "dilations" | "kernel_shape", AttributeValue::Ints(values)) => {
                if let Some(value) = values.iter().find(|v| **v < 1) {
                    return fail(format!("has {value}; each must be at least 1"));
                }
                if let Some(value) = values.iter().find(|v| **v > WINDOW_LIMIT) {
                    return Err(above(*value));
                }
            }
            ("pads" | "output_padding", AttributeValue::Ints(values)) if node.op != "Pad" => {
                if let Some(value) = values.iter().find(|v| **v < 0) {
                    return fail(format!("has {value}; none may be negative"));
                }
                if let Some(value) = values.iter().find(|v| **v > WINDOW_LIMIT) {
                    return Err(above(*value));
                }
            }
            ("perm", AttributeValue::Ints(values)) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                if sorted.iter().zip(0..).any(|(&value, place)| value != place) {
                    return fail(format!("is {values:?}, which is not a permutation of 0..{}", values.len()));
                }
            }
            ("group" | "num_groups" | "blocksize" | "num_outputs", AttributeValue::Int(value)) => {
                if *value < 1 {
                    return fail(format!("is {value}; it must be at least 1"));
                }
            }
            ("block_size", AttributeValue::Int(value)) => {
                if *value < 0 {
                    return fail(format!("is {value}; it must not be negative"));
                }
            }
            ("storage_order", AttributeValue::Int(value)) => {
                if !(0..=1).contains(value) {
                    return fail(format!("is {value}; it must be 0 or 1"));
                }
            }
            (_, AttributeValue::Other(kind @ (9..=14))) => {
                return Err(Fault::unsupported(format!("node `{}` ({}): attribute `{name}` is of type {kind}; tractlet takes numbers, strings, their lists, tensors and graphs", node.name, node.op)));
            }
            (_, AttributeValue::Other(kind)) => return fail(format!("is of type {kind}, which ONNX does not have")),
            ("", _) => return Err(fault(node, "an attribute has no name")),
            ("to" | "dtype" | "output_dtype", AttributeValue::Int(value)) => {
                if DType::from_onnx(*value).is_none() && !(name == "output_dtype" && *value == 0) {
                    return fail(format!("asks for data type {value}, which tractlet does not run"));
                }
            }
            ("auto_pad", AttributeValue::Text(text)) => {
                if !matches!(text.as_str(), "" | "NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID") {
                    return fail(format!("is `{text}`; ONNX knows NOTSET, SAME_UPPER, SAME_LOWER and VALID"));
                }
            }
            ("strides" | "dilations" | "kernel_shape" | "pads" | "output_padding" | "perm", _) => return expected("a list of integers"),
            ("group" | "num_groups" | "blocksize" | "num_outputs" | "block_size" | "to" | "dtype" | "output_dtype", _) => return expected("an integer"),
            ("axis" | "keepdims" | "ceil_mode" | "count_include_pad" | "transA" | "transB" | "channels_last", value) => {
                if !matches!(value, AttributeValue::Int(_)) {
                    return expected("an integer");
                }
            }
            ("alpha" | "beta" | "epsilon" | "gamma" | "momentum", value) => {
                if !matches!(value, AttributeValue::Float(_)) {
                    return expected("a float");
                }
            }
            ("auto_pad" | "mode", value) => {
                if !matches!(value, AttributeValue::Text(_)) {
                    return expected("a string");
                }
            }
            ("axes" | "split" | "output_shape" | "starts" | "ends", value) => {
                if !matches!(value, AttributeValue::Ints(_)) {
                    return expected("a list of integers");
                }
            }
            ("value", value) if matches!(node.op.as_str(), "Constant" | "ConstantOfShape") => {
                if !matches!(value, AttributeValue::Tensor(_)) {
                    return expected("a tensor");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Attributes without a default, of the operators that engines run.
fn required(node: &Node, opset: i64) -> Result<(), Fault> {
    let name = match node.op.as_str() {
        "AveragePool" | "MaxPool" | "LpPool" | "QLinearAveragePool" => "kernel_shape",
        "Cast" => "to",
        "Concat" | "QLinearConcat" => "axis",
        "DepthToSpace" | "SpaceToDepth" => "blocksize",
        "Pad" if opset < 11 => "pads",
        _ => return Ok(()),
    };
    match node.attribute(name) {
        Some(_) => Ok(()),
        None => Err(fault(node, format!("attribute `{name}` is missing"))),
    }
}
