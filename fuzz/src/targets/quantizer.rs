//! The quantizer and the pruner: their own reader of ONNX and what they make of a graph, with and without an engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tractlet::{DType, EngineChoice, Model, ModelError, Session, SessionOptions, TensorMut, TensorRef};
use tractlet_core::plan::AlignedBytes;
use tractlet_quantize::prune::{self, prune};
use tractlet_quantize::{Effort, Engine, EngineError, Method, Options, Runner, quantize};

use super::{MAX_MACS, files, goes_all_the_way, options};
use crate::memory_file::in_file;

const SAMPLES: usize = 2;

/// Quantizes and prunes: on the plan engine, or where that does not take the model without an engine, which ends before
/// calibration.
pub fn run(bytes: &[u8]) {
    // Half the time goes into drawing a tensor's range by each rule.
    let method = if goes_all_the_way(bytes) { Method::Auto } else { Method::MinMax };
    let coarsely = Options { effort: Effort::Fast, method, ..Options::default() };
    // Models are small: a channel at a time.
    let fewer = prune::Options { multiple: 1, ..prune::Options::default() };
    let model = opened(bytes).ok().filter(|model| session(model).is_ok());
    let Some(model) = &model else {
        let _ = quantize(bytes, &Refusing, &coarsely, &());
        let _ = prune(bytes, &Refusing, &fewer, &());
        return;
    };
    let engine = Sessions { model, idle: Idle::default() };
    let made = [
        quantize(bytes, &engine, &coarsely, &()).map(|quantized| quantized.model),
        prune(bytes, &engine, &fewer, &()).map(|pruned| pruned.model),
    ];
    for made in made.iter().flatten() {
        Model::from_bytes("made", made).expect("what it writes is sound");
    }
}

/// A model that is not too large to be run: what a legal one takes is no finding.
fn opened(bytes: &[u8]) -> Result<Model, ModelError> {
    in_file(bytes, |path| Model::open_with(path, &options()))
}

/// The plan engine for it, where that takes it and it is small.
fn session(model: &Model) -> Result<Session, EngineError> {
    let session = Session::new(model, SessionOptions::default().engine(EngineChoice::Plan)).map_err(fault)?;
    let bytes = session.inputs().iter().chain(session.outputs()).map(|spec| spec.byte_len());
    let macs = session.steps().iter().map(|step| step.macs).fold(0, u64::saturating_add);
    if bytes.fold(0, usize::saturating_add) > 1 << 20 || macs > MAX_MACS / 50 {
        return Err(EngineError("it is larger than is fuzzed".into()));
    }
    Ok(session)
}

fn fault(error: ModelError) -> EngineError {
    EngineError(error.to_string())
}

/// Has samples and opens nothing.
struct Refusing;

impl Engine for Refusing {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn shape(&self, _: &str) -> Option<&[usize]> {
        None
    }

    fn stored(&self, _: &str) -> Result<Vec<u8>, EngineError> {
        Err(EngineError("there are no other files".into()))
    }

    fn open(&self, _: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
        Err(EngineError("there is no engine".into()))
    }
}

/// The plan engine. Half of what the quantizer opens it has opened before: then there is a session, and no plan is made anew.
struct Sessions<'a> {
    model: &'a Model,
    idle: Idle,
}

/// By the bytes of their models.
type Idle = Arc<Mutex<HashMap<Vec<u8>, Vec<Session>>>>;

