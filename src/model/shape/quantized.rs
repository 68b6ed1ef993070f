//! Operators on quantized tensors: each lies between its scale and its zero point.

use super::context::Context;
use super::fact::{Fact, axis, broadcast, same, show};
use super::rules::{self, Outputs, one, same_as};
use super::{Misfit, Ruled, views, window};
use crate::model::graph::DType;

pub(super) fn quantize(c: &Context<'_>) -> Ruled<Outputs> {
    if let Some(dtype) = c.dtype(0)
        && !matches!(dtype, DType::F32 | DType::F16 | DType::I32)
    {
        return Err(Misfit::Attribute(format!("input `{}` is {dtype}; it must be float32 or int32", c.node.inputs[0])));
    }
    let asked = c.int("output_dtype").and_then(DType::from_onnx);
    let stated = if c.node.input(2).is_some() { c.dtype(2) } else { asked.or(Some(DType::U8)) };
    if let Some((stated, asked)) = stated.zip(asked).filter(|(stated, asked)| stated != asked) {
        return Err(Misfit::Attribute(format!("attribute `output_dtype` is {asked}, its zero point {stated}")));
    }
    quantization_axis(c)?;
    one(stated, c.dims(0).cloned())
}

pub(super) fn dequantize(c: &Context<'_>) -> Ruled<Outputs> {
    if let Some(dtype) = c.dtype(0) {
        if !matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32) {
            return Err(Misfit::Attribute(format!(
                "input `{}` is {dtype}; it must be a quantized integer type",
                c.node.inputs[0]
            )));
        }
        if let Some(zero_point) = c.dtype(2)
            && zero_point != dtype
        {
            return Err(Misfit::Attribute(format!(
                "zero point `{}` is {zero_point}, its input is {dtype}; they must be the same",
                c.node.inputs[2]
            )));
        }
    }
    quantization_axis(c)?;
    let asked = c.int("output_dtype").and_then(DType::from_onnx);
    one(asked.or(c.dtype(1)).or(Some(DType::F32)), c.dims(0).cloned())
}

/// A scale is one value, one for each index of `axis`, or one for each block along it.
fn quantization_axis(c: &Context<'_>) -> Ruled<()> {
    let block = c.int("block_size").unwrap_or(0) as usize;
    for index in [1, 2] {
        let (Some(dims), Some(param)) = (c.dims(0), c.dims(index)) else { continue };
        let name = &c.node.inputs[index];
        let at = || axis(c.int("axis").unwrap_or(1), dims.len());
        let expected = match param.as_slice() {
            _ if block > 0 => {
                let mut blocks = dims.clone();
                let at = at()?;
                blocks[at] = blocks[at].map(|length| length.div_ceil(block));
                blocks
            }
            [] | [Some(1)] => continue,
            [_] => vec![dims[at()?]],
            _ => {
                return Err(Misfit::Attribute(format!("`{name}` is {}; it must be a scalar or a vector", show(param))));
            }
        };
        if param.len() != expected.len()
            || param.iter().zip(&expected).any(|(a, b)| a.zip(*b).is_some_and(|(a, b)| a != b))
        {
            return Err(Misfit::Attribute(format!(
                "`{name}` is {}; input {} and axis ask for {}",
                show(param),
                show(dims),
                show(&expected)
            )));
        }
    }
    Ok(())
}

pub(super) fn conv(c: &Context<'_>) -> Ruled<Outputs> {
    operand(c, 0)?;
    operand(c, 3)?;
    if let Some(dtype) = c.dtype(8).filter(|dtype| *dtype != DType::I32) {
        return Err(Misfit::Attribute(format!("bias `{}` is {dtype}; it must be int32", c.node.inputs[8])));
    }
    for index in [4, 5] {
        if let Some(dims) = c.dims(index).filter(|dims| dims.len() > 1) {
            let name = &c.node.inputs[index];
            return Err(Misfit::Attribute(format!("`{name}` is {}; it must be a scalar or a vector", show(dims))));
        }
    }
    window::conv(c, 0, 3, Some(8), c.dtype(7).or(c.dtype(0)))
}

pub(super) fn matmul(c: &Context<'_>) -> Ruled<Outputs> {
    operand(c, 0)?;
    operand(c, 3)?;
    rules::matmul(c, 0, 3, c.dtype(7).or(c.dtype(0)))
}

