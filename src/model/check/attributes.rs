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

// Every attribute that a rule or an engine reads: one of another kind would pass for one that is left out.
const INTEGERS: [&str; 43] = [
    "allowzero",
    "antialias",
    "axis",
    "batch_dims",
    "block_size",
    "blocksize",
    "ceil_mode",
    "channels_last",
    "count_include_pad",
    "detect_negative",
    "detect_positive",
    "dtype",
    "end",
    "exclude_outside",
    "exclusive",
    "fmod",
    "group",
    "hidden_size",
    "input_forget",
    "k",
    "keepdims",
    "largest",
    "layout",
    "linear_before_reset",
    "noop_with_empty_axes",
    "num_groups",
    "num_outputs",
    "opset",
    "output_dtype",
    "p",
    "reverse",
    "saturate",
    "select_last_index",
    "size",
    "sorted",
    "start",
    "stash_type",
    "storage_order",
    "to",
    "training_mode",
    "transA",
    "transB",
    "upper",
];
const FLOATS: [&str; 11] = [
    "alpha",
    "beta",
    "bias",
    "clip",
    "cubic_coeff_a",
    "epsilon",
    "extrapolation_value",
    "gamma",
    "lambd",
    "momentum",
    "ratio",
];
const STRINGS: [&str; 7] = [
    "approximate",
    "auto_pad",
    "coordinate_transformation_mode",
    "direction",
    "keep_aspect_ratio_policy",
    "mode",
    "nearest_mode",
];
const LISTS: [&str; 11] = [
    "axes",
    "dilations",
    "ends",
    "kernel_shape",
    "output_padding",
    "output_shape",
    "pads",
    "perm",
    "split",
    "starts",
    "strides",
];

pub(super) fn check(node: &Node, opset: i64) -> Result<(), Fault> {
    signature::check(node, opset)?;
    required(node, opset)?;
    for attribute in &node.attributes {
        if attribute.name.is_empty() {
            return Err(fault(node, "an attribute has no name"));
        }
        kind(node, &attribute.name, &attribute.value)?;
        range(node, &attribute.name, &attribute.value)?;
    }
    Ok(())
}

fn kind(node: &Node, name: &str, value: &AttributeValue) -> Result<(), Fault> {
    if let AttributeValue::Other(kind) = value {
        let Node { name: at, op, .. } = node;
        return match kind {
            9..=14 => Err(Fault::unsupported(format!(
                "node `{at}` ({op}): attribute `{name}` is of type {kind}; tractlet takes numbers, strings, their lists, tensors and graphs"
            ))),
            _ => Err(fault(node, format!("attribute `{name}` is of type {kind}, which ONNX does not have"))),
        };
    }
    let (expected, fits) = match name {
        name if INTEGERS.contains(&name) => ("an integer", matches!(value, AttributeValue::Int(_))),
        name if FLOATS.contains(&name) => ("a float", matches!(value, AttributeValue::Float(_))),
        name if STRINGS.contains(&name) => ("a string", matches!(value, AttributeValue::Text(_))),
        name if LISTS.contains(&name) => ("a list of integers", matches!(value, AttributeValue::Ints(_))),
        "scales" | "activation_alpha" | "activation_beta" => {
            ("a list of floats", matches!(value, AttributeValue::Floats(_)))
        }
        "activations" => ("a list of strings", matches!(value, AttributeValue::Texts(_))),
        "value" if node.op == "Pad" => ("a float", matches!(value, AttributeValue::Float(_))),
        "value" if matches!(node.op.as_str(), "Constant" | "ConstantOfShape") => {
            ("a tensor", matches!(value, AttributeValue::Tensor(_)))
        }
        _ => return Ok(()),
    };
    if fits { Ok(()) } else { Err(fault(node, format!("attribute `{name}` must be {expected}, not {}", value.kind()))) }
}

fn range(node: &Node, name: &str, value: &AttributeValue) -> Result<(), Fault> {
    let fail = |what: String| Err(fault(node, format!("attribute `{name}` {what}")));
    match (name, value) {
        ("strides" | "dilations" | "kernel_shape", AttributeValue::Ints(values)) => within(node, name, values, 1),
        // Pad takes negative ones, which crop.
        ("pads" | "output_padding", AttributeValue::Ints(values)) if node.op != "Pad" => within(node, name, values, 0),
        ("perm", AttributeValue::Ints(values)) => {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            if sorted.iter().zip(0..).any(|(&value, place)| value != place) {
                return fail(format!("is {values:?}, which is not a permutation of 0..{}", values.len()));
            }
            Ok(())
        }
        ("group" | "num_groups" | "blocksize" | "num_outputs", AttributeValue::Int(value)) if *value < 1 => {
            fail(format!("is {value}; it must be at least 1"))
        }
        ("block_size", AttributeValue::Int(value)) if *value < 0 => {
            fail(format!("is {value}; it must not be negative"))
        }
        ("storage_order", AttributeValue::Int(value)) if !(0..=1).contains(value) => {
            fail(format!("is {value}; it must be 0 or 1"))
        }
        // 0 is "as the zero point says".
        ("output_dtype", AttributeValue::Int(0)) => Ok(()),
        ("to" | "dtype" | "output_dtype", AttributeValue::Int(value)) if DType::from_onnx(*value).is_none() => {
            fail(format!("asks for data type {value}, which tractlet does not run"))
        }
        ("auto_pad", AttributeValue::Text(text))
            if !matches!(text.as_str(), "" | "NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID") =>
        {
            fail(format!("is `{text}`; ONNX knows NOTSET, SAME_UPPER, SAME_LOWER and VALID"))
        }
        _ => Ok(()),
    }
}

