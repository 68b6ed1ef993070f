//! Between f32 and i8, and between the layouts at the edges of a network.

use crate::isa::Isa;
use crate::shape::Requantize;

use super::per_isa::per_isa;
use super::round::ToI8;
use super::simd::{columns, interleave3, nearest};

/// [`Quantize`](crate::plan::Quantize): `[channels, pixels]` to `[pixels, channels]`. NaN becomes
/// -128.
pub fn quantize(isa: Isa, x: &[f32], y: &mut [i8], channels: usize, scale: f32, zero_point: i8) {
    let pixels = x.len() / channels.max(1);
    let len = pixels * channels;
    let (Some(x), Some(y)) = (x.get(..len), y.get_mut(..len)) else { return };
    let convert = |x: &[f32], y: &mut [i8]| quantize_each(isa, x, y, scale, zero_point);
    match (channels, pixels) {
        (0, _) | (_, 0) => {}
        (1, _) | (_, 1) => convert(x, y),
        (3, _) => {
            // The channels of an image are put together by shuffles.
            let mut rows = [[0; IMAGE_BLOCK]; 3];
            for (block, y) in y.chunks_mut(3 * IMAGE_BLOCK).enumerate() {
                let len = y.len() / 3;
                for (row, channel) in rows.iter_mut().zip(x.chunks_exact(pixels)) {
                    convert(&channel[block * IMAGE_BLOCK..][..len], &mut row[..len]);
                }
                interleave3(isa, [&rows[0][..len], &rows[1][..len], &rows[2][..len]], y);
            }
        }
        _ => transpose_to_bytes(x, y, channels, convert),
    }
}

/// Index of the first NaN among little-endian f32 values, which have no place among integers.
pub fn first_nan(bytes: &[u8]) -> Option<usize> {
    let values = bytes.as_chunks::<4>().0;
    // Blocks without an early exit, which vectorise; a large image would otherwise take as long here
    // as in its first layer.
    let is_nan = |value: &[u8; 4]| f32::from_le_bytes(*value).is_nan();
    let block = values.chunks(256).position(|block| block.iter().fold(false, |any, value| any | is_nan(value)))?;
    values.iter().skip(block * 256).position(is_nan).map(|index| block * 256 + index)
}

/// Pixels of an image that are converted before they are interleaved.
const IMAGE_BLOCK: usize = 512;

/// `y[j, i] = f(x[i, j])` with `rows` rows in `x`, at least two of them and of columns. The result is
/// written eight rows of a column at a time, even where there are fewer: what that is too much falls on
/// values that are written later, since it goes from the last rows to the first, and from the first
/// column to the last.
fn transpose_to_bytes(x: &[f32], y: &mut [i8], rows: usize, function: impl Fn(&[f32], &mut [i8])) {
    let cols = x.len() / rows;
    // Several short rows are converted as one.
    let width = if cols <= BUFFER / 8 { cols } else { BUFFER / 8 };
    let height = BUFFER / width / 8 * 8;
    for left in (0..cols).step_by(width) {
        let cols_here = width.min(cols - left);
        for top in (0..rows).step_by(height).rev() {
            let rows_here = height.min(rows - top);
            let mut converted = [0; BUFFER + COLUMNS];
            if width == cols {
                function(&x[top * cols..][..rows_here * cols], &mut converted[..rows_here * cols]);
            } else {
                let x = x[top * cols..].chunks(cols).take(rows_here);
                x.zip(converted.chunks_exact_mut(width))
                    .for_each(|(x, y)| function(&x[left..][..cols_here], &mut y[..cols_here]));
            }
            for first in (0..rows_here).step_by(8).rev() {
                for col in (0..cols_here).step_by(COLUMNS) {
                    // Rows that are not there are read as the last one.
                    let row = |i: usize| (first + i).min(rows_here - 1) * width + col;
                    let square = core::array::from_fn(|i| *converted[row(i)..].first_chunk().expect("some slack"));
                    let turned = columns::<8>(square);
                    for (i, &column) in
                        turned.as_flattened().as_chunks::<8>().0.iter().enumerate().take(cols_here - col)
                    {
                        let y = &mut y[(left + col + i) * rows + top + first..];
                        match y.first_chunk_mut() {
                            Some(y) => *y = column,
                            None => y.iter_mut().zip(column).for_each(|(y, value)| *y = value),
                        }
                    }
                }
            }
        }
    }
}

/// One value after the other, by a multiplication with the inverse of the scale where that is certain to
/// round as the division does.
fn quantize_each(isa: Isa, x: &[f32], y: &mut [i8], scale: f32, zero_point: i8) {
    let to_i8 = ToI8::new(&Requantize { zero_point, min: i8::MIN, max: i8::MAX });
    let inverse = 1.0 / scale;
    // Of a scale that is not normal, the inverse is not near.
    let near = scale.is_normal() && inverse.is_normal();
    for (x, y) in x.chunks(CERTAIN_BLOCK).zip(y.chunks_mut(CERTAIN_BLOCK)) {
        if !(near && nearest(isa, x, y, inverse, to_i8)) {
            divide(isa, x, y, scale, to_i8);
        }
    }
}

/// [`Dequantize`](crate::plan::Dequantize): `[pixels, channels]` to `[channels, pixels]`.
pub fn dequantize(isa: Isa, x: &[i8], y: &mut [f32], channels: usize, scale: f32, zero_point: i8) {
    #[cfg(target_arch = "aarch64")]
    if isa != Isa::Generic && (channels == 1 || channels == x.len()) {
        use super::simd::bytes;

        let whole = x.len().min(y.len()) / bytes::LANES * bytes::LANES;
        bytes::dequantize(x, y, scale, zero_point);
        return plain_dequantize(isa, &x[whole..], &mut y[whole..], 1, scale, zero_point);
    }
    plain_dequantize(isa, x, y, channels, scale, zero_point);
}

