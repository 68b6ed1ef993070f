//! .npz archives: an array for each of a model's inputs. Arrays are read where they lie, sample by sample, so nothing is
//! unpacked and no size out of the archive is allocated; compressed ones are refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tractlet::npy;

use super::failure::Failure;

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

/// An open archive.
pub struct Npz {
    path: PathBuf,
    file: File,
    /// Where the directory begins: arrays lie before it.
    end: u64,
    entries: Vec<Entry>,
}

/// What the directory says of an array.
struct Entry {
    name: String,
    is_encrypted: bool,
    is_packed: bool,
    bytes: u32,
    local: u32,
}

impl Npz {
    /// Opens a file that is named as an archive; none where it is not.
    pub fn open(path: &Path) -> Result<Option<Npz>, Failure> {
        if path.extension().is_none_or(|extension| extension != "npz") || path.is_dir() {
            return Ok(None);
        }
        // Not over a pipe, which would hang the reader.
        let kind = path.metadata().map_err(|error| format!("{}: cannot open it: {error}", path.display()))?;
        if !kind.is_file() {
            return Err(fault(path, "it is not a regular file").into());
        }
        let file = File::open(path).map_err(|error| format!("{}: cannot open it: {error}", path.display()))?;
        let (end, entries) = directory(&file, kind.len()).map_err(|why| fault(path, &why))?;
        Ok(Some(Npz { path: path.to_owned(), file, end, entries }))
    }

    /// The array of this name, as `numpy.savez` names it.
    pub fn array(&self, name: &str) -> Result<npy::Reader, Failure> {
        let path = self.path.display();
        let own = |entry: &&Entry| entry.name.strip_suffix(".npy") == Some(name);
        let Some(entry) = self.entries.iter().rfind(own) else {
            let names = self.entries.iter().map(|entry| entry.name.trim_end_matches(".npy")).collect::<BTreeSet<_>>();
            let held = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let what = "which the model takes; its arrays";
            return Err(format!("{path}: there is no array `{name}`, {what}: {held}").into());
        };
        if entry.is_encrypted {
            return Err(format!("{path}: array `{name}` is encrypted; write the archive with numpy.savez").into());
        }
        if entry.is_packed {
            let what = "is compressed, and samples are read where they lie; write the archive with numpy.savez";
            return Err(format!("{path}: array `{name}` {what}").into());
        }
        if entry.bytes == u32::MAX || entry.local == u32::MAX {
            let what = "is beyond the 2 GB of an archive that are read; give each input a .npy file of its own";
            return Err(format!("{path}: array `{name}` {what}").into());
        }
        let damaged = || fault(&self.path, &format!("array `{name}` is not where the directory says"));
        let local = read(&self.file, u64::from(entry.local), LOCAL).map_err(|_| damaged())?;
        let is_local = local.starts_with(b"PK\x03\x04");
        let behind = half(&local, 26).zip(half(&local, 28)).filter(|_| is_local).ok_or_else(damaged)?;
        let start = u64::from(entry.local) + LOCAL as u64 + u64::from(behind.0) + u64::from(behind.1);
        if start + u64::from(entry.bytes) > self.end {
            return Err(damaged().into());
        }
        Ok(npy::Reader::open_within(&self.path, start, u64::from(entry.bytes))?)
    }
}

fn fault(path: &Path, why: &str) -> String {
    format!("{}: not a readable .npz file: {why}", path.display())
}

