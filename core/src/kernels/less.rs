//! Sums put right by those of their windows.

use super::per_isa::per_isa;

per_isa! {
    /// Less `shifts` times what the windows add up to, a value for each group of channels; see
    /// [`LessS32`](crate::ops::LessS32).
    pub fn less_s32(sums: &mut [i32], window_sums: &[i32], shifts: &[i32], groups: usize) {
        let group = shifts.len().checked_div(groups).unwrap_or(0).max(1);
        let pixels = sums.chunks_exact_mut(shifts.len().max(1)).zip(window_sums.chunks_exact(groups.max(1)));
        if group == 1 {
            // A window for each channel: as long as the sums.
            for (pixel, window_sums) in pixels {
                let each = pixel.iter_mut().zip(shifts).zip(window_sums);
                each.for_each(|((y, shift), window_sum)| *y = y.wrapping_sub(shift.wrapping_mul(*window_sum)));
            }
            return;
        }
        for (pixel, window_sums) in pixels {
            let each = pixel.chunks_exact_mut(group).zip(shifts.chunks_exact(group)).zip(window_sums);
            for ((sums, shifts), window_sum) in each {
                sums.iter_mut().zip(shifts).for_each(|(y, shift)| *y = y.wrapping_sub(shift.wrapping_mul(*window_sum)));
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

    proptest! {
        #[test]
        fn each_channel_is_less_by_its_shift_times_its_groups_window(
            (group, groups, pixels) in (1usize..20, 1usize..4, 1usize..5),
            (sums, window_sums, shifts) in (vec(any::<i32>(), 240), vec(any::<i32>(), 12), vec(any::<i32>(), 60)),
        ) {
            let channels = group * groups;
            let (sums, shifts) = (&sums[..channels * pixels], &shifts[..channels]);
            let window_sums = &window_sums[..groups * pixels];
            let less = |(at, sum): (usize, &i32)| {
                let (pixel, channel) = (at / channels, at % channels);
                let window_sum = window_sums[pixel * groups + channel / group];
                (i64::from(*sum) - i64::from(shifts[channel]) * i64::from(window_sum)) as i32
            };
            let expected: Vec<i32> = sums.iter().enumerate().map(less).collect();
            for isa in Isa::ALL {
                let mut y = sums.to_vec();
                less_s32(isa, &mut y, window_sums, shifts, groups);
                prop_assert_eq!(&y, &expected);
            }
        }
    }
}
