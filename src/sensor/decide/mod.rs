//! From the model's output to what is said.

mod anomaly;
mod classes;

use serde::{Serialize, Serializer};

use super::mqtt::Message;
use super::recipe::{DecisionRule, Emit, Recipe};
use anomaly::AnomalyDecider;
use classes::ClassDecider;

/// What is said of a window.
#[derive(Clone, Debug, Serialize)]
pub struct Decision<'a> {
    /// Its number, from 0.
    pub window: u64,
    /// Time of its first frame, in seconds: from the start of a recording, else of day.
    pub from_s: f64,
    /// Time of its last frame.
    pub to_s: f64,
    /// What the model makes of it.
    #[serde(flatten)]
    pub verdict: Verdict<'a>,
    /// Whether the state, or the alarm, is another than one window before.
    pub changed: bool,
    /// From the arrival of its last frame to this decision.
    pub latency_us: u64,
    /// The message that the window came in, where it came in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a Message>,
}

/// What the model makes of a window.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Verdict<'a> {
    /// It tells classes apart.
    Class {
        /// The class with the highest score; its index where there are no labels.
        label: &'a str,
        /// Averaged over windows, where that was asked for.
        score: f32,
        /// The class that holds, after threshold and debouncing; none where none does.
        state: Option<&'a str>,
        /// The classes with the highest scores, as many as were asked for.
        top: Top<'a>,
    },
    /// It says what its input should have been.
    Anomaly {
        /// Mean squared error between output and input, averaged over windows where that was asked for.
        score: f32,
        /// What is too much; none while what is normal is still being learnt.
        limit: Option<f32>,
        /// Whether it is too much, after debouncing.
        alarm: bool,
    },
}

/// The classes with the highest scores, highest first.
#[derive(Clone, Copy, Debug)]
pub struct Top<'a> {
    ranked: &'a [(usize, f32)],
    labels: &'a [String],
}

/// A class and its score.
#[derive(Clone, Copy, Debug, Serialize, PartialEq)]
pub struct ClassScore<'a> {
    /// Its index in the output.
    pub index: usize,
    /// Its label; its index where there are no labels.
    pub label: &'a str,
    /// Averaged over windows, where that was asked for.
    pub score: f32,
}

impl<'a> Top<'a> {
    /// Each with its label.
    pub fn iter(&self) -> impl Iterator<Item = ClassScore<'a>> + use<'a> {
        let labels = self.labels;
        self.ranked.iter().map(move |&(index, score)| {
            let label = labels.get(index).map_or("", String::as_str);
            ClassScore { index, label, score }
        })
    }
}

impl Serialize for Top<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Decides, window after window.
pub struct Decider {
    rule: Rule,
    emit: Emit,
}

enum Rule {
    Classes(ClassDecider),
    Anomaly(AnomalyDecider),
}

impl Decider {
    /// For a model with this many elements in its input and output.
    pub fn new(recipe: &Recipe, input: usize, output: usize) -> Result<Decider, String> {
        match &recipe.decision {
            DecisionRule::Classes(rule) => {
                let labels = match recipe.labels.len() {
                    0 => (0..output).map(|index| index.to_string()).collect(),
                    count if count == output => recipe.labels.clone(),
                    count => return Err(format!("`labels` has {count}, the model gives {output} scores")),
                };
                Ok(Decider { emit: rule.emit, rule: Rule::Classes(ClassDecider::new(rule.clone(), labels)) })
            }
            DecisionRule::Anomaly(_) if input != output => Err(format!(
                "`decision.kind` is anomaly, for models whose output is as long as their input; this one takes {input} \
                 elements and gives {output}"
            )),
            DecisionRule::Anomaly(rule) => {
                Ok(Decider { emit: rule.emit, rule: Rule::Anomaly(AnomalyDecider::new(rule.clone())) })
            }
        }
    }

    /// What is to be said of a window, and whether something changed with it.
    pub fn decide(&mut self, input: &[f32], output: &[f32]) -> (Verdict<'_>, bool) {
        match &mut self.rule {
            Rule::Classes(classes) => classes.decide(output),
            Rule::Anomaly(anomaly) => anomaly.decide(input, output),
        }
    }

    /// Which windows are told.
    pub fn emit(&self) -> Emit {
        self.emit
    }
}

/// The mean of the last few values, kept as they are: sums that are carried on drift over months.
struct Recent {
    values: Vec<f32>,
    /// Values of a window.
    width: usize,
    next: usize,
    filled: usize,
}

impl Recent {
    fn new(windows: usize, width: usize) -> Recent {
        Recent { values: vec![0.0; windows * width], width, next: 0, filled: 0 }
    }

    /// Takes a window's values up and writes the mean over the last windows to `mean`.
    fn mean(&mut self, values: &[f32], mean: &mut [f32]) {
        let windows = self.values.len() / self.width.max(1);
        let place = self.values.chunks_exact_mut(self.width).nth(self.next);
        place.into_iter().flatten().zip(values).for_each(|(place, value)| *place = *value);
        self.next = (self.next + 1) % windows.max(1);
        self.filled = (self.filled + 1).min(windows);
        mean.fill(0.0);
        for window in self.values.chunks_exact(self.width).take(self.filled) {
            mean.iter_mut().zip(window).for_each(|(sum, value)| *sum += value);
        }
        mean.iter_mut().for_each(|sum| *sum /= self.filled as f32);
    }
}
