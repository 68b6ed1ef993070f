//! Post-training quantization: from a float ONNX model and samples of its input to an int8 model in
//! ONNX's QDQ form, which any runtime takes that reads ONNX.
//!
//! [`quantize`] is the whole of it. The steps are the files, in this order: `prepare` folds what only stands
//! in the way; `sites` finds what becomes integers; `calibrate` draws the ranges of activations from the
//! samples; `equalize` evens out channels; `layer` and `reconstruct` round weights; `emit` writes the model, or `dynamic`
//! where ranges are drawn at run time. `judge` says at each step whether it helped, `reader` the same of one layer by itself,
//! and `frontier` keeps how far the model is reconstructed. README.md has each method with its source.
//!
//! The crate runs no model itself: an [`Engine`] does, and results are as reproducible as the engine. With the
//! same engine the same input gives the same bytes, on however many threads.

mod calibrate;
mod compare;
mod dynamic;
mod emit;
mod engine;
mod equalize;
mod error;
mod frontier;
mod judge;
mod layer;
mod mixed;
mod onnx;
mod pool;
mod prepare;
pub mod prune;
mod quantizer;
mod ranges;
mod reader;
mod reconstruct;
mod report;
mod scheme;
mod sites;
mod work;

pub use calibrate::Method;
pub use compare::{Comparison, LayerError, compare, compare_outputs};
pub use engine::{Engine, EngineError, Runner};
pub use error::QuantizeError;
pub use judge::Score;
pub use mixed::Target;
pub use onnx::externalize;
pub use quantizer::{Effort, Options, Quantized, quantize};
pub use report::{NodeReport, Report};
pub use scheme::{Activations, QParams, Range, Scheme};
pub use sites::hands_on;

/// Is told how the work goes on.
pub trait Progress: Sync {
    /// A step begins that will advance by `total`.
    fn begin(&self, what: &str, total: usize);
    /// So much more of it is done.
    fn advance(&self, done: usize);
}

/// Tells nobody.
impl Progress for () {
    fn begin(&self, _what: &str, _total: usize) {}
    fn advance(&self, _done: usize) {}
}