impl Engine for Sessions<'_> {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn shape(&self, _: &str) -> Option<&[usize]> {
        None
    }

    fn stored(&self, tensor: &str) -> Result<Vec<u8>, EngineError> {
        let bytes = self.model.stored(tensor).map_err(|error| EngineError(error.to_string()))?;
        Ok(bytes.unwrap_or_default().to_vec())
    }

    fn open(&self, model: &[u8]) -> Result<Box<dyn Runner>, EngineError> {
        let idle = held(&self.idle).get_mut(model).and_then(Vec::pop);
        let session = idle.map_or_else(|| session(&opened(model).map_err(fault)?), Ok)?;
        let shapes = session.outputs().iter().map(|spec| spec.shape.clone()).collect();
        let own = |spec: &tractlet::TensorSpec| self.model.inputs().iter().any(|input| input.name == spec.name);
        let own = session.inputs().iter().map(own).collect();
        let home = (model.to_vec(), Arc::clone(&self.idle));
        Ok(Box::new(Run { session: Some(session), own, shapes, outputs: Vec::new(), home }))
    }
}

struct Run {
    /// There until it is dropped.
    session: Option<Session>,
    /// Which inputs are the model's own.
    own: Vec<bool>,
    shapes: Vec<Vec<usize>>,
    outputs: Vec<Vec<f32>>,
    /// Where the session goes then.
    home: (Vec<u8>, Idle),
}

impl Drop for Run {
    fn drop(&mut self) {
        let (model, idle) = &mut self.home;
        held(idle).entry(std::mem::take(model)).or_default().extend(self.session.take());
    }
}

fn held(idle: &Idle) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<Session>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner for Run {
    fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    fn run(&mut self, sample: usize, parts: &[&[f32]]) -> Result<(), EngineError> {
        let Some(session) = &mut self.session else { return Err(EngineError("it is dropped".into())) };
        let (given, taken) = (session.inputs().to_vec(), session.outputs().to_vec());
        let mut parts = parts.iter();
        let block = |(spec, own): (&tractlet::TensorSpec, &bool)| {
            let mut block = typical(spec.dtype, spec.byte_len(), sample);
            let part = if *own { None } else { parts.next() };
            let places = block.as_chunks_mut::<4>().0.iter_mut();
            places.zip(part.into_iter().copied().flatten()).for_each(|(place, value)| *place = value.to_le_bytes());
            block
        };
        let blocks: Vec<AlignedBytes> = given.iter().zip(&self.own).map(block).collect();
        let mut room: Vec<AlignedBytes> = taken.iter().map(|spec| AlignedBytes::zeroed(spec.byte_len())).collect();
        let inputs: Vec<_> =
            given.iter().zip(&blocks).map(|(spec, bytes)| TensorRef::from_bytes(spec.dtype, bytes)).collect();
        let mut outputs: Vec<_> =
            taken.iter().zip(&mut room).map(|(spec, bytes)| TensorMut::from_bytes(spec.dtype, bytes)).collect();
        session.run(&inputs, &mut outputs).map_err(|error| EngineError(error.to_string()))?;
        let floats = |bytes: &AlignedBytes| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let outputs = taken.iter().zip(&room);
        self.outputs =
            outputs.map(|(spec, bytes)| if spec.dtype == DType::F32 { floats(bytes) } else { Vec::new() }).collect();
        Ok(())
    }

    fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(index).map_or(&[], Vec::as_slice)
    }
}

/// A calibration sample: finite, as they have to be.
fn typical(dtype: DType, bytes: usize, sample: usize) -> AlignedBytes {
    let mut block = AlignedBytes::zeroed(bytes);
    if dtype == DType::F32 {
        let values = (sample..).map(|index| (index % 17) as f32 / 4.0 - 2.0);
        block.as_chunks_mut::<4>().0.iter_mut().zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
    } else {
        block.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index + sample) as u8 % 7);
    }
    block
}

/// Float models of every operator that is quantized.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("tests/malformed", &|name| name.starts_with("valid_") && name.ends_with(".onnx"), 1 << 16);
    // Those that compute in float, which the others are refused for not doing.
    let float = |bytes: &Vec<u8>| !bytes.windows(14).any(|window| window == b"QuantizeLinear");
    seeds.extend(files("tests/golden/ops", &|name| name == "model.onnx", 8 << 10).into_iter().filter(float));
    seeds
}
