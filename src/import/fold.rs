//! DequantizeLinear of a stored tensor is a stored tensor, and so is Centre, which is the same with
//! a scale of 1: weights and biases reach the engine as floats, once.

use crate::model::{AttributeValue, DType, Node, Tensor};

/// The float elements of `x`, dequantized with stored parameters, or `None` where the parameters
/// do not fit and the node is better left to the engine. Without a scale it is 1.
pub(super) fn dequantized(
    node: &Node,
    x: (&Tensor, &[u8]),
    scale: Option<(&Tensor, &[u8])>,
    zero_point: Option<(&Tensor, &[u8])>,
) -> Option<Vec<f32>> {
    let (tensor, bytes) = x;
    let blocked = scale.is_some_and(|(scale, _)| scale.dims.len() > 1);
    if blocked {
        return None;
    }
    let scales = scale.map_or(Some(vec![1.0]), |(tensor, bytes)| floats(tensor.dtype, bytes))?;
    let zero_points = zero_point.map_or(Some(vec![0]), |(tensor, bytes)| integers(tensor.dtype, bytes))?;
    let channels = scales.len().max(zero_points.len());
    let (scales, zero_points) = (spread(scales, channels), spread(zero_points, channels));
    let (&first_scale, &first_zero_point) = (scales.first()?, zero_points.first()?);
    let values = integers(tensor.dtype, bytes)?;
    if channels == 1 {
        return Some(values.iter().map(|&v| v.wrapping_sub(first_zero_point) as f32 * first_scale).collect());
    }
    let rank = tensor.dims.len() as i64;
    let axis = match node.attribute("axis") {
        Some(AttributeValue::Int(axis)) => *axis,
        _ => 1,
    };
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    let length = *tensor.dims.get(axis)?;
    if scales.len() != length || zero_points.len() != length {
        return None;
    }
    let inner: usize = tensor.dims[axis + 1..].iter().product();
    let of = |i: usize, v: i32| {
        let channel = i / inner % length;
        v.wrapping_sub(zero_points[channel]) as f32 * scales[channel]
    };
    Some(values.iter().enumerate().map(|(i, &v)| of(i, v)).collect())
}

/// One parameter for all channels stands for as many.
fn spread<T: Copy>(values: Vec<T>, channels: usize) -> Vec<T> {
    if let &[value] = values.as_slice() { vec![value; channels] } else { values }
}

fn floats(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    (dtype == DType::F32).then(|| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn integers(dtype: DType, bytes: &[u8]) -> Option<Vec<i32>> {
    Some(match dtype {
        DType::I8 => bytes.iter().map(|&b| i32::from(b as i8)).collect(),
        DType::U8 => bytes.iter().map(|&b| i32::from(b)).collect(),
        DType::I16 => bytes.as_chunks().0.iter().map(|b| i32::from(i16::from_le_bytes(*b))).collect(),
        DType::U16 => bytes.as_chunks().0.iter().map(|b| i32::from(u16::from_le_bytes(*b))).collect(),
        DType::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attribute, Domain, TensorData};

    fn tensor(dtype: DType, dims: &[usize]) -> Tensor {
        Tensor { name: String::new(), dtype, dims: dims.to_vec(), data: TensorData::Decoded(vec![]) }
    }

    fn node(axis: i64) -> Node {
        let axis = Attribute { name: "axis".into(), value: AttributeValue::Int(axis) };
        Node {
            name: "dq".into(),
            op: "DequantizeLinear".into(),
            domain: Domain::Onnx,
            inputs: vec![],
            outputs: vec![],
            attributes: vec![axis],
        }
    }

    #[test]
    fn per_axis_parameters_follow_their_axis() {
        let scales: Vec<u8> = [1.0f32, 10.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let (x, s, z) = (tensor(DType::I8, &[2, 2]), tensor(DType::F32, &[2]), tensor(DType::I8, &[2]));
        let values = [1u8, 2, 3, 4];
        let run = |axis| dequantized(&node(axis), (&x, &values), Some((&s, &scales)), Some((&z, &[0, 1]))).unwrap();
        assert_eq!(run(0), [1.0, 2.0, 20.0, 30.0]);
        assert_eq!(run(1), [1.0, 10.0, 3.0, 30.0]);
        assert_eq!(run(-1), run(1));
    }

    #[test]
    fn parameters_that_do_not_fit_are_left_to_the_engine() {
        let scales: Vec<u8> = [1.0f32; 3].iter().flat_map(|s| s.to_le_bytes()).collect();
        let (x, s) = (tensor(DType::I8, &[2, 2]), tensor(DType::F32, &[3]));
        assert!(dequantized(&node(0), (&x, &[0; 4]), Some((&s, &scales)), None).is_none());
    }
}
