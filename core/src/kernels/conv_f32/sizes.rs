//! Which tiles a part of an image is taken in.

use crate::isa::Isa;
use crate::shape::ConvShape;

use super::alone;
use super::part::{self, Part};
use super::tiles::{Dense, Tiles, Width};
#[cfg(target_arch = "x86_64")]
use super::vector::Wide;
use super::vector::{Narrow, Vector};
use super::{BLOCK, ConvF32Args, group_out, is_depthwise};

/// Lanes of a vector of AVX2 or NEON.
const LANES: usize = Narrow::LANES;
/// Its vectors of channels of a full tile: sums fill 12 of 16 registers, or 24 of 32.
const VECTORS: usize = BLOCK / LANES;

/// Whether there are tiles for such a convolution.
pub(super) fn takes(shape: &ConvShape) -> bool {
    !(is_depthwise(shape) && shape.out_c < LANES)
}

/// Convolves.
///
/// # Safety
/// The CPU has the instruction set, which is not the generic one; the slices fit `shape`, for which [there are tiles](takes).
pub(super) unsafe fn run(isa: Isa, shape: &ConvShape, args: &ConvF32Args<'_>, output: &mut [f32]) {
    let mut tiles = Tiles { shape, args, output };
    // SAFETY: the caller's; a part has as many pixels.
    unsafe {
        if alone::takes(shape, LANES) {
            part::each(shape, |part| match part.pixels {
                8.. if !part.ragged => tiles.alone::<Narrow, 8>(part),
                _ => tiles.alone::<Narrow, 1>(part),
            });
            return;
        }
        #[cfg(target_arch = "x86_64")]
        // Asked again, so that nothing of it is in programs that cannot detect it.
        if isa == Isa::Avx512Vnni && is_wide(shape) && isa.is_available() {
            part::each(shape, |part| wide_part(&mut tiles, part));
            return;
        }
        let _ = isa;
        part::each(shape, |part| narrow_part(&mut tiles, part));
    }
}

/// Whether AVX-512 is faster than AVX2: not where channels fill one vector of AVX2, nor where most would be computed twice.
#[cfg(target_arch = "x86_64")]
fn is_wide(shape: &ConvShape) -> bool {
    if is_depthwise(shape) { shape.out_c == BLOCK || shape.out_c >= 2 * BLOCK } else { group_out(shape) != LANES }
}

/// Of some numbers of pixels the one by which the fewest are computed twice; and what a tile loads beside them counts as two.
fn best(part: &Part, sizes: &[usize]) -> usize {
    let fits = sizes.iter().copied().filter(|&size| size <= part.pixels);
    fits.min_by_key(|&size| part.pixels.div_ceil(size) * (size + 2)).unwrap_or(1)
}

/// Tiles of so many pixels, and of ever fewer channels.
fn narrow_widths<'a, const ROWS: usize, const MOST: usize, const SOME: usize, const RAGGED: bool>() -> [Width<'a>; 4] {
    let full = |vectors, tiles: Dense<'a>| Width { least: vectors * LANES, most: vectors * LANES, tiles };
    [
        full(MOST, Tiles::dense::<Narrow, ROWS, MOST, false, RAGGED>),
        full(SOME, Tiles::dense::<Narrow, ROWS, SOME, false, RAGGED>),
        full(1, Tiles::dense::<Narrow, ROWS, 1, false, RAGGED>),
        Width { least: 1, most: LANES, tiles: Tiles::dense::<Narrow, ROWS, 1, true, RAGGED> },
    ]
}

/// All channels of a part.
///
/// # Safety
/// As [`run`].
unsafe fn narrow_part(tiles: &mut Tiles<'_>, part: &Part) {
    // Each size takes room in programs for small boards: what is rare has fewer. Tiles of few pixels have more channels:
    // only many sums hide the latency of one.
    let few = group_out(tiles.shape) < BLOCK;
    let all = 0..tiles.shape.out_c;
    // SAFETY: as the caller's; the part has as many pixels, and if it is depthwise, there are as many channels.
    unsafe {
        if is_depthwise(tiles.shape) {
            match (best(part, &[6, 2]), tiles.shape.out_c >= BLOCK) {
                (1, false) => tiles.depthwise::<Narrow, 1, 1>(part, all),
                (1, true) => tiles.depthwise::<Narrow, 1, VECTORS>(part, all),
                (2, false) => tiles.depthwise::<Narrow, 2, 1>(part, all),
                (2, true) => tiles.depthwise::<Narrow, 2, VECTORS>(part, all),
                (_, false) => tiles.depthwise::<Narrow, 6, 1>(part, all),
                (_, true) => tiles.depthwise::<Narrow, 6, VECTORS>(part, all),
            }
        } else if part.ragged {
            match best(part, if few { &[6, 2] } else { &[2] }) {
                2 => tiles.groups(part, &narrow_widths::<2, { 2 * VECTORS }, VECTORS, true>()),
                _ => tiles.groups(part, &narrow_widths::<6, 1, 1, true>()),
            }
        } else {
            match best(part, &[6, 4, 3, 2]) {
                1 => tiles.groups(part, &narrow_widths::<1, { 4 * VECTORS }, VECTORS, false>()),
                2 => tiles.groups(part, &narrow_widths::<2, { 2 * VECTORS }, VECTORS, false>()),
                3 => tiles.groups(part, &narrow_widths::<3, { 2 * VECTORS }, VECTORS, false>()),
                4 => tiles.groups(part, &narrow_widths::<4, VECTORS, VECTORS, false>()),
                _ => tiles.groups(part, &narrow_widths::<6, VECTORS, VECTORS, false>()),
            }
        }
    }
}

