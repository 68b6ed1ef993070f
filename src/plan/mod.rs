//! From a [`Program`] to a plan: in which order steps run, which tensors share memory, where each
//! lies, and the finished, verified bytes.

mod arena;
mod lifetime;
mod schedule;

use std::collections::HashMap;

use serde::Serialize;
use tractlet_core::plan::{AlignedBytes, DType as PlanDType, Operand, Plan, PlanBuilder, Section};

use crate::lower::Program;
use crate::model::DType;
use arena::Placement;
use lifetime::{Block, Lifetimes};

/// A plan with what is known of its memory.
pub(crate) struct Planned {
    pub plan: Plan<AlignedBytes>,
    /// The largest sum of tensors that are alive at once: no arena can be smaller.
    pub lower_bound_bytes: usize,
    pub blocks: Vec<ArenaBlock>,
}

/// Bytes of the arena that hold one tensor, or several that are computed in place of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArenaBlock {
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
    fn of(mut program: Program) -> Layout {
        let lifetimes = lifetime::of(&mut program);
        let placement = arena::place(&lifetimes);
        Layout { program, lifetimes, placement }
    }
}

/// Lays out the arena and builds the plan; `builder` holds the constants already.
///
/// # Errors
/// What the plan's verifier says; a program that lowering made passes it.
pub(crate) fn plan(program: Program, mut builder: PlanBuilder) -> Result<Planned, String> {
    let layouts = schedule::orders(&program).map(|order| Layout::of(program.in_order(&order)));
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
    for step in &mut program.steps {
        step.op.relocate(place);
        builder.op(&step.name, step.op);
    }
    for output in &program.outputs {
        builder.output(&output.name, dtype(output.dtype), &output.dims).map_err(|e| e.to_string())?;
    }
    let plan = builder.finish().map_err(|e| e.to_string())?;
    Ok(Planned { plan, lower_bound_bytes: placement.lower_bound_bytes, blocks })
}

/// What lies in the arena, in the order in which it is written.
fn blocks(program: &Program, lifetimes: &Lifetimes, placement: &Placement) -> Vec<ArenaBlock> {
    let mut blocks: Vec<ArenaBlock> = vec![];
    let mut index_of = HashMap::new();
    for step in &program.steps {
        let owner = lifetimes.owner(step.op.output().offset);
        let Block { len, first, last } = lifetimes.blocks[owner];
        if len == 0 {
            continue;
        }
        let index = *index_of.entry(owner).or_insert_with(|| {
            let (offset, names) = (placement.offsets[owner], vec![]);
            blocks.push(ArenaBlock { names, offset, bytes: len, first_step: first, last_step: last });
            blocks.len() - 1
        });
        let names = &mut blocks[index].names;
        if !names.contains(&step.name) {
            names.push(step.name.clone());
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
