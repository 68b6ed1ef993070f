//! What was done to a model, node by node.

use crate::judge::Score;

/// A quantization, told.
#[derive(Clone, Debug)]
pub struct Report {
    /// Nodes that compute, in graph order.
    pub nodes: Vec<NodeReport>,
    /// What was folded and raised beforehand.
    pub notes: Vec<String>,
    /// How near the whole model is to the float one, on the calibration samples.
    pub score: Score,
    /// Size of the stored tensors before, in bytes.
    pub bytes_before: usize,
    /// And after.
    pub bytes_after: usize,
    /// Samples that were run.
    pub samples: usize,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The type of its activations: `int8`, with weights `int8 per-channel`; another, with weights as in
    /// `uint8, int8 weights`; or `int8 weights`, `int8 dynamic` or `float32`.
    pub scheme: String,
    /// How its range was drawn, or why it stays in float.
    pub how: String,
    /// Ratio of its output's power to that of the error there, all nodes before it quantized too, in dB; none
    /// where it stays in float.
    pub sqnr_db: Option<f64>,
}
