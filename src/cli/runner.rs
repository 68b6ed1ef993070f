//! A session with buffers for its inputs and outputs.

use std::path::Path;

use tractlet::{DType, RunError, Session, TensorMut, TensorRef, TensorSpec};

use super::failure::Failure;
use super::samples::Samples;

/// Where an input comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A list of samples.
    File(&'a Samples),
    /// Its elements.
    #[cfg(feature = "quantize")]
    Values(&'a [f32]),
}

pub struct Runner {
    session: Session,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
}

/// Room for a tensor of any type.
pub struct Buffer {
    dtype: DType,
    /// As wide as the widest element, so that all are aligned.
    words: Vec<u64>,
    byte_len: usize,
}

impl Buffer {
    pub fn new(dtype: DType, byte_len: usize) -> Buffer {
        Buffer { dtype, words: vec![0; byte_len.div_ceil(size_of::<u64>())], byte_len }
    }

    fn of(spec: &TensorSpec) -> Buffer {
        Buffer::new(spec.dtype, spec.byte_len())
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words).get(..self.byte_len).unwrap_or_default()
    }

    #[cfg(feature = "quantize")]
    fn fill(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() != self.byte_len {
            return Err(format!("an input of {} bytes is given {}", self.byte_len, bytes.len()).into());
        }
        self.bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words).get_mut(..self.byte_len).unwrap_or_default()
    }
}

impl Runner {
    pub fn new(session: Session) -> Runner {
        let inputs = session.inputs().iter().map(Buffer::of).collect();
        let outputs = session.outputs().iter().map(Buffer::of).collect();
        Runner { session, inputs, outputs }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Runs one sample; `files` has one list of samples for each input, in the model's order.
    pub fn run_sample(&mut self, files: &[Samples], sample: usize) -> Result<(), Failure> {
        let sources: Vec<Source<'_>> = files.iter().map(Source::File).collect();
        self.run_from(&sources, sample)
    }

    /// The same with a source for each input.
    pub fn run_from(&mut self, sources: &[Source<'_>], sample: usize) -> Result<(), Failure> {
        for (source, buffer) in sources.iter().zip(&mut self.inputs) {
            match source {
                Source::File(file) => file.read(sample, buffer.bytes_mut())?,
                #[cfg(feature = "quantize")]
                Source::Values(values) => buffer.fill(bytemuck::cast_slice(values))?,
            }
        }
        self.run().map_err(|error| {
            let at_fault = match &error {
                RunError::NotANumber { name, .. } => self.session.inputs().iter().position(|spec| spec.name == *name),
                _ => None,
            };
            let path = match sources.get(at_fault.unwrap_or(0)) {
                Some(Source::File(file)) => file.path(),
                _ => Path::new("the input"),
            };
            Failure::Because(format!("{}: sample {sample} (from 0): {error}", path.display()))
        })
    }

    /// Runs on what the input buffers hold.
    fn run(&mut self) -> Result<(), RunError> {
        let (session, inputs, mut outputs) = self.parts();
        session.run(&inputs, &mut outputs)
    }

    /// The session with tensors over the buffers, for calls of which nothing but the run is measured.
    pub fn parts(&mut self) -> (&mut Session, Vec<TensorRef<'_>>, Vec<TensorMut<'_>>) {
        let inputs = self.inputs.iter().map(|buffer| TensorRef::from_bytes(buffer.dtype, buffer.bytes()));
        let outputs = self.outputs.iter_mut().map(|buffer| TensorMut::from_bytes(buffer.dtype, buffer.bytes_mut()));
        (&mut self.session, inputs.collect(), outputs.collect())
    }

    /// The input buffers, to be filled by `fill`.
    pub fn fill(&mut self, mut fill: impl FnMut(DType, &mut [u8])) {
        self.inputs.iter_mut().for_each(|buffer| fill(buffer.dtype, buffer.bytes_mut()));
    }

    /// Bytes of an output of the last run.
    pub fn output(&self, tensor: usize) -> &[u8] {
        self.outputs.get(tensor).map_or(&[], Buffer::bytes)
    }
}
