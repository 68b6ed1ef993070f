//! The engine that the project is for: a plan in integers, one arena, no allocation in a run.

use std::time::Instant;

use tractlet_core::exec::Hook;
use tractlet_core::isa::Isa;
use tractlet_core::plan::{AlignedBytes, Op, Plan};

use super::{
    Description, Engine, EngineFault, EngineName, MemoryPlan, NodeReport, StepReport, StepTime, TensorSpec, computes,
};
use crate::lower::{self, Lowered, Refusal};
use crate::model::{Model, Shapes};
use crate::plan::{Planned, plan};
use crate::tensor::{TensorMut, TensorRef};

pub(crate) struct PlanEngine {
    plan: Plan<AlignedBytes>,
    memory: AlignedBytes,
    footprint: MemoryPlan,
    description: Description,
}

impl PlanEngine {
    /// The engine, or the nodes that no plan can have.
    pub fn new(model: &Model, shapes: &Shapes, isa: Isa) -> Result<PlanEngine, Vec<Refusal>> {
        let Lowered { program, constants, computed_in } = lower::lower(model, shapes, isa)?;
        let spec =
            |port: &lower::Port| TensorSpec { name: port.name.clone(), dtype: port.dtype, shape: port.dims.clone() };
        let (inputs, outputs) = (program.inputs.iter().map(spec).collect(), program.outputs.iter().map(spec).collect());
        let report = |node: &crate::model::Node| NodeReport {
            name: node.name.clone(),
            op: node.op.clone(),
            dtype: node.outputs.first().and_then(|output| computed_in.get(output)).copied().unwrap_or("int8"),
            engine: EngineName::Plan,
            computes: computes(node),
        };
        let nodes = model.graph().nodes.iter().map(report).collect();
        let Planned { plan, scratch_bytes, lower_bound_bytes, blocks } =
            plan(program, constants).map_err(|why| vec![Refusal { node: "all".into(), op: "plan".into(), why }])?;
        let memory = AlignedBytes::zeroed(plan.arena_bytes());
        let weights_bytes = plan.as_bytes().len();
        let io_bytes = plan.inputs().chain(plan.outputs()).map(|port| port.byte_len()).sum();
        let footprint = MemoryPlan {
            weights_bytes,
            arena_bytes: plan.arena_bytes() - scratch_bytes,
            scratch_bytes,
            io_bytes,
            total_bytes: weights_bytes + plan.arena_bytes() + io_bytes,
            arena_lower_bound_bytes: lower_bound_bytes,
        };
        let steps = plan.ops().map(|(name, op)| step(name, &op)).collect();
        let description = Description { inputs, outputs, nodes, steps, blocks };
        Ok(PlanEngine { plan, memory, footprint, description })
    }

    fn execute(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        hook: &mut impl Hook,
    ) -> Result<(), EngineFault> {
        let run = self.plan.run_with(&mut self.memory, inputs, outputs, hook);
        run.map_err(|error| EngineFault { node: String::new(), what: error.to_string() })
    }
}

impl Engine for PlanEngine {
    fn name(&self) -> EngineName {
        EngineName::Plan
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory(&self) -> Option<MemoryPlan> {
        Some(self.footprint)
    }

    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
        self.execute(inputs, outputs, &mut ())
    }

    fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        steps: &mut Vec<StepTime>,
    ) -> Result<(), EngineFault> {
        let mut stopwatch = Stopwatch { start: Instant::now(), nanos: vec![] };
        self.execute(inputs, outputs, &mut stopwatch)?;
        steps.extend(self.description.steps.iter().zip(stopwatch.nanos).map(|(step, nanos)| StepTime {
            name: step.name.clone(),
            kind: step.kind.to_owned(),
            dtype: step.dtype.to_owned(),
            macs: Some(step.macs),
            nanos,
        }));
        Ok(())
    }
}

fn step(name: &str, op: &Op) -> StepReport {
    StepReport {
        name: name.to_owned(),
        kind: op.kind(),
        dtype: if op.writes_f32() { "float32" } else { "int8" },
        macs: op.macs(),
        read_bytes: op.read_bytes(),
        written_bytes: op.written_bytes(),
        scratch_bytes: op.scratch().len,
    }
}

struct Stopwatch {
    start: Instant,
    nanos: Vec<u64>,
}

impl Hook for Stopwatch {
    fn before(&mut self, _: usize) {
        self.start = Instant::now();
    }

    fn after(&mut self, _: usize, _: &[u8]) {
        self.nanos.push(self.start.elapsed().as_nanos() as u64);
    }
}
