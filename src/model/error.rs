//! What can be wrong with a model file, and where.

use std::path::{Path, PathBuf};

use super::archive::Archive;
use crate::footprint::NoRoom;

/// A model file that cannot be taken: which file, what is wrong, and where in it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct ModelError {
    path: PathBuf,
    #[source]
    fault: Fault,
}

/// The kinds of [`ModelError`], for callers that react to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// The file cannot be opened or read.
    Io,
    /// The bytes are not an ONNX model.
    Malformed,
    /// A size is above the [`Limits`](super::Limits), or a [`Cap`](crate::footprint::Cap) leaves no room for it.
    Limit,
    /// Names, edges, inputs or outputs of the graph do not fit together.
    Graph,
    /// The data of an initializer does not fit its type and dimensions.
    Tensor,
    /// An attribute or a quantization parameter is illegal for its node.
    Attribute,
    /// The shapes of a node's inputs do not fit together.
    Shape,
    /// External tensor data cannot be had.
    External,
    /// Legal ONNX that tractlet does not take.
    Unsupported,
}

/// The fault itself, without the file's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: std::io::Error },
    #[error("not a readable ONNX model: {what} (byte {at})")]
    Malformed { at: usize, what: String },
    #[error("{}", .0.text())]
    PyTorch(Archive),
    #[error("{subject}: {value} is above the limit of {limit}")]
    Limit { subject: String, value: u64, limit: u64 },
    #[error(transparent)]
    Room(#[from] NoRoom),
    #[error("graph: {what}")]
    Graph { what: String },
    #[error("tensor `{tensor}`: {what}")]
    Tensor { tensor: String, what: String },
    #[error("node `{node}` ({op}): {what}")]
    Attribute { node: String, op: String, what: String },
    #[error("node `{node}` ({op}): {what}")]
    Shape { node: String, op: String, what: String },
    #[error("tensor `{tensor}`: external data: {what}")]
    External { tensor: String, what: String },
    #[error("{what}")]
    Unsupported { what: String },
}

impl ModelError {
    pub(crate) fn new(path: &Path, fault: Fault) -> ModelError {
        ModelError { path: path.to_owned(), fault }
    }

    /// The model file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> ModelErrorKind {
        match self.fault {
            Fault::Io { .. } => ModelErrorKind::Io,
            Fault::Malformed { .. } | Fault::PyTorch(_) => ModelErrorKind::Malformed,
            Fault::Limit { .. } | Fault::Room(_) => ModelErrorKind::Limit,
            Fault::Graph { .. } => ModelErrorKind::Graph,
            Fault::Tensor { .. } => ModelErrorKind::Tensor,
            Fault::Attribute { .. } => ModelErrorKind::Attribute,
            Fault::Shape { .. } => ModelErrorKind::Shape,
            Fault::External { .. } => ModelErrorKind::External,
            Fault::Unsupported { .. } => ModelErrorKind::Unsupported,
        }
    }
}

impl Fault {
    pub(crate) fn graph(what: impl Into<String>) -> Fault {
        Fault::Graph { what: what.into() }
    }

    pub(crate) fn tensor(tensor: &str, what: impl Into<String>) -> Fault {
        Fault::Tensor { tensor: tensor.to_owned(), what: what.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Fault {
        Fault::Unsupported { what: what.into() }
    }

    pub(crate) fn limit(subject: impl Into<String>, value: u64, limit: u64) -> Fault {
        Fault::Limit { subject: subject.into(), value, limit }
    }
}
