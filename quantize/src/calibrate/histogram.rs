//! Values of a tensor, counted.

use crate::scheme::Range;

/// Enough for several bins to each of 256 levels after the range has been halved twice.
pub const BINS: usize = 4096;

/// The place of a bin, and the values in it.
type Bin = (usize, u64);

/// Counts of values in bins of equal width over a range that holds all of them.
#[derive(Clone, Debug)]
pub struct Histogram {
    range: Range,
    counts: Vec<u64>,
    /// Values that are exactly 0, counted here and not in a bin: every scheme holds them without error.
    zeros: u64,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new(range: Range) -> Histogram {
        Histogram { range: range.with_zero(), counts: vec![0; BINS], zeros: 0 }
    }

    /// The range that it was made for, 0 included.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Counts values; those outside the range count at its ends.
    pub fn add(&mut self, values: &[f32]) {
        let width = f64::from(self.range.max) - f64::from(self.range.min);
        let per_value = if width > 0.0 { (BINS as f64 / width) as f32 } else { 0.0 };
        for &value in values {
            if value == 0.0 {
                self.zeros += 1;
                continue;
            }
            let bin = ((value - self.range.min) * per_value) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    /// Adds the counts of another one over the same range.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.zeros += other.zeros;
    }

    fn width(&self) -> f64 {
        (f64::from(self.range.max) - f64::from(self.range.min)) / BINS as f64
    }

    /// The middle of a bin.
    fn centre(&self, bin: usize) -> f64 {
        f64::from(self.range.min) + (bin as f64 + 0.5) * self.width()
    }

    /// The bins that hold any, in their order: of few values most are empty, and each rule goes over them for each of some
    /// hundred ranges.
    fn held(&self) -> Vec<Bin> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }

    fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// The range without the outermost values: a share of `tail` below and as much above.
    pub fn percentile(&self, tail: f64) -> Range {
        let allowed = (self.total() as f64 * tail) as u64;
        let cut = |bins: &mut dyn Iterator<Item = usize>| {
            let mut left = allowed;
            let mut dropped = 0;
            for bin in bins {
                match left.checked_sub(self.counts[bin]) {
                    Some(rest) => left = rest,
                    None => break,
                }
                dropped += 1;
            }
            dropped as f64
        };
        let (below, above) = (cut(&mut (0..BINS)), cut(&mut (0..BINS).rev()));
        let min = f64::from(self.range.min) + below * self.width();
        let max = f64::from(self.range.max) - above * self.width();
        Range { min: min.min(0.0) as f32, max: max.max(0.0) as f32 }
    }

    /// The range with the least expected squared error in `levels` steps: values within it are off by
    /// an even share of a step, values outside by their distance. Banner et al. 2019, "Post training
    /// 4-bit quantization of convolutional networks", with the measured distribution in place of a Laplacian.
    pub fn least_squares(&self, levels: u32) -> Range {
        let held = self.held();
        let mut best = (f64::INFINITY, self.range);
        for range in self.shrunk() {
            let error = self.squared_error(&held, range, levels);
            if error < best.0 {
                best = (error, range);
            }
        }
        best.1
    }

    /// Expected squared error of a range in steps, summed over all values, which are in these bins.
    fn squared_error(&self, held: &[Bin], range: Range, levels: u32) -> f64 {
        let (min, max) = (f64::from(range.min), f64::from(range.max));
        let step = (max - min) / f64::from(levels - 1);
        let of = |&(bin, count): &Bin| {
            let value = self.centre(bin);
            let outside = (min - value).max(value - max).max(0.0);
            count as f64 * if outside > 0.0 { outside * outside } else { step * step / 12.0 }
        };
        held.iter().map(of).sum()
    }

