//! The engine that the project is for: a plan in integers, one arena, no allocation in a run.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use tractlet_core::exec::{Hook, RunError, Team};
use tractlet_core::isa::Isa;
use tractlet_core::plan::{AlignedBytes, DType as PlanDType, Hop, MAX_PARTS, Op, Plan, Port};

use super::threads::Threads;
use super::{
    Description, Engine, EngineFault, EngineName, HopAsked, HopReport, MemoryPlan, NodeReport, StepReport, StepTime,
    TensorSpec, WholeFrom, computes,
};
use crate::footprint::room_for;
use crate::lower::{self, Lowered, Refusal};
use crate::model::{DType, Fault, Limits, Model, Shapes, Source};
use crate::plan::{Hopping, blocks, by_hops, once, packed, plan};
use crate::tensor::{TensorMut, TensorRef};

/// A verified plan in bytes that nobody changes: its own, or a mapped file's.
pub(crate) type StablePlan = Plan<PlanBytes>;

/// Where the bytes of a plan are.
#[derive(Clone, Debug)]
pub(crate) enum PlanBytes {
    /// On the heap, where the plan was made.
    Made(Arc<AlignedBytes>),
    /// In a file.
    Stored(Arc<Source>),
}

impl AsRef<[u8]> for PlanBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            PlanBytes::Made(bytes) => bytes,
            PlanBytes::Stored(source) => source,
        }
    }
}

impl From<AlignedBytes> for PlanBytes {
    fn from(bytes: AlignedBytes) -> PlanBytes {
        PlanBytes::Made(Arc::new(bytes))
    }
}

pub(crate) struct PlanEngine {
    plan: StablePlan,
    threads: Threads,
    /// The arena, of which what is kept from run to run lies at the start, and what further threads work in.
    memory: AlignedBytes,
    description: Description,
    hop: Option<HopReport>,
    whole_windows: Option<String>,
}

/// A plan for a model, with how each of the model's nodes is run.
pub(crate) struct Compiled {
    pub plan: StablePlan,
    /// The model's, where they are known.
    pub nodes: Vec<NodeReport>,
    /// What is known of its windows beyond the plan itself.
    pub windows: Windows,
}

/// How windows are run, as far as a plan does not say.
#[derive(Default)]
pub(crate) struct Windows {
    /// Multiply-accumulates of a whole window, where the plan runs hop by hop.
    pub macs: Option<u64>,
    /// The first step that takes the whole window at each hop, and why.
    pub whole_from: Option<(String, String)>,
    /// Why the plan takes whole windows, where it was to run hop by hop.
    pub refused: Option<String>,
}

impl Compiled {
    /// The engine for it on this CPU, which has to be able to run it, with as many threads for an inference.
    pub fn engine(self, threads: NonZeroUsize, limits: &Limits) -> Result<PlanEngine, Fault> {
        let threads = threads.get();
        if threads > MAX_PARTS {
            return Err(Fault::limit("threads of an inference on the plan engine", threads as u64, MAX_PARTS as u64));
        }
        let memory_bytes = self.plan.memory_bytes(threads);
        // One thread works in the arena, which is held against its limit where a file is opened.
        if threads > 1 && memory_bytes as u64 > limits.arena_bytes {
            let what = format!("the plan's arena with what {threads} threads work in, in bytes");
            return Err(Fault::limit(what, memory_bytes as u64, limits.arena_bytes));
        }
        room_for("the plan's arena", memory_bytes)?;
        let started = Threads::start(threads);
        Ok(PlanEngine::new(self, started.map_err(|source| Fault::Io { action: "start a thread", source })?))
    }
}

/// What a plan that will lie in a file says of its model.
pub(crate) struct Origin<'a> {
    pub name: &'a str,
    pub digest: [u32; 8],
}

/// Makes the plan for an instruction set, which need not be this CPU's, or names the nodes that no plan can have.
pub(crate) fn compile(
    model: &Model,
    shapes: &Shapes,
    isa: Isa,
    hop: Option<HopAsked>,
    origin: Option<&Origin<'_>>,
) -> Result<Compiled, Vec<Refusal>> {
    let Lowered { program, mut constants, computed_in, mut why_float, constant } =
        lower::lower(model, shapes, isa, once)?;
    let report = |node: &crate::model::Node| {
        let output = node.made();
        let dtype = output.and_then(|output| computed_in.get(output)).copied().unwrap_or("int8");
        NodeReport {
            name: node.name.clone(),
            op: node.op.clone(),
            dtype,
            engine: EngineName::Plan,
            provider: None,
            // What floats were tried for may be on integers in another way.
            why_float: output.and_then(|output| why_float.remove(output)).filter(|_| dtype == "float32"),
            computes: computes(&node.op) && output.is_none_or(|output| !constant.contains(output)),
        }
    };
    let nodes = model.graph().nodes.iter().map(report).collect();
    if let Some(Origin { name, digest }) = origin {
        constants.model(name, *digest);
    }
    let mut windows = Windows::default();
    let program = match hop.map(|hop| by_hops(&program, hop.rows, hop.window_rows, &mut constants)) {
        None => packed(program, &mut constants),
        Some(Ok(Hopping { program, window_macs, whole_from })) => {
            (windows.macs, windows.whole_from) = (Some(window_macs), whole_from);
            program
        }
        Some(Err(why)) => {
            windows.refused = Some(why);
            packed(program, &mut constants)
        }
    };
    let plan = plan(program, constants).map_err(|why| vec![Refusal { node: "all".into(), op: "plan".into(), why }])?;
    Ok(Compiled { plan, nodes, windows })
}

