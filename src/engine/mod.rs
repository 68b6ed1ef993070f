//! What runs a model. One trait, one file per engine; [`crate::Session`] chooses and checks, an
//! engine may take what it is given as sound.

#[cfg(feature = "ort")]
mod ort;
mod plan;
mod sync;
mod threads;
#[cfg(feature = "torch")]
pub(crate) mod torch;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::Serialize;

use tractlet_core::isa::Isa;

use crate::lower;
use crate::model::{Binding, DType, Fault, Limits, Model, ModelError, Shapes};
use crate::plan::ArenaBlock;
use crate::session::SessionOptions;
use crate::tensor::{TensorMut, TensorRef};

#[cfg(feature = "ort")]
pub use self::ort::{OrtOptions, Provider};
use plan::compile;
pub(crate) use plan::{Compiled, Origin, PlanBytes, StablePlan, Windows, footprint, spec};
#[cfg(feature = "tract")]
use tract::TractEngine;

/// Which engine to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineChoice {
    /// The best that can take the model. The session says which it took, and why.
    #[default]
    Auto,
    /// A plan: integer kernels in one arena, no allocation in a run. Refuses a model with a node that it
    /// cannot lower.
    Plan,
    /// tract: takes almost any operator, computes quantized models in float. Refuses every model in a
    /// build without the feature `tract`.
    Tract,
    /// ONNX Runtime's shared library, on the CPU or a GPU. Refuses every model in a build without the feature `ort`.
    /// `Auto` never takes it.
    Ort,
    /// libtorch: takes TorchScript files and nothing else. Only in a build with the feature `torch`.
    Torch,
}

impl EngineChoice {
    /// Whether this build has it.
    ///
    /// ```
    /// use tractlet::EngineChoice;
    /// assert!(EngineChoice::Plan.is_built());
    /// assert_eq!(EngineChoice::Tract.is_built(), cfg!(feature = "tract"));
    /// ```
    pub const fn is_built(self) -> bool {
        match self {
            EngineChoice::Auto | EngineChoice::Plan => true,
            EngineChoice::Tract => cfg!(feature = "tract"),
            EngineChoice::Ort => cfg!(feature = "ort"),
            EngineChoice::Torch => cfg!(feature = "torch"),
        }
    }

    /// Whether it may run a plan.
    ///
    /// ```
    /// use tractlet::EngineChoice;
    /// assert!(EngineChoice::Auto.is_planned() && !EngineChoice::Tract.is_planned());
    /// ```
    pub const fn is_planned(self) -> bool {
        matches!(self, EngineChoice::Auto | EngineChoice::Plan)
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Plan => "plan",
            EngineChoice::Tract => "tract",
            EngineChoice::Ort => "ort",
            EngineChoice::Torch => "torch",
        })
    }
}

/// An engine that runs a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EngineName {
    /// The plan engine.
    Plan,
    /// tract.
    Tract,
    /// ONNX Runtime.
    Ort,
    /// libtorch.
    Torch,
}

/// A session's input or output: its name, element type and shape, every dimension a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, row-major.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Size in bytes.
    pub fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// How an engine runs one node of the model; of ONNX Runtime, one node of the graph that it makes of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// The node's name in the model.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The type that it computes in, whatever the types at its ends.
    pub dtype: &'static str,
    /// The engine that runs it.
    pub engine: EngineName,
    /// On ONNX Runtime the execution provider that runs it, as it is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// On a plan, why it computes in float although its input or its weights are quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_float: Option<String>,
    /// Whether it does arithmetic on activations, and so counts in [`int8_ratio`].
    #[serde(skip)]
    pub computes: bool,
}

/// One step of a plan: a kernel over some tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// Name of the model's node that it stands for.
    pub name: String,
    /// What the step does, such as `ConvS8`.
    pub kind: &'static str,
    /// Element type of its output.
    pub dtype: &'static str,
    /// Multiply-accumulates of a convolution or matrix product, padding counted; else 0.
    pub macs: u64,
    /// Bytes that it reads, each tensor, weight and table once.
    pub read_bytes: u64,
    /// Bytes that it writes.
    pub written_bytes: u64,
    /// Bytes of scratch that its kernel works in.
    pub scratch_bytes: usize,
}

