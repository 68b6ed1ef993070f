//! Kernels: each works on slices, allocates nothing and has no state.

pub mod binary;
pub mod compare;
pub mod conv;
pub mod conv_f32;
pub mod copy;
pub mod depthwise;
mod exp;
pub mod gather;
mod lanes;
pub mod less;
pub mod lut;
pub mod matmul;
pub mod matmul_s8;
#[cfg(test)]
mod noise;
pub mod norm;
pub mod order;
// ARMv5, which has no such atomics either, does not have it; of a Cortex-M the feature says whether it has.
#[cfg_attr(
    all(target_arch = "arm", any(feature = "dsp", all(target_os = "linux", target_has_atomic = "64"))),
    path = "smlad.rs"
)]
mod pairs;
mod per_isa;
pub mod pool;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
mod reference;
pub mod resize;
pub(crate) mod root;
mod round;
pub mod scale;
mod select;
mod simd;
pub mod softmax;
pub mod unary;

pub use select::ConvKernel;
