//! Plans in files: made ahead of time ([`compile`]), opened like models ([`PlanFile`]), kept for the next
//! start ([`PlanCache`]). The ONNX file stays the model of record; a plan is derived from it for one
//! instruction set and can be made anew at any time.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cache;
mod compile;
mod error;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tractlet_core::isa::Isa;
use tractlet_core::plan::{MAGIC, Plan};

use crate::engine::{self, Compiled, MemoryPlan, PlanBytes, StablePlan, TensorSpec, Windows};
#[cfg(feature = "torch")]
use crate::model::Archive;
use crate::model::{self, Fault, Limits, Model, ModelError, OpenOptions, Source};
use crate::session::{Session, SessionOptions};
#[cfg(feature = "torch")]
use crate::torchscript::TorchFile;

pub use cache::PlanCache;
pub use compile::{CompileOptions, NewPlan, compile};
use error::PlanFault;
pub use error::{OpenError, PlanFileError, PlanFileErrorKind};

/// A plan in a file: held so that it cannot change, verified, and run where it lies.
///
/// It is held as a model is, see [`MapMode`](crate::MapMode): by default as a sealed snapshot, and mapped
/// directly where the file cannot change. What is verified is what runs.
///
/// ```
/// use tractlet::{CompileOptions, Model, PlanFile, SessionOptions, compile};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("kws.plan");
/// compile(&Model::open("models/kws_dscnn/int8.onnx")?, &CompileOptions::default())?.write(&path)?;
///
/// let plan = PlanFile::open(&path)?;
/// let mut session = plan.session(SessionOptions::default())?;
/// let (input, mut scores) = (vec![0f32; 49 * 10], [0f32; 12]);
/// session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()])?;
/// assert_eq!(plan.model_name(), "int8.onnx");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PlanFile {
    path: PathBuf,
    plan: StablePlan,
    direct: bool,
    limits: Limits,
}

impl PlanFile {
    /// Opens a plan with the default limits, as a snapshot where the file could change.
    ///
    /// # Errors
    /// Every fault of the file, with what was expected and how to make it anew.
    pub fn open(path: impl AsRef<Path>) -> Result<PlanFile, PlanFileError> {
        PlanFile::open_with(path, &OpenOptions::default())
    }

