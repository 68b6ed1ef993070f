//! What was found: the input, in a file of its own, and where.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Inputs of one target that should not do what they do.
pub struct Artifacts {
    folder: PathBuf,
    /// What runs now; empty where nothing does.
    running: File,
}

impl Artifacts {
    /// In a folder, which is made.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn within(folder: &Path) -> io::Result<Artifacts> {
        fs::create_dir_all(folder)?;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(folder.join("running"))?;
        Ok(Artifacts { folder: folder.to_owned(), running: open })
    }

    /// Says which input runs now: where the process dies of it, it stays in the file `running`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn running(&self, input: &[u8]) -> io::Result<()> {
        self.running.set_len(input.len() as u64)?;
        self.running.write_all_at(input, 0)
    }

    /// No input runs any more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn done(&self) -> io::Result<()> {
        self.running.set_len(0)
    }

    /// The input that an earlier process died of, kept under a name of its own.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn died(&self) -> io::Result<Option<PathBuf>> {
        let input = fs::read(self.folder.join("running"))?;
        let kept = (!input.is_empty()).then(|| self.keep("died", &input)).transpose()?;
        self.done()?;
        Ok(kept)
    }

    /// Keeps an input.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, why: &str, input: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{why}-{:016x}", name(input)));
        fs::write(&path, input)?;
        Ok(path)
    }
}

/// A name that follows from the content: FNV-1a.
pub fn name(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
