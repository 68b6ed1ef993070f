//! What ops hold their fields to: windows, lengths, ranges.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::operand::Operand;
use super::verify::{MAX_BYTES, Verifier};
use super::{Fault, FieldFault};
use crate::shape::{Along, ConvShape, Requantize, Window};

/// The largest size, stride, dilation or padding of a window.
const MAX_EXTENT: usize = 1 << 20;
/// The most weights of one op, so that packing, which pads, does not overflow on a 32-bit target.
const MAX_WEIGHTS: usize = 1 << 28;
/// Bounds multipliers so that no product of one with an i32 is infinite: 2^64.
const MAX_MULTIPLIER: f32 = 18_446_744_073_709_551_616.0;

/// The window fits its input, and the tensors fit the window.
fn check_window(window: &Window) -> Result<(), FieldFault> {
    let Window { in_h, in_w, in_c, out_h, out_w, kernel_h, kernel_w, .. } = *window;
    let Window { stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, .. } = *window;
    let sizes = [
        ("in_h", in_h),
        ("in_w", in_w),
        ("in_c", in_c),
        ("out_h", out_h),
        ("out_w", out_w),
        ("kernel_h", kernel_h),
        ("kernel_w", kernel_w),
        ("stride_h", stride_h),
        ("stride_w", stride_w),
        ("dilation_h", dilation_h),
        ("dilation_w", dilation_w),
    ];
    for (field, size) in sizes {
        require((1..=MAX_EXTENT).contains(&size), field, Fault::OutOfRange)?;
    }
    let axes = [
        ("pad_top", "out_h", in_h, out_h, kernel_h, stride_h, dilation_h, pad_top),
        ("pad_left", "out_w", in_w, out_w, kernel_w, stride_w, dilation_w, pad_left),
    ];
    for (pad_field, out_field, input, output, kernel, stride, dilation, pad) in axes {
        let extent = product("kernel_h", &[kernel - 1, dilation])?;
        let last_start = product(out_field, &[output - 1, stride])?;
        // The first window reaches into the image, and the last one starts before the image ends.
        require(extent <= MAX_EXTENT && pad <= extent, pad_field, Fault::OutOfRange)?;
        require(last_start < input + pad, out_field, Fault::OutOfRange)?;
    }
    Ok(())
}

pub(crate) fn check_conv(
    plan: &Verifier<'_>,
    shape: &ConvShape,
    (input, input_bytes): (Operand, usize),
    (output, output_bytes): (Operand, usize),
) -> Result<(), FieldFault> {
    let ConvShape { ref window, out_c, groups } = *shape;
    check_window(window)?;
    require((1..=MAX_EXTENT).contains(&out_c), "out_c", Fault::OutOfRange)?;
    let divides = groups > 0 && window.in_c.is_multiple_of(groups) && out_c.is_multiple_of(groups);
    require(divides, "groups", Fault::OutOfRange)?;
    let weights = [window.kernel_h, window.kernel_w, window.in_c / groups, out_c];
    require(product("weights", &weights)? <= MAX_WEIGHTS, "weights", Fault::OutOfRange)?;
    check_tensor(plan, "input", input, &[window.in_h, window.in_w, window.in_c], input_bytes)?;
    check_tensor(plan, "output", output, &[window.out_h, window.out_w, out_c], output_bytes)
}

pub(crate) fn check_pool(
    plan: &Verifier<'_>,
    window: &Window,
    input: Operand,
    output: Operand,
    element_bytes: usize,
) -> Result<(), FieldFault> {
    check_window(window)?;
    product("kernel_h", &[window.kernel_h, window.kernel_w])?;
    check_tensor(plan, "input", input, &[window.in_h, window.in_w, window.in_c], element_bytes)?;
    check_tensor(plan, "output", output, &[window.out_h, window.out_w, window.in_c], element_bytes)
}

