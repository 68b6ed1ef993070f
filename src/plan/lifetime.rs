//! When each tensor is alive, and which tensors are one: an op that may work in place does so
//! when its first input is read for the last time. Inputs and outputs of the network are the
//! caller's: the arena holds neither, and nothing works in place on an input. What is joined lies in the block of the
//! whole, where that is wanted. What a kernel works in is a block too, alive at its step and at no other. What is kept
//! from run to run is alive at all steps.

use tractlet_core::isa::Isa;
use tractlet_core::plan::{Op, Section};

use super::join::Joined;
use crate::lower::{Program, TensorId, reads};

/// A block of the arena: its length and the steps from which and to which it holds something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub len: usize,
    pub first: usize,
    pub last: usize,
    /// Whether the next run finds there what this one left.
    pub kept: bool,
}

pub(super) struct Lifetimes {
    /// One for each tensor, of length 0 for those that live in another's block or with the caller, and
    /// then one for the scratch of each step, of length 0 where it takes none.
    pub blocks: Vec<Block>,
    groups: Groups,
    joined: Joined,
}

/// Tensors that are computed in place of each other, which one of them stands for.
pub(super) struct Groups {
    /// The tensor in whose block each one lies.
    pub owners: Vec<TensorId>,
    /// Where the block of each owner is.
    pub sections: Vec<Section>,
    /// The steps between which the block of each owner holds something.
    first: Vec<usize>,
    pub last: Vec<usize>,
    /// The last step that writes to the block of each owner, where one does.
    pub last_write: Vec<Option<usize>>,
}

impl Lifetimes {
    /// Whose block a tensor lies in, and how far from its start.
    pub fn owner(&self, tensor: TensorId) -> (TensorId, usize) {
        self.joined.root(self.groups.owners[tensor])
    }

    pub fn section(&self, tensor: TensorId) -> Section {
        self.groups.sections[self.owner(tensor).0]
    }

    /// Which block is the scratch of a step.
    pub fn scratch(&self, step: usize) -> usize {
        self.groups.owners.len() + step
    }

    /// The blocks of tensors alone.
    pub fn tensors(&self) -> &[Block] {
        &self.blocks[..self.groups.owners.len()]
    }

    /// Whether a step has nothing to do, since what it would copy is there.
    pub fn leaves_out(&self, step: usize) -> bool {
        self.joined.left_out[step]
    }

    pub fn copies_left_out(&self) -> usize {
        self.joined.left_out.iter().filter(|left_out| **left_out).count()
    }
}

/// When the tensors of a program are alive, with as many of them joined as can be or none, which it is for one that keeps
/// some from run to run.
pub(super) fn of(program: &mut Program, isa: Isa, join: bool) -> Lifetimes {
    swap_operands(program);
    let groups = groups(program);
    let joined = if join && program.hop.is_none() { Joined::of(program, &groups) } else { Joined::none(program) };
    let mut blocks = vec![Block { len: 0, first: usize::MAX, last: 0, kept: false }; program.tensors.len()];
    for owner in (0..blocks.len()).filter(|&tensor| groups.owners[tensor] == tensor) {
        let (root, _) = joined.root(owner);
        if groups.sections[root] == Section::Arena && groups.first[owner] != usize::MAX {
            let block = &mut blocks[root];
            block.len = program.tensors[root];
            block.first = block.first.min(groups.first[owner]);
            block.last = block.last.max(groups.last[owner]);
            block.kept = program.keeps(root);
        }
    }
    for block in blocks.iter_mut().filter(|block| block.len == 0) {
        block.first = 0;
    }
    let scratch = program.steps.iter().enumerate();
    blocks.extend(scratch.map(|(index, step)| Block {
        len: step.op.scratch_bytes(isa),
        first: index,
        last: index,
        kept: false,
    }));
    Lifetimes { blocks, groups, joined }
}

fn groups(program: &Program) -> Groups {
    let count = program.tensors.len();
    let mut first = vec![usize::MAX; count];
    let mut last = vec![0; count];
    let mut touch = |tensor: TensorId, step: usize| {
        first[tensor] = first[tensor].min(step);
        last[tensor] = last[tensor].max(step);
    };
    let base = |tensor: TensorId| program.base(tensor).0;
    for (index, step) in program.steps.iter().enumerate() {
        reads(&step.op).for_each(|tensor| touch(base(tensor), index));
        touch(base(step.op.output().offset), index);
    }
    for &tensor in program.hop.iter().flat_map(|hop| &hop.kept) {
        (first[tensor], last[tensor]) = (0, program.steps.len());
    }
    let mut sections = vec![Section::Arena; count];
    for (index, input) in program.inputs.iter().enumerate() {
        sections[input.tensor] = Section::Input(index);
    }
    // The caller reads an output after the last step.
    for output in &program.outputs {
        last[output.tensor] = program.steps.len();
    }
    let mut owners: Vec<TensorId> = (0..count).collect();
    let mut ends = last.clone();
    for (index, step) in program.steps.iter().enumerate() {
        let output = step.op.output().offset;
        // A first operand that is constant has no block to work in.
        let first_is_tensor = step.op.inputs().first().is_some_and(|input| input.section == Section::Arena);
        let mut operands = reads(&step.op).filter(|_| step.op.in_place() && first_is_tensor);
        let Some(input) = operands.next() else { continue };
        let owner = owners[base(input)];
        // The block must not be read again, be it through this tensor or another in it, nor as the
        // other operand, and the output must have no writer before.
        let free = operands.all(|other| owners[base(other)] != owner)
            && [input, output].iter().all(|&tensor| base(tensor) == tensor && !program.keeps(tensor))
            && sections[owner] == Section::Arena
            && ends[owner] == index
            && first[output] == index
            && program.tensors[input] == program.tensors[output];
        if free && owner != output {
            owners[output] = owner;
            ends[owner] = last[output];
        }
    }
    // What becomes an output in place is the caller's from its first write on.
    for (index, output) in program.outputs.iter().enumerate() {
        sections[owners[output.tensor]] = Section::Output(index);
    }
    let mut last_write = vec![None; count];
    for (index, step) in program.steps.iter().enumerate() {
        last_write[owners[base(step.op.output().offset)]] = Some(index);
    }
    Groups { owners, sections, first, last: ends, last_write }
}

/// An addition works in place on its first operand: the one that is not read again should be that.
fn swap_operands(program: &mut Program) {
    let mut last = vec![0; program.tensors.len()];
    for (index, step) in program.steps.iter().enumerate() {
        reads(&step.op).for_each(|tensor| last[tensor] = index);
    }
    for output in &program.outputs {
        last[output.tensor] = usize::MAX;
    }
    for (index, step) in program.steps.iter_mut().enumerate() {
        if let Op::AddS8(add) = &mut step.op
            && add.b.section == Section::Arena
            && add.a.len == add.b.len
            && last[add.a.offset] != index
            && last[add.b.offset] == index
        {
            std::mem::swap(&mut add.a, &mut add.b);
            std::mem::swap(&mut add.a_multiplier, &mut add.b_multiplier);
            std::mem::swap(&mut add.a_zero_point, &mut add.b_zero_point);
        }
    }
}
