//! `model.toml`: what a model takes from a sensor and what is made of its answers.
//!
//! The file beside a model states input, front end and decision once, so that nobody has to repeat it on a
//! command line. It is parsed into types whose values fit together; what does not is an error that names
//! the field.

mod decision;
mod frontend;
mod input;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use decision::DecisionFile;
pub use decision::{AnomalyRule, ClassRule, DecisionRule, Emit, Limit};
use frontend::FrontendFile;
pub use frontend::{Arithmetic, FrontendKind, Layout, Normalization};
pub(super) use input::RATES_HZ;
pub use input::{Channel, Input};

/// A recipe is a page of text.
const MAX_RECIPE_BYTES: u64 = 64 * 1024;

/// A recipe that cannot be used: which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct RecipeError {
    path: PathBuf,
    what: String,
}

impl RecipeError {
    pub(super) fn new(path: &Path, what: impl Into<String>) -> RecipeError {
        RecipeError { path: path.to_owned(), what: what.into() }
    }
}

/// What a model takes from a sensor, and what its answers mean.
///
/// ```
/// let recipe = tractlet::sensor::Recipe::open("models/kws_dscnn")?;
/// assert_eq!(recipe.input.rate_hz, Some(16000.0));
/// assert_eq!(recipe.labels.len(), 12);
/// # Ok::<(), tractlet::sensor::RecipeError>(())
/// ```
#[derive(Debug)]
pub struct Recipe {
    /// The file that it is from.
    pub path: PathBuf,
    /// The model that it is for.
    pub model: PathBuf,
    /// A label for each class; empty where there are none.
    pub labels: Vec<String>,
    /// The file that they are from, where it is another.
    labels_path: Option<PathBuf>,
    /// What comes in, and how windows are cut.
    pub input: Input,
    /// From a window to the model's input.
    pub frontend: FrontendKind,
    /// From the model's output to a decision.
    pub decision: DecisionRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    model: PathBuf,
    #[serde(default)]
    labels: Option<Labels>,
    input: input::InputFile,
    frontend: Of<frontend::FrontendName>,
    decision: Option<Of<decision::DecisionKind>>,
}

/// What a table is of; the rest of it is read when that is known.
#[derive(Deserialize)]
struct Of<K> {
    kind: K,
}

/// A file of labels, one a line, or the labels themselves.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a file of labels, one a line, or a list of labels")]
enum Labels {
    File(PathBuf),
    List(Vec<String>),
}

impl Recipe {
    /// Finds the recipe of `model`: a folder with a model.toml, such a file, or an .onnx file with one beside it,
    /// which then is the model, whatever the recipe names.
    ///
    /// # Errors
    /// Where there is none, or it is wrong; the message names file, line and field.
    pub fn open(model: impl AsRef<Path>) -> Result<Recipe, RecipeError> {
        let model = model.as_ref();
        let is_recipe = model.extension().is_some_and(|extension| extension == "toml");
        let (path, given) = if model.is_dir() {
            (model.join("model.toml"), None)
        } else if is_recipe {
            (model.to_owned(), None)
        } else if let Err(error) = model.metadata() {
            let what = "expected a folder with a model.toml, such a file, or a model with one beside it";
            return Err(RecipeError::new(model, format!("cannot open it: {error}; {what}")));
        } else {
            (beside(model, Path::new("model.toml")), Some(model))
        };
        let mut recipe =
            Recipe::parse(&path, &read(&path, "a model is streamed to by what a model.toml beside it states")?)?;
        if let Some(given) = given {
            recipe.model = given.to_owned();
        }
        Ok(recipe)
    }