pub(crate) fn check_broadcast(
    plan: &Verifier<'_>,
    a: Operand,
    b: Operand,
    output: Operand,
    element_bytes: usize,
) -> Result<(), FieldFault> {
    check_tensor(plan, "a", a, &[a.len / element_bytes], element_bytes)?;
    check_tensor(plan, "output", output, &[a.len / element_bytes], element_bytes)?;
    let fits = b.len > 0 && a.len.is_multiple_of(b.len) && b.len.is_multiple_of(element_bytes);
    require(fits, "b", Fault::OutOfRange)?;
    plan.check_alignment("b", b, element_bytes)
}

/// A tensor that is aligned to its elements and as long as `dims` imply.
pub(crate) fn check_tensor(
    plan: &Verifier<'_>,
    field: &'static str,
    span: Operand,
    dims: &[usize],
    element_bytes: usize,
) -> Result<(), FieldFault> {
    exact(field, span.len, product(field, &[product(field, dims)?, element_bytes])?)?;
    plan.check_alignment(field, span, element_bytes)
}

/// A tensor with a dimension that is worked along, and one of `len` elements where that was.
pub(crate) fn check_along(
    plan: &Verifier<'_>,
    along: &Along,
    (input, input_bytes): (Operand, usize),
    (output, len, output_bytes): (Operand, usize, usize),
) -> Result<(), FieldFault> {
    let Along { outer, len: input_len, inner } = *along;
    require(outer > 0 && input_len > 0 && inner > 0, "along", Fault::OutOfRange)?;
    check_tensor(plan, "input", input, &[outer, input_len, inner], input_bytes)?;
    check_tensor(plan, "output", output, &[outer, len, inner], output_bytes)
}

/// An operand that is repeated along the output: one whose elements divide it.
pub(crate) fn check_repeats(
    plan: &Verifier<'_>,
    field: &'static str,
    operand: Operand,
    element_bytes: usize,
    elements: usize,
) -> Result<(), FieldFault> {
    let count = operand.len / element_bytes;
    let fits = count > 0 && operand.len.is_multiple_of(element_bytes) && elements.is_multiple_of(count);
    require(fits, field, Fault::OutOfRange)?;
    plan.check_alignment(field, operand, element_bytes)
}

pub(crate) fn check_element(field: &'static str, element_bytes: usize) -> Result<(), FieldFault> {
    require(matches!(element_bytes, 1 | 4 | 8), field, Fault::OutOfRange)
}

pub(crate) fn check_multiplier(field: &'static str, value: f32) -> Result<(), FieldFault> {
    require(value.is_finite(), field, Fault::NotFinite)?;
    require(value.abs() <= MAX_MULTIPLIER, field, Fault::OutOfRange)
}

pub(crate) fn check_scale(field: &'static str, value: f32) -> Result<(), FieldFault> {
    require(value.is_finite(), field, Fault::NotFinite)?;
    require(value.is_normal() && value > 0.0, field, Fault::OutOfRange)
}

pub(crate) fn check_requantize(requantize: &Requantize) -> Result<(), FieldFault> {
    require(requantize.min <= requantize.max, "min", Fault::OutOfRange)
}

pub(crate) fn require(holds: bool, field: &'static str, fault: Fault) -> Result<(), FieldFault> {
    if holds { Ok(()) } else { Err(FieldFault::new(field, fault)) }
}

pub(crate) fn exact(field: &'static str, found: usize, expected: usize) -> Result<(), FieldFault> {
    require(found == expected, field, Fault::Length { expected, found })
}

pub(crate) fn within(field: &'static str, offset: usize, len: usize, section_bytes: usize) -> Result<(), FieldFault> {
    let end = offset.checked_add(len);
    require(end.is_some_and(|end| end <= section_bytes), field, Fault::OutOfBounds)
}

/// The product of `factors`, which must stay within 31 bits.
pub(crate) fn product(field: &'static str, factors: &[usize]) -> Result<usize, FieldFault> {
    let mut result = Some(1usize);
    for &factor in factors {
        result = result.and_then(|result| result.checked_mul(factor));
    }
    result.filter(|&result| result <= MAX_BYTES).ok_or(FieldFault::new(field, Fault::Overflow))
}
