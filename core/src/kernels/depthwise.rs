//! Depthwise int8 convolution: `groups == in_c`, `out_c` any multiple of it.
//!
//! The four functions are those of [`conv`](super::conv).

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::{ConvArgs, reasonable};
use super::reference;
use super::simd::{self, Depthwise, Layout};

/// Bytes of the packed weights; more than there can be if `shape` is beyond reason.
pub fn packed_len(isa: Isa, shape: &ConvShape) -> usize {
    match layout(isa, shape) {
        _ if !reasonable(shape) => usize::MAX,
        Some(layout) => Depthwise::new(layout, shape).packed_len(layout),
        None => reference::packed_len(shape),
    }
}

/// Lays OHWI `weights` out for `isa`.
///
/// # Panics
/// If `dst` does not have [`packed_len`] bytes or `weights` are not those of `shape`.
pub fn pack(isa: Isa, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    assert_eq!(dst.len(), packed_len(isa, shape));
    match layout(isa, shape) {
        Some(layout) => simd::depthwise::pack(layout, shape, weights, dst),
        None => reference::pack(weights, dst),
    }
}

/// Bytes of scratch that [`run`] works in, best 64-byte aligned; more than there can be if `shape`
/// is beyond reason.
pub fn scratch_len(isa: Isa, shape: &ConvShape) -> usize {
    match layout(isa, shape) {
        _ if !reasonable(shape) => usize::MAX,
        Some(layout) => Depthwise::new(layout, shape).scratch_len(layout),
        None => 0,
    }
}

/// Convolves. Slices that do not fit `shape`, or an `isa` that this CPU lacks, leave `output` as
/// it was: the verifier has refused such a plan, so that a run has no error to report.
pub fn run(isa: Isa, shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) {
    let fits = shape.groups == shape.window.in_c && isa.is_available() && args.fit(shape, output);
    let done = fits
        && match layout(isa, shape) {
            // SAFETY: the CPU has `isa`; what is not checked yet, is there.
            Some(_) => unsafe { simd::depthwise(isa, shape, args, output, scratch) },
            None => reference::run(shape, args, output),
        };
    debug_assert!(done, "convolution arguments do not fit {shape:?}");
}

/// `None` where plain code does the work: with more outputs than one a channel, too.
fn layout(isa: Isa, shape: &ConvShape) -> Option<Layout> {
    if shape.out_c == shape.window.in_c { Layout::depthwise(isa) } else { None }
}
