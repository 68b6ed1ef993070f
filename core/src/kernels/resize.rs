//! Images of another size: each pixel one of the input, or between four of it.

use super::per_isa::per_isa;

/// What an output row or column is made of: the input row or column before it, the one behind it, and how much of the
/// second it has, in parts of [`WHOLE`] or as the bits of a float.
pub type Blend = [u32; 3];

/// One, as a [`Blend`] of bytes counts: products of two shares and a byte fit 32 bits.
pub const WHOLE: u32 = 1 << WHOLE_BITS;
const WHOLE_BITS: u32 = 11;
/// Bits of the products of two shares that leave those of a byte in 16.
const SHORT_BITS: u32 = 7;

/// The four input rows or columns that an output one is made of, and the bits of the floats that they are multiplied by.
pub type Taps = [[u32; 4]; 2];

per_isa! {
    /// [`ResizeS8`](crate::ops::ResizeS8): rows of `width` pixels of `channels` values.
    pub fn resize_s8(x: &[i8], y: &mut [i8], width: usize, channels: usize, rows: &[Blend], cols: &[Blend]) {
        let [row_bits, col_bits] = [rows, cols].map(|blends| bits(blends).max(1));
        let bits = row_bits + col_bits;
        let shares = |shares: [u32; 2]| {
            let [row, col] = [shares[0] >> (WHOLE_BITS - row_bits), shares[1] >> (WHOLE_BITS - col_bits)];
            let (row_rest, col_rest) = ((1 << row_bits) - row, (1 << col_bits) - col);
            [row_rest * col_rest, row_rest * col, row * col_rest, row * col]
        };
        macro_rules! blend {
            ($type:ty) => {{
                // Half to even: half less one, and one more where what is left is odd.
                let half: $type = (1 << (bits - 1)) - 1;
                for_each_pixel(x, y, width, channels, rows, cols, |y, corners, shared| {
                    let [a, b, c, d] = shares(shared).map(|share| share as $type);
                    for (index, y) in y.iter_mut().enumerate() {
                        let [p, q, r, s] = corners.map(|corner| <$type>::from(corner[index]));
                        let sum = a * p + b * q + c * r + d * s;
                        *y = ((sum + half + ((sum >> bits) & 1)) >> bits) as i8;
                    }
                });
            }};
        }
        // Twice as many values at a time, as for an image of twice the size.
        if bits <= SHORT_BITS { blend!(i16) } else { blend!(i32) }
    }

    /// [`ResizeF32`](crate::ops::ResizeF32).
    pub fn resize_f32(x: &[f32], y: &mut [f32], width: usize, channels: usize, rows: &[Blend], cols: &[Blend]) {
        for_each_pixel(x, y, width, channels, rows, cols, |y, corners, [row, col]| {
            let (row, col) = (f32::from_bits(row), f32::from_bits(col));
            let (row_rest, col_rest) = (1.0 - row, 1.0 - col);
            let [a, b, c, d] = [row_rest * col_rest, row_rest * col, row * col_rest, row * col];
            for (index, y) in y.iter_mut().enumerate() {
                let [p, q, r, s] = corners.map(|corner| corner[index]);
                *y = (a * p + b * q) + (c * r + d * s);
            }
        });
    }

    /// [`ResizeCubicF32`](crate::ops::ResizeCubicF32).
    pub fn resize_cubic_f32(x: &[f32], y: &mut [f32], width: usize, channels: usize, rows: &[Taps], cols: &[Taps]) {
        for (y, &[tops, downs]) in y.chunks_exact_mut(cols.len() * channels).zip(rows) {
            for (y, &[lefts, acrosses]) in y.chunks_exact_mut(channels).zip(cols) {
                y.fill(0.0);
                for (top, down) in tops.into_iter().zip(downs) {
                    for (left, across) in lefts.into_iter().zip(acrosses) {
                        let weight = f32::from_bits(down) * f32::from_bits(across);
                        // Beside what does not count, infinity is no neighbour.
                        if weight == 0.0 {
                            continue;
                        }
                        let x = &x[(top as usize * width + left as usize) * channels..][..channels];
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
                    }
                }
            }
        }
    }
}

/// How many bits of the shares of bytes count: the lowest ones are 0 in all of them.
fn bits(blends: &[Blend]) -> u32 {
    WHOLE_BITS - blends.iter().fold(WHOLE, |all, [.., share]| all | share).trailing_zeros()
}

