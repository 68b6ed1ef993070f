//! The protobuf wire format, read in place: a cursor over one message's fields.
//!
//! Source: protobuf's "Encoding" specification. Groups are refused; they have no place in ONNX.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::error::Fault;

/// A message type: its name, and the fields that are read, for messages to people.
#[derive(Debug)]
pub(super) struct Schema {
    pub name: &'static str,
    pub fields: &'static [(u32, &'static str)],
}

/// Fields of one message, in file order. `base` is where `bytes` starts in the file.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    base: usize,
    schema: &'static Schema,
    /// The field being read; 0 between fields.
    number: u32,
}

/// A length-delimited value and where it starts in the file.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub bytes: &'a [u8],
    pub base: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Chunk(Chunk<'a>),
}

/// One field with its number and the place of its tag in the file.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    pub at: usize,
    schema: &'static Schema,
}

impl<'a> Fields<'a> {
    pub fn new(chunk: Chunk<'a>, schema: &'static Schema) -> Fields<'a> {
        Fields { bytes: chunk.bytes, at: 0, base: chunk.base, schema, number: 0 }
    }

    /// Where the message lies in the file.
    pub fn start(&self) -> usize {
        self.base
    }

    /// The next field, or `None` at the end of the message.
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, Fault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let at = self.base + self.at;
        self.number = 0;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        if number == 0 || number > 0x1fff_ffff {
            return Err(self.fault(at, "a field number is out of range"));
        }
        self.number = number;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Value::Chunk(self.chunk(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            wire => return Err(self.fault(at, format!("wire type {wire} is not used by ONNX"))),
        };
        Ok(Some(Field { number, value, at, schema: self.schema }))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.ends_early())?;
            self.at += 1;
            // The tenth byte holds one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault(self.base + start, "a variable-length integer is longer than 64 bits"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let array = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let array = *array.ok_or_else(|| self.ends_early())?;
        self.at += N;
        Ok(array)
    }

    fn chunk(&mut self, length: u64) -> Result<Chunk<'a>, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let bytes = bytes.ok_or_else(|| {
            let what =
                format!("it claims {length} bytes where {} are left; the file is damaged or cut short", rest.len());
            self.fault(self.base + self.at, what)
        })?;
        let chunk = Chunk { bytes, base: self.base + self.at };
        self.at += bytes.len();
        Ok(chunk)
    }

    fn ends_early(&self) -> Fault {
        self.fault(self.base + self.bytes.len(), "it ends early; the file is damaged or cut short")
    }

    fn fault(&self, at: usize, what: impl std::fmt::Display) -> Fault {
        self.schema.fault(self.number, at, what)
    }
}

impl<'a> Field<'a> {
    pub fn int(&self) -> Result<i64, Fault> {
        match self.value {
            // int32, int64 and enums all travel as 64-bit two's complement.
            Value::Varint(value) => Ok(value as i64),
            _ => Err(self.wrong("an integer")),
        }
    }