    /// The range whose quantized distribution is nearest to the values' own, by Kullback-Leibler
    /// divergence: Migacz 2017, "8-bit inference with TensorRT". Values outside count at the ends.
    pub fn entropy(&self, levels: u32) -> Range {
        let held = self.held();
        let mut best = (f64::INFINITY, self.range);
        for range in self.shrunk() {
            let divergence = self.divergence(&held, range, levels);
            if divergence < best.0 {
                best = (divergence, range);
            }
        }
        best.1
    }

    fn divergence(&self, held: &[Bin], range: Range, levels: u32) -> f64 {
        let bin_of = |value: f32| (f64::from(value) - f64::from(self.range.min)) / self.width();
        let first = (bin_of(range.min).round() as usize).min(BINS - 1);
        let end = (bin_of(range.max).round() as usize).clamp(first + 1, BINS);
        let (below, rest) = held.split_at(held.partition_point(|(bin, _)| *bin < first));
        let (inside, above) = rest.split_at(rest.partition_point(|(bin, _)| *bin < end));
        let sum = |bins: &[Bin]| bins.iter().map(|(_, count)| count).sum::<u64>() as f64;
        if inside.is_empty() {
            return f64::INFINITY;
        }
        // What the levels can tell apart: the values inside, each level spread over its bins that hold any.
        let width = end - first;
        let levels = (levels as usize).min(width);
        let level = |bin: usize| ((bin - first + 1) * levels - 1) / width;
        let clipped = [(first, sum(below)), (end - 1, sum(above))];
        let beyond = |at: usize| clipped.iter().filter(|(end, _)| *end == at).map(|(_, count)| count).sum::<f64>();
        let is_held = |at: usize| inside.binary_search_by_key(&at, |(bin, _)| *bin).is_ok();
        let [low, high] = clipped.map(|(at, count)| (!is_held(at)).then_some((count, 0.0)));
        let mut told: Vec<(f64, f64)> = Vec::with_capacity(inside.len() + 2);
        told.extend(low);
        for of_level in inside.chunk_by(|(bin, _), (next, _)| level(*bin) == level(*next)) {
            let share = sum(of_level) / of_level.len() as f64;
            told.extend(of_level.iter().map(|&(bin, count)| (count as f64 + beyond(bin), share)));
        }
        told.extend(high);
        let total = |of: fn(&(f64, f64)) -> f64| told.iter().map(of).sum::<f64>();
        let (p_total, q_total) = (total(|(p, _)| *p), total(|(_, q)| *q));
        let term = |&(p, q): &(f64, f64)| match (p > 0.0, q > 0.0) {
            (false, _) => 0.0,
            (true, true) => p / p_total * ((p / p_total) / (q / q_total)).ln(),
            // An end bin that only clipped values reach: as unlikely as can be told.
            (true, false) => p / p_total * ((p / p_total) * 1e9).ln().max(0.0),
        };
        told.iter().map(term).sum()
    }

