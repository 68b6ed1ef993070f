//! Einsum: sums of products, by letters for dimensions.

use std::collections::BTreeMap;

use super::context::Context;
use super::fact::{Fact, broadcast, show};
use super::{Misfit, Ruled};

pub(super) fn einsum(c: &Context<'_>) -> Ruled<Vec<Option<Fact>>> {
    let equation: String = c.text("equation").unwrap_or_default().chars().filter(|sign| *sign != ' ').collect();
    let misfit = |what: String| Misfit::Attribute(format!("attribute `equation` is `{equation}`: {what}"));
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, Some(result)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = terms.split(',').collect();
    if terms.len() != c.inputs.len() {
        return Err(misfit(format!("{} terms for {} inputs", terms.len(), c.inputs.len())));
    }
    // Dimensions without letters are for engines to count.
    if equation.contains("...") {
        return Ok(vec![Some(Fact::new(c.dtype(0), None))]);
    }
    if let Some(other) = terms.concat().chars().chain(result.unwrap_or_default().chars()).find(|l| !l.is_alphabetic()) {
        return Err(misfit(format!("`{other}` is no letter")));
    }
    let mut sizes = BTreeMap::<char, (Option<usize>, usize)>::new();
    for (index, term) in terms.iter().enumerate() {
        let letters = term.chars().count();
        if let Some(dims) = c.dims(index).filter(|dims| dims.len() != letters) {
            return Err(Misfit::Shape(format!("input {} does not fit term `{term}` of its equation", show(dims))));
        }
        for (at, letter) in term.chars().enumerate() {
            let dim = c.dims(index).and_then(|dims| dims.get(at).copied()).flatten();
            let (size, times) = sizes.entry(letter).or_insert((dim, 0));
            let both = broadcast(&vec![*size], &vec![dim]);
            let both =
                both.map_err(|_| Misfit::Shape(format!("dimension `{letter}` of its equation has two sizes")))?;
            (*size, *times) = (both.first().copied().flatten(), *times + 1);
        }
    }
    let once = || sizes.iter().filter(|(_, (_, times))| *times == 1).map(|(letter, _)| *letter).collect();
    let result: Vec<char> = result.map_or_else(once, |result| result.chars().collect());
    let size = |(at, letter): (usize, &char)| match sizes.get(letter) {
        Some((size, _)) if !result.iter().take(at).any(|before| before == letter) => Ok(*size),
        Some(_) => Err(misfit(format!("its result has `{letter}` twice"))),
        None => Err(misfit(format!("no term has `{letter}` of the result"))),
    };
    let dims = result.iter().enumerate().map(size).collect::<Ruled<_>>()?;
    Ok(vec![Some(Fact::new(c.dtype(0), Some(dims)))])
}
