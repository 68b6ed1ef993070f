//! What can be wrong with slots and with packages for them.

use std::io;
use std::path::{Path, PathBuf};

/// A package that is not taken, or slots that cannot be used: which file or folder, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct SlotError {
    path: PathBuf,
    #[source]
    fault: SlotFault,
}

/// The kinds of [`SlotError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlotErrorKind {
    /// A file cannot be read or written.
    Io,
    /// A file is not written as it has to be.
    Format,
    /// There is no signature, or it is not by the key that the slots trust.
    Signature,
    /// A file is not the one that was signed.
    Altered,
    /// The version is not above all that were installed before.
    Version,
    /// It is for another board, or for another purpose.
    Foreign,
    /// The model failed its test, or is over its budget.
    Unfit,
    /// There is nothing in the slot that was asked for.
    Nothing,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SlotFault {
    #[error("cannot {action} it: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("{0}")]
    Format(String),
    #[error("{0}")]
    Signature(String),
    #[error("{0}")]
    Altered(String),
    #[error("version {found} is not above {newest}, the newest that was installed; sign it under a higher version")]
    Version { found: u64, newest: u64 },
    #[error("{0}")]
    Foreign(String),
    #[error("{0}")]
    Unfit(String),
    #[error("{0}")]
    Nothing(String),
}

impl SlotError {
    pub(super) fn new(path: &Path, fault: SlotFault) -> SlotError {
        SlotError { path: path.to_owned(), fault }
    }

    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SlotError {
        move |source| SlotError::new(path, SlotFault::Io { action, source })
    }

    /// Whether it says that files are not what they were, or cannot be read any more, and not that something is amiss around them.
    pub(super) fn is_decay(&self) -> bool {
        /// Of a medium that fails, and of a link that somebody put in a file's place.
        const EIO: i32 = 5;
        const ELOOP: i32 = 40;
        match &self.fault {
            SlotFault::Io { source, .. } => {
                source.kind() == io::ErrorKind::NotFound || matches!(source.raw_os_error(), Some(EIO | ELOOP))
            }
            _ => true,
        }
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> SlotErrorKind {
        match &self.fault {
            SlotFault::Io { .. } => SlotErrorKind::Io,
            SlotFault::Format(_) => SlotErrorKind::Format,
            SlotFault::Signature(_) => SlotErrorKind::Signature,
            SlotFault::Altered(_) => SlotErrorKind::Altered,
            SlotFault::Version { .. } => SlotErrorKind::Version,
            SlotFault::Foreign(_) => SlotErrorKind::Foreign,
            SlotFault::Unfit(_) => SlotErrorKind::Unfit,
            SlotFault::Nothing(_) => SlotErrorKind::Nothing,
        }
    }
}
