//! From a model to a plan that can be stored.

use std::num::NonZeroUsize;
use std::path::Path;

use tractlet_core::isa::Isa;

use super::error::{PlanFault, PlanFileError};
use crate::engine::{self, Compiled, HopAsked, MemoryPlan, Origin};
use crate::model::{Binding, Fault, Limits, Model, ModelError, hexadecimal};
use crate::session::{Session, resolve};
use crate::whole::Unfinished;

/// How to compile a model.
///
/// ```
/// use tractlet::{CompileOptions, Isa};
/// let options = CompileOptions::default().isa(Isa::Neon).bind("batch", 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    pub(super) isa: Option<Isa>,
    pub(super) bindings: Vec<Binding>,
    pub(super) hop: Option<HopAsked>,
}

impl CompileOptions {
    /// Packs for this instruction set, which need not be this CPU's. Without it for the best that this
    /// CPU has, or the one that `TRACTLET_ISA` names.
    pub fn isa(mut self, isa: Isa) -> CompileOptions {
        self.isa = Some(isa);
        self
    }

    /// Makes a plan that runs hop by hop, as [`SessionOptions::hop`](crate::SessionOptions::hop), or an error of why that cannot be.
    pub fn hop(mut self, rows: usize) -> CompileOptions {
        self.hop = Some(HopAsked { rows, window_rows: None });
        self
    }

    /// Gives a size to a dimension that the model leaves open, as [`SessionOptions::bind`](crate::SessionOptions::bind).
    pub fn bind(mut self, symbol: impl Into<String>, size: usize) -> CompileOptions {
        self.bindings.push(Binding { symbol: symbol.into(), size });
        self
    }
}

/// A plan that was made of a model and lies in no file yet.
pub struct NewPlan {
    pub(super) compiled: Compiled,
}

/// Makes the plan of a model, to be stored.
///
/// # Errors
/// As [`Session::new`] on the engine `plan`.
pub fn compile(model: &Model, options: &CompileOptions) -> Result<NewPlan, ModelError> {
    let bindings = resolve(model, options.bindings.clone())?;
    let isa = match options.isa {
        Some(isa) => isa,
        None => engine::isa().map_err(|what| model.error(Fault::unsupported(what)))?,
    };
    let name = model.path().file_name().unwrap_or_default().to_string_lossy();
    let origin = Origin { name: &name, digest: model.content_digest() };
    let compiled = engine::plan_for(model, &bindings, isa, options.hop, &origin)?;
    match compiled.windows.refused {
        None => Ok(NewPlan { compiled }),
        Some(why) => Err(model.error(Fault::unsupported(format!("it cannot run hop by hop: {why}")))),
    }
}

impl NewPlan {
    /// The instruction set that its weights are packed for.
    pub fn isa(&self) -> Isa {
        self.compiled.plan.isa()
    }

    /// The memory that a session on one thread will use.
    pub fn memory(&self) -> MemoryPlan {
        engine::footprint(&self.compiled.plan, 1)
    }

    /// SHA-256 of the model, in hexadecimal: see [`PlanFile::model_digest`](super::PlanFile::model_digest).
    pub fn model_digest(&self) -> String {
        hexadecimal(&self.compiled.plan.model_digest())
    }

    /// What a file of it holds.
    pub fn as_bytes(&self) -> &[u8] {
        self.compiled.plan.as_bytes()
    }

    /// Writes it to a file, whole or not at all, in place of what stood there.
    ///
    /// # Errors
    /// Where the disk refuses, or `target` is there and is not a regular file.
    pub fn write(&self, target: impl AsRef<Path>) -> Result<(), PlanFileError> {
        let target = target.as_ref();
        let write = || {
            let mut file = Unfinished::create(target)?;
            file.write(self.as_bytes())?;
            file.finish()?.publish()
        };
        write().map_err(|error| PlanFileError::new(target, PlanFault::Write(error)))
    }

    /// A session on it on one thread, without the detour through a file; `None` where it is for another CPU, or a cap
    /// leaves no room for its arena.
    pub fn session(self) -> Option<Session> {
        let runs = self.compiled.plan.runs_here();
        runs.then(|| Session::of_plan(self.compiled, NonZeroUsize::MIN, &Limits::default()).ok()).flatten()
    }
}
