//! Tensor bytes as numbers.

use std::fmt::Display;

use serde::Serialize;
use tractlet::DType;

use super::failure::Failure;

/// Elements in their own type, so that JSON shows each as short as it is exact.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl Elements {
    /// Decodes little-endian elements.
    pub fn decode(dtype: DType, bytes: &[u8]) -> Result<Elements, Failure> {
        use bytemuck::allocation::pod_collect_to_vec as collect;
        Ok(match dtype {
            DType::F32 => Elements::F32(collect(bytes)),
            DType::F64 => Elements::F64(collect(bytes)),
            DType::I8 => Elements::I8(collect(bytes)),
            DType::U8 => Elements::U8(bytes.to_vec()),
            DType::I16 => Elements::I16(collect(bytes)),
            DType::U16 => Elements::U16(collect(bytes)),
            DType::I32 => Elements::I32(collect(bytes)),
            DType::U32 => Elements::U32(collect(bytes)),
            DType::I64 => Elements::I64(collect(bytes)),
            DType::U64 => Elements::U64(collect(bytes)),
            DType::Bool => Elements::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
            other => return Err(format!("elements of type {other} cannot be read as numbers").into()),
        })
    }

    /// As f64: exact but for integers beyond 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Elements::F32(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::F64(values) => values.clone(),
            Elements::I8(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::U8(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::I16(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::U16(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::I32(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::U32(values) => values.iter().map(|&v| v.into()).collect(),
            Elements::I64(values) => values.iter().map(|&v| v as f64).collect(),
            Elements::U64(values) => values.iter().map(|&v| v as f64).collect(),
            Elements::Bool(values) => values.iter().map(|&v| v.into()).collect(),
        }
    }

    /// The first `shown` of them as columns of text.
    pub fn cells(&self, shown: usize) -> String {
        fn columns<T: Display>(values: &[T], shown: usize, digits: Option<usize>) -> String {
            let cell = |value: &T| match digits {
                Some(digits) => format!(" {value:>8.digits$}"),
                None => format!(" {value:>8}"),
            };
            values.iter().take(shown).map(cell).collect()
        }
        match self {
            Elements::F32(values) => columns(values, shown, Some(4)),
            Elements::F64(values) => columns(values, shown, Some(4)),
            Elements::I8(values) => columns(values, shown, None),
            Elements::U8(values) => columns(values, shown, None),
            Elements::I16(values) => columns(values, shown, None),
            Elements::U16(values) => columns(values, shown, None),
            Elements::I32(values) => columns(values, shown, None),
            Elements::U32(values) => columns(values, shown, None),
            Elements::I64(values) => columns(values, shown, None),
            Elements::U64(values) => columns(values, shown, None),
            Elements::Bool(values) => {
                let values: Vec<u8> = values.iter().map(|&value| value.into()).collect();
                columns(&values, shown, None)
            }
        }
    }
}

/// The index of the largest value; the first of equals.
pub fn argmax(values: &[f64]) -> Option<usize> {
    top(values, 1).first().copied()
}

/// Indices of the `k` largest values, largest first, the first of equals first, NaN last.
pub fn top(values: &[f64], k: usize) -> Vec<usize> {
    let rank = |index: &usize| values.get(*index).copied().filter(|v| !v.is_nan()).unwrap_or(f64::NEG_INFINITY);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_told_as_they_are() {
        let numbers = Elements::I64(vec![(1 << 53) + 1, -7, 0]);
        assert_eq!(numbers.cells(2), " 9007199254740993       -7");
        assert_eq!(Elements::F32(vec![0.25]).cells(8), "   0.2500");
        assert_eq!(Elements::Bool(vec![true]).cells(8), "        1");
    }

    #[test]
    fn the_first_of_equals_wins_and_nan_never() {
        assert_eq!(top(&[1.0, 3.0, f64::NAN, 3.0, 2.0], 3), [1, 3, 4]);
        assert_eq!(argmax(&[]), None);
    }
}
