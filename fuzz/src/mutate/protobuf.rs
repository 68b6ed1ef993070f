//! Changes to an ONNX file that leave it a protobuf message: fields come, go and change, and every length around
//! them is written anew.

use crate::rng::Rng;

/// A message as far as its fields go.
#[derive(Clone, Debug)]
struct Field {
    tag: u32,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Kind, Vec<Field>),
}

/// The messages of onnx.proto3 that are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Info,
    Type,
    TensorType,
    Shape,
    Leaf,
}

impl Kind {
    /// The message that a field of this one holds.
    fn inner(self, tag: u32) -> Option<Kind> {
        Some(match (self, tag) {
            (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::Sparse, 1 | 2) => Kind::Tensor,
            (Kind::Graph, 15) | (Kind::Attribute, 22) => Kind::Sparse,
            (Kind::Graph, 11..=13) => Kind::Info,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Info, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Model, 8) | (Kind::Tensor, 13) | (Kind::Shape, 1) => Kind::Leaf,
            _ => return None,
        })
    }
}

/// Nesting that is followed; deeper messages stay bytes.
const MAX_DEPTH: usize = 16;

/// Changes a few fields. What is no message is given back as it is.
pub fn mutate(input: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let Some(given) = parse(input, Kind::Model, 0) else { return input.to_vec() };
    let donor = if rng.once_in(3) { parse(other, Kind::Model, 0) } else { None }.unwrap_or_default();
    let mut pool = Pool::default();
    pool.gather(&given, Kind::Model);
    pool.gather(&donor, Kind::Model);
    let mut model = given.clone();
    for _ in 0..1 + rng.below(3) {
        descend(&mut model, Kind::Model, &pool, rng);
    }
    let mut bytes = Vec::with_capacity(input.len() + 64);
    write(&model, &mut bytes);
    bytes
}

/// What there is to put in the place of something else of its sort.
#[derive(Default)]
struct Pool<'a> {
    fields: Vec<(Kind, &'a Field)>,
}

impl<'a> Pool<'a> {
    fn gather(&mut self, fields: &'a [Field], kind: Kind) {
        for field in fields {
            // Weights are large, and as good as any other bytes.
            if !matches!(&field.value, Value::Bytes(bytes) if bytes.len() > 256) {
                self.fields.push((kind, field));
            }
            if let Value::Message(kind, inner) = &field.value {
                self.gather(inner, *kind);
            }
        }
    }

    fn like(&self, kind: Kind, tag: Option<u32>, rng: &mut Rng) -> Option<Field> {
        let fits = |(k, field): &&(Kind, &Field)| *k == kind && tag.is_none_or(|tag| field.tag == tag);
        let count = self.fields.iter().filter(fits).count();
        self.fields.iter().filter(fits).nth(rng.below(count)).map(|(_, field)| (*field).clone())
    }
}

/// Goes down to a message and changes a field of it.
fn descend(fields: &mut Vec<Field>, kind: Kind, pool: &Pool<'_>, rng: &mut Rng) {
    let inner: Vec<usize> =
        (0..fields.len()).filter(|&index| matches!(fields[index].value, Value::Message(..))).collect();
    let stay = if matches!(kind, Kind::Model) { 16 } else { 3 };
    if !inner.is_empty()
        && !rng.once_in(stay)
        && let Value::Message(kind, fields) = &mut fields[*rng.pick(&inner)].value
    {
        return descend(fields, *kind, pool, rng);
    }
    if fields.is_empty() {
        fields.extend(pool.like(kind, None, rng));
        return;
    }
    let at = rng.below(fields.len());
    match rng.below(12) {
        0 => drop(fields.remove(at)),
        1 => {
            let field = fields[at].clone();
            fields.insert(rng.below(fields.len() + 1), field);
        }
        2 => {
            let with = rng.below(fields.len());
            fields.swap(at, with);
        }
        3 | 4 => {
            if let Some(field) = pool.like(kind, None, rng) {
                fields.insert(rng.below(fields.len() + 1), field);
            }
        }
        5..=7 => {
            if let Some(field) = pool.like(kind, Some(fields[at].tag), rng) {
                fields[at] = field;
            }
        }
        _ => change(&mut fields[at], rng),
    }
}

/// Operators, attributes and their words.
const STRINGS: [&str; 44] = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Relu",
    "Clip",
    "LeakyRelu",
    "HardSwish",
    "Sigmoid",
    "Softmax",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Concat",
    "Split",
    "Slice",
    "Pad",
    "Resize",
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "Constant",
    "ConstantOfShape",
    "Gather",
    "Expand",
    "Shape",
    "Cast",
    "BatchNormalization",
    "axis",
    "pads",
    "strides",
    "SAME_UPPER",
    "auto_pad",
    "",
];

const NUMBERS: [i64; 24] = [
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    8,
    13,
    16,
    64,
    127,
    128,
    255,
    256,
    65_536,
    1 << 24,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

const FLOATS: [f32; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1.2e-38,
    1e-20,
    0.5,
    127.5,
    1e20,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

fn change(field: &mut Field, rng: &mut Rng) {
    match &mut field.value {
        Value::Varint(number) => {
            *number = match rng.below(3) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => *rng.pick(&NUMBERS) as u64,
            };
        }
        Value::Fixed32(bytes) => *bytes = rng.pick(&FLOATS).to_le_bytes(),
        Value::Fixed64(bytes) => *bytes = rng.number().to_le_bytes(),
        Value::Bytes(bytes) => match rng.below(5) {
            0 => *bytes = rng.pick(&STRINGS).as_bytes().to_vec(),
            1 if bytes.len() >= 4 => {
                let at = rng.below(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&rng.pick(&FLOATS).to_le_bytes());
            }
            2 if bytes.len() >= 8 => {
                let at = rng.below(bytes.len() / 8) * 8;
                bytes[at..at + 8].copy_from_slice(&rng.pick(&NUMBERS).to_le_bytes());
            }
            3 => bytes.resize((bytes.len() + rng.below(9)).saturating_sub(4), 1),
            _ => super::bytes::mutate(bytes, &[], rng),
        },
        Value::Message(_, fields) => fields.truncate(rng.below(fields.len())),
    }
    if rng.once_in(24) {
        field.tag = 1 + rng.below(26) as u32;
    }
}

fn parse(mut bytes: &[u8], kind: Kind, depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = take(&mut bytes, len)?;
                let inner = kind.inner(tag).filter(|_| depth < MAX_DEPTH);
                let message = inner.and_then(|kind| Some(Value::Message(kind, parse(content, kind, depth + 1)?)));
                message.unwrap_or_else(|| Value::Bytes(content.to_vec()))
            }
            _ => return None,
        };
        fields.push(Field { tag, value });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field], into: &mut Vec<u8>) {
    for Field { tag, value } in fields {
        let key = |wire: u64, into: &mut Vec<u8>| write_varint(u64::from(*tag) << 3 | wire, into);
        match value {
            Value::Varint(number) => {
                key(0, into);
                write_varint(*number, into);
            }
            Value::Fixed64(bytes) => {
                key(1, into);
                into.extend(bytes);
            }
            Value::Fixed32(bytes) => {
                key(5, into);
                into.extend(bytes);
            }
            Value::Bytes(bytes) => {
                key(2, into);
                write_varint(bytes.len() as u64, into);
                into.extend(bytes);
            }
            Value::Message(_, fields) => {
                key(2, into);
                let mut content = Vec::new();
                write(fields, &mut content);
                write_varint(content.len() as u64, into);
                into.extend(content);
            }
        }
    }
}

fn write_varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}