    /// Opens a plan with limits and mapping of the caller's choice.
    ///
    /// # Errors
    /// As [`PlanFile::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<PlanFile, PlanFileError> {
        let path = path.as_ref();
        let source = model::hold(path, options).map_err(|fault| PlanFileError::new(path, PlanFault::File(fault)))?;
        PlanFile::from_source(path, source, options)
    }

    fn from_source(path: &Path, source: Source, options: &OpenOptions) -> Result<PlanFile, PlanFileError> {
        let (limits, direct) = (&options.limits, source.is_direct());
        let refused = |fault| PlanFileError::new(path, fault);
        let plan = Plan::read(PlanBytes::Stored(Arc::new(source))).map_err(|error| refused(PlanFault::Plan(error)))?;
        if let Some((input, _)) = options.set.first() {
            return Err(PlanFileError::of_model(path, plan.model_name(), PlanFault::Set(input.clone())));
        }
        within(&plan, limits).map_err(|fault| refused(PlanFault::File(fault)))?;
        Ok(PlanFile { path: path.to_owned(), plan, direct, limits: limits.clone() })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the plan, in bytes.
    pub fn file_bytes(&self) -> usize {
        self.plan.as_bytes().len()
    }

    /// Whether the file itself is mapped, and not a sealed copy of it.
    pub fn is_mapped_directly(&self) -> bool {
        self.direct
    }

    /// The instruction set that its weights are packed for.
    pub fn isa(&self) -> Isa {
        self.plan.isa()
    }

    /// File name of the model that it was compiled from.
    pub fn model_name(&self) -> &str {
        self.plan.model_name()
    }

    /// SHA-256 of that model, in hexadecimal: of its file, followed by what it reads of other files.
    pub fn model_digest(&self) -> String {
        model::hexadecimal(&self.plan.model_digest())
    }

    /// The memory that a session on one thread will use.
    pub fn memory(&self) -> MemoryPlan {
        engine::footprint(&self.plan, 1)
    }

    /// Inputs in the model's order.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        self.plan.inputs().map(engine::spec).collect()
    }

    /// Outputs in the model's order.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        self.plan.outputs().map(engine::spec).collect()
    }

    /// Refuses a plan that was compiled from anything but `model` as it is now.
    ///
    /// # Errors
    /// [`PlanFileErrorKind::Stale`].
    pub fn expect_model(&self, model: &Model) -> Result<(), PlanFileError> {
        let (found, expected) = (self.plan.model_digest(), model.content_digest());
        if found == expected {
            return Ok(());
        }
        let [found, expected] = [found, expected].map(|digest| model::hexadecimal(&digest));
        Err(self.refused(PlanFault::Stale { found, expected, model: model.path().to_owned() }))
    }

    /// Makes it ready. Sessions of one file share its bytes; each has an arena of its own.
    ///
    /// # Errors
    /// [`PlanFileErrorKind::Isa`] where this CPU lacks the plan's instruction set,
    /// [`PlanFileErrorKind::Limit`] where so many threads ask for more than [`Limits::arena_bytes`], and
    /// [`PlanFileErrorKind::Options`] where the options ask for what only a model can have.
    pub fn session(&self, options: SessionOptions) -> Result<Session, PlanFileError> {
        if !options.engine.is_planned() {
            return Err(self.refused(PlanFault::Engine(options.engine)));
        }
        if let Some(binding) = options.bindings.first() {
            return Err(self.refused(PlanFault::Binding(binding.symbol.clone())));
        }
        let here = engine::held_to().map_err(|what| self.refused(PlanFault::Variable(what)))?;
        if !self.plan.runs_here() || here.is_some_and(|isa| isa != self.isa()) {
            return Err(self.refused(PlanFault::Isa { found: self.isa(), held_to: here }));
        }
        log::info!("{}: engine plan, compiled for {}", self.path.display(), self.isa());
        let stated = self.plan.hop().map(|hop| hop.rows);
        if let (Some(stated), Some(asked)) = (stated, options.hop.map(|hop| hop.rows))
            && stated != asked
        {
            return Err(self.refused(PlanFault::Hop { stated, asked }));
        }
        let compiled = Compiled { plan: self.plan.clone(), nodes: vec![], windows: Windows::default() };
        let session = Session::of_plan(compiled, options.threads_or_one(), &self.limits);
        let session = session.map_err(|fault| self.refused(PlanFault::File(fault)))?;
        Ok(match options.hop.filter(|_| stated.is_none()) {
            Some(_) => session.taking_whole_windows("its plan was compiled for them; compile it with --hop".to_owned()),
            None => session,
        })
    }

    fn refused(&self, fault: PlanFault) -> PlanFileError {
        PlanFileError::of_model(&self.path, self.model_name(), fault)
    }
}

/// What a session allocates is within bounds.
fn within(plan: &StablePlan, limits: &Limits) -> Result<(), Fault> {
    let arena_bytes = plan.arena_bytes() as u64;
    if arena_bytes > limits.arena_bytes {
        return Err(Fault::limit("the plan's arena, in bytes", arena_bytes, limits.arena_bytes));
    }
    let ports = plan.inputs().count() + plan.outputs().count();
    if ports > limits.items {
        return Err(Fault::limit("the plan's inputs and outputs", ports as u64, limits.items as u64));
    }
    let mut all = 0u64;
    for port in plan.inputs().chain(plan.outputs()) {
        let bytes = port.byte_len() as u64;
        if bytes > limits.tensor_bytes {
            return Err(Fault::limit(format!("tensor `{}`, in bytes", port.name), bytes, limits.tensor_bytes));
        }
        all = all.saturating_add(bytes);
    }
    if all > limits.arena_bytes {
        return Err(Fault::limit("the plan's inputs and outputs together, in bytes", all, limits.arena_bytes));
    }
    Ok(())
}

/// A model, or a plan that was made of one: what a command line's MODEL names. Content tells which it is.
///
/// ```
/// use tractlet::{ModelFile, OpenOptions, SessionOptions};
/// let file = ModelFile::open("models/kws_dscnn/int8.onnx", &OpenOptions::default())?;
/// assert!(matches!(file, ModelFile::Model(_)));
/// let session = file.session(SessionOptions::default())?;
/// # Ok::<(), tractlet::OpenError>(())
/// ```
#[derive(Debug)]
pub enum ModelFile {
    /// An ONNX model.
    Model(Model),
    /// A plan.
    Plan(PlanFile),
    /// A TorchScript file.
    #[cfg(feature = "torch")]
    Torch(TorchFile),
}

