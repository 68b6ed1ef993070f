//! From the scanned ONNX graph to tract. Besides `engine/tract.rs` the only room that names tract.
//!
//! In order: QOperator nodes become QDQ chains ([`qoperator`]), so that one form of quantization
//! is left; dequantized constants become float constants (`fold`), so that no engine unpacks
//! weights at every run; the result is handed to tract-onnx (`typed`) as a message (`proto`), with
//! our QuantizeLinear and DequantizeLinear in place of its own (`linear`).
//!
//! Only the first step is left in a build without the feature `tract`: lowering shares it.

#[cfg(feature = "tract")]
mod fold;
#[cfg(feature = "tract")]
mod linear;
#[cfg(feature = "tract")]
mod proto;
pub(crate) mod qoperator;
#[cfg(feature = "tract")]
mod typed;

#[cfg(feature = "tract")]
pub(crate) use typed::{guarded, to_tract};
