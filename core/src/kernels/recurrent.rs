//! Recurrent layers: one step after the other.
//!
//! What inputs add to gates was computed before, for all steps at once. A step adds what the state before it does, as a
//! fully connected layer whose bias that is, and then is element by element.

use crate::isa::Isa;
use crate::ops::{Activation, Cell, RecurrentF32};
use crate::shape::{ConvShape, Window};

use super::conv_f32::{self, ConvF32Args, Weights};
use super::exp::{sigmoid, tanh};
use super::lanes::each;
use super::per_isa::per_isa;

/// What a recurrent layer reads beside its op.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentArgs<'a> {
    /// `[steps, batch, gates * hidden]`.
    pub input: &'a [f32],
    /// `[batch, hidden]`; empty for zeros.
    pub state: &'a [f32],
    /// `[batch, hidden]`; empty for zeros.
    pub cell: &'a [f32],
    /// `[hidden, gates * hidden]`; of a [`Cell::Gru`] `[hidden, 2 * hidden]` and then `[hidden, hidden]`. Each matrix is in its
    /// [`order`].
    pub weights: &'a [f32],
    /// `[hidden]` of a [`Cell::GruResetAfter`].
    pub bias: &'a [f32],
    /// `[3, hidden]`, of the gates i, o and f of an LSTM; empty where there are none.
    pub peepholes: &'a [f32],
}

/// The order of the weights of a matrix: the value of the state that each is multiplied with, and the output that it adds to.
pub fn order(hidden: usize, outputs: usize) -> impl Iterator<Item = [usize; 2]> {
    conv_f32::order(&fully_connected(hidden, outputs)).map(|[_, input, output]| [input, output])
}

/// `f32` values of scratch: gates, a bias for them, the state before the first step, what is reset of a state, and the
/// cells.
pub fn scratch_len(op: &RecurrentF32) -> usize {
    let hidden = op.hidden;
    (2 * op.cell_kind.gates() + 2).saturating_mul(hidden).saturating_add(op.batch.saturating_mul(hidden))
}

/// Runs all steps. Slices have the lengths that the op states; `false` where its layers do not fit them.
pub fn run(isa: Isa, op: &RecurrentF32, args: &RecurrentArgs<'_>, output: &mut [f32], scratch: &mut [f32]) -> bool {
    let (hidden, gates) = (op.hidden, op.cell_kind.gates() * op.hidden);
    let (values, rest) = scratch.split_at_mut(gates);
    let (bias, rest) = rest.split_at_mut(gates);
    let (zeros, rest) = rest.split_at_mut(hidden);
    let (reset, cells) = rest.split_at_mut(hidden);
    zeros.fill(0.0);
    match args.cell {
        [] => cells.fill(0.0),
        cell => cells.copy_from_slice(cell),
    }
    let row = op.batch * hidden;
    let mut fits = true;
    for index in 0..op.steps {
        let step = if op.reverse { op.steps - 1 - index } else { index };
        for sample in 0..op.batch {
            let at = step * row + sample * hidden;
            let before = if op.reverse { at + row } else { at.wrapping_sub(row) };
            let (low, high) = output.split_at_mut(if op.reverse { at + hidden } else { at });
            let (state, y): (&[f32], &mut [f32]) = match (op.reverse, index) {
                (false, 0) => (first(args.state, sample, zeros), &mut high[..hidden]),
                (true, 0) => (first(args.state, sample, zeros), &mut low[at..]),
                (false, _) => (&low[before..][..hidden], &mut high[..hidden]),
                (true, _) => (&high[before - at - hidden..][..hidden], &mut low[at..]),
            };
            let input = &args.input[(step * op.batch + sample) * gates..][..gates];
            let mut layer = |state: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]| {
                let weights = Weights::Packed(weights);
                let args = ConvF32Args { input: state, weights, bias, min: f32::NEG_INFINITY, max: f32::INFINITY };
                fits &= conv_f32::run(isa, &fully_connected(hidden, y.len()), &args, y);
            };
            match op.cell_kind {
                Cell::Rnn => {
                    layer(state, args.weights, input, values);
                    rnn(isa, op, values, y);
                }
                Cell::Lstm => {
                    layer(state, args.weights, input, values);
                    lstm(isa, op, values, args.peepholes, &mut cells[sample * hidden..][..hidden], y);
                }
                Cell::Gru => {
                    let (gate_weights, weights) = args.weights.split_at(2 * hidden * hidden);
                    let (gate_values, values) = values.split_at_mut(2 * hidden);
                    layer(state, gate_weights, &input[..2 * hidden], gate_values);
                    gru_gates(isa, op, gate_values);
                    reset.iter_mut().zip(&gate_values[hidden..]).zip(state).for_each(|((x, r), h)| *x = r * h);
                    layer(reset, weights, &input[2 * hidden..], values);
                    gru(isa, op, &gate_values[..hidden], values, state, y);
                }
                Cell::GruResetAfter => {
                    bias[..2 * hidden].copy_from_slice(&input[..2 * hidden]);
                    bias[2 * hidden..].copy_from_slice(args.bias);
                    layer(state, args.weights, bias, values);
                    let (gate_values, values) = values.split_at_mut(2 * hidden);
                    gru_gates(isa, op, gate_values);
                    let parts = values.iter_mut().zip(&gate_values[hidden..]).zip(&input[2 * hidden..]);
                    parts.for_each(|((value, r), x)| *value = x + r * *value);
                    gru(isa, op, &gate_values[..hidden], values, state, y);
                }
            }
        }
    }
    if op.keeps_cell {
        output[op.steps * row..].copy_from_slice(cells);
    }
    fits
}

