//! The scanned graph as the message that tract-onnx takes: built here, never decoded from a file.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::fold;
use super::qoperator::{self, Form};
use crate::model::{
    Attribute, AttributeValue, Binding, DType, Dim, Fault, Graph, Model, ModelError, Node, Tensor, ValueInfo,
};

pub(super) fn model(model: &Model, bindings: &[Binding]) -> Result<ModelProto, ModelError> {
    let opset = OperatorSetIdProto { domain: String::new(), version: model.opset() };
    let graph = graph(model, model.graph(), bindings)?;
    Ok(ModelProto { opset_import: vec![opset], graph: Some(graph), ..Default::default() })
}

fn graph(model: &Model, graph: &Graph, bindings: &[Binding]) -> Result<GraphProto, ModelError> {
    let stored: HashMap<&str, &Tensor> = graph.initializers.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut proto = GraphProto { name: "graph".into(), ..Default::default() };
    let mut names = Names::of(graph);
    for node in &graph.nodes {
        let chain = qoperator::expand(node, Form::Whole);
        for node in chain.as_deref().unwrap_or(std::slice::from_ref(node)) {
            match folded(model, &stored, node)? {
                Some(tensor) => proto.initializer.push(tensor),
                None => proto.node.push(node_proto(model, node, &mut names, bindings)?),
            }
        }
    }
    let outputs = graph.outputs.iter().map(|output| output.name.as_str());
    let used: HashSet<&str> =
        graph.nodes.iter().flat_map(|n| n.subgraphs()).flat_map(names_in).chain(outputs).collect();
    let read: HashSet<&str> = proto.node.iter().flat_map(|n| &n.input).map(String::as_str).chain(used).collect();
    let mut initializers = vec![];
    for tensor in graph.initializers.iter().filter(|t| read.contains(t.name.as_str())) {
        initializers.push(tensor_proto(model, tensor)?);
    }
    proto.initializer.append(&mut initializers);
    proto.input = graph.inputs.iter().map(|input| value_info(input, bindings)).collect();
    proto.output =
        graph.outputs.iter().map(|output| ValueInfoProto { name: output.name.clone(), ..Default::default() }).collect();
    Ok(proto)
}

/// Every name that a subgraph reads, its own or an outer one.
fn names_in(graph: &Graph) -> Vec<&str> {
    let own = graph.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str);
    let outputs = graph.outputs.iter().map(|output| output.name.as_str());
    let inner = graph.nodes.iter().flat_map(|node| node.subgraphs()).flat_map(names_in);
    own.chain(outputs).chain(inner).collect()
}

/// The value of a DequantizeLinear or a Centre whose inputs are all stored.
fn folded(model: &Model, stored: &HashMap<&str, &Tensor>, node: &Node) -> Result<Option<TensorProto>, ModelError> {
    if !matches!(node.op.as_str(), "DequantizeLinear" | "Centre") {
        return Ok(None);
    }
    let mut inputs = vec![];
    for name in &node.inputs {
        match stored.get(name.as_str()) {
            Some(tensor) => inputs.push(Some((*tensor, model.bytes(tensor)?))),
            None if name.is_empty() => inputs.push(None),
            None => return Ok(None),
        }
    }
    let input = |index: usize| inputs.get(index).copied().flatten();
    let (scale, zero_point) = if node.op == "Centre" { (None, input(1)) } else { (input(1), input(2)) };
    let Some(x) = input(0) else { return Ok(None) };
    let values = fold::dequantized(node, x, scale, zero_point);
    Ok(values.map(|values| TensorProto {
        name: node.outputs[0].clone(),
        dims: x.0.dims.iter().map(|&d| d as i64).collect(),
        data_type: DType::F32.to_onnx(),
        raw_data: bytemuck::cast_slice(&values).to_vec(),
        ..Default::default()
    }))
}

