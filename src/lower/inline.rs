//! The nodes that are lowered: those of the model, chains in the place of QOperators, and in the place of an If of which it is known
//! which branch runs, as PyTorch's exporter writes one for `squeeze`, the nodes of that branch.

use std::collections::HashSet;

use super::Refusal;
use crate::import::qoperator::{self, Form};
use crate::model::{Domain, Graph, Node, Shapes, Tensor};

/// A node of the model, or one of the chain that it stands for.
pub(super) enum Expanded<'m> {
    Own(&'m Node),
    Made {
        node: Node,
        /// The model's node that it came from.
        from: &'m Node,
    },
}

fn expanded(from: &Node) -> Vec<Expanded<'_>> {
    match qoperator::expand(from, Form::Qdq) {
        Some(chain) => chain.into_iter().map(|node| Expanded::Made { node, from }).collect(),
        None => vec![Expanded::Own(from)],
    }
}

impl Expanded<'_> {
    pub fn get(&self) -> &Node {
        match self {
            Expanded::Own(node) => node,
            Expanded::Made { node, .. } => node,
        }
    }

    pub fn origin(&self) -> &Node {
        match self {
            Expanded::Own(node) => node,
            Expanded::Made { from, .. } => from,
        }
    }
}

/// All of them, and what is stored for them.
#[derive(Default)]
pub(super) struct Inlined<'m> {
    pub nodes: Vec<Expanded<'m>>,
    pub initializers: Vec<&'m Tensor>,
    names: HashSet<&'m str>,
}

impl<'m> Inlined<'m> {
    pub fn new(graph: &'m Graph, shapes: &Shapes) -> Result<Inlined<'m>, Refusal> {
        let mut inlined = Inlined::default();
        inlined.add(graph, shapes)?;
        Ok(inlined)
    }

    fn add(&mut self, graph: &'m Graph, shapes: &Shapes) -> Result<(), Refusal> {
        self.initializers.extend(&graph.initializers);
        for node in &graph.nodes {
            node.outputs.iter().try_for_each(|output| self.name(output, node))?;
            let condition = node.input(0).and_then(|name| shapes.integers(name));
            let Some(branch) = condition.and_then(|condition| node.branch(condition)) else {
                self.nodes.extend(expanded(node));
                continue;
            };
            branch.initializers.iter().try_for_each(|tensor| self.name(&tensor.name, node))?;
            self.add(branch, shapes)?;
            self.nodes.extend(node.outputs.iter().zip(&branch.outputs).map(|(output, made)| Expanded::Made {
                node: Node {
                    name: node.name.clone(),
                    op: "Identity".into(),
                    domain: Domain::Onnx,
                    inputs: vec![made.name.clone()],
                    outputs: vec![output.clone()],
                    attributes: vec![],
                },
                from: node,
            }));
        }
        Ok(())
    }

    /// Branches may have names that other graphs have, too: in one graph each is one tensor's.
    fn name(&mut self, name: &'m str, node: &Node) -> Result<(), Refusal> {
        if name.is_empty() || self.names.insert(name) {
            return Ok(());
        }
        let why = format!("a branch and another graph each have a tensor `{name}`; export with a name for each");
        Err(Refusal { node: node.name.clone(), op: node.op.clone(), why })
    }
}
