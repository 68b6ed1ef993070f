//! Bias, corrections and multipliers, as vectors read them.

use crate::kernels::conv::ConvArgs;

use super::Layout;
use super::ops::Simd;

/// First accumulators and multipliers of all channels, readable by whole blocks of lanes.
#[derive(Clone, Copy)]
pub struct Params {
    bias: *const u8,
    correction: *const u8,
    multiplier: *const u8,
}

impl Params {
    /// Bytes of scratch for copies that fill up `lanes`; 0 where there is nothing to fill up.
    pub fn scratch_len(layout: Layout, channels: usize, lanes: usize) -> usize {
        let all = layout.registers(lanes) * layout.lanes;
        if channels == lanes && lanes == all { 0 } else { all.saturating_mul(8).next_multiple_of(64) }
    }

    /// Parameters of `lanes`, which repeat the channels where they are more, and what is left of
    /// `scratch`.
    pub fn new<'a>(layout: Layout, args: &ConvArgs<'_>, lanes: usize, scratch: &'a mut [u8]) -> (Params, &'a mut [u8]) {
        let len = Params::scratch_len(layout, args.bias.len(), lanes);
        let (copies, rest) = scratch.split_at_mut(len);
        let (mut bias, mut multiplier) = (args.bias.as_ptr().cast(), args.multiplier.as_ptr().cast());
        if len > 0 {
            let (b, m) = copies.split_at_mut(len / 2);
            for (b, from) in b.chunks_exact_mut(4).zip(args.bias.iter().cycle()) {
                b.copy_from_slice(&from.to_ne_bytes());
            }
            for (m, from) in m.chunks_exact_mut(4).zip(args.multiplier.iter().cycle()) {
                m.copy_from_slice(&from.to_ne_bytes());
            }
            (bias, multiplier) = (b.as_ptr(), m.as_ptr());
        }
        (Params { bias, correction: args.weights.as_ptr(), multiplier }, rest)
    }

    /// The first accumulators of the block of lanes at `lane`.
    ///
    /// # Safety
    /// The CPU has the instruction set, and `lane` begins one of the blocks.
    #[inline(always)]
    pub unsafe fn first<S: Simd>(&self, lane: usize) -> S::Acc {
        // SAFETY: as the caller's; corrections fill up blocks, too.
        unsafe {
            let bias = S::load(self.bias.add(lane * 4));
            if S::LAYOUT.offset == 0 { bias } else { S::add(bias, S::load(self.correction.add(lane * 4))) }
        }
    }

    /// Where the multipliers of the block of lanes at `lane` are, if results are requantized: those of sums are nowhere.
    #[inline(always)]
    pub fn multiplier(&self, lane: usize) -> *const u8 {
        self.multiplier.wrapping_add(lane * 4)
    }
}
