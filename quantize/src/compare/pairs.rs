//! Which tensors of two models hold the same values.

use std::collections::{HashMap, HashSet};

use super::output_names;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::{Edges, floats};
use crate::scheme::Activations;

/// A tensor of the reference with the one that holds its values in the model.
pub struct Pair {
    /// The node that makes it in the reference, by its place.
    pub index: usize,
    pub tensor: String,
    pub seen: String,
    pub node: String,
    pub op: String,
    /// What the quantized tensor can hold.
    pub range: Option<Span>,
    /// Whether the caller sees it.
    pub is_output: bool,
}

/// The outputs, one by one: their names need not be the same.
pub fn outputs(reference: &ModelProto, model: &ModelProto) -> Vec<Pair> {
    let makers = Edges::of(reference).producer;
    let (edges, stored) = (Edges::of(model), stored(model));
    let pair = |(tensor, seen): (String, String)| {
        let index = makers.get(&tensor).copied().unwrap_or(0);
        let node = reference.nodes().get(index).filter(|node| node.output.contains(&tensor));
        let (node, op) = node.map_or(("", ""), |node| (node.title(), node.op()));
        let dequantizing = edges.producer.get(&seen).map(|&index| &model.nodes()[index]);
        let quantized = dequantizing.filter(|node| node.op() == "DequantizeLinear");
        let range = quantized.and_then(|node| span(node, &stored));
        Pair { index, node: node.into(), op: op.into(), tensor, seen, range, is_output: true }
    };
    output_names(reference).into_iter().zip(output_names(model)).map(pair).collect()
}

/// Tensors within that both have.
pub fn pairs(reference: &ModelProto, model: &ModelProto) -> Vec<Pair> {
    let (edges, stored) = (Edges::of(model), stored(model));
    let outputs: HashSet<String> = output_names(reference).into_iter().collect();
    let computes = |op: &str| !matches!(op, "Constant" | "Identity" | "Shape" | "DequantizeLinear" | "");
    let nodes = reference.nodes().iter().enumerate();
    nodes
        .filter(|(_, node)| computes(node.op()) && node.output.len() == 1 && !outputs.contains(node.out()))
        .filter_map(|(index, node)| {
            let tensor = node.out().to_owned();
            edges.producer.get(&tensor)?;
            let (seen, range) = match dequantized(&tensor, model, &edges, &stored) {
                Some(found) => found,
                None if goes_into_one_op(&tensor, model, &edges, &stored) => return None,
                None => (tensor.clone(), None),
            };
            let (node, op) = (node.title().into(), node.op().into());
            Some(Pair { index, tensor, seen, node, op, range, is_output: false })
        })
        .collect()
}

/// Whether a tensor is only there for a Relu or Clip behind it, or for the Add of a bias to what is quantized then. An engine
/// makes one op of both, and asking for what lies between would change how it computes.
fn goes_into_one_op(tensor: &str, model: &ModelProto, edges: &Edges, stored: &HashMap<&str, &TensorProto>) -> bool {
    let at = |index: usize| model.nodes().get(index);
    let Some(node) = edges.sole_reader(tensor).and_then(at) else { return false };
    let is_constant = |name: &str| {
        let maker = edges.producer.get(name).and_then(|&index| at(index));
        let source = maker.filter(|maker| maker.op() == "DequantizeLinear").and_then(|maker| maker.arg(0));
        stored.contains_key(source.unwrap_or(name))
    };
    match node.op() {
        "Relu" | "Clip" => true,
        "Add" => {
            let is_product = edges
                .producer
                .get(tensor)
                .and_then(|&index| at(index))
                .is_some_and(|maker| matches!(maker.op(), "MatMul" | "Gemm" | "Conv" | "ConvTranspose"));
            is_product
                && node.input.iter().any(|name| is_constant(name))
                && (dequantized(node.out(), model, edges, stored).is_some()
                    || goes_into_one_op(node.out(), model, edges, stored))
        }
        _ => false,
    }
}

/// The tensor behind `tensor → QuantizeLinear → DequantizeLinear`, and what it can hold.
fn dequantized(
    tensor: &str,
    model: &ModelProto,
    edges: &Edges,
    stored: &HashMap<&str, &TensorProto>,
) -> Option<(String, Option<Span>)> {
    let quantizing =
        edges.readers(tensor).iter().map(|&index| &model.nodes()[index]).find(|node| node.op() == "QuantizeLinear")?;
    let reader = edges.readers(quantizing.out()).first()?;
    let dequantizing = model.nodes().get(*reader).filter(|node| node.op() == "DequantizeLinear")?;
    Some((dequantizing.out().to_owned(), span(quantizing, stored)))
}

fn stored(model: &ModelProto) -> HashMap<&str, &TensorProto> {
    model.graph.as_ref().map(GraphProto::stored).unwrap_or_default()
}

/// What a tensor can hold that this node quantizes or dequantizes.
fn span(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> Option<Span> {
    let scale = node.arg(1).and_then(|name| stored.get(name)).and_then(|tensor| floats(tensor));
    match (scale.as_deref(), node.arg(2).and_then(|name| stored.get(name))) {
        (Some(&[scale]), Some(zero_point)) => bounds(zero_point).map(|(zero, (low, high))| Span {
            low: (low - zero) as f32 * scale,
            high: (high - zero) as f32 * scale,
            half: scale / 2.0,
        }),
        _ => None,
    }
}

/// The one zero point, and the ends of its type.
fn bounds(zero_point: &TensorProto) -> Option<(i32, (i32, i32))> {
    let number = match (zero_point.raw_data.as_deref(), zero_point.int32_data.as_slice()) {
        (Some(&[byte]), _) => u16::from(byte),
        (Some(&[low, high]), _) => u16::from_le_bytes([low, high]),
        (None, &[number]) => number as u16,
        _ => return None,
    };
    let (zero, activations) = match zero_point.data_type? {
        data_type::INT8 => (i32::from(number as i8), Activations::Int8),
        data_type::UINT8 => (i32::from(number as u8), Activations::Uint8),
        data_type::INT16 => (i32::from(number as i16), Activations::Int16),
        data_type::UINT16 => (i32::from(number), Activations::Uint16),
        _ => return None,
    };
    Some((zero, activations.bounds()))
}

/// The values that a quantized tensor holds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub low: f32,
    pub high: f32,
    /// Half a step: so far beyond the ends a value is rounded, not cut off.
    pub half: f32,
}

impl Span {
    pub fn cuts_off(self, value: f32) -> bool {
        value < self.low - self.half || value > self.high + self.half
    }

    /// Whether a value that it holds is one of the ends, where all lies that is cut off.
    pub fn is_end(self, value: f32) -> bool {
        value < self.low + self.half || value > self.high - self.half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::raw;

    #[test]
    fn zero_points_of_every_type_are_read() {
        let zero = |activations: Activations, number: i32| {
            let (kind, bytes) = activations.stored(number);
            bounds(&raw("zero", kind, &[], bytes))
        };
        assert_eq!(zero(Activations::Int8, -3), Some((-3, (-128, 127))));
        assert_eq!(zero(Activations::Uint8, 200), Some((200, (0, 255))));
        assert_eq!(zero(Activations::Int16, -300), Some((-300, (-32768, 32767))));
        assert_eq!(zero(Activations::Uint16, 40000), Some((40000, (0, 65535))));
    }
}