impl ModelFile {
    /// Opens what is there.
    ///
    /// # Errors
    /// Those of [`Model::open`], of [`PlanFile::open`], or of a TorchScript file.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<ModelFile, OpenError> {
        let path = path.as_ref();
        let source = model::hold(path, options).map_err(|fault| ModelError::new(path, fault))?;
        ModelFile::from_source(path, source, options)
    }

    fn from_source(path: &Path, source: Source, options: &OpenOptions) -> Result<ModelFile, OpenError> {
        #[cfg(feature = "torch")]
        if Archive::of(&source) == Some(Archive::TorchScript) {
            return Ok(ModelFile::Torch(TorchFile::of(path, source, options)?));
        }
        Ok(match source.starts_with(&MAGIC) {
            true => ModelFile::Plan(PlanFile::from_source(path, source, options)?),
            false => ModelFile::Model(Model::from_source(path, source, options)?),
        })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        match self {
            ModelFile::Model(model) => model.path(),
            ModelFile::Plan(plan) => plan.path(),
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => file.path(),
        }
    }

    /// Its size, external data not counted, in bytes.
    pub fn file_bytes(&self) -> usize {
        match self {
            ModelFile::Model(model) => model.file_bytes(),
            ModelFile::Plan(plan) => plan.file_bytes(),
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => file.file_bytes(),
        }
    }

    /// SHA-256 of the model that it is or was compiled from, in hexadecimal: of its file, followed by what it reads of
    /// other files.
    pub fn model_digest(&self) -> String {
        match self {
            ModelFile::Model(model) => model::hexadecimal(&model.content_digest()),
            ModelFile::Plan(plan) => plan.model_digest(),
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => file.digest(),
        }
    }

    /// Makes it ready.
    ///
    /// # Errors
    /// Those of [`Session::new`], of [`PlanFile::session`], or of a TorchScript file.
    pub fn session(&self, options: SessionOptions) -> Result<Session, OpenError> {
        Ok(match self {
            ModelFile::Model(model) => Session::new(model, options)?,
            ModelFile::Plan(plan) => plan.session(options)?,
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => file.session_with(options)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use tractlet_core::plan::{DType, Fill, Operand, PlanBuilder};

    #[test]
    fn inputs_and_outputs_are_bounded_together() {
        let checked = |elements: usize| {
            let mut builder = PlanBuilder::new(Isa::Generic);
            builder.input("a", DType::F32, &[1 << 26]).unwrap();
            builder.input("b", DType::I8, &[elements]).unwrap();
            builder.output("y", DType::I8, &[1]).unwrap();
            builder.op("fill", Fill { output: Operand::output(0, 1), element_bytes: 1, bits: 0 });
            within(&builder.finish_in().unwrap(), &Limits::default()).map_err(|fault| fault.to_string())
        };
        assert_eq!(checked((1 << 28) - 1), Ok(()));
        let told = checked(1 << 28).unwrap_err();
        assert!(told.contains("inputs and outputs together, in bytes: 536870913 is above"), "{told}");
    }

    #[test]
    fn what_threads_work_in_is_bounded_with_the_arena() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ic.plan");
        let model = Model::open("models/ic_resnet8/int8.onnx").unwrap();
        compile(&model, &CompileOptions::default()).unwrap().write(&path).unwrap();
        let plan = PlanFile::open(&path).unwrap().plan;
        let arena_bytes = plan.arena_bytes() as u64;
        assert!(plan.memory_bytes(16) as u64 > arena_bytes, "no step is cut into parts that take more");
        let limits = Limits { arena_bytes, ..Limits::default() };
        let plan = PlanFile::open_with(&path, &OpenOptions { limits, ..OpenOptions::default() }).unwrap();
        let on =
            |threads| plan.session(SessionOptions { threads: NonZeroUsize::new(threads), ..SessionOptions::default() });
        assert!(on(1).is_ok());
        let refused = on(16).map(drop).unwrap_err();
        assert_eq!(refused.kind(), PlanFileErrorKind::Limit);
        assert!(refused.to_string().contains("what 16 threads work in"), "{refused}");
    }
}
