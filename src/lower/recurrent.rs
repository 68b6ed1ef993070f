//! RNN, LSTM and GRU: what inputs add to the gates of all steps in one fully connected layer, then the steps.

use tractlet_core::kernels::{conv_f32, recurrent};
use tractlet_core::plan::{Activation, ArenaSpan, Cell, ConvF32, DataSpan, Operand, RecurrentF32, StridedCopy};
use tractlet_core::shape::{ConvShape, Window};

use super::constant::normal;
use super::edges::{padded, row_major};
use super::fold::strided;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, int, number};
use crate::model::{AttributeValue, Node};

/// Sizes of a recurrent layer, and how its tensors lie.
struct Sizes {
    cell: Cell,
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    directions: usize,
    /// The batch comes first: ONNX's layout 1.
    batch_first: bool,
}

impl<'m> Lowering<'m> {
    pub(super) fn recurrent_f32(&mut self, node: &Node) -> Result<(), Why> {
        let real = self.real(&node.name, &self.value(node, 0)?)?;
        let act = self.plain(&node.name, real)?;
        let sizes = self.sizes(node, &act)?;
        let Sizes { steps, batch, hidden, .. } = sizes;
        self.hold_whole_sequences(node, steps)?;
        let act = if sizes.batch_first { self.permuted(&node.name, &act, &[1, 0, 2])? } else { act };
        let keeps_cell = sizes.cell == Cell::Lstm && self.is_read(node, 2);
        let reversed = match node.attribute("direction") {
            Some(AttributeValue::Text(text)) => text == "reverse",
            _ => false,
        };
        let mut made = vec![];
        for direction in 0..sizes.directions {
            let input = self.gate_inputs(node, &sizes, &act, direction)?;
            let output = self.program.floats(vec![steps + usize::from(keeps_cell), batch, hidden], Layout::Plain);
            let reverse = reversed || direction == 1;
            let op = RecurrentF32 {
                input: self.program.span(&input),
                state: self.initial(node, &sizes, 5, direction)?,
                cell: if sizes.cell == Cell::Lstm {
                    self.initial(node, &sizes, 6, direction)?
                } else {
                    Operand::default()
                },
                output: self.program.span(&output),
                cell_kind: sizes.cell,
                steps,
                batch,
                hidden,
                reverse,
                keeps_cell,
                weights: self.recurrence(node, &sizes, direction)?,
                bias: match self.parameter(node, 3, direction)? {
                    // Behind those of the inputs, and there the last.
                    Some(biases) if sizes.cell == Cell::GruResetAfter => self.builder.data(&biases[5 * hidden..]),
                    None if sizes.cell == Cell::GruResetAfter => self.builder.data(&vec![0f32; hidden]),
                    _ => DataSpan::default(),
                },
                peepholes: match self.parameter(node, 7, direction)? {
                    Some(weights) => self.builder.data(&weights),
                    None => DataSpan::default(),
                },
                activations: activations(node, sizes.cell, direction)?,
                clip: number(node, "clip", f32::INFINITY),
                couples: int(node, "input_forget", 0) != 0,
                scratch: ArenaSpan::default(),
            };
            self.program.push(&node.name, op);
            made.push((output, reverse));
        }
        self.outputs_of(node, &sizes, &made);
        Ok(())
    }

    fn sizes(&self, node: &Node, act: &Act) -> Result<Sizes, Why> {
        let (_, dims) = self.floats_of(&self.value(node, 2)?)?;
        let (&[directions, _, hidden], &[first, second, inputs]) = (dims.as_slice(), act.dims.as_slice()) else {
            return Err("its input and weights must have three dimensions".into());
        };
        let cell = match node.op.as_str() {
            "LSTM" => Cell::Lstm,
            "GRU" if int(node, "linear_before_reset", 0) != 0 => Cell::GruResetAfter,
            "GRU" => Cell::Gru,
            _ => Cell::Rnn,
        };
        let batch_first = int(node, "layout", 0) != 0;
        let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
        Ok(Sizes { cell, steps, batch, inputs, hidden, directions, batch_first })
    }

