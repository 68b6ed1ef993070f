//! What a finished plan keeps where in its arena, from its ops alone: a plan out of a file is shown as one
//! that was just made.

use serde::Serialize;
use tractlet_core::plan::{Op, Operand, Plan, Section};

/// Bytes of the arena that hold one tensor, or several that are computed in place of each other, or
/// what a kernel works in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArenaBlock {
    /// Whether it is the scratch of a kernel, which holds no tensor and is alive at one step.
    pub scratch: bool,
    /// The steps that write to it, in order, each once.
    pub names: Vec<String>,
    /// Bytes from the start of the arena.
    pub offset: usize,
    /// Length.
    pub bytes: usize,
    /// The step, from 0, that writes it first.
    pub first_step: usize,
    /// The step that reads it last.
    pub last_step: usize,
}

/// A block with what decides whether the next op that writes there adds to it.
struct Held {
    block: ArenaBlock,
    /// Whether what was written last has been read.
    read: bool,
    /// Whether something else lies there by now.
    over: bool,
}

/// What lies in the arena, in the order in which it is written. What is kept from run to run is there at every step.
pub(crate) fn blocks(plan: &Plan<impl AsRef<[u8]>>) -> Vec<ArenaBlock> {
    let mut blocks: Vec<Held> = vec![];
    let last_step = plan.ops().len().saturating_sub(1);
    let state_bytes = plan.state_bytes();
    for (step, (name, op)) in plan.ops().enumerate() {
        let held = |scratch, offset, bytes| {
            let names = vec![name.to_owned()];
            Held {
                block: ArenaBlock { scratch, names, offset, bytes, first_step: step, last_step: step },
                read: false,
                over: false,
            }
        };
        for input in op.inputs().iter().filter(|input| in_arena(input)) {
            for held in holders(&mut blocks, input) {
                (held.block.last_step, held.read) = (step.max(held.block.last_step), true);
            }
        }
        let (scratch, output) = (op.scratch(), op.output());
        if scratch.len > 0 {
            blocks.push(held(true, scratch.offset, scratch.len));
        }
        if !in_arena(&output) {
            continue;
        }
        let kept = output.offset < state_bytes;
        let goes_on = |held: &&mut Held| kept || held.goes_on(&op);
        if let Some(Held { block, read, .. }) = holders(&mut blocks, &output).find(goes_on) {
            (block.last_step, *read) = (step.max(block.last_step), false);
            if kept {
                let end = (block.offset + block.bytes).max(output.offset + output.len);
                block.offset = block.offset.min(output.offset);
                block.bytes = end - block.offset;
            }
            if block.names.iter().all(|other| other != name) {
                block.names.push(name.to_owned());
            }
            continue;
        }
        holders(&mut blocks, &output).for_each(|held| held.over = true);
        let mut held = held(false, output.offset, output.len);
        if kept {
            (held.block.first_step, held.block.last_step) = (0, last_step);
        }
        blocks.push(held);
    }
    blocks.into_iter().map(|held| held.block).collect()
}

impl Held {
    /// Whether an op adds to what the block holds: it works there in place, or it writes one part of a
    /// tensor that nothing has read yet.
    fn goes_on(&self, op: &Op) -> bool {
        let output = op.output();
        let same = (self.block.offset, self.block.bytes) == (output.offset, output.len);
        same && (op.inputs().contains(&output) || matches!(op, Op::StridedCopy(_)) && !self.read)
    }
}

/// The blocks that hold what an operand names: several, if it was written in parts.
fn holders<'b>(blocks: &'b mut [Held], operand: &Operand) -> impl Iterator<Item = &'b mut Held> {
    let (start, end) = (operand.offset, operand.offset + operand.len);
    let lies_there = move |block: &ArenaBlock| block.offset < end && start < block.offset + block.bytes;
    blocks.iter_mut().filter(move |held| !held.over && !held.block.scratch && lies_there(&held.block))
}

fn in_arena(operand: &Operand) -> bool {
    operand.section == Section::Arena && operand.len > 0
}