/// All channels of a part.
///
/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
unsafe fn wide_part(tiles: &mut Tiles<'_>, part: &Part) {
    /// Tiles of some vectors of channels, of which the last is full or the rest, and of that number of pixels that suits the part.
    /// Eight pixels by two vectors are as fast as twelve; more pointers than there are registers are slower.
    macro_rules! width {
        ($least:literal, $vectors:literal, $rest:literal, $ragged:literal: $($rows:literal)*) => {
            Width {
                least: $least,
                most: $vectors * Wide::LANES,
                tiles: match wide_best(part, $vectors, &[$($rows),*]) {
                    $($rows => Tiles::dense::<Wide, $rows, $vectors, $rest, $ragged>,)*
                    _ => Tiles::dense::<Wide, 1, $vectors, $rest, $ragged>,
                },
            }
        };
    }
    // SAFETY: as the caller's; the part has as many pixels, and if it is depthwise, there are as many channels.
    unsafe {
        if is_depthwise(tiles.shape) {
            wide_depthwise(tiles, part);
        } else if part.ragged {
            tiles.groups(
                part,
                &[
                    width!(64, 4, false, true: 2),
                    width!(32, 2, false, true: 4 2),
                    width!(17, 2, true, true: 4 2),
                    width!(16, 1, false, true: 4),
                    width!(1, 1, true, true: 4),
                ],
            );
        } else if part.pixels == 1 {
            tiles.groups(
                part,
                &[
                    width!(128, 8, false, false: ),
                    width!(64, 4, false, false: ),
                    width!(32, 2, false, false: ),
                    width!(17, 2, true, false: ),
                    width!(16, 1, false, false: ),
                    width!(1, 1, true, false: ),
                ],
            );
        } else {
            tiles.groups(
                part,
                &[
                    width!(64, 4, false, false: 6 4 3 2),
                    // Of 49 channels on three vectors and what is left are slower than twice two.
                    width!(49, 2, false, false: 8 6 4 3 2),
                    width!(33, 3, true, false: 8 4),
                    width!(32, 2, false, false: 8 6 4 3 2),
                    width!(17, 2, true, false: 8 6 4 3 2),
                    width!(16, 1, false, false: 8 4 3 2),
                    width!(1, 1, true, false: 8 4 3 2),
                ],
            );
        }
    }
}

/// As [`best`], of tiles of so many vectors: fewer than eight sums wait for each other.
#[cfg(target_arch = "x86_64")]
fn wide_best(part: &Part, vectors: usize, sizes: &[usize]) -> usize {
    let fits = sizes.iter().copied().filter(|&size| size <= part.pixels);
    fits.min_by_key(|&size| part.pixels.div_ceil(size) * ((size * vectors).max(8) + 2 * vectors)).unwrap_or(1)
}

/// All channels of a part of a depthwise convolution.
///
/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
unsafe fn wide_depthwise(tiles: &mut Tiles<'_>, part: &Part) {
    /// Tiles of some vectors, for some channels.
    macro_rules! depthwise {
        ($vectors:literal, $channels:expr) => {
            match best(part, &[6, 2]) {
                1 => tiles.depthwise::<Wide, 1, $vectors>(part, $channels),
                2 => tiles.depthwise::<Wide, 2, $vectors>(part, $channels),
                _ => tiles.depthwise::<Wide, 6, $vectors>(part, $channels),
            }
        };
    }
    let all = tiles.shape.out_c;
    // One pass over the pixels is worth more than four vectors at a time.
    let two = all - all % (2 * Wide::LANES);
    // SAFETY: as the caller's; there are as many channels.
    unsafe {
        if all.is_multiple_of(4 * Wide::LANES) {
            depthwise!(4, 0..all);
            return;
        }
        if two > 0 {
            depthwise!(2, 0..two);
        }
        if all > two {
            depthwise!(1, two.min(all - Wide::LANES)..all);
        }
    }
}
