//! A model made ready to run: shapes bound, an engine chosen, every call checked.

use std::num::NonZeroUsize;

use tractlet_core::kernels::quantize::first_nan;

use crate::engine::{
    self, Compiled, Engine, EngineChoice, EngineFault, EngineName, HopAsked, HopReport, MemoryPlan, NodeReport,
    StepReport, StepTime, TensorSpec,
};
use crate::model::{Binding, Dim, Fault, Limits, Model, ModelError};
use crate::plan::ArenaBlock;
use crate::tensor::{TensorMut, TensorRef};
#[cfg(feature = "torch")]
use crate::torchscript::TorchOptions;

/// How to make a session.
///
/// ```
/// use tractlet::{EngineChoice, SessionOptions};
/// let options = SessionOptions::default().engine(EngineChoice::Tract).bind("batch", 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    pub(crate) engine: EngineChoice,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) placement: bool,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) hop: Option<HopAsked>,
    #[cfg(feature = "ort")]
    pub(crate) ort: engine::OrtOptions,
    #[cfg(feature = "torch")]
    pub(crate) torch: TorchOptions,
}

impl SessionOptions {
    /// Runs the model on this engine.
    pub fn engine(mut self, engine: EngineChoice) -> SessionOptions {
        self.engine = engine;
        self
    }

    /// Has [`Session::nodes`] say where nodes run also on [`EngineChoice::Ort`], which runs the model for that.
    pub fn placement(mut self, wanted: bool) -> SessionOptions {
        self.placement = wanted;
        self
    }

    /// Threads of one inference: 1 where nothing else is said. On [`EngineChoice::Plan`] they are 16 at most, start with
    /// the session and sleep between runs; answers do not depend on how many there are. [`EngineChoice::Tract`] takes one,
    /// whatever is said.
    pub fn threads(mut self, threads: NonZeroUsize) -> SessionOptions {
        self.threads = Some(threads);
        self
    }

    /// Runs the model hop by hop, where it can be: it is given only what is new of each window, so many rows of its input along
    /// time, keeps what it computed of the others, and answers as for whole windows, in every bit. [`Session::hop`] says how, or
    /// [`Session::whole_windows`] why not; the session takes whole windows then.
    ///
    /// ```
    /// use tractlet::{Model, Session, SessionOptions};
    /// let model = Model::open("models/sww_conv1d/int8.onnx")?;
    /// let mut session = Session::new(&model, SessionOptions::default().hop(3))?;
    /// let hop = session.hop().expect("it can").clone();
    /// assert_eq!((session.inputs()[0].shape.as_slice(), hop.window_rows), ([1, 40, 3, 1].as_slice(), 30));
    /// // Ten hops fill the first window.
    /// let mut scores = [0f32; 3];
    /// for _ in 0..hop.runs {
    ///     session.run(&[[0f32; 40 * 3].as_slice().into()], &mut [scores.as_mut_slice().into()])?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hop(mut self, rows: usize) -> SessionOptions {
        self.hop = Some(HopAsked { rows, window_rows: None });
        self
    }

    /// The same for windows of so many rows: a model whose input has others along time takes whole windows.
    pub fn hop_of(mut self, rows: usize, window_rows: usize) -> SessionOptions {
        self.hop = Some(HopAsked { rows, window_rows: Some(window_rows) });
        self
    }

    pub(crate) fn threads_or_one(&self) -> NonZeroUsize {
        self.threads.unwrap_or(NonZeroUsize::MIN)
    }

    /// How [`EngineChoice::Ort`] runs it.
    #[cfg(feature = "ort")]
    pub fn ort(mut self, options: engine::OrtOptions) -> SessionOptions {
        self.ort = options;
        self
    }

    /// Gives a size to a dimension that the model leaves open, by the name that it has there.
    /// An open first dimension, the batch, is 1 where nothing else is said.
    pub fn bind(mut self, symbol: impl Into<String>, size: usize) -> SessionOptions {
        self.bindings.push(Binding { symbol: symbol.into(), size });
        self
    }

    /// What a TorchScript file does not say of itself; nothing to another model.
    #[cfg(feature = "torch")]
    pub fn torch(mut self, torch: TorchOptions) -> SessionOptions {
        self.torch = torch;
        self
    }
}

/// A model on an engine, ready to run any number of times.
///
/// ```
/// use tractlet::{Model, Session, SessionOptions};
/// let model = Model::open("models/kws_dscnn/int8.onnx")?;
/// let mut session = Session::new(&model, SessionOptions::default())?;
/// let input = vec![0f32; 49 * 10];
/// let mut scores = [0f32; 12];
/// session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()])?;
/// assert!((scores.iter().sum::<f32>() - 1.0).abs() < 0.05);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    engine: Box<dyn Engine>,
    fallback: Option<String>,
    whole_windows: Option<String>,
}

