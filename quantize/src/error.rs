//! Why a model could not be quantized.

use crate::EngineError;

/// A model or its calibration that cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The bytes are not an ONNX model.
    #[error("not a readable ONNX model: {0}")]
    Malformed(String),
    /// The model has quantized nodes already.
    #[error("node `{node}` ({op}) is quantized already; give the float model")]
    AlreadyQuantized {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
    },
    /// Its operator set is too old to be raised to the one that quantization needs.
    #[error(
        "opset {opset}: node `{node}` ({op}) is not known to mean the same in opset {needed}, which this quantization needs; export the model anew with opset {needed} or later"
    )]
    Opset {
        /// What the model states.
        opset: i64,
        /// What is needed.
        needed: i64,
        /// The first node in the way.
        node: String,
        /// Its operator.
        op: String,
    },
    /// A weight or a calibration sample gives a value that is no number, or too large a one to compute with.
    #[error("{tensor}: element {index} is {value:e}; {advice}")]
    NotFinite {
        /// Where it is, in words.
        tensor: String,
        /// Row-major index of the first.
        index: usize,
        /// NaN, an infinity or what is near one.
        value: f32,
        /// What to do.
        advice: &'static str,
    },
    /// There is no calibration sample.
    #[error("there is no calibration sample; some tens to hundreds of typical inputs set the ranges")]
    NoSamples,
    /// An input that becomes integers is 0 in all calibration samples.
    #[error(
        "input `{input}` is 0 in all calibration samples, which say nothing of its range then; give typical ones, or keep what reads it in float, node `{reader}`"
    )]
    Silent {
        /// The input.
        input: String,
        /// The first node that reads it.
        reader: String,
    },
    /// A node that the caller named is not there.
    #[error("there is no node `{0}`, or it was folded into another; `tractlet quantize` lists those that compute")]
    NoSuchNode(String),
    /// Nothing in the model can be quantized.
    #[error("nothing in this model can be quantized: {0}")]
    NothingToDo(String),
    /// Two models that are not forms of one.
    #[error("{0}")]
    Mismatch(String),
    /// No channel of the model can be removed.
    #[error("nothing in this model can be pruned: {0}")]
    NothingToPrune(String),
    /// The share of channels to remove is none.
    #[error("the ratio is {0}; expected a share of the channels above 0 and below 1, such as 0.3")]
    Ratio(f64),
    /// The quality that was asked for is not reached, or not unless every layer is in float.
    #[error("{0}")]
    OutOfReach(String),
    /// The engine that runs the model failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
