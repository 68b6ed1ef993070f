//! `[NAME=]FILE` arguments, and labels.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tractlet::{TensorSpec, npy};
use tractlet_io::{Assigned, assigned};

use super::elements::Elements;
use super::failure::Failure;
use super::or_here;

/// Which tensor each argument of `--flag` names, in the order of the arguments.
pub fn assign(
    (role, flag): (&str, &str),
    arguments: &[PathBuf],
    specs: &[TensorSpec],
) -> Result<Vec<(usize, PathBuf)>, Failure> {
    let names = || specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
    let mut taken: Vec<(usize, PathBuf)> = Vec::new();
    for argument in arguments {
        let find = |name: &str| specs.iter().position(|spec| spec.name == name);
        let (tensor, file) = match argument.to_str().map(|text| assigned(text, find)) {
            Some(Assigned::To(tensor, file)) => (tensor, PathBuf::from(file)),
            _ if specs.is_empty() => {
                return Err(format!("{}: the model has no {role}, so nothing takes it", argument.display()).into());
            }
            Some(Assigned::Unknown(name)) => {
                return Err(format!("the model has no {role} `{name}`; it has {}", names()).into());
            }
            _ if specs.len() == 1 => (0, argument.clone()),
            _ => {
                let what =
                    format!("the model has {} {role}s; say which: --{flag} NAME={}", specs.len(), argument.display());
                return Err(format!("{what}, with NAME one of {}", names()).into());
            }
        };
        if taken.iter().any(|(other, _)| *other == tensor) {
            return Err(format!("{}: that {role} already has a file", argument.display()).into());
        }
        taken.push((tensor, file));
    }
    Ok(taken)
}

/// Whether both names are of one file, also of one that is yet to be made.
pub fn same(one: &Path, other: &Path) -> bool {
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether a file, which may be yet to be made, lies in a folder, however deep.
pub fn within(folder: &Path, file: &Path) -> bool {
    matches!((place(folder), place(file)), (Ok(folder), Ok(file)) if file.starts_with(&folder))
}

/// Refuses `-`, by which standard output is meant.
pub fn expect_file(target: &Path) -> Result<(), Failure> {
    match target == Path::new("-") {
        true => {
            Err("-: this goes to a file, not to standard output; say ./- for a file of that name".to_owned().into())
        }
        false => Ok(()),
    }
}

/// Refuses to write a file over one that is read; `written` says what it is.
pub fn expect_apart<'a>(target: &Path, written: &str, read: impl IntoIterator<Item = &'a Path>) -> Result<(), Failure> {
    expect_file(target)?;
    match read.into_iter().any(|file| same(file, target)) {
        true => {
            Err(format!("{}: {written} would overwrite what is read; give it another name", target.display()).into())
        }
        false => Ok(()),
    }
}

/// The one name of a file, which need not be there.
fn place(file: &Path) -> io::Result<PathBuf> {
    file.canonicalize().or_else(|error| match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => Ok(or_here(folder).canonicalize()?.join(name)),
        _ => Err(error),
    })
}

const MAX_LABELS_BYTES: u64 = 1 << 20;

/// One label a line.
pub fn labels(path: &Path) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LABELS_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("{}: cannot read the labels: {error}", path.display()).into()),
        Ok(bytes) if bytes as u64 > MAX_LABELS_BYTES => {
            Err(format!("{}: more than {MAX_LABELS_BYTES} bytes of labels; expected one label a line", path.display())
                .into())
        }
        Ok(_) => Ok(text.lines().map(|line| line.trim().to_owned()).collect()),
    }
}

/// All elements of a one-dimensional .npy file of int64, int32 or uint8.
pub fn integers(file: &npy::Reader) -> Result<Vec<i64>, Failure> {
    let (path, dtype) = (file.path().display(), file.dtype());
    let &[count] = file.shape() else {
        return Err(format!("{path}: shape {:?}; labels are one-dimensional: x.reshape(-1)", file.shape()).into());
    };
    let mut bytes = vec![0; count * dtype.size()];
    file.read(0, &mut bytes)?;
    match Elements::decode(dtype, &bytes)? {
        Elements::I64(labels) => Ok(labels),
        Elements::I32(labels) => Ok(labels.into_iter().map(i64::from).collect()),
        Elements::U8(labels) => Ok(labels.into_iter().map(i64::from).collect()),
        _ => {
            Err(format!("{path} holds {dtype}, labels are int64, int32 or uint8; convert it: x.astype('int64')").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_place_however_it_is_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        assert!(same(&at("a/../o.npy"), &at("./o.npy")), "neither is there yet");
        assert!(same(&at("link/o.npy"), &at("a/o.npy")));
        assert!(same(Path::new("o.npy"), Path::new("./o.npy")));
        assert!(!same(&at("a/o.npy"), &at("o.npy")));
    }
}
