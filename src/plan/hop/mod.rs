//! From a program over whole windows to one that is given only what is new of each: streaming inference.
//!
//! What the next window has too, a hop earlier, stays where the program keeps it ([`rows`] finds out what that is); at each
//! hop it is moved along, and rows are computed that are new, and those at the borders that padding reaches. Every value is
//! computed of the same values as in the whole window, in the same order: answers are the same in every bit. What takes all
//! of time at once, a pool over the window or a fully connected layer, is computed anew from what is kept.
//!
//! There is no second program for the first window, since a window is nothing but some hops: as many runs as fill one, from
//! whatever is kept, leave nothing in it that is older.

mod rows;
#[cfg(test)]
mod tests;

use std::ops::Range;

use tractlet_core::plan::{Op, Operand, PlanBuilder, Shift, StridedCopy};

use super::pack::pack;
use crate::lower::{Hop, Port, Program, Step, TensorId, reads};
use rows::{Along, Copied, Law, Rows, Source, channels_of, follow, slid};

/// A program that runs hop by hop, and what is to be said of it.
pub(crate) struct Hopping {
    pub program: Program,
    /// Multiply-accumulates of a whole window.
    pub window_macs: u64,
    /// The first step that is computed of the whole window at each hop, and why.
    pub whole_from: Option<(String, String)>,
}

/// The same for windows that come `hop` rows of the input apart, and have `window_rows` where that is known.
///
/// # Errors
/// Why nothing would be saved, or the input has other rows.
pub(crate) fn by_hops(
    program: &Program,
    hop: usize,
    window_rows: Option<usize>,
    builder: &mut PlanBuilder,
) -> Result<Hopping, String> {
    let source = source(program, hop)?;
    if let Some(rows) = window_rows.filter(|rows| *rows != source.rows.count) {
        let (axis, count) = (source.axis, source.rows.count);
        return Err(format!("its input has {count} rows along dimension {axis}, and a window {rows} along time"));
    }
    let followed = Followed::of(program, &source);
    let why = |(step, why): &(String, String)| format!("step `{step}`: {why}");
    let macs = |program: &Program| program.steps.iter().map(|step| step.op.macs()).sum::<u64>();
    let needed = needed(program, &source, &followed);
    let mut emitted = Emitter::new(program, &source, &followed, needed)?.emit();
    let window_macs = macs(program);
    if macs(&emitted) >= window_macs {
        return Err(followed.whole_from.as_ref().map_or_else(|| "nothing would be saved".to_owned(), why));
    }
    pack(&mut emitted, &program.weights, builder);
    Ok(Hopping { program: emitted, window_macs, whole_from: followed.whole_from })
}

/// The input as rows along time: the first dimension behind the channels where an image comes in, and behind the batch
/// where rows come in as they are.
fn source(program: &Program, hop: usize) -> Result<Source, String> {
    let [input] = program.inputs.as_slice() else {
        return Err(format!("the model has {} inputs; expected one", program.inputs.len()));
    };
    let reader = program.steps.iter().map(|step| &step.op).find(|op| reads(op).any(|tensor| tensor == input.tensor));
    let outer = reader.and_then(channels_of).unwrap_or(1);
    let before = |axis: usize| input.dims.iter().take(axis).product::<usize>();
    let axis = (0..input.dims.len()).find(|&axis| before(axis) == outer && input.dims[axis] > 1);
    let axis = axis.ok_or_else(|| format!("input `{}` of shape {:?} has no time", input.name, input.dims))?;
    let count = input.dims[axis];
    if hop >= count {
        return Err(format!("windows of {count} rows that come {hop} apart have nothing in common"));
    }
    let rows = Rows { count, bytes: program.tensors[input.tensor] / count, steady: 0..count, shift: hop };
    Ok(Source { tensor: input.tensor, axis, outer, rows })
}

