//! Kernels: each works on slices, allocates nothing and has no state.

pub mod binary;
pub mod conv;
pub mod conv_f32;
pub mod copy;
pub mod depthwise;
mod exp;
pub mod grouped;
mod lanes;
pub mod lut;
pub mod matmul;
pub mod norm;
mod per_isa;
pub mod pool;
pub mod quantize;
pub mod recurrent;
mod reference;
pub mod resize;
mod round;
mod select;
mod simd;
pub mod softmax;
pub mod unary;

pub use select::ConvKernel;
