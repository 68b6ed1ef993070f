//! Einsum: sums of products, by labels for dimensions.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::context::Context;
use super::fact::{Fact, broadcast};
use super::{Misfit, Ruled};

/// The label of a dimension. Ordered as those of a result that an equation does not spell out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    /// One of those that an ellipsis stands for, counted from the last.
    Rest(Reverse<usize>),
    Letter(char),
}

/// An equation, with a label for each dimension of the inputs and of the result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Equation {
    pub terms: Vec<Vec<Label>>,
    pub result: Vec<Label>,
}

impl Equation {
    /// `ranks` are those of the inputs. `None` where it is not known how many dimensions an ellipsis stands for.
    pub fn parse(text: &str, ranks: &[Option<usize>]) -> Result<Option<Equation>, String> {
        let text: String = text.chars().filter(|sign| *sign != ' ').collect();
        let (terms, result) = match text.split_once("->") {
            Some((terms, result)) => (terms, Some(result)),
            None => (text.as_str(), None),
        };
        let written = terms.split(',').map(Written::parse).collect::<Result<Vec<_>, _>>()?;
        if written.len() != ranks.len() {
            return Err(format!("{} terms for {} inputs", written.len(), ranks.len()));
        }
        let mut rests = vec![];
        for ((index, term), rank) in written.iter().enumerate().zip(ranks) {
            let letters = term.before.len() + term.after.len();
            rests.push(match rank.map(|rank| rank.checked_sub(letters)) {
                Some(Some(rest)) if rest == 0 || term.ellipsis => Some(rest),
                Some(_) => return Err(format!("input {index} has not as many dimensions as its term")),
                None if term.ellipsis => None,
                None => Some(0),
            });
        }
        let result = result.map(Written::parse).transpose()?;
        let Some(rests) = rests.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let terms: Vec<Vec<Label>> = written.iter().zip(&rests).map(|(term, &rest)| term.labels(rest)).collect();
        let result = match result {
            Some(result) => result.labels(if result.ellipsis { rests.into_iter().max().unwrap_or(0) } else { 0 }),
            None => once(&terms),
        };
        for (at, label) in result.iter().enumerate() {
            let Label::Letter(letter) = label else { continue };
            if result[..at].contains(label) {
                return Err(format!("its result has `{letter}` twice"));
            }
            if !terms.concat().contains(label) {
                return Err(format!("no term has `{letter}` of the result"));
            }
        }
        Ok(Some(Equation { terms, result }))
    }
}

/// A term or a result: the letters before an ellipsis and behind it.
struct Written {
    before: Vec<char>,
    ellipsis: bool,
    after: Vec<char>,
}

impl Written {
    fn parse(text: &str) -> Result<Written, String> {
        let (before, after) = text.split_once("...").unwrap_or((text, ""));
        if let Some(other) = before.chars().chain(after.chars()).find(|sign| !sign.is_alphabetic()) {
            return Err(format!("`{other}` is no letter"));
        }
        let ellipsis = text.contains("...");
        Ok(Written { before: before.chars().collect(), ellipsis, after: after.chars().collect() })
    }

    fn labels(&self, rest: usize) -> Vec<Label> {
        let letters = |letters: &[char]| letters.iter().copied().map(Label::Letter).collect::<Vec<_>>();
        let rest = (0..rest).rev().map(|at| Label::Rest(Reverse(at))).collect();
        [letters(&self.before), rest, letters(&self.after)].concat()
    }
}

/// The result where none is spelled out: what ellipses stand for, and the letters that are there once.
fn once(terms: &[Vec<Label>]) -> Vec<Label> {
    let mut times = BTreeMap::<Label, usize>::new();
    terms.iter().flatten().for_each(|label| *times.entry(*label).or_default() += 1);
    let wanted = |(label, times): (Label, usize)| (times == 1 || matches!(label, Label::Rest(_))).then_some(label);
    times.into_iter().filter_map(wanted).collect()
}

pub(super) fn einsum(c: &Context<'_>) -> Ruled<Vec<Option<Fact>>> {
    let text = c.text("equation").unwrap_or_default();
    let misfit = |what: String| Misfit::Attribute(format!("attribute `equation` is `{text}`: {what}"));
    let ranks: Vec<Option<usize>> = (0..c.inputs.len()).map(|index| c.dims(index).map(Vec::len)).collect();
    let Some(Equation { terms, result }) = Equation::parse(text, &ranks).map_err(misfit)? else {
        return Ok(vec![Some(Fact::new(c.dtype(0), None))]);
    };
    let mut sizes = BTreeMap::<Label, Option<usize>>::new();
    for (index, term) in terms.iter().enumerate() {
        for (at, label) in term.iter().enumerate() {
            let dim = c.dims(index).and_then(|dims| dims.get(at).copied()).flatten();
            let size = sizes.entry(*label).or_insert(dim);
            let both = broadcast(&vec![*size], &vec![dim]);
            let both = both.map_err(|_| match label {
                Label::Letter(letter) => {
                    Misfit::Shape(format!("dimension `{letter}` of its equation `{text}` has two sizes"))
                }
                Label::Rest(_) => {
                    Misfit::Shape(format!("what `...` of its equation `{text}` stands for has two sizes"))
                }
            })?;
            *size = both.first().copied().flatten();
        }
    }
    let dims = result.iter().map(|label| sizes.get(label).copied().flatten()).collect();
    Ok(vec![Some(Fact::new(c.dtype(0), Some(dims)))])
}
