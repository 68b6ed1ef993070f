//! `[decision]`: from scores to what is said.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// The most windows that an average goes over.
const MAX_SMOOTH: usize = 1024;

/// How the model's output becomes a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum DecisionRule {
    /// The output is a score for each class.
    Classes(ClassRule),
    /// The output is what the input should have been: the error between both is the score.
    Anomaly(AnomalyRule),
}

/// How scores of classes become a state: none, or the class that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRule {
    /// Whether the output is logits, to which softmax is applied.
    pub softmax: bool,
    /// Windows that scores are averaged over.
    pub smooth: usize,
    /// A class is taken up at this score or above.
    pub threshold: f32,
    /// And given up below this one, which is not above the first.
    pub release: f32,
    /// After as many windows in succession.
    pub debounce: u32,
    /// Classes that are never taken up, by index.
    pub ignore: Vec<usize>,
    /// Classes that a decision lists.
    pub top: usize,
    /// Which windows are told.
    pub emit: Emit,
}

/// How the error between output and input becomes an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyRule {
    /// Windows that errors are averaged over.
    pub smooth: usize,
    /// What is too much.
    pub limit: Limit,
    /// Windows in succession, before an alarm begins or ends.
    pub debounce: u32,
    /// Which windows are told.
    pub emit: Emit,
}

/// What is too much of an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Anything above a number.
    Fixed(f32),
    /// Above mean and `factor` deviations of what was normal so far; nothing in the first `warmup` windows.
    Running {
        /// Deviations.
        factor: f32,
        /// Windows that are taken to be normal.
        warmup: u32,
        /// Weight of a new window in mean and variance, once as many were seen as its inverse.
        rate: f32,
    },
}

/// Which windows are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emit {
    /// Each.
    #[default]
    Every,
    /// Those in which the state changed.
    Change,
}

/// What `kind` says that the table is.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    Classes,
    Anomaly,
}

pub enum DecisionFile {
    Classes(ClassFile),
    Anomaly(AnomalyFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default)]
    softmax: bool,
    #[serde(default = "one")]
    smooth: usize,
    #[serde(default)]
    threshold: f32,
    release: Option<f32>,
    #[serde(default = "one")]
    debounce: u32,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default = "one")]
    top: usize,
    #[serde(default)]
    emit: Emit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnomalyFile {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default = "one")]
    smooth: usize,
    threshold: Option<f32>,
    factor: Option<f32>,
    warmup: Option<u32>,
    rate: Option<f32>,
    #[serde(default = "one")]
    debounce: u32,
    #[serde(default)]
    emit: Emit,
}

/// The table in the text of a recipe.
#[derive(Deserialize)]
struct Holding<T> {
    decision: T,
}

fn one<T: From<u8>>() -> T {
    T::from(1)
}

impl Default for DecisionFile {
    /// The best class of every window.
    fn default() -> DecisionFile {
        DecisionFile::Classes(ClassFile {
            _kind: IgnoredAny,
            softmax: false,
            smooth: 1,
            threshold: 0.0,
            release: None,
            debounce: 1,
            ignore: Vec::new(),
            top: 1,
            emit: Emit::Every,
        })
    }
}

impl DecisionFile {
    /// Reads the table of a recipe as one of that kind: into the type itself, so that a fault has its line.
    pub fn read(text: &str, kind: DecisionKind) -> Result<DecisionFile, String> {
        fn table<T: DeserializeOwned>(text: &str) -> Result<T, String> {
            crate::from_toml(text).map(|Holding { decision }| decision)
        }
        Ok(match kind {
            DecisionKind::Classes => DecisionFile::Classes(table(text)?),
            DecisionKind::Anomaly => DecisionFile::Anomaly(table(text)?),
        })
    }

    pub fn check(self, labels: &[String]) -> Result<DecisionRule, String> {
        match self {
            DecisionFile::Classes(file) => file.check(labels).map(DecisionRule::Classes),
            DecisionFile::Anomaly(AnomalyFile { smooth, threshold, factor, warmup, rate, debounce, emit, .. }) => {
                whole("smooth", smooth, MAX_SMOOTH)?;
                whole("debounce", debounce as usize, MAX_SMOOTH)?;
                let limit = limit(threshold, factor, warmup, rate)?;
                Ok(DecisionRule::Anomaly(AnomalyRule { smooth, limit, debounce, emit }))
            }
        }
    }
}

impl ClassFile {
    fn check(self, labels: &[String]) -> Result<ClassRule, String> {
        let ClassFile { softmax, smooth, threshold, release, debounce, ignore, top, emit, .. } = self;
        whole("smooth", smooth, MAX_SMOOTH)?;
        whole("debounce", debounce as usize, MAX_SMOOTH)?;
        whole("top", top, usize::MAX)?;
        let release = release.unwrap_or(threshold);
        if !(threshold.is_finite() && release <= threshold) {
            return Err(format!(
                "`decision.release` is {release}; expected a number that is not above `decision.threshold`, {threshold}"
            ));
        }
        let index = |label: &String| {
            labels.iter().position(|known| known == label).ok_or_else(|| {
                format!("`decision.ignore` has `{label}`, which is no label; they are {}", labels.join(", "))
            })
        };
        let ignore = ignore.iter().map(index).collect::<Result<_, _>>()?;
        Ok(ClassRule { softmax, smooth, threshold, release, debounce, ignore, top, emit })
    }
}

fn whole(field: &str, value: usize, most: usize) -> Result<(), String> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("`decision.{field}` is {value}; expected 1 to {most}"))
    }
}

fn limit(threshold: Option<f32>, factor: Option<f32>, warmup: Option<u32>, rate: Option<f32>) -> Result<Limit, String> {
    match (threshold, factor) {
        (Some(threshold), None) if threshold.is_finite() && warmup.is_none() && rate.is_none() => {
            Ok(Limit::Fixed(threshold))
        }
        (None, Some(factor)) => {
            let (warmup, rate) = (warmup.unwrap_or(100), rate.unwrap_or(0.001));
            if !(factor.is_finite() && factor > 0.0) {
                return Err(format!("`decision.factor` is {factor}; expected a number above 0"));
            }
            if !(rate > 0.0 && rate <= 1.0) {
                return Err(format!("`decision.rate` is {rate}; expected a number above 0, 1 at most"));
            }
            if warmup < 2 {
                return Err(format!("`decision.warmup` is {warmup} windows; a deviation takes 2 at least"));
            }
            Ok(Limit::Running { factor, warmup, rate })
        }
        _ => {
            Err("an anomaly has a fixed `decision.threshold`, or a `decision.factor` of deviations with `warmup` and \
                  `rate`: give one of the two"
                .into())
        }
    }
}
