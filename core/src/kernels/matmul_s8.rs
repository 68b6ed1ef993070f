//! Products of int8 matrices that are both computed.
//!
//! The second one is packed as the weights of a fully connected layer are, at each run, and what comes of its zero point
//! and the first one's is added: `sum (a - za) * (b - zb)` is `sum a * b`, less `za` times the sum of a column of `b`,
//! which goes into the bias, less `zb` times the sum of a row of `a`, which the kernel adds to the sums of that row.

use crate::exec::memory::cast_mut;
use crate::isa::Isa;
use crate::plan::ALIGN;
use crate::shape::{ConvShape, Requantize, Window};

use super::conv::{self, ConvArgs, Form, Results};
use super::matmul::Product;
use super::per_isa::per_isa;

/// So many products of bytes less their zero points have a sum of 32 bits.
pub const MAX_INNER: usize = (i32::MAX / (255 * 255)) as usize;

/// Sizes and numbers of [`MatMulS8`](crate::ops::MatMulS8).
#[derive(Clone, Copy, Debug)]
pub struct ProductS8 {
    /// Sizes of the matrices.
    pub sizes: Product,
    /// Whether those of `b` lie the other way round, `[cols, inner]`.
    pub turned: bool,
    /// Zero point of `a`.
    pub a_zero_point: i8,
    /// Zero point of `b`.
    pub b_zero_point: i8,
    /// From the accumulator to the output.
    pub multiplier: f32,
    /// How what it makes becomes the output.
    pub requantize: Requantize,
}

/// What a run works in.
struct Room<'a> {
    bias: &'a mut [i32],
    multipliers: &'a mut [f32],
    packed: &'a mut [u8],
    kernel: &'a mut [u8],
    /// What is added to each row; none where the zero point of `b` is 0.
    shifts: &'a mut [i32],
}

impl ProductS8 {
    /// One product as a fully connected layer whose weights are `b`.
    fn layer(&self) -> ConvShape {
        ConvShape { window: Window::pixels(self.sizes.rows, self.sizes.inner), out_c: self.sizes.cols, groups: 1 }
    }

    /// Bytes of each part of the scratch, and of these what the packed matrix takes: the others are multiples of [`ALIGN`].
    fn lens(&self, isa: Isa) -> ([usize; 5], usize) {
        let Product { rows, cols, .. } = self.sizes;
        let [packed, kernel] = conv::matrix_lens(isa, &self.layer());
        let words = |count: usize| count.saturating_mul(size_of::<i32>());
        let shifts = if self.b_zero_point == 0 { 0 } else { words(rows) };
        let aligned = |len: usize| len.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        ([words(cols), words(cols), packed, kernel, shifts].map(aligned), packed)
    }

    /// Bytes of scratch that [`ProductS8::run`] works in, 64-byte aligned; more than there can be of sizes beyond reason.
    pub fn scratch_len(&self, isa: Isa) -> usize {
        self.lens(isa).0.into_iter().fold(0, usize::saturating_add)
    }

    /// `y[i] = a[i] * b[i]` with the matrices of `a` and of `b` repeated where they are fewer than those of `y`; `false`
    /// where slices do not fit, or the CPU lacks `isa`.
    pub fn run(&self, isa: Isa, a: &[i8], b: &[i8], y: &mut [i8], scratch: &mut [u8]) -> bool {
        let Product { rows, inner, cols } = self.sizes;
        let Some(mut room) = self.room(isa, scratch) else { return false };
        if rows == 0 || inner == 0 || cols == 0 {
            return false;
        }
        room.multipliers.fill(self.multiplier);
        let once = b.len() == inner * cols;
        let (a, b) = (a.chunks_exact(rows * inner).cycle(), b.chunks_exact(inner * cols).cycle());
        let mut matrices = a.zip(b).zip(y.chunks_exact_mut(rows * cols)).enumerate();
        matrices.all(|(index, ((a, b), y))| {
            if index == 0 || !once {
                self.pack(isa, b, &mut room);
            }
            self.one(isa, a, y, &mut room)
        })
    }

