//! What a model costs to run and to store.

use std::collections::HashMap;

use super::channels::Channels;
use crate::onnx::proto::{ModelProto, data_type};
use crate::onnx::{dims, elements};

/// Multiply-adds of each layer with stored weights, as channels are removed.
pub struct Macs(Vec<Layer>);

/// A node's weights: at how many places they are used, and their dimensions.
struct Layer {
    node: usize,
    positions: u64,
    dims: Vec<usize>,
}

impl Macs {
    /// Of a model whose activations have these shapes.
    pub fn of(model: &ModelProto, shapes: &HashMap<String, Vec<usize>>) -> Macs {
        let stored = model.graph.as_ref().map(|graph| graph.stored()).unwrap_or_default();
        let layer = |(index, node): (usize, &crate::onnx::proto::NodeProto)| {
            let weights = dims(stored.get(node.arg(1)?)?);
            let out = shapes.get(node.out())?;
            let (places, channels) = match node.op() {
                "Conv" => (out, out.get(1)?),
                // There each place of the input is multiplied by all weights.
                "ConvTranspose" => {
                    let read = shapes.get(node.arg(0)?)?;
                    (read, read.get(1)?)
                }
                "Gemm" | "MatMul" => (out, out.last()?),
                _ => return None,
            };
            let positions = (places.iter().product::<usize>() / (*channels).max(1)) as u64;
            Some(Layer { node: index, positions, dims: weights })
        };
        Macs(model.nodes().iter().enumerate().filter_map(layer).collect())
    }

    /// In all, with these classes of channels removed.
    pub fn total(&self, channels: &Channels, removed: &[bool]) -> u64 {
        let of = |layer: &Layer| {
            let size = |(axis, &size): (usize, &usize)| match channels.cut(layer.node, 1, axis) {
                Some(cut) => channels.kept(&cut.atoms, removed).len() as u64,
                None => size as u64,
            };
            layer.positions * layer.dims.iter().enumerate().map(size).product::<u64>()
        };
        self.0.iter().map(of).sum()
    }
}

/// Stored float values of a model.
pub fn parameters(model: &ModelProto) -> usize {
    let stored = model.graph.iter().flat_map(|graph| &graph.initializer);
    stored.filter(|tensor| tensor.data_type == Some(data_type::FLOAT)).map(elements).sum()
}
