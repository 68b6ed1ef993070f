//! How far values are from those of a reference, summed up as they come.

use super::LayerError;
use super::pairs::{Pair, Span};
use crate::judge::Power;

/// Sums over values of the reference `r` and of the model `f`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Products {
    rr: f64,
    rf: f64,
    ff: f64,
}

impl Products {
    pub fn plus(self, other: Products) -> Products {
        Products { rr: self.rr + other.rr, rf: self.rf + other.rf, ff: self.ff + other.ff }
    }

    /// What the reference's values are multiplied by in the model, by least squares; none where they are not the same but
    /// for a factor.
    fn factor(self) -> Option<f64> {
        (self.rf > 0.0 && self.cosine() >= ALIKE).then(|| self.rf / self.rr)
    }

    fn cosine(self) -> f64 {
        if self.rr == 0.0 && self.ff == 0.0 { 1.0 } else { self.rf / (self.rr * self.ff).sqrt().max(f64::MIN_POSITIVE) }
    }

    /// What the reference's values have of power, and their error; of an infinite one where that is the largest difference.
    pub fn power(self, max_abs: f64) -> Power {
        let noise = if max_abs.is_finite() { (self.rr - 2.0 * self.rf + self.ff).max(0.0) } else { f64::INFINITY };
        Power { signal: self.rr, noise }
    }
}

/// A channel of a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    pub all: Products,
    /// Of what does not lie at an end of the range.
    within: Products,
}

impl Channel {
    /// The factor of a channel that has one which rounding does not make.
    fn scaled(&self) -> Option<f64> {
        self.within.factor().filter(|factor| (factor - 1.0).abs() > SCALED)
    }
}

/// What was seen of a tensor, channel by channel.
pub struct Sums {
    channels: Vec<Channel>,
    /// Infinite where one value is not finite, and the other another.
    pub max_abs: f64,
    outside: usize,
    pub count: usize,
    pub comparable: bool,
}

/// A factor this far from 1 is none that rounding makes.
const SCALED: f64 = 0.1;
/// The least cosine of a channel with its reference at which both are said to be the same but for a factor.
const ALIKE: f64 = 0.95;

impl Sums {
    pub fn new(channels: usize) -> Sums {
        let channels = vec![Channel::default(); channels.max(1)];
        Sums { channels, max_abs: 0.0, outside: 0, count: 0, comparable: true }
    }

    pub fn add(&mut self, reference: &[f32], found: &[f32], range: Option<Span>) {
        let inner = (reference.len() / self.channels.len()).max(1);
        for (channel, (reference, found)) in
            self.channels.iter_mut().zip(reference.chunks(inner).zip(found.chunks(inner)))
        {
            for (&r, &f) in reference.iter().zip(found) {
                if !r.is_finite() || !f.is_finite() {
                    let same = r == f || (r.is_nan() && f.is_nan());
                    self.max_abs = if same { self.max_abs } else { f64::INFINITY };
                    continue;
                }
                let at_an_end = range.is_some_and(|range| range.is_end(f));
                let (r, f) = (f64::from(r), f64::from(f));
                self.max_abs = self.max_abs.max((r - f).abs());
                let products = Products { rr: r * r, rf: r * f, ff: f * f };
                channel.all = channel.all.plus(products);
                if !at_an_end {
                    channel.within = channel.within.plus(products);
                }
            }
            if let Some(range) = range {
                let factor = channel.scaled().unwrap_or(1.0) as f32;
                self.outside += reference.iter().filter(|&&value| range.cuts_off(value * factor)).count();
            }
        }
        self.count += reference.len();
    }

    /// Over all channels, of what `of` makes of each.
    pub fn total(&self, of: impl Fn(&Channel) -> Products) -> Products {
        self.channels.iter().map(of).fold(Products::default(), Products::plus)
    }

