//! From a [`Program`] to a plan: in which order steps run, which tensors share memory, where each
//! lies, and the finished, verified bytes.

mod arena;
mod blocks;
mod hop;
mod join;
mod lifetime;
mod once;
mod pack;
mod schedule;

use std::cmp::Reverse;

use tractlet_core::isa::Isa;
use tractlet_core::plan::{ALIGN, AlignedBytes, DType as PlanDType, MAX_OPS, Operand, Plan, PlanBuilder, Section};

use crate::lower::{Hop, Program, TensorId};
use crate::model::DType;
use arena::Placement;
pub use blocks::ArenaBlock;
pub(crate) use blocks::blocks;
pub(crate) use hop::{Hopping, by_hops};
use lifetime::Lifetimes;
pub(crate) use once::once;
pub(crate) use pack::packed;

/// A program in an order, and where that puts its tensors.
struct Layout {
    program: Program,
    lifetimes: Lifetimes,
    placement: Placement,
}

impl Layout {
    fn of(mut program: Program, isa: Isa, join: bool) -> Layout {
        let lifetimes = lifetime::of(&mut program, isa, join);
        let placement = arena::place(&lifetimes.blocks);
        Layout { program, lifetimes, placement }
    }
}

/// Lays out the arena and builds the plan; `builder` holds the constants already.
///
/// # Errors
/// There are too many ops. Else what the plan's verifier says; a program that lowering made passes it.
pub(crate) fn plan<B>(program: Program, mut builder: PlanBuilder) -> Result<Plan<B>, String>
where
    B: AsRef<[u8]> + From<AlignedBytes>,
{
    let isa = builder.isa();
    if program.steps.len() > MAX_OPS {
        return Err(format!("it takes {} ops, and a plan has at most {MAX_OPS}", program.steps.len()));
    }
    let layouts: Vec<Layout> = match program.hop {
        // Between parts of one tensor there is an order.
        Some(_) => vec![Layout::of(program, isa, false)],
        None => {
            let orders = schedule::orders(&program);
            let ways = orders.iter().flat_map(|order| [true, false].map(|join| (order, join)));
            ways.map(|(order, join)| Layout::of(program.in_order(order), isa, join)).collect()
        }
    };
    // The least memory, then the fewest copies. The model's own order where it is no worse.
    let cost = |layout: &Layout| (layout.placement.arena_bytes, Reverse(layout.lifetimes.copies_left_out()));
    let layout = layouts.into_iter().min_by_key(cost).ok_or("there is no order")?;
    let Layout { program, lifetimes, placement } = layout;
    let offset = |tensor: TensorId| {
        let (owner, within) = lifetimes.owner(tensor);
        let start = if lifetimes.section(tensor) == Section::Arena { placement.offsets[owner] } else { 0 };
        start + within
    };
    let place = |operand: Operand| {
        let (tensor, start) = program.base(operand.offset);
        Operand { section: lifetimes.section(tensor), offset: offset(tensor) + start, len: operand.len }
    };
    if let Some(Hop { axis, window_rows, kept }) = &program.hop {
        let end = kept.iter().map(|&tensor| offset(tensor) + program.tensors[tensor]).max();
        builder.hop(*axis, *window_rows, end.unwrap_or(0).next_multiple_of(ALIGN));
    }
    for input in &program.inputs {
        builder.input(&input.name, dtype(input.dtype), &input.dims).map_err(|e| e.to_string())?;
    }
    for (index, step) in program.steps.iter().enumerate().filter(|(index, _)| !lifetimes.leaves_out(*index)) {
        let mut op = step.op;
        op.relocate(place);
        let scratch = placement.offsets[lifetimes.scratch(index)];
        builder.op(&step.name, op.with_scratch_at(isa, scratch));
    }
    for output in &program.outputs {
        builder.output(&output.name, dtype(output.dtype), &output.dims).map_err(|e| e.to_string())?;
    }
    // How much of the arena is there for scratch alone: it would do without if no kernel took any.
    let [arena_bytes, without_scratch] =
        [placement.arena_bytes, arena::place(lifetimes.tensors()).arena_bytes].map(|b| b.next_multiple_of(ALIGN));
    builder.arena_parts(arena_bytes.saturating_sub(without_scratch), placement.lower_bound_bytes);
    builder.finish_in().map_err(|e| e.to_string())
}

fn dtype(dtype: DType) -> PlanDType {
    match dtype {
        DType::I8 => PlanDType::I8,
        DType::U8 => PlanDType::U8,
        DType::Bool => PlanDType::Bool,
        DType::I32 => PlanDType::I32,
        DType::I64 => PlanDType::I64,
        _ => PlanDType::F32,
    }
}