    pub fn float(&self) -> Result<f32, Fault> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.wrong("a float")),
        }
    }

    pub fn chunk(&self) -> Result<Chunk<'a>, Fault> {
        match self.value {
            Value::Chunk(chunk) => Ok(chunk),
            _ => Err(self.wrong("bytes or a message")),
        }
    }

    pub fn fields(&self, schema: &'static Schema) -> Result<Fields<'a>, Fault> {
        Ok(Fields::new(self.chunk()?, schema))
    }

    /// UTF-8 text of at most `limit` bytes.
    pub fn text(&self, limit: usize) -> Result<String, Fault> {
        let chunk = self.chunk()?;
        if chunk.bytes.len() > limit {
            let subject = format!("length of {} in bytes", self.schema.place(self.number));
            return Err(Fault::limit(subject, chunk.bytes.len() as u64, limit as u64));
        }
        match std::str::from_utf8(chunk.bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.fault("is not UTF-8 text")),
        }
    }

    /// Calls `each` for every element of a repeated scalar, packed or not.
    pub fn scalars(&self, size: Scalar, mut each: impl FnMut(u64) -> Result<(), Fault>) -> Result<(), Fault> {
        match (self.value, size) {
            (Value::Varint(value), Scalar::Varint) => each(value),
            (Value::Fixed32(bits), Scalar::Fixed32) => each(u64::from(bits)),
            (Value::Fixed64(bits), Scalar::Fixed64) => each(bits),
            (Value::Chunk(chunk), _) => {
                let mut packed = Fields { number: self.number, ..Fields::new(chunk, self.schema) };
                while packed.at < packed.bytes.len() {
                    each(match size {
                        Scalar::Varint => packed.varint()?,
                        Scalar::Fixed32 => u64::from(u32::from_le_bytes(packed.array()?)),
                        Scalar::Fixed64 => u64::from_le_bytes(packed.array()?),
                    })?;
                }
                Ok(())
            }
            _ => Err(self.wrong("a list of numbers")),
        }
    }

    /// A fault of this field.
    pub fn fault(&self, what: impl std::fmt::Display) -> Fault {
        self.schema.fault(self.number, self.at, what)
    }

    fn wrong(&self, expected: &str) -> Fault {
        self.fault(format!("is not {expected}"))
    }
}

impl Schema {
    fn fault(&self, number: u32, at: usize, what: impl std::fmt::Display) -> Fault {
        malformed(at, format!("{}: {what}", self.place(number)))
    }

    /// A field's name, where it has one here.
    pub fn field(&self, number: u32) -> Option<&'static str> {
        self.fields.iter().find(|(n, _)| *n == number).map(|(_, field)| *field)
    }

    /// `graph.node`; the message alone between fields.
    fn place(&self, number: u32) -> String {
        match self.field(number) {
            Some(field) => format!("{}.{field}", self.name),
            None if number == 0 => self.name.to_owned(),
            None => format!("{}, field {number}", self.name),
        }
    }
}

/// How the elements of a repeated scalar travel.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    Varint,
    Fixed32,
    Fixed64,
}

pub(super) fn malformed(at: usize, what: impl Into<String>) -> Fault {
    Fault::Malformed { at, what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema { name: "test", fields: &[(1, "one")] };

    fn first(bytes: &[u8]) -> Result<Option<Field<'_>>, Fault> {
        Fields::new(Chunk { bytes, base: 0 }, &SCHEMA).next_field()
    }

    #[test]
    fn faults_name_their_place() {
        let fault = |bytes: &[u8]| first(bytes).err().unwrap().to_string();
        assert!(fault(&[0x0a, 0x05, b'h']).contains("test.one: it claims 5 bytes where 1 are left"));
        assert!(fault(&[0x13]).contains("test, field 2: wire type 3"));
    }

    #[test]
    fn reads_each_wire_type() {
        assert_eq!(first(&[0x08, 0x96, 0x01]).unwrap().unwrap().int().unwrap(), 150);
        assert_eq!(first(&[0x15, 0, 0, 0x80, 0x3f]).unwrap().unwrap().float().unwrap(), 1.0);
        assert_eq!(first(&[0x12, 0x02, b'h', b'i']).unwrap().unwrap().text(8).unwrap(), "hi");
        assert!(first(&[]).unwrap().is_none());
    }

    #[test]
    fn negative_integers_take_ten_bytes() {
        let bytes = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(first(&bytes).unwrap().unwrap().int().unwrap(), -1);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for bytes in [
            &[0x08][..],                                                         // no value
            &[0x08, 0x80],                                                       // varint cut short
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
            &[0x12, 0x05, b'h'],                                                 // longer than the rest
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // 2^64 - 1 bytes
            &[0x00, 0x00],                                                       // field 0
            &[0x0b],                                                             // group
            &[0x0d, 0x00],                                                       // fixed32 cut short
        ] {
            assert!(first(bytes).is_err(), "{bytes:?}");
        }
    }
}
