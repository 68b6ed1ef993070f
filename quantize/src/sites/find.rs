//! The nodes of a graph that can compute in integers, and those that can move them.

use std::collections::{HashMap, HashSet};

use super::{Move, Site, Sites, types};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Edges, dims, floats, row};

/// Finds what can be quantized in a prepared graph, less the nodes of these names.
pub fn find(model: &ModelProto, keep: &HashSet<&str>) -> Sites {
    let Some(graph) = &model.graph else {
        return Sites::default();
    };
    let (stored, edges) = (graph.stored(), Edges::of(model));
    let other = types::not_float(model);
    let moved = |node: &NodeProto| hands_on(node.op());
    let answers = handed_to(&graph.node, moved, |_| false, graph.output_names().into_iter());
    let padded = handed_to(&graph.node, moved, |node| pads_by_another_than_zero(node, &stored), std::iter::empty());
    let weighs = |node: &NodeProto| node.op() == "Softmax" && !answers.contains(node.out());
    let weighed = handed_to(&graph.node, keeps_far_values, weighs, std::iter::empty());
    let masks = |node: &&NodeProto| matches!(node.op(), "Add" | "Sub" | "Where") && weighed.contains(node.out());
    let masked = handed_on(&graph.node, keeps_far_values, graph.node.iter().filter(masks).map(NodeProto::out));
    let squares = handed_on(&graph.node, moved, graph.node.iter().filter(|node| is_square(node)).map(NodeProto::out));
    let is_power = |node: &NodeProto| is_mean(node.op()) && node.arg(0).is_some_and(|x| squares.contains(x));
    let averaged = handed_to(&graph.node, moved, is_power, std::iter::empty());
    let finder = Finder { nodes: &graph.node, stored, edges, keep, other, answers, padded, masked, squares, averaged };
    let mut found = Sites::default();
    let mut folded = HashSet::new();
    // Nodes that stay in float: a clamp behind one of them is not worth an edge of integers.
    let mut floats = HashSet::new();
    for (index, node) in graph.node.iter().enumerate() {
        if folded.contains(&index) || moves(node, &finder.stored) {
            continue;
        }
        let row = finder.added_row(node);
        let last = row.map_or(node, |(add, _)| &finder.nodes[add]);
        let clamp = finder.clamp(last);
        let named = |index: usize| keep.contains(finder.nodes[index].title());
        let site = match named(index) || clamp.is_some_and(named) {
            true => Err("kept, as asked".into()),
            false => finder.site(index, row, clamp, &floats),
        };
        match site {
            Ok(site) => {
                folded.extend(site.clamp.into_iter().chain(row.map(|(add, _)| add)));
                found.sites.push(site);
            }
            Err(why) => {
                floats.insert(index);
                found.kept.push((node.title().into(), node.op_type.clone().unwrap_or_default(), why));
            }
        }
    }
    finder.leave_idle(&mut found);
    found
}

struct Finder<'g> {
    nodes: &'g [NodeProto],
    stored: HashMap<&'g str, &'g TensorProto>,
    edges: Edges,
    keep: &'g HashSet<&'g str>,
    /// Tensors that are not float32.
    other: HashSet<String>,
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

