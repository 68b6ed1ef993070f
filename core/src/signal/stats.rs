//! Statistics of one channel.

/// Largest value, with its sign; what a peak is normalised by.
pub fn peak(samples: impl Iterator<Item = f32>) -> f32 {
    samples.fold(f32::NEG_INFINITY, f32::max)
}

/// Root of the mean of squares; 0 of no samples.
pub fn rms(samples: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut count) = (0f64, 0u32);
    for sample in samples {
        sum += f64::from(sample) * f64::from(sample);
        count += 1;
    }
    if count == 0 { 0.0 } else { libm::sqrt(sum / f64::from(count)) as f32 }
}

/// Mean and population standard deviation; zeros of no samples.
///
/// Two passes: the textbook sum of squares loses all digits of a small motion on top of gravity.
pub fn mean_and_deviation(samples: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
    let (sum, count) = samples.clone().fold((0f64, 0u32), |(sum, count), x| (sum + f64::from(x), count + 1));
    if count == 0 {
        return (0.0, 0.0);
    }
    let mean = sum / f64::from(count);
    let squares: f64 = samples.map(|x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum();
    (mean as f32, libm::sqrt(squares / f64::from(count)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_a_small_motion_on_a_large_offset() {
        let samples = [1000.0f32, 1002.0, 1000.0, 1002.0];
        assert_eq!(mean_and_deviation(samples.into_iter()), (1001.0, 1.0));
        assert_eq!(rms([3.0f32, -3.0].into_iter()), 3.0);
        assert_eq!(peak([-3.0f32, -1.0].into_iter()), -1.0);
    }
}
