//! TorchScript files: for who has no ONNX model yet, and to hold the one against the other. libtorch runs them
//! ([`crate::engine::torch`]); what such a file does not say of itself, its caller does ([`TorchOptions`]).
//!
//! A TorchScript file is a program, and libtorch runs it as it is: open only what you trust. Nothing of what
//! [`crate::Model`] checks can be checked here.

mod error;
mod options;

use std::path::{Path, PathBuf};

use crate::engine::EngineChoice;
use crate::engine::torch::{TorchEngine, parameters};
use crate::model::{self, Archive, Binding, Limits, OpenOptions, Source};
use crate::session::{Session, SessionOptions};

pub(crate) use error::TorchFault;
pub use error::{TorchError, TorchErrorKind};
pub use options::{TorchDevice, TorchOptions};

/// A TorchScript file, held so that it cannot change. Only a session loads it.
///
/// **A TorchScript file is a program.** Making a session or counting its parameters runs it.
///
/// ```no_run
/// use tractlet::{DType, TorchFile, TorchOptions};
/// let file = TorchFile::open("model.pt")?;
/// let mut session = file.session(&TorchOptions::default().input(DType::F32, &[1, 1, 49, 10]))?;
/// let (input, mut scores) = (vec![0f32; 49 * 10], [0f32; 12]);
/// session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    source: Source,
    limits: Limits,
}

impl TorchFile {
    /// Opens a file with the default limits, as a snapshot where the file could change.
    ///
    /// # Errors
    /// The file cannot be read, or is none of TorchScript.
    pub fn open(path: impl AsRef<Path>) -> Result<TorchFile, TorchError> {
        TorchFile::open_with(path, &OpenOptions::default())
    }

    /// Opens a file with limits and mapping of the caller's choice.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<TorchFile, TorchError> {
        let path = path.as_ref();
        let refused = |fault| TorchError::new(path, fault);
        let source = model::hold(path, options).map_err(|fault| refused(TorchFault::File(fault)))?;
        match Archive::of(&source) {
            Some(Archive::TorchScript) => TorchFile::of(path, source, options),
            Some(other) => Err(refused(TorchFault::NotTorchScript(other.text()))),
            None => Err(refused(TorchFault::NotTorchScript("torch.jit.save writes none like it"))),
        }
    }

    /// Of bytes that were found to be TorchScript.
    pub(crate) fn of(path: &Path, source: Source, options: &OpenOptions) -> Result<TorchFile, TorchError> {
        if let Some((input, _)) = options.set.first() {
            let what =
                format!("inputs of a TorchScript file cannot be fixed, as `{input}` is to be; freeze it with a value");
            return Err(TorchError::new(path, TorchFault::Options(what)));
        }
        Ok(TorchFile { path: path.to_owned(), source, limits: options.limits.clone() })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size, in bytes.
    pub fn file_bytes(&self) -> usize {
        self.source.len()
    }

    /// Whether the file itself is mapped, and not a sealed copy of it.
    pub fn is_mapped_directly(&self) -> bool {
        self.source.is_direct()
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn digest(&self) -> String {
        model::hexadecimal(&model::sha256(&self.source))
    }

    /// Elements of all its parameters together: 0 for a frozen module, which has constants in their place.
    ///
    /// # Errors
    /// libtorch cannot load it.
    pub fn parameters(&self) -> Result<u64, TorchError> {
        parameters(&self.source).map_err(|fault| self.refused(fault))
    }

    /// Loads it and runs it once, on zeros, which tells the outputs. Each session has a copy of the program, so
    /// that they share no state.
    ///
    /// # Errors
    /// The device is not there, libtorch cannot load the file, or it does not run on the inputs that were stated.
    pub fn session(&self, options: &TorchOptions) -> Result<Session, TorchError> {
        let engine = TorchEngine::new(&self.source, options, &self.limits).map_err(|fault| self.refused(fault))?;
        log::info!("{}: engine torch on {}", self.path.display(), options.device);
        Ok(Session::of_torch(engine))
    }

    /// As [`TorchFile::session`], for what any MODEL can be asked.
    pub(crate) fn session_with(&self, options: SessionOptions) -> Result<Session, TorchError> {
        if !matches!(options.engine, EngineChoice::Auto | EngineChoice::Torch) {
            return Err(
                self.refused(TorchFault::Options("a TorchScript file is run by the engine torch alone".to_owned()))
            );
        }
        if let Some(Binding { symbol, .. }) = options.bindings.first() {
            let what = format!("a TorchScript file has no open dimension `{symbol}`; --shape gives all of them");
            return Err(self.refused(TorchFault::Options(what)));
        }
        let torch = options.torch;
        let threads = options.threads.map_or(torch.threads, usize::from);
        self.session(&torch.threads(threads))
    }

    fn refused(&self, fault: TorchFault) -> TorchError {
        TorchError::new(&self.path, fault)
    }
}
