//! From bytes to a [`Graph`]: one bounded pass over the protobuf.
//!
//! This is the only reader of ONNX bytes in tractlet. What it does not keep, no engine sees; so
//! there is no second parser that could understand a file differently. A singular field that is
//! given twice, which protobuf would merge, is refused for the same reason.
//! Stored tensors are read in [`tensor`], what a graph says of its inputs and outputs in [`info`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod info;
mod tensor;

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
    let mut parser = Parser { limits, items: 0, opset: 0 };
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
    parser.opset = opset;
    let graph = parser.graph(Fields::new(graph, &GRAPH), 0)?;
    if model.functions {
        return Err(Fault::unsupported(
            "the model defines functions of its own; inline them (onnx.inliner) and export again",
        ));
    }
    Ok(Parsed { graph, opset, producer: model.producer.unwrap_or_default() })
}

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
    /// Of the default operator set; known when nodes are read.
    opset: i64,
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
                    graph.inputs.push(if depth == 0 { info::named(info) } else { info });
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
        if (op.as_str(), domain) == ("Constant", Domain::Onnx) && self.opset >= 12 {
            attributes.iter_mut().for_each(as_tensor);
        }
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

/// A Constant's numbers as the tensor that they stand for, so that there is one form of stored tensors.
fn as_tensor(attribute: &mut Attribute) {
    let (dtype, dims, bytes): (_, _, Vec<u8>) = match (attribute.name.as_str(), &attribute.value) {
        ("value_float", AttributeValue::Float(value)) => (DType::F32, vec![], value.to_le_bytes().into()),
        ("value_int", AttributeValue::Int(value)) => (DType::I64, vec![], value.to_le_bytes().into()),
        ("value_floats", AttributeValue::Floats(values)) => {
            (DType::F32, vec![values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        ("value_ints", AttributeValue::Ints(values)) => {
            (DType::I64, vec![values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        _ => return,
    };
    let name = "value".to_owned();
    attribute.value =
        AttributeValue::Tensor(Tensor { name: name.clone(), dtype, dims, data: TensorData::Decoded(bytes) });
    attribute.name = name;
}

fn set<T>(slot: &mut Option<T>, value: T, field: &Field<'_>) -> Result<(), Fault> {
    if slot.replace(value).is_some() {
        return Err(field.fault("is given twice in one message"));
    }
    Ok(())
}
