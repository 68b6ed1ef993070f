//! Which nodes become integers: operators with weights, arithmetic between activations, and what only
//! moves elements between those. The clamp behind an operator goes into it, and a row that is added behind a MatMul.

mod find;
#[cfg(test)]
mod graphs;
mod idle;
mod moves;
mod types;
mod ways;

use std::collections::HashMap;

pub use find::find;
pub use moves::hands_on;

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
    /// The dimension of output channels of its weights, where it has some: stored ones, which its node reads second.
    pub weights: Option<usize>,
    /// Where its stored bias is read, or may be, by node and input: its own third, or what an Add right behind a MatMul
    /// adds to each row.
    pub bias: Option<(usize, usize)>,
    /// The tensor that is quantized behind it: that of the Add or the clamp that follows, where one does.
    pub output: String,
    /// The clamp that was folded in.
    pub clamp: Option<usize>,
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

impl Sites {
    /// Those with weights: the others compute in float.
    pub fn weights_alone(self) -> Sites {
        let (sites, others): (Vec<Site>, Vec<Site>) = self.sites.into_iter().partition(|site| site.weights.is_some());
        let float = |site: Site| (site.name, site.op, "it has no weights".to_owned());
        Sites { sites, moves: Vec::new(), kept: self.kept.into_iter().chain(others.into_iter().map(float)).collect() }
    }

    /// Those of which ONNX has an operator on integers: there is a MatMulInteger and a ConvInteger, and no other.
    pub fn with_integer_form(mut self) -> Sites {
        let (gone, sites): (Vec<Site>, Vec<Site>) = self.sites.into_iter().partition(|site| site.op == "ConvTranspose");
        let float = |site: Site| (site.name, site.op, "no ONNX operator computes it in integers".to_owned());
        self.kept.extend(gone.into_iter().map(float));
        Sites { sites, ..self }
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