/// The state of one sample before the first step.
fn first<'a>(state: &'a [f32], sample: usize, zeros: &'a [f32]) -> &'a [f32] {
    match state {
        [] => zeros,
        state => &state[sample * zeros.len()..][..zeros.len()],
    }
}

fn fully_connected(in_c: usize, out_c: usize) -> ConvShape {
    let window = Window::pixels(1, in_c);
    ConvShape { window, out_c, groups: 1 }
}

per_isa! {
    fn rnn(op: &RecurrentF32, values: &mut [f32], y: &mut [f32]) {
        activate(values, op.activations[0], op.clip);
        y.copy_from_slice(values);
    }

    fn lstm(op: &RecurrentF32, values: &mut [f32], peepholes: &[f32], cell: &mut [f32], y: &mut [f32]) {
        let hidden = op.hidden;
        let [f, g, h] = op.activations;
        let (input, rest) = values.split_at_mut(hidden);
        let (output, rest) = rest.split_at_mut(hidden);
        let (forget, candidate) = rest.split_at_mut(hidden);
        let look = |gate: &mut [f32], cell: &[f32], which: usize| {
            if !peepholes.is_empty() {
                let weights = &peepholes[which * hidden..][..hidden];
                gate.iter_mut().zip(weights).zip(cell).for_each(|((gate, weight), c)| *gate += weight * c);
            }
        };
        look(input, cell, 0);
        look(forget, cell, 2);
        activate(input, f, op.clip);
        activate(candidate, g, op.clip);
        if op.couples {
            forget.iter_mut().zip(&*input).for_each(|(forget, input)| *forget = 1.0 - input);
        } else {
            activate(forget, f, op.clip);
        }
        for (((cell, forget), input), candidate) in cell.iter_mut().zip(&*forget).zip(&*input).zip(&*candidate) {
            *cell = forget * *cell + input * candidate;
        }
        look(output, cell, 1);
        activate(output, f, op.clip);
        y.copy_from_slice(cell);
        activate(y, h, f32::INFINITY);
        y.iter_mut().zip(&*output).for_each(|(y, output)| *y *= output);
    }

    fn gru_gates(op: &RecurrentF32, values: &mut [f32]) {
        activate(values, op.activations[0], op.clip);
    }

    fn gru(op: &RecurrentF32, update: &[f32], values: &mut [f32], state: &[f32], y: &mut [f32]) {
        activate(values, op.activations[1], op.clip);
        for (((y, update), value), state) in y.iter_mut().zip(update).zip(&*values).zip(state) {
            *y = (1.0 - update) * value + update * state;
        }
    }
}

