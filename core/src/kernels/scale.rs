//! Floats that sums of products stand for.

use crate::ops::ScaleS32;

use super::binary::limit;
use super::per_isa::per_isa;

per_isa! {
    /// Sums times `scale`, plus `bias` where there is one, of which the bits are left; see [`ScaleS32`]. One scale holds
    /// for all channels.
    pub fn scale_s32(sums: &mut [i32], scale: &[f32], bias: &[f32], op: &ScaleS32) {
        let (min, max) = (op.min, op.max);
        let put = |y: &mut i32, value: f32| *y = limit(value, min, max).to_bits() as i32;
        match (scale, bias) {
            ([], _) => {}
            ([scale], []) => sums.iter_mut().for_each(|y| put(y, *y as f32 * scale)),
            ([scale], [bias]) => sums.iter_mut().for_each(|y| put(y, *y as f32 * scale + bias)),
            ([scale], bias) => {
                for row in sums.chunks_exact_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| put(y, *y as f32 * scale + b));
                }
            }
            (scale, []) => {
                for row in sums.chunks_exact_mut(scale.len()) {
                    row.iter_mut().zip(scale).for_each(|(y, s)| put(y, *y as f32 * s));
                }
            }
            (scale, bias) => {
                for row in sums.chunks_exact_mut(scale.len()) {
                    let pairs = scale.iter().zip(bias);
                    row.iter_mut().zip(pairs).for_each(|(y, (s, b))| put(y, *y as f32 * s + b));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::isa::Isa;
    use crate::plan::Operand;

    proptest! {
        #[test]
        fn it_is_a_conversion_a_product_and_a_sum(
            (channels, pixels) in (1usize..40, 1usize..5),
            sums in vec(any::<i32>(), 200),
            (scale, bias) in (vec(-1e3f32..1e3, 40), vec(-1e9f32..1e9, 40)),
            limits in prop_oneof![Just((f32::NEG_INFINITY, f32::INFINITY)), Just((0.0, 6.0))],
        ) {
            let sums = &sums[..channels * pixels];
            let none = Operand::default();
            let op = ScaleS32 { input: none, scale: none, bias: none, output: none, channels, min: limits.0, max: limits.1 };
            for (scales, biases) in [(1, 0), (1, channels), (channels, 0), (channels, channels)] {
                let (scale, bias) = (&scale[..scales], &bias[..biases]);
                let expected = sums.iter().enumerate().map(|(at, sum)| {
                    let scaled = *sum as f32 * scale[at % scales];
                    let y = if biases == 0 { scaled } else { scaled + bias[at % channels] };
                    y.max(limits.0).min(limits.1)
                });
                let expected: Vec<f32> = expected.collect();
                for isa in Isa::ALL {
                    let mut y = sums.to_vec();
                    scale_s32(isa, &mut y, scale, bias, &op);
                    let y: Vec<f32> = y.into_iter().map(|bits| f32::from_bits(bits as u32)).collect();
                    prop_assert_eq!(&y, &expected);
                }
            }
        }
    }
}
