//! Recurrent layers.

use super::{Operation, operands};
use crate::exec::memory::{Input, Memory, Output, cast, cast_mut};
use crate::isa::Isa;
use crate::kernels::recurrent::{self, RecurrentArgs};
use crate::plan::rules::{check_tensor, product, require};
use crate::plan::wire::{codes, record};
use crate::plan::{ArenaSpan, DType, DataSpan, Fault, FieldFault, Operand, Verifier};

codes! {
    /// How a recurrent layer makes its next state, in the terms of ONNX's operators.
    Cell {
        /// `f(x + R h)`
        Rnn = 0,
        /// Gates i, o, f and the candidate c, in that order.
        Lstm = 1,
        /// Gates z and r and the candidate h, which is `x + R (r * h)`.
        Gru = 2,
        /// Like [`Cell::Gru`], the candidate being `x + r * (R h + b)`: ONNX's `linear_before_reset`.
        GruResetAfter = 3,
    }
}

codes! {
    /// A function within a recurrent layer.
    #[derive(Default)]
    Activation {
        /// `1 / (1 + exp(-x))`
        #[default]
        Sigmoid = 0,
        /// Hyperbolic tangent.
        Tanh = 1,
        /// The larger one of `x` and 0.
        Relu = 2,
        /// `clamp(0.2 * x + 0.5, 0, 1)`
        HardSigmoid = 3,
    }
}

impl Cell {
    /// Gates with the candidate, each of which has as many values as the state.
    pub const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru | Self::GruResetAfter => 3,
        }
    }
}

record! {
    /// A layer whose state after each step is computed from the one before, as ONNX defines RNN, LSTM and GRU. Sums are
    /// in an order that differs between instruction sets.
    pub struct RecurrentF32 {
        /// f32 `[steps, batch, gates * hidden]`: what the inputs add to each gate, with all biases but `bias`.
        input: Operand,
        /// f32 `[batch, hidden]`: the state before the first step; empty for zeros.
        state: Operand,
        /// f32 `[batch, hidden]`: an LSTM's cells before the first step; empty for zeros.
        cell: Operand,
        /// f32 `[steps, batch, hidden]`: the state after each step; behind it `[batch, hidden]`, the cells after the
        /// last one, if it keeps them.
        output: Operand,
        /// How the next state is made.
        cell_kind: Cell,
        /// Steps.
        steps: usize,
        /// Independent sequences.
        batch: usize,
        /// Values of a state.
        hidden: usize,
        /// Whether the last step comes first.
        reverse: bool,
        /// Whether the last cells are part of the output.
        keeps_cell: bool,
        /// f32 `[hidden, gates * hidden]`; of a [`Cell::Gru`] `[hidden, 2 * hidden]` for its gates, and behind it
        /// `[hidden, hidden]`. Each matrix is in its [`order`](crate::kernels::recurrent::order).
        weights: DataSpan,
        /// f32 `[hidden]` of a [`Cell::GruResetAfter`], empty otherwise.
        bias: DataSpan,
        /// f32 `[3, hidden]`: what an LSTM's cells add to its gates i, o and f; empty where they do not.
        peepholes: DataSpan,
        /// Of the gates, of the candidate, and of an LSTM's cells.
        activations: [Activation; 3],
        /// What gates are limited to before their functions; infinite where they are not.
        clip: f32,
        /// Whether an LSTM forgets as much as it takes in: `f = 1 - i`.
        couples: bool,
        /// What the kernel works in; [`Op::with_scratch_at`](crate::plan::Op::with_scratch_at) places it.
        scratch: ArenaSpan,
    }
}

impl Operation for RecurrentF32 {
    operands!(input, state, cell => output, scratch);

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn constants(&self) -> [DataSpan; 3] {
        [self.weights, self.bias, self.peepholes]
    }

    fn macs(&self) -> u64 {
        let sizes = [self.steps, self.batch, self.hidden, self.cell_kind.gates(), self.hidden];
        sizes.iter().map(|&size| size as u64).product()
    }

    fn scratch_bytes(&self, _: Isa) -> usize {
        recurrent::scratch_len(self).saturating_mul(size_of::<f32>())
    }

    fn check(&self, plan: &Verifier<'_>) -> Result<(), FieldFault> {
        let Self { cell_kind, steps, batch, hidden, .. } = *self;
        let sizes = [("steps", steps), ("batch", batch), ("hidden", hidden)];
        sizes.iter().try_for_each(|(field, size)| require(*size > 0, field, Fault::OutOfRange))?;
        let gates = cell_kind.gates();
        check_tensor(plan, "input", self.input, &[steps, batch, gates, hidden], 4)?;
        let lstm = cell_kind == Cell::Lstm;
        for (field, operand, taken) in [("state", self.state, true), ("cell", self.cell, lstm)] {
            if operand.len > 0 {
                require(taken, field, Fault::OutOfRange)?;
                check_tensor(plan, field, operand, &[batch, hidden], 4)?;
            }
        }
        require(lstm || !(self.keeps_cell || self.couples), "keeps_cell", Fault::OutOfRange)?;
        check_tensor(plan, "output", self.output, &[steps + usize::from(self.keeps_cell), batch, hidden], 4)?;
        plan.block::<f32>("weights", self.weights, product("weights", &[hidden, gates, hidden])?)?;
        let biases = if cell_kind == Cell::GruResetAfter { hidden } else { 0 };
        plan.block::<f32>("bias", self.bias, biases)?;
        let peepholes = if lstm && self.peepholes.len > 0 { product("peepholes", &[3, hidden])? } else { 0 };
        plan.block::<f32>("peepholes", self.peepholes, peepholes)?;
        require(self.clip > 0.0, "clip", Fault::OutOfRange)
    }

    fn run<I: Input, O: Output>(&self, isa: Isa, memory: &mut Memory<'_, I, O>) -> Option<()> {
        let (rest, output, scratch) = memory.split_scratch(self.output, self.scratch)?;
        let args = RecurrentArgs {
            input: cast(rest.operand(self.input)?)?,
            state: cast(rest.operand(self.state)?)?,
            cell: cast(rest.operand(self.cell)?)?,
            weights: cast(rest.data(self.weights)?)?,
            bias: cast(rest.data(self.bias)?)?,
            peepholes: cast(rest.data(self.peepholes)?)?,
        };
        recurrent::run(isa, self, &args, cast_mut(output)?, cast_mut(scratch)?).then_some(())
    }
}
