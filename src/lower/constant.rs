//! Stored tensors: their elements as numbers, their quantization parameters, and their values as
//! operators want them.

use super::value::{QParams, StoredQuant, Value};
use super::{Expanded, Lowering, Why, int};
use crate::model::{AttributeValue, DType, Node, Tensor};

/// Scales, zero points, and the zero points' type where there are any.
type Parameters = (Vec<f32>, Vec<i32>, Option<DType>);

impl<'m> Lowering<'m> {
    pub(super) fn constant(&mut self, expanded: &Expanded<'m>) -> Result<(), Why> {
        let of_model = match expanded {
            Expanded::Own(node) => node.attribute("value"),
            Expanded::Made { .. } => None,
        };
        let value = match (of_model, expanded.get().attributes.first().map(|a| &a.value)) {
            (Some(AttributeValue::Tensor(tensor)), _) => Value::Stored(tensor),
            // Of a step that QGemm was spelled out in.
            (_, Some(AttributeValue::Float(value))) => Value::Numbers([*value].into(), vec![]),
            _ => return Err("constants of numbers and tensors are taken".into()),
        };
        self.set(expanded.get(), value);
        Ok(())
    }

    /// Float elements of a stored tensor, dequantized where it is quantized, with its dimensions.
    pub(super) fn floats_of(&self, value: &Value<'m>) -> Result<(Vec<f32>, Vec<usize>), Why> {
        match value {
            Value::DequantizedStored(q) => {
                let channel = q.channels();
                let values = self.stored_integers(&q.tensor)?;
                let real =
                    |(i, v): (usize, &i32)| v.wrapping_sub(q.zero_points[channel(i)]) as f32 * q.scales[channel(i)];
                Ok((values.iter().enumerate().map(real).collect(), q.tensor.dims.clone()))
            }
            Value::Numbers(values, dims) => Ok((values.to_vec(), dims.clone())),
            Value::Stored(tensor) => self.stored_floats(tensor).map(|values| (values, tensor.dims.clone())),
            _ => Err("an input that must be constant is computed".into()),
        }
    }

