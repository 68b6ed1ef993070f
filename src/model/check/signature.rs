//! The outside of each node: since when its operator is there, how many inputs and outputs it
//! has, which attributes it knows. Source: the ONNX operator changelog and specifications.

use super::fault;
use crate::model::error::Fault;
use crate::model::graph::{Domain, Node};

pub(super) fn check(node: &Node, opset: i64) -> Result<(), Fault> {
    if node.domain == Domain::Onnx
        && let Some((_, since)) = SINCE.iter().find(|(op, _)| *op == node.op)
        && opset < *since
    {
        return Err(Fault::unsupported(format!(
            "node `{}`: operator {} came with opset {since}, the model states {opset}",
            node.name, node.op
        )));
    }
    inputs(node)?;
    outputs(node)?;
    attributes(node)
}

/// Operators that are younger than the oldest opset that is taken.
const SINCE: [(&str, i64); 35] = [
    ("Expand", 8),
    ("Scan", 8),
    ("ConstantOfShape", 9),
    ("EyeLike", 9),
    ("Erf", 9),
    ("IsNaN", 9),
    ("MeanVarianceNormalization", 9),
    ("NonZero", 9),
    ("OneHot", 9),
    ("Sign", 9),
    ("Where", 9),
    ("ConvInteger", 10),
    ("DequantizeLinear", 10),
    ("MatMulInteger", 10),
    ("QLinearConv", 10),
    ("QLinearMatMul", 10),
    ("QuantizeLinear", 10),
    ("Resize", 10),
    ("ThresholdedRelu", 10),
    ("CumSum", 11),
    ("DynamicQuantizeLinear", 11),
    ("GatherElements", 11),
    ("GatherND", 11),
    ("Range", 11),
    ("Round", 11),
    ("Celu", 12),
    ("HardSwish", 14),
    ("Trilu", 14),
    ("CastLike", 15),
    ("LayerNormalization", 17),
    ("GroupNormalization", 18),
    ("Mish", 18),
    ("Gelu", 20),
    ("RMSNormalization", 23),
    ("Swish", 24),
];

