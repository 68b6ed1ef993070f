//! Between f32 and i8, and between the layouts at the edges of a network.

use crate::shape::Requantize;

use super::per_isa::per_isa;
use super::round::ToI8;

per_isa! {
    /// [`Quantize`](crate::plan::Quantize): `[channels, pixels]` to `[pixels, channels]`. NaN
    /// becomes -128.
    pub fn quantize(x: &[f32], y: &mut [i8], channels: usize, scale: f32, zero_point: i8) {
        let to_i8 = ToI8::new(&Requantize { zero_point, min: i8::MIN, max: i8::MAX });
        transpose(x, y, channels, |x| to_i8.apply(x / scale));
    }

    /// [`Dequantize`](crate::plan::Dequantize): `[pixels, channels]` to `[channels, pixels]`.
    pub fn dequantize(x: &[i8], y: &mut [f32], channels: usize, scale: f32, zero_point: i8) {
        // The transpose of an image seen as `[pixels, channels]` is that of one seen with the
        // names the other way round.
        let pixels = x.len() / channels.max(1);
        let zero_point = i32::from(zero_point);
        transpose(x, y, pixels, |x| (i32::from(x) - zero_point) as f32 * scale);
    }
}

/// `y[j, i] = function(x[i, j])` with `rows` rows in `x`.
#[inline(always)]
fn transpose<T: Copy, U: Copy + Default>(x: &[T], y: &mut [U], rows: usize, function: impl Fn(T) -> U + Copy) {
    let cols = x.len() / rows.max(1);
    match (rows, cols) {
        (0, _) | (_, 0) => {}
        (1, _) | (_, 1) => y.iter_mut().zip(x).for_each(|(y, x)| *y = function(*x)),
        (3, _) => interleave::<3, _, _>(x, y, cols, function),
        (_, 3) => {
            for (col, y) in y.chunks_exact_mut(rows).enumerate() {
                y.iter_mut().zip(x.as_chunks::<3>().0).for_each(|(y, x)| *y = function(x[col]));
            }
        }
        _ => {
            for (row, x) in x.chunks_exact(cols).enumerate() {
                for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK * rows)) {
                    let mut converted = [U::default(); BLOCK];
                    converted.iter_mut().zip(x).for_each(|(to, x)| *to = function(*x));
                    y.iter_mut().skip(row).step_by(rows).zip(converted).for_each(|(y, from)| *y = from);
                }
            }
        }
    }
}

/// Elements that are converted as vectors before they are scattered.
const BLOCK: usize = 64;

/// [`transpose`] of few rows, which are interleaved in one pass: an image's channels.
#[inline(always)]
fn interleave<const ROWS: usize, T: Copy, U: Copy + Default>(
    x: &[T],
    y: &mut [U],
    cols: usize,
    function: impl Fn(T) -> U,
) {
    let rows: [&[T]; ROWS] = core::array::from_fn(|row| &x[row * cols..][..cols]);
    let (y, _) = y.as_chunks_mut::<ROWS>();
    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
        let mut converted = [[U::default(); BLOCK]; ROWS];
        for (converted, x) in converted.iter_mut().zip(rows) {
            let x = &x[block * BLOCK..][..y.len()];
            converted.iter_mut().zip(x).for_each(|(converted, x)| *converted = function(*x));
        }
        for (col, y) in y.iter_mut().enumerate() {
            *y = core::array::from_fn(|row| converted[row][col]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;

    use super::*;
    use crate::isa::Isa;

    proptest! {
        #[test]
        fn agrees_with_the_definition_and_transposes(
            channels in 1usize..6,
            pixels in 1usize..200,
            scale in prop_oneof![0.001f32..2.0, Just(f32::MIN_POSITIVE)],
            zero_point: i8,
            seed in vec(prop_oneof![any::<f32>(), -200f32..200.0], 1200),
        ) {
            let x = &seed[..channels * pixels];
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
}
