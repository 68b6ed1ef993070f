//! From bytes to a [`Graph`]: one bounded pass over the protobuf.
//!
//! This is the only reader of ONNX bytes in tractlet. What it does not keep, no engine sees; so
//! there is no second parser that could understand a file differently. A singular field that is
//! given twice, which protobuf would merge, is refused for the same reason.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::error::Fault;
use super::graph::*;
use super::limits::Limits;
use super::schema::*;
use super::wire::{Chunk, Field, Fields, Scalar, malformed};

/// The parts of a `ModelProto` that tractlet uses.
#[derive(Debug)]
pub(super) struct Parsed {
    pub graph: Graph,
    /// Version of the default operator set.
    pub opset: i64,
    pub producer: String,
}

/// From the first opset with broadcasting as it is now to the newest that is released.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

pub(super) fn parse_model(bytes: &[u8], limits: &Limits) -> Result<Parsed, Fault> {
    if bytes.is_empty() {
        return Err(malformed(0, "the file is empty"));
    }
    let mut parser = Parser { limits, items: 0 };
    let mut model = ModelFields::default();
    let mut fields = Fields::new(Chunk { bytes, base: 0 }, &MODEL);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => set(&mut model.ir_version, field.int()?, &field)?,
            2 => set(&mut model.producer, parser.name(&field)?, &field)?,
            7 => set(&mut model.graph, field.chunk()?, &field)?,
            8 => parser.opset(field.fields(&OPSET)?, &mut model.opset)?,
            25 => model.functions = true,
            _ => {}
        }
    }
    let graph = model.graph.ok_or_else(|| malformed(0, "there is no graph in it; is this an ONNX file?"))?;
    if let Some(version) = model.ir_version.filter(|version| !(0..=IR_VERSION).contains(version)) {
        return Err(Fault::unsupported(format!(
            "ir_version {version}: tractlet reads the format up to version {IR_VERSION}"
        )));
    }
    let opset = model
        .opset
        .ok_or_else(|| Fault::unsupported("it does not say which opset it uses (opset_import); export it again"))?;
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(Fault::unsupported(format!(
            "opset {opset}: tractlet takes opset {first} to {last}; convert the model (onnx.version_converter)"
        )));
    }
    let graph = parser.graph(Fields::new(graph, &GRAPH), 0)?;
    if model.functions {
        return Err(Fault::unsupported(
            "the model defines functions of its own; inline them (onnx.inliner) and export again",
        ));
    }
    Ok(Parsed { graph, opset, producer: model.producer.unwrap_or_default() })
}

/// `TensorProto.DataType` of text.
const STRING: i64 = 8;

/// The newest version of the format that there is.
const IR_VERSION: i64 = 14;

/// Fields of an `AttributeProto` that no operator here takes, with the type that each is for: lists of tensors and of graphs,
/// types, sparse tensors.
const UNTAKEN: [(u32, i64); 6] = [(10, 9), (11, 10), (14, 13), (15, 14), (22, 11), (23, 12)];

/// More than any operator has.
const ATTRIBUTES: usize = 64;

#[derive(Default)]
struct ModelFields<'a> {
    ir_version: Option<i64>,
    functions: bool,
    producer: Option<String>,
    graph: Option<Chunk<'a>>,
    opset: Option<i64>,
}

struct Parser<'l> {
    limits: &'l Limits,
    items: usize,
}

