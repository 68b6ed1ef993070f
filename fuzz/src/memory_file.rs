//! A file without a disk, for what is opened by its path.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

/// A regular file in memory, to be filled again and again.
pub struct MemoryFile {
    file: File,
    path: PathBuf,
}

impl MemoryFile {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new() -> io::Result<MemoryFile> {
        let file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(MemoryFile { file, path })
    }

    /// Its path, with these bytes in it and no others.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub fn holding(&self, bytes: &[u8]) -> io::Result<&Path> {
        self.file.set_len(bytes.len() as u64)?;
        self.file.write_all_at(bytes, 0)?;
        Ok(&self.path)
    }
}

thread_local! {
    static FILE: MemoryFile = MemoryFile::new().expect("a file in memory");
}

/// Calls `with` with the path of a file that holds `bytes`.
///
/// # Panics
/// The kernel has no memory for it.
pub fn in_file<T>(bytes: &[u8], with: impl FnOnce(&Path) -> T) -> T {
    FILE.with(|file| with(file.holding(bytes).expect("room for the file")))
}
