//! ONNX files as this crate holds them: the messages ([`proto`]), and the few things that are asked of
//! them again and again.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod external;
#[allow(missing_docs)] // The field's own names; onnx.proto3 documents them.
pub mod proto;
mod stored;
mod tensor;

use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::{EngineError, QuantizeError};
use proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, attribute_type};

pub use external::externalize;
pub use stored::{put, set, stored};
pub(crate) use tensor::raw;
pub use tensor::{bytes, dims, elements, f32s, floats, halves, i32s, i64s, integers, row};

/// Reads a model.
///
/// # Errors
/// The bytes are not an ONNX model, or one without a graph.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, QuantizeError> {
    let model = ModelProto::decode(bytes).map_err(|error| QuantizeError::Malformed(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| QuantizeError::Malformed("it has no graph".into()))?;
    match oversized(graph) {
        None => Ok(model),
        Some(tensor) => {
            let (name, dims) = (tensor.name.as_deref().unwrap_or_default(), &tensor.dims);
            let what = format!("tensor `{name}` of dimensions {dims:?} has more elements than memory");
            Err(QuantizeError::Malformed(what))
        }
    }
}

/// A tensor some of whose dimensions have a product that is no size: nobody behind [`decode`] has to ask again.
fn oversized(graph: &GraphProto) -> Option<&proto::TensorProto> {
    const MOST: usize = isize::MAX as usize / size_of::<f64>();
    let is = |tensor: &&proto::TensorProto| {
        let product = dims(tensor).into_iter().try_fold(1usize, |product, dim| product.checked_mul(dim.max(1)));
        product.is_none_or(|product| product > MOST)
    };
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    let own = graph.initializer.iter().chain(tensors).find(is);
    own.or_else(|| attributes().flat_map(|a| a.g.iter().chain(&a.graphs)).find_map(oversized))
}

/// TensorProto.DataLocation of a tensor that lies in another file.
const EXTERNAL: i32 = 1;

/// Takes in what lies in other files: the model is whole from then on.
///
/// # Errors
/// A tensor cannot be had.
pub fn take_in(
    model: &mut ModelProto,
    stored: &dyn Fn(&str) -> Result<Vec<u8>, EngineError>,
) -> Result<(), QuantizeError> {
    let graph = model.graph_mut();
    let named = graph.initializer.iter_mut().map(|tensor| (tensor.name.clone().unwrap_or_default(), tensor));
    // A Constant's value goes by the name of what it makes.
    let constants = graph.node.iter_mut().filter(|node| node.op() == "Constant").flat_map(|node| {
        let name = node.out().to_owned();
        node.attribute.iter_mut().filter_map(|attribute| attribute.t.as_mut()).map(move |tensor| (name.clone(), tensor))
    });
    for (name, tensor) in named.chain(constants).filter(|(_, tensor)| tensor.data_location == Some(EXTERNAL)) {
        tensor.raw_data = Some(stored(&name)?);
        tensor.data_location = None;
        tensor.external_data.clear();
    }
    Ok(())
}

impl ModelProto {
    /// The graph; empty where there is none, which [`decode`] does not let pass.
    pub fn nodes(&self) -> &[NodeProto] {
        self.graph.as_ref().map_or(&[], |graph| &graph.node)
    }

    /// The graph, to be changed.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.graph.get_or_insert_default()
    }

    /// Version of the ai.onnx operators.
    pub fn opset(&self) -> i64 {
        self.default_opset().and_then(|set| set.version).unwrap_or(1)
    }

    fn default_opset(&self) -> Option<&OperatorSetIdProto> {
        self.opset_import.iter().find(|set| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx")))
    }

    /// States another version of the ai.onnx operators.
    pub fn set_opset(&mut self, version: i64) {
        let own = |set: &&mut OperatorSetIdProto| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx"));
        if let Some(set) = self.opset_import.iter_mut().find(own) {
            set.version = Some(version);
        }
    }
}

