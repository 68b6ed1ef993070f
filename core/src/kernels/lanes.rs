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

pub(super) use for_each_block;
