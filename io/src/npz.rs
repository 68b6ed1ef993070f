//! The directory of an .npz archive, as `numpy.savez` writes it: where in the file each array lies. Arrays are read in
//! place, so nothing is unpacked and no size out of the archive is allocated; compressed ones are refused.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Arrays of an archive, at most.
const ARRAYS: u16 = 4096;
/// Bytes of its directory, at most.
const DIRECTORY: u32 = 1 << 20;
/// The record at the end, before the comment.
const END: usize = 22;
/// An entry of the directory, before its name.
const ENTRY: usize = 46;
/// What stands before an array, before its name.
const LOCAL: usize = 30;

/// What an archive's directory says.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where the directory begins: arrays lie before it.
    end: u64,
    entries: Vec<Entry>,
}

/// What the directory says of an array.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    is_encrypted: bool,
    is_packed: bool,
    bytes: u32,
    local: u32,
}

/// Why an archive or one of its arrays is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The archive is not one, or the array is not where it says.
    Malformed(String),
    /// The array is not there, or is not held as it could be read.
    Array(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(what) => write!(f, "not a readable .npz file: {what}"),
            Fault::Array(what) => f.write_str(what),
        }
    }
}

/// Fills the bytes from a place of the file on; the error says why it cannot.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> Result<(), String>;

impl Archive {
    /// Reads the directory of a file of this length.
    ///
    /// # Errors
    /// [`Fault::Malformed`]: it has none, one that is damaged, or one beyond bounds.
    pub fn open(length: u64, read: ReadAt<'_>) -> Result<Archive, Fault> {
        directory(length, read).map_err(Fault::Malformed)
    }

    /// Where in the file the array of this name lies: a .npy file.
    ///
    /// # Errors
    /// There is none, it is compressed, encrypted or beyond 2 GB, or it is not where the directory says.
    pub fn array(&self, name: &str, read: ReadAt<'_>) -> Result<Range<u64>, Fault> {
        let own = |entry: &&Entry| entry.name.strip_suffix(".npy") == Some(name);
        let Some(entry) = self.entries.iter().rfind(own) else {
            let held = self.names().into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let held = if held.is_empty() { String::from("it is empty") } else { format!("its arrays: {held}") };
            return Err(Fault::Array(format!("there is no array `{name}`; {held}")));
        };
        if entry.is_encrypted {
            return Err(Fault::Array(format!("array `{name}` is encrypted; write the archive with numpy.savez")));
        }
        if entry.is_packed {
            let what = "is compressed, and samples are read where they lie; write the archive with numpy.savez";
            return Err(Fault::Array(format!("array `{name}` {what}")));
        }
        if entry.bytes == u32::MAX || entry.local == u32::MAX {
            let what = "is beyond the 2 GB of an archive that are read; give each input a .npy file of its own";
            return Err(Fault::Array(format!("array `{name}` {what}")));
        }
        let damaged = || Fault::Malformed(format!("array `{name}` is not where the directory says"));
        let local = take(read, u64::from(entry.local), LOCAL).map_err(|_| damaged())?;
        let is_local = local.starts_with(b"PK\x03\x04");
        let behind = half(&local, 26).zip(half(&local, 28)).filter(|_| is_local).ok_or_else(damaged)?;
        let start = u64::from(entry.local) + LOCAL as u64 + u64::from(behind.0) + u64::from(behind.1);
        let end = start + u64::from(entry.bytes);
        if end > self.end { Err(damaged()) } else { Ok(start..end) }
    }

    /// Names of the arrays, in order.
    pub fn names(&self) -> BTreeSet<&str> {
        self.entries.iter().map(|entry| entry.name.strip_suffix(".npy").unwrap_or(&entry.name)).collect()
    }
}

/// Where the directory begins, and what it lists.
fn directory(length: u64, read: ReadAt<'_>) -> Result<Archive, String> {
    let tail = length.min((END + usize::from(u16::MAX)) as u64);
    let (first, tail) = (length - tail, take(read, length - tail, tail as usize)?);
    // The comment behind the record reaches to the end of the file.
    let is_end = |at: &usize| {
        let comment = half(&tail, at + 20).map(usize::from);
        let begins = tail.get(*at..).is_some_and(|rest| rest.starts_with(b"PK\x05\x06"));
        begins && comment == tail.len().checked_sub(at + END)
    };
    let at = tail.len().checked_sub(END).and_then(|last| (0..=last).rev().find(is_end));
    let at = at.ok_or("it does not end as a zip archive does")?;
    let damaged = || "its directory is damaged".to_string();
    let (count, bytes, start) = half(&tail, at + 10)
        .zip(word(&tail, at + 12).zip(word(&tail, at + 16)))
        .map(|(count, (bytes, start))| (count, bytes, start))
        .ok_or_else(damaged)?;
    if count > ARRAYS || bytes > DIRECTORY {
        return Err(format!("it has {count} arrays in a directory of {bytes} bytes, above {ARRAYS} in {DIRECTORY}"));
    }
    if u64::from(start) + u64::from(bytes) > first + at as u64 {
        return Err(damaged());
    }
    let directory = take(read, u64::from(start), bytes as usize)?;
    let mut rest = directory.as_slice();
    let entries = (0..count).map(|_| entry(&mut rest)).collect::<Option<_>>().ok_or_else(damaged)?;
    Ok(Archive { end: u64::from(start), entries })
}

/// Takes an entry off the directory.
fn entry(rest: &mut &[u8]) -> Option<Entry> {
    let name = usize::from(half(rest, 28)?);
    let behind = usize::from(half(rest, 30)?) + usize::from(half(rest, 32)?);
    let bytes = word(rest, 24)?;
    let entry = Entry {
        name: String::from_utf8_lossy(rest.get(ENTRY..ENTRY + name)?).into_owned(),
        is_encrypted: half(rest, 8)? & 1 != 0,
        is_packed: half(rest, 10)? != 0 || word(rest, 20)? != bytes,
        bytes,
        local: word(rest, 42)?,
    };
    let is_entry = rest.starts_with(b"PK\x01\x02");
    *rest = rest.get(ENTRY + name + behind..)?;
    is_entry.then_some(entry)
}

fn take(read: ReadAt<'_>, at: u64, bytes: usize) -> Result<Vec<u8>, String> {
    let mut held = vec![0; bytes];
    read(at, &mut held)?;
    Ok(held)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
