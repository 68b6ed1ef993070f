//! Products of bytes in pairs on 32-bit ARM: `smlad` of ARMv6, and of the Cortex-Ms with the DSP extension, adds two products of
//! i16 at once. `make test-arm` holds plain convolution, which has them, to its definition (`tests/convolutions.rs`).
//!
//! Both loops take every register, of which the compiler gives less; so they put aside by themselves what it keeps.

use core::arch::asm;
use core::marker::PhantomData;
use core::ptr::null;

/// Adds to each filter's sum the products of values and of its weights, which begin `step` behind another's, for as many of them
/// as are whole words: so many, which is returned. Sums behind the last filter's have no meaning.
///
/// # Panics
/// If there are fewer weights or sums.
#[inline(always)]
pub fn products(values: &[i8], weights: &[u8], step: usize, filters: usize, sums: &mut [[i32; 4]]) -> usize {
    let words = values.len() / 4;
    if words > 0 && filters > 0 {
        let last = (filters - 1).saturating_mul(step);
        assert!(last.saturating_add(words * 4) <= weights.len());
        for (quad, sums) in sums[..filters.div_ceil(4)].iter_mut().enumerate() {
            // Fewer filters repeat the last.
            let filter = |i: usize| weights.as_ptr().wrapping_add((quad * 4 + i).min(filters - 1) * step);
            // SAFETY: there are as many words of values, and of weights from that of the last filter on.
            unsafe { add_products(values.as_ptr(), &[filter(0), filter(1), filter(2), filter(3)], sums, words) };
        }
    }
    words * 4
}

/// Some values of a few taps.
pub struct Taps<'a> {
    values: [*const i8; Taps::MOST],
    len: usize,
    /// How many values can be read of each.
    width: usize,
    borrowed: PhantomData<&'a [i8]>,
}

impl<'a> Taps<'a> {
    /// As many as there can be.
    pub const MOST: usize = 16;

    /// None.
    pub fn new() -> Self {
        Self { values: [null(); Self::MOST], len: 0, width: 0, borrowed: PhantomData }
    }

    /// Begins anew, with taps of `width` values.
    pub fn clear(&mut self, width: usize) {
        (self.len, self.width) = (0, width);
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.len == Self::MOST
    }

    /// Takes the first of some values.
    pub fn push(&mut self, values: &'a [i8]) {
        self.values[self.len] = values[..self.width].as_ptr();
        self.len += 1;
    }

    /// Adds to each channel's sum the products of its values and of weights, which lie `step` apart.
    ///
    /// # Panics
    /// If there are more channels than values, or fewer weights.
    #[inline(never)]
    pub fn multiply(&self, weights: &[u8], step: usize, sums: &mut [i32]) {
        let channels = sums.len();
        let Some(last) = self.len.checked_sub(1) else { return };
        assert!(channels <= self.width && last.saturating_mul(step).saturating_add(channels) <= weights.len());
        let (words, rest) = sums.as_chunks_mut();
        let whole = words.len() * 4;
        for (word, sums) in words.iter_mut().enumerate() {
            let at = word * 4;
            // SAFETY: of each tap there are values and weights of four channels from that one on.
            unsafe { add_channels(self.values.as_ptr(), weights.as_ptr().add(at), sums, self.len, at, step) };
        }
        for (channel, sum) in (whole..).zip(rest) {
            for (tap, values) in self.values[..self.len].iter().enumerate() {
                // SAFETY: as many values of a tap can be read as there are channels.
                let value = unsafe { *values.add(channel) };
                *sum = sum.wrapping_add(i32::from(value) * i32::from(weights[tap * step + channel] as i8));
            }
        }
    }
}

/// # Safety
/// There are `words` words of four values, one at least, and of each weights. They need not be aligned.
unsafe fn add_products(values: *const i8, weights: &[*const u8; 4], sums: &mut [i32; 4], words: usize) {
    // SAFETY: the caller's; every CPU that this is compiled for has the instructions, and registers are as they were or named.
    unsafe {
        asm!(
            "push {{r2, r4, r5, r6, r7, r8, r9, r10, r11}}",
            "ldm r2, {{r4, r5, r6, r7}}",
            "ldm r1, {{r8, r9, r10, r11}}",
            "2:",
            // Values in r1 and r2: the first and third, the second and fourth.
            "ldr r2, [r0], #4",
            "ldr r12, [r8], #4",
            "sxtb16 r1, r2",
            "sxtb16 r2, r2, ror #8",
            "sxtb16 lr, r12",
            "sxtb16 r12, r12, ror #8",
            "smlad r4, r1, lr, r4",
            "ldr lr, [r9], #4",
            "smlad r4, r2, r12, r4",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r5, r1, r12, r5",
            "ldr r12, [r10], #4",
            "smlad r5, r2, lr, r5",
            "sxtb16 lr, r12",
            "sxtb16 r12, r12, ror #8",
            "smlad r6, r1, lr, r6",
            "ldr lr, [r11], #4",
            "smlad r6, r2, r12, r6",
            "sxtb16 r12, lr",
            "sxtb16 lr, lr, ror #8",
            "smlad r7, r1, r12, r7",
            "subs r3, r3, #1",
            "smlad r7, r2, lr, r7",
            "bne 2b",
            "pop {{r2}}",
            "stm r2, {{r4, r5, r6, r7}}",
            "pop {{r4, r5, r6, r7, r8, r9, r10, r11}}",
            inlateout("r0") values => _,
            inlateout("r1") weights => _,
            inlateout("r2") sums => _,
            inlateout("r3") words => _,
            lateout("r12") _,
            lateout("lr") _,
        );
    }
}

/// Four channels of `count` taps, one at least: values from `at` on, weights `step` apart.
///
/// # Safety
/// There are as many taps, of each the values and the weights.
unsafe fn add_channels(
    taps: *const *const i8,
    weights: *const u8,
    sums: &mut [i32; 4],
    count: usize,
    at: usize,
    step: usize,
) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "push {{r4, r5, r6, r7, r8, r9, r10, r11}}",
            "ldm r2, {{r8, r9, r10, r11}}",
            "2:",
            "ldr r4, [r0], #4",
            "ldr r5, [r1]",
            "ldr r4, [r4, r12]",
            "add r1, r1, lr",
            "sxtb16 r7, r5",
            "sxtb16 r6, r4",
            "sxtb16 r5, r5, ror #8",
            "sxtb16 r4, r4, ror #8",
            "smlabb r8, r6, r7, r8",
            "smlatt r10, r6, r7, r10",
            "subs r3, r3, #1",
            "smlabb r9, r4, r5, r9",
            "smlatt r11, r4, r5, r11",
            "bne 2b",
            "stm r2, {{r8, r9, r10, r11}}",
            "pop {{r4, r5, r6, r7, r8, r9, r10, r11}}",
            inlateout("r0") taps => _,
            inlateout("r1") weights => _,
            in("r2") sums,
            inlateout("r3") count => _,
            in("r12") at,
            in("lr") step,
        );
    }
}
