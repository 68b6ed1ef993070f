//! Channels taken out of a model: masked first, with every shape as it was, and cut off at last.

use std::collections::{BTreeMap, HashSet};

use super::channels::{Channels, Count, Cut, Role};
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::onnx::{Edges, Names, dims, f32s, floats, i64s, integers};

/// Weights that read removed channels become zero, so that these count no more.
pub fn mask(model: &mut ModelProto, channels: &Channels, removed: &[bool]) {
    for cut in channels.cuts.iter().filter(|cut| cut.role == Role::Reads) {
        let gone = |entry: usize| removed[channels.class[cut.atoms[entry]]];
        let Some(tensor) = stored(model, cut.node, cut.input).filter(|_| (0..cut.atoms.len()).any(gone)) else {
            continue;
        };
        let (shape, mut values) = (dims(tensor), floats(tensor).unwrap_or_default());
        let inner: usize = shape[cut.axis + 1..].iter().product();
        for (index, value) in values.iter_mut().enumerate() {
            if gone(index / inner % shape[cut.axis]) {
                *value = 0.0;
            }
        }
        set(model, cut.node, cut.input, &shape, &values);
    }
}

/// Takes removed channels out of every stored tensor, and counts anew what counts them.
pub fn remove(model: &mut ModelProto, channels: &Channels, removed: &[bool]) {
    let mut by_input: BTreeMap<(usize, usize), Vec<&Cut>> = BTreeMap::new();
    channels.cuts.iter().for_each(|cut| by_input.entry((cut.node, cut.input)).or_default().push(cut));
    for ((node, input), cuts) in by_input {
        let shrinks = cuts.iter().any(|cut| channels.kept(&cut.atoms, removed).len() < cut.atoms.len());
        let Some(tensor) = stored(model, node, input).filter(|_| shrinks) else { continue };
        let (mut shape, mut values) = (dims(tensor), floats(tensor).unwrap_or_default());
        for cut in cuts {
            let mut kept = channels.kept(&cut.atoms, removed);
            // A convolution in groups reads the same entries in each of them.
            kept.retain(|&entry| entry < shape[cut.axis]);
            values = taken(&values, &shape, cut.axis, &kept);
            shape[cut.axis] = kept.len();
        }
        set(model, node, input, &shape, &values);
    }
    for count in &channels.counts {
        match count {
            Count::Groups(node, atoms) => {
                model.graph_mut().node[*node].set_int("group", channels.kept(atoms, removed).len() as i64);
            }
            Count::Shape(node, entry, atoms) => {
                let kept = channels.kept(atoms, removed).len();
                if kept == atoms.len() {
                    continue;
                }
                let mut shape = stored(model, *node, 1).and_then(integers).unwrap_or_default();
                shape.iter_mut().skip(*entry).take(1).for_each(|size| *size = kept as i64);
                put(model, *node, 1, |name| i64s(name, &[shape.len()], &shape));
            }
        }
    }
    let changed: HashSet<&str> = channels
        .tensors
        .iter()
        .filter(|(_, features)| features.atoms.iter().any(|&atom| removed[channels.class[atom]]))
        .map(|(name, _)| name.as_str())
        .collect();
    let graph = model.graph_mut();
    graph.value_info.retain(|info| info.name.as_deref().is_none_or(|name| !changed.contains(name)));
    graph.sweep();
}

/// Entries of one dimension of a row-major tensor.
fn taken(values: &[f32], shape: &[usize], axis: usize, kept: &[usize]) -> Vec<f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let block = shape[axis] * inner;
    if block == 0 {
        return vec![];
    }
    values
        .chunks(block)
        .flat_map(|block| kept.iter().flat_map(move |entry| &block[entry * inner..(entry + 1) * inner]))
        .copied()
        .collect()
}

/// The stored tensor that is an input of a node.
pub fn stored(model: &ModelProto, node: usize, input: usize) -> Option<&TensorProto> {
    let name = model.nodes().get(node)?.arg(input)?;
    model.graph.as_ref()?.initializer.iter().find(|tensor| tensor.name.as_deref() == Some(name))
}

/// Gives a node a stored float input with these values.
pub fn set(model: &mut ModelProto, node: usize, input: usize, shape: &[usize], values: &[f32]) {
    put(model, node, input, |name| f32s(name, shape, values));
}

/// Gives a node a stored input, in place of its own, or of one that it shares with others, which keep that.
fn put(model: &mut ModelProto, node: usize, input: usize, tensor: impl Fn(&str) -> TensorProto) {
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
