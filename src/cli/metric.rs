//! Quality over samples.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Share of samples whose largest output is the one that the label names; the first of equals
    Top1,
    /// Area under the ROC curve; a sample's anomaly score is the mean squared error between its
    /// output and its input
    Auc,
    /// Mean squared error between outputs and labels
    Mse,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Top1 => "top1",
            Metric::Auc => "auc",
            Metric::Mse => "mse",
        }
    }

    /// As a person reads it: an error has any magnitude.
    pub fn shown(self, value: f64) -> String {
        match self {
            Metric::Top1 | Metric::Auc => format!("{value:.4}"),
            Metric::Mse => format!("{value:.3e}"),
        }
    }
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub fn mean_squared_error(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / a.len() as f64
}

/// The probability that a positive scores above a negative, ties counting half; `None` unless
/// there is one of each. Scores are not NaN.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut ranked: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut positives, mut pairs) = (0.0, 0.0, 0.0);
    for equals in ranked.chunk_by(|a, b| a.0 == b.0) {
        let here = equals.iter().filter(|(_, positive)| *positive).count() as f64;
        let others = equals.len() as f64 - here;
        pairs += here * (below + others / 2.0);
        below += others;
        positives += here;
    }
    (positives > 0.0 && below > 0.0).then(|| pairs / (positives * below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_pairs_and_half_of_the_ties() {
        let labels = [false, false, true, true];
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &labels), Some(0.75));
        assert_eq!(auc(&[0.1, 0.2, 0.3, 0.4], &labels), Some(1.0));
        assert_eq!(auc(&[5.0; 4], &labels), Some(0.5));
        assert_eq!(auc(&[0.0, -0.0, 0.0, 0.0], &labels), Some(0.5));
        assert_eq!(auc(&[0.1, 0.2], &[true, true]), None);
    }

    #[test]
    fn squared_errors_are_averaged() {
        assert_eq!(mean_squared_error(&[1.0, 2.0], &[1.0, 4.0]), 2.0);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
    }
}
