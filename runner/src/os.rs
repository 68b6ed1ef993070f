//! The kernel's calls, with words for what they refuse.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;
use tractlet_io::HoldError;

/// Opens a regular file for reading; its length comes along.
pub fn open(path: &CStr) -> Result<(OwnedFd, u64), String> {
    let refused = |what: &str| format!("{}: {what}", shown(path));
    // NONBLOCK: a FIFO in the place of a file must not hang the reader.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|error| refused(&format!("cannot open it: {}", reason(error))))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| refused(&format!("cannot look at it: {}", reason(error))))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file, u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::Directory => Err(refused("cannot read it: it is a directory; name the file")),
        _ => Err(refused("cannot read it: it is not a regular file")),
    }
}

/// Whether both names are of one file, also of one that is yet to be made.
pub fn same(one: &CStr, other: &CStr) -> bool {
    let look = |path: &CStr| rustix::fs::statat(CWD, path, AtFlags::empty());
    let is_one = |a: Stat, b: Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    match (look(one), look(other)) {
        (Ok(one), Ok(other)) => is_one(one, other),
        (Err(_), Err(_)) => {
            let ((one, its), (other, others)) = (folder_and_name(one), folder_and_name(other));
            its == others && matches!((look(&one), look(&other)), (Ok(one), Ok(other)) if is_one(one, other))
        }
        _ => false,
    }
}

/// The folder that a file lies in, and what it is called there.
pub fn folder_and_name(path: &CStr) -> (CString, &[u8]) {
    let bytes = path.to_bytes();
    let (folder, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (bytes.get(..slash.max(1)).unwrap_or_default(), bytes.get(slash + 1..).unwrap_or_default()),
        None => (&b"."[..], bytes),
    };
    // A part of what has no NUL has none.
    (CString::new(folder).unwrap_or_default(), name)
}

/// A small file as text.
pub fn text(path: &CStr, most_bytes: u64) -> Result<String, String> {
    let (file, _) = open(path)?;
    let refused = |what: &str| format!("{}: {what}", shown(path));
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // Until its end: files of /proc have no length.
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(refused(&format!("cannot read it: {}", reason(error)))),
        }
        if bytes.len() as u64 > most_bytes {
            return Err(refused(&format!("more than {most_bytes} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))
}

/// Fills a buffer from a place in a file.
pub fn read_at(file: &OwnedFd, mut buffer: &mut [u8], mut at: u64) -> Result<(), String> {
    while !buffer.is_empty() {
        match rustix::io::pread(file, &mut *buffer, at) {
            Ok(0) => return Err("it ends too early".to_owned()),
            Ok(read) => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                at += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(reason(error)),
        }
    }
    Ok(())
}

/// Writes all of it.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names come out of files: none may steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

pub fn nanoseconds() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub fn shown(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}

pub fn held(error: HoldError) -> String {
    match error {
        HoldError::Os(error) => reason(error),
        changed => format!("{changed}"),
    }
}

/// What the usual ones mean; the others have a number.
pub fn reason(error: Errno) -> String {
    let what = match error {
        Errno::NOENT => "No such file or directory",
        Errno::ACCESS => "Permission denied",
        Errno::PERM => "Operation not permitted",
        Errno::ISDIR => "Is a directory",
        Errno::NOTDIR => "Not a directory",
        Errno::NOSPC => "No space left on device",
        Errno::ROFS => "Read-only file system",
        Errno::NOMEM => "Out of memory",
        Errno::IO => "Input/output error",
        Errno::FBIG => "File too large",
        Errno::NOSYS => "Not known to this kernel",
        _ => "Refused",
    };
    format!("{what} (os error {})", error.raw_os_error())
}