/// One step of a profiled run.
#[derive(Clone, Debug, Serialize)]
pub struct StepTime {
    /// Name of the step: a node's, as the engine calls it.
    pub name: String,
    /// What the step does.
    pub kind: String,
    /// Element type of its output.
    pub dtype: String,
    /// Multiply-accumulates, where the engine counts them.
    pub macs: Option<u64>,
    /// Duration, in nanoseconds.
    #[serde(skip)]
    pub nanos: u64,
}

/// Memory that a session will use, known before its first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Packed weights, biases, multipliers and tables, with the ops and their names.
    pub weights_bytes: usize,
    /// Activations, without inputs and outputs: the arena, less what is there for scratch alone.
    pub arena_bytes: usize,
    /// By how much the scratch of kernels makes the arena larger. It lies among the activations, where
    /// none is alive, so this is at most about the largest [`StepReport::scratch_bytes`], often less. With more threads
    /// than one there is about as much again for each of them.
    pub scratch_bytes: usize,
    /// Of the arena, what is kept from one run to the next: where a session runs hop by hop, else 0.
    pub state_bytes: usize,
    /// Inputs and outputs, which the caller holds: they are read and written where they are.
    pub io_bytes: usize,
    /// Weights, arena, scratch, inputs and outputs.
    pub total_bytes: usize,
    /// The largest sum of tensors and scratch that are alive at once: `arena_bytes` and
    /// `scratch_bytes` together cannot be less.
    pub arena_lower_bound_bytes: usize,
}

/// A session that is given only what is new of each window, and answers as if it had been given all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HopReport {
    /// The dimension of the input that is time.
    pub axis: usize,
    /// Rows from a window to the next: what a run takes.
    pub rows: usize,
    /// Rows of a window.
    pub window_rows: usize,
    /// Runs until the answer is that of a whole window: at the start, and behind a gap. Rows that the first of them takes
    /// beyond a window can be anything.
    pub runs: usize,
    /// Multiply-accumulates of a whole window; a plan out of a file does not say.
    pub window_macs: Option<u64>,
    /// The first step that is computed of the whole window at each hop.
    pub whole_from: Option<WholeFrom>,
}

/// A step that takes whole windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WholeFrom {
    /// Its name.
    pub step: String,
    /// What keeps it from taking less.
    pub why: String,
}

/// Hops that are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HopAsked {
    /// Rows of the input along time.
    pub rows: usize,
    /// Rows that a window has to have, where that is known.
    pub window_rows: Option<usize>,
}

/// What an engine says of the model that it took.
pub(crate) struct Description {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Inputs that are quantized before anything else: NaN has no integer.
    pub quantized: Vec<bool>,
    /// How each node of the model is run, in graph order.
    pub nodes: Vec<NodeReport>,
    /// In execution order, where there is a plan.
    pub steps: Vec<StepReport>,
    /// Where they keep their activations.
    pub blocks: Vec<ArenaBlock>,
    /// What runs it, where the engine has a choice.
    pub provider: Option<&'static str>,
}

/// What a session needs of an engine.
pub(crate) trait Engine: Send {
    fn name(&self) -> EngineName;
    fn description(&self) -> &Description;
    /// What it will use, where it plans that.
    fn memory(&self) -> Option<MemoryPlan> {
        None
    }
    /// How it runs, if hop by hop.
    fn hop(&self) -> Option<&HopReport> {
        None
    }
    /// Why it takes whole windows, where it was to run hop by hop.
    fn whole_windows(&self) -> Option<&str> {
        None
    }
    /// Runs one inference. Slices have the lengths and types that the specs state.
    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault>;
    /// As [`Engine::run`], as often as `runs` says; `each` sees the time of each step of each run.
    fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        each: &mut dyn FnMut(&[StepTime]),
    ) -> Result<(), EngineFault>;
}