    fn room<'a>(&self, isa: Isa, scratch: &'a mut [u8]) -> Option<Room<'a>> {
        let Product { rows, cols, .. } = self.sizes;
        let ([bias, multipliers, packed, kernel, _], packed_len) = self.lens(isa);
        let (bias, rest) = scratch.split_at_mut_checked(bias)?;
        let (multipliers, rest) = rest.split_at_mut_checked(multipliers)?;
        let (packed, rest) = rest.split_at_mut_checked(packed)?;
        let (kernel, shifts) = rest.split_at_mut_checked(kernel)?;
        let shifts: &mut [i32] = cast_mut(shifts)?;
        Some(Room {
            bias: cast_mut(bias)?.get_mut(..cols)?,
            multipliers: cast_mut(multipliers)?.get_mut(..cols)?,
            packed: packed.get_mut(..packed_len)?,
            kernel,
            shifts: if self.b_zero_point == 0 { &mut [] } else { shifts.get_mut(..rows)? },
        })
    }

    /// Packs a matrix, and works out what each column begins with.
    fn pack(&self, isa: Isa, b: &[i8], room: &mut Room<'_>) {
        conv::pack_matrix(isa, &self.layer(), b, self.turned, room.packed, room.bias);
        let [a_zero_point, b_zero_point] = [self.a_zero_point, self.b_zero_point].map(i32::from);
        let both = (a_zero_point * b_zero_point).wrapping_mul(self.sizes.inner as i32);
        room.bias.iter_mut().for_each(|sum| *sum = both.wrapping_sub(sum.wrapping_mul(a_zero_point)));
    }

    /// One product, by the matrix that is packed.
    #[inline(never)]
    fn one(&self, isa: Isa, a: &[i8], y: &mut [i8], room: &mut Room<'_>) -> bool {
        let args = ConvArgs {
            input: a,
            weights: room.packed,
            bias: room.bias,
            multiplier: room.multipliers,
            input_zp: self.a_zero_point,
            out: self.requantize,
        };
        let results = match self.b_zero_point {
            0 => Results::Bytes(y),
            zero_point => {
                sum_rows(isa, a, -i32::from(zero_point), room.shifts);
                Results::Shifted(y, room.shifts)
            }
        };
        conv::run(isa, &self.layer(), Form::Compact, &args, results, room.kernel)
    }
}

