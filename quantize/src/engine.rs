//! What runs a model over the calibration samples. Quantization asks little of it, and leaves it to
//! whoever calls: `tractlet` gives its own sessions.

/// Opens ONNX models on the calibration samples.
pub trait Engine: Sync {
    /// How many calibration samples there are.
    fn samples(&self) -> usize;

    /// Little-endian elements of a stored tensor of the model, which lie in another file than the model's own.
    ///
    /// # Errors
    /// They cannot be had.
    fn stored(&self, tensor: &str) -> Result<Vec<u8>, EngineError>;

    /// Sizes of an input of the model, which may leave some open; none of what is no such input.
    fn shape(&self, input: &str) -> Option<&[usize]>;

    /// Makes a model ready: its inputs are those of the model that is quantized, or float32 tensors of a stated shape,
    /// which [`Runner::run`] is given.
    ///
    /// # Errors
    /// The engine cannot run it.
    fn open(&self, model: &[u8]) -> Result<Box<dyn Runner>, EngineError>;
}

/// A model that is ready to run.
pub trait Runner: Send {
    /// Shape of each output, in the graph's order.
    fn shapes(&self) -> &[Vec<usize>];

    /// Runs on one of the samples, and on the elements of those inputs that the model which is quantized does not have,
    /// in the graph's order.
    ///
    /// # Errors
    /// The sample cannot be read, or the engine fails.
    fn run(&mut self, sample: usize, given: &[&[f32]]) -> Result<(), EngineError>;

    /// Elements of a float32 output of the last run, row-major; empty where it is of another type.
    fn output(&self, index: usize) -> &[f32];
}

/// What an engine said, in words for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);
