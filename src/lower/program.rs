//! The ops of a plan before anything has a place in the arena: a tensor is a number and a length.

use std::collections::HashMap;

use tractlet_core::plan::{Op, Operand, Section};

use super::value::{Act, Layout};
use crate::model::DType;

pub(crate) type TensorId = usize;

/// Ops in execution order over tensors without a place. An op's [`Operand`]s, all in the arena for
/// now but for constants, hold a tensor's number where its offset will be.
#[derive(Clone, Default)]
pub(crate) struct Program {
    pub steps: Vec<Step>,
    pub inputs: Vec<Port>,
    /// Each a tensor of its own that steps write: no input, and no other output.
    pub outputs: Vec<Port>,
    /// Length of each tensor in bytes.
    pub tensors: Vec<usize>,
    /// Tensors that are a part of another: of which, and from which byte on.
    pub parts: HashMap<TensorId, (TensorId, usize)>,
    /// How it runs, if it is given only what is new of each window.
    pub hop: Option<Hop>,
    /// OHWI weights until they are packed: a convolution holds their number where their place will be.
    pub weights: Vec<Vec<i8>>,
}

impl Program {
    /// The number of these weights; layers that have the same share them.
    pub fn keep_weights(&mut self, weights: Vec<i8>) -> usize {
        self.weights.iter().position(|kept| *kept == weights).unwrap_or_else(|| {
            self.weights.push(weights);
            self.weights.len() - 1
        })
    }
}

/// A program that runs hop by hop.
#[derive(Clone)]
pub(crate) struct Hop {
    /// The dimension of its input that is time.
    pub axis: usize,
    /// Rows of a window along it.
    pub window_rows: usize,
    /// Tensors that it keeps from one run to the next.
    pub kept: Vec<TensorId>,
}

#[derive(Clone)]
pub(crate) struct Step {
    /// The model's node that it stands for.
    pub name: String,
    pub op: Op,
}

#[derive(Clone)]
pub(crate) struct Port {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub tensor: TensorId,
}

impl Program {
    pub(super) fn bytes(&mut self, dims: Vec<usize>, layout: Layout) -> Act {
        self.tensor(dims, layout, 1)
    }

    pub(super) fn floats(&mut self, dims: Vec<usize>, layout: Layout) -> Act {
        self.tensor(dims, layout, 4)
    }

    pub(super) fn tensor(&mut self, dims: Vec<usize>, layout: Layout, element_bytes: usize) -> Act {
        let tensor = self.tensors.len();
        self.tensors.push(dims.iter().product::<usize>() * element_bytes);
        Act { tensor, dims, layout }
    }

    /// The tensor as ops name it.
    pub(super) fn span(&self, act: &Act) -> Operand {
        Operand::arena(act.tensor, self.tensors[act.tensor])
    }

    /// The tensor in which another lies, and from which byte on.
    pub fn base(&self, tensor: TensorId) -> (TensorId, usize) {
        self.parts.get(&tensor).copied().unwrap_or((tensor, 0))
    }

    /// Whether the tensor outlasts a run.
    pub fn keeps(&self, tensor: TensorId) -> bool {
        self.hop.as_ref().is_some_and(|hop| hop.kept.contains(&tensor))
    }

    /// The same steps in another order.
    pub fn in_order(&self, order: &[usize]) -> Program {
        Program { steps: order.iter().map(|&step| self.steps[step].clone()).collect(), ..self.clone() }
    }

    pub(super) fn push(&mut self, name: &str, op: impl Into<Op>) {
        self.steps.push(Step { name: name.to_owned(), op: op.into() });
    }
}

/// Tensors that an op reads.
pub(crate) fn reads(op: &Op) -> impl Iterator<Item = TensorId> {
    op.inputs()
        .into_iter()
        .filter(|operand| operand.section == Section::Arena && operand.len > 0)
        .map(|operand| operand.offset)
}
