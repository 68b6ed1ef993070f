//! The bytes of one file, counted where they are a copy.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::Deref;
use std::os::fd::AsFd;

use tractlet_io::{HeldFile, HoldError, MapMode};

use super::error::Fault;
use crate::footprint::FileCopy;

/// The bytes of one file, read-only and stable.
#[derive(Debug)]
pub(crate) struct Source {
    file: HeldFile,
    /// What a copy takes of a cap on memory; a file that is mapped itself takes none.
    _copy: Option<FileCopy>,
}

impl Source {
    /// `file` must be a regular file of `len` bytes, open for reading and at its start.
    pub fn new(file: impl AsFd, len: u64, mode: MapMode) -> Result<Source, Fault> {
        let copy = FileCopy::new("a copy of the file", usize::try_from(len).unwrap_or(usize::MAX))?;
        let file = HeldFile::new(file, len, mode).map_err(fault("read the file"))?;
        let copy = (!file.is_direct()).then_some(copy);
        Ok(Source { file, _copy: copy })
    }

    /// A sealed copy of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Result<Source, Fault> {
        let copy = FileCopy::new("a copy of the file", bytes.len())?;
        let file = HeldFile::of_bytes(bytes).map_err(fault("copy it"))?;
        Ok(Source { file, _copy: Some(copy) })
    }

    /// Whether the file itself is mapped, and not a copy of it.
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file
    }
}

fn fault(action: &'static str) -> impl Fn(HoldError) -> Fault {
    move |error| {
        let source = match error {
            HoldError::Os(error) => error.into(),
            HoldError::Changed => std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        };
        Fault::Io { action, source }
    }
}
