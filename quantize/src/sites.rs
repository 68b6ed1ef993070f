//! Which nodes become integers: operators with weights, arithmetic between activations, and what only
//! moves elements between those. The clamp behind an operator goes into it.

use std::collections::{HashMap, HashSet};

use crate::onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Edges, dims, row};

/// A node that computes in integers.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its index in the graph.
    pub node: usize,
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Tensors that it reads as int8, by index of the input.
    pub inputs: Vec<(usize, String)>,
    /// Its weights, where it has some.
    pub weights: Option<Weights>,
    /// The tensor that is quantized behind it: that of the clamp that follows, where one does.
    pub output: String,
    /// The clamp that was folded in.
    pub clamp: Option<usize>,
}

/// Stored weights of a convolution or a matrix product.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The tensor's name.
    pub name: String,
    /// The dimension of output channels.
    pub axis: usize,
    /// The stored bias, where there is one.
    pub bias: Option<String>,
}

/// What of a graph is quantized.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// Nodes that compute, in graph order.
    pub sites: Vec<Site>,
    /// Nodes that move int8 elements, by index, with what they read and write.
    pub moves: Vec<Move>,
    /// Nodes that compute and stay in float, with the reason.
    pub kept: Vec<(String, String, String)>,
}

/// A node that only moves elements: what it writes has the scale of what it reads.
#[derive(Clone, Debug)]
pub struct Move {
    /// Its index in the graph.
    pub node: usize,
    /// Tensors that it reads; several of a Concat.
    pub inputs: Vec<String>,
    /// The tensor that it writes.
    pub output: String,
}

/// Operators that hand elements on as they are. A maximum of integers is the maximum of what they stand for.
fn moves(node: &NodeProto) -> bool {
    match node.op() {
        "MaxPool" => node.output.len() == 1,
        "Pad" => node.text("mode").is_none_or(|mode| mode == b"constant") && node.arg(2).is_none(),
        op => matches!(op, "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Concat"),
    }
}

/// Functions of one value, which are a table in int8.
fn is_table(op: &str) -> bool {
    matches!(op, "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Elu" | "Relu" | "Clip")
}

/// Finds what can be quantized in a prepared graph, less the nodes of these names.
pub fn find(model: &ModelProto, keep: &HashSet<&str>) -> Sites {
    let Some(graph) = &model.graph else {
        return Sites::default();
    };
    let (stored, edges) = (graph.stored(), Edges::of(model));
    let other = not_float(model);
    let finder = Finder { nodes: &graph.node, stored, edges, keep, other };
    let mut found = Sites::default();
    let mut folded = HashSet::new();
    // Nodes that stay in float: a clamp behind one of them is not worth an edge of integers.
    let mut floats = HashSet::new();
    for (index, node) in graph.node.iter().enumerate() {
        if folded.contains(&index) || moves(node) {
            continue;
        }
        let clamp = finder.clamp(node);
        let named = |index: usize| keep.contains(finder.nodes[index].title());
        let site = match named(index) || clamp.is_some_and(named) {
            true => Err("kept, as asked".into()),
            false => finder.site(index, node, clamp, &floats),
        };
        match site {
            Ok(site) => {
                folded.extend(site.clamp);
                found.sites.push(site);
            }
            Err(why) => {
                floats.insert(index);
                found.kept.push((node.title().into(), node.op_type.clone().unwrap_or_default(), why));
            }
        }
    }
    found.moves = finder.moves(&found.sites);
    found
}

struct Finder<'g> {
    nodes: &'g [NodeProto],
    stored: HashMap<&'g str, &'g TensorProto>,
    edges: Edges,
    keep: &'g HashSet<&'g str>,
    /// Tensors that are not float32.
    other: HashSet<String>,
}

