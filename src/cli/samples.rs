//! A .npy file as a list of samples of one of the model's tensors.

use std::path::Path;

use tractlet::{TensorSpec, npy};
use tractlet_io::npy::{count_samples, without_batch};

use super::failure::Failure;

pub struct Samples {
    file: npy::Reader,
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
        Ok(Samples { count, elements: spec.shape.iter().product(), file })
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
