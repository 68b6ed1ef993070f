//! Tensors that stay in float for where they come from, or for what they go into, however far that is.

use std::collections::{HashMap, HashSet};

use super::moves::{hands_on, pads_by_another_than_zero};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// Such tensors.
pub(super) struct Ways<'g> {
    /// Outputs of the graph, and what goes into them as it is.
    answers: HashSet<&'g str>,
    /// What a Pad puts another value than 0 around.
    padded: HashSet<&'g str>,
    /// What goes into a Softmax from where a mask may be added: values far below all others, beside which these would have
    /// no steps left.
    masked: HashSet<&'g str>,
    /// Squares of a tensor, and what they are handed on to.
    squares: HashSet<&'g str>,
    /// Of these, what goes into a mean.
    averaged: HashSet<&'g str>,
}

impl<'g> Ways<'g> {
    pub fn of(graph: &'g GraphProto, stored: &HashMap<&str, &TensorProto>) -> Ways<'g> {
        let nodes = &graph.node;
        let moved = |node: &NodeProto| hands_on(node.op());
        let answers = handed_to(nodes, moved, |_| false, graph.output_names().into_iter());
        let padded = handed_to(nodes, moved, |node| pads_by_another_than_zero(node, stored), std::iter::empty());
        let weighs = |node: &NodeProto| node.op() == "Softmax" && !answers.contains(node.out());
        let weighed = handed_to(nodes, keeps_far_values, weighs, std::iter::empty());
        let masks = |node: &&NodeProto| matches!(node.op(), "Add" | "Sub" | "Where") && weighed.contains(node.out());
        let masked = handed_on(nodes, keeps_far_values, nodes.iter().filter(masks).map(NodeProto::out));
        let squares = handed_on(nodes, moved, nodes.iter().filter(|node| is_square(node)).map(NodeProto::out));
        let is_power = |node: &NodeProto| is_mean(node.op()) && node.arg(0).is_some_and(|x| squares.contains(x));
        let averaged = handed_to(nodes, moved, is_power, std::iter::empty());
        Ways { answers, padded, masked, squares, averaged }
    }

    /// Whether a tensor is an output of the graph, or becomes one as it is.
    pub fn is_answer(&self, tensor: &str) -> bool {
        self.answers.contains(tensor)
    }

    /// Whether a tensor stays in float whatever makes it.
    pub fn holds(&self, tensor: &str) -> bool {
        self.padded.contains(tensor) || self.masked.contains(tensor)
    }

    /// Why a node stays in float that makes `output`, at its end or behind what is folded into it.
    pub fn why(&self, node: &NodeProto, output: &str) -> Option<&'static str> {
        let reads = |tensors: &HashSet<&str>| node.arg(0).is_some_and(|x| tensors.contains(x));
        if self.padded.contains(output) {
            return Some("a Pad of another value than 0 reads it");
        }
        if self.masked.contains(output) || (node.op() == "Softmax" && reads(&self.masked)) {
            return Some("it may be masked, for a Softmax");
        }
        let is_power =
            (is_square(node) && self.averaged.contains(output)) || (is_mean(node.op()) && reads(&self.squares));
        is_power.then_some("a mean of squares, which has no steps for what is quiet")
    }
}

/// Whether values that are far below all others are so in its output: it moves them, or adds, scales or limits.
fn keeps_far_values(node: &NodeProto) -> bool {
    matches!(node.op(), "Add" | "Sub" | "Mul" | "Div" | "Where" | "Clip" | "Min" | "Max") || hands_on(node.op())
}

/// Tensors that go through such nodes into what `ends` says of a tensor or of the node that reads it.
fn handed_to<'g>(
    nodes: &'g [NodeProto],
    through: impl Fn(&NodeProto) -> bool,
    ends: impl Fn(&NodeProto) -> bool,
    from: impl Iterator<Item = &'g str>,
) -> HashSet<&'g str> {
    let mut found: HashSet<&str> = from.collect();
    for node in nodes.iter().rev() {
        let hands_on = through(node) && node.output.iter().any(|output| found.contains(output.as_str()));
        if hands_on || ends(node) {
            found.extend(node.input.iter().map(String::as_str));
        }
    }
    found
}