/// A run that was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The number of inputs or outputs is wrong.
    #[error("{given} {role}s were given, the model has {expected}")]
    Count {
        /// `input` or `output`.
        role: &'static str,
        /// How many the caller gave.
        given: usize,
        /// How many the model has.
        expected: usize,
    },
    /// An input or output has another element type than the model's.
    #[error("{role} `{name}` takes {expected}, not {given}")]
    Type {
        /// `input` or `output`.
        role: &'static str,
        /// Its name in the model.
        name: String,
        /// What the model states.
        expected: crate::DType,
        /// What the caller gave.
        given: crate::DType,
    },
    /// An input or output has another length than the model's.
    #[error("{role} `{name}` of shape {shape:?} takes {expected} bytes, not {given}")]
    Length {
        /// `input` or `output`.
        role: &'static str,
        /// Its name in the model.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What the shape asks for, in bytes.
        expected: usize,
        /// What the caller gave, in bytes.
        given: usize,
    },
    /// An input or output made from bytes does not start where its elements can.
    #[error("{role} `{name}` does not start at a multiple of {align} bytes, the size of its elements")]
    Unaligned {
        /// `input` or `output`.
        role: &'static str,
        /// Its name in the model.
        name: String,
        /// What its address must be a multiple of.
        align: usize,
    },
    /// An input that the model quantizes holds NaN, for which there is no integer.
    #[error("input `{name}` holds NaN at element {index}; the model quantizes this input, and NaN has no integer")]
    NotANumber {
        /// The input's name.
        name: String,
        /// Index of the first NaN, row-major.
        index: usize,
    },
    /// An index that follows from the inputs lies outside of the tensor that elements are looked up in.
    #[error("node `{node}` was given an index outside of the tensor that it looks elements up in")]
    Index {
        /// The node that looks them up.
        node: String,
    },
    /// The engine failed.
    #[error("engine {engine} failed{}: {what}", at(node))]
    Engine {
        /// The engine.
        engine: EngineName,
        /// The node that it was at; empty where the engine cannot tell.
        node: String,
        /// What it said.
        what: String,
    },
}

/// Where an engine that can tell says it was.
fn at(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" at node `{node}`") }
}

/// The kinds of [`RunError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The call does not fit the model: count, type, length or alignment.
    Call,
    /// The data cannot be run: NaN where integers are needed, an index outside of a table.
    Data,
    /// The engine failed.
    Engine,
}

impl RunError {
    /// What sort of fault it is.
    pub fn kind(&self) -> RunErrorKind {
        match self {
            RunError::Count { .. } | RunError::Type { .. } | RunError::Length { .. } | RunError::Unaligned { .. } => {
                RunErrorKind::Call
            }
            RunError::NotANumber { .. } | RunError::Index { .. } => RunErrorKind::Data,
            RunError::Engine { .. } => RunErrorKind::Engine,
        }
    }
}

impl Session {
    /// Makes `model` ready. The session needs the model no more after this.
    ///
    /// # Errors
    /// A [`ModelError`] that names the open dimension without a size, the shapes that do not fit,
    /// or the node that the engine cannot take.
    pub fn new(model: &Model, mut options: SessionOptions) -> Result<Session, ModelError> {
        let bindings = resolve(model, std::mem::take(&mut options.bindings))?;
        let (engine, fallback) = engine::open(&options, model, &bindings)?;
        let why = fallback.as_deref().unwrap_or("as asked, or the first choice");
        log::info!("{}: engine {} ({why})", model.path().display(), engine.name());
        let mut session = Session { engine, fallback, whole_windows: None };
        if options.hop.is_some() && session.hop().is_none() {
            let name = session.engine();
            let why = session.engine.whole_windows().map_or_else(|| format!("the engine {name} does"), str::to_owned);
            session.whole_windows = Some(why);
        }
        Ok(session)
    }

    /// A session on a plan that this CPU can run.
    pub(crate) fn of_plan(compiled: Compiled, threads: NonZeroUsize, limits: &Limits) -> Result<Session, Fault> {
        Ok(Session { engine: engine::of_plan(compiled, threads, limits)?, fallback: None, whole_windows: None })
    }

    /// The same with why it takes whole windows.
    pub(crate) fn taking_whole_windows(self, why: String) -> Session {
        Session { whole_windows: Some(why), ..self }
    }

