//! What can be wrong with a plan file, and how it is put right.

use std::path::{Path, PathBuf};

use tractlet_core::isa::Isa;
use tractlet_core::plan::PlanError;

use crate::engine::EngineChoice;
use crate::model::{Fault, ModelError};
#[cfg(feature = "torch")]
use crate::torchscript::TorchError;

/// A plan file that cannot be taken or written: which file, what is wrong, and the command that makes it anew.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), fault.text(path, model))]
pub struct PlanFileError {
    path: PathBuf,
    /// File name of its model, where it is known.
    model: String,
    #[source]
    fault: Box<PlanFault>,
}

/// The kinds of [`PlanFileError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanFileErrorKind {
    /// The file cannot be opened, read or written.
    Io,
    /// A size is above the [`Limits`](crate::Limits), or a [`Cap`](crate::footprint::Cap) leaves no room for it.
    Limit,
    /// The bytes are no plan, or not those that were written.
    Damaged,
    /// It was written by another version of tractlet.
    Version,
    /// It is packed for an instruction set that this CPU does not have.
    Isa,
    /// It was compiled from another model, or from another state of it.
    Stale,
    /// What was asked for is a model's to give, not a plan's.
    Options,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PlanFault {
    #[error(transparent)]
    File(Fault),
    #[error("cannot write it: {0}")]
    Write(std::io::Error),
    #[error(transparent)]
    Plan(PlanError),
    #[error("it is for the instruction set {found}")]
    Isa { found: Isa, held_to: Option<Isa> },
    #[error("{0}")]
    Variable(String),
    #[error("it was compiled from another model")]
    Stale { found: String, expected: String, model: PathBuf },
    #[error("a plan is run by the engine plan alone")]
    Engine(EngineChoice),
    #[error("a plan has no open dimension `{0}`")]
    Binding(String),
    #[error("the plan runs by hops of {stated} rows, not of {asked}")]
    Hop { stated: usize, asked: usize },
    #[error("a plan's inputs cannot be fixed, as `{0}` is to be")]
    Set(String),
}

impl PlanFileError {
    pub(super) fn new(path: &Path, fault: PlanFault) -> PlanFileError {
        PlanFileError::of_model(path, "", fault)
    }

    pub(super) fn of_model(path: &Path, model: &str, fault: PlanFault) -> PlanFileError {
        PlanFileError { path: path.to_owned(), model: model.to_owned(), fault: Box::new(fault) }
    }

    /// The plan file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> PlanFileErrorKind {
        match &*self.fault {
            PlanFault::File(Fault::Limit { .. } | Fault::Room(_)) => PlanFileErrorKind::Limit,
            PlanFault::File(_) | PlanFault::Write(_) => PlanFileErrorKind::Io,
            PlanFault::Plan(PlanError::Version { .. }) => PlanFileErrorKind::Version,
            PlanFault::Plan(PlanError::Isa(_)) | PlanFault::Isa { .. } => PlanFileErrorKind::Isa,
            PlanFault::Plan(_) => PlanFileErrorKind::Damaged,
            PlanFault::Stale { .. } => PlanFileErrorKind::Stale,
            PlanFault::Variable(_)
            | PlanFault::Engine(_)
            | PlanFault::Binding(_)
            | PlanFault::Hop { .. }
            | PlanFault::Set(_) => PlanFileErrorKind::Options,
        }
    }
}

impl PlanFault {
    /// The fault, what was expected, and what to do about it.
    fn text(&self, path: &Path, model: &str) -> String {
        let model = if model.is_empty() { "MODEL.onnx" } else { model };
        let compile_to =
            |model: &str, output: &str, option: &str| format!("tractlet compile {} -o {output}{option}", quoted(model));
        let compile = |model: &str, option: &str| compile_to(model, &quoted(&path.display().to_string()), option);
        let anew = || format!("make it anew: {}", compile(model, ""));
        match self {
            PlanFault::File(_) | PlanFault::Write(_) | PlanFault::Variable(_) => self.to_string(),
            // What it is instead should not be written over.
            PlanFault::Plan(PlanError::NotAPlan) => {
                "not a plan; make one: tractlet compile MODEL.onnx -o X.plan".to_owned()
            }
            PlanFault::Plan(error @ (PlanError::Version { .. } | PlanError::Checksum | PlanError::Isa(_))) => {
                format!("{error}; {}", anew())
            }
            PlanFault::Plan(error) => format!("plan is damaged: {error}; {}", anew()),
            // It may be a board's: what is to run here gets another name, and does not take its place.
            PlanFault::Isa { found, held_to: Some(isa) } => {
                let beside = compile_to(model, "OTHER.plan", &format!(" --isa {isa}"));
                format!(
                    "plan is for the instruction set {found}, TRACTLET_ISA is {isa}; compile one for that under another name: {beside}"
                )
            }
            PlanFault::Isa { found, held_to: None } => {
                let here: Vec<&str> = Isa::ALL.iter().filter(|isa| isa.is_available()).map(|isa| isa.name()).collect();
                let (here, beside) = (here.join(", "), compile_to(model, "OTHER.plan", ""));
                format!(
                    "plan is for the instruction set {found}, this CPU has {here}; run it on a CPU with {found}, or compile one for this CPU under another name: {beside}"
                )
            }
            PlanFault::Stale { found, expected, model: path } => {
                let anew = compile(&path.display().to_string(), "");
                let path = path.display();
                format!(
                    "plan is stale: made from a model of SHA-256 {found}, and {path} has {expected}; make it anew: {anew}"
                )
            }
            // It would not take the model either.
            PlanFault::Engine(EngineChoice::Torch) => self.to_string(),
            PlanFault::Engine(engine) => format!("{self}; give {engine} the model: {model}"),
            PlanFault::Hop { asked, .. } => {
                format!("{self}; make it anew: {}", compile(model, &format!(" --hop {asked}")))
            }
            PlanFault::Set(input) => {
                let option = format!(" --set {}", quoted(&format!("{input}=VALUE")));
                format!("{self}; fix it where the plan is made: {}", compile(model, &option))
            }
            PlanFault::Binding(symbol) => {
                let option = format!(" --dim {symbol}=SIZE");
                format!("{self}: its sizes were set when it was made; make it anew: {}", compile(model, &option))
            }
        }
    }
}

/// A word of a command for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Why what a MODEL names cannot be had: the error of a model, of a plan, or of a TorchScript file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Of a model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Of a plan file.
    #[error(transparent)]
    Plan(#[from] PlanFileError),
    /// Of a TorchScript file.
    #[cfg(feature = "torch")]
    #[error(transparent)]
    Torch(#[from] TorchError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        assert_eq!(quoted("models/kws-2.onnx"), "models/kws-2.onnx");
        assert_eq!(quoted("my model.onnx"), "'my model.onnx'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
