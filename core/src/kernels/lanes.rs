//! Work on values in lanes that fit the registers.

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

pub(super) use each;

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
