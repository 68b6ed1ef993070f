//! Which input values are multiplied side by side.

use super::{BLOCKS, LANES, fits};

/// Values that are paired among each other: as many as vectors bring into any order.
pub const SPAN: usize = 64;

/// The order of the `SPAN` values from `first` on, as their numbers in the span: two by two such that the
/// weights of few pairs do not fit in one of the `filters` of a group, and those last.
///
/// From neighbours, two pairs at a time are made anew as long as that helps. Values beyond those that
/// there are stay where they are.
pub fn pair(filters: &[i8], values: usize, first: usize, order: &mut [u8; SPAN]) {
    *order = core::array::from_fn(|i| i as u8);
    let len = (values - first).min(SPAN);
    let misfits = &misfits(filters, values, first, len);
    let bad = |a: u8, b: u8| u8::from(misfits[usize::from(a)][usize::from(b)]);
    let (pairs, _) = order[..len.next_multiple_of(2)].as_chunks_mut::<2>();
    let mut better = true;
    while better {
        better = false;
        for second in 1..pairs.len() {
            for first in 0..second {
                let ([a, b], [c, d]) = (pairs[first], pairs[second]);
                let now = bad(a, b) + bad(c, d);
                let (straight, crossed) = (bad(a, c) + bad(b, d), bad(a, d) + bad(b, c));
                if straight.min(crossed) < now {
                    (pairs[first], pairs[second]) =
                        if straight <= crossed { ([a, c], [b, d]) } else { ([a, d], [b, c]) };
                    better = true;
                }
            }
        }
    }
    pairs.sort_unstable_by_key(|&[a, b]| (bad(a, b), a));
}

/// Of each two of `len` values from `first` on, whether there is a filter in which their weights do not
/// fit.
fn misfits(filters: &[i8], values: usize, first: usize, len: usize) -> [[bool; SPAN]; SPAN] {
    // Lane by lane, so that the compiler takes several at a time.
    let mut weights = [[0_i8; BLOCKS * LANES]; SPAN];
    for (lane, filter) in filters.chunks_exact(values).enumerate() {
        for (value, &weight) in weights.iter_mut().zip(&filter[first..first + len]) {
            value[lane] = weight;
        }
    }
    let mut misfits = [[false; SPAN]; SPAN];
    for a in 0..len {
        for b in 0..a {
            let any = weights[a].iter().zip(&weights[b]).fold(false, |any, (&a, &b)| any | !fits(a, b));
            (misfits[a][b], misfits[b][a]) = (any, any);
        }
    }
    misfits
}
