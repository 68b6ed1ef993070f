//! Attributes of each node: within which range.
//!
//! ONNX gives an attribute's name the same meaning wherever it stands, so the rules go by name.
//! Ranges are those that the operator specifications state, and besides an upper bound where an
//! absurd value would only show as an absurd size later.

use super::fault;
use crate::model::error::Fault;
use crate::model::graph::{AttributeValue, DType, Node, unrun};

/// Above any kernel, stride, dilation or padding of a real network.
const WINDOW_LIMIT: i64 = 1 << 16;

/// Attributes that are on or off. Of another value some runtimes make one and some the other.
const FLAGS: [&str; 33] = [
    "align_corners",
    "allowzero",
    "antialias",
    "ceil_mode",
    "center_point_box",
    "channels_last",
    "count_include_pad",
    "detect_negative",
    "detect_positive",
    "exclude_outside",
    "exclusive",
    "fmod",
    "input_forget",
    "interleaved",
    "inverse",
    "is_causal",
    "keepdims",
    "largest",
    "layout",
    "linear_before_reset",
    "noop_with_empty_axes",
    "onesided",
    "periodic",
    "reverse",
    "saturate",
    "select_last_index",
    "sorted",
    "spatial",
    "storage_order",
    "training_mode",
    "transA",
    "transB",
    "upper",
];

/// Those of `TensorProto.DataType`: float32, float16, float64, bfloat16.
const FLOATS: [i64; 4] = [1, 10, 11, 16];

pub(super) fn check(node: &Node) -> Result<(), Fault> {
    node.attributes.iter().try_for_each(|attribute| {
        taken(node, &attribute.name, &attribute.value)?;
        range(node, &attribute.name, &attribute.value)
    })
}

/// Whether the value is of a kind that there is.
fn taken(node: &Node, name: &str, value: &AttributeValue) -> Result<(), Fault> {
    let kind = match value {
        AttributeValue::Unclear(why) => return Err(fault(node, format!("attribute `{name}` {why}"))),
        AttributeValue::Other(kind) => kind,
        _ => return Ok(()),
    };
    let Node { name: at, op, .. } = node;
    match kind {
        9..=14 => Err(Fault::unsupported(format!(
            "node `{at}` ({op}): attribute `{name}` is of type {kind}; tractlet takes numbers, strings, their lists, tensors and graphs"
        ))),
        _ => Err(fault(node, format!("attribute `{name}` is of type {kind}, which ONNX does not have"))),
    }
}

fn range(node: &Node, name: &str, value: &AttributeValue) -> Result<(), Fault> {
    let fail = |what: String| Err(fault(node, format!("attribute `{name}` {what}")));
    match (name, value) {
        ("strides" | "dilations" | "kernel_shape", AttributeValue::Ints(values)) => within(node, name, values, 1),
        ("pads", AttributeValue::Ints(values)) if values.iter().any(|&pad| pad != 0) && is_valid(node) => {
            fail("is not 0, and attribute `auto_pad` is VALID, which knows no padding".into())
        }
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
        (
            "group" | "num_groups" | "blocksize" | "num_outputs" | "hidden_size" | "opset" | "p",
            AttributeValue::Int(value),
        ) if *value < 1 => fail(format!("is {value}; it must be at least 1")),
        ("size", AttributeValue::Int(value)) if *value < 1 && node.op == "LRN" => {
            fail(format!("is {value}; it must be at least 1"))
        }
        ("epsilon", AttributeValue::Float(value)) if *value < 0.0 => {
            fail(format!("is {value}; it must not be negative"))
        }
        // Of a Constant it is the value.
        (_, AttributeValue::Float(value)) if value.is_nan() && node.op != "Constant" => fail("is not a number".into()),
        ("block_size", AttributeValue::Int(value)) if *value < 0 => {
            fail(format!("is {value}; it must not be negative"))
        }
        (flag, AttributeValue::Int(value)) if FLAGS.contains(&flag) && !(0..=1).contains(value) => {
            fail(format!("is {value}; it must be 0 or 1"))
        }
        ("stash_type", AttributeValue::Int(value)) if !FLOATS.contains(value) => {
            fail(format!("is {value}; it must be a data type of floats: {FLOATS:?}"))
        }
        // 0 is "as the zero point says".
        ("output_dtype", AttributeValue::Int(0)) => Ok(()),
        ("to" | "dtype" | "output_dtype", AttributeValue::Int(value)) if DType::from_onnx(*value).is_none() => {
            fail(format!("asks for {}", unrun(*value)))
        }
        ("auto_pad", AttributeValue::Text(text))
            if !matches!(text.as_str(), "" | "NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID") =>
        {
            fail(format!("is `{text}`; ONNX knows NOTSET, SAME_UPPER, SAME_LOWER and VALID"))
        }
        _ => Ok(()),
    }
}

/// Where both are stated, runtimes differ in which of them counts.
fn is_valid(node: &Node) -> bool {
    matches!(node.attribute("auto_pad"), Some(AttributeValue::Text(text)) if text == "VALID")
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
            assert!(check(&node).is_ok(), "{node:?}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_told() {
        let error = check(&node("Conv", "group", AttributeValue::Int(0))).unwrap_err().to_string();
        assert!(error.contains("is 0; it must be at least 1"), "{error}");
    }
}
