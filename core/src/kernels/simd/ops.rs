//! The operations in which instruction sets differ, and what is common to their use.

use core::mem::MaybeUninit;

use crate::shape::Requantize;

use super::Layout;

/// The operations of an instruction set.
///
/// # Safety
/// Every method needs a CPU with that instruction set, and pointers valid for what its text
/// says is read or written. None needs alignment, but lines that begin on 64 bytes make all of it
/// faster, up to twice.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Sized {
    /// An i32 a lane.
    type Acc: Copy;
    /// A quad a lane.
    type Quads: Copy;
    const LAYOUT: Layout;
    /// Whether rows are best written as all lanes of their blocks, four a block, and fewer channels copied from there.
    const WHOLE: bool = false;

    /// Output pixels of a tile of a dense convolution.
    const HEIGHT: usize = Self::LAYOUT.rows;

    /// Whether [`amx`](super::amx) multiplies what lies as its panel and weights do.
    const UNIT: bool = false;

    /// Reads a quad into every lane.
    unsafe fn broadcast(quad: *const u8) -> Self::Quads;
    /// Reads an i32 a lane.
    unsafe fn load(lanes: *const u8) -> Self::Acc;
    /// Reads [`Layout::taps`] i8 values a lane.
    unsafe fn load_weights(weights: *const u8) -> Self::Quads;
    unsafe fn add(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    unsafe fn zero() -> Self::Acc;
    /// `acc` plus the products of the quads of `values` and `weights`.
    unsafe fn dot(acc: Self::Acc, values: Self::Quads, weights: Self::Quads) -> Self::Acc;
    /// Of how many pairs of quads, the first of each of so many segments, [`Simd::products`] may sum products before they are added,
    /// of these weights of `BLOCKS` blocks.
    #[inline(always)]
    unsafe fn pairs<const BLOCKS: usize>(_weights: *const u8, _segments: usize, _quads: usize) -> usize {
        0
    }
    /// Adds the products of `quads` quads, at least one, that begin `segment` bytes behind each of `windows`, and the weights
    /// of `BLOCKS` blocks of channels, which lie in the order in which they are read. Of these, [`Simd::pairs`] has `pairs` in a
    /// full tile. May read 16 bytes too many of a window whose quads are no multiple of 16 bytes.
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const BLOCKS: usize>(
        acc: &mut [[Self::Acc; BLOCKS]; ROWS],
        windows: [*const u8; ROWS],
        segment: usize,
        mut weights: *const u8,
        quads: usize,
        _pairs: usize,
    ) {
        let step = Self::LAYOUT.lanes * Self::LAYOUT.taps;
        let mut quad = 0;
        // SAFETY: there are as many quads and weights.
        unsafe {
            let windows: [*const u8; ROWS] = each!(|r| windows[r].add(segment));
            loop {
                let w: [Self::Quads; BLOCKS] = each!(|b| Self::load_weights(weights.add(b * step)));
                for r in 0..ROWS {
                    let values = Self::broadcast(windows[r].add(quad * Self::LAYOUT.quad_bytes()));
                    for b in 0..BLOCKS {
                        acc[r][b] = Self::dot(acc[r][b], values, w[b]);
                    }
                }
                weights = weights.add(BLOCKS * step);
                quad += 1;
                if quad == quads {
                    break;
                }
            }
        }
    }
    /// The same of one row: each weight is used once, so that what limits it is the latency of `dot`, unless
    /// several sums run side by side.
    #[inline(always)]
    unsafe fn row<const BLOCKS: usize>(
        acc: &mut [Self::Acc; BLOCKS],
        mut values: *const u8,
        mut weights: *const u8,
        quads: usize,
    ) {
        const SUMS: usize = 4;
        let (step, quad) = (Self::LAYOUT.lanes * Self::LAYOUT.taps, Self::LAYOUT.quad_bytes());
        // SAFETY: there are as many quads and weights.
        unsafe {
            let mut sums = [[Self::zero(); BLOCKS]; SUMS];
            sums[0] = *acc;
            for _ in 0..quads / SUMS {
                for (s, sums) in sums.iter_mut().enumerate() {
                    let value = Self::broadcast(values.add(s * quad));
                    for (b, sum) in sums.iter_mut().enumerate() {
                        *sum = Self::dot(*sum, value, Self::load_weights(weights.add((s * BLOCKS + b) * step)));
                    }
                }
                values = values.add(SUMS * quad);
                weights = weights.add(SUMS * BLOCKS * step);
            }
            for _ in 0..quads % SUMS {
                let value = Self::broadcast(values);
                for (b, sum) in sums[0].iter_mut().enumerate() {
                    *sum = Self::dot(*sum, value, Self::load_weights(weights.add(b * step)));
                }
                values = values.add(quad);
                weights = weights.add(BLOCKS * step);
            }
            let [a, b, c, d] = sums;
            *acc = each!(|i| Self::add(Self::add(a[i], b[i]), Self::add(c[i], d[i])));
        }
    }
    /// Whether [`Simd::pair`] takes fewer instructions than [`Simd::row`] twice.
    const PAIRS: bool = false;
    /// The same of one row and two groups of blocks.
    #[inline(always)]
    unsafe fn pair<const BLOCKS: usize>(
        acc: &mut [[Self::Acc; BLOCKS]; 2],
        values: *const u8,
        weights: [*const u8; 2],
        quads: usize,
    ) {
        // SAFETY: as the caller's.
        unsafe {
            Self::row(&mut acc[0], values, weights[0], quads);
            Self::row(&mut acc[1], values, weights[1], quads);
        }
    }
    /// Requantizes four registers, which are `4 / BLOCKS` rows, or one row of three or four blocks.
    /// Multipliers are one a column.
    unsafe fn store<const BLOCKS: usize>(acc: [Self::Acc; 4], multiplier: *const u8, out: &Epilogue, to: Rows);
    /// Writes an i32 a lane.
    #[inline(always)]
    unsafe fn put(acc: Self::Acc, lanes: *mut i32) {
        // Where a lane is not an i32 of the accumulator, this is another function.
        const { assert!(size_of::<Self::Acc>() == 4 * Self::LAYOUT.lanes) };
        // SAFETY: as the caller's.
        unsafe { lanes.cast::<Self::Acc>().write_unaligned(acc) };
    }
    /// Turns `len` values into what quads hold. May write 64 bytes too many.
    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8);

    /// Calls `f` in a function compiled for the instruction set: see [`vectorized`].
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;
}

