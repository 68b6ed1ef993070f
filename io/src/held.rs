//! File bytes that cannot change under the reader.
//!
//! A mapped file that somebody truncates raises SIGBUS in the process that reads it, and one that
//! is rewritten changes what was checked. So the default is a snapshot: the bytes are copied once
//! into a memfd, the memfd is sealed against writing and resizing, and that is what is mapped.
//! Where the file cannot change, under fs-verity or on a filesystem that has no way to write, it
//! is mapped directly and costs no memory of its own. A read-only mount is not enough: the same
//! files may be mounted for writing elsewhere.

use core::fmt;
use core::ops::Deref;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use crate::mapping::Mapping;

/// How the bytes of a file are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MapMode {
    /// Direct where the file cannot change, a snapshot otherwise.
    #[default]
    Auto,
    /// Always a sealed copy in memory.
    Snapshot,
}

/// The bytes of one file, read-only and stable. They start at a page.
#[derive(Debug)]
pub struct HeldFile {
    map: Option<Mapping>, // None for an empty file, which cannot be mapped
    direct: bool,
}

/// Why a file's bytes cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldError {
    /// The kernel refused.
    Os(Errno),
    /// The file did not have the length that was stated.
    Changed,
}

impl HeldFile {
    /// `file` must be a regular file of `len` bytes, open for reading and at its start.
    ///
    /// # Errors
    /// Where the kernel refuses, or the file has become shorter.
    pub fn new(file: impl AsFd, len: u64, mode: MapMode) -> Result<HeldFile, HoldError> {
        if len == 0 {
            return Ok(HeldFile { map: None, direct: true });
        }
        let direct = match mode {
            MapMode::Auto => Mapping::direct(&file, len)?,
            MapMode::Snapshot => None,
        };
        let is_direct = direct.is_some();
        let map = direct.map_or_else(|| Mapping::sealing(snapshot(&file, len)?), Ok)?;
        Ok(HeldFile { map: Some(map), direct: is_direct })
    }

    /// A sealed copy of bytes in memory.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn of_bytes(bytes: &[u8]) -> Result<HeldFile, HoldError> {
        if bytes.is_empty() {
            return Ok(HeldFile { map: None, direct: false });
        }
        let copy = memory_file()?;
        write_all(&copy, bytes)?;
        Ok(HeldFile { map: Some(Mapping::sealing(copy)?), direct: false })
    }

    /// Whether the file itself is mapped, and not a copy.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

impl Deref for HeldFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], Mapping::bytes)
    }
}

impl AsRef<[u8]> for HeldFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Errno> for HoldError {
    fn from(error: Errno) -> HoldError {
        HoldError::Os(error)
    }
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldError::Os(error) => write!(f, "{error}"),
            HoldError::Changed => f.write_str("the file changed while it was read; try again when it is complete"),
        }
    }
}

impl core::error::Error for HoldError {}

/// A copy of exactly `len` bytes of a file, in memory.
fn snapshot(file: impl AsFd, len: u64) -> Result<OwnedFd, HoldError> {
    unchanged(&file, || copied(len, |buffer| rustix::io::read(&file, buffer)))
}

/// What `copy` gives, if nobody began to write into the file meanwhile: its times and size tell, as finely as the kernel
/// keeps them.
fn unchanged<T>(file: impl AsFd, copy: impl FnOnce() -> Result<T, HoldError>) -> Result<T, HoldError> {
    let state = || {
        let now = rustix::fs::fstat(&file)?;
        Ok::<_, Errno>((now.st_size, now.st_mtime, now.st_mtime_nsec, now.st_ctime, now.st_ctime_nsec))
    };
    let before = state()?;
    let copy = copy()?;
    if state()? == before { Ok(copy) } else { Err(HoldError::Changed) }
}

