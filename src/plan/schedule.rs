//! In which order steps run: between branches there is a choice, and it decides what is alive at once.
//!
//! The order with the least peak is NP-hard to find. Two are tried, and the plan keeps the one that
//! takes the smaller arena: the model's own, and a greedy one that always takes the step that adds
//! least to what is alive, so that a branch which shrinks is finished before the next is opened.

use std::collections::BTreeSet;

use tractlet_core::plan::Op;

use crate::lower::{Program, TensorId, reads};

/// Of steps that could all be next, how many are looked at: networks have fewer, and what has thousands would take
/// time with their square.
const CANDIDATES: usize = 64;

/// Orders of a program's steps, the model's own first.
pub(super) fn orders(program: &Program) -> [Vec<usize>; 2] {
    [(0..program.steps.len()).collect(), greedy(program)]
}

fn greedy(program: &Program) -> Vec<usize> {
    let Precedence { followers, mut waiting } = precedence(program);
    let mut alive = Alive::new(program);
    let mut ready: BTreeSet<usize> = (0..waiting.len()).filter(|&step| waiting[step] == 0).collect();
    let mut order = Vec::with_capacity(waiting.len());
    // Of equals the first in the model.
    let growth = |alive: &Alive, step: usize| (alive.growth(&program.steps[step].op), step);
    while let Some(&step) = ready.iter().take(CANDIDATES).min_by_key(|&&step| growth(&alive, step)) {
        ready.remove(&step);
        alive.run(&program.steps[step].op);
        order.push(step);
        for &follower in &followers[step] {
            waiting[follower] -= 1;
            if waiting[follower] == 0 {
                ready.insert(follower);
            }
        }
    }
    order
}

/// Which steps must wait for which.
struct Precedence {
    /// The steps that wait for each step.
    followers: Vec<Vec<usize>>,
    /// How many steps each one waits for.
    waiting: Vec<usize>,
}

/// A step comes after those that write what it reads. One that writes a part of a tensor, a strided
/// copy, comes after what writes all of it, but in no order among the other parts, which are apart.
fn precedence(program: &Program) -> Precedence {
    let count = program.steps.len();
    let (mut followers, mut waiting) = (vec![vec![]; count], vec![0; count]);
    let mut writers: Vec<Vec<usize>> = vec![vec![]; program.tensors.len()];
    for (index, step) in program.steps.iter().enumerate() {
        let output = step.op.output().offset;
        let whole = |&writer: &usize| !matches!(program.steps[writer].op, Op::StridedCopy(_));
        let read = reads(&step.op).flat_map(|tensor| writers[tensor].iter().copied());
        let mut before: Vec<usize> = read.chain(writers[output].iter().copied().filter(whole)).collect();
        before.sort_unstable();
        before.dedup();
        waiting[index] = before.len();
        before.into_iter().for_each(|earlier| followers[earlier].push(index));
        writers[output].push(index);
    }
    Precedence { followers, waiting }
}

/// What is alive while steps are put in order.
struct Alive {
    /// Bytes of each tensor in the arena: none of what the caller holds.
    bytes: Vec<i128>,
    /// Reads of each tensor that are to come.
    reads_left: Vec<usize>,
    written: Vec<bool>,
}

impl Alive {
    fn new(program: &Program) -> Alive {
        let mut bytes: Vec<i128> = program.tensors.iter().map(|&len| len as i128).collect();
        program.inputs.iter().chain(&program.outputs).for_each(|port| bytes[port.tensor] = 0);
        let mut reads_left = vec![0; bytes.len()];
        for step in &program.steps {
            distinct_reads(&step.op).for_each(|tensor| reads_left[tensor] += 1);
        }
        Alive { written: vec![false; bytes.len()], bytes, reads_left }
    }

    /// Bytes that are alive after the op and were not before, less those that no op needs after it.
    fn growth(&self, op: &Op) -> i128 {
        let output = op.output().offset;
        let made = if self.written[output] { 0 } else { self.bytes[output] };
        let last = distinct_reads(op).filter(|&tensor| self.reads_left[tensor] == 1);
        made - last.map(|tensor| self.bytes[tensor]).sum::<i128>()
    }

