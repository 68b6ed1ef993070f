//! Small graphs for the tests of this folder.

use std::collections::HashSet;

use super::find;
use crate::onnx::f32s;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Nodes behind an input `x`, of which the last makes the output.
pub fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = vec![ValueInfoProto::untyped(node.last().map_or("", NodeProto::out))];
    let input = vec![ValueInfoProto::floats("x", &[1, 2])];
    ModelProto {
        graph: Some(GraphProto { node, input, output, initializer, ..GraphProto::default() }),
        ..ModelProto::default()
    }
}

/// Names of what becomes integers, and of what does not.
pub fn found(model: &ModelProto) -> (Vec<String>, Vec<String>) {
    let sites = find(model, &HashSet::new());
    let integers = sites.sites.into_iter().map(|site| site.name);
    (integers.collect(), sites.kept.into_iter().map(|(name, ..)| name).collect())
}

/// Square matrices of ones.
pub fn weights(names: &[&str]) -> Vec<TensorProto> {
    names.iter().map(|name| f32s(name, &[2, 2], &[1.0; 4])).collect()
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Scores of attention, and what they weigh.
pub fn attention(between: &[NodeProto]) -> ModelProto {
    let node = NodeProto::test;
    let layers = [node("MatMul", &["x", "w"], "q"), node("MatMul", &["x", "v"], "k"), node("MatMul", &["x", "u"], "h")];
    let moves = [node("Transpose", &["k"], "t"), node("Slice", &["q", "s", "s"], "p")];
    let behind = [node("Softmax", &["s4"], "e"), node("MatMul", &["e", "h"], "f"), node("MatMul", &["f", "w"], "y")];
    let stored = [weights(&["w", "v", "u", "m"]), vec![f32s("half", &[], &[0.5]), f32s("pair", &[2], &[0.5; 2])]];
    graph([&layers[..], &moves, between, &behind].concat(), stored.concat())
}