/// Where the directory of a file of this length begins, and what it lists.
fn directory(file: &File, length: u64) -> Result<(u64, Vec<Entry>), String> {
    let tail = length.min((END + usize::from(u16::MAX)) as u64);
    let (first, tail) = (length - tail, read(file, length - tail, tail as usize)?);
    // The comment behind the record reaches to the end of the file.
    let is_end = |at: &usize| {
        let comment = half(&tail, at + 20).map(usize::from);
        let begins = tail.get(*at..).is_some_and(|rest| rest.starts_with(b"PK\x05\x06"));
        begins && comment == tail.len().checked_sub(at + END)
    };
    let at = tail.len().checked_sub(END).and_then(|last| (0..=last).rev().find(is_end));
    let at = at.ok_or("it does not end as a zip archive does")?;
    let damaged = || "its directory is damaged".to_owned();
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
    let directory = read(file, u64::from(start), bytes as usize)?;
    let mut rest = directory.as_slice();
    let entries = (0..count).map(|_| entry(&mut rest)).collect::<Option<_>>().ok_or_else(damaged)?;
    Ok((u64::from(start), entries))
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

fn read(file: &File, at: u64, bytes: usize) -> Result<Vec<u8>, String> {
    let mut held = vec![0; bytes];
    file.read_exact_at(&mut held, at).map_err(|error| error.to_string())?;
    Ok(held)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::CompressionMethod;
    use zip::write::FileOptions;

    fn archive(entries: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in entries {
            // As numpy: sizes in a larger record, whatever they are.
            let options = FileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        (folder, path)
    }

    fn array(path: &Path, name: &str) -> Result<npy::Reader, String> {
        let read = || Npz::open(path)?.ok_or("none")?.array(name);
        read().map_err(|failure| match failure {
            Failure::Because(reason) => reason,
            Failure::Closed => "closed".into(),
        })
    }

    #[test]
    fn arrays_are_read_where_they_lie() {
        let npy = std::fs::read("models/kws_dscnn/samples.npy").unwrap();
        let (_folder, path) = archive(&[("other.npy", b"no array"), ("input.npy", &npy)]);
        let (held, alone) =
            (array(&path, "input").unwrap(), npy::Reader::open("models/kws_dscnn/samples.npy").unwrap());
        let mut third = [vec![0; 1960], vec![0; 1960]];
        held.read(2 * 490, &mut third[0]).unwrap();
        alone.read(2 * 490, &mut third[1]).unwrap();
        assert_eq!((held.shape(), &third[0]), (alone.shape(), &third[1]));
        // What lies behind the array is not its own.
        assert!(held.read(held.shape().iter().product::<usize>() - 1, &mut [0; 8]).is_err());
        assert!(
            array(&path, "x")
                .unwrap_err()
                .contains("there is no array `x`, which the model takes; its arrays: `input`, `other`")
        );
        assert!(array(&path, "other").unwrap_err().contains("not a readable .npy file"));
    }

    #[test]
    fn every_damaged_byte_is_refused_or_does_no_harm() {
        let header = b"\x93NUMPY\x01\x00\x38\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n\0\0\x80\x3f";
        let (_folder, path) = archive(&[("a.npy", header)]);
        assert_eq!(array(&path, "a").unwrap().shape(), [1]);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for damage in [0xFF, 0x08] {
                let mut damaged = whole.clone();
                damaged[at] ^= damage;
                std::fs::write(&path, &damaged).unwrap();
                if let Ok(reader) = array(&path, "a") {
                    let _ = reader.read(0, &mut [0; 4]);
                }
            }
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(array(&path, "a").is_err(), "{at}");
        }
    }

    #[test]
    fn what_an_archive_claims_is_held_against_bounds_and_the_file() {
        let npy = std::fs::read("models/kws_dscnn/samples.npy").unwrap();
        let (_folder, path) = archive(&[("a.npy", &npy)]);
        assert!(array(&path, "a").is_ok());
        let whole = std::fs::read(&path).unwrap();
        let (end, directory) = (whole.len() - END, whole.len() - END - ENTRY - "a.npy".len());
        let claim = |at: usize, bytes: &[u8]| {
            let mut claims = whole.clone();
            claims[at..at + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&path, claims).unwrap();
            array(&path, "a").map(|_| ()).unwrap_err()
        };
        let none = [0xFF; 4];
        assert!(claim(end + 10, &none[..2]).contains("65535 arrays"));
        assert!(claim(end + 10, &[2, 0]).contains("directory is damaged"));
        assert!(claim(end + 12, &none).contains("a directory of 4294967295 bytes"));
        assert!(claim(end + 16, &none).contains("directory is damaged"));
        assert!(claim(directory + 8, &[1]).contains("encrypted"));
        assert!(claim(directory + 10, &[8]).contains("is compressed"));
        assert!(claim(directory + 20, &[none, none].concat()).contains("beyond the 2 GB"));
        assert!(claim(directory + 42, &none).contains("beyond the 2 GB"));
        assert!(claim(directory + 42, &[0xFF, 0xFF, 0xFF, 0]).contains("not where the directory says"));
        assert!(claim(directory + 20, &[0, 0, 0, 1, 0, 0, 0, 1]).contains("not where the directory says"));
        assert!(claim(26, &none[..2]).contains(".np"));
    }
}
