//! A .npy file, or a folder of them, as a list of samples of one of the model's tensors.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tractlet::{TensorSpec, npy};
use tractlet_io::npy::{count_samples, without_batch};

use super::failure::Failure;
use super::files;
#[cfg(feature = "quantize")]
use super::npz::Npz;

/// Files that a folder may have.
const MAX_FILES: usize = 1 << 16;

pub struct Samples {
    path: PathBuf,
    files: Arc<Vec<List>>,
    count: usize,
    /// Elements of one sample.
    elements: usize,
}

/// A file with the place of its first sample among all. Those of a folder are opened to be read: there may be more of
/// them than a process may have open.
struct List {
    file: Opened,
    first: usize,
}

enum Opened {
    Always(npy::Reader),
    ToRead(PathBuf),
}

impl Samples {
    /// Opens a file whose type is the tensor's, and whose shape is the tensor's (one sample), a
    /// list of it, or a list of it without its leading dimension where that is 1; or a folder of such
    /// files, which are read in the order of their names.
    pub fn open(path: &Path, role: &str, spec: &TensorSpec) -> Result<Samples, Failure> {
        if !path.is_dir() {
            return Samples::of(npy::Reader::open(path)?, role, spec);
        }
        let mut samples =
            Samples { path: path.to_owned(), files: Arc::default(), count: 0, elements: spec.shape.iter().product() };
        let mut files = Vec::new();
        for path in in_folder(path)? {
            let count = list(&npy::Reader::open(&path)?, role, spec)?;
            files.push(List { file: Opened::ToRead(path), first: samples.count });
            samples.count += count;
        }
        samples.files = Arc::new(files);
        Ok(samples)
    }

    /// The same of a file that is open.
    fn of(file: npy::Reader, role: &str, spec: &TensorSpec) -> Result<Samples, Failure> {
        let count = list(&file, role, spec)?;
        let path = file.path().to_owned();
        let files = Arc::new(vec![List { file: Opened::Always(file), first: 0 }]);
        Ok(Samples { path, files, count, elements: spec.shape.iter().product() })
    }

    /// One file for each of the model's inputs, in the model's order, as the `[NAME=]X.npy` arguments of a
    /// flag name them; or an .npz file that has an array for each. All have as many samples.
    pub fn open_all(flag: &str, arguments: &[PathBuf], specs: &[TensorSpec]) -> Result<Vec<Samples>, Failure> {
        #[cfg(feature = "quantize")]
        if let [one] = arguments
            && let Some(archive) = Npz::open(one)?
        {
            let of = |spec: &TensorSpec| Samples::of(archive.array(&spec.name)?, "input", spec);
            return equally_many(specs.iter().map(of).collect::<Result<_, _>>()?, specs);
        }
        let mut assigned = files::assign(("input", flag), arguments, specs)?;
        assigned.sort_by_key(|(tensor, _)| *tensor);
        if let Some(missing) =
            specs.iter().enumerate().find(|(index, _)| assigned.iter().all(|(tensor, _)| tensor != index))
        {
            let name = &missing.1.name;
            return Err(format!("input `{name}` has no file; give it one: --{flag} {name}=X.npy").into());
        }
        let open = |((_, path), spec): (&(usize, PathBuf), &TensorSpec)| Samples::open(path, "input", spec);
        equally_many(assigned.iter().zip(specs).map(open).collect::<Result<_, _>>()?, specs)
    }

    /// The same file for another thread: each read says where.
    #[cfg(feature = "quantize")]
    pub fn shared(&self) -> Samples {
        Samples { path: self.path.clone(), files: Arc::clone(&self.files), count: self.count, elements: self.elements }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether they lie in this file, or in it among others.
    pub fn reads(&self, path: &Path) -> bool {
        self.files.iter().any(|list| match &list.file {
            Opened::Always(file) => files::same(file.path(), path),
            Opened::ToRead(file) => files::same(file, path),
        })
    }

    /// Reads one sample into a buffer of its size.
    pub fn read(&self, sample: usize, out: &mut [u8]) -> Result<(), Failure> {
        let list = self.files.partition_point(|list| list.first <= sample).checked_sub(1);
        let Some(list) = list.and_then(|index| self.files.get(index)) else {
            return Err(format!("{}: there is no sample {sample} (from 0)", self.path.display()).into());
        };
        let first = (sample - list.first) * self.elements;
        match &list.file {
            Opened::Always(file) => file.read(first, out)?,
            Opened::ToRead(path) => npy::Reader::open(path)?.read(first, out)?,
        }
        Ok(())
    }
}

/// Type and shape of a tensor that holds one sample of a file, or of a folder's first: the file's first axis lists
/// samples, and the tensor has a batch of 1 in its place.
#[cfg(feature = "torch")]
pub fn batch_of_one(path: &Path) -> Result<(tractlet::DType, Vec<usize>), Failure> {
    let files = if path.is_dir() { in_folder(path)? } else { vec![path.to_owned()] };
    let file = npy::Reader::open(files.first().map_or(path, PathBuf::as_path))?;
    match file.shape() {
        [_, sample @ ..] => Ok((file.dtype(), [&[1], sample].concat())),
        [] => Err(format!("{}: a single number; expected an axis that lists samples", file.path().display()).into()),
    }
}

/// Refuses lists, one for each of these inputs, of which one is longer than another.
fn equally_many(inputs: Vec<Samples>, specs: &[TensorSpec]) -> Result<Vec<Samples>, Failure> {
    let mut named = inputs.iter().zip(specs);
    if let Some((first, spec)) = named.next()
        && let Some((other, its)) = named.find(|(other, _)| other.count() != first.count())
    {
        let has = |samples: &Samples, spec: &TensorSpec| {
            format!("{} has {} samples for input `{}`", samples.path().display(), samples.count(), spec.name)
        };
        return Err(format!("{}, {}; they must be equal", has(first, spec), has(other, its)).into());
    }
    Ok(inputs)
}

/// The number of samples in a .npy file.
fn list(file: &npy::Reader, role: &str, spec: &TensorSpec) -> Result<usize, Failure> {
    let (path, name) = (file.path(), &spec.name);
    if file.dtype() != spec.dtype {
        let (holds, takes) = (file.dtype(), spec.dtype);
        let what = format!("{} holds {holds}, {role} `{name}` takes {takes}", path.display());
        return Err(format!("{what}; convert it: x.astype('{takes}')").into());
    }
    let count = count_samples(file.shape(), &spec.shape).ok_or_else(|| {
        let (found, list) = (file.shape(), list_of("n", sample_shape(spec)));
        let what = format!("{}: shape {found:?} does not fit {role} `{name}`", path.display());
        format!("{what}; expected {:?} for one sample, or {list} for n of them", spec.shape)
    })?;
    if count == 0 {
        return Err(format!("{}: shape {:?} holds no sample", path.display(), file.shape()).into());
    }
    Ok(count)
}

/// The .npy files of a folder, by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refused = |error: std::io::Error| format!("{}: cannot read the folder: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|extension| extension == "npy") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} .npy files", folder.display()).into());
        }
    }
    if files.is_empty() {
        return Err(format!("{}: there is no .npy file in this folder", folder.display()).into());
    }
    files.sort();
    Ok(files)
}

/// A tensor's shape without its batch dimension, where that is 1.
pub fn sample_shape(spec: &TensorSpec) -> &[usize] {
    without_batch(&spec.shape)
}

fn list_of(count: &str, inner: &[usize]) -> String {
    let dims: Vec<String> = std::iter::once(count.to_owned()).chain(inner.iter().map(usize::to_string)).collect();
    format!("[{}]", dims.join(", "))
}
