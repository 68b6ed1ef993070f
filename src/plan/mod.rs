//! From a [`Program`] to a plan: in which order steps run, which tensors share memory, where each
//! lies, and the finished, verified bytes.

mod arena;
mod lifetime;
mod schedule;

use std::collections::HashMap;

use serde::Serialize;
use tractlet_core::isa::Isa;
use tractlet_core::plan::{ALIGN, AlignedBytes, DType as PlanDType, Operand, Plan, PlanBuilder, Section};

use crate::lower::Program;
use crate::model::DType;
use arena::Placement;
use lifetime::{Block, Lifetimes};

/// A plan with what is known of its memory.
pub(crate) struct Planned {
    pub plan: Plan<AlignedBytes>,
    /// How much of the arena is there for scratch alone: it would do without if no kernel took any.
    pub scratch_bytes: usize,
    /// The largest sum of tensors and scratch that are alive at once: no arena can be smaller.
    pub lower_bound_bytes: usize,
    pub blocks: Vec<ArenaBlock>,
}

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

/// A program in an order, and where that puts its tensors.
struct Layout {
    program: Program,
    lifetimes: Lifetimes,
    placement: Placement,
}

impl Layout {
    fn of(mut program: Program, isa: Isa) -> Layout {
        let lifetimes = lifetime::of(&mut program, isa);
        let placement = arena::place(&lifetimes.blocks);
        Layout { program, lifetimes, placement }
    }
}

/// Lays out the arena and builds the plan; `builder` holds the constants already.
///
/// # Errors
/// What the plan's verifier says; a program that lowering made passes it.
pub(crate) fn plan(program: Program, mut builder: PlanBuilder) -> Result<Planned, String> {
    let isa = builder.isa();
    let layouts = schedule::orders(&program).map(|order| Layout::of(program.in_order(&order), isa));
    // The model's own order where it is no worse.
    let layout = layouts.into_iter().min_by_key(|layout| layout.placement.arena_bytes).ok_or("there is no order")?;
    let Layout { mut program, lifetimes, placement } = layout;
    let blocks = blocks(&program, &lifetimes, &placement);
    let place = |operand: Operand| {
        let section = lifetimes.section(operand.offset);
        let in_arena = section == Section::Arena;
        let offset = if in_arena { placement.offsets[lifetimes.owner(operand.offset)] } else { 0 };
        Operand { section, offset, len: operand.len }
    };
    for input in &program.inputs {
        builder.input(&input.name, dtype(input.dtype), &input.dims).map_err(|e| e.to_string())?;
    }
    for (index, step) in program.steps.iter_mut().enumerate() {
        step.op.relocate(place);
        let scratch = placement.offsets[lifetimes.scratch(index)];
        builder.op(&step.name, step.op.with_scratch_at(isa, scratch));
    }
    for output in &program.outputs {
        builder.output(&output.name, dtype(output.dtype), &output.dims).map_err(|e| e.to_string())?;
    }
    let plan = builder.finish().map_err(|e| e.to_string())?;
    let without_scratch = arena::place(lifetimes.tensors()).arena_bytes.next_multiple_of(ALIGN);
    let scratch_bytes = plan.arena_bytes().saturating_sub(without_scratch);
    Ok(Planned { plan, scratch_bytes, lower_bound_bytes: placement.lower_bound_bytes, blocks })
}

/// What lies in the arena, in the order in which it is written.
fn blocks(program: &Program, lifetimes: &Lifetimes, placement: &Placement) -> Vec<ArenaBlock> {
    let mut blocks: Vec<ArenaBlock> = vec![];
    let mut index_of = HashMap::new();
    for (step_index, step) in program.steps.iter().enumerate() {
        let owner = lifetimes.owner(step.op.output().offset);
        for (block, scratch) in [(lifetimes.scratch(step_index), true), (owner, false)] {
            let Block { len: bytes, first: first_step, last: last_step } = lifetimes.blocks[block];
            if bytes == 0 {
                continue;
            }
            let index = *index_of.entry(block).or_insert_with(|| {
                let (offset, names) = (placement.offsets[block], vec![]);
                blocks.push(ArenaBlock { scratch, names, offset, bytes, first_step, last_step });
                blocks.len() - 1
            });
            let names = &mut blocks[index].names;
            if !names.contains(&step.name) {
                names.push(step.name.clone());
            }
        }
    }
    blocks
}

fn dtype(dtype: DType) -> PlanDType {
    match dtype {
        DType::I8 => PlanDType::I8,
        DType::U8 => PlanDType::U8,
        _ => PlanDType::F32,
    }
}
