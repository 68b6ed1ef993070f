//! Channels taken out of a model: masked first, with every shape as it was, and cut off at last.

use std::collections::{BTreeMap, HashSet};

use super::channels::{Channels, Count, Cut, Role};
use crate::onnx::proto::ModelProto;
use crate::onnx::{dims, floats, i64s, integers, put, set, stored};

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
            Count::Shape(node, input, entry, atoms) => {
                let kept = channels.kept(atoms, removed).len();
                if kept == atoms.len() {
                    continue;
                }
                set_entry(model, (*node, *input), *entry, kept);
            }
            Count::Split(node, parts) => {
                let sizes: Vec<usize> = parts.iter().map(|atoms| channels.kept(atoms, removed).len()).collect();
                if sizes.iter().zip(parts).all(|(&size, atoms)| size == atoms.len()) {
                    continue;
                }
                let sizes: Vec<i64> = sizes.into_iter().map(|size| size as i64).collect();
                put(model, *node, 1, |name| i64s(name, &[sizes.len()], &sizes));
                // How many parts there are it may not say beside their sizes.
                let split = &mut model.graph_mut().node[*node];
                split.attribute.retain(|attribute| attribute.name.as_deref() != Some("num_outputs"));
            }
            Count::Slice(node, entry, before) => {
                let kept = [0, 1].map(|bound: usize| channels.kept(&before[bound], removed).len());
                if kept[0] == before[0].len() && kept[1] == before[1].len() {
                    continue;
                }
                (1..).zip(kept).for_each(|(input, kept)| set_entry(model, (*node, input), *entry, kept));
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

/// Writes one entry of the stored integers that a node reads.
fn set_entry(model: &mut ModelProto, (node, input): (usize, usize), entry: usize, value: usize) {
    let mut values = stored(model, node, input).and_then(integers).unwrap_or_default();
    values.iter_mut().skip(entry).take(1).for_each(|held| *held = value as i64);
    put(model, node, input, |name| i64s(name, &[values.len()], &values));
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
