//! Inputs that whoever opens a model fixes to values: each becomes a stored tensor in the file's bytes before they are
//! read, so that checks, engines and the quantizer see one file, which has that input no more.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use sha2::{Digest, Sha256};

use super::encode::{copy, put, put_int};
use super::error::Fault;
use super::graph::{DType, Dim, ValueInfo};
use super::schema::{GRAPH, MODEL, VALUE_INFO};
use super::wire::{Chunk, Field, Fields};
use super::{OpenOptions, Source, check, filled, parse};

/// What an input is fixed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputValue {
    /// Numbers with commas between them, of the input's type: as many as it has elements, in row-major order, or where it has no
    /// open dimension one for all of them. An open dimension takes what their number leaves for it; of several the first, a batch, is 1.
    Numbers(String),
    /// Elements with a type and a shape of their own, which have to be the input's.
    Tensor {
        /// Their type.
        dtype: DType,
        /// Their shape, which gives open dimensions their sizes.
        shape: Vec<usize>,
        /// Little-endian, row-major.
        bytes: Vec<u8>,
    },
}

impl From<&str> for InputValue {
    fn from(numbers: &str) -> InputValue {
        InputValue::Numbers(numbers.to_owned())
    }
}

impl From<String> for InputValue {
    fn from(numbers: String) -> InputValue {
        InputValue::Numbers(numbers)
    }
}

/// What a file was before values were stored in it.
#[derive(Debug)]
pub(super) struct AsGiven {
    /// Of its bytes.
    pub hash: Sha256,
    pub bytes: usize,
}

/// A value as it is stored.
struct Stored<'a> {
    info: &'a ValueInfo,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

/// The file with the values that `options` set, and what it was without them; itself where there are none.
pub(super) fn with_values(source: Source, options: &OpenOptions) -> Result<(Source, Option<AsGiven>), Fault> {
    if options.set.is_empty() {
        return Ok((source, None));
    }
    // What is wrong with the file is said of the file as it lies there.
    let mut graph = parse::parse_model(&source, &options.limits)?.graph;
    check::names(&graph)?;
    let listed: Vec<String> = graph.inputs.iter().map(|input| input.name.clone()).collect();
    filled(&mut graph);
    let mut stored: Vec<Stored<'_>> = Vec::with_capacity(options.set.len());
    for (name, value) in &options.set {
        let Some(info) = graph.inputs.iter().find(|input| input.name == *name) else {
            return Err(unknown(name, &graph.inputs, listed.contains(name)));
        };
        if stored.iter().any(|other| other.info.name == *name) {
            return Err(Fault::unsupported(format!("input `{name}` is given a value twice; give it one")));
        }
        let fault = |what: String| Fault::unsupported(format!("input `{name}` is {}: {what}", described(info)));
        let (dims, mut bytes) = match value {
            InputValue::Numbers(text) => numbers(text, info),
            InputValue::Tensor { dtype, shape, bytes } => tensor(*dtype, shape, bytes, info),
        }
        .map_err(fault)?;
        let room = options.limits.byte_len(&dims, info.dtype).map_err(|bytes| {
            Fault::limit(format!("value of input `{name}`, in bytes"), bytes, options.limits.tensor_bytes)
        })?;
        if let Some(times) = room.checked_div(bytes.len()).filter(|times| *times > 1) {
            bytes = bytes.repeat(times); // one number for all
        }
        stored.push(Stored { info, dims, bytes });
    }
    let given = AsGiven { hash: Sha256::new_with_prefix(&*source), bytes: source.len() };
    let bytes = rewritten(&source, &stored)?;
    drop(source);
    Ok((Source::of_bytes(&bytes)?, Some(given)))
}

fn unknown(name: &str, inputs: &[ValueInfo], is_listed: bool) -> Fault {
    let names: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let what =
        if is_listed { "has its value in the model, and is for nobody to set" } else { "is none of the model's" };
    Fault::unsupported(format!("input `{name}` {what}; the model's inputs are {has}"))
}

/// Such as `int64 of [1, length]`.
fn described(info: &ValueInfo) -> String {
    let dims: Vec<String> = info.dims.iter().map(Dim::to_string).collect();
    format!("{} of [{}]", info.dtype, dims.join(", "))
}

fn tensor(dtype: DType, shape: &[usize], bytes: &[u8], info: &ValueInfo) -> Result<(Vec<usize>, Vec<u8>), String> {
    if dtype != info.dtype {
        return Err(format!("the value is {dtype}; convert it"));
    }
    let takes = |(dim, size): (&Dim, &usize)| matches!(dim, Dim::Symbol(_)) || *dim == Dim::Fixed(*size);
    if shape.len() != info.dims.len() || !info.dims.iter().zip(shape).all(takes) {
        return Err(format!("the value is of shape {shape:?}"));
    }
    let elements = shape.iter().try_fold(dtype.size(), |bytes, size| bytes.checked_mul(*size));
    if elements != Some(bytes.len()) {
        return Err(format!("the value has {} bytes, which are not those of shape {shape:?}", bytes.len()));
    }
    Ok((shape.to_vec(), bytes.to_vec()))
}