impl GraphProto {
    /// Stored tensors by name, without those that an input may override.
    pub fn stored(&self) -> HashMap<&str, &proto::TensorProto> {
        let inputs: HashSet<&str> = self.input.iter().filter_map(|input| input.name.as_deref()).collect();
        let named = self.initializer.iter().map(|tensor| (tensor.name.as_deref().unwrap_or_default(), tensor));
        named.filter(|(name, _)| !inputs.contains(name)).collect()
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> Vec<&str> {
        self.output.iter().map(|output| output.name.as_deref().unwrap_or_default()).collect()
    }

    /// Takes away stored tensors that nothing reads, and descriptions of tensors that are gone.
    pub fn sweep(&mut self) {
        let mut read: HashSet<String> = self.output.iter().filter_map(|output| output.name.clone()).collect();
        let mut made: HashSet<String> = HashSet::new();
        for node in &self.node {
            node.reads(&mut |name| {
                read.insert(name.to_owned());
            });
            made.extend(node.output.iter().cloned());
        }
        let inputs: HashSet<&str> = self.input.iter().filter_map(|input| input.name.as_deref()).collect();
        // An initializer that is an input's default is the caller's to see.
        self.initializer
            .retain(|tensor| tensor.name.as_deref().is_some_and(|name| read.contains(name) || inputs.contains(name)));
        self.value_info.retain(|info| info.name.as_deref().is_some_and(|name| made.contains(name)));
    }
}

impl NodeProto {
    /// A node of the ai.onnx operators.
    pub fn new(op: &str, name: String, input: Vec<String>, output: Vec<String>) -> NodeProto {
        NodeProto { op_type: Some(op.into()), name: Some(name), input, output, ..NodeProto::default() }
    }

    /// The same by text, with the name of its output.
    #[cfg(test)]
    pub fn test(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        NodeProto::new(op, output.into(), inputs, vec![output.into()])
    }