/// How many inputs an operator takes: at least, at most. Those that are not listed take what the
/// engine takes. Inputs up to the least must be there, not left out.
fn inputs(node: &Node) -> Result<(), Fault> {
    let (least, most) = match (node.domain, node.op.as_str()) {
        (Domain::Microsoft, op) => match op {
            "QLinearAdd" | "QLinearMul" => (7, 8),
            "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool" => (4, 5),
            "QGemm" => (6, 9),
            "QLinearConcat" => (5, usize::MAX),
            _ => return Ok(()),
        },
        (Domain::Onnx, op) => match op {
            "Constant" => (0, 0),
            "Relu"
            | "Sigmoid"
            | "Tanh"
            | "LeakyRelu"
            | "Elu"
            | "Selu"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Abs"
            | "Neg"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sign"
            | "Reciprocal"
            | "Erf"
            | "Identity"
            | "Softmax"
            | "LogSoftmax"
            | "Flatten"
            | "Transpose"
            | "Shape"
            | "Size"
            | "Cast"
            | "Not"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "AveragePool"
            | "MaxPool"
            | "HardSigmoid"
            | "HardSwish"
            | "Softplus"
            | "Softsign"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "ConstantOfShape"
            | "ArgMax"
            | "ArgMin"
            | "DynamicQuantizeLinear" => (1, 1),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "MatMul" | "Reshape" | "Tile" | "Expand" | "Gather" | "PRelu"
            | "And" | "Or" | "Xor" | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => (2, 2),
            "Where" | "Range" | "OneHot" => (3, 3),
            "Conv" | "ConvTranspose" | "Gemm" | "QuantizeLinear" | "DequantizeLinear" => (2, 3),
            "ConvInteger" | "MatMulInteger" => (2, 4),
            "QLinearMatMul" => (8, 8),
            "QLinearConv" => (8, 9),
            "BatchNormalization" => (5, 5),
            "InstanceNormalization" => (3, 3),
            "RMSNormalization" => (2, 2),
            "RNN" | "GRU" => (3, 6),
            "LSTM" => (3, 8),
            "If" => (1, 1),
            "TopK" => (1, 2),
            "Squeeze" | "Split" | "Dropout" => (1, 3),
            "Unsqueeze" => (1, 2),
            "Clip" => (1, 3),
            "Slice" => (1, 5),
            "Pad" => (1, 4),
            "Resize" => (1, 4),
            "Upsample" => (1, 2),
            "Concat" | "Sum" | "Mean" | "Max" | "Min" => (1, usize::MAX),
            op if op.starts_with("Reduce") => (1, 2),
            _ => return Ok(()),
        },
    };
    // QGemm's bias and the zero points of QLinearAdd and its kin may be left out in the middle.
    let optional: &[usize] = match node.op.as_str() {
        "QLinearAdd" | "QLinearMul" => &[2, 5],
        "QLinearSigmoid"
        | "QLinearLeakyRelu"
        | "QLinearSoftmax"
        | "QLinearAveragePool"
        | "QLinearGlobalAveragePool" => &[2],
        "QLinearConcat" => &[1],
        _ => &[],
    };
    let given = node.inputs.len();
    if given < least || given > most {
        let wants = match (least, most) {
            (least, most) if least == most => format!("{least}"),
            (least, usize::MAX) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        return Err(fault(node, format!("has {given} inputs; the operator takes {wants}")));
    }
    match (0..least).find(|i| node.input(*i).is_none() && !optional.contains(i)) {
        Some(index) => Err(fault(node, format!("input {index} is left out, but the operator needs it"))),
        None => Ok(()),
    }
}

fn outputs(node: &Node) -> Result<(), Fault> {
    let given = node.outputs.len();
    let most = match node.op.as_str() {
        "If" => {
            // Each branch yields what the node yields.
            return match node.subgraphs().find(|branch| branch.outputs.len() != given) {
                Some(branch) => {
                    Err(fault(node, format!("has {given} outputs, one of its branches {}", branch.outputs.len())))
                }
                None => Ok(()),
            };
        }
        "Loop" | "Scan" | "Split" => return Ok(()),
        "RNN" | "GRU" => 2,
        "BatchNormalization" => 5,
        "DynamicQuantizeLinear" | "LayerNormalization" | "LSTM" => 3,
        "Dropout" | "MaxPool" | "TopK" => 2,
        _ if node.domain == Domain::Onnx && SINGLE.contains(&node.op.as_str()) => 1,
        _ => return Ok(()),
    };
    if given > most {
        return Err(fault(node, format!("has {given} outputs; the operator has at most {most}")));
    }
    Ok(())
}

const SINGLE: [&str; 43] = [
    "GroupNormalization",
    "InstanceNormalization",
    "Relu",
    "Sigmoid",
    "Tanh",
    "LeakyRelu",
    "Clip",
    "Exp",
    "Sqrt",
    "Softmax",
    "Flatten",
    "Transpose",
    "Reshape",
    "Shape",
    "Cast",
    "Identity",
    "Constant",
    "ConstantOfShape",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "DequantizeLinear",
    "Concat",
    "Slice",
    "Pad",
    "Tile",
    "Expand",
    "Gather",
    "Resize",
    "Squeeze",
    "Unsqueeze",
    "AveragePool",
];

/// Operators whose misspelt attributes would silently change the result.
fn attributes(node: &Node) -> Result<(), Fault> {
    const WINDOW: [&str; 6] = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    const POOL: [&str; 8] =
        ["auto_pad", "ceil_mode", "channels_last", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"];
    let known: &[&str] = match node.op.as_str() {
        "Conv" | "ConvInteger" | "QLinearConv" => &WINDOW,
        "AveragePool" | "QLinearAveragePool" => {
            if node.domain == Domain::Onnx {
                &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]
            } else {
                &POOL
            }
        }
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => &[],
        "MaxPool" => &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
        "Gemm" | "QGemm" => &["alpha", "beta", "transA", "transB"],
        "QuantizeLinear" | "DequantizeLinear" => &["axis", "block_size", "output_dtype", "precision", "saturate"],
        "Softmax" | "LogSoftmax" | "Flatten" | "Concat" | "QLinearConcat" => &["axis"],
        "Transpose" => &["perm"],
        _ => return Ok(()),
    };
    match node.attributes.iter().find(|a| !known.contains(&a.name.as_str())) {
        Some(unknown) if unknown.name.is_empty() => Err(fault(node, "an attribute has no name")),
        Some(unknown) => Err(fault(
            node,
            format!("attribute `{}` is unknown to the operator; it knows {}", unknown.name, known.join(", ")),
        )),
        None => Ok(()),
    }
}
