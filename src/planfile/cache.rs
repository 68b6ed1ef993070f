//! Plans kept for the next start.

use std::path::{Path, PathBuf};

use tractlet_core::isa::Isa;
use tractlet_core::plan::{MAGIC, VERSION};

use super::compile::{CompileOptions, compile};
use super::error::OpenError;
use super::{ModelFile, PlanFile};
use crate::engine;
use crate::model::{self, Archive, Binding, Fault, InputValue, Model, ModelError, OpenOptions};

/// A folder of plans: the second time a model is opened, its plan is there.
///
/// A plan is found by the SHA-256 of the model's file, the instruction set, the sizes given to open
/// dimensions, the values that inputs are fixed to, and the versions of the format and of tractlet: whatever changes, another
/// plan is made. Old ones are not removed; the folder can be emptied at any time. Who can write to it decides what runs.
///
/// Models with external data are not kept: what lies in other files is only known once the model is read.
///
/// ```
/// use tractlet::{ModelFile, OpenOptions, PlanCache};
/// let folder = tempfile::tempdir()?;
/// let cache = PlanCache::new(folder.path());
/// for _ in 0..2 {
///     let file = cache.open("models/kws_dscnn/int8.onnx", &[], &OpenOptions::default())?;
///     assert!(matches!(file, ModelFile::Plan(_)));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PlanCache {
    folder: PathBuf,
}

impl PlanCache {
    /// The cache in this folder, which is made when there is something to put there.
    pub fn new(folder: impl Into<PathBuf>) -> PlanCache {
        PlanCache { folder: folder.into() }
    }

    /// Opens a model as the plan that is kept of it, or makes and keeps one; `dims` gives sizes to open
    /// dimensions. A model that no plan can be made of is opened as it is, and so is a plan. A plan that
    /// cannot be stored is logged as a warning, and the model is opened as it is.
    ///
    /// # Errors
    /// Those of [`ModelFile::open`].
    pub fn open(
        &self,
        path: impl AsRef<Path>,
        dims: &[(String, usize)],
        options: &OpenOptions,
    ) -> Result<ModelFile, OpenError> {
        let path = path.as_ref();
        let fault = |fault| ModelError::new(path, fault);
        let source = model::hold(path, options).map_err(fault)?;
        if source.starts_with(&MAGIC) || Archive::of(&source).is_some() {
            return ModelFile::from_source(path, source, options);
        }
        let isa = engine::isa().map_err(|what| fault(Fault::unsupported(what)))?;
        let digest = model::sha256(&source);
        let stored = self.folder.join(file_name(path, &digest, isa, dims, &options.set));
        if let Some(plan) = kept(&stored, options, |plan| plan.plan.model_digest() == digest && plan.isa() == isa) {
            return Ok(ModelFile::Plan(plan));
        }
        let model = Model::from_source(path, source, options)?;
        if model.has_external_data() {
            log::info!("{}: no plan is kept of a model with external data", path.display());
            return Ok(ModelFile::Model(model));
        }
        let bindings = dims.iter().map(|(symbol, size)| Binding { symbol: symbol.clone(), size: *size }).collect();
        let Ok(new) = compile(&model, &CompileOptions { isa: Some(isa), bindings, hop: None }) else {
            // Why not is for the session to say.
            return Ok(ModelFile::Model(model));
        };
        let written = std::fs::create_dir_all(&self.folder).map_err(|error| error.to_string());
        if let Err(why) = written.and_then(|()| new.write(&stored).map_err(|error| error.to_string())) {
            log::warn!("{}: its plan was not kept in {}: {why}", path.display(), self.folder.display());
            return Ok(ModelFile::Model(model));
        }
        log::info!("{}: its plan is kept as {}", path.display(), stored.display());
        Ok(ModelFile::Plan(PlanFile {
            path: stored,
            plan: new.compiled.plan,
            direct: false,
            limits: options.limits.clone(),
        }))
    }
}

/// The plan that is stored under this name, if it is the one that it should be.
fn kept(stored: &Path, options: &OpenOptions, is_right: impl Fn(&PlanFile) -> bool) -> Option<PlanFile> {
    if !stored.exists() {
        return None;
    }
    // Its values are stored in it.
    let options = OpenOptions { set: vec![], ..options.clone() };
    match PlanFile::open_with(stored, &options) {
        Ok(plan) if is_right(&plan) => Some(plan),
        Ok(_) => {
            log::warn!("{}: not the plan that its name says; it is made anew", stored.display());
            None
        }
        Err(error) => {
            log::warn!("{error}; it is made anew");
            None
        }
    }
}

/// A name that says to people which model it is, and holds all that a plan depends on.
fn file_name(
    path: &Path,
    digest: &[u32; 8],
    isa: Isa,
    dims: &[(String, usize)],
    set: &[(String, InputValue)],
) -> String {
    let (mut dims, mut set) = (dims.to_vec(), set.iter().map(stated).collect::<Vec<_>>());
    dims.sort();
    set.sort();
    let all = format!("{digest:?} {isa} {VERSION} {} {dims:?} {set:?}", env!("CARGO_PKG_VERSION"));
    let key = model::sha256(all.as_bytes());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // Room for the rest below the 255 bytes that a name can have.
    let stem: String = stem.chars().take(40).collect();
    format!("{stem}-{isa}-{}.plan", model::hexadecimal(key.get(..4).unwrap_or_default()))
}

/// A value in few words, which no other has.
fn stated((input, value): &(String, InputValue)) -> String {
    match value {
        InputValue::Tensor { dtype, shape, bytes } => {
            format!("{input}={dtype}{shape:?}{}", model::hexadecimal(&model::sha256(bytes)))
        }
        InputValue::Numbers(numbers) => format!("{input}={numbers:?}"),
    }
}