    /// Makes it one for windows that come in messages, which do not overlap. Where they are of several sensors each is judged by
    /// itself and told: no average, debouncing or state goes from one to the next.
    ///
    /// # Errors
    /// Where it asks for a limit that is learnt from one sensor.
    pub fn for_messages(&mut self, one_sensor: bool) -> Result<(), RecipeError> {
        self.input.windowing.hop = self.input.windowing.length;
        if one_sensor {
            return Ok(());
        }
        match &mut self.decision {
            DecisionRule::Classes(rule) => (rule.smooth, rule.debounce, rule.emit) = (1, 1, Emit::Every),
            DecisionRule::Anomaly(AnomalyRule { limit: Limit::Running { .. }, .. }) => {
                let what = "`decision.factor` makes a limit of what one sensor gave, and these windows are of several: give a \
                            fixed `decision.threshold`";
                return Err(RecipeError::new(&self.path, what));
            }
            DecisionRule::Anomaly(rule) => (rule.smooth, rule.debounce, rule.emit) = (1, 1, Emit::Every),
        }
        Ok(())
    }

    /// The files that it was read from, and its model.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.path), Some(&self.model), self.labels_path.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }

    /// The first part that another has otherwise, of all that a stream is set up with before it has a model.
    pub fn differs_in(&self, other: &Recipe) -> Option<&'static str> {
        let parts = [
            ("input", self.input == other.input),
            ("frontend", self.frontend == other.frontend),
            ("labels", self.labels == other.labels),
            ("decision", self.decision == other.decision),
        ];
        parts.into_iter().find(|(_, is_same)| !is_same).map(|(part, _)| part)
    }

    /// Takes `text` for what stands in the file at `path`.
    ///
    /// # Errors
    /// As [`Recipe::open`].
    pub fn parse(path: &Path, text: &str) -> Result<Recipe, RecipeError> {
        let fault = |what: String| RecipeError::new(path, what);
        let file: RecipeFile = crate::from_toml(text).map_err(fault)?;
        let (labels, labels_path) = match file.labels {
            None => (Vec::new(), None),
            Some(Labels::List(labels)) => (labels, None),
            Some(Labels::File(name)) => {
                let named = format!("`labels` of {} names it", path.display());
                let path = beside(path, &name);
                (read(&path, &named)?.lines().map(|line| line.trim().to_owned()).collect(), Some(path))
            }
        };
        // They are shown on terminals, and must not steer them.
        if let Some((index, label)) =
            labels.iter().enumerate().find(|(_, label)| label.contains(|c: char| c.is_control()))
        {
            return Err(fault(format!("`labels`: number {}, {label:?}, has a control character", index + 1)));
        }
        let input = file.input.check().map_err(fault)?;
        let frontend =
            FrontendFile::read(text, file.frontend.kind).and_then(|file| file.check(&input)).map_err(fault)?;
        let decision =
            file.decision.map_or_else(|| Ok(DecisionFile::default()), |of| DecisionFile::read(text, of.kind));
        let decision = decision.and_then(|file| file.check(&labels)).map_err(fault)?;
        let (path, model) = (path.to_owned(), beside(path, &file.model));
        Ok(Recipe { path, model, labels, labels_path, input, frontend, decision })
    }
}

/// A file that another names, in its folder.
fn beside(file: &Path, name: &Path) -> PathBuf {
    file.parent().map_or_else(|| name.to_owned(), |folder| folder.join(name))
}

/// Reads a small file whole; `why` says why there has to be one.
fn read(path: &Path, why: &str) -> Result<String, RecipeError> {
    let fault = |what: String| RecipeError::new(path, what);
    let mut text = String::new();
    // NONBLOCK: opening a pipe must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from);
    let fd = opened.map_err(|error| fault(format!("cannot open it: {error}; {why}")))?;
    let file = File::from(fd);
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(fault("it is no regular file".into()));
    }
    match file.take(MAX_RECIPE_BYTES + 1).read_to_string(&mut text) {
        Err(error) => Err(fault(format!("cannot read it: {error}"))),
        Ok(bytes) if bytes as u64 > MAX_RECIPE_BYTES => Err(fault(format!("has more than {MAX_RECIPE_BYTES} bytes"))),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests;
