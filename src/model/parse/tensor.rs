//! Stored tensors: a `TensorProto`'s type, dimensions and data, held against each other.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Parser, set};
use crate::model::error::Fault;
use crate::model::graph::*;
use crate::model::schema::*;
use crate::model::wire::{Chunk, Fields, Scalar};

/// `TensorProto.DataType` of text.
const STRING: i64 = 8;

impl Parser<'_> {
    /// `attribute` names a tensor that has no name of its own in messages.
    pub(super) fn tensor(&mut self, mut fields: Fields<'_>, attribute: Option<&str>) -> Result<Tensor, Fault> {
        self.count()?;
        let mut stored = Stored { raw: None, typed: vec![], message: fields.clone() };
        let (mut dtype, mut name, mut location) = (None, None, None);
        let (mut dims, mut external) = (vec![], vec![]);
        let (mut rank, mut segmented, mut text) = (0, false, false);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => field.scalars(Scalar::Varint, |value| {
                    rank += 1;
                    if rank <= self.limits.rank {
                        dims.push(value as i64);
                    }
                    Ok(())
                })?,
                2 => set(&mut dtype, field.int()?, &field)?,
                3 => segmented = true,
                4 | 5 | 7 | 10 | 11 if !stored.typed.contains(&field.number) => stored.typed.push(field.number),
                6 => text = true,
                8 => set(&mut name, self.name(&field)?, &field)?,
                9 => set(&mut stored.raw, field.chunk()?, &field)?,
                13 => external.push(self.key_value(field.fields(&KEY_VALUE)?)?),
                14 => set(&mut location, field.int()?, &field)?,
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty()).or(attribute.map(str::to_owned)).unwrap_or_default();
        if rank > self.limits.rank {
            return Err(Fault::limit(format!("dimensions of tensor `{name}`"), rank as u64, self.limits.rank as u64));
        }
        if segmented {
            return Err(Fault::unsupported(format!("tensor `{name}` is stored in segments, which ONNX has withdrawn")));
        }
        let dtype = dtype.unwrap_or(0);
        if text || dtype == STRING {
            return Err(Fault::unsupported(format!("tensor `{name}` holds strings; tractlet runs numbers only")));
        }
        let dtype = DType::from_onnx(dtype)
            .ok_or_else(|| Fault::unsupported(format!("tensor `{name}` is of {}", unrun(dtype))))?;
        let dims = dims
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| Fault::tensor(&name, format!("dimension {dim} is negative"))))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = self.limits.byte_len(&dims, dtype).map_err(|value| {
            Fault::limit(format!("tensor `{name}`: size in bytes"), value, self.limits.tensor_bytes)
        })?;
        if let Some(unknown) = location.filter(|location| !(0..=1).contains(location)) {
            return Err(Fault::tensor(&name, format!("data_location is {unknown}, which ONNX does not know")));
        }
        let data = if location == Some(1) {
            if stored.raw.is_some() || !stored.typed.is_empty() {
                return Err(Fault::tensor(&name, "has data both in the model and in an external file"));
            }
            TensorData::External(external_range(&name, &external)?)
        } else if bytes > 0 && !external.is_empty() && stored.raw.is_none() && stored.typed.is_empty() {
            let what = "has external_data and no other, and data_location does not say that it is EXTERNAL (1)";
            return Err(Fault::tensor(&name, what));
        } else {
            stored.data(&name, dtype, bytes)?
        };
        Ok(Tensor { name, dtype, dims, data })
    }

    /// A sparse tensor's name is its values'.
    pub(super) fn sparse_name(&mut self, mut fields: Fields<'_>) -> Result<String, Fault> {
        while let Some(field) = fields.next_field()? {
            if field.number == 1 {
                return Ok(self.tensor(field.fields(&TENSOR)?, None)?.name);
            }
        }
        Ok(String::new())
    }

    fn key_value(&mut self, mut fields: Fields<'_>) -> Result<(String, String), Fault> {
        self.count()?;
        let (mut key, mut value) = (None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut key, self.name(&field)?, &field)?,
                2 => set(&mut value, self.name(&field)?, &field)?,
                _ => {}
            }
        }
        Ok((key.unwrap_or_default(), value.unwrap_or_default()))
    }
}

/// The data fields of a `TensorProto`, before they are held against its type and dimensions.
struct Stored<'a> {
    raw: Option<Chunk<'a>>,
    /// The numbers of those typed fields that there are.
    typed: Vec<u32>,
    /// The whole message, to be gone through for them: a file may have a field for each element, which all together would
    /// take many times its size.
    message: Fields<'a>,
}

