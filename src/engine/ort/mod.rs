//! ONNX Runtime, from a shared library that is found at run time: the same model file on the CPU, on CUDA, on
//! TensorRT.
//!
//! It is given the bytes that were checked, never a path, and telemetry is off. Nothing falls back unsaid: which
//! provider took which node is found by running the model, and `require` refuses a model that is not whole on one.

mod binding;
mod library;
mod options;
mod probe;
mod profile;
mod saturation;

use std::fmt::Display;
use std::path::Path;

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynTensor, ValueType};

use super::{Description, Engine, EngineFault, EngineName, NodeReport, StepTime, TensorSpec, computes};
use crate::model::{AttributeValue, Binding as Dimension, DType, Fault, Model, ModelError, Shapes};
use crate::session::SessionOptions;
use crate::tensor::{TensorMut, TensorRef};
use binding::Binding;
pub use options::{OrtOptions, Provider};
use profile::Event;

pub(super) struct OrtEngine {
    /// Before the session that it is of.
    binding: Binding,
    session: Session,
    description: Description,
    remake: Remake,
}

/// Runs of a profile: as many as a median is steady with.
const MOST_PROFILED: usize = 200;

/// What a second session of the same model takes: one that writes a profile.
struct Remake {
    model: Vec<u8>,
    external: Vec<(String, Vec<u8>)>,
    dimensions: Vec<Dimension>,
    threads: usize,
    provider: Provider,
    options: OrtOptions,
}

impl OrtEngine {
    /// Also why the provider is not the first choice.
    pub fn new(
        model: &Model,
        dimensions: &[Dimension],
        shapes: &Shapes,
        session: &SessionOptions,
    ) -> Result<(OrtEngine, Option<String>), ModelError> {
        let refused = |what: String| model.error(Fault::unsupported(what));
        let options = &session.ort;
        let library = library::load().map_err(refused)?;
        let (provider, fallback) = choose(options, &library).map_err(refused)?;
        if let Some(required) = options.require.filter(|_| has_branches(model)) {
            let what = "a branch that no run has taken may have nodes elsewhere; a model with If, Loop or Scan";
            return Err(refused(format!("{what} cannot be required to be whole on {required}")));
        }
        let mut remake = Remake {
            model: model.file().to_vec(),
            external: model.external_files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect(),
            dimensions: dimensions.to_vec(),
            threads: session.threads.map_or(1, usize::from),
            provider,
            options: options.clone(),
        };
        let started = remake.session(None);
        let (started, fallback) = match (started, options.provider.or(options.require)) {
            (Ok(session), _) => (session, fallback),
            // Nobody asked for it.
            (Err(error), None) if provider != Provider::Cpu => {
                remake.provider = Provider::Cpu;
                let fallback = format!("provider {provider} cannot be started: {error}");
                (remake.session(None).map_err(|error| refused(cannot_take(Provider::Cpu, &error)))?, Some(fallback))
            }
            (Err(error), _) => return Err(refused(cannot_take(provider, &error))),
        };
        if remake.provider == Provider::Cpu && !options.exact {
            saturation::warn(model);
        }
        let inputs = input_specs(model, shapes).map_err(refused)?;
        let outputs = output_specs(&started, shapes, &inputs, &remake).map_err(refused)?;
        let binding = Binding::new(&started, &inputs, &outputs, remake.device()).map_err(refused)?;
        let quantized = model.inputs().iter().map(|input| model.quantizes(&input.name)).collect();
        let provider = Some(remake.provider.name());
        let description =
            Description { inputs, outputs, quantized, nodes: vec![], steps: vec![], blocks: vec![], provider };
        let mut engine = OrtEngine { binding, session: started, description, remake };
        if session.placement || options.require.is_some() {
            engine.description.nodes = engine.placement().map_err(refused)?;
        }
        if let Some(required) = options.require {
            whole_on(required, &engine.description.nodes).map_err(refused)?;
        }
        Ok((engine, fallback))
    }