    /// A session on a TorchScript file.
    #[cfg(feature = "torch")]
    pub(crate) fn of_torch(engine: engine::torch::TorchEngine) -> Session {
        Session { engine: Box::new(engine), fallback: None, whole_windows: None }
    }

    /// The engine that runs it.
    pub fn engine(&self) -> EngineName {
        self.engine.name()
    }

    /// What the engine runs it on, where it has a choice: `cpu` or `cuda` on
    /// [`EngineChoice::Torch`], also `tensorrt` on [`EngineChoice::Ort`].
    pub fn provider(&self) -> Option<&str> {
        self.engine.description().provider
    }

    /// Why [`EngineChoice::Auto`] did not take its first choice, the nodes in the way named; or why
    /// [`EngineChoice::Ort`] runs on the CPU where no provider was asked for.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// How it runs hop by hop, if it does: see [`SessionOptions::hop`]. It keeps what it computed from run to run; after a run
    /// that failed or was refused, and behind a gap, [`HopReport::runs`] hops fill a window anew.
    pub fn hop(&self) -> Option<&HopReport> {
        self.engine.hop()
    }

    /// Why it takes whole windows, where it was to run hop by hop.
    pub fn whole_windows(&self) -> Option<&str> {
        self.whole_windows.as_deref()
    }

    /// Inputs in the model's order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.engine.description().inputs
    }

    /// Outputs in the model's order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.engine.description().outputs
    }

    /// How each node of the model is run; empty on [`EngineChoice::Ort`] unless its placement was asked for.
    pub fn nodes(&self) -> &[NodeReport] {
        &self.engine.description().nodes
    }

    /// What a run does, step by step; empty on an engine that has no plan.
    pub fn steps(&self) -> &[StepReport] {
        &self.engine.description().steps
    }

    /// Where the steps of a plan keep what they compute, in the order in which it is written; empty
    /// on an engine that has no plan.
    pub fn arena(&self) -> &[ArenaBlock] {
        &self.engine.description().blocks
    }

    /// The memory that runs will use, where the engine plans it ahead.
    pub fn memory(&self) -> Option<MemoryPlan> {
        self.engine.memory()
    }

    /// Runs one inference over slices that the caller owns, in the order of [`Session::inputs`]
    /// and [`Session::outputs`].
    ///
    /// # Errors
    /// See [`RunError`]; after an error the outputs' contents are unspecified, and the session
    /// can run again.
    pub fn run(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), RunError> {
        self.check(inputs, outputs)?;
        self.engine.run(inputs, outputs).map_err(|fault| self.failed(fault))
    }

    /// As [`Session::run`], `runs` times; `each` is told how long each step of a run took.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(
        &mut self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        runs: usize,
        mut each: impl FnMut(&[StepTime]),
    ) -> Result<(), RunError> {
        self.check(inputs, outputs)?;
        self.engine.profile(inputs, outputs, runs, &mut each).map_err(|fault| self.failed(fault))
    }

    fn check(&self, inputs: &[TensorRef<'_>], outputs: &[TensorMut<'_>]) -> Result<(), RunError> {
        fit("input", self.inputs(), inputs.iter().map(|t| (t.dtype(), t.bytes())))?;
        fit("output", self.outputs(), outputs.iter().map(|t| (t.dtype(), t.as_ref())))?;
        let quantized = &self.engine.description().quantized;
        for ((input, spec), _) in inputs.iter().zip(self.inputs()).zip(quantized).filter(|(_, quantized)| **quantized) {
            if let Some(index) = first_nan(input.bytes()) {
                return Err(RunError::NotANumber { name: spec.name.clone(), index });
            }
        }
        Ok(())
    }

    fn failed(&self, fault: EngineFault) -> RunError {
        match fault {
            EngineFault::Index { node } => RunError::Index { node },
            EngineFault::Failed { node, what } => RunError::Engine { engine: self.engine.name(), node, what },
        }
    }
}

fn fit<'a>(
    role: &'static str,
    specs: &[TensorSpec],
    given: impl ExactSizeIterator<Item = (crate::DType, &'a [u8])>,
) -> Result<(), RunError> {
    if given.len() != specs.len() {
        return Err(RunError::Count { role, given: given.len(), expected: specs.len() });
    }
    for (spec, (dtype, bytes)) in specs.iter().zip(given) {
        if dtype != spec.dtype {
            return Err(RunError::Type { role, name: spec.name.clone(), expected: spec.dtype, given: dtype });
        }
        if bytes.len() != spec.byte_len() {
            return Err(RunError::Length {
                role,
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                expected: spec.byte_len(),
                given: bytes.len(),
            });
        }
        if !bytes.as_ptr().addr().is_multiple_of(dtype.size()) {
            return Err(RunError::Unaligned { role, name: spec.name.clone(), align: dtype.size() });
        }
    }
    Ok(())
}