per_isa! {
    fn divide(x: &[f32], y: &mut [i8], scale: f32, to_i8: ToI8) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = to_i8.apply(x / scale));
    }

    #[inline(never)]
    fn plain_dequantize(x: &[i8], y: &mut [f32], channels: usize, scale: f32, zero_point: i8) {
        // The transpose of an image seen as `[pixels, channels]` is that of one seen with the
        // names the other way round.
        let pixels = x.len() / channels.max(1);
        let zero_point = i32::from(zero_point);
        transpose(x, y, pixels, |x, y| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (i32::from(*x) - zero_point) as f32 * scale);
        });
    }
}

/// `y[j, i] = f(x[i, j])` with `rows` rows in `x`; `function` converts a slice into another.
#[inline(always)]
fn transpose<T: Copy, U: Copy + Default>(x: &[T], y: &mut [U], rows: usize, function: impl Fn(&[T], &mut [U]) + Copy) {
    let cols = x.len() / rows.max(1);
    let x = &x[..rows * cols];
    let convert = |x: &[T], y: &mut [U]| x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).for_each(|(x, y)| function(x, y));
    match (rows, cols) {
        (0, _) | (_, 0) => {}
        (1, _) | (_, 1) => convert(x, y),
        (_, ..=BUFFER) => {
            // Several rows are converted as one, and then read column by column.
            let at_once = BUFFER / cols;
            for (block, x) in x.chunks(at_once * cols).enumerate() {
                let mut converted = [U::default(); BUFFER];
                convert(x, &mut converted[..x.len()]);
                for (col, y) in y.chunks_exact_mut(rows).enumerate() {
                    let y = y[block * at_once..].iter_mut().take(at_once);
                    y.zip(converted[col..].iter().step_by(cols)).for_each(|(y, from)| *y = *from);
                }
            }
        }
        _ => {
            for (row, x) in x.chunks_exact(cols).enumerate() {
                for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK * rows)) {
                    let mut converted = [U::default(); BLOCK];
                    function(x, &mut converted[..x.len()]);
                    y.iter_mut().skip(row).step_by(rows).zip(converted).for_each(|(y, from)| *y = from);
                }
            }
        }
    }
}

/// Elements that are converted anew if one of them is not certain.
const CERTAIN_BLOCK: usize = 256;
/// Elements that are converted as vectors.
const BLOCK: usize = 64;
/// Elements of rows that are converted before their columns are written.
const BUFFER: usize = 1024;
/// Columns of bytes that are made at a time.
const COLUMNS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_first_nan_is_found_wherever_it_is() {
        let mut values = vec![1f32; 1000];
        assert_eq!(first_nan(bytemuck::cast_slice(&values)), None);
        for at in [999, 511, 256, 255, 0] {
            values[at] = f32::NAN;
            assert_eq!(first_nan(bytemuck::cast_slice(&values)), Some(at));
        }
    }

    /// Values at most: Miri takes minutes for thousands.
    const MOST: usize = if cfg!(miri) { 300 } else { 2100 };

    proptest! {
        #[test]
        fn agrees_with_the_definition_and_transposes(
            (channels, pixels) in prop_oneof![(1usize..12, 1usize..170), (1usize..60, 1usize..36), (Just(2), 1020usize..1030)],
            scale in prop_oneof![0.001f32..2.0, Just(f32::MIN_POSITIVE)],
            zero_point: i8,
            seed in vec(prop_oneof![prop::num::f32::ANY, -200f32..200.0], MOST),
            halves: bool,
        ) {
            let pixels = pixels.min(MOST / channels);
            // Where rounding turns: halves of the scale, and their neighbours.
            let half = |x: f32| f32::from_bits(((x % 300.0).trunc() + 0.5).to_bits() + x.to_bits() % 5 - 2) * scale;
            let x: Vec<f32> = seed[..channels * pixels].iter().map(|&x| if halves { half(x) } else { x }).collect();
            let x = &x[..];
            for isa in Isa::ALL {
                let mut quantized = vec![0; x.len()];
                quantize(isa, x, &mut quantized, channels, scale, zero_point);
                let mut back = vec![0.0; x.len()];
                dequantize(isa, &quantized, &mut back, channels, scale, zero_point);
                for (index, &value) in x.iter().enumerate() {
                    let (channel, pixel) = (index / pixels, index % pixels);
                    let rounded = f64::from(value / scale).round_ties_even() + f64::from(zero_point);
                    let expected = if rounded.is_nan() { -128 } else { rounded.clamp(-128.0, 127.0) as i8 };
                    prop_assert_eq!(quantized[pixel * channels + channel], expected);
                    let expected = (i32::from(expected) - i32::from(zero_point)) as f32 * scale;
                    prop_assert_eq!(back[index], expected);
                }
            }
        }
    }

    /// The verifier lets no such plan through; a caller of the kernel itself shall not meet a panic.
    #[test]
    fn channels_that_do_not_divide_the_values_are_no_panic() {
        for (len, channels) in (0..12).flat_map(|len| (0..8).map(move |channels| (len, channels))) {
            let (x, mut quantized) = (vec![1.0; len], vec![0; len]);
            quantize(Isa::detect(), &x, &mut quantized, channels, 1.0, 0);
            dequantize(Isa::detect(), &quantized, &mut vec![0.0; len], channels, 1.0, 0);
        }
    }
}