/// These tensors, and all that they are handed on to through such nodes.
fn handed_on<'g>(
    nodes: &'g [NodeProto],
    through: impl Fn(&NodeProto) -> bool,
    from: impl Iterator<Item = &'g str>,
) -> HashSet<&'g str> {
    let mut found: HashSet<&str> = from.collect();
    for node in nodes {
        if through(node) && node.input.iter().any(|input| found.contains(input.as_str())) {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

/// Means, of a window or along dimensions.
pub(super) fn is_mean(op: &str) -> bool {
    matches!(op, "AveragePool" | "GlobalAveragePool" | "ReduceMean")
}

/// A product of a tensor by itself.
fn is_square(node: &NodeProto) -> bool {
    node.op() == "Mul" && node.arg(0).is_some() && node.arg(0) == node.arg(1)
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::super::graphs::{attention, found, graph, names, weights};
    use super::*;
    use crate::onnx::f32s;

    #[test]
    fn a_last_function_stays_in_float_whatever_moves_its_answers() {
        let nodes = vec![
            NodeProto::test("MatMul", &["x", "w"], "a"),
            NodeProto::test("Softmax", &["a"], "b"),
            NodeProto::test("Reshape", &["b", "s"], "c"),
        ];
        let model = graph([nodes, vec![NodeProto::test("Identity", &["c"], "y")]].concat(), weights(&["w"]));
        assert_eq!(found(&model).1[..1], names(&["b"]));
    }

    #[test]
    fn what_is_padded_with_a_value_stays_in_float() {
        let nodes = |value: f32| {
            let nodes = vec![
                NodeProto::test("MatMul", &["x", "w0"], "a"),
                NodeProto::test("Reshape", &["a", "s"], "b"),
                NodeProto::test("Pad", &["b", "pads", "value"], "c"),
                NodeProto::test("MatMul", &["c", "w1"], "y"),
            ];
            graph(nodes, [weights(&["w0", "w1"]), vec![f32s("value", &[], &[value])]].concat())
        };
        assert_eq!(found(&nodes(-2.0)), (names(&["y"]), names(&["a", "c"])));
        assert_eq!(found(&nodes(0.0)), (names(&["a", "y"]), names(&[])));
    }

    #[test]
    fn what_may_be_masked_before_a_softmax_stays_in_float() {
        let nodes = |mask: &[&str], between: &str| {
            vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("MatMul", &["x", "v"], "b"),
                NodeProto::test(mask[0], &mask[1..], "c"),
                NodeProto::test("Reshape", &["c", "s"], "d"),
                NodeProto::test("Softmax", &[between], "e"),
                NodeProto::test("Mul", &["e", "b"], "f"),
                NodeProto::test("MatMul", &["f", "u"], "y"),
            ]
        };
        let all = |nodes| found(&graph(nodes, weights(&["w", "v", "u", "m"])));
        let masks: [&[&str]; 4] =
            [&["Add", "a", "b"], &["Sub", "a", "b"], &["Add", "a", "m"], &["Where", "q", "a", "m"]];
        for mask in masks {
            for between in ["c", "d"] {
                assert_eq!(all(nodes(mask, between)), (names(&["a", "b", "f", "y"]), names(&["c", "e"])), "{mask:?}");
            }
        }
        // A product is no mask, and what reads the sum beside is none of the Softmax's.
        assert_eq!(all(nodes(&["Mul", "a", "b"], "c")).0, names(&["a", "b", "c", "e", "f", "y"]));
        let beside = find(&graph(nodes(&["Add", "a", "b"], "b"), weights(&["w", "v", "u"])), &HashSet::new()).kept;
        assert_eq!(beside, [("c".into(), "Add".into(), "what reads it is in float".into())]);
    }

    #[test]
    fn masked_scores_are_a_product_and_what_is_masked_stays_in_float() {
        let node = NodeProto::test;
        let model = attention(&[node("MatMul", &["p", "t"], "r"), node("Add", &["r", "m"], "s4")]);
        assert_eq!(found(&model), (names(&["q", "k", "h", "r", "f", "y"]), names(&["s4", "e"])));
        // A mask that is computed, and what is scaled or limited behind it.
        for behind in [["Mul", "half"], ["Div", "half"], ["Mul", "k"], ["Clip", "half"], ["Max", "half"]] {
            let masked = node("Add", &["r", "q"], "z");
            let between = [node("MatMul", &["p", "t"], "r"), masked, node(behind[0], &["z", behind[1]], "s4")];
            let (sites, kept) = found(&attention(&between));
            assert_eq!(sites, names(&["q", "k", "h", "r", "f", "y"]), "{behind:?}");
            assert_eq!(kept, names(&["z", "s4", "e"]), "{behind:?}");
        }
    }

    #[test]
    fn a_row_of_what_is_padded_or_masked_stays_beside_its_product() {
        let of = |reader: &[&str]| {
            let nodes = vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("Add", &["a", "row"], "b"),
                NodeProto::test(reader[0], &reader[1..], "c"),
                NodeProto::test("MatMul", &["c", "v"], "y"),
            ];
            let stored = vec![f32s("row", &[2], &[1.0; 2]), f32s("low", &[], &[-2.0])];
            found(&graph(nodes, [weights(&["w", "v"]), stored].concat()))
        };
        assert_eq!(of(&["Pad", "b", "pads", "low"]), (names(&["a", "y"]), names(&["b", "c"])));
        assert_eq!(of(&["Softmax", "b"]), (names(&["a", "y"]), names(&["b", "c"])));
        assert_eq!(of(&["Tanh", "b"]), (names(&["a", "c", "y"]), names(&[])));
    }

    #[test]
    fn a_mean_of_squares_stays_in_float() {
        let nodes = |factors: &[&str]| {
            let nodes = vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("Mul", factors, "b"),
                NodeProto::test("Reshape", &["b", "s"], "c"),
                NodeProto::test("ReduceMean", &["c"], "d"),
                NodeProto::test("MatMul", &["d", "v"], "y"),
            ];
            found(&graph(nodes, weights(&["w", "v"])))
        };
        assert_eq!(nodes(&["a", "a"]), (names(&["a", "y"]), names(&["b", "d"])));
        assert_eq!(nodes(&["a", "x"]).0, names(&["a", "b", "d", "y"]));
    }
}
