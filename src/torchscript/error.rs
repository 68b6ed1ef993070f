//! What can be wrong with a TorchScript file, or with what was said of it.

use std::path::{Path, PathBuf};

use crate::model::Fault;

/// A TorchScript file that cannot be taken: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct TorchError {
    path: PathBuf,
    #[source]
    fault: Box<TorchFault>,
}

/// The kinds of [`TorchError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TorchErrorKind {
    /// The file cannot be opened or read.
    Io,
    /// A size is above the [`Limits`](crate::Limits).
    Limit,
    /// The file is none of TorchScript, or libtorch cannot load it.
    Malformed,
    /// The device is not there.
    Device,
    /// What was asked for is not a TorchScript file's to give, or needs to be told more.
    Options,
    /// The program does not run on the inputs that were stated, or its outputs are no tensors that a session has.
    Forward,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TorchFault {
    #[error(transparent)]
    File(Fault),
    #[error("not a TorchScript file: {0}")]
    NotTorchScript(&'static str),
    #[error("libtorch cannot load it: {0}")]
    Load(String),
    #[error("device {device}: {what}")]
    Device { device: super::TorchDevice, what: String },
    #[error(
        "a TorchScript file says nothing of its inputs; give each one's shape, in the order of forward's parameters: --shape 1x3x32x32, or TorchOptions::input"
    )]
    NoInputs,
    #[error("{0}")]
    Options(String),
    #[error("it does not run on zeros of {inputs}: {what}")]
    Forward { inputs: String, what: String },
}

impl TorchError {
    pub(super) fn new(path: &Path, fault: TorchFault) -> TorchError {
        TorchError { path: path.to_owned(), fault: Box::new(fault) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> TorchErrorKind {
        match &*self.fault {
            TorchFault::File(Fault::Limit { .. }) => TorchErrorKind::Limit,
            TorchFault::File(_) => TorchErrorKind::Io,
            TorchFault::NotTorchScript(_) | TorchFault::Load(_) => TorchErrorKind::Malformed,
            TorchFault::Device { .. } => TorchErrorKind::Device,
            TorchFault::NoInputs | TorchFault::Options(_) => TorchErrorKind::Options,
            TorchFault::Forward { .. } => TorchErrorKind::Forward,
        }
    }
}
