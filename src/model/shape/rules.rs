//! Which rule each operator follows. Source: the ONNX operator specifications, and ONNX Runtime's
//! contrib operator documentation for `com.microsoft`.
//!
//! An operator that is not listed yields unknown outputs.

use super::context::Context;
use super::fact::{Dims, Fact, axis, broadcast, same, show, volume};
use super::{Misfit, Ruled, attention, einsum, parts, quantized, recurrent, values, views, window};
use crate::model::graph::DType;

pub(super) type Outputs = Vec<Option<Fact>>;

pub(super) fn apply(c: &Context<'_>) -> Ruled<Outputs> {
    if c.node.is_onnx() { onnx(c) } else { quantized::microsoft(c) }
}

pub(super) fn one(dtype: Option<DType>, dims: Option<Dims>) -> Ruled<Outputs> {
    Ok(vec![Some(Fact::new(dtype, dims))])
}

fn onnx(c: &Context<'_>) -> Ruled<Outputs> {
    let op = c.node.op.as_str();
    match op {
        "Relu"
        | "Sigmoid"
        | "Tanh"
        | "LeakyRelu"
        | "Elu"
        | "Selu"
        | "Celu"
        | "Mish"
        | "HardSigmoid"
        | "HardSwish"
        | "Softplus"
        | "Softsign"
        | "ThresholdedRelu"
        | "Shrink"
        | "Gelu"
        | "Swish"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Sign"
        | "Reciprocal"
        | "Erf"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "Asinh"
        | "Acosh"
        | "Atanh"
        | "MeanVarianceNormalization" => same_as(c, 0),
        "LRN" => {
            if let Some(dims) = c.dims(0).filter(|dims| dims.len() < 2) {
                return Err(Misfit::Shape(format!("input {} has no channel dimension", show(dims))));
            }
            same_as(c, 0)
        }
        "Trilu" => {
            c.scalar(1, "diagonal")?;
            if let Some(dims) = c.dims(0).filter(|dims| dims.len() < 2) {
                return Err(Misfit::Shape(format!("input {} is no matrix", show(dims))));
            }
            same_as(c, 0)
        }
        "CumSum" => {
            c.scalar(1, "axis")?;
            if let (Some(rank), Some(&[asked])) = (c.fact(0).and_then(Fact::rank), c.values(1)) {
                axis(asked, rank)?;
            }
            same_as(c, 0)
        }
        "Not" => {
            if let Some(dtype) = c.dtype(0).filter(|dtype| *dtype != DType::Bool) {
                return Err(Misfit::Shape(format!("input `{}` is {dtype}; it must be bool", c.node.inputs[0])));
            }
            let values = c.values(0).map(|values| values.iter().map(|value| i64::from(*value == 0)).collect());
            Ok(vec![Some(Fact { values, ..Fact::new(c.dtype(0), c.dims(0).cloned()) })])
        }
        "Clip" => {
            c.scalar(1, "lower bound")?;
            c.scalar(2, "upper bound")?;
            same_as(c, 0)
        }
        "PRelu" => {
            if let (Some(x), Some(slope)) = (c.dims(0), c.dims(1))
                && (slope.len() > x.len() || broadcast(x, slope)?.iter().zip(x).any(|(out, x)| out != x && x.is_some()))
            {
                return Err(Misfit::Shape(format!(
                    "its slope {} does not broadcast to input {}",
                    show(slope),
                    show(x)
                )));
            }
            same_as(c, 0)
        }
        "Identity" => Ok(vec![c.inputs[0].clone()]),
        "Dropout" => {
            c.scalar(1, "ratio")?;
            c.scalar(2, "training mode")?;
            // Before opset 10 it was of the input's type.
            let dtype = if c.opset < 10 { c.dtype(0) } else { Some(DType::Bool) };
            let mask = c.fact(0).map(|fact| Fact::new(dtype, fact.dims.clone()));
            Ok(vec![c.inputs[0].clone(), mask])
        }
        "Softmax" | "LogSoftmax" | "Hardmax" | "LpNormalization" => {
            let default = if op != "LpNormalization" && c.opset < 13 { 1 } else { -1 };
            if let Some(rank) = c.fact(0).and_then(Fact::rank) {
                axis(c.int("axis").unwrap_or(default), rank)?;
            }
            same_as(c, 0)
        }
        "LayerNormalization" => {
            layer_parameters(c)?;
            let first = c.int("axis").unwrap_or(-1);
            let moments = c.dims(0).map(|dims| -> Ruled<Dims> {
                let kept = axis(first, dims.len())?;
                Ok(dims.iter().enumerate().map(|(i, dim)| if i < kept { *dim } else { Some(1) }).collect())
            });
            let moments = Some(Fact::new(Some(DType::F32), moments.transpose()?));
            Ok(vec![Some(Fact::new(c.dtype(0), c.dims(0).cloned())), moments.clone(), moments])
        }
        "RMSNormalization" => {
            layer_parameters(c)?;
            same_as(c, 0)
        }
        "BatchNormalization" | "InstanceNormalization" | "GroupNormalization" => {
            // Until opset 8 there was a normalization of each pixel for itself.
            if c.int("spatial") == Some(0) {
                return Err(Misfit::Unsupported("spatial is 0, which ONNX has withdrawn".into()));
            }
            per_channel(c)?;
            same_as(c, 0)
        }
        "Floor" | "Ceil" | "Round" => {
            Ok(vec![Some(Fact { reals: values::rounded(c), ..Fact::new(c.dtype(0), c.dims(0).cloned()) })])
        }
        "Abs" | "Neg" => Ok(vec![Some(Fact { values: values::sign(c), ..Fact::new(c.dtype(0), c.dims(0).cloned()) })]),
        "IsNaN" | "IsInf" => one(Some(DType::Bool), c.dims(0).cloned()),
        "Cast" => {
            let dtype = c.int("to").and_then(DType::from_onnx);
            let (values, reals) = values::cast(c, dtype);
            Ok(vec![Some(Fact { values, reals, ..Fact::new(dtype, c.dims(0).cloned()) })])
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Sum" | "Mean" | "And" | "Or" | "Xor"
        | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => {
            if c.node.op != "Pow" {
                of_one_type(c, 0..c.inputs.len())?;
            }
            let dims = broadcast_all(c, 0..c.inputs.len())?;
            let reals =
                values::real_arithmetic(c).filter(|reals| Some(reals.len()) == dims.as_deref().and_then(volume));
            Ok(vec![Some(Fact { reals, ..valued(c.dtype(0), dims, values::arithmetic(c)) })])
        }
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => {
            of_one_type(c, 0..2)?;
            Ok(vec![Some(valued(Some(DType::Bool), broadcast_all(c, 0..2)?, values::arithmetic(c)))])
        }
        "Where" => {
            of_one_type(c, 1..3)?;
            Ok(vec![Some(valued(c.dtype(1), broadcast_all(c, 0..3)?, values::choice(c)))])
        }
        "QuantizeLinear" => quantized::quantize(c),
        "DequantizeLinear" => quantized::dequantize(c),
        "DynamicQuantizeLinear" => {
            c.float(0)?;
            let scalar = |dtype| Some(Fact::new(Some(dtype), Some(vec![])));
            Ok(vec![Some(Fact::new(Some(DType::U8), c.dims(0).cloned())), scalar(DType::F32), scalar(DType::U8)])
        }
        "Conv" => window::conv(c, 0, 1, Some(2), c.dtype(0)),
        "ConvInteger" => {
            c.scalar(2, "zero point")?;
            window::conv(c, 0, 1, None, Some(DType::I32))
        }
        "QLinearConv" => quantized::conv(c),
        "ConvTranspose" => window::conv_transpose(c),
        "AveragePool" | "MaxPool" | "LpPool" => window::pool(c, false, c.dtype(0)),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => window::global_pool(c, false),
        "Gemm" => gemm(c, 0, 1, Some(2)),
        "MatMul" => matmul(c, 0, 1, c.dtype(0)),
        "MatMulInteger" => {
            quantized::zero_points(c)?;
            matmul(c, 0, 1, Some(DType::I32))
        }
        "QLinearMatMul" => quantized::matmul(c),
        "Attention" => attention::attention(c),
        "RotaryEmbedding" => attention::rotary(c),
        "RNN" => recurrent::recurrent(c, 1),
        "GRU" => recurrent::recurrent(c, 3),
        "LSTM" => recurrent::recurrent(c, 4),
        "Constant" => values::constant(c),
        "Shape" => values::shape(c),
        "CastLike" => one(c.dtype(1), c.dims(0).cloned()),
        "EyeLike" => one(c.int("dtype").and_then(DType::from_onnx).or(c.dtype(0)), c.dims(0).cloned()),
        "Size" => {
            let elements = c.dims(0).and_then(|dims| volume(dims)).and_then(|elements| i64::try_from(elements).ok());
            Ok(vec![Some(Fact { values: elements.map(|n| vec![n]), ..Fact::new(Some(DType::I64), Some(vec![])) })])
        }
        "ConstantOfShape" => views::constant_of_shape(c),
        "Range" => views::range(c),
        "Reshape" => views::reshape(c),
        "Flatten" => views::flatten(c),
        "Squeeze" => views::squeeze(c),
        "Unsqueeze" => views::unsqueeze(c),
        "Transpose" => views::transpose(c),
        "Concat" => views::concat(c, &(0..c.inputs.len()).collect::<Vec<_>>(), c.dtype(0)),
        "Split" => parts::split(c),
        "Slice" => parts::slice(c),
        "Pad" => views::pad(c),
        "Tile" => views::tile(c),
        "Expand" => views::expand(c),
        "Resize" | "Upsample" => views::resize(c),
        "Gather" => parts::gather(c),
        "GatherElements" => parts::gather_elements(c),
        "GatherND" => parts::gather_nd(c),
        "ScatterND" => parts::scatter_nd(c),
        "Scatter" | "ScatterElements" => parts::scatter_elements(c),
        "Einsum" => einsum::einsum(c),
        "TopK" => parts::top_k(c),
        "OneHot" => views::one_hot(c),
        "DepthToSpace" | "SpaceToDepth" => views::depth_space(c),
        "ArgMax" | "ArgMin" => views::reduce(c, Some(DType::I64)),
        op if op.starts_with("Reduce") => views::reduce(c, c.dtype(0)),
        _ => Ok(vec![]),
    }
}

/// With `values` where they are as many as the dimensions say: scalars and equal shapes are followed, other broadcasts not.
fn valued(dtype: Option<DType>, dims: Option<Dims>, values: Option<Vec<i64>>) -> Fact {
    let elements = dims.as_deref().and_then(volume);
    Fact { values: values.filter(|values| Some(values.len()) == elements), ..Fact::new(dtype, dims) }
}

pub(super) fn same_as(c: &Context<'_>, index: usize) -> Ruled<Outputs> {
    one(c.dtype(index), c.dims(index).cloned())
}

/// Operands must not be of different types, as far as these are known.
fn of_one_type(c: &Context<'_>, range: std::ops::Range<usize>) -> Ruled<()> {
    let mut known =
        range.filter_map(|index| c.dtype(index).map(|dtype| (c.node.input(index).unwrap_or_default(), dtype)));
    let Some((first, dtype)) = known.next() else { return Ok(()) };
    match known.find(|(_, other)| *other != dtype) {
        Some((name, other)) => {
            Err(Misfit::Shape(format!("`{first}` is {dtype} and `{name}` is {other}; they must be of one type")))
        }
        None => Ok(()),
    }
}

fn broadcast_all(c: &Context<'_>, range: std::ops::Range<usize>) -> Ruled<Option<Dims>> {
    let mut all = Dims::new();
    for index in range {
        let Some(dims) = c.dims(index) else { return Ok(None) };
        all = broadcast(&all, dims)?;
    }
    Ok(Some(all))
}

/// Scale and bias of a layer norm broadcast to the dimensions from its axis on.
fn layer_parameters(c: &Context<'_>) -> Ruled<()> {
    let Some(input) = c.dims(0) else { return Ok(()) };
    let normed = input[axis(c.int("axis").unwrap_or(-1), input.len())?..].to_vec();
    for (index, what) in [(1, "scale"), (2, "bias")] {
        let Some(dims) = c.dims(index) else { continue };
        let (beyond, dims) = dims.split_at(dims.len().saturating_sub(normed.len()));
        let fits = broadcast(&normed, &dims.to_vec()).is_ok_and(|out| out == normed);
        if !fits || beyond.iter().any(|dim| *dim != Some(1)) {
            let what = format!("its {what} does not broadcast to {} of input {}", show(&normed), show(input));
            return Err(Misfit::Shape(what));
        }
    }
    Ok(())
}

/// Scale, bias, mean and variance have one value a channel, which is dimension 1.
fn per_channel(c: &Context<'_>) -> Ruled<()> {
    let Some(dims) = c.dims(0) else { return Ok(()) };
    let channels =
        *dims.get(1).ok_or_else(|| Misfit::Shape(format!("input {} has no channel dimension", show(dims))))?;
    let is_grouped = c.node.op == "GroupNormalization";
    let groups = c.int("num_groups").filter(|_| is_grouped).and_then(|groups| usize::try_from(groups).ok());
    if let Some((groups, channels)) = groups.zip(channels).filter(|(groups, channels)| channels % groups != 0) {
        return Err(Misfit::Attribute(format!("num_groups {groups} does not divide {channels} channels")));
    }
    let (count, what) = if is_grouped && c.opset < 21 { (groups, "groups") } else { (channels, "channels") };
    for index in 1..c.inputs.len() {
        let Some(dims) = c.dims(index) else { continue };
        let [length] = dims.as_slice() else {
            return Err(Misfit::Shape(format!("input {index} is {}; it must be a vector", show(dims))));
        };
        same(*length, count, |got, want| format!("input {index} has {got} values for {want} {what}"))?;
    }
    Ok(())
}

/// `alpha * op(A) * op(B) + beta * C`.
pub(super) fn gemm(c: &Context<'_>, a: usize, b: usize, bias: Option<usize>) -> Ruled<Outputs> {
    let (Some(x), Some(w)) = (c.dims(a), c.dims(b)) else { return one(c.dtype(a), None) };
    let (&[x0, x1], &[w0, w1]) = (x.as_slice(), w.as_slice()) else {
        return Err(Misfit::Shape(format!("its inputs {} and {} must be matrices", show(x), show(w))));
    };
    let flip = |name: &str| c.int(name).unwrap_or(0) != 0;
    let (m, k) = if flip("transA") { (x1, x0) } else { (x0, x1) };
    let (inner, n) = if flip("transB") { (w1, w0) } else { (w0, w1) };
    same(k, inner, |k, inner| {
        format!("the inner dimensions of {} and {} are {k} and {inner}; they must be the same", show(x), show(w))
    })?;
    if let Some(bias) = bias.and_then(|index| c.dims(index)) {
        let out = vec![m, n];
        if bias.len() > 2 || broadcast(&out, bias)? != out {
            return Err(Misfit::Shape(format!("its bias {} does not broadcast to {}", show(bias), show(&out))));
        }
    }
    one(c.dtype(a), Some(vec![m, n]))
}

/// numpy.matmul.
pub(super) fn matmul(c: &Context<'_>, a: usize, b: usize, dtype: Option<DType>) -> Ruled<Outputs> {
    let (Some(x), Some(w)) = (c.dims(a), c.dims(b)) else { return one(dtype, None) };
    let (mut x_full, mut w_full) = (x.clone(), w.clone());
    if x.is_empty() || w.is_empty() {
        return Err(Misfit::Shape("a scalar cannot be multiplied as a matrix".into()));
    }
    if x.len() == 1 {
        x_full.insert(0, Some(1));
    }
    if w.len() == 1 {
        w_full.push(Some(1));
    }
    let (x_batch, x_matrix) = x_full.split_at(x_full.len() - 2);
    let (w_batch, w_matrix) = w_full.split_at(w_full.len() - 2);
    same(x_matrix[1], w_matrix[0], |k, inner| {
        format!("the inner dimensions of {} and {} are {k} and {inner}; they must be the same", show(x), show(w))
    })?;
    let mut dims = broadcast(&x_batch.to_vec(), &w_batch.to_vec())?;
    if x.len() > 1 {
        dims.push(x_matrix[0]);
    }
    if w.len() > 1 {
        dims.push(w_matrix[1]);
    }
    one(dtype, Some(dims))
}
