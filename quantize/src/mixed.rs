//! Layers that stay in float, as few as reach a wanted quality.
//!
//! A layer's sensitivity is the error at the output with it alone quantized. The most sensitive ones are kept in
//! float, one more at a time in steps that halve, until the whole model is good enough.

use std::collections::{BTreeMap, HashSet};

use crate::emit::Emitted;
use crate::judge::{Judge, Score};
use crate::layer::Layer;
use crate::ranges::Ranges;
use crate::sites::Sites;
use crate::work::Work;
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
            let what = "its first output is one number that no Sigmoid makes, or no float32, and no answer among several";
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
pub struct Mixed {
    /// The sites that are left.
    pub sites: Sites,
    /// Sites that went to float, by name, each with its sensitivity in dB.
    pub kept: BTreeMap<String, f64>,
}

impl Mixed {
    /// The model with what is left.
    pub fn emit(&self, work: &Work<'_>, ranges: &Ranges, layers: &BTreeMap<usize, Layer>) -> Emitted {
        emit(work, &self.sites, ranges, layers)
    }
}

/// Keeps the fewest layers in float that meet the target.
///
/// # Errors
/// It is not met unless all is in float, or not even then; or the engine fails.
pub fn keep_fewest(
    work: &Work<'_>,
    ranges: &Ranges,
    layers: &BTreeMap<usize, Layer>,
    judge: &Judge<'_>,
    target: Target,
    progress: &dyn Progress,
) -> Result<Mixed, QuantizeError> {
    let whole = judge.score(&work.emit(&ranges.params, layers))?;
    if target.is_met(whole) {
        return Ok(Mixed { sites: work.sites.clone(), kept: BTreeMap::new() });
    }
    let ranked = sensitivities(work, ranges, layers, judge, progress)?;
    let with = |count: usize| -> Result<(Mixed, Score), QuantizeError> {
        let kept: BTreeMap<String, f64> = ranked.iter().take(count).cloned().collect();
        let names = work.options.keep.iter().chain(kept.keys()).map(String::as_str).collect();
        let mixed = Mixed { sites: work.sites_without(&names), kept };
        let score = judge.score(&mixed.emit(work, ranges, layers))?;
        Ok((mixed, score))
    };
    // The least count that meets it, taking for granted that more in float is never worse.
    let (mut low, mut high) = (0, ranked.len());
    let (mut best, score) = with(high)?;
    if !target.is_met(score) {
        let (words, what) = (target.words(score), "with every layer in float; ask for less");
        return Err(QuantizeError::OutOfReach(format!("{words} {what}")));
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        let (mixed, score) = with(middle)?;
        if target.is_met(score) {
            (high, best) = (middle, mixed);
        } else {
            low = middle;
        }
    }
    if best.sites.sites.is_empty() {
        let (words, what) = (target.words(whole), "nothing less than every layer in float reaches it; ask for less");
        return Err(QuantizeError::OutOfReach(format!("{words}; {what}")));
    }
    Ok(best)
}

/// Each site with the SQNR at the output when it alone is quantized, the lowest first.
pub fn sensitivities(
    work: &Work<'_>,
    ranges: &Ranges,
    layers: &BTreeMap<usize, Layer>,
    judge: &Judge<'_>,
    progress: &dyn Progress,
) -> Result<Vec<(String, f64)>, QuantizeError> {
    progress.begin("sensitivity of layers", work.sites.sites.len());
    let mut ranked = Vec::new();
    for site in &work.sites.sites {
        let alone = Sites { sites: vec![site.clone()], ..Sites::default() };
        ranked.push((site.name.clone(), judge.score(&emit(work, &alone, ranges, layers))?.sqnr_db));
        progress.advance(1);
    }
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(ranked)
}

fn emit(work: &Work<'_>, sites: &Sites, ranges: &Ranges, layers: &BTreeMap<usize, Layer>) -> Emitted {
    let tensors: HashSet<String> = sites.tensors().into_iter().map(|(name, _)| name).collect();
    let nodes: HashSet<usize> = sites.sites.iter().map(|site| site.node).collect();
    let params =
        ranges.params.iter().filter(|(name, _)| tensors.contains(*name)).map(|(n, q)| (n.clone(), *q)).collect();
    let layers = layers.iter().filter(|(node, _)| nodes.contains(node)).map(|(n, l)| (*n, l.clone())).collect();
    work.emit_sites(sites, &params, &layers)
}