    /// Where each node runs, by running them on ones: some models divide by what they are given.
    fn placement(&self) -> Result<Vec<NodeReport>, String> {
        let mut nodes = Vec::new();
        let ones: Vec<Vec<u64>> = self.description.inputs.iter().map(ones).collect();
        let inputs: Vec<TensorRef<'_>> = views(&self.description.inputs, &ones);
        let mut room: Vec<Vec<u64>> = self.description.outputs.iter().map(room).collect();
        let specs = &self.description.outputs;
        let mut outputs: Vec<TensorMut<'_>> = specs.iter().zip(&mut room).map(|(s, r)| view_mut(s, r)).collect();
        self.profiled(&inputs, &mut outputs, 1, |events| nodes = events.iter().map(report).collect())?;
        Ok(nodes)
    }

    /// Runs a session of its own that writes a profile; `each` sees the events of each of `runs` runs.
    fn profiled(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        mut each: impl FnMut(&[Event]),
    ) -> Result<(), String> {
        // ONNX Runtime keeps and writes some 300 bytes for each node of each run.
        let runs = runs.min(MOST_PROFILED);
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder for a profile: {error}"))?;
        let mut session = self.remake.session(Some(&folder.path().join("profile")))?;
        let (ins, outs) = (&self.description.inputs, &self.description.outputs);
        let mut binding = Binding::new(&session, ins, outs, self.remake.device())?;
        // The first run is another's: kernels are chosen and memory is had.
        for _ in 0..=runs {
            binding.run(&mut session, inputs, outputs)?;
        }
        let file = session.end_profiling().map_err(words)?;
        profile::read(Path::new(&file))?.iter().skip(1).for_each(|events| each(events));
        Ok(())
    }
}

impl Engine for OrtEngine {
    fn name(&self) -> EngineName {
        EngineName::Ort
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), EngineFault> {
        self.binding.run(&mut self.session, inputs, outputs).map_err(failed)
    }

    fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        each: &mut dyn FnMut(&[StepTime]),
    ) -> Result<(), EngineFault> {
        self.profiled(inputs, outputs, runs, |events| each(&events.iter().map(step).collect::<Vec<_>>()))
            .map_err(failed)
    }
}

impl Remake {
    /// A session, which writes a profile to files of the given name if there is one.
    fn session(&self, profile: Option<&Path>) -> Result<Session, String> {
        let options = &self.options;
        // `BuilderError` and `Error` are two types that say the same.
        let mut builder: SessionBuilder = Session::builder().map_err(words)?;
        builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(words)?;
        builder = builder.with_intra_threads(self.threads).map_err(words)?;
        builder = builder.with_execution_providers(self.providers()).map_err(words)?;
        if options.exact {
            builder = builder.with_precise_qmm().map_err(words)?;
        }
        for dimension in self.dimensions.iter().filter(|dimension| !dimension.symbol.is_empty()) {
            let size = i64::try_from(dimension.size).map_err(words)?;
            builder = builder.with_dimension_override(&dimension.symbol, size).map_err(words)?;
        }
        for (name, bytes) in &self.external {
            builder = builder.with_external_initializer_file_in_memory(name, bytes.clone().into()).map_err(words)?;
        }
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile).map_err(words)?;
        }
        builder.commit_from_memory(&self.model).map_err(words)
    }

    /// Those that a session is given beside the CPU's, in their order of preference.
    fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        let options = &self.options;
        // TF32 would drop 13 bits of a float that the file has.
        let mut cuda = ep::CUDA::default().with_device_id(options.device).with_tf32(false);
        if let Some(limit) = options.gpu_memory {
            cuda = cuda.with_memory_limit(limit);
        }
        let mut tensorrt = ep::TensorRT::default().with_device_id(options.device).with_int8(options.tensorrt_int8);
        if let Some(cache) = &options.tensorrt_cache {
            tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(cache.display());
        }
        let (cuda, tensorrt) = (cuda.build().error_on_failure(), tensorrt.build().error_on_failure());
        match self.provider {
            Provider::Cpu => vec![],
            Provider::Cuda => vec![cuda],
            Provider::TensorRt => vec![tensorrt, cuda],
        }
    }

    /// The GPU that it runs on.
    fn device(&self) -> Option<i32> {
        (self.provider != Provider::Cpu).then_some(self.options.device)
    }
}

