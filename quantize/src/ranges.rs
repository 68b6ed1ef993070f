//! Which rule draws the range of which tensor.

use std::collections::BTreeMap;

use crate::calibrate::{Method, Observed};
use crate::judge::{Judge, Score};
use crate::scheme::{QParams, Range};
use crate::work::Work;
use crate::{Progress, QuantizeError};

/// Parameters of every quantized tensor, with the rule that drew each range.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// By tensor.
    pub params: BTreeMap<String, QParams>,
    /// By the tensor whose range is shared.
    pub methods: BTreeMap<String, Method>,
}

impl Ranges {
    /// The same rule for all tensors.
    pub fn uniform(work: &Work<'_>, observed: &BTreeMap<String, Observed>, method: Method) -> Ranges {
        let params =
            observed.iter().map(|(leader, observed)| (leader.clone(), work.params(observed, method))).collect();
        Ranges {
            params: work.spread(&params),
            methods: observed.keys().map(|leader| (leader.clone(), method)).collect(),
        }
    }

    /// Twice the least and the greatest value, for types that have steps to spare: what is cut off on a sample that is not
    /// judged, or on a new one, costs more than the steps do.
    pub fn roomy(work: &Work<'_>, observed: &BTreeMap<String, Observed>) -> Ranges {
        let params = |observed: &Observed| {
            let Range { min, max } = observed.range(Method::MinMax, work.options.activations.levels());
            work.params_of(Range { min: (2.0 * min).max(f32::MIN), max: (2.0 * max).min(f32::MAX) })
        };
        let params = observed.iter().map(|(leader, observed)| (leader.clone(), params(observed))).collect();
        let methods = observed.keys().map(|leader| (leader.clone(), Method::MinMax)).collect();
        Ranges { params: work.spread(&params), methods }
    }

    /// For each tensor the rule with the least error at the output when it alone is quantized; or the one rule for
    /// all that has less error when all are.
    pub fn auto(
        work: &Work<'_>,
        observed: &BTreeMap<String, Observed>,
        judge: &Judge<'_>,
        progress: &dyn Progress,
    ) -> Result<Ranges, QuantizeError> {
        progress.begin("choose ranges", observed.len() + Method::RULES.len());
        let mut each = Ranges::default();
        let mut chosen = BTreeMap::new();
        let tensors = work.sites.tensors();
        let (model, copies) = work.parted();
        for (leader, observed) in observed {
            let mut tried: Vec<(Method, QParams)> = Vec::new();
            for method in Method::RULES {
                let q = work.params(observed, method);
                if tried.iter().all(|(_, other)| *other != q) {
                    tried.push((method, q));
                }
            }
            let shared = tensors.iter().filter(|(_, of)| of == leader);
            let shared = shared.map(|(name, _)| copies.get(name).unwrap_or(name).clone());
            let params: Vec<QParams> = tried.iter().map(|(_, q)| *q).collect();
            let variants = (params.as_slice(), work.options.activations);
            let scores = judge.score_alone(&model, &shared.collect::<Vec<_>>(), variants)?;
            let mut best: Option<(Score, QParams, Method)> = None;
            for ((method, q), score) in tried.into_iter().zip(scores) {
                // Of equals the first: the wider range is the safer one.
                if best.is_none_or(|(held, ..)| score.clearly_above(held)) {
                    best = Some((score, q, method));
                }
            }
            if let Some((_, q, method)) = best {
                chosen.insert(leader.clone(), q);
                each.methods.insert(leader.clone(), method);
            }
            progress.advance(1);
        }
        each.params = work.spread(&chosen);
        let (score, uniform) = Ranges::best_rule(work, observed, judge)?;
        progress.advance(Method::RULES.len());
        Ok(if score.clearly_above(work.score(&each, judge)?) { uniform } else { each })
    }

    /// The one rule for all tensors with the least error at the output when all are quantized, and its score.
    pub fn best_rule(
        work: &Work<'_>,
        observed: &BTreeMap<String, Observed>,
        judge: &Judge<'_>,
    ) -> Result<(Score, Ranges), QuantizeError> {
        let plain = Ranges::uniform(work, observed, Method::MinMax);
        let mut tried = vec![plain.params.clone()];
        let mut best = (work.score(&plain, judge)?, plain);
        for method in Method::RULES.into_iter().filter(|method| *method != Method::MinMax) {
            let uniform = Ranges::uniform(work, observed, method);
            // Of few samples rules often draw the same, which would score the same.
            if tried.contains(&uniform.params) {
                continue;
            }
            let score = work.score(&uniform, judge)?;
            tried.push(uniform.params.clone());
            if score.clearly_above(best.0) {
                best = (score, uniform);
            }
        }
        Ok(best)
    }
}
