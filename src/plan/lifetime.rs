//! When each tensor is alive, and which tensors are one: an op that may work in place does so
//! when its first input is read for the last time. Inputs and outputs of the network are the
//! caller's: the arena holds neither, and nothing works in place on an input. What a kernel works in
//! is a block too, alive at its step and at no other. What is kept from run to run is alive at all steps.

use tractlet_core::isa::Isa;
use tractlet_core::plan::{Op, Section};

use crate::lower::{Program, TensorId};

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
    /// The tensor in whose block each one lies.
    owners: Vec<TensorId>,
    /// Where the block of each tensor is.
    sections: Vec<Section>,
}

impl Lifetimes {
    pub fn owner(&self, tensor: TensorId) -> TensorId {
        self.owners[tensor]
    }

    pub fn section(&self, tensor: TensorId) -> Section {
        self.sections[self.owners[tensor]]
    }

    /// Which block is the scratch of a step.
    pub fn scratch(&self, step: usize) -> usize {
        self.owners.len() + step
    }

    /// The blocks of tensors alone.
    pub fn tensors(&self) -> &[Block] {
        &self.blocks[..self.owners.len()]
    }
}

pub(super) fn of(program: &mut Program, isa: Isa) -> Lifetimes {
    swap_operands(program);
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
        let mut operands = reads(&step.op).filter(|_| step.op.in_place());
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
    let in_arena = |tensor: TensorId| owners[tensor] == tensor && sections[tensor] == Section::Arena;
    let block = |tensor: TensorId| match in_arena(tensor) && first[tensor] != usize::MAX {
        true => Block {
            len: program.tensors[tensor],
            first: first[tensor],
            last: ends[tensor],
            kept: program.keeps(tensor),
        },
        false => Block { len: 0, first: 0, last: 0, kept: false },
    };
    let scratch = program.steps.iter().enumerate();
    let scratch =
        scratch.map(|(index, step)| Block { len: step.op.scratch_bytes(isa), first: index, last: index, kept: false });
    Lifetimes { blocks: (0..count).map(block).chain(scratch).collect(), owners, sections }
}

/// Tensors that an op reads.
pub(super) fn reads(op: &Op) -> impl Iterator<Item = TensorId> {
    op.inputs()
        .into_iter()
        .filter(|operand| operand.section == Section::Arena && operand.len > 0)
        .map(|operand| operand.offset)
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