    fn hold_whole_sequences(&self, node: &Node, steps: usize) -> Result<(), Why> {
        if node.input(4).is_none() {
            return Ok(());
        }
        let lengths = match self.value(node, 4)? {
            Value::Known(values) => Some(values.to_vec()),
            Value::Stored(tensor) => Some(self.stored_integers(tensor)?.into_iter().map(i64::from).collect()),
            _ => None,
        };
        match lengths {
            Some(lengths) if lengths.iter().all(|length| usize::try_from(*length) == Ok(steps)) => Ok(()),
            _ => Err("sequences shorter than their tensor are not taken".into()),
        }
    }

    /// What the inputs add to each gate, with all biases that are added at once.
    fn gate_inputs(&mut self, node: &Node, sizes: &Sizes, act: &Act, direction: usize) -> Result<Act, Why> {
        let Sizes { cell, steps, batch, inputs, hidden, .. } = *sizes;
        let gates = cell.gates() * hidden;
        let weights = self.parameter(node, 1, direction)?.ok_or("its weights are left out")?;
        let shape = ConvShape { window: Window::pixels(steps * batch, inputs), out_c: gates, groups: 1 };
        let weights = conv_f32::order(&shape).map(|[_, input, gate]| weights[gate * inputs + input]);
        let mut bias = vec![0.0; gates];
        if let Some(biases) = self.parameter(node, 3, direction)? {
            let (own, of_state) = biases.split_at(gates);
            let added = if cell == Cell::GruResetAfter { 2 * hidden } else { gates };
            bias.copy_from_slice(own);
            bias.iter_mut().zip(&of_state[..added]).for_each(|(bias, more)| *bias += more);
        }
        let output = self.program.floats(vec![steps, batch, gates], Layout::Plain);
        let op = ConvF32 {
            input: self.program.span(act),
            output: self.program.span(&output),
            shape,
            weights: self.builder.data_of(weights),
            bias: self.builder.data(&bias),
            min: f32::NEG_INFINITY,
            max: f32::INFINITY,
        };
        self.program.push(&node.name, op);
        Ok(output)
    }

    /// The weights that a state is multiplied with, as the op has them.
    fn recurrence(&mut self, node: &Node, sizes: &Sizes, direction: usize) -> Result<DataSpan, Why> {
        let (hidden, gates) = (sizes.hidden, sizes.cell.gates() * sizes.hidden);
        let weights = self.parameter(node, 2, direction)?.ok_or("its weights are left out")?;
        let packed = |weights: &[f32]| -> Vec<f32> {
            recurrent::order(hidden, weights.len() / hidden).map(|[from, to]| weights[to * hidden + from]).collect()
        };
        let weights = match sizes.cell {
            // The candidate's product comes after its gates are known.
            Cell::Gru => {
                let (of_gates, of_candidate) = weights.split_at(2 * hidden * hidden);
                [packed(of_gates), packed(of_candidate)].concat()
            }
            _ => packed(&weights),
        };
        debug_assert_eq!(weights.len(), hidden * gates);
        Ok(self.builder.data(&weights))
    }

    /// One direction of a stored parameter; `None` where it is left out.
    fn parameter(&self, node: &Node, index: usize, direction: usize) -> Result<Option<Vec<f32>>, Why> {
        if node.input(index).is_none() {
            return Ok(None);
        }
        let (values, dims) = self.floats_of(&self.value(node, index)?)?;
        let each = values.len() / dims.first().copied().unwrap_or(1).max(1);
        Ok(Some(values[direction * each..][..each].iter().copied().map(normal).collect()))
    }

    /// A direction of the state before the first step, or of the cells; empty for zeros.
    fn initial(&mut self, node: &Node, sizes: &Sizes, index: usize, direction: usize) -> Result<Operand, Why> {
        if node.input(index).is_none() {
            return Ok(Operand::default());
        }
        let Sizes { batch, hidden, directions, batch_first, .. } = *sizes;
        // Of [directions, batch, hidden], or with the batch in front.
        let (start, strides) = if batch_first {
            (direction * hidden, [directions * hidden, 1])
        } else {
            (direction * batch * hidden, [hidden, 1])
        };
        let value = self.value(node, index)?;
        if value.is_constant() {
            let (values, _) = self.floats_of(&value)?;
            let values = strided(&values[start..], &[batch, hidden], &strides);
            let zero = values.iter().all(|x| *x == 0.0);
            return Ok(if zero { Operand::default() } else { self.builder.data(&values).into() });
        }
        let real = self.real(&node.name, &value)?;
        let act = self.plain(&node.name, real)?;
        if directions == 1 {
            return Ok(self.program.span(&act));
        }
        let part = self.program.floats(vec![batch, hidden], Layout::Plain);
        self.copy_rows(node, &act, (start, &strides), &part, (0, &[hidden, 1]), &[batch, hidden]);
        Ok(self.program.span(&part))
    }

