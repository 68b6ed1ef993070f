//! From a [`Program`] to a plan: which tensors share memory, where each lies, and the finished,
//! verified bytes.

mod arena;
mod lifetime;

use tractlet_core::plan::{AlignedBytes, ArenaSpan, DType as PlanDType, Plan, PlanBuilder};

use crate::lower::{Port, Program};
use crate::model::DType;

/// A plan with what is known of its memory.
pub(crate) struct Planned {
    pub plan: Plan<AlignedBytes>,
    /// The largest sum of tensors that are alive at once: no arena can be smaller.
    pub lower_bound_bytes: usize,
    /// Of inputs and outputs, which lie in the arena too.
    pub io_bytes: usize,
}

/// Lays out the arena and builds the plan; `builder` holds the constants already.
///
/// # Errors
/// What the plan's verifier says; a program that lowering made passes it.
pub(crate) fn plan(mut program: Program, mut builder: PlanBuilder) -> Result<Planned, String> {
    let lifetimes = lifetime::of(&mut program);
    let placement = arena::place(&lifetimes);
    let place = |span: ArenaSpan| {
        let owner = lifetimes.owner(span.offset);
        ArenaSpan { offset: placement.offsets[owner], len: span.len }
    };
    let port = |port: &Port| {
        (
            port.name.clone(),
            dtype(port.dtype),
            port.dims.clone(),
            place(ArenaSpan { offset: port.tensor, len: program.tensors[port.tensor] }),
        )
    };
    let mut io_bytes = 0;
    for input in &program.inputs {
        let (name, dtype, dims, span) = port(input);
        io_bytes += span.len;
        builder.input(&name, dtype, &dims, span).map_err(|e| e.to_string())?;
    }
    for step in &mut program.steps {
        step.op.relocate(place);
    }
    for step in &program.steps {
        builder.op(&step.name, step.op);
    }
    for output in &program.outputs {
        let (name, dtype, dims, span) = port(output);
        io_bytes += span.len;
        builder.output(&name, dtype, &dims, span).map_err(|e| e.to_string())?;
    }
    let plan = builder.finish().map_err(|e| e.to_string())?;
    Ok(Planned { plan, lower_bound_bytes: placement.lower_bound_bytes, io_bytes })
}

fn dtype(dtype: DType) -> PlanDType {
    match dtype {
        DType::I8 => PlanDType::I8,
        DType::U8 => PlanDType::U8,
        _ => PlanDType::F32,
    }
}