/// `function` of values that are limited to `-clip..=clip` first.
#[inline(always)]
fn activate(values: &mut [f32], function: Activation, clip: f32) {
    if clip < f32::INFINITY {
        each!(values, |x| x.clamp(-clip, clip));
    }
    match function {
        Activation::Sigmoid => each!(values, |x| sigmoid(x)),
        Activation::Tanh => each!(values, |x| tanh(x)),
        Activation::Relu => each!(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::HardSigmoid => each!(values, |x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::kernels::noise::noise;
    use crate::plan::{ArenaSpan, DataSpan, Operand};

    fn exact_activation(function: Activation, x: f64) -> f64 {
        match function {
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.max(0.0),
            Activation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        }
    }

    /// ONNX's formulas, one value at a time, in double precision: states of all steps, then the last cells. `weights` are
    /// matrices row by row.
    fn exact(op: &RecurrentF32, args: &RecurrentArgs<'_>, weights: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (hidden, gates) = (op.hidden, op.cell_kind.gates());
        let start = |values: &[f32]| match values {
            [] => vec![0.0; op.batch * hidden],
            values => values.iter().map(|x| f64::from(*x)).collect(),
        };
        let (mut state, mut cell) = (start(args.state), start(args.cell));
        let mut all = vec![0.0; op.steps * op.batch * hidden];
        let [f, g, h] = op.activations.map(|function| move |x: f64| exact_activation(function, x));
        let limit = |x: f64| x.clamp(-f64::from(op.clip), f64::from(op.clip));
        for index in 0..op.steps {
            let step = if op.reverse { op.steps - 1 - index } else { index };
            let previous = state.clone();
            for (sample, unit) in (0..op.batch).flat_map(|s| (0..hidden).map(move |u| (s, u))) {
                let row = &previous[sample * hidden..][..hidden];
                let input =
                    |gate: usize| f64::from(args.input[((step * op.batch + sample) * gates + gate) * hidden + unit]);
                let product = |gate: usize, unit: usize, row: &[f64]| -> f64 {
                    let weight = |k: usize| match op.cell_kind {
                        Cell::Gru if gate < 2 => weights[k * 2 * hidden + gate * hidden + unit],
                        Cell::Gru => weights[2 * hidden * hidden + k * hidden + unit],
                        _ => weights[(k * gates + gate) * hidden + unit],
                    };
                    row.iter().enumerate().map(|(k, x)| x * f64::from(weight(k))).sum()
                };
                let at = sample * hidden + unit;
                let y = match op.cell_kind {
                    Cell::Rnn => f(limit(input(0) + product(0, unit, row))),
                    Cell::Lstm => {
                        let hole = |gate: usize, c: f64| {
                            args.peepholes.get(gate * hidden + unit).map_or(0.0, |p| f64::from(*p) * c)
                        };
                        let gate = |gate: usize| input(gate) + product(gate, unit, row);
                        let i = f(limit(gate(0) + hole(0, cell[at])));
                        let forget = if op.couples { 1.0 - i } else { f(limit(gate(2) + hole(2, cell[at]))) };
                        cell[at] = forget * cell[at] + i * g(limit(gate(3)));
                        f(limit(gate(1) + hole(1, cell[at]))) * h(cell[at])
                    }
                    Cell::Gru | Cell::GruResetAfter => {
                        let of_gate = |gate: usize, unit: usize| {
                            let input = args.input[((step * op.batch + sample) * gates + gate) * hidden + unit];
                            f(limit(f64::from(input) + product(gate, unit, row)))
                        };
                        let update = of_gate(0, unit);
                        let candidate = if op.cell_kind == Cell::Gru {
                            let reset: Vec<f64> = (0..hidden).map(|k| of_gate(1, k) * row[k]).collect();
                            input(2) + product(2, unit, &reset)
                        } else {
                            input(2) + of_gate(1, unit) * (product(2, unit, row) + f64::from(args.bias[unit]))
                        };
                        (1.0 - update) * g(limit(candidate)) + update * row[unit]
                    }
                };
                state[at] = y;
                all[step * op.batch * hidden + at] = y;
            }
        }
        (all, cell)
    }

    proptest! {
        #[test]
        fn agrees_with_the_formulas(
            kind in prop_oneof![Just(Cell::Rnn), Just(Cell::Lstm), Just(Cell::Gru), Just(Cell::GruResetAfter)],
            steps in 1usize..6, batch in 1usize..4, hidden in 1usize..20,
            (reverse, couples, starts, looks, hard) in any::<(bool, bool, bool, bool, bool)>(),
            clip in prop_oneof![Just(f32::INFINITY), Just(0.8)],
            seed: u32,
        ) {
            let gate = if hard { Activation::HardSigmoid } else { Activation::Sigmoid };
            let lstm = kind == Cell::Lstm;
            let op = RecurrentF32 {
                input: Operand::default(),
                state: Operand::default(),
                cell: Operand::default(),
                output: Operand::default(),
                cell_kind: kind,
                steps,
                batch,
                hidden,
                reverse,
                keeps_cell: lstm,
                weights: DataSpan::default(),
                bias: DataSpan::default(),
                peepholes: DataSpan::default(),
                activations: [gate, Activation::Tanh, if hard { Activation::Relu } else { Activation::Tanh }],
                clip,
                couples: couples && lstm,
                scratch: ArenaSpan::default(),
            };
            let gates = kind.gates();
            let input = noise(seed, steps * batch * gates * hidden);
            let weights = noise(seed ^ 0x5555, hidden * gates * hidden);
            let (first, second) = weights.split_at(if kind == Cell::Gru { 2 * hidden * hidden } else { weights.len() });
            let packed: Vec<f32> = [first, second]
                .into_iter()
                .flat_map(|matrix| {
                    let outputs = matrix.len() / hidden;
                    order(hidden, outputs).map(move |[input, output]| matrix[input * outputs + output])
                })
                .collect();
            let (state, cell) = (noise(seed ^ 1, batch * hidden), noise(seed ^ 2, batch * hidden));
            let (bias, peepholes) = (noise(seed ^ 3, hidden), noise(seed ^ 4, 3 * hidden));
            let args = RecurrentArgs {
                input: &input,
                state: if starts { &state } else { &[] },
                cell: if starts && lstm { &cell } else { &[] },
                weights: &packed,
                bias: if kind == Cell::GruResetAfter { &bias } else { &[] },
                peepholes: if looks && lstm { &peepholes } else { &[] },
            };
            let (mut expected, cells) = exact(&op, &args, &weights);
            if lstm {
                expected.extend(cells);
            }
            for isa in Isa::ALL {
                let mut y = vec![f32::NAN; expected.len()];
                let mut scratch = vec![f32::NAN; scratch_len(&op)];
                prop_assert!(run(isa, &op, &args, &mut y, &mut scratch));
                for (y, exact) in y.iter().zip(&expected) {
                    prop_assert!((f64::from(*y) - exact).abs() <= 1e-4 * (1.0 + exact.abs()), "{y} is not {exact}");
                }
            }
        }
    }
}