    /// The node's outputs that anything reads, of what each direction made and whether it went backwards.
    fn outputs_of(&mut self, node: &Node, sizes: &Sizes, made: &[(Act, bool)]) {
        let Sizes { steps, batch, hidden, directions, batch_first, .. } = *sizes;
        let row = batch * hidden;
        let whole =
            [vec![steps, directions, batch, hidden], vec![directions, batch, hidden], vec![directions, batch, hidden]];
        for (index, mut dims) in whole.into_iter().enumerate() {
            if !self.is_read(node, index) {
                continue;
            }
            if batch_first {
                // [batch, steps, directions, hidden], [batch, directions, hidden]
                let at = dims.len() - 2;
                let batch = dims.remove(at);
                dims.insert(0, batch);
            }
            if let (0, [(act, _)]) = (index, made)
                && act.elements() == steps * row
                && (!batch_first || batch == 1 || steps == 1)
            {
                self.values.insert(node.outputs[0].clone(), Value::Real(act.viewed(dims, Layout::Plain)));
                continue;
            }
            let output = self.program.floats(dims.clone(), Layout::Plain);
            let strides = row_major(&dims);
            let (of_step, of_direction, of_batch) = match (batch_first, index) {
                (false, 0) => (strides[0], strides[1], strides[2]),
                (true, 0) => (strides[1], strides[2], strides[0]),
                (false, _) => (0, strides[0], strides[1]),
                (true, _) => (0, strides[1], strides[0]),
            };
            for (direction, (act, reverse)) in made.iter().enumerate() {
                let (first, count) = match index {
                    0 => (0, steps),
                    1 => (if *reverse { 0 } else { steps - 1 }, 1),
                    _ => (steps, 1),
                };
                let from = (first * row, [row, hidden, 1]);
                let to = (direction * of_direction, [of_step, of_batch, 1]);
                self.copy_rows(node, act, (from.0, &from.1), &output, (to.0, &to.1), &[count, batch, hidden]);
            }
            self.values.insert(node.outputs[index].clone(), Value::Real(output));
        }
    }

    fn copy_rows(
        &mut self,
        node: &Node,
        from: &Act,
        (input_start, input_strides): (usize, &[usize]),
        to: &Act,
        (output_start, output_strides): (usize, &[usize]),
        dims: &[usize],
    ) {
        let op = StridedCopy {
            input: self.program.span(from),
            output: self.program.span(to),
            element_bytes: 4,
            dims: padded(dims, 1),
            input_start,
            input_strides: padded(input_strides, 0),
            output_start,
            output_strides: padded(output_strides, 0),
        };
        self.program.push(&node.name, op);
    }

    /// Whether a node or the caller sees this output of a node.
    pub(super) fn is_read(&self, node: &Node, index: usize) -> bool {
        let name = node.outputs.get(index).map_or("", String::as_str);
        !name.is_empty() && (self.readers.contains_key(name) || self.graph_outputs.contains(name))
    }
}

/// The functions of one direction: of gates, of candidates, of an LSTM's cells.
fn activations(node: &Node, cell: Cell, direction: usize) -> Result<[Activation; 3], Why> {
    let defaults: &[&str] = match cell {
        Cell::Rnn => &["Tanh"],
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru | Cell::GruResetAfter => &["Sigmoid", "Tanh"],
    };
    let mut names: Vec<String> = defaults.iter().map(|name| (*name).to_owned()).collect();
    if let Some(AttributeValue::Texts(stated)) = node.attribute("activations") {
        names = stated.iter().skip(direction * defaults.len()).take(defaults.len()).cloned().collect();
    }
    if names.len() != defaults.len() {
        return Err(format!("it names {} activations, {} are needed for each direction", names.len(), defaults.len()));
    }
    let mut functions = [Activation::default(); 3];
    for (function, name) in functions.iter_mut().zip(&names) {
        *function = match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "hardsigmoid"
                if node.attribute("activation_alpha").is_none() && node.attribute("activation_beta").is_none() =>
            {
                Activation::HardSigmoid
            }
            _ => return Err(format!("activation {name} with these parameters is not taken")),
        };
    }
    Ok(functions)
}