    /// As [`Lowering::floats_of`], whole numbers among them: what a Pow takes for its exponent, and a Cast.
    pub(super) fn numbers_of(&self, value: &Value<'m>) -> Result<(Vec<f32>, Vec<usize>), Why> {
        match value {
            Value::Stored(tensor) if matches!(tensor.dtype, DType::I32 | DType::I8 | DType::U8) => {
                let values = self.stored_integers(tensor)?;
                Ok((values.into_iter().map(|v| v as f32).collect(), tensor.dims.clone()))
            }
            Value::Stored(tensor) if tensor.dtype == DType::I64 => {
                let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
                let values = bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32);
                Ok((values.collect(), tensor.dims.clone()))
            }
            value => self.floats_of(value),
        }
    }

    /// The one value of a stored scalar.
    pub(super) fn scalar_of(&self, value: &Value<'m>) -> Option<f32> {
        match self.floats_of(value) {
            Ok((values, _)) if values.len() == 1 => values.first().copied(),
            _ => None,
        }
    }

    /// The one value of a scalar of whole numbers that is stored, or follows from shapes.
    pub(super) fn whole_of(&self, value: &Value<'m>) -> Option<i64> {
        let values = match value {
            Value::Known(values) => values.to_vec(),
            Value::Stored(tensor) => self.wholes_of(tensor)?,
            _ => return None,
        };
        if let [value] = *values { Some(value) } else { None }
    }

    /// The elements of a stored tensor of whole numbers.
    pub(super) fn wholes_of(&self, tensor: &Tensor) -> Option<Vec<i64>> {
        let bytes = self.model.bytes(tensor).ok()?;
        Some(match tensor.dtype {
            DType::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            DType::Bool => bytes.iter().map(|b| i64::from(*b != 0)).collect(),
            _ => self.stored_integers(tensor).ok()?.into_iter().map(i64::from).collect(),
        })
    }

    /// Scale and zero point of a QuantizeLinear or DequantizeLinear, which must be stored.
    pub(super) fn parameters(&self, node: &Node) -> Result<Parameters, Why> {
        let (scales, _) = self.floats_of(&self.value(node, 1)?)?;
        let (zero_points, dtype) = match node.input(2) {
            None => (vec![0; scales.len()], None),
            Some(_) => match self.value(node, 2)? {
                Value::Stored(tensor) => (self.stored_integers(tensor)?, Some(tensor.dtype)),
                _ => return Err("its zero point is computed".into()),
            },
        };
        if int(node, "block_size", 0) != 0 || scales.is_empty() || scales.len() != zero_points.len() {
            return Err("its scales lie in blocks".into());
        }
        Ok((scales, zero_points, dtype))
    }

    /// Parameters of a tensor of int8 or uint8 with one scale.
    pub(super) fn per_tensor(&self, node: &Node, dtype: DType) -> Result<QParams, Why> {
        let (scale, zero_point) = self.sole_parameters(node)?;
        let zero_point = match dtype {
            DType::I8 => zero_point,
            DType::U8 => zero_point.wrapping_sub(128),
            other => return Err(format!("{other} activations are not taken, int8, uint8, int16 and uint16 are")),
        };
        Ok(QParams { scale, zero_point: i8::try_from(zero_point).map_err(|_| "its zero point is out of range")? })
    }

    /// Scale and zero point, of which there is one for all of a tensor.
    pub(super) fn sole_parameters(&self, node: &Node) -> Result<(f32, i32), Why> {
        let (scales, zero_points, _) = self.parameters(node)?;
        let (&[scale], &[zero_point]) = (scales.as_slice(), zero_points.as_slice()) else {
            return Err("activations with a scale for each channel are not taken".into());
        };
        if !scale.is_normal() {
            return Err(format!("its scale of {scale} is out of range"));
        }
        Ok((scale, zero_point))
    }

    /// A stored tensor as an activation is held: in int8, with one scale. `None` if it is not that.
    pub(super) fn integers_of(&self, q: &StoredQuant<'m>) -> Result<Option<(Vec<i8>, QParams)>, Why> {
        let (&[scale], &[zero_point]) = (q.scales.as_slice(), q.zero_points.as_slice()) else { return Ok(None) };
        let offset = match q.tensor.dtype {
            DType::I8 => 0,
            DType::U8 => 128,
            _ => return Ok(None),
        };
        let held = |v: i32| i8::try_from(v.wrapping_sub(offset)).ok();
        let Some(zero_point) = held(zero_point).filter(|_| scale.is_normal()) else { return Ok(None) };
        let values: Option<Vec<i8>> = self.stored_integers(&q.tensor)?.into_iter().map(held).collect();
        Ok(values.map(|values| (values, QParams { scale, zero_point })))
    }

    pub(super) fn stored_floats(&self, tensor: &Tensor) -> Result<Vec<f32>, Why> {
        let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
        match tensor.dtype {
            DType::F32 => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            DType::F16 => Ok(bytes.as_chunks().0.iter().map(|b| widened(u16::from_le_bytes(*b))).collect()),
            other => Err(format!("constant `{}` is {other}; float32 and float16 are taken", tensor.name)),
        }
    }

    /// Elements of an input that is stored as int64 or int32, or follows from shapes; `None` if it does not.
    pub(super) fn stored_longs(&self, node: &Node, index: usize) -> Result<Option<Vec<i64>>, Why> {
        match self.value(node, index) {
            Ok(Value::Stored(tensor)) if tensor.dtype == DType::I32 => {
                Ok(Some(self.stored_integers(tensor)?.into_iter().map(i64::from).collect()))
            }
            Ok(Value::Known(values)) => Ok(Some(values.to_vec())),
            Ok(Value::Stored(tensor)) if tensor.dtype == DType::I64 => {
                let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
                Ok(Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn stored_integers(&self, tensor: &Tensor) -> Result<Vec<i32>, Why> {
        let bytes = self.model.bytes(tensor).map_err(|e| e.to_string())?;
        Ok(match tensor.dtype {
            DType::I8 => bytes.iter().map(|&b| i32::from(b as i8)).collect(),
            DType::U8 => bytes.iter().map(|&b| i32::from(b)).collect(),
            DType::I16 => bytes.as_chunks().0.iter().map(|b| i32::from(i16::from_le_bytes(*b))).collect(),
            DType::U16 => bytes.as_chunks().0.iter().map(|b| i32::from(u16::from_le_bytes(*b))).collect(),
            DType::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect(),
            other => {
                return Err(format!(
                    "constant `{}` is {other}; int8 to int32, uint8 and uint16 are taken",
                    tensor.name
                ));
            }
        })
    }
}

/// A stored number to multiply by or to add, 0 for one below the normal ones. It makes no difference to a sum, unless other factors
/// are beyond 1e30; weights that training let decay to such, as there are by the hundred thousand, cost x86-64 CPUs a hundred cycles each.
pub(super) fn normal(value: f32) -> f32 {
    if value.is_subnormal() { 0.0 } else { value }
}

/// A float16 as the float32 of the same value.
fn widened(half: u16) -> f32 {
    let (exponent, fraction) = (u32::from((half >> 10) & 0x1f), u32::from(half & 0x3ff));
    let magnitude = match exponent {
        // Below the normal numbers: so many parts of 2^24.
        0 => fraction as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(((exponent + 112) << 23) | (fraction << 13)),
    };
    if half >> 15 == 0 { magnitude } else { -magnitude }
}

impl StoredQuant<'_> {
    /// Which scale the element at an index has.
    pub fn channels(&self) -> impl Fn(usize) -> usize + use<> {
        channels(self.scales.len(), &self.tensor.dims, self.axis)
    }
}

/// Which of `count` scales along an axis of a tensor the element at an index has.
pub(super) fn channels(count: usize, dims: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let inner: usize = dims.iter().skip(axis + 1).product();
    move |i| if count == 1 { 0 } else { i / inner.max(1) % count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_normal_numbers_is_nothing() {
        assert_eq!([1e-39, -1e-45, f32::MIN_POSITIVE / 2.0].map(normal), [0.0; 3]);
        let kept = [f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 0.0, -1.5, f32::INFINITY];
        assert_eq!(kept.map(normal), kept);
        assert!(normal(f32::NAN).is_nan());
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x03ff, 6.097_555e-5),
            (0x7c00, f32::INFINITY),
            (0x8000, 0.0),
        ];
        for (half, value) in cases {
            assert_eq!(widened(half), value, "{half:#06x}");
        }
        assert!(widened(0x7e00).is_nan() && widened(0x8000).is_sign_negative());
    }
}