impl Finder<'_> {
    fn site(
        &self,
        index: usize,
        node: &NodeProto,
        clamp: Option<usize>,
        floats: &HashSet<usize>,
    ) -> Result<Site, String> {
        if node.output.iter().chain(node.input.first()).any(|name| self.other.contains(name)) {
            return Err("its values are not float32".into());
        }
        if matches!(node.op(), "Relu" | "Clip")
            && let Some(maker) = node.arg(0).and_then(|name| self.edges.producer.get(name))
            && floats.contains(maker)
        {
            return Err("what it limits is in float".into());
        }
        let at_the_end = node.output.iter().any(|output| self.edges.is_output(output));
        let (inputs, weights) = match node.op() {
            "Conv" => (vec![0], Some(self.weights(node, 0, &[3, 4])?)),
            "Gemm"
                if node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0 || node.int("transA", 0) != 0 =>
            {
                return Err("it scales or transposes its operands".into());
            }
            "Gemm" => (vec![0], Some(self.weights(node, usize::from(node.int("transB", 0) == 0), &[2])?)),
            "MatMul" => (vec![0], Some(self.weights(node, 1, &[2])?)),
            "Add" | "Sub" | "Mul" => (self.operands(node)?, None),
            "AveragePool" | "GlobalAveragePool" | "ReduceMean" => (vec![0], None),
            "Softmax" | "Sigmoid" | "Tanh" if at_the_end => {
                return Err("a last function costs little, and its answers keep their precision".into());
            }
            "Softmax" => (vec![0], None),
            op if is_table(op) => (vec![0], None),
            _ => return Err("no int8 form".into()),
        };
        let name =
            |i: usize| node.arg(i).filter(|name| !self.stored.contains_key(name)).map(|name| (i, name.to_owned()));
        let inputs: Vec<_> = inputs.into_iter().filter_map(name).collect();
        if inputs.is_empty() {
            return Err("it works on constants".into());
        }
        let output = clamp.map_or(node.out(), |clamp| self.nodes[clamp].out()).to_owned();
        Ok(Site { node: index, name: node.title().into(), op: node.op().into(), inputs, weights, output, clamp })
    }

    /// The Relu or Clip that goes into an operator: its only reader.
    fn clamp(&self, node: &NodeProto) -> Option<usize> {
        let reader = self.edges.sole_reader(node.out())?;
        let next = self.nodes.get(reader)?;
        (next.arg(0) == Some(node.out()) && self.is_clamp(next) && !is_table(node.op())).then_some(reader)
    }

    /// Stored float weights of one of these ranks, and a bias that is stored too or not there.
    fn weights(&self, node: &NodeProto, axis: usize, ranks: &[usize]) -> Result<Weights, String> {
        let name = node.arg(1).ok_or("it has no weights")?;
        let tensor = self.stored.get(name).ok_or("its weights are computed")?;
        if tensor.data_type != Some(data_type::FLOAT) {
            return Err("its weights are not float32".into());
        }
        if !ranks.contains(&dims(tensor).len()) {
            return Err(format!("its weights have {} dimensions", dims(tensor).len()));
        }
        let channels = dims(tensor)[axis];
        let bias = match node.arg(2) {
            None => None,
            Some(bias) => {
                let tensor = self.stored.get(bias).ok_or("its bias is computed")?;
                if row(tensor, channels).is_none() {
                    return Err("its bias is not one float32 for each output channel".into());
                }
                Some(bias.to_owned())
            }
        };
        Ok(Weights { name: name.into(), axis, bias })
    }

    /// Both operands are activations: a stored one would have to be quantized as one.
    fn operands(&self, node: &NodeProto) -> Result<Vec<usize>, String> {
        let activation = |i: usize| node.arg(i).is_some_and(|name| !self.stored.contains_key(name));
        if activation(0) && activation(1) { Ok(vec![0, 1]) } else { Err("one operand is a constant".into()) }
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
        for (index, node) in
            self.nodes.iter().enumerate().rev().filter(|(_, node)| moves(node) && !self.keep.contains(node.title()))
        {
            if wanted.contains(node.out()) && !self.other.contains(node.out()) {
                let data = if node.op() == "Concat" { node.input.len() } else { 1 };
                let inputs: Vec<&str> = node.input.iter().take(data).map(String::as_str).collect();
                wanted.extend(&inputs);
                candidates.push((index, inputs));
            }
        }
        candidates.reverse();
        let graph_inputs = |name: &str| !self.edges.producer.contains_key(name) && !self.stored.contains_key(name);
        let mut integers: HashSet<&str> = written;
        let mut moves = Vec::new();
        for (index, inputs) in candidates {
            // A constant among what a Concat joins is left to float.
            if inputs.iter().all(|name| integers.contains(name) || graph_inputs(name)) {
                let output = self.nodes[index].out();
                integers.insert(output);
                let inputs = inputs.into_iter().map(str::to_owned).collect();
                moves.push(Move { node: index, inputs, output: output.to_owned() });
            }
        }
        moves
    }
}