/// The shape that so many numbers fill, and their bytes; of one number for all of them, those of one.
fn numbers(text: &str, info: &ValueInfo) -> Result<(Vec<usize>, Vec<u8>), String> {
    let words = text.split(',').map(str::trim);
    let bytes: Vec<Vec<u8>> = words.map(|word| number(word, info.dtype)).collect::<Result<_, _>>()?;
    let count = bytes.len();
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Symbol(_) => None,
    };
    let known = info.dims.iter().filter_map(size).fold(1, usize::saturating_mul);
    let open = info.dims.iter().filter(|dim| size(dim).is_none()).count();
    let leads = info.dims.first().is_some_and(|dim| size(dim).is_none());
    let dims = match open {
        0 if count == known || count == 1 && known > 0 => info.dims.iter().filter_map(size).collect(),
        0 => return Err(format!("it takes {known} numbers, or one for all of them, not {count}")),
        1 => sized(info, [count.checked_div(known).unwrap_or(0)]),
        2 if leads => sized(info, [1, count.checked_div(known).unwrap_or(0)]),
        _ => return Err("numbers do not say which sizes its open dimensions have; give it a .npy file".into()),
    };
    if open > 0 && count.checked_rem(known) != Some(0) {
        return Err(format!("it takes a multiple of {known} numbers, not {count}"));
    }
    Ok((dims, bytes.concat()))
}

/// The dimensions with sizes for those that are open.
fn sized<const N: usize>(info: &ValueInfo, sizes: [usize; N]) -> Vec<usize> {
    let mut sizes = sizes.into_iter();
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Symbol(_) => sizes.next().unwrap_or(1),
    };
    info.dims.iter().map(size).collect()
}

/// The bytes of one element.
fn number(word: &str, dtype: DType) -> Result<Vec<u8>, String> {
    fn whole<T: TryFrom<i128>, const N: usize>(word: &str, bytes: fn(T) -> [u8; N]) -> Option<Vec<u8>> {
        word.parse::<i128>().ok().and_then(|value| T::try_from(value).ok()).map(|value| bytes(value).to_vec())
    }
    // What has digits and is too large for its type would come out as infinite.
    let is_meant = |is_finite: bool| is_finite || !word.contains(|letter: char| letter.is_ascii_digit());
    let bytes = match dtype {
        DType::F32 => {
            word.parse().ok().filter(|value: &f32| is_meant(value.is_finite())).map(|v| v.to_le_bytes().into())
        }
        DType::F64 => {
            word.parse().ok().filter(|value: &f64| is_meant(value.is_finite())).map(|v| v.to_le_bytes().into())
        }
        DType::F16 => return Err("numbers are not made float16; give it a .npy file".into()),
        DType::I8 => whole(word, i8::to_le_bytes),
        DType::U8 => whole(word, u8::to_le_bytes),
        DType::I16 => whole(word, i16::to_le_bytes),
        DType::U16 => whole(word, u16::to_le_bytes),
        DType::I32 => whole(word, i32::to_le_bytes),
        DType::U32 => whole(word, u32::to_le_bytes),
        DType::I64 => whole(word, i64::to_le_bytes),
        DType::U64 => whole(word, u64::to_le_bytes),
        DType::Bool => match word {
            "0" | "false" | "False" => Some(vec![0]),
            "1" | "true" | "True" => Some(vec![1]),
            _ => None,
        },
    };
    bytes.ok_or_else(|| format!("`{word}` is no {dtype}"))
}

/// The file with each value as an initializer in its input's place.
fn rewritten(source: &[u8], stored: &[Stored<'_>]) -> Result<Vec<u8>, Fault> {
    let room = stored.iter().map(|value| value.bytes.len() + value.info.name.len() + 128).sum::<usize>();
    let mut model = Vec::with_capacity(source.len().saturating_add(room));
    let model_fields = || Fields::new(Chunk { bytes: source, base: 0 }, &MODEL);
    let (mut fields, mut lists_stored) = (model_fields(), false);
    while let Some(field) = fields.next_field()? {
        // Up to version 3 of the format a stored tensor has to be listed among the inputs.
        lists_stored |= field.number == 1 && field.int()? < 4;
    }
    let mut fields = model_fields();
    while let Some(field) = fields.next_field()? {
        if field.number == 7 {
            put(&mut model, 7, &graph_with(&field, stored, lists_stored)?);
        } else {
            copy(&mut model, &field);
        }
    }
    Ok(model)
}

fn graph_with(graph: &Field<'_>, stored: &[Stored<'_>], lists_stored: bool) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(graph.chunk()?.bytes.len());
    let mut fields = graph.fields(&GRAPH)?;
    while let Some(field) = fields.next_field()? {
        if field.number != 11 || lists_stored || !is_one_of(&field, stored)? {
            copy(&mut out, &field);
        }
    }
    stored.iter().for_each(|value| put(&mut out, 5, &value.message()));
    Ok(out)
}

fn is_one_of(input: &Field<'_>, stored: &[Stored<'_>]) -> Result<bool, Fault> {
    let mut fields = input.fields(&VALUE_INFO)?;
    while let Some(field) = fields.next_field()? {
        if field.number == 1 {
            let name = field.chunk()?.bytes;
            return Ok(stored.iter().any(|value| value.info.name.as_bytes() == name));
        }
    }
    Ok(false)
}

impl Stored<'_> {
    /// A `TensorProto`.
    fn message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + self.info.name.len() + 128);
        self.dims.iter().for_each(|size| put_int(&mut out, 1, *size as u64));
        put_int(&mut out, 2, self.info.dtype.to_onnx() as u64);
        put(&mut out, 8, self.info.name.as_bytes());
        put(&mut out, 9, &self.bytes);
        out
    }
}