impl Finder<'_> {
    fn site(
        &self,
        index: usize,
        row: Option<(usize, usize)>,
        clamp: Option<usize>,
        floats: &HashSet<usize>,
    ) -> Result<Site, String> {
        let node = &self.nodes[index];
        if node.output.iter().chain(node.input.first()).any(|name| self.other.contains(name)) {
            return Err("its values are not float32".into());
        }
        if matches!(node.op(), "Relu" | "Clip")
            && let Some(maker) = node.arg(0).and_then(|name| self.edges.producer.get(name))
            && floats.contains(maker)
        {
            return Err("what it limits is in float".into());
        }
        let last = clamp.or(row.map(|(add, _)| add)).unwrap_or(index);
        let output = self.nodes[last].out();
        if self.padded.contains(output) {
            return Err("a Pad of another value than 0 reads it".into());
        }
        if self.masked.contains(output)
            || (node.op() == "Softmax" && node.arg(0).is_some_and(|x| self.masked.contains(x)))
        {
            return Err("it may be masked, for a Softmax".into());
        }
        let reads_square = node.arg(0).is_some_and(|x| self.squares.contains(x));
        if (is_square(node) && self.averaged.contains(output)) || (is_mean(node.op()) && reads_square) {
            return Err("a mean of squares, which has no steps for what is quiet".into());
        }
        let (inputs, weights) = match node.op() {
            "Conv" => (vec![0], Some(self.weights(node, 0, &[3, 4])?)),
            // A scale for an entry of the second dimension would be that of a channel of each group.
            "ConvTranspose" if node.int("group", 1) != 1 => return Err("a transposed convolution in groups".into()),
            "ConvTranspose" => (vec![0], Some(self.weights(node, 1, &[3, 4])?)),
            "Gemm"
                if node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0 || node.int("transA", 0) != 0 =>
            {
                return Err("it scales or transposes its operands".into());
            }
            "Gemm" => (vec![0], Some(self.weights(node, usize::from(node.int("transB", 0) == 0), &[2])?)),
            "MatMul" if self.is_of_activations(node) => (vec![0, 1], None),
            "MatMul" => (vec![0], Some(self.weights(node, 1, &[2])?)),
            "Mul" | "Div" if self.scaled(node).is_some() => (self.scaled(node).into_iter().collect(), None),
            "Add" | "Sub" | "Mul" => (self.operands(node)?, None),
            op if is_mean(op) => (vec![0], None),
            "Softmax" | "Sigmoid" | "Tanh" if self.answers.contains(node.out()) => {
                return Err("a last function costs little, and its answers keep their precision".into());
            }
            "Softmax" => (vec![0], None),
            op if is_table(op) => (vec![0], None),
            "Einsum" => return Err("no product of rows by stored weights".into()),
            _ => return Err("not quantized here".into()),
        };
        let name =
            |i: usize| node.arg(i).filter(|name| !self.stored.contains_key(name)).map(|name| (i, name.to_owned()));
        let inputs: Vec<_> = inputs.into_iter().filter_map(name).collect();
        if inputs.is_empty() {
            return Err("it works on constants".into());
        }
        let (name, op, output) = (node.title().into(), node.op().into(), output.to_owned());
        let own = weights.filter(|_| node.op() != "MatMul").map(|_| (index, 2));
        Ok(Site { node: index, name, op, inputs, weights, bias: own.or(row), output, clamp })
    }

    /// Leaves in float what has no weights and lies between floats: there rounding to integers and back costs precision and
    /// time, and saves none. Finds the moves between what is left.
    fn leave_idle(&self, found: &mut Sites) {
        loop {
            let moves = self.moves(&found.sites);
            let outputs = found.sites.iter().map(|site| &site.output).chain(moves.iter().map(|m| &m.output));
            let made: HashSet<&String> = outputs.collect();
            let inputs = found.sites.iter().flat_map(|site| site.inputs.iter().map(|(_, name)| name));
            let read: HashSet<&String> = inputs.chain(moves.iter().flat_map(|m| &m.inputs)).collect();
            let why = |site: &Site| {
                let (name, mut inputs) = (&site.output, site.inputs.iter().map(|(_, name)| name));
                let in_float =
                    !read.contains(name) && !self.edges.readers(name).is_empty() && !self.edges.is_output(name);
                // A mean or a table of integers is cheap whoever reads it.
                let joins = matches!(site.op.as_str(), "Add" | "Sub" | "Mul") && site.inputs.len() > 1;
                if inputs.clone().all(|name| !made.contains(name) && self.edges.producer.contains_key(name)) {
                    Some("what it reads is in float")
                } else if in_float && (joins || inputs.any(|name| !made.contains(name))) {
                    Some("what reads it is in float")
                } else {
                    None
                }
            };
            let idle: Vec<Option<&str>> =
                found.sites.iter().map(|site| why(site).filter(|_| site.weights.is_none())).collect();
            if idle.iter().all(Option::is_none) {
                found.moves = moves;
                return;
            }
            let mut idle = idle.into_iter();
            let sites = std::mem::take(&mut found.sites);
            for site in sites {
                let Some(why) = idle.next().flatten() else {
                    found.sites.push(site);
                    continue;
                };
                if let Some(clamp) = site.clamp.map(|clamp| &self.nodes[clamp]) {
                    found.kept.push((clamp.title().into(), clamp.op().into(), "what it limits is in float".into()));
                }
                found.kept.push((site.name, site.op, why.into()));
            }
        }
    }

    /// The Add of a stored row that goes into a MatMul as its bias, and which of its operands that is. A Conv or a Gemm has
    /// taken it in before.
    fn added_row(&self, node: &NodeProto) -> Option<(usize, usize)> {
        let weights = node.arg(1).filter(|_| node.op() == "MatMul").and_then(|name| self.stored.get(name))?;
        let reader = self.edges.sole_reader(node.out())?;
        let add = self.nodes.get(reader).filter(|add| add.op() == "Add" && !self.keep.contains(add.title()))?;
        let operand = usize::from(add.arg(0) == Some(node.out()));
        row(self.stored.get(add.arg(operand)?)?, *dims(weights).get(1)?)?;
        let stays = [&self.masked, &self.padded].iter().any(|held| held.contains(add.out()));
        (!stays).then_some((reader, operand))
    }

    /// The Relu or Clip that goes into an operator: its only reader.
    fn clamp(&self, node: &NodeProto) -> Option<usize> {
        let reader = self.edges.sole_reader(node.out())?;
        let next = self.nodes.get(reader)?;
        (next.arg(0) == Some(node.out()) && self.is_clamp(next) && !is_table(node.op())).then_some(reader)
    }

    /// The dimension of output channels of weights that are stored float32 of one of these ranks, with a bias that is
    /// stored too or not there.
    fn weights(&self, node: &NodeProto, axis: usize, ranks: &[usize]) -> Result<usize, String> {
        let name = node.arg(1).ok_or("it has no weights")?;
        let tensor = self.held(name, "its weights are")?;
        if tensor.data_type != Some(data_type::FLOAT) {
            return Err("its weights are not float32".into());
        }
        if !ranks.contains(&dims(tensor).len()) {
            return Err(format!("its weights have {} dimensions", dims(tensor).len()));
        }
        // They may state any number of channels.
        if dims(tensor).contains(&0) {
            return Err("its weights have no elements".into());
        }
        let channels = dims(tensor)[axis];
        if let Some(bias) = node.arg(2) {
            let tensor = self.held(bias, "its bias is")?;
            row(tensor, channels).ok_or("its bias is not one float32 for each output channel")?;
        }
        Ok(axis)
    }

    /// A tensor that is stored, and stays as it is.
    fn held(&self, name: &str, what: &str) -> Result<&TensorProto, String> {
        let why = if self.edges.producer.contains_key(name) { "computed" } else { "an input, which may be given anew" };
        self.stored.get(name).copied().ok_or_else(|| format!("{what} {why}"))
    }

    /// Both operands are activations: a stored one would have to be quantized as one.
    fn operands(&self, node: &NodeProto) -> Result<Vec<usize>, String> {
        let activation = |i: usize| node.arg(i).is_some_and(|name| !self.stored.contains_key(name));
        if activation(0) && activation(1) { Ok(vec![0, 1]) } else { Err("one operand is a constant".into()) }
    }

    /// Whether neither operand is stored, nor the first an input that may be given anew with what is stored for it.
    fn is_of_activations(&self, node: &NodeProto) -> bool {
        (0..2).all(|i| {
            node.arg(i).is_some_and(|name| !self.stored.contains_key(name) && self.edges.producer.contains_key(name))
        })
    }

    /// The activation that a stored number alone multiplies or divides.
    fn scaled(&self, node: &NodeProto) -> Option<usize> {
        let number = |i: usize| {
            let tensor = self.stored.get(node.arg(i)?)?;
            matches!(floats(tensor).as_deref(), Some([x]) if x.is_finite() && dims(tensor).len() < 2).then_some(())
        };
        let activation = |i: usize| node.arg(i).is_some_and(|name| !self.stored.contains_key(name));
        match node.op() {
            _ if activation(0) && number(1).is_some() => Some(0),
            "Mul" if activation(1) && number(0).is_some() => Some(1),
            _ => None,
        }
    }

    /// A Relu, or a Clip by stored bounds.
    fn is_clamp(&self, node: &NodeProto) -> bool {
        let fixed = |index| node.arg(index).is_none_or(|name| self.stored.contains_key(name));
        node.op() == "Relu" || (node.op() == "Clip" && fixed(1) && fixed(2))
    }

    /// Moves from int8 tensors to int8 tensors, in graph order.
    fn moves(&self, sites: &[Site]) -> Vec<Move> {
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
fn moves(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> bool {
    match node.op() {
        "MaxPool" => node.output.len() == 1,
        "Pad" => pads_by_a_value(node) && !pads_by_another_than_zero(node, stored),
        // By stored indices: others may be anything.
        "Gather" => node.arg(1).is_some_and(|name| stored.contains_key(name)),
        op => matches!(
            op,
            "GlobalMaxPool"
                | "Reshape"
                | "Flatten"
                | "Squeeze"
                | "Unsqueeze"
                | "Transpose"
                | "Concat"
                | "Split"
                | "Slice"
                | "Expand"
        ),
    }
}

fn pads_by_a_value(node: &NodeProto) -> bool {
    node.op() == "Pad" && node.text("mode").is_none_or(|mode| mode == b"constant")
}

/// Of what a Pad puts around, only 0 is sure to be one of the values that integers stand for.
fn pads_by_another_than_zero(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> bool {
    let value = |name| stored.get(name).and_then(|tensor| floats(tensor));
    pads_by_a_value(node) && node.arg(2).is_some_and(|name| value(name) != Some(vec![0.0]))
}

/// What an [`Engine`](crate::Engine) may do with integers as well as with what they stand for, whether it is a move here or
/// not: operators that hand elements on, and MaxPool, which hands on the greatest.
pub fn hands_on(op: &str) -> bool {
    matches!(
        op,
        "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Concat"
            | "MaxPool"
            | "GlobalMaxPool"
            | "Pad"
            | "Identity"
            | "Dropout"
            | "Split"
            | "Slice"
            | "Tile"
            | "Expand"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "DepthToSpace"
            | "SpaceToDepth"
    )
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

fn is_mean(op: &str) -> bool {
    matches!(op, "AveragePool" | "GlobalAveragePool" | "ReduceMean")
}

/// A product of a tensor by itself.
fn is_square(node: &NodeProto) -> bool {
    node.op() == "Mul" && node.arg(0).is_some() && node.arg(0) == node.arg(1)
}

/// Functions of one value, which are a table in int8.
fn is_table(op: &str) -> bool {
    matches!(op, "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Elu" | "Relu" | "Clip")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::f32s;
    use crate::onnx::proto::{GraphProto, ValueInfoProto};

    fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
        let output = vec![ValueInfoProto::untyped(node.last().map_or("", NodeProto::out))];
        let input = vec![ValueInfoProto::floats("x", &[1, 2])];
        ModelProto {
            graph: Some(GraphProto { node, input, output, initializer, ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    /// Names of what becomes integers, and of what does not.
    fn found(model: &ModelProto) -> (Vec<String>, Vec<String>) {
        let sites = find(model, &HashSet::new());
        let integers = sites.sites.into_iter().map(|site| site.name);
        (integers.collect(), sites.kept.into_iter().map(|(name, ..)| name).collect())
    }

    fn weights(names: &[&str]) -> Vec<TensorProto> {
        names.iter().map(|name| f32s(name, &[2, 2], &[1.0; 4])).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

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

    /// Nothing is made for each of them: there are more than time has room for.
    #[test]
    fn weights_without_elements_have_no_channels() {
        let model =
            graph(vec![NodeProto::test("Conv", &["x", "w"], "y")], vec![f32s("w", &[usize::MAX >> 1, 0, 3, 3], &[])]);
        assert_eq!(found(&model), (names(&[]), names(&["y"])));
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

    /// Scores of attention, and what they weigh.
    fn attention(between: &[NodeProto]) -> ModelProto {
        let node = NodeProto::test;
        let layers =
            [node("MatMul", &["x", "w"], "q"), node("MatMul", &["x", "v"], "k"), node("MatMul", &["x", "u"], "h")];
        let moves = [node("Transpose", &["k"], "t"), node("Slice", &["q", "s", "s"], "p")];
        let behind =
            [node("Softmax", &["s4"], "e"), node("MatMul", &["e", "h"], "f"), node("MatMul", &["f", "w"], "y")];
        let stored = [weights(&["w", "v", "u", "m"]), vec![f32s("half", &[], &[0.5]), f32s("pair", &[2], &[0.5; 2])]];
        graph([&layers[..], &moves, between, &behind].concat(), stored.concat())
    }

    #[test]
    fn products_of_activations_are_integers_and_so_is_what_scales_them() {
        let node = NodeProto::test;
        for scale in [["Mul", "p", "half"], ["Mul", "half", "p"], ["Div", "p", "half"]] {
            let model = attention(&[node(scale[0], &scale[1..], "r"), node("MatMul", &["r", "t"], "s4")]);
            let sites = find(&model, &HashSet::new());
            assert_eq!(sites.kept, [], "{scale:?}");
            let of =
                |output: &str| sites.sites.iter().find(|site| site.output == output).map(|site| site.inputs.clone());
            let named =
                |names: &[(usize, &str)]| Some(names.iter().map(|(i, name)| (*i, (*name).to_owned())).collect());
            assert_eq!(of("s4"), named(&[(0, "r"), (1, "t")]));
            assert_eq!(of("r"), named(&[(usize::from(scale[1] == "half"), "p")]));
            assert_eq!(of("f"), named(&[(0, "e"), (1, "h")]));
            assert_eq!(sites.moves.iter().map(|m| m.output.as_str()).collect::<Vec<_>>(), ["t", "p"]);
        }
        // What is no number, and what a number is divided by, is none of that.
        let model = attention(&[node("Mul", &["p", "pair"], "r"), node("MatMul", &["r", "t"], "s4")]);
        assert_eq!(found(&model).1, names(&["r"]));
        let model = attention(&[node("Div", &["half", "p"], "r"), node("MatMul", &["r", "t"], "s4")]);
        assert_eq!(found(&model).1, names(&["r"]));
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

    #[test]
    fn what_lies_between_floats_stays_in_float() {
        // Sin has no form in integers.
        let layer = NodeProto::test("MatMul", &["x", "w"], "a");
        let behind =
            |nodes: &[NodeProto]| found(&graph([std::slice::from_ref(&layer), nodes].concat(), weights(&["w", "v"])));
        let node = NodeProto::test;
        // Float on either side, through what moves, and a chain of them.
        let chain = [
            node("Sin", &["a"], "b"),
            node("ReduceMean", &["b"], "c"),
            node("Reshape", &["c", "s"], "d"),
            node("Tanh", &["d"], "e"),
            node("Sin", &["e"], "y"),
        ];
        assert_eq!(behind(&chain).0, names(&["a"]));
        let sum = |reader: &str| {
            [
                node("Sin", &["a"], "b"),
                node("Add", &["a", "b"], "c"),
                node("Relu", &["c"], "d"),
                node(reader, &["d", "v"], "y"),
            ]
        };
        assert_eq!(behind(&sum("Pow")).0, names(&["a"]));
        assert_eq!(behind(&sum("MatMul")), (names(&["a", "c", "y"]), names(&["b"])));
        // Integers on one side.
        let mean = [node("ReduceMean", &["a"], "b"), node("Sin", &["b"], "y")];
        assert_eq!(behind(&mean).0, names(&["a", "b"]));
        assert_eq!(behind(&[node("Add", &["a", "a"], "y")]).0, names(&["a", "y"]));
        assert_eq!(
            found(&graph(vec![node("ReduceMean", &["x"], "a"), node("MatMul", &["a", "w"], "y")], weights(&["w"]))).0,
            names(&["a", "y"])
        );
        assert_eq!(
            found(&graph(vec![node("ReduceMean", &["x"], "a"), node("Sin", &["a"], "y")], vec![])).0,
            names(&[])
        );
    }

    #[test]
    fn a_row_behind_a_product_is_its_bias() {
        let nodes = |add: &[&str]| {
            vec![
                NodeProto::test("MatMul", &["x", "w"], "a"),
                NodeProto::test("Add", add, "b"),
                NodeProto::test("Relu", &["b"], "c"),
                NodeProto::test("MatMul", &["c", "v"], "y"),
            ]
        };
        let rows = [f32s("row", &[1, 1, 2], &[1.0; 2]), f32s("column", &[2, 1], &[1.0; 2])];
        let model = |add: &[&str]| graph(nodes(add), [weights(&["w", "v"]), rows.clone().into()].concat());
        for (add, operand) in [(["a", "row"], 1), (["row", "a"], 0)] {
            let sites = find(&model(&add), &HashSet::new());
            assert_eq!(sites.kept, []);
            let of = |site: &Site| (site.node, site.bias, site.clamp, site.output.clone());
            let found: Vec<_> = sites.sites.iter().map(of).collect();
            assert_eq!(found, [(0, Some((1, operand)), Some(2), "c".into()), (3, None, None, "y".into())]);
        }
        // By name it stays in float, and what is no row does.
        let kept = find(&model(&["a", "row"]), &HashSet::from(["b"]));
        assert_eq!((kept.sites[0].bias, kept.sites[0].output.as_str(), kept.kept.len()), (None, "a", 2));
        for add in [["a", "column"], ["a", "a"], ["a", "x"]] {
            assert_eq!(find(&model(&add), &HashSet::new()).sites[0].bias, None, "{add:?}");
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

    #[test]
    fn weights_that_a_caller_may_give_anew_stay_in_float() {
        let mut model = graph(vec![NodeProto::test("MatMul", &["x", "w"], "y")], weights(&["w"]));
        model.graph_mut().input.push(ValueInfoProto::floats("w", &[2, 2]));
        assert_eq!(find(&model, &HashSet::new()).kept[0].2, "its weights are an input, which may be given anew");
    }
}
