//! A session with buffers for its inputs and outputs.

use std::path::Path;

use tractlet::{DType, RunError, Session, TensorMut, TensorRef, TensorSpec};

use super::failure::Failure;
use super::samples::Samples;

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
        for (file, buffer) in files.iter().zip(&mut self.inputs) {
            file.read(sample, buffer.bytes_mut())?;
        }
        self.run().map_err(|error| {
            let at_fault = match &error {
                RunError::NotANumber { name, .. } => self.session.inputs().iter().position(|spec| spec.name == *name),
                _ => None,
            };
            let path = files.get(at_fault.unwrap_or(0)).map_or(Path::new("the input"), Samples::path);
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
