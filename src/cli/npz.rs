//! .npz archives: an array for each of a model's inputs, read where it lies, sample by sample.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tractlet::npy;
use tractlet_io::npz::Archive;

use super::failure::Failure;

/// An open archive.
pub struct Npz {
    path: PathBuf,
    file: File,
    archive: Archive,
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
            return Err(format!("{}: not a readable .npz file: it is not a regular file", path.display()).into());
        }
        let file = File::open(path).map_err(|error| format!("{}: cannot open it: {error}", path.display()))?;
        let archive = Archive::open(kind.len(), &|at, out| read(&file, at, out));
        let archive = archive.map_err(|fault| format!("{}: {fault}", path.display()))?;
        Ok(Some(Npz { path: path.to_owned(), file, archive }))
    }

    /// The array of this name, as `numpy.savez` names it.
    pub fn array(&self, name: &str) -> Result<npy::Reader, Failure> {
        let place = self.archive.array(name, &|at, out| read(&self.file, at, out));
        let place = place.map_err(|fault| format!("{}: {fault}", self.path.display()))?;
        Ok(npy::Reader::open_within(&self.path, place.start, place.end - place.start)?)
    }
}

fn read(file: &File, at: u64, out: &mut [u8]) -> Result<(), String> {
    file.read_exact_at(out, at).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::CompressionMethod;
    use zip::write::FileOptions;

    /// The record at an archive's end, and an entry of its directory before the name.
    const PARTS: [usize; 2] = [22, 46];

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
        assert!(array(&path, "x").unwrap_err().contains("there is no array `x`; its arrays: `input`, `other`"));
        assert!(array(&path, "other").unwrap_err().contains("not a readable .npy file"));
        let (_folder, path) = archive(&[]);
        assert!(array(&path, "x").unwrap_err().contains("there is no array `x`; it is empty"));
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
        let [end, entry] = PARTS;
        let (end, directory) = (whole.len() - end, whole.len() - end - entry - "a.npy".len());
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