/// A run that failed inside an engine.
#[derive(Debug)]
pub(crate) enum EngineFault {
    /// An index that an input holds, or that follows from one, lies outside of what this node looks elements up in.
    Index { node: String },
    /// Anything else; without a node where the engine cannot tell.
    Failed { node: String, what: String },
}

/// Share of a model's computing nodes that run in int8, from 0 to 1; `None` where nothing computes.
pub fn int8_ratio(nodes: &[NodeReport]) -> Option<f64> {
    let computing = nodes.iter().filter(|node| node.computes);
    let total = computing.clone().count();
    let int8 = computing.filter(|node| matches!(node.dtype, "int8" | "uint8")).count();
    (total > 0).then(|| int8 as f64 / total as f64)
}

/// An engine for `model` with the given input shapes, or why none can be had. Where `Auto` did not
/// get its first choice, also why not.
pub(crate) fn open(
    options: &SessionOptions,
    model: &Model,
    bindings: &[Binding],
) -> Result<(Box<dyn Engine>, Option<String>), ModelError> {
    let choice = options.engine;
    let shapes = model.shapes(bindings)?;
    match choice {
        EngineChoice::Tract => return Ok((reference(model, bindings, &shapes)?, None)),
        EngineChoice::Ort => return onnx_runtime(model, bindings, &shapes, options),
        EngineChoice::Torch => {
            let what = "the engine torch runs TorchScript files, and this is an ONNX model";
            return Err(model.error(Fault::unsupported(what)));
        }
        EngineChoice::Auto | EngineChoice::Plan => {}
    }
    let isa = isa().map_err(|what| model.error(Fault::unsupported(what)))?;
    let refusals = match compile(model, &shapes, isa, options.hop, None) {
        Ok(compiled) => {
            return Ok((
                of_plan(compiled, options.threads_or_one(), model.limits()).map_err(|fault| model.error(fault))?,
                None,
            ));
        }
        Err(refusals) => lower::list(&refusals),
    };
    if choice == EngineChoice::Auto && EngineChoice::Tract.is_built() {
        let fallback = format!("no plan can be made: {refusals}");
        return Ok((reference(model, bindings, &shapes)?, Some(fallback)));
    }
    Err(no_plan(model, &refusals))
}

fn no_plan(model: &Model, refusals: &str) -> ModelError {
    let instead =
        if EngineChoice::Tract.is_built() { "try --engine tract".to_owned() } else { format!("and {NO_TRACT}") };
    model.error(Fault::unsupported(format!("the plan engine cannot take it: {refusals}; {instead}")))
}

/// A plan for `model` that will lie in a file.
pub(crate) fn plan_for(
    model: &Model,
    bindings: &[Binding],
    isa: Isa,
    hop: Option<HopAsked>,
    origin: &Origin<'_>,
) -> Result<Compiled, ModelError> {
    let shapes = model.shapes(bindings)?;
    compile(model, &shapes, isa, hop, Some(origin)).map_err(|refusals| no_plan(model, &lower::list(&refusals)))
}

/// The engine for a plan that this CPU can run.
pub(crate) fn of_plan(compiled: Compiled, threads: NonZeroUsize, limits: &Limits) -> Result<Box<dyn Engine>, Fault> {
    Ok(Box::new(compiled.engine(threads, limits)?))
}

const NO_TRACT: &str = "this build has no tract engine: built without the feature `tract`";
const NO_TORCH: &str = "this build has no torch engine: built without the feature `torch`";

#[cfg(feature = "tract")]
fn reference(model: &Model, bindings: &[Binding], shapes: &Shapes) -> Result<Box<dyn Engine>, ModelError> {
    Ok(Box::new(TractEngine::new(model, bindings, shapes)?))
}

#[cfg(not(feature = "tract"))]
fn reference(model: &Model, _: &[Binding], _: &Shapes) -> Result<Box<dyn Engine>, ModelError> {
    Err(model.error(Fault::unsupported(NO_TRACT)))
}

const NO_ORT: &str = "this build has no ort engine: built without the feature `ort`";