impl Parser<'_> {
    fn opset(&mut self, mut fields: Fields<'_>, default_domain: &mut Option<i64>) -> Result<(), Fault> {
        let (at, mut domain, mut version) = (fields.start(), None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut domain, self.name(&field)?, &field)?,
                2 => set(&mut version, field.int()?, &field)?,
                _ => {}
            }
        }
        // Domains that no node uses do no harm; `Domain::from` looks at those that are used.
        if matches!(domain.as_deref(), None | Some("" | "ai.onnx")) {
            if default_domain.is_some() {
                return Err(malformed(at, "the default operator set is imported twice (opset_import)"));
            }
            *default_domain = Some(version.unwrap_or(0));
        }
        Ok(())
    }

    fn graph(&mut self, mut fields: Fields<'_>, depth: usize) -> Result<Graph, Fault> {
        if depth > self.limits.subgraph_depth {
            return Err(Fault::limit("depth of graphs within graphs", depth as u64, self.limits.subgraph_depth as u64));
        }
        let mut graph = Graph::default();
        // Inputs and tensors first: what is wrong with them is the better explanation of a node that does not fit.
        let mut nodes = fields.clone();
        while let Some(field) = fields.next_field()? {
            match field.number {
                5 => graph.initializers.push(self.tensor(field.fields(&TENSOR)?, None)?),
                11 => {
                    let (name, info) = self.value_info(field.fields(&VALUE_INFO)?)?;
                    let info = info.ok_or_else(|| {
                        Fault::unsupported(format!(
                            "input `{name}` has no tensor type or no shape, not even a rank; export the model with shapes (onnx.shape_inference)"
                        ))
                    })?;
                    graph.inputs.push(info);
                }
                12 => {
                    let (name, info) = self.value_info(field.fields(&VALUE_INFO)?)?;
                    graph.outputs.push(Output { name, info });
                }
                13 => {
                    if graph.declared.len() == self.limits.items {
                        let (found, most) = (graph.declared.len() as u64 + 1, self.limits.items as u64);
                        return Err(Fault::limit("value_info of a graph", found, most));
                    }
                    graph.declared.extend(self.declared(field.fields(&VALUE_INFO)?)?);
                }
                15 => {
                    let name = self.sparse_name(field.fields(&SPARSE)?)?;
                    return Err(Fault::unsupported(format!(
                        "tensor `{name}` is a sparse initializer; store it dense and export again"
                    )));
                }
                _ => {}
            }
        }
        while let Some(field) = nodes.next_field()? {
            if field.number == 1 {
                graph.nodes.push(self.node(field.fields(&NODE)?, depth)?);
            }
        }
        Ok(graph)
    }

    fn node(&mut self, mut fields: Fields<'_>, depth: usize) -> Result<Node, Fault> {
        self.count()?;
        let (mut name, mut op, mut domain) = (None, None, None);
        let (mut inputs, mut outputs, mut attributes) = (vec![], vec![], vec![]);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => inputs.push(self.counted_name(&field)?),
                2 => outputs.push(self.counted_name(&field)?),
                3 => set(&mut name, self.name(&field)?, &field)?,
                4 => set(&mut op, self.name(&field)?, &field)?,
                5 => {
                    let attribute = self.attribute(field.fields(&ATTRIBUTE)?, depth)?;
                    if attributes.len() == ATTRIBUTES {
                        return Err(Fault::limit(
                            "attributes of a node",
                            attributes.len() as u64 + 1,
                            ATTRIBUTES as u64,
                        ));
                    }
                    if attributes.iter().any(|a: &Attribute| a.name == attribute.name) {
                        let node = name.or_else(|| outputs.first().cloned()).unwrap_or_default();
                        return Err(Fault::Attribute {
                            node,
                            op: op.unwrap_or_default(),
                            what: format!("attribute `{}` is given twice", attribute.name),
                        });
                    }
                    attributes.push(attribute);
                }
                7 => set(&mut domain, self.name(&field)?, &field)?,
                _ => {}
            }
        }
        // ONNX allows nodes without a name; messages and reports need one.
        let name = name.filter(|name| !name.is_empty()).or_else(|| outputs.first().cloned()).unwrap_or_default();
        let op = op.filter(|op| !op.is_empty()).ok_or_else(|| Fault::graph(format!("node `{name}` has no op_type")))?;
        let domain = match domain.as_deref() {
            None | Some("" | "ai.onnx") => Domain::Onnx,
            Some("com.microsoft") => Domain::Microsoft,
            Some(other) => {
                return Err(Fault::unsupported(format!(
                    "node `{name}`: operator {op} of domain `{other}`; tractlet takes ai.onnx and com.microsoft, and no functions of a model's own"
                )));
            }
        };
        Ok(Node { name, op, domain, inputs, outputs, attributes })
    }

    fn attribute(&mut self, mut fields: Fields<'_>, depth: usize) -> Result<Attribute, Fault> {
        self.count()?;
        let at = fields.start();
        let (mut name, mut kind, mut refers) = (None, None, false);
        let (mut float, mut int, mut text, mut tensor, mut graph) = (None, None, None, None, None);
        let (mut floats, mut ints, mut texts) = (vec![], vec![], vec![]);
        // The type of a value that no operator here takes.
        let mut other = None;
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut name, self.name(&field)?, &field)?,
                2 => set(&mut float, field.float()?, &field)?,
                3 => set(&mut int, field.int()?, &field)?,
                4 => set(&mut text, self.name(&field)?, &field)?,
                5 => set(&mut tensor, self.tensor(field.fields(&TENSOR)?, name.as_deref())?, &field)?,
                6 => set(&mut graph, self.graph(field.fields(&GRAPH)?, depth + 1)?, &field)?,
                7 => field.scalars(Scalar::Fixed32, |bits| {
                    self.count()?;
                    floats.push(f32::from_bits(bits as u32));
                    Ok(())
                })?,
                8 => field.scalars(Scalar::Varint, |value| {
                    self.count()?;
                    ints.push(value as i64);
                    Ok(())
                })?,
                9 => texts.push(self.counted_name(&field)?),
                10 | 11 | 14 | 15 | 22 | 23 => {
                    field.chunk()?;
                    other = UNTAKEN.iter().find(|(number, _)| *number == field.number).map(|(_, kind)| *kind);
                }
                20 => set(&mut kind, field.int()?, &field)?,
                21 => refers = true,
                _ => {}
            }
        }
        let name = name.unwrap_or_default();
        let held = [
            float.is_some(),
            int.is_some(),
            text.is_some(),
            tensor.is_some(),
            graph.is_some(),
            !floats.is_empty(),
            !ints.is_empty(),
            !texts.is_empty(),
        ];
        let held = held.iter().zip(1..).filter_map(|(held, of)| held.then_some(of)).chain(other);
        let holds_another = held.into_iter().any(|of| kind.is_some_and(|kind| kind != of));
        let lacks = || malformed(at, format!("attribute `{name}` does not hold what its type says"));
        let value = match kind {
            _ if refers => AttributeValue::Unclear("refers to one of a function, and the node is in none"),
            _ if holds_another => AttributeValue::Unclear("holds a value of another type than it states"),
            Some(1) => AttributeValue::Float(float.unwrap_or_default()),
            Some(2) => AttributeValue::Int(int.unwrap_or_default()),
            Some(3) => AttributeValue::Text(text.unwrap_or_default()),
            Some(4) => AttributeValue::Tensor(tensor.ok_or_else(lacks)?),
            Some(5) => AttributeValue::Graph(graph.ok_or_else(lacks)?),
            Some(6) => AttributeValue::Floats(floats),
            Some(7) => AttributeValue::Ints(ints),
            Some(8) => AttributeValue::Texts(texts),
            Some(other) => AttributeValue::Other(other), // refused with its node's name when nodes are checked
            None => return Err(malformed(at, format!("attribute `{name}` does not say its type"))),
        };
        Ok(Attribute { name, value })
    }

    /// `attribute` names a tensor that has no name of its own in messages.
    fn tensor(&mut self, mut fields: Fields<'_>, attribute: Option<&str>) -> Result<Tensor, Fault> {
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
        let bytes = byte_len(&dims, dtype, self.limits).map_err(|value| {
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

    fn value_info(&mut self, mut fields: Fields<'_>) -> Result<(String, Option<ValueInfo>), Fault> {
        self.count()?;
        let (mut name, mut kind) = (None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut name, self.name(&field)?, &field)?,
                2 => set(&mut kind, field.fields(&TYPE)?, &field)?,
                _ => {}
            }
        }
        let name = name.unwrap_or_default();
        let Some(mut kind) = kind else { return Ok((name, None)) };
        let mut tensor = None;
        while let Some(field) = kind.next_field()? {
            match field.number {
                1 => set(&mut tensor, field.fields(&TENSOR_TYPE)?, &field)?,
                4 | 5 | 7 | 8 | 9 => {
                    return Err(Fault::unsupported(format!(
                        "`{name}` is a sequence, map, optional, opaque or sparse tensor; tractlet runs dense tensors"
                    )));
                }
                _ => {}
            }
        }
        let Some(tensor) = tensor else { return Ok((name, None)) };
        let info = self.tensor_type(name.clone(), tensor)?;
        Ok((name, info))
    }

    /// Name and element type of a tensor within a graph. Engines may have types that are not here, and need none of it.
    fn declared(&self, mut fields: Fields<'_>) -> Result<Option<(String, DType)>, Fault> {
        let (mut name, mut kind, mut tensor, mut element) = (None, None, None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut name, self.name(&field)?, &field)?,
                2 => set(&mut kind, field.fields(&TYPE)?, &field)?,
                _ => {}
            }
        }
        while let Some(field) = kind.as_mut().map(Fields::next_field).transpose()?.flatten() {
            if field.number == 1 {
                set(&mut tensor, field.fields(&TENSOR_TYPE)?, &field)?;
            }
        }
        while let Some(field) = tensor.as_mut().map(Fields::next_field).transpose()?.flatten() {
            if field.number == 1 {
                set(&mut element, field.int()?, &field)?;
            }
        }
        Ok(name.zip(element.and_then(DType::from_onnx)))
    }

    /// None where a shape is missing.
    fn tensor_type(&mut self, name: String, mut fields: Fields<'_>) -> Result<Option<ValueInfo>, Fault> {
        let (mut element, mut shape) = (None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => set(&mut element, field.int()?, &field)?,
                2 => set(&mut shape, field.fields(&SHAPE)?, &field)?,
                _ => {}
            }
        }
        let element = element.unwrap_or(0);
        let dtype = DType::from_onnx(element)
            .ok_or_else(|| Fault::unsupported(format!("`{name}` is of {}", unrun(element))))?;
        let Some(mut shape) = shape else { return Ok(None) };
        let mut dims = vec![];
        while let Some(field) = shape.next_field()? {
            if field.number != 1 {
                continue;
            }
            if dims.len() == self.limits.rank {
                return Err(Fault::limit(
                    format!("dimensions of `{name}`"),
                    dims.len() as u64 + 1,
                    self.limits.rank as u64,
                ));
            }
            dims.push(self.dimension(&name, dims.len(), field.fields(&DIM)?)?);
        }
        let fixed: Vec<usize> = dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).collect();
        byte_len(&fixed, dtype, self.limits)
            .map_err(|value| Fault::limit(format!("`{name}`: size in bytes"), value, self.limits.tensor_bytes))?;
        Ok(Some(ValueInfo { name, dtype, dims }))
    }

    fn dimension(&mut self, name: &str, index: usize, mut fields: Fields<'_>) -> Result<Dim, Fault> {
        let mut dim = None;
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => {
                    let stated = field.int()?;
                    let size = usize::try_from(stated).map_err(|_| {
                        let what = format!("dimension {index} of `{name}` is {stated}");
                        Fault::graph(format!("{what}; where it is open, give it a name instead (dim_param)"))
                    })?;
                    set(&mut dim, Dim::Fixed(size), &field)?;
                }
                2 => set(&mut dim, Dim::Symbol(self.name(&field)?), &field)?,
                _ => {}
            }
        }
        Ok(dim.unwrap_or(Dim::Symbol(String::new())))
    }

    /// A sparse tensor's name is its values'.
    fn sparse_name(&mut self, mut fields: Fields<'_>) -> Result<String, Fault> {
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

    fn name(&self, field: &Field<'_>) -> Result<String, Fault> {
        field.text(self.limits.name_bytes)
    }

    fn counted_name(&mut self, field: &Field<'_>) -> Result<String, Fault> {
        self.count()?;
        self.name(field)
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.items += 1;
        if self.items > self.limits.items {
            return Err(Fault::limit(
                "nodes, edges, tensors and attribute values of the model",
                self.items as u64,
                self.limits.items as u64,
            ));
        }
        Ok(())
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
            decoded.extend(value.to_le_bytes().into_iter().take(width));
            Ok(())
        })?;
        if dtype == DType::Bool {
            decoded.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        Ok(TensorData::Decoded(decoded))
    }
}

