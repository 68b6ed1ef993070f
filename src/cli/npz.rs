//! .npz archives: an array for each of a model's inputs. Arrays are read where they lie, sample by sample, so nothing is
//! unpacked and no size out of the archive is allocated; compressed ones are refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use tractlet::npy;
use zip::ZipArchive;
use zip::result::ZipError;

use super::failure::Failure;

/// An open archive.
pub struct Npz {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
}

impl Npz {
    /// Opens a file that is named as an archive; none where it is not.
    pub fn open(path: &Path) -> Result<Option<Npz>, Failure> {
        if path.extension().is_none_or(|extension| extension != "npz") || path.is_dir() {
            return Ok(None);
        }
        let fault = |why: String| format!("{}: not a readable .npz file: {why}", path.display());
        // Not over a pipe, which would hang the reader.
        let kind = path.metadata().map_err(|error| format!("{}: cannot open it: {error}", path.display()))?;
        if !kind.is_file() {
            return Err(fault("it is not a regular file".into()).into());
        }
        let file = File::open(path).map_err(|error| format!("{}: cannot open it: {error}", path.display()))?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| fault(error.to_string()))?;
        Ok(Some(Npz { path: path.to_owned(), zip }))
    }

    /// The array of this name, as `numpy.savez` names it.
    pub fn array(&mut self, name: &str) -> Result<npy::Reader, Failure> {
        let path = self.path.display();
        let names = self.zip.file_names().map(|name| name.trim_end_matches(".npy")).collect::<BTreeSet<_>>();
        let held = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let entry = self.zip.by_name(&format!("{name}.npy")).map_err(|error| match error {
            ZipError::FileNotFound => {
                format!("{path}: there is no array `{name}`, which the model takes; its arrays: {held}")
            }
            ZipError::UnsupportedArchive(_) => format!(
                "{path}: array `{name}` is compressed, and samples are read where they lie; write the archive with numpy.savez"
            ),
            error => format!("{path}: not a readable .npz file: array `{name}`: {error}"),
        })?;
        let (start, bytes) = (entry.data_start(), entry.size());
        Ok(npy::Reader::open_within(&self.path, start, bytes)?)
    }
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
}