/// What is known of a program's tensors and steps.
struct Followed {
    along: Vec<Along>,
    /// How each step's rows follow, where they do.
    laws: Vec<Option<Law>>,
    whole_from: Option<(String, String)>,
}

impl Followed {
    fn of(program: &Program, source: &Source) -> Followed {
        let mut along = vec![Along::Unwritten; program.tensors.len()];
        along[source.tensor] = Along::Rows(source.rows.clone());
        let mut laws = Vec::with_capacity(program.steps.len());
        let mut whole_from = None;
        for Step { name, op } in &program.steps {
            let output = op.output().offset;
            let is_answer = program.outputs.iter().any(|port| port.tensor == output);
            let followed =
                if is_answer { Err("it is what the model answers".to_owned()) } else { follow(op, source, &along) };
            laws.push(followed.as_ref().ok().and_then(|followed| followed.as_ref().map(|(law, _)| *law)));
            let joined = followed.and_then(|followed| joined(&along[output], followed.map(|(_, rows)| rows)));
            along[output] = joined.unwrap_or_else(|why| {
                whole_from.get_or_insert((name.clone(), why));
                Along::Whole
            });
        }
        Followed { along, laws, whole_from }
    }

    /// A tensor's rows, where it is not computed as a whole.
    fn rows(&self, tensor: TensorId) -> Option<&Rows> {
        match &self.along[tensor] {
            Along::Rows(rows) => Some(rows),
            _ => None,
        }
    }
}

/// What is known of a tensor once another step has written to it.
fn joined(before: &Along, rows: Option<Rows>) -> Result<Along, String> {
    let rows = match (before, rows) {
        (Along::Whole, _) => return Ok(Along::Whole),
        (Along::Rows(before), Some(rows)) => before.with(&rows).ok_or("its parts move along at different paces")?,
        (Along::Rows(rows), None) => rows.clone(),
        (_, Some(rows)) => rows,
        (_, None) => return Ok(Along::Even),
    };
    if rows.recur() { Ok(Along::Rows(rows)) } else { Err("all of it is new at each hop".to_owned()) }
}

/// The rows of a tensor that a hop computes: those at the border before, and those that are new.
fn computed(rows: &Rows, first: usize) -> [Range<usize>; 2] {
    let new = (rows.steady.end - rows.shift).max(first);
    [first.min(rows.steady.start)..rows.steady.start, new..rows.count]
}

/// The first row of each tensor that a hop reads, of those that lie in rows.
fn needed(program: &Program, source: &Source, followed: &Followed) -> Vec<usize> {
    let mut first: Vec<usize> =
        (0..program.tensors.len()).map(|tensor| followed.rows(tensor).map_or(0, |rows| rows.count)).collect();
    for (Step { op, .. }, law) in program.steps.iter().zip(&followed.laws).rev() {
        let output = op.output().offset;
        let rows = followed.rows(output);
        for input in reads(op) {
            let Some(of) = followed.rows(input) else { continue };
            if input == source.tensor && source.outer > 1 && rows.is_some() {
                // What comes in is taken as it is.
                first[output] = first[output].min(of.count - of.shift);
            }
            first[input] = match (rows, law) {
                (Some(rows), Some(law)) => {
                    let taken = computed(rows, first[output]).into_iter().filter(|rows| !rows.is_empty());
                    taken.map(|rows| law.taken(&rows, of.count).start).fold(first[input], usize::min)
                }
                _ => 0,
            };
        }
    }
    first
}

/// Where the rows of a tensor are from some on.
#[derive(Clone, Copy)]
struct Held {
    tensor: TensorId,
    first: usize,
}

struct Emitter<'p> {
    whole: &'p Program,
    source: &'p Source,
    followed: &'p Followed,
    /// Of each tensor of the whole program.
    held: Vec<Held>,
    emitted: Program,
    kept: Vec<TensorId>,
}

