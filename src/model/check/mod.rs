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
use super::graph::{Graph, Node, Tensor};

use signature::Signatures;

pub(super) use names::names;

/// Fetches the bytes of a tensor, wherever they lie.
pub(super) type Bytes<'a> = &'a dyn Fn(&Tensor) -> Result<Vec<u8>, Fault>;

/// Checks every node of the graph and its subgraphs.
pub(super) fn nodes(graph: &Graph, opset: i64, bytes: Bytes<'_>) -> Result<(), Fault> {
    each(graph, &Signatures::new(), opset, bytes)
}

fn each(graph: &Graph, signatures: &Signatures, opset: i64, bytes: Bytes<'_>) -> Result<(), Fault> {
    let stored: HashMap<&str, &Tensor> = graph.initializers.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut scales = HashSet::new();
    for node in &graph.nodes {
        attributes::check(node)?;
        signatures.check(node, opset)?;
        quant::check(&stored, node, bytes, &mut scales)?;
        node.subgraphs().try_for_each(|subgraph| each(subgraph, signatures, opset, bytes))?;
    }
    Ok(())
}

fn fault(node: &Node, what: impl Into<String>) -> Fault {
    Fault::Attribute { node: node.name.clone(), op: node.op.clone(), what: what.into() }
}
