//! From a [`Program`] to a plan: in which order steps run, which tensors share memory, where each
//! lies, and the finished, verified bytes.

mod arena;
mod lifetime;
mod schedule;

use tractlet_core::plan::{AlignedBytes, DType as PlanDType, Operand, Plan, PlanBuilder, Section};

use crate::lower::Program;
use crate::model::DType;
use arena::Placement;
use lifetime::Lifetimes;

/// A plan with what is known of its memory.
pub(crate) struct Planned {
    pub plan: Plan<AlignedBytes>,
    /// The largest sum of tensors that are alive at once: no arena can be smaller.
    pub lower_bound_bytes: usize,
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
    Ok(Planned { plan, lower_bound_bytes: placement.lower_bound_bytes })
}

fn dtype(dtype: DType) -> PlanDType {
    match dtype {
        DType::I8 => PlanDType::I8,
        DType::U8 => PlanDType::U8,
        _ => PlanDType::F32,
    }
}