/// A memfd of `len` bytes that `read` gives, in pieces of any length.
fn copied(len: u64, mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<OwnedFd, HoldError> {
    let copy = memory_file()?;
    let mut buffer = [0; 16 << 10];
    let mut missing = len;
    while missing > 0 {
        let most = buffer.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
        let room = buffer.get_mut(..most).unwrap_or_default();
        let read = retried(|| read(room))?;
        match room.get(..read) {
            Some(piece) if read > 0 => write_all(&copy, piece)?,
            _ => return Err(HoldError::Changed),
        }
        missing -= read as u64;
    }
    Ok(copy)
}

fn memory_file() -> Result<OwnedFd, HoldError> {
    Ok(rustix::fs::memfd_create(c"tractlet-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), HoldError> {
    while !bytes.is_empty() {
        let written = retried(|| rustix::io::write(file, bytes))?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// A call that a signal may interrupt.
fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::vec::Vec;

    use super::*;

    fn file_with(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_snapshot_outlives_truncation_and_rewriting() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let file = file_with(&bytes);
        let source = HeldFile::new(File::open(file.path()).unwrap(), bytes.len() as u64, MapMode::Snapshot).unwrap();
        std::fs::write(file.path(), b"something else").unwrap();
        file.as_file().set_len(0).unwrap();
        assert_eq!(&source[..], &bytes[..]);
        assert!(source.as_ptr().addr().is_multiple_of(4096));
    }

    #[test]
    fn the_default_copies_a_file_that_could_change() {
        let file = file_with(b"0123456789");
        let source = HeldFile::new(File::open(file.path()).unwrap(), 10, MapMode::Auto).unwrap();
        assert!(!source.is_direct());
    }

    #[test]
    fn a_file_that_shrank_since_its_size_was_read_is_an_error() {
        let file = file_with(b"0123456789");
        let error = HeldFile::new(File::open(file.path()).unwrap(), 11, MapMode::Snapshot).unwrap_err();
        assert_eq!(error, HoldError::Changed);
    }

    /// What a disk may do to each read in turn.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        Short,
        Interrupted,
        Failed,
        Ended,
    }

    #[test]
    fn a_read_that_goes_wrong_anywhere_gives_an_error_or_the_bytes() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        for fault in [Fault::Short, Fault::Interrupted, Fault::Failed, Fault::Ended] {
            for nth in 0..8 {
                let (mut calls, mut at) = (0, 0);
                let copy = copied(bytes.len() as u64, |buffer| {
                    calls += 1;
                    let most = buffer.len().min(bytes.len() - at);
                    let given = match fault {
                        Fault::Short if calls > nth => most.min(1000 + nth),
                        Fault::Interrupted if calls == nth + 1 => return Err(Errno::INTR),
                        Fault::Failed if calls == nth + 1 => return Err(Errno::IO),
                        Fault::Ended if calls == nth + 1 => 0,
                        _ => most,
                    };
                    buffer[..given].copy_from_slice(&bytes[at..at + given]);
                    at += given;
                    Ok(given)
                });
                match (fault, copy) {
                    (Fault::Short | Fault::Interrupted, Ok(copy)) => {
                        let held = Mapping::sealing(copy).unwrap();
                        assert_eq!(held.bytes(), bytes);
                    }
                    (Fault::Failed, Err(HoldError::Os(Errno::IO))) | (Fault::Ended, Err(HoldError::Changed)) => {}
                    // All was read before it came to that.
                    (_, Ok(_)) => assert!(calls <= nth),
                    (_, Err(error)) => panic!("{error}"),
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_written_into_while_it_is_copied_is_an_error() {
        let file = file_with(&[1; 50_000]);
        // Longer than the steps in which older kernels count.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let copy = |nth: usize| {
            let (source, mut calls) = (File::open(file.path()).unwrap(), 0);
            unchanged(&source, || {
                copied(50_000, |buffer| {
                    calls += 1;
                    if calls == nth {
                        std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[2; 100], 49_000).unwrap();
                    }
                    rustix::io::read(&source, buffer)
                })
            })
        };
        assert!(copy(usize::MAX).is_ok());
        assert_eq!(copy(2).unwrap_err(), HoldError::Changed);
    }

    #[test]
    fn bytes_in_memory_are_copied() {
        let mut bytes = b"0123456789".to_vec();
        let held = HeldFile::of_bytes(&bytes).unwrap();
        bytes.fill(0);
        assert_eq!((&held[..], held.is_direct()), (&b"0123456789"[..], false));
        assert!(HeldFile::of_bytes(&[]).unwrap().is_empty());
    }

    #[test]
    fn the_snapshot_is_sealed() {
        let file = file_with(b"0123456789");
        let copy = snapshot(File::open(file.path()).unwrap(), 10).unwrap();
        let mut again = File::from(copy.try_clone().unwrap());
        let held = Mapping::sealing(copy).unwrap();
        assert!(again.write_all(b"x").is_err());
        assert!(again.set_len(1).is_err() && again.set_len(11).is_err());
        assert_eq!(held.bytes(), b"0123456789");
    }
}