/// ONNX Runtime's own, which its quantizer writes.
pub(super) fn microsoft(c: &Context<'_>) -> Ruled<Outputs> {
    match c.node.op.as_str() {
        "QLinearAdd" | "QLinearMul" => {
            operand(c, 0)?;
            operand(c, 3)?;
            states_zero_point(c, 7)?;
            let dims = match (c.dims(0), c.dims(3)) {
                (Some(a), Some(b)) => Some(broadcast(a, b)?),
                _ => None,
            };
            one(c.dtype(0), dims)
        }
        "QLinearSigmoid" | "QLinearLeakyRelu" => {
            operand(c, 0)?;
            states_zero_point(c, 4)?;
            same_as(c, 0)
        }
        "QLinearSoftmax" => {
            operand(c, 0)?;
            states_zero_point(c, 4)?;
            // Up to opset 12 a softmax takes all dimensions from its axis on; the node has an opset of its own.
            let until_12 = c.int("opset").unwrap_or(c.opset) < 13;
            if let Some(rank) = c.fact(0).and_then(Fact::rank) {
                let at = axis(c.int("axis").unwrap_or(-1), rank)?;
                if until_12 != (c.opset < 13) && at + 1 != rank {
                    let what =
                        format!("its softmax is of opset {}, the model of {}", c.int("opset").unwrap_or(0), c.opset);
                    return Err(Misfit::Unsupported(what));
                }
            }
            same_as(c, 0)
        }
        "QLinearAveragePool" => {
            operand(c, 0)?;
            states_zero_point(c, 4)?;
            window::pool(c, c.int("channels_last") == Some(1), c.dtype(0))
        }
        "QLinearGlobalAveragePool" => {
            operand(c, 0)?;
            states_zero_point(c, 4)?;
            window::global_pool(c, c.int("channels_last") == Some(1))
        }
        "QLinearConcat" if c.node.input(1).is_none() && c.dtype(2) == Some(DType::I8) => {
            Err(Misfit::Unsupported("its output zero point is left out; state it, which also states its type".into()))
        }
        "QLinearConcat" if c.inputs.len() % 3 != 2 => Err(Misfit::Attribute(format!(
            "has {} inputs; behind scale and zero point of the output each tensor has its own",
            c.inputs.len()
        ))),
        "QLinearConcat" => {
            (2..c.inputs.len()).step_by(3).try_for_each(|index| operand(c, index))?;
            views::concat(c, &(2..c.inputs.len()).step_by(3).collect::<Vec<_>>(), c.dtype(2))
        }
        "QGemm" => {
            operand(c, 0)?;
            operand(c, 3)?;
            // ONNX Runtime takes a scale without a zero point for none.
            if c.node.input(7).is_some() != c.node.input(8).is_some() {
                return Err(Misfit::Attribute(
                    "scale and zero point of its output must both be stated, or neither".into(),
                ));
            }
            let mut outputs = rules::gemm(c, 0, 3, Some(6))?;
            if let Some(Some(fact)) = outputs.first_mut() {
                fact.dtype = if c.node.input(8).is_some() { c.dtype(8) } else { Some(DType::F32) };
            }
            Ok(outputs)
        }
        _ => Ok(vec![]),
    }
}

/// One for each row of the first matrix, and one for each column of the second, or one for all.
pub(super) fn zero_points(c: &Context<'_>) -> Ruled<()> {
    for (operand, back, index) in [(0, 2, 2), (1, 1, 3)] {
        let (Some(matrix), Some(&[count])) = (c.dims(operand), c.dims(index).map(Vec::as_slice)) else { continue };
        let wanted = matrix.len().checked_sub(back).and_then(|at| matrix[at]);
        if count != Some(1) {
            same(count, wanted, |got, want| format!("input `{}` has {got} values for {want}", c.node.inputs[index]))?;
        }
    }
    Ok(())
}

/// A quantized tensor, with its scale and its zero point behind it.
fn operand(c: &Context<'_>, index: usize) -> Ruled<()> {
    let Some(dtype) = c.dtype(index) else { return Ok(()) };
    if !matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16) {
        return Err(Misfit::Attribute(format!(
            "input `{}` is {dtype}; it must be int8 or uint8",
            c.node.inputs[index]
        )));
    }
    match c.dtype(index + 2) {
        Some(zero_point) if zero_point != dtype => {
            let name = &c.node.inputs[index + 2];
            Err(Misfit::Attribute(format!(
                "zero point `{name}` is {zero_point}, its input is {dtype}; they must be the same"
            )))
        }
        _ => Ok(()),
    }
}

/// Without an output zero point the output's type is not stated; int8 that became uint8 would go unnoticed.
fn states_zero_point(c: &Context<'_>, index: usize) -> Ruled<()> {
    if c.node.input(index).is_none() && c.dtype(0) == Some(DType::I8) {
        let what = "its output zero point is left out; state it, which also states its type";
        return Err(Misfit::Unsupported(what.into()));
    }
    Ok(())
}