/// What depthwise convolution needs of an instruction set beside [`Simd`].
#[allow(clippy::missing_safety_doc)]
pub trait Interleave: Simd {
    /// Gathers `len` quads: quad `i` holds value `i` of each of the [`Layout::taps`] `rows`.
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8);
}

/// What a convolution to a single pixel needs of an instruction set beside [`Simd`].
#[allow(clippy::missing_safety_doc)]
pub trait Arrange: Simd {
    /// Turns 64 values into what quads hold, in another order: `order` has the number of each.
    unsafe fn arrange(src: *const i8, order: *const u8, dst: *mut u8);
}

/// [`Requantize`] as the vectors want it.
#[derive(Clone, Copy)]
pub struct Epilogue {
    /// `max - zero_point`.
    pub high: f32,
    pub zero_point: i8,
    pub min: i8,
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub max: i8,
}

impl From<&Requantize> for Epilogue {
    fn from(out: &Requantize) -> Epilogue {
        let Requantize { zero_point, min, max } = *out;
        Epilogue { high: f32::from(max) - f32::from(zero_point), zero_point, min, max }
    }
}

/// Where [`Simd::store`] writes.
#[derive(Clone, Copy)]
pub struct Rows {
    pub dst: *mut i8,
    /// Values from a row to the next.
    pub step: usize,
    /// Values of a row.
    pub len: usize,
    pub rows: usize,
}

