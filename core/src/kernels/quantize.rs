//! Between f32 and i8, and between the layouts at the edges of a network.

use crate::isa::Isa;
use crate::shape::Requantize;

use super::per_isa::per_isa;
use super::round::ToI8;
use super::simd::interleave3;

/// [`Quantize`](crate::plan::Quantize): `[channels, pixels]` to `[pixels, channels]`. NaN becomes
/// -128.
pub fn quantize(isa: Isa, x: &[f32], y: &mut [i8], channels: usize, scale: f32, zero_point: i8) {
    let pixels = x.len() / channels.max(1);
    if channels != 3 || y.len() != x.len() || !x.len().is_multiple_of(3) {
        return quantize_each(isa, x, y, channels, scale, zero_point);
    }
    // The channels of an image are put together by shuffles.
    let mut rows = [[0; IMAGE_BLOCK]; 3];
    for (block, y) in y.chunks_mut(3 * IMAGE_BLOCK).enumerate() {
        let len = y.len() / 3;
        for (row, channel) in rows.iter_mut().zip(x.chunks_exact(pixels)) {
            quantize_each(isa, &channel[block * IMAGE_BLOCK..][..len], &mut row[..len], 1, scale, zero_point);
        }
        interleave3(isa, [&rows[0][..len], &rows[1][..len], &rows[2][..len]], y);
    }
}

/// Pixels of an image that are converted before they are interleaved.
const IMAGE_BLOCK: usize = 512;

per_isa! {
    /// [`quantize`], any channels.
    fn quantize_each(x: &[f32], y: &mut [i8], channels: usize, scale: f32, zero_point: i8) {
        let to_i8 = ToI8::new(&Requantize { zero_point, min: i8::MIN, max: i8::MAX });
        let inverse = 1.0 / scale;
        // Of a scale that is not normal, the inverse is not near.
        let near = scale.is_normal() && inverse.is_normal();
        transpose(x, y, channels, |x, y| {
            if !(near && quantize_near(x, y, inverse, to_i8)) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = to_i8.apply(x / scale));
            }
        });
    }

    /// [`Dequantize`](crate::plan::Dequantize): `[pixels, channels]` to `[channels, pixels]`.
    pub fn dequantize(x: &[i8], y: &mut [f32], channels: usize, scale: f32, zero_point: i8) {
        // The transpose of an image seen as `[pixels, channels]` is that of one seen with the
        // names the other way round.
        let pixels = x.len() / channels.max(1);
        let zero_point = i32::from(zero_point);
        transpose(x, y, pixels, |x, y| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (i32::from(*x) - zero_point) as f32 * scale);
        });
    }
}

/// Quantizes by a multiplication, which costs a fraction of a division. Whether the quotient would
/// round alike is certain unless the product is next to a half: then the answer is `false` and `y` is
/// to be written again.
#[inline(always)]
fn quantize_near(x: &[f32], y: &mut [i8], inverse: f32, to_i8: ToI8) -> bool {
    // Three roundings of at most 2^-24 each, of a product that does not leave +-2^9.
    const MARGIN: f32 = 1.0 / 8192.0;
    let mut uncertain = 0;
    for (y, x) in y.iter_mut().zip(x) {
        let (value, distance) = to_i8.apply_with_distance(x * inverse);
        *y = value;
        uncertain |= u32::from(distance > 0.5 - MARGIN);
    }
    uncertain == 0
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

/// Elements that are converted as vectors.
const BLOCK: usize = 64;
/// Elements of rows that are converted before their columns are written.
const BUFFER: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_definition_and_transposes(
            (channels, pixels) in prop_oneof![(1usize..6, 1usize..200), (1usize..60, 1usize..20), (Just(2), 1020usize..1030)],
            scale in prop_oneof![0.001f32..2.0, Just(f32::MIN_POSITIVE)],
            zero_point: i8,
            seed in vec(prop_oneof![any::<f32>(), -200f32..200.0], 2100),
            halves: bool,
        ) {
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