fn within(node: &Node, name: &str, values: &[i64], least: i64) -> Result<(), Fault> {
    if let Some(value) = values.iter().find(|v| **v < least) {
        return Err(fault(node, format!("attribute `{name}` has {value}; each must be at least {least}")));
    }
    match values.iter().find(|v| **v > WINDOW_LIMIT) {
        Some(value) => {
            let subject = format!("node `{}` ({}): attribute `{name}`", node.name, node.op);
            Err(Fault::limit(subject, *value as u64, WINDOW_LIMIT as u64))
        }
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::graph::{Attribute, Domain};

    fn node(op: &str, name: &str, value: AttributeValue) -> Node {
        let inputs = vec!["x".into(), "w".into()];
        let attributes = vec![Attribute { name: name.into(), value }];
        Node { name: "n".into(), op: op.into(), domain: Domain::Onnx, inputs, outputs: vec!["y".into()], attributes }
    }

    #[test]
    fn legal_values_at_the_edge_pass() {
        let legal = [
            node("Conv", "group", AttributeValue::Int(1)),
            node("Conv", "strides", AttributeValue::Ints(vec![1, 65_536])),
            node("Conv", "auto_pad", AttributeValue::Text("NOTSET".into())),
            node("Pad", "pads", AttributeValue::Ints(vec![0, -1, 0, 1])),
            node("QuantizeLinear", "output_dtype", AttributeValue::Int(0)),
            node("DequantizeLinear", "block_size", AttributeValue::Int(0)),
        ];
        for node in legal {
            assert!(check(&node, 21).is_ok(), "{node:?}");
        }
    }

    #[test]
    fn a_wrong_kind_is_told_from_a_wrong_value() {
        let error = |node: Node| check(&node, 21).unwrap_err().to_string();
        assert!(error(node("Conv", "group", AttributeValue::Float(1.0))).contains("must be an integer, not a float"));
        assert!(error(node("Conv", "group", AttributeValue::Int(0))).contains("is 0; it must be at least 1"));
    }

    /// Each was taken for its default.
    #[test]
    fn what_is_read_must_be_of_its_kind() {
        let error = |op: &str, name: &str, value| check(&node(op, name, value), 21).unwrap_err().to_string();
        let integers = [
            ("CumSum", "exclusive"),
            ("CumSum", "reverse"),
            ("TopK", "largest"),
            ("TopK", "k"),
            ("Trilu", "upper"),
            ("Mod", "fmod"),
            ("TopK", "sorted"),
            ("ReduceSum", "noop_with_empty_axes"),
            ("EyeLike", "k"),
            ("Reshape", "allowzero"),
            ("Resize", "antialias"),
            ("LpNormalization", "p"),
        ];
        for (op, name) in integers {
            assert!(error(op, name, AttributeValue::Float(1.0)).contains("must be an integer"), "{op} {name}");
        }
        for (op, name) in [("Shrink", "lambd"), ("Shrink", "bias"), ("Pad", "value")] {
            assert!(error(op, name, AttributeValue::Int(1)).contains("must be a float"), "{op} {name}");
        }
        let texts = [("Gelu", "approximate"), ("Resize", "nearest_mode"), ("Resize", "coordinate_transformation_mode")];
        for (op, name) in texts {
            assert!(error(op, name, AttributeValue::Int(1)).contains("must be a string"), "{op} {name}");
        }
        let mut lstm = node("LSTM", "layout", AttributeValue::Float(1.0));
        lstm.inputs.push("r".into());
        let of_lstm = [
            ("layout", AttributeValue::Float(1.0), "an integer"),
            ("input_forget", AttributeValue::Text("1".into()), "an integer"),
            ("clip", AttributeValue::Int(3), "a float"),
            ("direction", AttributeValue::Int(1), "a string"),
            ("activations", AttributeValue::Text("Tanh".into()), "a list of strings"),
            ("activation_alpha", AttributeValue::Float(0.2), "a list of floats"),
        ];
        for (name, value, kind) in of_lstm {
            lstm.attributes = vec![Attribute { name: name.into(), value }];
            assert!(check(&lstm, 13).unwrap_err().to_string().contains(kind), "{name}");
        }
    }
}
