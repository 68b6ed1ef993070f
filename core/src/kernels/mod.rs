//! Kernels: each works on slices, allocates nothing and has no state.

pub mod binary;
pub mod conv;
pub mod conv_f32;
pub mod copy;
pub mod depthwise;
pub mod grouped;
mod lanes;
pub mod lut;
mod per_isa;
pub mod pool;
pub mod quantize;
mod reference;
mod round;
mod select;
mod simd;
pub mod softmax;
pub mod unary;

pub use select::ConvKernel;
