//! Quantization parameters that are stored in the model: scales are positive and finite, zero
//! points are of a type that quantizes and lie side by side with their scales.

use std::collections::{HashMap, HashSet};

use super::{Bytes, fault};
use crate::model::error::Fault;
use crate::model::graph::{DType, Domain, Node, Tensor};

/// Where an operator has its (scale, zero point) pairs, by input index.
fn pairs(node: &Node) -> Vec<(usize, usize)> {
    match (node.domain, node.op.as_str()) {
        (_, "QuantizeLinear" | "DequantizeLinear") => vec![(1, 2)],
        (Domain::Onnx, "QLinearConv" | "QLinearMatMul") => vec![(1, 2), (4, 5), (6, 7)],
        (Domain::Microsoft, "QLinearAdd" | "QLinearMul") => vec![(1, 2), (4, 5), (6, 7)],
        (Domain::Microsoft, "QGemm") => vec![(1, 2), (4, 5), (7, 8)],
        (
            Domain::Microsoft,
            "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool",
        ) => vec![(1, 2), (3, 4)],
        (Domain::Microsoft, "QLinearConcat") => {
            std::iter::once((0, 1)).chain((2..node.inputs.len()).step_by(3).map(|x| (x + 1, x + 2))).collect()
        }
        _ => vec![],
    }
}

/// `stored` are the graph's own initializers and constants, by name.
///
/// `seen` are the scales that were found sound: many nodes may share one.
pub(super) fn check<'g>(
    stored: &HashMap<&'g str, &'g Tensor>,
    node: &Node,
    bytes: Bytes<'_>,
    seen: &mut HashSet<(&'g str, bool)>,
) -> Result<(), Fault> {
    let stored = |index: usize| node.input(index).and_then(|name| stored.get_key_value(name));
    for (scale, zero_point) in pairs(node) {
        let (scale, zero_point) = (stored(scale), stored(zero_point));
        if let Some((name, scale)) = scale
            && seen.insert((*name, node.op == "DequantizeLinear"))
        {
            check_scale(node, name, scale, bytes)?;
        }
        if let Some((name, zero_point)) = zero_point {
            check_zero_point(node, name, zero_point)?;
        }
        if let (Some((scale_name, scale)), Some((zero_point_name, zero_point))) = (scale, zero_point)
            && scale.elements() != zero_point.elements()
        {
            let (scales, zero_points) = (scale.elements(), zero_point.elements());
            let what = format!(
                "scale `{scale_name}` has {scales} values, zero point `{zero_point_name}` {zero_points}; they must be as many"
            );
            return Err(fault(node, what));
        }
    }
    Ok(())
}

fn check_scale(node: &Node, name: &str, scale: &Tensor, bytes: Bytes<'_>) -> Result<(), Fault> {
    if scale.dtype == DType::F16 {
        return Err(Fault::unsupported(format!(
            "node `{}` ({}): scale `{name}` is float16; float32 scales are taken",
            node.name, node.op
        )));
    }
    if scale.dtype != DType::F32 {
        return Err(fault(node, format!("scale `{name}` is {}, it must be float32", scale.dtype)));
    }
    if scale.elements() == 0 {
        return Err(fault(node, format!("scale `{name}` is empty")));
    }
    // ONNX's own may have more: blocks, and matrices of them.
    if node.domain == Domain::Microsoft && scale.dims.len() > 1 {
        return Err(fault(node, format!("scale `{name}` is {:?}; it must be a scalar or a vector", scale.dims)));
    }
    let values = bytes(scale)?;
    let mut values = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    // Quantizers write a scale of 0 for dead channels; nothing is divided by it there.
    let least = if node.op == "DequantizeLinear" { 0.0 } else { f32::MIN_POSITIVE };
    match values.find(|value| !(value.is_finite() && *value >= least)) {
        Some(value) if value > 0.0 && value.is_subnormal() => {
            let least = f32::MIN_POSITIVE;
            Err(fault(
                node,
                format!("scale `{name}` has {value:e}; scales must be at least {least:e}, being divided by"),
            ))
        }
        Some(value) => Err(fault(node, format!("scale `{name}` has {value}; scales must be positive and finite"))),
        None => Ok(()),
    }
}

fn check_zero_point(node: &Node, name: &str, zero_point: &Tensor) -> Result<(), Fault> {
    if !matches!(zero_point.dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32) {
        return Err(fault(
            node,
            format!("zero point `{name}` is {}; it must be an integer type that quantizes", zero_point.dtype),
        ));
    }
    Ok(())
}
