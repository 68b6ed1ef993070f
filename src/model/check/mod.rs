//! What must hold of a graph whatever its shapes: names and edges ([`names`]), and each node's
//! inputs, attributes and quantization parameters ([`nodes`]). What depends on shapes is in
//! [`super::shape`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attributes;
mod names;
mod quant;
mod signature;

use std::collections::{HashMap, HashSet};

use super::error::Fault;
use super::graph::{AttributeValue, Graph, Node, Tensor};

pub(super) use names::names;
pub(super) use signature::types;

/// Fetches the bytes of a tensor, wherever they lie.
pub(super) type Bytes<'a> = &'a dyn Fn(&Tensor) -> Result<Vec<u8>, Fault>;

/// Checks every node of the graph and its subgraphs.
pub(super) fn nodes(graph: &Graph, opset: i64, bytes: Bytes<'_>) -> Result<(), Fault> {
    let initializers = graph.initializers.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let stored: HashMap<&str, &Tensor> = initializers.chain(graph.nodes.iter().filter_map(constant)).collect();
    let mut scales = HashSet::new();
    for node in &graph.nodes {
        attributes::check(node)?;
        signature::check(node, opset)?;
        quant::check(&stored, node, bytes, &mut scales)?;
        node.subgraphs().try_for_each(|subgraph| nodes(subgraph, opset, bytes))?;
    }
    Ok(())
}

/// What a Constant makes, where it is stored as a tensor.
fn constant(node: &Node) -> Option<(&str, &Tensor)> {
    match (node.op.as_str(), node.outputs.first(), node.attribute("value")) {
        ("Constant", Some(output), Some(AttributeValue::Tensor(tensor))) => Some((output, tensor)),
        _ => None,
    }
}

fn fault(node: &Node, what: impl Into<String>) -> Fault {
    Fault::Attribute { node: node.name.clone(), op: node.op.clone(), what: what.into() }
}
