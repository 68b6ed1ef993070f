//! Layers that stay in float, as few as reach a wanted quality.
//!
//! A layer's sensitivity is the error at the output with it alone quantized. The most sensitive ones are kept in
//! float, as many as the whole model needs to be good enough, found in steps that halve. Where that would be all of them,
//! ranges and weights are fitted anew to what is left.

use std::collections::{BTreeMap, HashSet};

use crate::emit::Emitted;
use crate::judge::{Judge, Score};
use crate::quantizer::Fitted;
use crate::sites::Sites;
use crate::{Progress, QuantizeError};

/// A quality to reach, on the calibration samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// SQNR at each output, in dB.
    SqnrDb(f64),
    /// At most this share of samples with another [answer](Score::agreement) than the float model's.
    Drop(f64),
}

impl Target {
    fn is_met(self, score: Score) -> bool {
        match self {
            Target::SqnrDb(db) => score.worst_db >= db,
            Target::Drop(share) => score.agreement.is_some_and(|agreement| 1.0 - agreement <= share + 1e-9),
        }
    }

    /// Refuses what the model cannot be held to.
    ///
    /// # Errors
    /// Its first output gives no answers.
    pub fn expect_sense(self, judge: &Judge<'_>) -> Result<(), QuantizeError> {
        if matches!(self, Target::Drop(_)) && !judge.has_answers() {
            let what =
                "its first output is one number that no Sigmoid makes, or no float32, and no answer among several";
            return Err(QuantizeError::OutOfReach(format!("other answers cannot be counted: {what}; ask for an SQNR")));
        }
        Ok(())
    }

    fn words(self, score: Score) -> String {
        match self {
            Target::SqnrDb(db) => format!("an SQNR of {db} dB was asked for and is {:.1} dB", score.worst_db),
            Target::Drop(share) => {
                let (asked, found) = (100.0 * share, 100.0 * (1.0 - score.agreement.unwrap_or_default()));
                format!("at most {asked} % of other answers were asked for, and there are {found:.1} %")
            }
        }
    }
}

/// What was decided.
pub struct Mixed<'a> {
    /// What the ranges and weights are of.
    pub fitted: Fitted<'a>,
    /// The sites that are left.
    pub sites: Sites,
    /// Sites that went to float, by name, each with its sensitivity in dB.
    pub kept: BTreeMap<String, f64>,
}

impl<'a> Mixed<'a> {
    /// All that can be quantized.
    pub fn whole(fitted: Fitted<'a>) -> Mixed<'a> {
        Mixed { sites: fitted.work.sites.clone(), fitted, kept: BTreeMap::new() }
    }

    /// The model with what is left.
    pub fn emit(&self) -> Emitted {
        emit(&self.fitted, &self.sites)
    }
}

/// Keeps the fewest layers in float that meet the target. `anew` fits ranges and weights with these nodes in float: a layer that
/// fails leaves nothing for others to be fitted to, so that without it they may do better than they did.
///
/// # Errors
/// No way is found that meets it short of all in float, or not even that does; or the engine fails.
pub fn keep_fewest<'a>(
    fitted: Fitted<'a>,
    judge: &Judge<'_>,
    target: Target,
    anew: &dyn Fn(Vec<String>) -> Result<Fitted<'a>, QuantizeError>,
    progress: &dyn Progress,
) -> Result<Mixed<'a>, QuantizeError> {
    let whole = judge.score(&emit(&fitted, &fitted.work.sites))?;
    if target.is_met(whole) {
        return Ok(Mixed::whole(fitted));
    }
    let ranked = sensitivities(&fitted, judge, progress)?;
    let most_sensitive = |count: usize| ranked.iter().take(count).cloned().collect::<BTreeMap<String, f64>>();
    let keep = |kept: &BTreeMap<String, f64>| {
        let asked = fitted.work.options.keep.iter();
        asked.chain(kept.keys()).cloned().collect::<Vec<String>>()
    };
    let left = |count: usize| -> Result<(Sites, Score), QuantizeError> {
        let names = keep(&most_sensitive(count));
        let sites = fitted.work.sites_without(&names.iter().map(String::as_str).collect());
        let score = judge.score(&emit(&fitted, &sites))?;
        Ok((sites, score))
    };
    let (_, score) = left(ranked.len())?;
    if !target.is_met(score) {
        let (words, what) = (target.words(score), "with every layer in float; ask for less");
        return Err(QuantizeError::OutOfReach(format!("{words} {what}")));
    }
    let found = fewest(ranked.len(), |count| {
        let (sites, score) = left(count)?;
        Ok(target.is_met(score).then_some((count, sites)))
    })?;
    if let Some((count, sites)) = found.filter(|(_, sites)| !sites.sites.is_empty()) {
        return Ok(Mixed { kept: most_sensitive(count), sites, fitted });
    }
    let found = fewest(ranked.len(), |count| {
        let kept = most_sensitive(count);
        let fitted = match anew(keep(&kept)) {
            // Nothing is left: the float model, which meets it.
            Err(QuantizeError::NothingToDo(_)) => return Ok(Some(None)),
            fitted => fitted?,
        };
        let mixed = Mixed { kept, ..Mixed::whole(fitted) };
        Ok(target.is_met(judge.score(&mixed.emit())?).then_some(Some(mixed)))
    })?;
    found.flatten().ok_or_else(|| {
        let what = "nothing less than every layer in float was found that reaches it; ask for less";
        QuantizeError::OutOfReach(format!("{}; {what}", target.words(whole)))
    })
}

/// What is found with the least count below `all` with which something is, in steps that halve.
fn fewest<T>(
    all: usize,
    mut with: impl FnMut(usize) -> Result<Option<T>, QuantizeError>,
) -> Result<Option<T>, QuantizeError> {
    let (mut low, mut high, mut best) = (0, all, None);
    while high - low > 1 {
        let middle = low.midpoint(high);
        match with(middle)? {
            Some(found) => (high, best) = (middle, Some(found)),
            None => low = middle,
        }
    }
    Ok(best)
}

/// Each site with the SQNR at the output when it alone is quantized, the lowest first.
fn sensitivities(
    fitted: &Fitted<'_>,
    judge: &Judge<'_>,
    progress: &dyn Progress,
) -> Result<Vec<(String, f64)>, QuantizeError> {
    let sites = &fitted.work.sites.sites;
    progress.begin("sensitivity of layers", sites.len());
    let mut ranked = Vec::new();
    for site in sites {
        let alone = Sites { sites: vec![site.clone()], ..Sites::default() };
        ranked.push((site.name.clone(), judge.score(&emit(fitted, &alone))?.sqnr_db));
        progress.advance(1);
    }
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(ranked)
}

/// The model with some of its sites quantized.
fn emit(Fitted { work, ranges, layers }: &Fitted<'_>, sites: &Sites) -> Emitted {
    let tensors: HashSet<String> = sites.tensors().into_iter().map(|(name, _)| name).collect();
    let nodes: HashSet<usize> = sites.sites.iter().map(|site| site.node).collect();
    let params =
        ranges.params.iter().filter(|(name, _)| tensors.contains(*name)).map(|(n, q)| (n.clone(), *q)).collect();
    let layers = layers.iter().filter(|(node, _)| nodes.contains(node)).map(|(n, l)| (*n, l.clone())).collect();
    work.emit_sites(sites, &params, &layers)
}