/// Requantizes and writes `ROWS <= 6` rows.
///
/// # Safety
/// As [`Simd::store`].
#[inline(always)]
pub unsafe fn store<S: Simd, const ROWS: usize, const BLOCKS: usize>(
    acc: [[S::Acc; BLOCKS]; ROWS],
    multiplier: *const u8,
    out: &Epilogue,
    to: Rows,
) {
    if const { !S::WHOLE } {
        // SAFETY: as the caller's.
        return unsafe { store_rows::<S, ROWS, BLOCKS>(acc, multiplier, out, to) };
    }
    const { assert!(!S::WHOLE || S::LAYOUT.lanes == 4) };
    let all = BLOCKS * S::LAYOUT.lanes;
    let mut few = [const { MaybeUninit::<[i8; 16]>::uninit() }; ROWS];
    let few: *mut i8 = few.as_mut_ptr().cast();
    let (dst, step) = if to.len == all { (to.dst, to.step) } else { (few, all) };
    // SAFETY: as the caller's; there are multipliers for all lanes of the blocks, and four lanes of at most four of them in
    // `few`, of which no more are copied than have been written.
    unsafe {
        // A copy, which no write to the destination can change, so that it may stay in registers.
        let multiplier: [[u8; 16]; BLOCKS] = multiplier.cast::<[[u8; 16]; BLOCKS]>().read();
        let whole = Rows { dst, step, len: all, rows: ROWS };
        store_rows::<S, ROWS, BLOCKS>(acc, multiplier.as_ptr().cast(), out, whole);
        if to.len < all {
            for row in 0..ROWS {
                few.add(row * all).copy_to_nonoverlapping(to.dst.add(row * to.step), to.len);
            }
        }
    }
}

/// # Safety
/// As [`Simd::store`].
#[inline(always)]
unsafe fn store_rows<S: Simd, const ROWS: usize, const BLOCKS: usize>(
    acc: [[S::Acc; BLOCKS]; ROWS],
    multiplier: *const u8,
    out: &Epilogue,
    to: Rows,
) {
    let rows = if BLOCKS <= 2 { 4 / BLOCKS } else { 1 };
    // Not a loop: indices have to be constants from the start, or accumulators live in memory.
    macro_rules! store_from {
        ($($row:literal)+) => {$(
            if $row < ROWS && $row % rows == 0 {
                macro_rules! register {
                    ($i:literal) => {
                        if BLOCKS <= 2 {
                            acc[($row + $i / BLOCKS).min(ROWS - 1)][$i % BLOCKS]
                        } else {
                            acc[$row][if $i < BLOCKS { $i } else { BLOCKS - 1 }]
                        }
                    };
                }
                let registers = [register!(0), register!(1), register!(2), register!(3)];
                // SAFETY: as the caller's.
                unsafe {
                    let to = Rows { dst: to.dst.add($row * to.step), rows: rows.min(ROWS - $row), ..to };
                    S::store::<BLOCKS>(registers, multiplier, out, to);
                }
            }
        )+};
    }
    const { assert!(ROWS <= 6) };
    store_from!(0 1 2 3 4 5);
}

/// An array of what a closure gives for each index, at least one.
///
/// Not `array::from_fn`: everything under [`Simd::vectorize`] has to be inlined there, and inlined
/// for certain. Elsewhere the compiler may not use the instruction set and calls every single
/// instruction as a function.
macro_rules! each {
    (|$i:ident| $value:expr) => {
        crate::kernels::simd::ops::array(
            #[inline(always)]
            |$i| $value,
        )
    };
}

/// Evaluates an expression in a function compiled for the instruction set.
macro_rules! vectorized {
    ($simd:ident, $value:expr) => {
        $simd::vectorize(
            #[inline(always)]
            || $value,
        )
    };
}

pub(in crate::kernels) use {each, vectorized};

/// See [`each`].
#[inline(always)]
pub fn array<T: Copy, const N: usize>(value: impl Fn(usize) -> T) -> [T; N] {
    let mut values = [value(0); N];
    // Not an iterator, of which the compiler makes less.
    let mut i = 1;
    while i < N {
        values[i] = value(i);
        i += 1;
    }
    values
}