    /// Its operator; empty where it is of another domain than ai.onnx.
    pub fn op(&self) -> &str {
        match self.domain.as_deref() {
            None | Some("" | "ai.onnx") => self.op_type.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// Its name, or that of its first output where it has none.
    pub fn title(&self) -> &str {
        match self.name.as_deref() {
            None | Some("") => self.out(),
            Some(name) => name,
        }
    }

    /// Its first output.
    pub fn out(&self) -> &str {
        self.output.first().map_or("", String::as_str)
    }

    /// An input that is there.
    pub fn arg(&self, index: usize) -> Option<&str> {
        self.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An integer attribute.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    /// A float attribute.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).and_then(|attribute| attribute.f).unwrap_or(default)
    }

    /// An attribute of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.find(name).map(|attribute| attribute.ints.as_slice())
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        self.find(name).and_then(|attribute| attribute.s.as_deref())
    }

    /// An attribute by name.
    pub fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// Sets an integer attribute.
    pub fn set_int(&mut self, name: &str, value: i64) {
        self.attribute.retain(|attribute| attribute.name.as_deref() != Some(name));
        let (name, kind) = (Some(name.to_owned()), Some(attribute_type::INT));
        self.attribute.push(AttributeProto { name, r#type: kind, i: Some(value), ..AttributeProto::default() });
    }

    /// Sets an attribute of integers.
    pub fn set_ints(&mut self, name: &str, values: Vec<i64>) {
        self.attribute.retain(|attribute| attribute.name.as_deref() != Some(name));
        let (name, kind) = (Some(name.to_owned()), Some(attribute_type::INTS));
        self.attribute.push(AttributeProto { name, r#type: kind, ints: values, ..AttributeProto::default() });
    }

    /// Visits every tensor that it reads, those that its subgraphs take from outside included.
    pub fn reads(&self, visit: &mut dyn FnMut(&str)) {
        self.input.iter().filter(|name| !name.is_empty()).for_each(|name| visit(name));
        self.captures(visit);
    }

    /// Visits the tensors that its subgraphs read; those of the subgraphs' own making among them, which
    /// have names of their own.
    pub fn captures(&self, visit: &mut dyn FnMut(&str)) {
        let graphs = self.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        for graph in graphs {
            graph.node.iter().for_each(|node| node.reads(visit));
            graph.output.iter().filter_map(|output| output.name.as_deref()).for_each(&mut *visit);
        }
    }
}

impl ValueInfoProto {
    /// The type of its elements, where it is a tensor that states it.
    pub fn element_type(&self) -> Option<i32> {
        proto::TypeProto::decode(self.r#type.as_deref()?).ok()?.tensor_type?.elem_type
    }

    /// A float32 tensor of these sizes.
    pub fn floats(name: &str, shape: &[usize]) -> ValueInfoProto {
        ValueInfoProto::tensor(name, Some(proto::data_type::FLOAT), shape)
    }

    /// A tensor of this type and these sizes.
    pub fn tensor(name: &str, elem_type: Option<i32>, shape: &[usize]) -> ValueInfoProto {
        let dim = shape.iter().map(|&dim| proto::DimensionProto { dim_value: Some(dim as i64) }).collect();
        let tensor = proto::TensorTypeProto { elem_type, shape: Some(proto::TensorShapeProto { dim }) };
        let r#type = proto::TypeProto { tensor_type: Some(tensor) }.encode_to_vec();
        ValueInfoProto { r#type: Some(r#type), ..ValueInfoProto::untyped(name) }
    }

    /// A tensor whose type is left to inference.
    pub fn untyped(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
    }
}

/// Who makes and who reads each tensor of a graph, by index of the node.
pub struct Edges {
    /// The node that makes a tensor.
    pub producer: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
    outputs: HashSet<String>,
}

impl Edges {
    /// Of a graph as it is now.
    pub fn of(model: &ModelProto) -> Edges {
        let (mut producer, mut readers) = (HashMap::new(), HashMap::<String, Vec<usize>>::new());
        for (index, node) in model.nodes().iter().enumerate() {
            producer.extend(node.output.iter().map(|output| (output.clone(), index)));
            node.reads(&mut |name| readers.entry(name.to_owned()).or_default().push(index));
        }
        let outputs = model.graph.iter().flat_map(|graph| graph.output.iter().filter_map(|o| o.name.clone())).collect();
        Edges { producer, readers, outputs }
    }

    /// Nodes that read a tensor, once for each time that they do.
    pub fn readers(&self, tensor: &str) -> &[usize] {
        self.readers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The only node that reads a tensor, where the caller does not see the tensor.
    pub fn sole_reader(&self, tensor: &str) -> Option<usize> {
        match *self.readers(tensor) {
            [index] if !self.is_output(tensor) => Some(index),
            _ => None,
        }
    }

    /// Whether a tensor is an output of the graph.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.contains(tensor)
    }
}

/// Names that no tensor or node of a model has yet.
pub struct Names(HashSet<String>);

impl Names {
    /// All names of a model, those in subgraphs included.
    pub fn of(model: &ModelProto) -> Names {
        let mut names = HashSet::new();
        model.graph.iter().for_each(|graph| collect(graph, &mut names));
        Names(names)
    }

    /// `wanted`, or the first of `wanted_1`, `wanted_2`, … that is free; taken from now on.
    pub fn fresh(&mut self, wanted: &str) -> String {
        let numbered = (1u32..).map(|n| format!("{wanted}_{n}"));
        let free = std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !self.0.contains(name));
        let name = free.unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn collect(graph: &GraphProto, names: &mut HashSet<String>) {
    names.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.clone()));
    names.extend(graph.input.iter().filter_map(|input| input.name.clone()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).chain(&node.name).cloned());
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|graph| collect(graph, names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_constant_holds_in_another_file_comes_in_by_the_name_of_what_it_makes() {
        let elsewhere = proto::TensorProto { data_location: Some(EXTERNAL), raw_data: None, ..f32s("", &[1], &[]) };
        let mut node = NodeProto::new("Constant", "node".into(), vec![], vec!["w".into()]);
        node.attribute.push(AttributeProto { t: Some(elsewhere), ..AttributeProto::default() });
        let graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        take_in(&mut model, &|name| Ok(if name == "w" { 2f32.to_le_bytes().to_vec() } else { vec![] })).unwrap();
        assert_eq!(floats(model.nodes()[0].attribute[0].t.as_ref().unwrap()), Some(vec![2.0]));
    }

    #[test]
    fn a_tensor_of_more_elements_than_memory_has_is_refused() {
        let with = |dims: &[usize], in_node: bool| {
            let (tensor, mut graph) = (f32s("w", dims, &[]), GraphProto::default());
            if in_node {
                let mut node = NodeProto::new("Constant", "c".into(), vec![], vec!["w".into()]);
                node.attribute.push(AttributeProto { t: Some(tensor), ..AttributeProto::default() });
                graph.node.push(node);
            } else {
                graph.initializer.push(tensor);
            }
            decode(&ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec())
        };
        for in_node in [false, true] {
            // A zero does not make the others sound: what is computed of a part of them would not fit.
            for dims in [&[1 << 62, 1 << 62][..], &[1 << 62, 4, 0], &[1 << 61]] {
                let error = with(dims, in_node).unwrap_err().to_string();
                assert!(error.contains("`w`"), "{dims:?}: {error}");
            }
            assert!(with(&[0, 3, 1 << 20], in_node).is_ok());
        }
    }
}