    /// The range and smaller ones: both ends drawn in alike, and each alone.
    fn shrunk(&self) -> Vec<Range> {
        let Range { min, max } = self.range;
        let steps = || (0..=60).map(|step| 1.0 - step as f32 * 0.0125);
        let both = steps().map(|share| Range { min: min * share, max: max * share });
        let low = steps().skip(1).filter(|_| min < 0.0).map(|share| Range { min: min * share, max });
        let high = steps().skip(1).filter(|_| max > 0.0 && min < 0.0).map(|share| Range { min, max: max * share });
        both.chain(low).chain(high).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of a bell with some far away.
    fn bell() -> Histogram {
        let values: Vec<f32> = (0..20_000)
            .map(|i| (0..12).map(|k| ((i * 7919 + k * 104_729) % 1000) as f32 / 1000.0).sum::<f32>() - 6.0)
            .collect();
        let mut histogram = Histogram::new(Range { min: -60.0, max: 60.0 });
        histogram.add(&values);
        histogram.add(&[-60.0, 60.0, 0.0, 0.0]);
        histogram
    }

    #[test]
    fn methods_leave_out_what_is_far_away() {
        let histogram = bell();
        assert_eq!(histogram.range(), Range { min: -60.0, max: 60.0 });
        for (range, most) in
            [(histogram.percentile(1e-4), 2.0), (histogram.entropy(256), 40.0), (histogram.least_squares(256), 59.0)]
        {
            assert!(range.min > -most && range.max < most && range.min < -0.5 && range.max > 0.5, "{range:?}");
        }
        assert!(
            histogram.squared_error(&histogram.held(), histogram.least_squares(256), 256)
                < histogram.squared_error(&histogram.held(), histogram.range(), 256)
        );
    }

    /// As it is defined, over all bins.
    fn divergence(histogram: &Histogram, range: Range, levels: u32) -> f64 {
        let bin_of = |value: f32| (f64::from(value) - f64::from(histogram.range.min)) / histogram.width();
        let first = (bin_of(range.min).round() as usize).min(BINS - 1);
        let end = (bin_of(range.max).round() as usize).clamp(first + 1, BINS);
        let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        let inside = &histogram.counts[first..end];
        let mut reference: Vec<f64> = inside.iter().map(|&count| count as f64).collect();
        reference[0] += sum(&histogram.counts[..first]);
        *reference.last_mut().unwrap() += sum(&histogram.counts[end..]);
        let mut spread = vec![0.0; inside.len()];
        let levels = (levels as usize).min(inside.len());
        for level in 0..levels {
            let bins = level * inside.len() / levels..(level + 1) * inside.len() / levels;
            let held = inside[bins.clone()].iter().filter(|count| **count > 0).count();
            let share = sum(&inside[bins.clone()]) / held.max(1) as f64;
            bins.filter(|&bin| inside[bin] > 0).for_each(|bin| spread[bin] = share);
        }
        let (p_total, q_total): (f64, f64) = (reference.iter().sum(), spread.iter().sum());
        let term = |(&p, &q): (&f64, &f64)| match (p > 0.0, q > 0.0) {
            (false, _) => 0.0,
            (true, true) => p / p_total * ((p / p_total) / (q / q_total)).ln(),
            (true, false) => p / p_total * ((p / p_total) * 1e9).ln().max(0.0),
        };
        if q_total == 0.0 { f64::INFINITY } else { reference.iter().zip(&spread).map(term).sum() }
    }

    #[test]
    fn empty_bins_are_passed_over_without_a_word_about_them() {
        let few = |values: &[f32]| {
            let mut histogram = Histogram::new(Range { min: -3.0, max: 5.0 });
            histogram.add(values);
            histogram
        };
        for histogram in [bell(), few(&[-3.0, 5.0, 0.1, 0.1, 4.99]), few(&[2.5]), few(&[])] {
            for (range, levels) in histogram.shrunk().into_iter().flat_map(|range| [(range, 256), (range, 7)]) {
                let by_bins = histogram.divergence(&histogram.held(), range, levels);
                assert_eq!(by_bins.to_bits(), divergence(&histogram, range, levels).to_bits(), "{range:?}, {levels}");
            }
        }
    }

    #[test]
    fn what_is_evenly_spread_is_kept_whole() {
        let mut histogram = Histogram::new(Range { min: 0.0, max: 1.0 });
        histogram.add(&(1..=10_000).map(|i| i as f32 / 10_000.0).collect::<Vec<_>>());
        let range = histogram.least_squares(256);
        assert!(range.min == 0.0 && range.max > 0.97, "{range:?}");
    }

    #[test]
    fn counts_do_not_depend_on_who_counts() {
        let mut parts = Histogram::new(Range { min: -1.0, max: 1.0 });
        let mut other = parts.clone();
        let mut whole = parts.clone();
        parts.add(&[0.5, -0.25, 0.0]);
        other.add(&[1.0, -1.0]);
        whole.add(&[0.5, 1.0, -0.25, -1.0, 0.0]);
        parts.merge(&other);
        assert_eq!((parts.counts, parts.zeros), (whole.counts, whole.zeros));
    }
}
