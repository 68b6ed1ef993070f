//! Products of bytes where no instruction has two at once: `smlad.rs` is this module where one has.

use core::array::from_mut;

/// To how many values it has done what that of `smlad.rs` does: none, as plain code does them all.
pub fn products(_values: &[i8], _weights: &[u8], _step: usize, _filters: usize, _sums: &mut [[i32; 4]]) -> usize {
    0
}

/// Some values of a few taps.
pub struct Taps<'a> {
    values: [&'a [i8]; Taps::MOST],
    len: usize,
    width: usize,
}

impl<'a> Taps<'a> {
    /// As many as there can be.
    pub const MOST: usize = 16;

    /// None.
    pub fn new() -> Self {
        Self { values: [&[]; Self::MOST], len: 0, width: 0 }
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
        self.values[self.len] = &values[..self.width];
        self.len += 1;
    }

    /// Adds to each channel's sum the products of its values and of weights, which lie `step` apart.
    #[inline(never)]
    pub fn multiply(&self, weights: &[u8], step: usize, sums: &mut [i32]) {
        let (words, rest) = sums.as_chunks_mut::<4>();
        let whole = words.len() * 4;
        words.iter_mut().enumerate().for_each(|(word, sums)| self.add(weights, step, word * 4, sums));
        rest.iter_mut().enumerate().for_each(|(i, sum)| self.add(weights, step, whole + i, from_mut(sum)));
    }

    /// The same of the channels from `first` on, whose sums are in registers.
    #[inline(always)]
    fn add<const N: usize>(&self, weights: &[u8], step: usize, first: usize, sums: &mut [i32; N]) {
        let mut all = *sums;
        for (tap, values) in self.values[..self.len].iter().enumerate() {
            let (values, weights) = (&values[first..][..N], &weights[tap * step + first..][..N]);
            for i in 0..N {
                all[i] = all[i].wrapping_add(i32::from(values[i]) * i32::from(weights[i] as i8));
            }
        }
        *sums = all;
    }
}
