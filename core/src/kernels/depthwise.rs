//! Depthwise int8 convolution: `groups`, `in_c` and `out_c` are the same.
//!
//! The functions are those of [`conv`](super::conv).

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::conv::{ConvArgs, Results, reasonable};
use super::reference;
use super::simd::{self, Depthwise, Layout, floats};

/// What does the work.
enum Way {
    /// Plain code.
    Plain,
    /// Integer quads.
    Quads(Layout),
    /// f32 that is exact.
    Floats,
}

impl Way {
    fn of(isa: Isa, shape: &ConvShape) -> Way {
        match Layout::depthwise(isa) {
            Some(layout) => Way::Quads(layout),
            None if isa != Isa::Generic && floats::takes(shape) => Way::Floats,
            None => Way::Plain,
        }
    }
}

/// Bytes that packed weights take at most, which is what they take; more than there can be if `shape` is beyond reason.
pub fn max_packed_len(isa: Isa, shape: &ConvShape) -> usize {
    match Way::of(isa, shape) {
        _ if !reasonable(shape) => usize::MAX,
        Way::Quads(layout) => Depthwise::new(layout, shape).packed_len(layout),
        Way::Floats => floats::packed_len(shape),
        Way::Plain => reference::packed_len(shape),
    }
}

/// Lays OHWI `weights` out for `isa` in `dst`; returns how many bytes they take.
///
/// # Panics
/// If `dst` does not have [`max_packed_len`] bytes or `weights` are not those of `shape`.
pub fn pack(isa: Isa, shape: &ConvShape, weights: &[i8], dst: &mut [u8]) -> usize {
    assert_eq!(dst.len(), max_packed_len(isa, shape));
    match Way::of(isa, shape) {
        Way::Quads(layout) => simd::depthwise::pack(layout, shape, weights, dst),
        Way::Floats => floats::pack(shape, weights, dst),
        Way::Plain => reference::pack(shape, weights, dst),
    }
    dst.len()
}

/// Whether `packed` is laid out as [`pack`] does it for `shape`.
pub fn holds(isa: Isa, shape: &ConvShape, packed: &[u8]) -> bool {
    packed.len() == max_packed_len(isa, shape)
}

/// A number of lines as [`conv::line_unit`](super::conv::line_unit) says.
pub fn line_unit(isa: Isa, shape: &ConvShape) -> Option<usize> {
    let w = &shape.window;
    match Way::of(isa, shape) {
        // A single row of an image is taken to be one column, where quads hold its pixels.
        Way::Quads(_) if w.kernel_h == 1 && w.out_h > 1 => None,
        _ => Some(1),
    }
}

/// Bytes of scratch that [`run`] works in, best 64-byte aligned; more than there can be if `shape`
/// is beyond reason.
pub fn scratch_len(isa: Isa, shape: &ConvShape) -> usize {
    match Way::of(isa, shape) {
        _ if !reasonable(shape) => usize::MAX,
        Way::Quads(layout) => Depthwise::new(layout, shape).scratch_len(layout),
        Way::Floats => floats::scratch_len(shape),
        Way::Plain => 0,
    }
}

/// Convolves, and returns whether it did: slices that do not fit `shape`, or an `isa` that this CPU lacks, leave
/// `output` as it was.
pub fn run(isa: Isa, shape: &ConvShape, args: &ConvArgs<'_>, output: Results<'_>, scratch: &mut [u8]) -> bool {
    let one_a_channel = shape.groups == shape.window.in_c && shape.groups == shape.out_c;
    let fits = one_a_channel && isa.is_available() && args.fit(shape, &output);
    fits && match Way::of(isa, shape) {
        Way::Plain => reference::run(shape, args, output),
        // SAFETY: the CPU has `isa`; what is not checked yet, is there.
        _ => unsafe { simd::depthwise(isa, shape, args, output, scratch) },
    }
}
