//! Work on channels in blocks that fit the registers.

/// Runs a block of code for every 32, then every 8, then every remaining element of a slice.
///
/// `for_each_block!(y, |first, block| { .. })` binds the index of the block's first element and the
/// block as an array. A macro, so that each length is a constant where the code is compiled; the
/// array is a local copy, so that what accumulates in it stays in registers.
macro_rules! for_each_block {
    ($slice:expr, |$first:ident, $block:ident| $body:block) => {{
        let mut $first = 0;
        $crate::kernels::lanes::for_each_block!(@ [32, 8, 1] $slice, $first, $block, $body);
        let _ = $first;
    }};
    (@ [$len:literal $(, $shorter:literal)*] $slice:expr, $first:ident, $block:ident, $body:block) => {{
        let (blocks, rest) = $slice.as_chunks_mut::<$len>();
        for memory in blocks {
            let $block = &mut { *memory };
            $body
            *memory = *$block;
            $first += $len;
        }
        $crate::kernels::lanes::for_each_block!(@ [$($shorter),*] rest, $first, $block, $body);
    }};
    (@ [] $rest:expr, $first:ident, $block:ident, $body:block) => {
        debug_assert!($rest.is_empty())
    };
}

/// Replaces each value of a slice: `each!(values, |x| x * x)`. A loop that is certain to be compiled for the instruction
/// set around it, which that of `Iterator::for_each` is not.
macro_rules! each {
    ($values:expr, |$x:ident| $value:expr) => {
        for x in $values.iter_mut() {
            let $x = *x;
            *x = $value;
        }
    };
}

pub(super) use {each, for_each_block};

const LANES: usize = 8;

/// `x` in eight partial results, into which `step` takes each eighth element; `join` puts two of these together.
#[inline(always)]
pub(super) fn fold_lanes<T: Copy>(
    x: &[T],
    start: f32,
    step: impl Fn(f32, T) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane = step(*lane, *x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane = step(*lane, *x));
    let [a, b, c, d, e, f, g, h] = lanes;
    join(join(join(a, e), join(c, g)), join(join(b, f), join(d, h)))
}