    pub fn layer(self, pair: &Pair) -> LayerError {
        let carries = self.total(|channel| channel.all).rr * 1e-4 / self.channels.len() as f64;
        let is_scaled = |channel: &Channel| channel.all.rr > carries && channel.scaled().is_some();
        let scaled = !pair.is_output && self.channels.iter().any(is_scaled);
        let less = |channel: &Channel| {
            let factor = channel.within.factor().filter(|_| scaled).unwrap_or(1.0);
            let Products { rr, rf, ff } = channel.all;
            Products { rr, rf: rf / factor, ff: ff / (factor * factor) }
        };
        let total = self.total(less);
        LayerError {
            tensor: pair.tensor.clone(),
            node: pair.node.clone(),
            op: pair.op.clone(),
            sqnr_db: total.power(self.max_abs).sqnr_db(),
            max_abs: (!scaled).then_some(self.max_abs as f32),
            saturation: self.outside as f64 / self.count.max(1) as f64,
            cosine: if self.max_abs.is_finite() { total.cosine() } else { f64::NAN },
            scaled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Comparison;

    fn pair() -> Pair {
        let (tensor, seen, node, op) = ("t".into(), "t".into(), "n".into(), "Conv".into());
        Pair { index: 0, tensor, seen, node, op, range: None, is_output: false }
    }

    #[test]
    fn channels_by_factors_are_compared_less_their_factors() {
        let mut sums = Sums::new(2);
        sums.add(&[1.0, 2.0, 3.0, 4.0], &[4.0, 8.0, 1.5, 2.0], None);
        let layer = sums.layer(&pair());
        assert!(layer.scaled && layer.max_abs.is_none() && layer.sqnr_db > 100.0, "{layer:?}");
    }

    /// Nothing behind an output could make up for a factor.
    #[test]
    fn a_factor_of_an_output_is_an_error() {
        let mut sums = Sums::new(1);
        sums.add(&[1.0, 2.0], &[2.0, 4.0], None);
        let layer = sums.layer(&Pair { is_output: true, ..pair() });
        assert_eq!((layer.scaled, layer.max_abs, layer.sqnr_db), (false, Some(2.0), 0.0));
    }

    #[test]
    fn outputs_count_alike_however_loud_they_are() {
        let of = |loud: f32| {
            let (mut one, mut other) = (Sums::new(1), Sums::new(1));
            one.add(&[loud], &[loud], None);
            other.add(&[1.0], &[0.0], None);
            Comparison::of_outputs(&[one, other], None, 1).output
        };
        for loud in [1.0, 1000.0] {
            assert!((of(loud).sqnr_db - 10.0 * 2f64.log10()).abs() < 1e-9, "{:?}", of(loud));
            assert_eq!((of(loud).worst_db, of(loud).agreement), (0.0, None));
        }
    }

    #[test]
    fn what_the_range_does_not_hold_is_counted() {
        let mut sums = Sums::new(1);
        let range = Span { low: -9.8, high: 10.9, half: 0.1 };
        sums.add(&[0.0, 10.0, -10.0, 3.0], &[0.0, 10.0, -10.0, 2.0], Some(range));
        let layer = sums.layer(&pair());
        assert_eq!((layer.saturation, layer.max_abs, layer.scaled), (0.25, Some(1.0), false));
        assert!((layer.sqnr_db - 10.0 * 209f64.log10()).abs() < 1e-9);
    }

    #[test]
    fn a_value_that_is_no_number_is_the_worst_there_is() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut sums = Sums::new(1);
            sums.add(&[1.0, 2.0], &[1.0, broken], None);
            let output = Comparison::of_outputs(&[sums], Some(0), 1);
            assert_eq!((output.output.sqnr_db, output.output_max_abs), (-150.0, f32::INFINITY));
            let mut sums = Sums::new(1);
            sums.add(&[1.0, 2.0], &[1.0, broken], None);
            let layer = sums.layer(&pair());
            assert_eq!((layer.sqnr_db, layer.max_abs), (-150.0, Some(f32::INFINITY)));
            assert!(layer.cosine.is_nan());
            // What both have is no difference.
            let mut sums = Sums::new(1);
            sums.add(&[1.0, broken], &[1.0, broken], None);
            assert_eq!(sums.layer(&pair()).sqnr_db, 150.0);
        }
    }

    #[test]
    fn what_is_cut_off_is_not_scaled() {
        let reference: Vec<f32> = (0..100).map(|i| i as f32 / 10.0).collect();
        let range = Span { low: 0.0, high: 5.0, half: 0.01 };
        let found = |factor: f32| reference.iter().map(|r| (r * factor).min(5.0)).collect::<Vec<_>>();
        for (factor, saturation) in [(1.0, 0.49), (3.0, 0.83)] {
            let mut sums = Sums::new(1);
            sums.add(&reference, &found(factor), Some(range));
            let layer = sums.layer(&pair());
            assert_eq!((layer.scaled, layer.saturation), (factor > 1.0, saturation));
            assert!(layer.sqnr_db < 10.0, "{layer:?}");
        }
    }

    #[test]
    fn noise_is_no_factor() {
        let mut sums = Sums::new(1);
        sums.add(&[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 3.0, 0.0], None);
        let layer = sums.layer(&pair());
        assert!(!layer.scaled && layer.max_abs == Some(4.0), "{layer:?}");
    }
}