/// Tensors that hold something else than float32, as far as types can be followed: an operator's first input decides
/// where the operator itself does not.
fn not_float(model: &ModelProto) -> HashSet<String> {
    let Some(graph) = &model.graph else { return HashSet::new() };
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let is_other = |kind: Option<i32>| kind.is_some_and(|kind| kind != data_type::FLOAT);
    let inputs = graph.input.iter().filter(|input| is_other(input.element_type())).map(|input| name(&input.name));
    let stored = graph.initializer.iter().filter(|tensor| is_other(tensor.data_type)).map(|tensor| name(&tensor.name));
    let mut other: HashSet<String> = inputs.chain(stored).collect();
    for node in &graph.node {
        let reads = |index: usize| node.arg(index).is_some_and(|name| other.contains(name));
        let is_other = match node.op() {
            "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "Equal" | "Greater" | "GreaterOrEqual" | "Less"
            | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN" | "IsInf" => true,
            "Cast" => node.int("to", 1) != i64::from(data_type::FLOAT),
            "ConstantOfShape" => {
                node.find("value").and_then(|value| value.t.as_ref()).is_some_and(|t| is_other(t.data_type))
            }
            "Where" => reads(1),
            "OneHot" => reads(2),
            _ => reads(0),
        };
        if is_other {
            other.extend(node.output.iter().cloned());
        }
        if node.op() == "TopK" {
            other.extend(node.output.get(1).cloned());
        }
    }
    other
}

impl Sites {
    /// Those with weights: the others compute in float.
    pub fn weights_alone(self) -> Sites {
        let (sites, others): (Vec<Site>, Vec<Site>) = self.sites.into_iter().partition(|site| site.weights.is_some());
        let float = |site: Site| (site.name, site.op, "it has no weights".to_owned());
        Sites { sites, moves: Vec::new(), kept: self.kept.into_iter().chain(others.into_iter().map(float)).collect() }
    }

    /// Every tensor that is int8, each with the one whose range it shares: what is moved keeps its scale.
    pub fn tensors(&self) -> Vec<(String, String)> {
        let mut order: Vec<&str> = Vec::new();
        let mut leader: HashMap<&str, &str> = HashMap::new();
        let all = self.sites.iter().flat_map(|site| site.inputs.iter().map(|(_, name)| name).chain([&site.output]));
        let moved = self.moves.iter().flat_map(|m| m.inputs.iter().chain([&m.output]));
        for name in all.chain(moved) {
            if leader.insert(name, name).is_none() {
                order.push(name);
            }
        }
        for group in &self.moves {
            let (Some(first), members) = (group.inputs.first(), group.inputs.iter().skip(1).chain([&group.output]))
            else {
                continue;
            };
            let first = leader[first.as_str()];
            for member in members {
                let old = leader[member.as_str()];
                leader.values_mut().filter(|value| **value == old).for_each(|value| *value = first);
            }
        }
        order.into_iter().map(|name| (name.to_owned(), leader[name].to_owned())).collect()
    }
}
