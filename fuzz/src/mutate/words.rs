//! Changes to 32-bit words: counts, offsets, lengths, parameters.

use crate::rng::Rng;

/// Changes one aligned word, or exchanges two.
pub fn mutate(bytes: &mut [u8], other: &[u8], rng: &mut Rng) {
    let (words, _) = bytes.as_chunks_mut::<4>();
    if words.is_empty() {
        return;
    }
    // Headers and records come first, and matter more than the weights behind them.
    let near = if rng.once_in(3) { words.len() } else { words.len().min(256) };
    let at = rng.below(near);
    let old = u32::from_le_bytes(words[at]);
    let new = match rng.below(8) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old ^ 1 << rng.below(32),
        3 => old.wrapping_mul(2),
        4 => *rng.pick(&[0, 1, 2, 3, 4, 63, 64, 128, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x7f80_0000, 0x7fc0_0000]),
        5 => old.wrapping_add(64 * (rng.below(9) as u32)).wrapping_sub(256),
        6 => u32::from_le_bytes(words[rng.below(near)]),
        _ => {
            let (theirs, _) = other.as_chunks::<4>();
            theirs.get(at).map_or(old / 2, |word| u32::from_le_bytes(*word))
        }
    };
    words[at] = new.to_le_bytes();
}
