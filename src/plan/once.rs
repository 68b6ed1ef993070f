//! A program that is run here and now: what follows from constants when a model is lowered.

use tractlet_core::plan::{AlignedBytes, Plan, PlanBuilder};

use super::{packed, plan};
use crate::lower::Program;

/// The bytes of the outputs of a program without inputs; `builder` holds its constants, for an instruction set of this CPU.
///
/// # Errors
/// It makes no plan, or an index that it looks up is not there.
pub(crate) fn once(program: Program, mut builder: PlanBuilder) -> Result<Vec<AlignedBytes>, String> {
    let program = packed(program, &mut builder);
    let plan: Plan<AlignedBytes> = plan(program, builder)?;
    let mut memory = AlignedBytes::zeroed(plan.memory_bytes(1));
    let mut outputs: Vec<AlignedBytes> = plan.outputs().map(|port| AlignedBytes::zeroed(port.byte_len())).collect();
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|output| &mut **output).collect();
    plan.run(&mut memory, &[] as &[&[u8]], &mut slices).map_err(|e| e.to_string())?;
    Ok(outputs)
}
