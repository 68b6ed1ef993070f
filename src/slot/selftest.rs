//! Whether a package works where it is: its model, run on inputs whose outputs are known, or else on zeros.

use tractlet_core::plan::AlignedBytes;

use super::{Golden, Package};
use crate::npy;
use crate::sensor::{Recipe, Stream, StreamOptions};
use crate::{DType, Model, ModelFile, OpenOptions, Session, SessionOptions, TensorMut, TensorRef, TensorSpec};

/// What commands read beside a model by itself.
const RECIPE: &str = "model.toml";

impl Package {
    /// Opens the model and runs it: every float that comes out is finite, outputs of golden inputs are what they have
    /// to be, a plan is of the model beside it, and a model.toml fits. Returns it ready.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn self_test(&self) -> Result<Session, String> {
        let file = ModelFile::open(self.model(), &OpenOptions::default()).map_err(|error| error.to_string())?;
        if let (Some(from), ModelFile::Plan(plan)) = (&self.manifest.from, &file) {
            let model = Model::open(self.file(from)).map_err(|error| error.to_string())?;
            plan.expect_model(&model).map_err(|error| error.to_string())?;
        }
        let ready = || file.session(SessionOptions::default()).map_err(|error| error.to_string());
        if self.has(RECIPE) {
            let recipe = Recipe::open(self.model()).map_err(|error| error.to_string())?;
            Stream::new(&recipe, ready()?, StreamOptions::default()).map_err(|error| error.to_string())?;
        }
        let mut session = ready()?;
        let mut run = Run::new(&session);
        run.once(&mut session)?;
        run.finite(&session)?;
        if let Some(golden) = &self.manifest.golden {
            self.golden(golden, &mut session, &mut run)?;
        }
        Ok(session)
    }

    fn golden(&self, golden: &Golden, session: &mut Session, run: &mut Run) -> Result<(), String> {
        let inputs = self.arrays(&golden.inputs, session.inputs())?;
        let outputs = self.arrays(&golden.outputs, session.outputs())?;
        let samples = inputs.first().map_or(0, |first| first.samples);
        let same = inputs.iter().chain(&outputs).find(|array| array.samples != samples || samples == 0);
        if let Some(other) = same {
            let path = other.reader.path().display();
            return Err(format!("{path}: {} samples, and the first input has {samples}", other.samples));
        }
        for sample in 0..samples {
            for (array, buffer) in inputs.iter().zip(&mut run.inputs) {
                array.read(sample, &mut buffer.bytes)?;
            }
            run.once(session)?;
            for (array, buffer) in outputs.iter().zip(&run.outputs) {
                let mut expected = Buffer::of(&buffer.spec);
                array.read(sample, &mut expected.bytes)?;
                if let Some(at) = apart(buffer, &expected, golden.tolerance) {
                    let (name, path) = (&buffer.spec.name, array.reader.path().display());
                    return Err(format!(
                        "output `{name}` is not that of {path}: sample {sample}, element {at} (from 0)"
                    ));
                }
            }
        }
        Ok(())
    }

    fn arrays(&self, names: &[String], specs: &[TensorSpec]) -> Result<Vec<Array>, String> {
        if names.len() != specs.len() {
            let specs = specs.len();
            return Err(format!(
                "`golden` names {} files where the model has {specs}: one each, in order",
                names.len()
            ));
        }
        let array = |(name, spec): (&String, &TensorSpec)| {
            let path = self.file(name);
            let reader = npy::Reader::open(&path).map_err(|error| error.to_string())?;
            let elements = reader.shape().iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
            let each = spec.shape.iter().product::<usize>().max(1);
            match elements {
                Some(elements) if reader.dtype() == spec.dtype && elements.is_multiple_of(each) => {
                    Ok(Array { reader, samples: elements / each, sample_elements: each })
                }
                _ => {
                    let (shape, dtype) = (reader.shape(), reader.dtype());
                    let path = path.display();
                    Err(format!(
                        "{path}: {dtype} {shape:?} are no samples of `{}`, {} {:?}",
                        spec.name, spec.dtype, spec.shape
                    ))
                }
            }
        };
        names.iter().zip(specs).map(array).collect()
    }
}

/// Samples in a file.
struct Array {
    reader: npy::Reader,
    samples: usize,
    sample_elements: usize,
}

impl Array {
    fn read(&self, sample: usize, out: &mut [u8]) -> Result<(), String> {
        self.reader.read(sample * self.sample_elements, out).map_err(|error| error.to_string())
    }
}

/// Room for a tensor, aligned for any element.
struct Buffer {
    spec: TensorSpec,
    bytes: AlignedBytes,
}

impl Buffer {
    fn of(spec: &TensorSpec) -> Buffer {
        Buffer { spec: spec.clone(), bytes: AlignedBytes::zeroed(spec.byte_len()) }
    }

    fn floats(&self) -> Option<&[f32]> {
        (self.spec.dtype == DType::F32).then(|| bytemuck::cast_slice(&self.bytes))
    }
}

struct Run {
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
}

impl Run {
    fn new(session: &Session) -> Run {
        let buffers = |specs: &[TensorSpec]| specs.iter().map(Buffer::of).collect();
        Run { inputs: buffers(session.inputs()), outputs: buffers(session.outputs()) }
    }

    fn once(&mut self, session: &mut Session) -> Result<(), String> {
        let inputs: Vec<_> =
            self.inputs.iter().map(|buffer| TensorRef::from_bytes(buffer.spec.dtype, &buffer.bytes)).collect();
        let mut outputs: Vec<_> =
            self.outputs.iter_mut().map(|buffer| TensorMut::from_bytes(buffer.spec.dtype, &mut buffer.bytes)).collect();
        session.run(&inputs, &mut outputs).map_err(|error| format!("a test run failed: {error}"))
    }

    fn finite(&self, session: &Session) -> Result<(), String> {
        for (buffer, spec) in self.outputs.iter().zip(session.outputs()) {
            let odd = buffer.floats().and_then(|floats| floats.iter().position(|value| !value.is_finite()));
            if let Some(at) = odd {
                return Err(format!("a run on zeros gave no number in output `{}` at element {at}", spec.name));
            }
        }
        Ok(())
    }
}

/// The first element that is further from what it should be than it may.
fn apart(got: &Buffer, expected: &Buffer, tolerance: f64) -> Option<usize> {
    if let (Some(got), Some(expected)) = (got.floats(), expected.floats()) {
        let near =
            |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (f64::from(*a) - f64::from(*b)).abs() <= tolerance;
        return got.iter().zip(expected).position(|pair| !near(pair));
    }
    let size = got.spec.dtype.size().max(1);
    let at = got.bytes.iter().zip(expected.bytes.iter()).position(|(a, b)| a != b);
    at.map(|byte| byte / size)
}