impl<'p> Emitter<'p> {
    fn new(
        whole: &'p Program,
        source: &'p Source,
        followed: &'p Followed,
        needed: Vec<usize>,
    ) -> Result<Emitter<'p>, String> {
        // A dense tensor of its own for each, as long as what is needed of it; numbers stay as they are.
        let bytes = |(tensor, &len): (TensorId, &usize)| {
            followed.rows(tensor).map_or(len, |rows| (rows.count - needed[tensor]) * rows.bytes)
        };
        let tensors = whole.tensors.iter().enumerate().map(bytes).collect();
        let outputs = whole.outputs.clone();
        let emitted = Program { tensors, outputs, ..Program::default() };
        let held = needed.into_iter().enumerate().map(|(tensor, first)| Held { tensor, first }).collect();
        let mut emitter = Emitter { whole, source, followed, held, emitted, kept: vec![] };
        emitter.take_in()?;
        Ok(emitter)
    }

    /// The part of the input that is new, and where older rows are needed, those.
    fn take_in(&mut self) -> Result<(), String> {
        let Source { tensor, axis, outer, rows } = self.source;
        let port = &self.whole.inputs[0];
        let new = rows.count - rows.shift;
        if self.held[*tensor].first < new && *outer > 1 {
            let reader = self.followed.whole_from.as_ref().map(|(step, why)| format!("step `{step}`: {why}"));
            return Err(reader.unwrap_or_else(|| format!("input `{}` is taken as a whole", port.name)));
        }
        let element_bytes = port.dtype.size();
        let bytes = rows.shift * rows.bytes;
        let mut dims = port.dims.clone();
        dims[*axis] = rows.shift;
        let incoming = self.emitted.tensors.len();
        self.emitted.tensors.push(bytes);
        if self.held[*tensor].first >= new {
            self.held[*tensor] = Held { tensor: incoming, first: new };
        } else {
            self.pass(*tensor, element_bytes, &port.name);
            let output = self.view(*tensor, &(new..rows.count));
            let elements = bytes / element_bytes;
            let row = |unused, value| [unused, unused, unused, unused, unused, value];
            let copy = StridedCopy {
                input: Operand::arena(incoming, bytes),
                output,
                element_bytes,
                dims: row(1, elements),
                input_start: 0,
                input_strides: row(0, 1),
                output_start: 0,
                output_strides: row(0, 1),
            };
            self.push(&port.name, copy.into());
        }
        self.emitted.inputs.push(Port { dims, tensor: incoming, ..port.clone() });
        Ok(())
    }

    fn emit(mut self) -> Program {
        let mut passed: Vec<bool> = self.whole.tensors.iter().map(|_| false).collect();
        for (Step { name, op }, law) in self.whole.steps.iter().zip(&self.followed.laws) {
            let output = op.output().offset;
            let Some(rows) = self.followed.rows(output) else {
                self.push(name, *op);
                continue;
            };
            if !std::mem::replace(&mut passed[output], true) {
                self.pass(output, op.dtype().size_bytes(), name);
            }
            for range in computed(rows, self.held[output].first) {
                self.piece(name, op, law.as_ref(), &range);
            }
        }
        let Source { axis, rows, .. } = self.source;
        self.emitted.hop = Some(Hop { axis: *axis, window_rows: rows.count, kept: self.kept });
        self.emitted
    }

    /// Lets time pass in a tensor that is kept: rows that the next window has too move ahead.
    fn pass(&mut self, tensor: TensorId, element_bytes: usize, name: &str) {
        let Some(rows) = self.followed.rows(tensor) else { return };
        let first = self.held[tensor].first.max(rows.steady.start);
        if first + rows.shift < rows.steady.end {
            self.kept.push(tensor);
            let output = self.view(tensor, &(first..rows.steady.end));
            self.push(name, Shift { output, element_bytes, by: rows.shift * rows.bytes / element_bytes }.into());
        }
    }

    /// These rows of what a step computes.
    fn piece(&mut self, name: &str, op: &Op, law: Option<&Law>, rows: &Range<usize>) {
        let (mut op, mut rows) = (*op, rows.clone());
        let law = law.copied().unwrap_or(Law::EACH);
        let of = reads(&op).find_map(|tensor| self.followed.rows(tensor)).map_or(1, |rows| rows.count);
        if let Op::StridedCopy(copy) = &mut op {
            rows = self.copied(copy, &rows);
        }
        if rows.is_empty() {
            return;
        }
        let taken = law.taken(&rows, of);
        let share = |all: usize| all / of * rows.len();
        match &mut op {
            Op::ConvS8(op) => op.shape.window = slid(&op.shape.window, &law, &rows, &taken),
            Op::ConvF32(op) => op.shape.window = slid(&op.shape.window, &law, &rows, &taken),
            Op::MaxPoolS8(op) => op.window = slid(&op.window, &law, &rows, &taken),
            Op::MaxPoolF32(op) => op.window = slid(&op.window, &law, &rows, &taken),
            Op::AveragePoolS8(op) => op.window = slid(&op.window, &law, &rows, &taken),
            Op::AveragePoolF32(op) => op.window = slid(&op.window, &law, &rows, &taken),
            Op::Quantize(op) => op.pixels = share(op.pixels),
            Op::Dequantize(op) => op.pixels = share(op.pixels),
            Op::SoftmaxS8(op) => op.rows = share(op.rows),
            Op::SoftmaxF32(op) => op.rows = share(op.rows),
            _ => {}
        }
        let inputs: Vec<TensorId> = reads(&op).collect();
        let output = op.output().offset;
        let read: Vec<Operand> = inputs.iter().map(|&input| self.view(input, &taken)).collect();
        let written = self.view(output, &rows);
        op.relocate(|operand| match inputs.iter().zip(&read).find(|(input, _)| **input == operand.offset) {
            Some((_, view)) => *view,
            None => written,
        });
        self.emitted.steps.push(Step { name: name.to_owned(), op });
    }

    /// Has a copy move what it is to move of these rows of its output, and says which those are.
    fn copied(&self, copy: &mut StridedCopy, rows: &Range<usize>) -> Range<usize> {
        let Some(of) = self.followed.rows(copy.input.offset) else { return rows.clone() };
        match Copied::of(copy, of) {
            Some(copied) => {
                let rows = rows.start.max(copied.first)..rows.end.min(copied.first + of.count);
                copy.dims[copied.dimension] = copied.steps * rows.len();
                copy.output_start %= copied.row_bytes / copy.element_bytes;
                rows
            }
            // Channels of the input become innermost.
            None => {
                copy.dims[4] = copy.dims[4] / of.count * rows.len();
                copy.input_strides[5] = copy.dims[4];
                rows.clone()
            }
        }
    }

    /// A step as it is, whose tensors are whole but perhaps held elsewhere.
    fn push(&mut self, name: &str, mut op: Op) {
        let held = &self.held;
        op.relocate(|operand| match held.get(operand.offset) {
            Some(held) => Operand { offset: held.tensor, ..operand },
            None => operand,
        });
        self.emitted.steps.push(Step { name: name.to_owned(), op });
    }

    /// Rows of a tensor as ops name them.
    fn view(&mut self, tensor: TensorId, rows: &Range<usize>) -> Operand {
        let Held { tensor: held, first } = self.held[tensor];
        let bytes = self.followed.rows(tensor).map_or(0, |rows| rows.bytes);
        let len = rows.len() * bytes;
        if len == self.emitted.tensors[held] {
            return Operand::arena(held, len);
        }
        let part = self.emitted.tensors.len();
        self.emitted.tensors.push(len);
        self.emitted.parts.insert(part, (held, (rows.start - first) * bytes));
        Operand::arena(part, len)
    }
}