/// The memory that a plan will use on so many threads.
pub(crate) fn footprint(plan: &StablePlan, threads: usize) -> MemoryPlan {
    let memory_bytes = plan.memory_bytes(threads);
    let arena_bytes = plan.arena_bytes() - plan.scratch_bytes();
    let weights_bytes = plan.as_bytes().len();
    let io_bytes = plan.inputs().chain(plan.outputs()).map(|port| port.byte_len()).sum();
    MemoryPlan {
        weights_bytes,
        arena_bytes,
        scratch_bytes: memory_bytes - arena_bytes,
        state_bytes: plan.state_bytes(),
        io_bytes,
        total_bytes: memory_bytes.saturating_add(weights_bytes).saturating_add(io_bytes),
        arena_lower_bound_bytes: plan.arena_lower_bound_bytes(),
    }
}

/// A plan's input or output, as sessions state it.
pub(crate) fn spec(port: Port<'_>) -> TensorSpec {
    let dtype = match port.dtype {
        PlanDType::F32 => DType::F32,
        PlanDType::I8 => DType::I8,
        PlanDType::U8 => DType::U8,
        PlanDType::Bool => DType::Bool,
        PlanDType::I32 => DType::I32,
        PlanDType::I64 => DType::I64,
    };
    TensorSpec { name: port.name.to_owned(), dtype, shape: port.shape().to_vec() }
}

impl PlanEngine {
    fn new(Compiled { plan, nodes, windows }: Compiled, threads: Threads) -> PlanEngine {
        let memory = AlignedBytes::zeroed(plan.memory_bytes(threads.threads()));
        let description = Description {
            inputs: plan.inputs().map(spec).collect(),
            outputs: plan.outputs().map(spec).collect(),
            quantized: (0..plan.inputs().len()).map(|input| plan.quantizes(input)).collect(),
            nodes,
            steps: plan.ops().map(|(name, op)| step(name, &op)).collect(),
            blocks: blocks(&plan),
            provider: None,
        };
        let hop = plan.hop().map(|hop| hop_report(hop, windows.macs, windows.whole_from));
        PlanEngine { plan, threads, memory, description, hop, whole_windows: windows.refused }
    }

    fn execute(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        hook: &mut impl Hook,
    ) -> Result<(), EngineFault> {
        let run = self.plan.run_on(&mut self.threads, &mut self.memory, inputs, outputs, hook);
        run.map_err(|error| match error {
            RunError::Index { index } => {
                EngineFault::Index { node: self.plan.ops().nth(index).map_or("", |(node, _)| node).to_owned() }
            }
            _ => EngineFault::Failed { node: String::new(), what: error.to_string() },
        })
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
        Some(footprint(&self.plan, self.threads.threads()))
    }

    fn hop(&self) -> Option<&HopReport> {
        self.hop.as_ref()
    }

    fn whole_windows(&self) -> Option<&str> {
        self.whole_windows.as_deref()
    }

    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
        self.execute(inputs, outputs, &mut ())
    }

    fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        each: &mut dyn FnMut(&[StepTime]),
    ) -> Result<(), EngineFault> {
        let named = |step: &StepReport| StepTime {
            name: step.name.clone(),
            kind: step.kind.to_owned(),
            dtype: step.dtype.to_owned(),
            macs: Some(step.macs),
            nanos: 0,
        };
        let mut steps: Vec<StepTime> = self.description.steps.iter().map(named).collect();
        for _ in 0..runs {
            let mut stopwatch = Stopwatch { start: Instant::now(), nanos: Vec::with_capacity(steps.len()) };
            self.execute(inputs, outputs, &mut stopwatch)?;
            steps.iter_mut().zip(stopwatch.nanos).for_each(|(step, nanos)| step.nanos = nanos);
            each(&steps);
        }
        Ok(())
    }
}

fn hop_report(hop: Hop, window_macs: Option<u64>, whole_from: Option<(String, String)>) -> HopReport {
    let (axis, rows, window_rows, runs) = (hop.axis, hop.rows, hop.window_rows, hop.runs());
    let whole_from = whole_from.map(|(step, why)| WholeFrom { step, why });
    HopReport { axis, rows, window_rows, runs, window_macs, whole_from }
}

fn step(name: &str, op: &Op) -> StepReport {
    StepReport {
        name: name.to_owned(),
        kind: op.kind(),
        dtype: op.dtype().name(),
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
