//! Where results go: requantized, or the sums as they are.

use crate::kernels::conv::Results;

use super::ops::{Epilogue, Rows, Simd, store};

/// Where results go.
pub trait Target: Copy {
    /// Whether code for few sizes of tiles is all that is worth its room.
    const FEW: bool = false;

    /// So many results further.
    ///
    /// # Safety
    /// There are as many, or it is where they end.
    unsafe fn add(self, results: usize) -> Self;
}

/// Requantized.
impl Target for *mut i8 {
    #[inline(always)]
    unsafe fn add(self, results: usize) -> Self {
        // SAFETY: as the caller's.
        unsafe { self.add(results) }
    }
}

/// As they are.
impl Target for *mut i32 {
    const FEW: bool = true;

    #[inline(always)]
    unsafe fn add(self, results: usize) -> Self {
        // SAFETY: as the caller's.
        unsafe { self.add(results) }
    }
}

/// Either, which is known when it runs.
#[derive(Clone, Copy)]
pub enum Dst {
    Bytes(*mut i8),
    Sums(*mut i32),
}

impl From<Results<'_>> for Dst {
    fn from(results: Results<'_>) -> Dst {
        match results {
            Results::Bytes(bytes) | Results::Shifted(bytes, _) => Dst::Bytes(bytes.as_mut_ptr()),
            Results::Sums(sums) => Dst::Sums(sums.as_mut_ptr()),
        }
    }
}

impl Target for Dst {
    #[inline(always)]
    unsafe fn add(self, results: usize) -> Self {
        // SAFETY: as the caller's.
        unsafe {
            match self {
                Dst::Bytes(dst) => Dst::Bytes(dst.add(results)),
                Dst::Sums(dst) => Dst::Sums(dst.add(results)),
            }
        }
    }
}

/// What accumulators of integers are written to.
pub trait Put: Target {
    /// Writes `ROWS <= 6` rows of `len` results, `step` from each other.
    ///
    /// # Safety
    /// As [`Simd::store`].
    unsafe fn put<S: Simd, const ROWS: usize, const BLOCKS: usize>(
        self,
        acc: [[S::Acc; BLOCKS]; ROWS],
        multiplier: *const u8,
        out: &Epilogue,
        step: usize,
        len: usize,
    );
}

impl Put for *mut i8 {
    #[inline(always)]
    unsafe fn put<S: Simd, const ROWS: usize, const BLOCKS: usize>(
        self,
        acc: [[S::Acc; BLOCKS]; ROWS],
        multiplier: *const u8,
        out: &Epilogue,
        step: usize,
        len: usize,
    ) {
        // SAFETY: as the caller's.
        unsafe { store::<S, ROWS, BLOCKS>(acc, multiplier, out, Rows { dst: self, step, len, rows: ROWS }) };
    }
}

impl Put for *mut i32 {
    #[inline(always)]
    unsafe fn put<S: Simd, const ROWS: usize, const BLOCKS: usize>(
        self,
        acc: [[S::Acc; BLOCKS]; ROWS],
        _: *const u8,
        _: &Epilogue,
        step: usize,
        len: usize,
    ) {
        // A copy, so that what is requantized elsewhere is not in memory.
        let copy = acc;
        // SAFETY: as the caller's.
        unsafe { put::<S>(copy.as_flattened(), BLOCKS, self, step, len) };
    }
}

impl Put for Dst {
    #[inline(always)]
    unsafe fn put<S: Simd, const ROWS: usize, const BLOCKS: usize>(
        self,
        acc: [[S::Acc; BLOCKS]; ROWS],
        multiplier: *const u8,
        out: &Epilogue,
        step: usize,
        len: usize,
    ) {
        // SAFETY: as the caller's.
        unsafe {
            match self {
                Dst::Bytes(dst) => dst.put::<S, ROWS, BLOCKS>(acc, multiplier, out, step, len),
                Dst::Sums(dst) => dst.put::<S, ROWS, BLOCKS>(acc, multiplier, out, step, len),
            }
        }
    }
}

/// Writes rows of `blocks` accumulators each as they are. One function for all numbers of rows and blocks: accumulators go
/// through memory, which takes less time than what they are then needed for, and far less code.
///
/// # Safety
/// As [`Simd::store`].
// Cold, so that no register is kept free for it where results are bytes.
#[cold]
#[inline(never)]
unsafe fn put<S: Simd>(acc: &[S::Acc], blocks: usize, dst: *mut i32, step: usize, len: usize) {
    let lanes = S::LAYOUT.lanes;
    for (row, acc) in acc.chunks_exact(blocks).enumerate() {
        for (block, &acc) in acc.iter().enumerate() {
            let left = len - len.min(block * lanes);
            if left == 0 {
                break;
            }
            // SAFETY: as the caller's; of the last lanes no more are copied than there are results.
            unsafe {
                let dst = dst.add(row * step + block * lanes);
                if left >= lanes {
                    S::put(acc, dst);
                } else {
                    let mut few = [0; 16];
                    S::put(acc, few.as_mut_ptr());
                    few.as_ptr().copy_to_nonoverlapping(dst, left);
                }
            }
        }
    }
}