    fn run(&mut self, op: &Op) {
        self.written[op.output().offset] = true;
        distinct_reads(op).for_each(|tensor| self.reads_left[tensor] -= 1);
    }
}

/// What an op reads, its second operand left out where it is the first.
fn distinct_reads(op: &Op) -> impl Iterator<Item = TensorId> {
    let first = reads(op).next();
    reads(op).enumerate().filter(move |&(at, tensor)| at == 0 || Some(tensor) != first).map(|(_, tensor)| tensor)
}

#[cfg(test)]
mod tests {
    use tractlet_core::isa::Isa;
    use tractlet_core::plan::{AlignedBytes, Binary, BinaryF32, Operand, Plan, PlanBuilder, StridedCopy};

    use super::*;
    use crate::lower::{Port, Step};
    use crate::model::DType;

    const SMALL: usize = 16;
    const LARGE: usize = 1024;

    /// From `input`, two branches that grow and shrink, written breadth first as exporters do.
    fn branches() -> Program {
        let mut program = Program::default();
        let mut tensor = |floats: usize| {
            program.tensors.push(4 * floats);
            Operand::arena(program.tensors.len() - 1, 4 * floats)
        };
        let [input, output] = [SMALL, SMALL].map(&mut tensor);
        let [wide, narrow] = [[LARGE, LARGE].map(&mut tensor), [SMALL, SMALL].map(&mut tensor)];
        let copy = |input: Operand, output: Operand, count: usize, stride: usize| StridedCopy {
            input,
            output,
            element_bytes: 4,
            dims: [1, 1, 1, 1, 1, count],
            input_start: 0,
            input_strides: [0, 0, 0, 0, 0, stride],
            output_start: 0,
            output_strides: [0, 0, 0, 0, 0, 1],
        };
        let mut step = |name: &str, op: Op| program.steps.push(Step { name: name.into(), op });
        step("grow a", copy(input, wide[0], LARGE, 0).into());
        step("grow b", copy(input, wide[1], LARGE, 0).into());
        step("shrink a", copy(wide[0], narrow[0], SMALL, LARGE / SMALL).into());
        step("shrink b", copy(wide[1], narrow[1], SMALL, LARGE / SMALL).into());
        let [a, b] = narrow;
        let (min, max) = (f32::NEG_INFINITY, f32::INFINITY);
        step("join", BinaryF32 { a, b, output, function: Binary::Add, inner: 1, min, max }.into());
        let port = |name: &str, tensor: Operand| Port {
            name: name.into(),
            dtype: DType::F32,
            dims: vec![SMALL],
            tensor: tensor.offset,
        };
        program.inputs.push(port("x", input));
        program.outputs.push(port("y", output));
        program
    }

    #[test]
    fn a_branch_is_finished_before_the_next_is_opened() {
        let program = branches();
        assert_eq!(orders(&program), [vec![0, 1, 2, 3, 4], vec![0, 2, 1, 3, 4]]);
        let planned: Plan<AlignedBytes> = super::super::plan(program, PlanBuilder::new(Isa::Generic)).unwrap();
        // One wide tensor and what it shrank to, where the model's own order holds two wide ones. The other
        // narrow one lies in the output, with which it is summed in place.
        assert_eq!(planned.arena_bytes(), 4 * (LARGE + SMALL));
        let names: Vec<&str> = planned.ops().map(|(name, _)| name).collect();
        assert_eq!(names, ["grow a", "shrink a", "grow b", "shrink b", "join"]);
    }

    #[test]
    fn parts_of_a_tensor_follow_what_fills_it() {
        let mut program = branches();
        // Both grown tensors go into one, which is filled first.
        let whole = program.steps[1].op.output();
        let fill = tractlet_core::plan::Fill { output: whole, element_bytes: 4, bits: 0 };
        program.steps.insert(0, Step { name: "fill".into(), op: fill.into() });
        let Precedence { waiting, .. } = precedence(&program);
        assert_eq!(waiting, [0, 0, 1, 1, 2, 2]);
    }
}
