//! Names and edges: every tensor is defined once, before it is used (ONNX IR specification,
//! "Graphs": nodes are topologically sorted and in static single assignment form).

use std::collections::{HashMap, HashSet};

use crate::model::error::Fault;
use crate::model::graph::{Dim, Graph, Node, Tensor, ValueInfo};

/// Checks the names of a whole model.
pub fn names(graph: &Graph) -> Result<(), Fault> {
    if graph.outputs.is_empty() {
        return Err(Fault::graph("it has no outputs"));
    }
    scope(graph, None)
}

/// A QOperator node is spelled out over tensors that are named by its output and what they are, with `$` between. A model
/// with such names of its own would be answered with the wrong tensor.
fn derived(graph: &Graph) -> Result<(), Fault> {
    let spelled_out = |node: &&Node| node.op.starts_with("QLinear") || node.op == "QGemm";
    let quantized: HashSet<&str> =
        graph.nodes.iter().filter(spelled_out).flat_map(|n| n.outputs.iter().map(String::as_str)).collect();
    let made = graph.nodes.iter().flat_map(|n| &n.outputs);
    let names = made.chain(graph.initializers.iter().map(|t| &t.name)).chain(graph.inputs.iter().map(|i| &i.name));
    for name in names {
        if let Some((output, _)) = name.rsplit_once('$').filter(|(output, _)| quantized.contains(output)) {
            return Err(Fault::unsupported(format!(
                "tensor `{name}` is named as a step of what makes `{output}`; rename it"
            )));
        }
    }
    Ok(())
}

/// Tensors that are defined so far, in a graph and in those around it.
struct Scope<'p> {
    own: HashSet<&'p str>,
    outer: Option<&'p Scope<'p>>,
}

impl<'p> Scope<'p> {
    fn contains(&self, name: &str) -> bool {
        self.own.contains(name) || self.outer.is_some_and(|outer| outer.contains(name))
    }

    fn define(&mut self, name: &'p str, role: &str) -> Result<(), Fault> {
        if self.contains(name) {
            return Err(Fault::graph(format!("{role} `{name}` has the name of a tensor that is defined already")));
        }
        self.own.insert(name);
        Ok(())
    }
}

fn scope(graph: &Graph, outer: Option<&Scope<'_>>) -> Result<(), Fault> {
    derived(graph)?;
    let mut defined = Scope { own: HashSet::new(), outer };
    let mut initialized = HashMap::new();
    for tensor in &graph.initializers {
        if tensor.name.is_empty() {
            return Err(Fault::graph("an initializer has no name"));
        }
        defined.define(&tensor.name, "initializer")?;
        initialized.insert(tensor.name.as_str(), tensor);
    }
    let mut inputs = HashSet::new();
    for input in &graph.inputs {
        if input.name.is_empty() {
            return Err(Fault::graph("an input has no name"));
        }
        if !inputs.insert(input.name.as_str()) {
            return Err(Fault::graph(format!("input `{}` is declared twice", input.name)));
        }
        // Before IR version 4 an initializer was also an input.
        match initialized.get(input.name.as_str()) {
            Some(tensor) => stands_for(input, tensor)?,
            None => defined.define(&input.name, "input")?,
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        reads(graph, index, node, &defined)?;
        node.subgraphs().try_for_each(|subgraph| scope(subgraph, Some(&defined)))?;
        if node.outputs.iter().all(String::is_empty) {
            return Err(Fault::graph(format!("node `{}` ({}) has no outputs", node.name, node.op)));
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            defined.define(output, "node output")?;
        }
    }
    let mut outputs = HashSet::new();
    for output in &graph.outputs {
        if !defined.contains(&output.name) {
            return Err(Fault::graph(format!("output `{}` is declared, but nothing produces it", output.name)));
        }
        if !outputs.insert(output.name.as_str()) {
            return Err(Fault::graph(format!("output `{}` is declared twice", output.name)));
        }
    }
    Ok(())
}

/// What an input holds where nobody gives it is of its type and shape.
fn stands_for(input: &ValueInfo, tensor: &Tensor) -> Result<(), Fault> {
    let fits = |(dim, size): (&Dim, &usize)| !matches!(dim, Dim::Fixed(stated) if stated != size);
    let same_rank = input.dims.len() == tensor.dims.len();
    if input.dtype == tensor.dtype && same_rank && input.dims.iter().zip(&tensor.dims).all(fits) {
        return Ok(());
    }
    let (name, stated, stored) = (&input.name, input.dtype, tensor.dtype);
    let dims: Vec<String> = input.dims.iter().map(Dim::to_string).collect();
    Err(Fault::graph(format!(
        "input `{name}` is declared {stated} [{}], its initializer is {stored} {:?}",
        dims.join(", "),
        tensor.dims
    )))
}

fn reads(graph: &Graph, index: usize, node: &Node, defined: &Scope<'_>) -> Result<(), Fault> {
    let missing = node.inputs.iter().find(|name| !name.is_empty() && !defined.contains(name));
    let Some(name) = missing else { return Ok(()) };
    let Node { name: reader, op, .. } = node;
    let what = match graph.nodes.iter().skip(index).find(|later| later.outputs.contains(name)) {
        Some(later) if later.name == *reader => format!("node `{reader}` ({op}) reads its own output `{name}`"),
        Some(later) => format!(
            "node `{reader}` ({op}) reads `{name}`, which node `{}` makes only later; the graph has a cycle or is not topologically sorted",
            later.name
        ),
        None => format!("node `{reader}` ({op}) reads `{name}`, which nothing defines"),
    };
    Err(Fault::graph(what))
}
