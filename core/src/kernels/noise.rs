//! Values for tests.

use std::vec::Vec;

/// Reproducible values between -1 and 1, a different sequence for each seed.
pub(super) fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    core::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}
