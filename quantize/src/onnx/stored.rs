//! Stored tensors that nodes read, looked up and replaced.

use std::collections::HashSet;

use super::proto::{ModelProto, TensorProto};
use super::{Edges, Names, f32s};

/// The stored tensor that is an input of a node.
pub fn stored(model: &ModelProto, node: usize, input: usize) -> Option<&TensorProto> {
    let name = model.nodes().get(node)?.arg(input)?;
    model.graph.as_ref()?.initializer.iter().find(|tensor| tensor.name.as_deref() == Some(name))
}

/// Gives a node a stored float input with these values, as [`put`] does.
pub fn set(model: &mut ModelProto, node: usize, input: usize, shape: &[usize], values: &[f32]) {
    put(model, node, input, |name| f32s(name, shape, values));
}

/// Gives a node a stored input, in place of its own, or of one that it shares with others, which keep that.
///
/// # Panics
/// If the model has no such node.
#[expect(clippy::indexing_slicing, reason = "the number of a node is the caller's, who has found it in this model")]
pub fn put(model: &mut ModelProto, node: usize, input: usize, tensor: impl Fn(&str) -> TensorProto) {
    let old = model.nodes()[node].arg(input).map(str::to_owned);
    let given: HashSet<&str> =
        model.graph.iter().flat_map(|graph| &graph.input).filter_map(|input| input.name.as_deref()).collect();
    let edges = Edges::of(model);
    // A caller may hand in another in place of an initializer that is an input too, and sees one that is an output.
    let own = |name: &&str| edges.readers(name).len() == 1 && !edges.is_output(name) && !given.contains(name);
    let own = old.as_deref().filter(own);
    let name = match own {
        Some(name) => name.to_owned(),
        None => {
            let title = model.nodes()[node].title();
            let wanted = old.clone().unwrap_or_else(|| format!("{title}_bias"));
            Names::of(model).fresh(&wanted)
        }
    };
    let new = tensor(&name);
    let graph = model.graph_mut();
    match graph.initializer.iter_mut().find(|tensor| tensor.name.as_deref() == Some(name.as_str())) {
        Some(held) => *held = new,
        None => graph.initializer.push(new),
    }
    let inputs = &mut graph.node[node].input;
    if inputs.len() <= input {
        inputs.resize(input + 1, String::new());
    }
    inputs[input] = name;
}
