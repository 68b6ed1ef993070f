//! Shapes and numeric parameters that the planner, the verifier and the kernels share.
//!
//! Activations are NHWC; a 1-D network has height 1. The batch is not part of a shape:
//! the executor runs one sample.

/// A sliding window over an NHWC image: what convolution and pooling have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Kernel rows.
    pub kernel_h: usize,
    /// Kernel columns.
    pub kernel_w: usize,
    /// Rows from one window to the next.
    pub stride_h: usize,
    /// Columns from one window to the next.
    pub stride_w: usize,
    /// Rows from one tap to the next.
    pub dilation_h: usize,
    /// Columns from one tap to the next.
    pub dilation_w: usize,
    /// Padding before the first row; what follows the last is implied by `out_h` and `out_w`.
    pub pad_top: usize,
    /// Padding before the first column.
    pub pad_left: usize,
}

/// A convolution. Weights are OHWI: `[out_c, kernel_h, kernel_w, in_c / groups]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Where it slides, and over what.
    pub window: Window,
    /// Output channels.
    pub out_c: usize,
    /// Groups of channels that do not mix.
    pub groups: usize,
}

/// How an i32 accumulator becomes an int8 value:
/// `clamp(round_half_even(acc as f32 * multiplier[c]) + zero_point, min, max)`.
///
/// The multiplier is `input_scale * weight_scale[c] / output_scale` (ONNX QLinearConv); a fused
/// ReLU or Clip is `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantize {
    /// The integer that stands for 0.
    pub zero_point: i8,
    /// Lower bound of the result.
    pub min: i8,
    /// Upper bound of the result.
    pub max: i8,
}