impl Stored<'_> {
    /// Calls `each` for every element of a typed field.
    fn elements(&self, number: u32, size: Scalar, mut each: impl FnMut(u64) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut fields = self.message.clone();
        while let Some(field) = fields.next_field()? {
            if field.number == number {
                field.scalars(size, &mut each)?;
            }
        }
        Ok(())
    }

    fn data(self, name: &str, dtype: DType, bytes: usize) -> Result<TensorData, Fault> {
        if let Some(raw) = self.raw {
            if !self.typed.is_empty() {
                return Err(Fault::tensor(name, "has data both in raw_data and in a typed field"));
            }
            if raw.bytes.len() != bytes {
                return Err(Fault::tensor(
                    name,
                    format!("its type and dimensions ask for {bytes} bytes, raw_data has {}", raw.bytes.len()),
                ));
            }
            return Ok(TensorData::InFile(raw.base..raw.base + raw.bytes.len()));
        }
        // The field that holds each type, and how its elements travel (onnx.proto, TensorProto).
        let (number, size) = match dtype {
            DType::F32 => (4, Scalar::Fixed32),
            DType::F64 => (10, Scalar::Fixed64),
            DType::I64 => (7, Scalar::Varint),
            DType::U32 | DType::U64 => (11, Scalar::Varint),
            _ => (5, Scalar::Varint),
        };
        if let Some(other) = self.typed.iter().find(|other| **other != number) {
            let [found, expected] = [*other, number].map(|number| TENSOR.field(number).unwrap_or("another field"));
            let what = format!("its {dtype} data is in {found}; that belongs in raw_data or {expected}");
            return Err(Fault::tensor(name, what));
        }
        let width = dtype.size();
        let mut count = 0;
        self.elements(number, size, |_| {
            count += 1;
            Ok(())
        })?;
        let elements = bytes / width;
        if count != elements {
            return Err(Fault::tensor(
                name,
                format!("its dimensions ask for {elements} elements, the file has {count}"),
            ));
        }
        let mut decoded = Vec::with_capacity(bytes);
        self.elements(number, size, |value| {
            if !fits(dtype, value as i64) {
                return Err(Fault::tensor(name, format!("{} is not a value of {dtype}", value as i64)));
            }
            let value = if dtype == DType::Bool { u64::from(value != 0) } else { value };
            decoded.extend(value.to_le_bytes().into_iter().take(width));
            Ok(())
        })?;
        Ok(TensorData::Decoded(decoded))
    }
}

/// Whether a value of a typed field is one of the narrower type that it stands for. Any number but 0 is true.
fn fits(dtype: DType, value: i64) -> bool {
    match dtype {
        DType::I8 => i8::try_from(value).is_ok(),
        DType::U8 => u8::try_from(value).is_ok(),
        DType::I16 => i16::try_from(value).is_ok(),
        DType::U16 | DType::F16 => u16::try_from(value).is_ok(),
        DType::I32 => i32::try_from(value).is_ok(),
        DType::U32 => u32::try_from(value).is_ok(),
        _ => true,
    }
}

fn external_range(name: &str, entries: &[(String, String)]) -> Result<ExternalRange, Fault> {
    let fault = |what: String| Fault::External { tensor: name.to_owned(), what };
    let entry = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, value)| value);
    let number = |key: &str| {
        let parse = |text: &String| {
            // Rust takes a sign, too.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.then(|| text.parse::<u64>().ok()).flatten();
            number.ok_or_else(|| fault(format!("{key} `{text}` is not a number of bytes")))
        };
        entry(key).map(parse).transpose()
    };
    // An offset that is misspelt would be one of 0. The last two are known and not read: neither onnx nor ONNX Runtime holds
    // a checksum against the file, and onnx passes over the base that it writes.
    const KEYS: [&str; 5] = ["location", "offset", "length", "checksum", "basepath"];
    if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return Err(fault(format!("it has an entry `{key}`; ONNX knows location, offset, length and checksum")));
    }
    if let Some(key) = KEYS.iter().find(|key| entries.iter().filter(|(k, _)| k == *key).count() > 1) {
        return Err(fault(format!("{key} is given twice")));
    }
    let location = entry("location").filter(|l| !l.is_empty()).ok_or_else(|| fault("no location is given".into()))?;
    Ok(ExternalRange { location: location.clone(), offset: number("offset")?.unwrap_or(0), length: number("length")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::Limits;

    /// Two elements of a type, as `int32_data` (5) or `uint64_data` (11) has them.
    fn decoded(dtype: u8, field: u8, values: &[u8]) -> Result<TensorData, Fault> {
        let mut bytes = vec![0x0a, 1, 2, 0x10, dtype, field << 3 | 2, values.len() as u8];
        bytes.extend(values);
        let limits = Limits::default();
        let fields = Fields::new(Chunk { bytes: &bytes, base: 0 }, &TENSOR);
        Parser { limits: &limits, items: 0, opset: 0 }.tensor(fields, Some("t")).map(|tensor| tensor.data)
    }

    #[test]
    fn any_number_but_0_is_true() {
        let TensorData::Decoded(bytes) = decoded(9, 5, &[0x80, 2, 0]).unwrap() else { panic!("it is decoded") };
        assert_eq!(bytes, [1, 0], "256 and 0");
    }

    #[test]
    fn values_beyond_their_type_are_refused() {
        for (dtype, field, values, word) in
            [(12, 11, &[0x80, 0x80, 0x80, 0x80, 0x10, 0][..], "4294967296"), (3, 5, &[0x80, 1, 0], "128")]
        {
            let what = decoded(dtype, field, values).unwrap_err().to_string();
            assert!(what.contains(&format!("{word} is not a value of")), "{what}");
        }
    }
}
