//! Scores of classes: smoothed, ranked, and turned into a state with hysteresis.

use super::{Recent, Top, Verdict};
use crate::sensor::recipe::ClassRule;

pub struct ClassDecider {
    rule: ClassRule,
    labels: Vec<String>,
    recent: Recent,
    scores: Vec<f32>,
    /// Softmax of one window.
    probabilities: Vec<f32>,
    ranked: Vec<(usize, f32)>,
    state: Option<usize>,
    /// What the state would become, and for how many windows in succession that has been so.
    next: (Option<usize>, u32),
}

impl ClassDecider {
    pub fn new(rule: ClassRule, labels: Vec<String>) -> ClassDecider {
        let classes = labels.len();
        ClassDecider {
            recent: Recent::new(rule.smooth, classes),
            scores: vec![0.0; classes],
            probabilities: vec![0.0; classes],
            ranked: Vec::with_capacity(classes),
            state: None,
            next: (None, 0),
            labels,
            rule,
        }
    }

    pub fn decide(&mut self, output: &[f32]) -> (Verdict<'_>, bool) {
        self.probabilities.copy_from_slice(output);
        if self.rule.softmax {
            softmax(&mut self.probabilities);
        }
        self.recent.mean(&self.probabilities, &mut self.scores);
        self.ranked.clear();
        self.ranked.extend(self.scores.iter().copied().enumerate());
        // By falling score, and the first of equals first; unstable sorting needs no memory.
        self.ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let best = self.ranked.first().copied().unwrap_or((0, 0.0));
        let changed = self.step(best);

        let label = |index: usize| self.labels.get(index).map_or("", String::as_str);
        let shown = self.ranked.get(..self.rule.top.min(self.ranked.len())).unwrap_or_default();
        let top = Top { ranked: shown, labels: &self.labels };
        let verdict = Verdict::Class { label: label(best.0), score: best.1, state: self.state.map(label), top };
        (verdict, changed)
    }

    /// Moves the state on; says whether it changed.
    fn step(&mut self, (best, score): (usize, f32)) -> bool {
        let holds = |class: usize| self.scores.get(class).is_some_and(|score| *score >= self.rule.release);
        let target = if score >= self.rule.threshold && !self.rule.ignore.contains(&best) {
            Some(best)
        } else {
            self.state.filter(|class| holds(*class))
        };
        if target == self.state {
            self.next = (target, 0);
            return false;
        }
        let windows = if self.next.0 == target { self.next.1 + 1 } else { 1 };
        self.next = (target, windows);
        let changed = windows >= self.rule.debounce;
        if changed {
            self.state = target;
            self.next.1 = 0;
        }
        changed
    }
}

fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::recipe::Emit;

    fn rule() -> ClassRule {
        ClassRule {
            softmax: false,
            smooth: 1,
            threshold: 0.8,
            release: 0.5,
            debounce: 1,
            ignore: vec![2],
            top: 2,
            emit: Emit::Every,
        }
    }

    fn states(rule: ClassRule, scores: &[[f32; 3]]) -> Vec<Option<String>> {
        let mut decider = ClassDecider::new(rule, ["a", "b", "rest"].map(str::to_owned).into());
        let state = |scores: &[f32; 3]| match decider.decide(scores).0 {
            Verdict::Class { state, .. } => state.map(str::to_owned),
            Verdict::Anomaly { .. } => panic!("classes"),
        };
        scores.iter().map(state).collect()
    }

    #[test]
    fn a_class_holds_until_it_is_below_its_release() {
        let a = Some("a".to_owned());
        let scores = [[0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1], [0.1, 0.0, 0.9]];
        assert_eq!(states(rule(), &scores), [None, a.clone(), a, None, None]);
    }

    #[test]
    fn another_class_takes_over_and_one_window_is_not_enough_when_debounced() {
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let scores = [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]];
        assert_eq!(states(rule(), &scores), [a.clone(), b.clone(), a.clone(), a.clone(), b]);
        let debounced = ClassRule { debounce: 2, ..rule() };
        assert_eq!(states(debounced, &scores), [None, None, None, a.clone(), a]);
    }

    #[test]
    fn scores_are_averaged_and_ranked() {
        let mut decider =
            ClassDecider::new(ClassRule { smooth: 2, ..rule() }, ["a", "b", "rest"].map(str::to_owned).into());
        decider.decide(&[1.0, 0.0, 0.0]);
        let (Verdict::Class { top, .. }, _) = decider.decide(&[0.0, 0.5, 0.5]) else { panic!("classes") };
        let ranked: Vec<_> = top.iter().map(|class| (class.label, class.score)).collect();
        assert_eq!(ranked, [("a", 0.5), ("b", 0.25)]);
    }

    #[test]
    fn logits_become_probabilities() {
        let mut values = [1000.0, 1000.0, f32::NEG_INFINITY];
        softmax(&mut values);
        assert_eq!(values, [0.5, 0.5, 0.0]);
    }
}