per_isa! {
    /// The sum of each of as many rows as there are sums, times a number.
    fn sum_rows(rows: &[i8], times: i32, sums: &mut [i32]) {
        let inner = rows.len() / sums.len().max(1);
        for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(inner.max(1))) {
            *sum = row.iter().map(|&x| i32::from(x)).sum::<i32>().wrapping_mul(times);
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::plan::AlignedBytes;

    /// Bytes of which some are the extremes.
    fn bytes(mut seed: u32, len: usize) -> Vec<i8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match seed >> 28 {
                0..4 => i8::MIN,
                4..6 => i8::MAX,
                _ => (seed >> 16) as i8,
            }
        };
        (0..len).map(|_| next()).collect()
    }

    /// One value as the op defines it.
    fn defined(product: &ProductS8, a: &[i8], b: &[i8], row: usize, col: usize) -> i8 {
        let Product { inner, cols, .. } = product.sizes;
        let b_at = |k: usize| if product.turned { b[col * inner + k] } else { b[k * cols + col] };
        let less = |x: i8, zero_point: i8| i64::from(x) - i64::from(zero_point);
        let term = |k: usize| less(a[row * inner + k], product.a_zero_point) * less(b_at(k), product.b_zero_point);
        let sum = i32::try_from((0..inner).map(term).sum::<i64>()).expect("sums fit");
        let Requantize { zero_point, min, max } = product.requantize;
        let rounded = f64::from((sum as f32 * product.multiplier).round_ties_even()) + f64::from(zero_point);
        rounded.clamp(min.into(), max.into()) as i8
    }

    /// Holds a product on every instruction set of this CPU against its definition.
    fn check(product: &ProductS8, count: usize, (a, b): (&[i8], &[i8])) {
        let Product { rows, inner, cols } = product.sizes;
        let (a_len, b_len, len) = (rows * inner, inner * cols, rows * cols);
        let of = |values: &'_ [i8], index: usize, len: usize| {
            let at = index * len % values.len();
            at..at + len
        };
        let expected: Vec<i8> = (0..count * len)
            .map(|at| {
                let (a, b) = (&a[of(a, at / len, a_len)], &b[of(b, at / len, b_len)]);
                defined(product, a, b, at % len / cols, at % cols)
            })
            .collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut y = vec![0x55; count * len];
            let mut scratch = AlignedBytes::zeroed(product.scratch_len(isa));
            scratch.fill(0xA5);
            assert!(product.run(isa, a, b, &mut y, &mut scratch), "{isa}");
            assert_eq!(y, expected, "{isa}, {product:?}");
        }
    }

    /// Rows, inner size and columns of any product, and rows of one that fills vectors; Miri takes minutes for more.
    const MOST: (usize, usize, usize, usize) = if cfg!(miri) { (9, 12, 24, 3) } else { (60, 50, 80, 70) };

    fn zero_points() -> impl Strategy<Value = i8> {
        prop_oneof![Just(0), Just(i8::MIN), Just(i8::MAX), any::<i8>()]
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            (rows, inner, cols) in prop_oneof![
                (1..MOST.0, 1..MOST.1, 1..MOST.2), (1usize..9, 1usize..9, 1usize..9), (1..MOST.3, Just(64), Just(64)),
            ],
            count in 1usize..4,
            (a_once, b_once, turned) in any::<(bool, bool, bool)>(),
            (a_zero_point, b_zero_point, zero_point) in (zero_points(), zero_points(), any::<i8>()),
            (bound, other) in any::<(i8, i8)>(),
            scale in 0.2f32..4.0,
            seed: u32,
        ) {
            let product = ProductS8 {
                sizes: Product { rows, inner, cols },
                turned,
                a_zero_point,
                b_zero_point,
                multiplier: scale / (inner as f32).sqrt() / 100.0,
                requantize: Requantize { zero_point, min: bound.min(other), max: bound.max(other) },
            };
            let matrices = |once: bool| if once { 1 } else { count };
            let a = bytes(seed, matrices(a_once) * rows * inner);
            let b = bytes(seed ^ 0x5555, matrices(b_once) * inner * cols);
            check(&product, count, (&a, &b));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "products as long as they may be take minutes")]
    fn the_largest_sums_fit() {
        for (a, b, a_zero_point, b_zero_point) in
            [(-128, 127, 127, -128), (-128, -128, 127, 127), (127, 127, -128, -128), (-128, -128, 0, 0)]
        {
            let product = ProductS8 {
                sizes: Product { rows: 3, inner: MAX_INNER, cols: 5 },
                turned: false,
                a_zero_point,
                b_zero_point,
                multiplier: 1.0 / 16_843_009.0,
                requantize: Requantize { zero_point: 0, min: i8::MIN, max: i8::MAX },
            };
            check(&product, 1, (&vec![a; 3 * MAX_INNER], &vec![b; 5 * MAX_INNER]));
        }
    }

    /// More rows than a region has, and more products than a unit for matrices is worth setting up for.
    #[test]
    fn zero_points_count_in_all_regions() {
        // Miri runs no unit for matrices, and takes minutes for what is more than a region.
        let sizes: &[_] = if cfg!(miri) { &[(250, 2, 3)] } else { &[(500, 20, 5), (300, 64, 70)] };
        for &(rows, inner, cols) in sizes {
            let product = ProductS8 {
                sizes: Product { rows, inner, cols },
                turned: true,
                a_zero_point: 11,
                b_zero_point: -90,
                multiplier: 1e-3,
                requantize: Requantize { zero_point: 5, min: i8::MIN, max: i8::MAX },
            };
            check(&product, 1, (&bytes(1, rows * inner), &bytes(2, inner * cols)));
        }
    }

    /// For all layouts, those of other CPUs included.
    #[test]
    fn a_matrix_is_packed_as_weights_are() {
        let sizes = [(1, 1, 1), (7, 9, 13), (1, 33, 40), (30, 64, 64), (30, 20, 197), (5, 8, 100)];
        for &(rows, inner, cols) in &sizes[..if cfg!(miri) { 3 } else { sizes.len() }] {
            let (turned, mut plain) = (bytes(rows as u32, inner * cols), vec![0; inner * cols]);
            for (at, value) in turned.iter().enumerate() {
                plain[at % inner * cols + at / inner] = *value;
            }
            let layer = ConvShape { window: Window::pixels(rows, inner), out_c: cols, groups: 1 };
            let totals: Vec<i32> = turned.chunks(inner).map(|col| col.iter().map(|&b| i32::from(b)).sum()).collect();
            for isa in Isa::ALL {
                let mut expected = vec![0x5A; conv::max_packed_len(isa, &layer, Form::Compact)];
                conv::pack(isa, &layer, Form::Compact, &turned, &mut expected);
                for (matrix, is_turned) in [(&turned, true), (&plain, false)] {
                    let (mut packed, mut sums) = (vec![0x33; expected.len()], vec![-1; cols]);
                    conv::pack_matrix(isa, &layer, matrix, is_turned, &mut packed, &mut sums);
                    assert_eq!((&packed, &sums), (&expected, &totals), "{isa}, {rows}x{inner}x{cols}, {is_turned}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_no_panic() {
        let requantize = Requantize { zero_point: 0, min: i8::MIN, max: i8::MAX };
        for b_zero_point in [0, 5] {
            let product = |rows, inner, cols| ProductS8 {
                sizes: Product { rows, inner, cols },
                turned: false,
                a_zero_point: 0,
                b_zero_point,
                multiplier: 1.0,
                requantize,
            };
            let isa = Isa::detect();
            let mut scratch = AlignedBytes::zeroed(1 << 16);
            let huge = 1 << (usize::BITS - 8);
            for sizes in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, huge, 1), (huge, 1, 1), (1, 1, usize::MAX)] {
                let product = product(sizes.0, sizes.1, sizes.2);
                assert!(!product.run(isa, &[1; 4], &[1; 4], &mut [0; 4], &mut scratch), "{sizes:?}");
            }
            let product = product(2, 2, 2);
            let len = product.scratch_len(isa);
            assert!(product.run(isa, &[1; 4], &[1; 4], &mut [0; 4], &mut scratch[..len]));
            assert!(!product.run(isa, &[1; 4], &[1; 4], &mut [0; 4], &mut scratch[..len - 64]));
        }
    }
}
