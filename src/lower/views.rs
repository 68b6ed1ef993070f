//! Operators that only move elements: they work on integers and floats alike, and most of them
//! move nothing.

use tractlet_core::plan::Fill;

use super::value::{Act, Layout, Value};
use super::{Lowering, Why, ints};
use crate::model::{DType, Node};

/// Whether an operator only hands elements on, whatever they are.
pub(crate) fn moves(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Dropout"
            | "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Concat"
            | "Pad"
            | "Slice"
            | "Split"
            | "Tile"
            | "Expand"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Scatter"
            | "ScatterElements"
            | "ScatterND"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "OneHot"
    )
}

impl<'m> Lowering<'m> {
    pub(super) fn view(&mut self, node: &Node) -> Result<(), Why> {
        let moved = match node.op.as_str() {
            "Identity" => self.value(node, 0)?,
            "Concat" => self.concat(node)?,
            "ScatterND" | "ScatterElements" | "Scatter" => self.scatter(node)?,
            "OneHot" => self.one_hot(node)?,
            op => {
                let value = self.movable(node, 0)?;
                let act = value.act().ok_or("it works on a constant")?.clone();
                let act = match op {
                    "Split" => return self.split(node, &value),
                    "Pad" => {
                        let padded = self.pad(node, value, act)?;
                        self.set(node, padded);
                        return Ok(());
                    }
                    "Dropout" => self.dropout(node, act)?,
                    "Slice" => self.slice(node, act)?,
                    "Tile" => self.tile(node, act)?,
                    "Expand" => self.expand(node, act)?,
                    "Gather" => self.gather(node, act)?,
                    "GatherElements" => self.gather_elements(node, act)?,
                    "GatherND" => self.gather_nd(node, act)?,
                    "DepthToSpace" | "SpaceToDepth" => self.depth_space(node, act)?,
                    "Transpose" => self.transpose(node, act)?,
                    _ => self.reshape(node, act)?,
                };
                value.with(act)
            }
        };
        self.set(node, moved);
        Ok(())
    }

    fn expand(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let dims = self.output_dims(node)?;
        self.expanded(&node.name, act, &dims)
    }

    /// Nothing is dropped, which the mask says too.
    fn dropout(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        self.hold_inference(node)?;
        if let Some(mask) = node.outputs.get(1).filter(|name| !name.is_empty()) {
            let kept = self.program.bytes(act.dims.clone(), Layout::Plain);
            let output = self.program.span(&kept);
            self.program.push(&node.name, Fill { output, element_bytes: 1, bits: 1 });
            self.values.insert(mask.clone(), Value::Raw(kept, DType::Bool));
        }
        Ok(act)
    }

    /// A Dropout that is told to train does drop.
    fn hold_inference(&self, node: &Node) -> Result<(), Why> {
        if node.input(2).is_none() {
            return Ok(());
        }
        match self.value(node, 2)? {
            Value::Stored(tensor) if self.model.bytes(tensor).is_ok_and(|bytes| bytes.iter().all(|b| *b == 0)) => {
                Ok(())
            }
            _ => Err("it may be told to train".into()),
        }
    }

    fn reshape(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let act = self.plain(&node.name, act)?;
        let dims = self.output_dims(node)?;
        Ok(act.viewed(dims, Layout::Plain))
    }

    fn transpose(&mut self, node: &Node, act: Act) -> Result<Act, Why> {
        let rank = act.dims.len();
        if rank < 2 {
            return Ok(act);
        }
        let perm: Vec<usize> = match ints(node, "perm") {
            Some(perm) => perm.iter().map(|&p| p as usize).collect(),
            None => (0..rank).rev().collect(),
        };
        let dims: Vec<usize> = perm.iter().map(|&p| act.dims[p]).collect();
        // Between NCHW and NHWC nothing moves: images lie channels-last anyway.
        let last: Vec<usize> = std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
        let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        if act.layout == Layout::ChannelsLast && perm == last {
            return Ok(act.viewed(dims, Layout::Plain));
        }
        if act.layout == Layout::Plain && matches!(rank, 3 | 4) && perm == first {
            return Ok(act.viewed(dims, Layout::ChannelsLast));
        }
        let act = self.plain(&node.name, act)?;
        self.permuted(&node.name, &act, &perm)
    }
}

/// Dimensions in the order in which elements lie, and where `axis` is among them.
pub(super) fn lying(dims: &[usize], layout: Layout, axis: usize) -> (Vec<usize>, usize) {
    match layout {
        Layout::Plain => (dims.to_vec(), axis),
        Layout::ChannelsLast => {
            let order: Vec<usize> = std::iter::once(0).chain(2..dims.len()).chain(std::iter::once(1)).collect();
            let at = order.iter().position(|&d| d == axis).unwrap_or(0);
            (order.iter().map(|&d| dims[d]).collect(), at)
        }
    }
}

impl<'m> Value<'m> {
    /// The same kind of value in another place.
    pub(super) fn with(&self, act: Act) -> Value<'m> {
        match self {
            Value::Integers(_, dtype) => Value::Integers(act, *dtype),
            Value::Dequantized(_, q) => Value::Dequantized(act, *q),
            Value::Raw(_, dtype) => Value::Raw(act, *dtype),
            _ => Value::Real(act),
        }
    }
}
