//! Changes to bytes that could be anything.

use crate::rng::Rng;

/// Numbers next to which things change.
const ODD: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x0100_0000,
];

/// Changes one place.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(bytes.len());
    match rng.below(9) {
        0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8)),
        1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = rng.number() as u8),
        2 => {
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = byte.wrapping_add(rng.below(9) as u8).wrapping_sub(4))
        }
        3 => {
            let number = rng.pick(&ODD).to_le_bytes();
            let width = *rng.pick(&[1, 2, 4, 8]);
            bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
        }
        4 => {
            let end = (at + 1 + rng.below(16)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        5 => {
            // A piece of itself, once more.
            let end = (at + 1 + rng.below(32)).min(bytes.len());
            let piece = bytes[at.min(end)..end].to_vec();
            let to = rng.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        6 => {
            // A piece of another, in the place of as much or between.
            let start = rng.below(other.len());
            let end = (start + 1 + rng.below(64)).min(other.len());
            let piece = other[start.min(end)..end].iter().copied();
            let gone = if rng.once_in(2) { at..(at + piece.len()).min(bytes.len()) } else { at..at };
            bytes.splice(gone, piece);
        }
        7 => bytes.truncate(at),
        _ => {
            // The beginning of one, the end of the other.
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.below(other.len()).min(other.len())..]);
        }
    }
}
