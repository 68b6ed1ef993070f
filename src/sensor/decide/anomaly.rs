//! The error of a reconstruction, held against what is too much.

use super::{Recent, Verdict};
use crate::sensor::recipe::{AnomalyRule, Limit};

pub struct AnomalyDecider {
    rule: AnomalyRule,
    recent: Recent,
    normal: Normal,
    alarm: bool,
    /// Windows in succession that speak against the state of the alarm.
    against: u32,
}

/// Mean and variance of scores that were normal.
#[derive(Default)]
struct Normal {
    windows: u32,
    mean: f64,
    variance: f64,
}

impl AnomalyDecider {
    pub fn new(rule: AnomalyRule) -> AnomalyDecider {
        let recent = Recent::new(rule.smooth, 1);
        AnomalyDecider { rule, recent, normal: Normal::default(), alarm: false, against: 0 }
    }

    pub fn decide(&mut self, input: &[f32], output: &[f32]) -> (Verdict<'_>, bool) {
        let off = input.iter().zip(output).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let error = (off.map(|off| off * off).sum::<f64>() / input.len().max(1) as f64) as f32;
        // One that has no number in f32 says nothing of the windows after it.
        let mut mean = [error];
        if error.is_finite() {
            self.recent.mean(&[error], &mut mean);
        }
        let [score] = mean;
        let limit = match self.rule.limit {
            Limit::Fixed(limit) => Some(limit),
            Limit::Running { factor, warmup, .. } => (self.normal.windows >= warmup)
                .then(|| (self.normal.mean + f64::from(factor) * self.normal.variance.sqrt()) as f32),
        };
        let too_much = !score.is_finite() || limit.is_some_and(|limit| limit.is_nan() || score > limit);
        if let (Limit::Running { rate, .. }, false) = (self.rule.limit, too_much) {
            self.normal.learn(score, rate);
        }
        let changed = self.step(too_much);
        (Verdict::Anomaly { score, limit, alarm: self.alarm }, changed)
    }

    fn step(&mut self, too_much: bool) -> bool {
        self.against = if too_much == self.alarm { 0 } else { self.against + 1 };
        let changed = self.against >= self.rule.debounce;
        if changed {
            (self.alarm, self.against) = (too_much, 0);
        }
        changed
    }
}

impl Normal {
    /// A plain mean at first, and one that forgets once `1 / rate` windows were seen (West, "Updating mean and
    /// variance estimates", 1979, with weights that fall).
    fn learn(&mut self, score: f32, rate: f32) {
        self.windows = self.windows.saturating_add(1);
        let weight = f64::from(rate).max(1.0 / f64::from(self.windows));
        let off = f64::from(score) - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::recipe::Emit;

    fn alarms(limit: Limit, debounce: u32, errors: &[f32]) -> Vec<bool> {
        let mut decider = AnomalyDecider::new(AnomalyRule { smooth: 1, limit, debounce, emit: Emit::Every });
        let alarm = |error: &f32| match decider.decide(&[error.sqrt()], &[0.0]).0 {
            Verdict::Anomaly { alarm, .. } => alarm,
            Verdict::Class { .. } => panic!("an anomaly"),
        };
        errors.iter().map(alarm).collect()
    }

    #[test]
    fn a_fixed_limit_with_debouncing() {
        let errors = [1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0, 1.0, 1.0];
        let expected = [false, false, false, false, true, true, true, true, false];
        assert_eq!(alarms(Limit::Fixed(2.0), 2, &errors), expected);
    }

    #[test]
    fn a_running_limit_learns_what_is_normal_and_not_what_is_too_much() {
        let limit = Limit::Running { factor: 4.0, warmup: 50, rate: 0.01 };
        let mut errors: Vec<f32> = (0..200).map(|n| 10.0 + (n % 3) as f32).collect();
        errors.extend([50.0; 500]);
        errors.push(11.0);
        let alarms = alarms(limit, 1, &errors);
        assert!(alarms[..200].iter().all(|alarm| !alarm));
        assert!(alarms[200..700].iter().all(|alarm| *alarm), "a lasting fault does not become normal");
        assert!(!alarms[700]);
    }

    #[test]
    fn an_error_beyond_all_numbers_is_too_much_and_is_not_learnt() {
        let limit = Limit::Running { factor: 4.0, warmup: 50, rate: 0.01 };
        let mut decider = AnomalyDecider::new(AnomalyRule { smooth: 4, limit, debounce: 1, emit: Emit::Every });
        let mut alarm = |value: f32| match decider.decide(&[value], &[0.0]).0 {
            Verdict::Anomaly { alarm, .. } => alarm,
            Verdict::Class { .. } => panic!("an anomaly"),
        };
        let values = |n: usize| 3.0 + (n % 3) as f32 / 10.0;
        (0..10).for_each(|n| assert!(!alarm(values(n))));
        assert!(alarm(3e38), "while what is normal is being learnt");
        assert!(alarm(f32::NAN) && alarm(f32::INFINITY));
        (0..200).for_each(|n| assert!(!alarm(values(n)), "{n}"));
        assert!(alarm(30.0));
    }

    #[test]
    fn mean_and_variance_are_those_of_the_values() {
        let mut normal = Normal::default();
        [1.0, 2.0, 3.0, 4.0].into_iter().for_each(|value| normal.learn(value, 1e-6));
        assert!((normal.mean - 2.5).abs() < 1e-12 && (normal.variance - 1.25).abs() < 1e-12);
    }
}