/// The provider to start with, and why it is not CUDA if nobody chose.
fn choose(options: &OrtOptions, library: &Path) -> Result<(Provider, Option<String>), String> {
    let has = |provider| match provider {
        Provider::Cpu => true,
        Provider::Cuda => ep::CUDA::default().is_available().unwrap_or(false),
        Provider::TensorRt => ep::TensorRT::default().is_available().unwrap_or(false),
    };
    let lacks = |provider| format!("{} was built without the provider {provider}", library.display());
    if let (Some(chosen), Some(required)) = (options.provider, options.require)
        && chosen != required
    {
        return Err(format!("provider {required} is required, and {chosen} is chosen; leave one of them out"));
    }
    let (provider, fallback) = match options.provider.or(options.require) {
        Some(asked) if has(asked) => (asked, None),
        Some(asked) => {
            return Err(format!("{}; install one with it, such as Python's onnxruntime-gpu", lacks(asked)));
        }
        None if has(Provider::Cuda) => (Provider::Cuda, None),
        None => (Provider::Cpu, Some(lacks(Provider::Cuda))),
    };
    if provider != Provider::Cpu {
        library::preload_cuda(library);
    }
    Ok((provider, fallback))
}

/// Whether some of its nodes run only where others say so.
fn has_branches(model: &Model) -> bool {
    let attributes = model.graph().nodes.iter().flat_map(|node| &node.attributes);
    attributes.into_iter().any(|attribute| matches!(attribute.value, AttributeValue::Graph(_)))
}

/// Refuses a model of which a node runs elsewhere.
fn whole_on(provider: Provider, nodes: &[NodeReport]) -> Result<(), String> {
    let elsewhere: Vec<&NodeReport> =
        nodes.iter().filter(|node| node.provider.as_deref() != Some(provider.long_name())).collect();
    if elsewhere.is_empty() {
        return Ok(());
    }
    let listed = elsewhere.iter().take(5).map(|node| {
        format!("`{}` ({}) on {}", node.name, node.op, node.provider.as_deref().unwrap_or("an unknown provider"))
    });
    let more = if elsewhere.len() > 5 { ", ..." } else { "" };
    let (count, total) = (elsewhere.len(), nodes.len());
    let listed = listed.collect::<Vec<_>>().join(", ");
    Err(format!("{count} of {total} nodes do not run on the required provider {provider}: {listed}{more}"))
}