/// A size for every open dimension of the inputs.
pub(crate) fn resolve(model: &Model, mut bindings: Vec<Binding>) -> Result<Vec<Binding>, ModelError> {
    let fault = |what: String| Err(model.error(Fault::unsupported(what)));
    let open = |symbol: &str| {
        model.inputs().iter().flat_map(|i| &i.dims).any(|dim| matches!(dim, Dim::Symbol(s) if s == symbol))
    };
    if let Some(unknown) = bindings.iter().find(|b| !open(&b.symbol)) {
        return fault(format!("no input has an open dimension `{}`", unknown.symbol));
    }
    let mut seen = bindings.iter().enumerate();
    if let Some((_, twice)) = seen.find(|(index, b)| bindings.iter().take(*index).any(|a| a.symbol == b.symbol)) {
        return fault(format!("the open dimension `{}` is given a size twice; give it one", twice.symbol));
    }
    for input in model.inputs() {
        for (index, dim) in input.dims.iter().enumerate() {
            match dim {
                Dim::Symbol(symbol) if bindings.iter().any(|b| b.symbol == *symbol) => {}
                Dim::Symbol(symbol) if index == 0 => {
                    log::info!("input `{}`: open batch dimension `{dim}` is 1", input.name);
                    bindings.push(Binding { symbol: symbol.clone(), size: 1 });
                }
                Dim::Symbol(symbol) => {
                    return fault(format!(
                        "input `{}`: dimension {index} (`{symbol}`) is open; give it a size: --dim {symbol}=SIZE",
                        input.name
                    ));
                }
                Dim::Fixed(_) => {}
            }
        }
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_no_element_could_start_at_are_refused() {
        let model = Model::open("models/kws_dscnn/int8.onnx").unwrap();
        let mut session = Session::new(&model, SessionOptions::default()).unwrap();
        let mut scores = [0f32; 12];
        let room = vec![0f32; 491];
        let bytes: &[u8] = bytemuck::cast_slice(&room);
        for (start, fits) in [(0, true), (1, false), (2, false), (4, true)] {
            let input = TensorRef::from_bytes(crate::DType::F32, &bytes[start..start + 4 * 490]);
            match session.run(&[input], &mut [scores.as_mut_slice().into()]) {
                Ok(()) => assert!(fits, "{start}"),
                Err(error) => {
                    assert!(!fits && error.kind() == RunErrorKind::Call, "{start}: {error}");
                    assert!(error.to_string().contains("input `input` does not start at a multiple of 4 bytes"));
                }
            }
        }
    }

    /// A model whose input has not 128 frames, a `dim_value`, but another field of a dimension, with the text `W`.
    fn open(field: u8) -> Model {
        let mut bytes = std::fs::read("models/har_cnn1d/int8.onnx").unwrap();
        let at = bytes.windows(5).rposition(|five| five == [0x0A, 3, 0x08, 0x80, 1]).unwrap();
        bytes[at..at + 5].copy_from_slice(&[0x0A, 3, field << 3 | 2, 1, b'W']);
        Model::from_bytes("open.onnx", &bytes).unwrap()
    }

    #[test]
    fn a_dimension_without_a_name_is_called_after_its_place() {
        let model = open(3);
        let input = &model.inputs()[0];
        let axis = input.dims.iter().position(|dim| matches!(dim, Dim::Symbol(_))).unwrap();
        let symbol = format!("{}:{axis}", input.name);
        let told = resolve(&model, vec![]).unwrap_err().to_string();
        assert!(told.contains(&format!("--dim {symbol}=SIZE")), "{told}");
        let options = SessionOptions::default().bind(&symbol, 128);
        assert!(Session::new(&model, options).is_ok());
    }

    #[test]
    fn a_dimension_of_minus_one_is_open() {
        let model = Model::open("tests/malformed/lenient_dimension_minus_1.onnx").unwrap();
        assert!(matches!(&model.inputs()[0].dims[0], Dim::Symbol(_)));
        assert!(Session::new(&model, SessionOptions::default()).is_ok());
    }

    #[test]
    fn a_dimension_with_two_sizes_is_refused() {
        let model = open(2);
        let bound =
            |sizes: &[usize]| resolve(&model, sizes.iter().map(|&size| Binding { symbol: "W".into(), size }).collect());
        assert!(bound(&[128]).is_ok());
        for sizes in [[128, 64], [64, 128], [128, 128]] {
            let told = bound(&sizes).unwrap_err().to_string();
            assert!(told.contains("`W` is given a size twice"), "{told}");
        }
    }
}
