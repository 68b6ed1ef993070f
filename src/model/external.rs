//! Tensor data that lies in files beside the model.
//!
//! A location is a path beneath the model's own directory. It is opened one component at a time,
//! each relative to the last and never through a symbolic link, so neither `..` nor an absolute
//! path nor a link can lead elsewhere; this works on every kernel, without openat2.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::Fault;
use super::graph::{ExternalRange, Graph, Tensor, TensorData};
use super::limits::Limits;
use super::{MapMode, Source, walk_tensors};

/// The external files of one model, each opened once.
#[derive(Debug, Default)]
pub(super) struct ExternalFiles {
    files: Vec<(PathBuf, Source)>,
    /// Which of them each location names: there are many ways to spell a path.
    locations: HashMap<String, usize>,
}

impl ExternalFiles {
    /// Opens every file that a tensor of `graph` names and checks each range against it.
    pub fn open(
        graph: &Graph,
        model_path: Option<&Path>,
        mode: MapMode,
        limits: &Limits,
    ) -> Result<ExternalFiles, Fault> {
        let mut external = ExternalFiles::default();
        walk_tensors(graph, &mut |tensor| {
            let TensorData::External(range) = &tensor.data else { return Ok(()) };
            let model_path = model_path
                .ok_or_else(|| fault(tensor, "a model in memory has no directory that its data could lie in".into()))?;
            if !external.locations.contains_key(&range.location) {
                external.add(model_path, &range.location, mode, limits).map_err(|what| fault(tensor, what))?;
            }
            external.slice(tensor, range).map(|_| ())
        })?;
        Ok(external)
    }

    fn add(&mut self, model_path: &Path, location: &str, mode: MapMode, limits: &Limits) -> Result<(), String> {
        let path: PathBuf = Path::new(location).components().filter(|c| *c != Component::CurDir).collect();
        let at = match self.files.iter().position(|(known, _)| *known == path) {
            Some(at) => at,
            None => {
                let held = self.files.iter().map(|(_, source)| source.len() as u64).sum();
                let source = open_beneath(model_path, location, mode, limits.file_bytes.saturating_sub(held))?;
                self.files.push((path, source));
                self.files.len() - 1
            }
        };
        self.locations.insert(location.to_owned(), at);
        Ok(())
    }

    /// Each file's location in the model, and its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.locations.iter().filter_map(|(location, &at)| Some((location.as_str(), &*self.files.get(at)?.1)))
    }

    /// Whether the model lies in one file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn slice(&self, tensor: &Tensor, range: &ExternalRange) -> Result<&[u8], Fault> {
        let file = self.file(&range.location).ok_or_else(|| fault(tensor, "the file is not open".into()))?;
        let expected = tensor.byte_len();
        if range.length.is_some_and(|length| length != expected as u64) {
            return Err(fault(
                tensor,
                format!(
                    "its type and dimensions ask for {expected} bytes, the model states {}",
                    range.length.unwrap_or(0)
                ),
            ));
        }
        let start = usize::try_from(range.offset).ok();
        let bytes = start.and_then(|start| file.get(start..start.checked_add(expected)?));
        bytes.ok_or_else(|| {
            let what = format!(
                "{expected} bytes at offset {} do not lie within `{}` ({} bytes)",
                range.offset,
                range.location,
                file.len()
            );
            fault(tensor, what)
        })
    }

    fn file(&self, location: &str) -> Option<&Source> {
        self.files.get(*self.locations.get(location)?).map(|(_, source)| source)
    }
}

/// Of at most `room` bytes.
fn open_beneath(model_path: &Path, location: &str, mode: MapMode, room: u64) -> Result<Source, String> {
    let directory = model_path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut here: OwnedFd =
        File::open(directory).map_err(|e| format!("cannot open the model's directory: {e}"))?.into();
    let mut components = Path::new(location).components().filter(|c| *c != Component::CurDir).peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(format!(
                "location `{location}` is absolute or has a `..`; it must be a path beneath the model's directory"
            ));
        };
        let kind = if components.peek().is_some() { OFlags::DIRECTORY } else { OFlags::NONBLOCK };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | kind;
        here = rustix::fs::openat(here.as_fd(), name, flags, Mode::empty()).map_err(|e| {
            let why = match e {
                Errno::LOOP => "it is a symbolic link, which is not followed; put the file itself there".into(),
                Errno::NOTDIR => "its path leads through what is no directory (symbolic links are not followed)".into(),
                _ => std::io::Error::from(e).to_string(),
            };
            format!("cannot open `{location}`: {why}")
        })?;
    }
    let file = File::from(here);
    let meta = file.metadata().map_err(|e| format!("cannot look at `{location}`: {e}"))?;
    // Components do not tell a file from one with a slash behind it, which is a directory.
    if !meta.is_file() || location.ends_with('/') {
        return Err(format!("`{location}` is not a regular file"));
    }
    if meta.len() > room {
        return Err(format!("`{location}` has {} bytes, above what is left of the limit, {room}", meta.len()));
    }
    Source::new(&file, meta.len(), mode).map_err(|e| format!("`{location}`: {e}"))
}

fn fault(tensor: &Tensor, what: String) -> Fault {
    Fault::External { tensor: tensor.name.clone(), what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_is_held_once_and_all_of_them_within_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        std::fs::write(folder.path().join("a.bin"), [1; 4]).unwrap();
        std::fs::write(folder.path().join("b.bin"), [2; 4]).unwrap();
        let limits = Limits { file_bytes: 7, ..Limits::default() };
        let mut external = ExternalFiles::default();
        let mut add = |location| external.add(&model, location, MapMode::Auto, &limits);
        ["a.bin", "./a.bin", "././a.bin"].into_iter().for_each(|location| add(location).unwrap());
        assert!(add("b.bin").unwrap_err().contains("4 bytes, above what is left of the limit, 3"));
        assert_eq!(external.files.len(), 1);
        assert_eq!(external.file("./a.bin").unwrap().get(..), Some([1; 4].as_slice()));
    }
}
