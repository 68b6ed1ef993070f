//! A .npy file as a list of samples of one of the model's tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tractlet::{TensorSpec, npy};
use tractlet_io::npy::{count_samples, without_batch};

use super::failure::Failure;
use super::files;

pub struct Samples {
    file: Arc<npy::Reader>,
    count: usize,
    /// Elements of one sample.
    elements: usize,
}

impl Samples {
    /// Opens a file whose type is the tensor's, and whose shape is the tensor's (one sample), a
    /// list of it, or a list of it without its leading dimension where that is 1.
    pub fn open(path: &Path, role: &str, spec: &TensorSpec) -> Result<Samples, Failure> {
        let file = npy::Reader::open(path)?;
        let name = &spec.name;
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
        Ok(Samples { count, elements: spec.shape.iter().product(), file: Arc::new(file) })
    }

    /// One file for each of the model's inputs, in the model's order, as the `[NAME=]X.npy` arguments of a
    /// flag name them. All have as many samples.
    pub fn open_all(flag: &str, arguments: &[PathBuf], specs: &[TensorSpec]) -> Result<Vec<Samples>, Failure> {
        let mut assigned = files::assign("input", arguments, specs)?;
        assigned.sort_by_key(|(tensor, _)| *tensor);
        if let Some(missing) =
            specs.iter().enumerate().find(|(index, _)| assigned.iter().all(|(tensor, _)| tensor != index))
        {
            let name = &missing.1.name;
            return Err(format!("input `{name}` has no file; give it one: --{flag} {name}=X.npy").into());
        }
        let open = |((_, path), spec): (&(usize, PathBuf), &TensorSpec)| Samples::open(path, "input", spec);
        let inputs = assigned.iter().zip(specs).map(open).collect::<Result<Vec<_>, _>>()?;
        if let [first, rest @ ..] = inputs.as_slice()
            && let Some(other) = rest.iter().find(|other| other.count() != first.count())
        {
            let (a, b) = (first.path().display(), other.path().display());
            return Err(
                format!("{a} has {} samples, {b} has {}; they must be equal", first.count(), other.count()).into()
            );
        }
        Ok(inputs)
    }

    /// The same file for another thread: each read says where.
    #[cfg(feature = "quantize")]
    pub fn shared(&self) -> Samples {
        Samples { file: Arc::clone(&self.file), count: self.count, elements: self.elements }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads one sample into a buffer of its size.
    pub fn read(&self, sample: usize, out: &mut [u8]) -> Result<(), Failure> {
        Ok(self.file.read(sample * self.elements, out)?)
    }
}

/// A tensor's shape without its batch dimension, where that is 1.
pub fn sample_shape(spec: &TensorSpec) -> &[usize] {
    without_batch(&spec.shape)
}

fn list_of(count: &str, inner: &[usize]) -> String {
    let dims: Vec<String> = std::iter::once(count.to_owned()).chain(inner.iter().map(usize::to_string)).collect();
    format!("[{}]", dims.join(", "))
}
