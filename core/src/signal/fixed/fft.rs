//! The discrete Fourier transform of real samples in integers of 32 bits, with products of 64.
//!
//! Samples lie in pairs as complex points, of which there are half as many. Each of the radix-2 passes halves its sums, so that
//! none overflows, and rounds them. Source: Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier
//! series", 1965.

use crate::signal::series;
use crate::signal::spectral::MAX_FFT;

/// Real and imaginary part.
pub(super) type Point = [i32; 2];

/// Of sines, behind the point.
const BITS: u32 = 30;
const QUARTER: usize = MAX_FFT / 4;

/// A quarter of the longest transform's circle.
static SINES: [i32; QUARTER + 1] = {
    let mut sines = [0; QUARTER + 1];
    let mut i = 0;
    while i <= QUARTER {
        let angle = core::f64::consts::TAU * (QUARTER - i) as f64 / MAX_FFT as f64;
        sines[i] = (series::cos(angle) * (1 << BITS) as f64 + 0.5) as i32;
        i += 1;
    }
    sines
};

/// Cosine and sine of the part `index / of` of a circle, in its first half.
fn turn(index: usize, of: usize) -> (i64, i64) {
    let at = index * (MAX_FFT / of);
    let (cos, sin) = match at.checked_sub(QUARTER) {
        None => (SINES[QUARTER - at], SINES[at]),
        Some(past) => (-SINES[past], SINES[QUARTER - past]),
    };
    (i64::from(cos), i64::from(sin))
}

/// The transform of a power of two of points, from 2 to half of [`MAX_FFT`], divided by how many they are. No part of a point may
/// be above 2^29.
pub(super) fn transform(points: &mut [Point]) {
    let count = points.len();
    for index in 0..count {
        let mirrored = index.reverse_bits() >> (usize::BITS - count.trailing_zeros());
        if index < mirrored {
            points.swap(index, mirrored);
        }
    }
    let mut half = 1;
    while half < count {
        for group in points.chunks_exact_mut(2 * half) {
            let (even, odd) = group.split_at_mut(half);
            for (index, (a, b)) in even.iter_mut().zip(odd).enumerate() {
                let (cos, sin) = turn(index, 2 * half);
                let (re, im) = (i64::from(b[0]), i64::from(b[1]));
                let rounded = |product: i64| ((product + (1 << (BITS - 1))) >> BITS) as i32;
                let [re, im] = [rounded(re * cos + im * sin), rounded(im * cos - re * sin)];
                let halves = |x: i32, y: i32| [(x + y + 1) >> 1, (x - y + 1) >> 1];
                let ([a_re, b_re], [a_im, b_im]) = (halves(a[0], re), halves(a[1], im));
                (*a, *b) = ([a_re, a_im], [b_re, b_im]);
            }
        }
        half *= 2;
    }
}

/// The squared magnitude of a bin above 0, of what [`transform`] made of real samples in pairs: 16 times that of their transform
/// divided by how many samples they are.
pub(super) fn power(points: &[Point], bin: usize) -> u64 {
    let count = points.len();
    let at = |index: usize| points[index % count].map(i64::from);
    // Even samples have the transform (a + b*) / 2, odd ones (a - b*) / 2i.
    let ([a_re, a_im], [b_re, b_im]) = (at(bin), at(count - bin));
    let (even_re, even_im, odd_re, odd_im) = (a_re + b_re, a_im - b_im, a_im + b_im, b_re - a_re);
    let (cos, sin) = turn(bin, 2 * count);
    let sum = |even: i64, product: i64| ((even << BITS) + product + (1 << (BITS - 1))) >> BITS;
    let re = sum(even_re, odd_re * cos + odd_im * sin);
    let im = sum(even_im, odd_im * cos - odd_re * sin);
    re.unsigned_abs().pow(2) + im.unsigned_abs().pow(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bins_are_the_discrete_fourier_transform() {
        let largest = 1 << 29;
        let signals: [fn(usize) -> f64; 4] = [
            |n| ((n * n + 3 * n) % 17) as f64 / 8.0 - 1.0,
            |n| if n % 2 == 0 { 1.0 } else { -1.0 },
            |n| if (n / 3) % 2 == 0 { 1.0 } else { -1.0 },
            |n| if n == 5 { 1.0 } else { 0.0 },
        ];
        for (signal, fft) in signals
            .iter()
            .zip([16, 64, 512, 2048].iter().cycle().copied())
            .chain(signals.iter().map(|signal| (signal, MAX_FFT)))
        {
            let samples: Vec<i32> = (0..fft).map(|n| (signal(n) * f64::from(largest)) as i32).collect();
            let mut points: Vec<Point> = samples.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
            transform(&mut points);
            for bin in 1..=fft / 2 {
                let (mut re, mut im) = (0f64, 0f64);
                for (n, &x) in samples.iter().enumerate() {
                    let angle = core::f64::consts::TAU * ((bin * n) % fft) as f64 / fft as f64;
                    re += f64::from(x) * libm::cos(angle);
                    im -= f64::from(x) * libm::sin(angle);
                }
                let expected = 4.0 * libm::hypot(re, im) / fft as f64;
                let found = libm::sqrt(power(&points, bin) as f64);
                assert!((found - expected).abs() < 12.0, "fft {fft}, bin {bin}: {found}, not {expected}");
            }
        }
    }
}