/// Whether a value of `int32_data` is one of the narrower type that it stands for.
fn fits(dtype: DType, value: i64) -> bool {
    match dtype {
        DType::I8 => i8::try_from(value).is_ok(),
        DType::U8 => u8::try_from(value).is_ok(),
        DType::I16 => i16::try_from(value).is_ok(),
        DType::U16 | DType::F16 => u16::try_from(value).is_ok(),
        DType::I32 => i32::try_from(value).is_ok(),
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

/// Size in bytes, or the (saturated) size that is over the limit.
pub(super) fn byte_len(dims: &[usize], dtype: DType, limits: &Limits) -> Result<usize, u64> {
    // A zero elsewhere must not hide a dimension that overflows on its own.
    let bytes = dims
        .iter()
        .try_fold(dtype.size() as u64, |bytes, &dim| bytes.checked_mul(dim.max(1) as u64))
        .unwrap_or(u64::MAX);
    if bytes > limits.tensor_bytes {
        return Err(bytes);
    }
    Ok(dims.iter().product::<usize>() * dtype.size())
}

fn set<T>(slot: &mut Option<T>, value: T, field: &Field<'_>) -> Result<(), Fault> {
    if slot.replace(value).is_some() {
        return Err(field.fault("is given twice in one message"));
    }
    Ok(())
}