fn node_proto(model: &Model, node: &Node, names: &mut Names, bindings: &[Binding]) -> Result<NodeProto, ModelError> {
    // tract goes by names alone.
    if !node.is_onnx() {
        let Node { name, op, .. } = node;
        let what =
            format!("node `{name}`: operator {op} of domain `com.microsoft` has nothing in tract that computes it");
        return Err(model.error(Fault::unsupported(what)));
    }
    // tract has `pads` come before `auto_pad`.
    let counts = |a: &&Attribute| a.name != "pads" || node.explicit_pads().is_some();
    let attributes = node.attributes.iter().filter(counts);
    let attribute = attributes.map(|a| attribute_proto(model, a, bindings)).collect::<Result<_, _>>()?;
    Ok(NodeProto {
        name: names.unique(&node.name),
        op_type: node.op.clone(),
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        attribute,
        ..Default::default()
    })
}

fn attribute_proto(model: &Model, attribute: &Attribute, bindings: &[Binding]) -> Result<AttributeProto, ModelError> {
    let mut proto = AttributeProto { name: attribute.name.clone(), ..Default::default() };
    // AttributeProto.AttributeType
    match &attribute.value {
        AttributeValue::Float(value) => (proto.r#type, proto.f) = (1, *value),
        AttributeValue::Int(value) => (proto.r#type, proto.i) = (2, *value),
        AttributeValue::Text(text) => (proto.r#type, proto.s) = (3, text.clone().into_bytes()),
        AttributeValue::Tensor(tensor) => (proto.r#type, proto.t) = (4, Some(tensor_proto(model, tensor)?)),
        AttributeValue::Graph(inner) => (proto.r#type, proto.g) = (5, Some(graph(model, inner, bindings)?)),
        AttributeValue::Floats(values) => (proto.r#type, proto.floats) = (6, values.clone()),
        AttributeValue::Ints(values) => (proto.r#type, proto.ints) = (7, values.clone()),
        AttributeValue::Other(_) | AttributeValue::Unclear(_) => {
            let (name, kind) = (&attribute.name, attribute.value.kind());
            return Err(model.error(Fault::unsupported(format!("attribute `{name}` is {kind}"))));
        }
        AttributeValue::Texts(texts) => {
            (proto.r#type, proto.strings) = (8, texts.iter().map(|t| t.clone().into_bytes()).collect())
        }
    }
    Ok(proto)
}

fn tensor_proto(model: &Model, tensor: &Tensor) -> Result<TensorProto, ModelError> {
    Ok(TensorProto {
        name: tensor.name.clone(),
        dims: tensor.dims.iter().map(|&d| d as i64).collect(),
        data_type: tensor.dtype.to_onnx(),
        raw_data: model.bytes(tensor)?.to_vec(),
        ..Default::default()
    })
}

fn value_info(info: &ValueInfo, bindings: &[Binding]) -> ValueInfoProto {
    let dim = info.dims.iter().map(|dim| {
        let size = match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbol(symbol) => bindings.iter().find(|b| b.symbol == *symbol).map(|b| b.size),
        };
        Dimension { denotation: String::new(), value: size.map(|size| dimension::Value::DimValue(size as i64)) }
    });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor = type_proto::Tensor { elem_type: info.dtype.to_onnx(), shape: Some(shape) };
    let kind = TypeProto { denotation: String::new(), value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: info.name.clone(), r#type: Some(kind), ..Default::default() }
}

/// ONNX lets nodes share a name, with each other and with a tensor; in tract inputs and stored tensors are nodes too, and no
/// two have one name.
struct Names(HashMap<String, usize>);

impl Names {
    fn of(graph: &Graph) -> Names {
        let tensors = graph.initializers.iter().map(|t| &t.name).chain(graph.inputs.iter().map(|input| &input.name));
        Names(tensors.map(|name| (name.clone(), 1)).collect())
    }

    fn unique(&mut self, name: &str) -> String {
        let seen = self.0.entry(name.to_owned()).or_insert(0);
        *seen += 1;
        if *seen == 1 { name.to_owned() } else { format!("{name}#{seen}") }
    }
}
