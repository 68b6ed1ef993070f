//! Moves: nodes that hand int8 elements on as they are.

use std::collections::{HashMap, HashSet};

use super::find::Finder;
use super::{Move, Site};
use crate::onnx::floats;
use crate::onnx::proto::{NodeProto, TensorProto};

/// Operators that move elements, whatever else they read.
const ALWAYS: [&str; 10] =
    ["GlobalMaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Expand"];

/// Those that do so where [`moves`] finds them fit, and those that are never taken for moves here.
const AT_TIMES: [&str; 10] = [
    "MaxPool",
    "Pad",
    "Gather",
    "Identity",
    "Dropout",
    "Tile",
    "GatherElements",
    "GatherND",
    "DepthToSpace",
    "SpaceToDepth",
];

impl Finder<'_> {
    /// Moves from int8 tensors to int8 tensors, in graph order.
    pub(super) fn moves(&self, sites: &[Site]) -> Vec<Move> {
        let read: HashSet<&str> =
            sites.iter().flat_map(|site| site.inputs.iter().map(|(_, name)| name.as_str())).collect();
        let written: HashSet<&str> = sites.iter().map(|site| site.output.as_str()).collect();
        let mut wanted: HashSet<&str> = read;
        let mut candidates = Vec::new();
        for (index, node) in self
            .nodes
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, node)| moves(node, &self.stored) && !self.keep.contains(node.title()))
        {
            let data = if node.op() == "Concat" { node.input.len() } else { 1 };
            let inputs: Vec<&str> = node.input.iter().take(data).map(String::as_str).collect();
            for output in node.output.iter().rev().map(String::as_str) {
                if wanted.contains(output) && !self.other.contains(output) {
                    wanted.extend(&inputs);
                    candidates.push((index, inputs.clone(), output));
                }
            }
        }
        candidates.reverse();
        let graph_inputs = |name: &str| !self.edges.producer.contains_key(name) && !self.stored.contains_key(name);
        let mut integers: HashSet<&str> = written;
        let mut moves = Vec::new();
        for (index, inputs, output) in candidates {
            // A constant among what a Concat joins is left to float.
            if inputs.iter().all(|name| integers.contains(name) || graph_inputs(name)) {
                integers.insert(output);
                let inputs = inputs.into_iter().map(str::to_owned).collect();
                moves.push(Move { node: index, inputs, output: output.to_owned() });
            }
        }
        moves
    }
}

/// Operators that hand elements on as they are. A maximum of integers is the maximum of what they stand for.
pub(super) fn moves(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> bool {
    match node.op() {
        "MaxPool" => node.output.len() == 1,
        "Pad" => pads_by_a_value(node) && !pads_by_another_than_zero(node, stored),
        // By stored indices: others may be anything.
        "Gather" => node.arg(1).is_some_and(|name| stored.contains_key(name)),
        op => ALWAYS.contains(&op),
    }
}

fn pads_by_a_value(node: &NodeProto) -> bool {
    node.op() == "Pad" && node.text("mode").is_none_or(|mode| mode == b"constant")
}

/// Of what a Pad puts around, only 0 is sure to be one of the values that integers stand for.
pub(super) fn pads_by_another_than_zero(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> bool {
    let value = |name| stored.get(name).and_then(|tensor| floats(tensor));
    pads_by_a_value(node) && node.arg(2).is_some_and(|name| value(name) != Some(vec![0.0]))
}

/// What an [`Engine`](crate::Engine) may do with integers as well as with what they stand for, whether it is a move here or
/// not: operators that hand elements on, and MaxPool, which hands on the greatest.
pub fn hands_on(op: &str) -> bool {
    ALWAYS.contains(&op) || AT_TIMES.contains(&op)
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::super::graphs::{graph, weights};
    use super::*;

    #[test]
    fn all_outputs_of_a_split_that_integers_read_are_moved() {
        let node = NodeProto::test;
        let mut split = node("Split", &["a"], "b");
        split.output.extend(["c".into(), "d".into()]);
        let behind = [node("MatMul", &["b", "c"], "e"), node("Sin", &["d"], "f"), node("MatMul", &["e", "w"], "y")];
        let model = graph([&[node("MatMul", &["x", "w"], "a"), split], &behind[..]].concat(), weights(&["w"]));
        let sites = find(&model, &HashSet::new());
        let moved: Vec<_> = sites.moves.iter().map(|m| (m.node, m.output.as_str())).collect();
        assert_eq!(moved, [(1, "b"), (1, "c")]);
        let tensors = sites.tensors();
        let leader = |name: &str| tensors.iter().find(|(tensor, _)| tensor == name).map(|(_, leader)| leader.clone());
        assert_eq!((leader("b"), leader("c"), leader("d")), (leader("a"), leader("a"), None));
    }
}