#[cfg(feature = "ort")]
fn onnx_runtime(
    model: &Model,
    bindings: &[Binding],
    shapes: &Shapes,
    options: &SessionOptions,
) -> Result<(Box<dyn Engine>, Option<String>), ModelError> {
    let (engine, fallback) = ort::OrtEngine::new(model, bindings, shapes, options)?;
    Ok((Box::new(engine), fallback))
}

#[cfg(not(feature = "ort"))]
fn onnx_runtime(
    model: &Model,
    _: &[Binding],
    _: &Shapes,
    _: &SessionOptions,
) -> Result<(Box<dyn Engine>, Option<String>), ModelError> {
    Err(model.error(Fault::unsupported(NO_ORT)))
}

/// Names an instruction set to use in place of the best one that the CPU has.
const ISA_VARIABLE: &str = "TRACTLET_ISA";

/// The instruction set to use here: the best that the CPU has, or the one that the environment names.
pub(crate) fn isa() -> Result<Isa, String> {
    Ok(held_to()?.unwrap_or_else(Isa::detect))
}

/// The instruction set that the environment names, if it does.
pub(crate) fn held_to() -> Result<Option<Isa>, String> {
    let Some(name) = std::env::var_os(ISA_VARIABLE) else { return Ok(None) };
    let isa: Isa = name.to_string_lossy().parse().map_err(|e| format!("{ISA_VARIABLE}: {e}"))?;
    if isa.is_available() { Ok(Some(isa)) } else { Err(format!("{ISA_VARIABLE}: this CPU has no {isa}")) }
}

/// Edges of quantization and operators that only rename, move or make data do not count as compute.
fn computes(op: &str) -> bool {
    let is_edge = matches!(
        op,
        "QuantizeLinear"
            | "DequantizeLinear"
            | "DynamicQuantizeLinear"
            | "Constant"
            | "ConstantOfShape"
            | "Cast"
            | "Shape"
            | "Size"
            | "QLinearConcat"
            | "MemcpyFromHost"
            | "MemcpyToHost"
    );
    !is_edge && !lower::moves(op)
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EngineName::Plan => "plan",
            EngineName::Tract => "tract",
            EngineName::Ort => "ort",
            EngineName::Torch => "torch",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineChoice, String> {
        let choice = match text {
            "auto" => EngineChoice::Auto,
            "plan" => EngineChoice::Plan,
            "tract" => EngineChoice::Tract,
            "ort" => EngineChoice::Ort,
            "torch" => EngineChoice::Torch,
            other => return Err(format!("there is no engine `{other}` in this build; it has: {}", built().join(", "))),
        };
        match choice {
            choice if choice.is_built() => Ok(choice),
            EngineChoice::Ort => Err(NO_ORT.to_owned()),
            EngineChoice::Torch => Err(NO_TORCH.to_owned()),
            _ => Err(NO_TRACT.to_owned()),
        }
    }
}

/// Names of the engines that this build has.
fn built() -> Vec<String> {
    let all = [EngineChoice::Auto, EngineChoice::Plan, EngineChoice::Tract, EngineChoice::Ort, EngineChoice::Torch];
    all.into_iter().filter(|choice| choice.is_built()).map(|choice| choice.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operator that the checks know.
    fn operators() -> impl Iterator<Item = &'static str> {
        let lines = include_str!("../model/check/operators.txt").lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(' ').next())
    }

    #[test]
    fn what_moves_elements_does_not_compute() {
        assert!(operators().filter(|op| lower::moves(op)).all(|op| !computes(op)));
        assert!(!computes("GatherND") && !computes("DepthToSpace") && computes("Conv") && computes("MaxPool"));
    }

    #[cfg(feature = "quantize")]
    #[test]
    fn what_the_quantizer_takes_for_a_move_is_one_here() {
        let taken: Vec<&str> = operators().filter(|op| tractlet_quantize::hands_on(op)).collect();
        assert!(taken.contains(&"DepthToSpace") && taken.iter().all(|op| lower::moves(op) || op.ends_with("MaxPool")));
    }
}
