//! Three rows of bytes into triples: the channels of an image.

use crate::isa::Isa;

/// `y[3 * i + row] = rows[row][i]`, for as many as all of them have.
pub fn interleave3(isa: Isa, rows: [&[i8]; 3], y: &mut [i8]) {
    let len = rows.iter().map(|row| row.len()).chain([y.len() / 3]).min().unwrap_or(0);
    #[cfg(target_arch = "x86_64")]
    let done = if isa != Isa::Generic && isa.is_available() {
        // SAFETY: every other instruction set of x86-64 includes AVX2, and this CPU has it; there
        // are `len` values in each row and three times as many in `y`.
        unsafe { ssse3(rows.map(<[i8]>::as_ptr), len, y.as_mut_ptr()) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = {
        let _ = isa;
        0
    };
    for i in done..len {
        y[i * 3..][..3].copy_from_slice(&rows.map(|row| row[i]));
    }
}

/// 16 triples at a time, which are three registers with something of each row; returns how many.
///
/// # Safety
/// The CPU has SSSE3; there are `len` values in each row and three times as many at `y`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "ssse3")]
unsafe fn ssse3(rows: [*const i8; 3], len: usize, y: *mut i8) -> usize {
    use core::arch::x86_64::*;

    // Where byte `i` of register `part` comes from in a row; what is not of that row is 0.
    const fn order(part: usize, row: usize) -> [i8; 16] {
        let mut order = [-1; 16];
        let mut i = 0;
        while i < 16 {
            let at = part * 16 + i;
            if at % 3 == row {
                order[i] = (at / 3) as i8;
            }
            i += 1;
        }
        order
    }
    const ORDERS: [[[i8; 16]; 3]; 3] = [
        [order(0, 0), order(0, 1), order(0, 2)],
        [order(1, 0), order(1, 1), order(1, 2)],
        [order(2, 0), order(2, 1), order(2, 2)],
    ];
    let whole = len / 16 * 16;
    for at in (0..whole).step_by(16) {
        // SAFETY: as the caller's.
        unsafe {
            let values = rows.map(|row| _mm_loadu_si128(row.add(at).cast()));
            for (part, orders) in ORDERS.iter().enumerate() {
                let of = |row: usize| _mm_shuffle_epi8(values[row], _mm_loadu_si128(orders[row].as_ptr().cast()));
                let bytes = _mm_or_si128(_mm_or_si128(of(0), of(1)), of(2));
                _mm_storeu_si128(y.add(at * 3 + part * 16).cast(), bytes);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn every_length_on_every_isa() {
        for len in 0..70 {
            let rows: [Vec<i8>; 3] = core::array::from_fn(|row| (0..len).map(|i| (i * 3 + row) as u8 as i8).collect());
            let expected: Vec<i8> = (0..len * 3).map(|i| i as u8 as i8).collect();
            for isa in Isa::ALL {
                let mut y = vec![0; len * 3];
                interleave3(isa, [&rows[0], &rows[1], &rows[2]], &mut y);
                assert_eq!(y, expected);
            }
        }
    }
}
