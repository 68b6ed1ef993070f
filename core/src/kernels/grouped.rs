//! Grouped int8 convolution, any number of groups: plain code on every instruction set.
//!
//! The functions are those of [`conv`](super::conv).

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::{ConvArgs, Results, reasonable};
use super::reference;

/// Bytes that packed weights take at most, which is what they take; more than there can be if `shape` is beyond reason.
pub fn max_packed_len(_isa: Isa, shape: &ConvShape) -> usize {
    if reasonable(shape) { reference::packed_len(shape) } else { usize::MAX }
}

/// Copies OHWI `weights`.
///
/// # Panics
/// If `dst` does not have [`max_packed_len`] bytes or `weights` are not those of `shape`.
pub fn pack(isa: Isa, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) -> usize {
    assert_eq!(dst.len(), max_packed_len(isa, shape));
    reference::pack(shape, weights, dst);
    dst.len()
}

/// Whether `packed` is laid out as [`pack`] does it for `shape`.
pub fn holds(isa: Isa, shape: &ConvShape, packed: &[u8]) -> bool {
    packed.len() == max_packed_len(isa, shape)
}

/// A number of lines as [`conv::line_unit`](super::conv::line_unit) says.
pub fn line_unit(_isa: Isa, _shape: &ConvShape) -> Option<usize> {
    Some(1)
}

/// Bytes of scratch that [`run`] works in: none.
pub fn scratch_len(_isa: Isa, _shape: &ConvShape) -> usize {
    0
}

/// Convolves, and returns whether it did: slices that do not fit `shape`, or an `isa` that this CPU lacks, leave
/// `output` as it was.
pub fn run(isa: Isa, shape: &ConvShape, args: &ConvArgs<'_>, output: Results<'_>, _scratch: &mut [u8]) -> bool {
    isa.is_available() && args.fit(shape, &output) && reference::run(shape, args, output)
}
