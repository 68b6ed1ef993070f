//! Model bytes that cannot change under the reader.
//!
//! A mapped file that somebody truncates raises SIGBUS in the process that reads it, and one that
//! is rewritten changes what was checked. So the default is a snapshot: the bytes are copied once
//! into a memfd, the memfd is sealed against writing and resizing, and that is what is mapped.
//! Where the file cannot change, under fs-verity or on a filesystem that has no way to write, it
//! is mapped directly and costs no memory of its own. A read-only mount is not enough: the same
//! files may be mounted for writing elsewhere.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Deref;

use memmap2::Mmap;
use rustix::fs::{AtFlags, MemfdFlags, SealFlags, StatxAttributes, StatxFlags};

/// How the bytes of a model file are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MapMode {
    /// Direct where the file cannot change, a snapshot otherwise.
    #[default]
    Auto,
    /// Always a sealed copy in memory.
    Snapshot,
    /// Always the file itself. The caller vouches that nobody writes to the file or truncates it
    /// while the [`Model`](super::Model) lives: if somebody does, the process dies of SIGBUS.
    Direct,
}

/// The bytes of one file, read-only and stable.
#[derive(Debug)]
pub(crate) struct Source {
    map: Option<Mmap>, // None for an empty file, which cannot be mapped
    direct: bool,
}

impl Source {
    /// `file` must be a regular file open for reading.
    pub fn new(file: &File, len: u64, mode: MapMode) -> io::Result<Source> {
        if len == 0 {
            return Ok(Source { map: None, direct: true });
        }
        let direct = match mode {
            MapMode::Auto => cannot_change(file),
            MapMode::Snapshot => false,
            MapMode::Direct => true,
        };
        let map = if direct { map(file)? } else { map(&snapshot(file, len)?)? };
        if map.len() as u64 != len {
            return Err(changed());
        }
        Ok(Source { map: Some(map), direct })
    }

    /// Whether the file itself is mapped, and not a copy.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// Copies exactly `len` bytes into a sealed memfd.
fn snapshot(file: &File, len: u64) -> io::Result<File> {
    let mut copy =
        File::from(rustix::fs::memfd_create("tractlet-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    let mut reader = file.take(len);
    if io::copy(&mut reader, &mut copy)? != len {
        return Err(changed());
    }
    copy.flush()?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(copy)
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is sound while the bytes behind it stay. They do for a sealed memfd (the
    // kernel keeps it so), for a file under fs-verity or on a filesystem without writing
    // (`cannot_change`), and in `MapMode::Direct`, where the caller has vouched for it.
    unsafe { Mmap::map(file) }
}

/// Filesystems that cannot be written to, by `statfs.f_type`: squashfs, EROFS, ISO 9660, cramfs.
const WRITE_ONCE: [u64; 4] = [0x7371_7368, 0xe0f5_e1e2, 0x9660, 0x28cd_3d45];

fn cannot_change(file: &File) -> bool {
    let write_once =
        || rustix::fs::fstatfs(file).is_ok_and(|fs| WRITE_ONCE.contains(&(fs.f_type as u64 & 0xffff_ffff)));
    let verity = || {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::VERITY))
    };
    write_once() || verity()
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file changed while it was read; try again when it is complete")
}

#[cfg(test)]
mod tests {
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
        let source = Source::new(&File::open(file.path()).unwrap(), bytes.len() as u64, MapMode::Snapshot).unwrap();
        std::fs::write(file.path(), b"something else").unwrap();
        file.as_file().set_len(0).unwrap();
        assert_eq!(&source[..], &bytes[..]);
    }

    #[test]
    fn the_default_copies_a_file_that_could_change() {
        let file = file_with(b"0123456789");
        let source = Source::new(&File::open(file.path()).unwrap(), 10, MapMode::Auto).unwrap();
        assert!(!source.is_direct());
    }

    #[test]
    fn a_file_that_shrank_since_its_size_was_read_is_an_error() {
        let file = file_with(b"0123456789");
        let error = Source::new(&File::open(file.path()).unwrap(), 11, MapMode::Snapshot).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_snapshot_is_sealed() {
        let file = file_with(b"0123456789");
        let mut copy = snapshot(&File::open(file.path()).unwrap(), 10).unwrap();
        assert!(copy.write_all(b"x").is_err());
        assert!(copy.set_len(1).is_err());
    }
}