/// Calls `blend` for each pixel of the output, with the four pixels of the input around it and the shares of the
/// second ones; a pixel that is one of the input is copied.
#[inline(always)]
fn for_each_pixel<T: Copy>(
    x: &[T],
    y: &mut [T],
    width: usize,
    channels: usize,
    rows: &[Blend],
    cols: &[Blend],
    blend: impl Fn(&mut [T], [&[T]; 4], [u32; 2]),
) {
    let pixel = |row: u32, col: u32| &x[(row as usize * width + col as usize) * channels..][..channels];
    for (y, &[top, bottom, down]) in y.chunks_exact_mut(cols.len() * channels).zip(rows) {
        for (y, &[left, right, across]) in y.chunks_exact_mut(channels).zip(cols) {
            if down == 0 && across == 0 {
                y.copy_from_slice(pixel(top, left));
                continue;
            }
            let corners = [pixel(top, left), pixel(top, right), pixel(bottom, left), pixel(bottom, right)];
            blend(y, corners, [down, across]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::isa::Isa;

    /// Of shares that are multiples of some power of two.
    fn blends(input: usize) -> impl Strategy<Value = Vec<Blend>> {
        let blend = (0..input as u32, 0..input as u32, prop_oneof![Just(0), 0..=WHOLE]);
        let blends = (vec(blend, 1..8), 0..=WHOLE_BITS);
        blends.prop_map(|(blends, coarse)| {
            blends.into_iter().map(|(first, second, share)| [first, second, share >> coarse << coarse]).collect()
        })
    }

    #[test]
    fn sixteen_neighbours_are_summed_and_what_weighs_nothing_does_not_count() {
        let bits = |weights: [f32; 4]| weights.map(f32::to_bits);
        // Two rows of three pixels of two channels.
        let mut x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let rows = [[[0, 0, 1, 1], bits([-0.25, 0.5, 1.0, -0.25])]];
        let cols = [[[0, 1, 2, 2], bits([0.0, 0.5, 0.75, -0.25])], [[1, 1, 1, 1], bits([1.0, 0.0, 0.0, 0.0])]];
        let mut expected = vec![0.0; 4];
        for (col, [lefts, acrosses]) in cols.iter().enumerate() {
            for (tap, channel) in (0..16).flat_map(|tap| (0..2).map(move |channel| (tap, channel))) {
                let [[tops, downs]] = rows;
                let weight = f32::from_bits(downs[tap / 4]) * f32::from_bits(acrosses[tap % 4]);
                expected[col * 2 + channel] += weight * x[(tops[tap / 4] * 3 + lefts[tap % 4]) as usize * 2 + channel];
            }
        }
        x[0] = f32::INFINITY;
        for isa in Isa::ALL {
            let mut y = vec![0.0; 4];
            resize_cubic_f32(isa, &x, &mut y, 3, 2, &rows, &cols);
            assert_eq!(y, expected, "{isa}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            (height, width, channels) in (1usize..6, 1usize..6, 1usize..40),
            seed: u32,
            (rows, cols) in (blends(6), blends(6)),
        ) {
            let within = |blends: Vec<Blend>, size: usize| -> Vec<Blend> {
                let at = |i: u32| i % size as u32;
                blends.into_iter().map(|[first, second, share]| [at(first), at(second), share]).collect()
            };
            let (rows, cols) = (within(rows, height), within(cols, width));
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as i8
            };
            let x: Vec<i8> = (0..height * width * channels).map(|_| next()).collect();
            let real: Vec<f32> = x.iter().map(|x| f32::from(*x)).collect();
            let mut expected = vec![];
            let part = |share: u32| f64::from(share) / f64::from(WHOLE);
            for &[top, bottom, down] in &rows {
                for &[left, right, across] in &cols {
                    for c in 0..channels {
                        let at = |y: u32, x_at: u32| f64::from(x[(y as usize * width + x_at as usize) * channels + c]);
                        let (down, across) = (part(down), part(across));
                        let above = at(top, left) * (1.0 - across) + at(top, right) * across;
                        let below = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
                        expected.push(above * (1.0 - down) + below * down);
                    }
                }
            }
            let shares = |blends: &[Blend]| -> Vec<Blend> {
                let bits = |share: u32| (share as f32 / WHOLE as f32).to_bits();
                blends.iter().map(|&[first, second, share]| [first, second, bits(share)]).collect()
            };
            for isa in Isa::ALL {
                let mut y = vec![0i8; expected.len()];
                resize_s8(isa, &x, &mut y, width, channels, &rows, &cols);
                let mut y_real = vec![0f32; expected.len()];
                resize_f32(isa, &real, &mut y_real, width, channels, &shares(&rows), &shares(&cols));
                for ((y, y_real), exact) in y.iter().zip(&y_real).zip(&expected) {
                    prop_assert_eq!(*y, exact.round_ties_even() as i8);
                    prop_assert!((f64::from(*y_real) - exact).abs() < 1e-4);
                }
            }
        }
    }
}