fn cannot_take(provider: Provider, error: &str) -> String {
    let hint = match provider {
        Provider::Cpu => "",
        _ if error.contains("cannot open shared object file") => {
            "; the library that it names has to be where the loader looks, such as LD_LIBRARY_PATH, or in the Python \
             environment that is active: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        }
        _ => "; --provider cpu does without a GPU",
    };
    format!("ONNX Runtime cannot take it on provider {provider}: {error}{hint}")
}

fn input_specs(model: &Model, shapes: &Shapes) -> Result<Vec<TensorSpec>, String> {
    let spec = |input: &crate::model::ValueInfo| {
        let (dtype, shape) = shapes.get(&input.name).ok_or_else(|| format!("input `{}` has no shape", input.name))?;
        Ok(TensorSpec { name: input.name.clone(), dtype, shape })
    };
    model.inputs().iter().map(spec).collect()
}

/// What shape inference leaves open ONNX Runtime may know, and else a run shows it.
fn output_specs(
    session: &Session,
    shapes: &Shapes,
    inputs: &[TensorSpec],
    remake: &Remake,
) -> Result<Vec<TensorSpec>, String> {
    let known = |outlet: &ort::value::Outlet| {
        if let Some((dtype, shape)) = shapes.get(outlet.name()) {
            return Some(TensorSpec { name: outlet.name().to_owned(), dtype, shape });
        }
        spec_of(outlet.name(), outlet.dtype())
    };
    if let Some(specs) = session.outputs().iter().map(known).collect() {
        return Ok(specs);
    }
    let mut session = remake.session(None)?;
    let tensor = |spec: &TensorSpec| {
        let tensor = DynTensor::new(session.allocator(), binding::element(spec.dtype), spec.shape.as_slice());
        Ok((spec.name.clone(), tensor.map_err(words)?))
    };
    let zeros = inputs.iter().map(tensor).collect::<Result<Vec<_>, String>>()?;
    let made = session.run(zeros).map_err(words)?;
    let spec = |(name, value): (&str, ort::value::ValueRef<'_>)| {
        spec_of(name, value.dtype()).ok_or_else(|| format!("output `{name}` is no tensor of a type that can be read"))
    };
    made.iter().map(spec).collect()
}

/// `None` where it is no tensor, is of a type that cannot be read, or has an open dimension.
fn spec_of(name: &str, value: &ValueType) -> Option<TensorSpec> {
    let ValueType::Tensor { ty, shape, .. } = value else { return None };
    let dtype = binding::dtype(*ty)?;
    let shape = shape.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<_>>()?;
    Some(TensorSpec { name: name.to_owned(), dtype, shape })
}

/// Room for a tensor, aligned for any type.
fn room(spec: &TensorSpec) -> Vec<u64> {
    vec![0; spec.byte_len().div_ceil(size_of::<u64>())]
}

/// As [`room`], all elements 1.
fn ones(spec: &TensorSpec) -> Vec<u64> {
    let mut room = room(spec);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut room);
    let one = match spec.dtype {
        DType::F32 => 1f32.to_le_bytes().to_vec(),
        DType::F64 => 1f64.to_le_bytes().to_vec(),
        DType::F16 => 0x3C00u16.to_le_bytes().to_vec(),
        dtype => 1u64.to_le_bytes()[..dtype.size()].to_vec(),
    };
    bytes.chunks_exact_mut(one.len()).for_each(|element| element.copy_from_slice(&one));
    room
}

fn views<'a>(specs: &[TensorSpec], rooms: &'a [Vec<u64>]) -> Vec<TensorRef<'a>> {
    let view = |(spec, room): (&TensorSpec, &'a Vec<u64>)| {
        let bytes: &[u8] = bytemuck::cast_slice(room);
        TensorRef::from_bytes(spec.dtype, bytes.get(..spec.byte_len()).unwrap_or_default())
    };
    specs.iter().zip(rooms).map(view).collect()
}

fn view_mut<'a>(spec: &TensorSpec, room: &'a mut [u64]) -> TensorMut<'a> {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(room);
    TensorMut::from_bytes(spec.dtype, bytes.get_mut(..spec.byte_len()).unwrap_or_default())
}

fn report(event: &Event) -> NodeReport {
    NodeReport {
        name: event.name.clone(),
        op: event.op.clone(),
        dtype: event.dtype,
        engine: EngineName::Ort,
        provider: Some(event.provider.clone()),
        why_float: None,
        computes: computes(&event.op),
    }
}

fn step(event: &Event) -> StepTime {
    let Event { name, op, dtype, nanos, .. } = event;
    StepTime { name: name.clone(), kind: op.clone(), dtype: (*dtype).to_owned(), macs: None, nanos: *nanos }
}

fn failed(what: String) -> EngineFault {
    EngineFault::Failed { node: String::new(), what }
}

/// On one line: ONNX Runtime's messages may have several.
fn words(error: impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
