//! Stored tensors: their elements out of and into the message.

use super::proto::{TensorProto, data_type};

/// Dimensions; negative ones, which no sound file has, count as 0.
pub fn dims(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect()
}

/// Number of elements.
pub fn elements(tensor: &TensorProto) -> usize {
    dims(tensor).iter().product()
}

/// Size of its elements as they are stored, in bytes.
pub fn bytes(tensor: &TensorProto) -> usize {
    tensor.raw_data.as_ref().map_or(0, Vec::len)
        + 4 * (tensor.float_data.len() + tensor.int32_data.len())
        + 8 * (tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len())
}

/// The elements of a float32 tensor, where all of them are there.
pub fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != Some(data_type::FLOAT) {
        return None;
    }
    let values = match &tensor.raw_data {
        Some(raw) => raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        None => tensor.float_data.clone(),
    };
    (values.len() == elements(tensor)).then_some(values)
}

/// The elements of a float16 tensor as float32, which holds each of them exactly; where all of them are there.
pub fn halves(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != Some(data_type::FLOAT16) {
        return None;
    }
    let values: Vec<f32> = match &tensor.raw_data {
        Some(raw) => raw.as_chunks::<2>().0.iter().map(|bytes| widened(u16::from_le_bytes(*bytes))).collect(),
        None => tensor.int32_data.iter().map(|&bits| widened(bits as u16)).collect(),
    };
    (values.len() == elements(tensor)).then_some(values)
}

/// A float16 from its bits.
fn widened(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10) & 31, bits & 0x3FF);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from(0x400 | fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

/// The elements of a float32 tensor that has one for each of `count` columns: `[count]` or `[1, count]`.
pub fn row(tensor: &TensorProto, count: usize) -> Option<Vec<f32>> {
    let (last, others) = tensor.dims.split_last()?;
    let fits = *last == count as i64 && others.iter().all(|&dim| dim == 1);
    floats(tensor).filter(|_| fits)
}

/// The elements of an int64 tensor, where all of them are there.
pub fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != Some(data_type::INT64) {
        return None;
    }
    let values = match &tensor.raw_data {
        Some(raw) => raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        None => tensor.int64_data.clone(),
    };
    (values.len() == elements(tensor)).then_some(values)
}

/// A float32 tensor.
pub fn f32s(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    raw(name, data_type::FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An int32 tensor.
pub fn i32s(name: &str, dims: &[usize], values: &[i32]) -> TensorProto {
    raw(name, data_type::INT32, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An int64 tensor.
pub fn i64s(name: &str, dims: &[usize], values: &[i64]) -> TensorProto {
    raw(name, data_type::INT64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A tensor from its bytes.
pub(crate) fn raw(name: &str, data_type: i32, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}
