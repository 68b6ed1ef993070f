//! Structured pruning: channels that matter least are taken out of a float model, whole, so that what is left is an
//! ordinary, smaller model that runs faster anywhere.
//!
//! `channels` finds which channels go together, by `trace`, `layers` and `numbers`, which follow them through the graph;
//! `importance` says how much each matters, `select` which go; `refit` fits what reads them anew; `surgery` takes them
//! out. PRUNING.md has each method with its source.

mod channels;
mod cost;
mod importance;
mod layers;
mod numbers;
mod refit;
mod report;
mod select;
mod solve;
mod surgery;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::calibrate;
use crate::emit::{self, Emitted};
use crate::judge::{self, Judge, Score};
use crate::layer::Matrix;
use crate::onnx;
use crate::onnx::proto::ModelProto;
use crate::pool::Pool;
use crate::prepare;
use crate::sites::{self, Site};
use crate::{Engine, Progress, QuantizeError};

use channels::Channels;
use cost::Macs;
pub use report::{GroupReport, Report, Size};

/// Samples that channels are weighed and layers refitted on, at most.
const LEARNED: usize = 512;
/// Samples on which the result is judged, at most.
const JUDGED: usize = 256;

/// By what channels are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Criterion {
    /// The error that a channel's removal makes at what reads it, on the samples.
    #[default]
    Activation,
    /// The L2 norm of a channel's filters.
    Magnitude,
}

/// How many channels each group loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Either of the others, whichever is nearer to the model at the output.
    #[default]
    Auto,
    /// The same share.
    Uniform,
    /// More where channels matter less for the multiply-adds that they cost; as many of those in all as the same share
    /// of each group.
    Global,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Share of channels to remove, between 0 and 1.
    pub ratio: f64,
    /// By what channels are ranked.
    pub criterion: Criterion,
    /// How the share is spread over groups.
    pub allocation: Allocation,
    /// Groups keep a multiple of so many channels: kernels compute so many at a time, and others cost as much as the
    /// next multiple.
    pub multiple: usize,
    /// Whether what reads removed channels is fitted anew.
    pub refit: bool,
}

impl Default for Options {
    fn default() -> Options {
        let (criterion, allocation) = (Criterion::default(), Allocation::default());
        Options { ratio: 0.3, criterion, allocation, multiple: 8, refit: true }
    }
}

/// A pruned model.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The ONNX file.
    pub model: Vec<u8>,
    /// What was done.
    pub report: Report,
}

/// Removes channels of a float model by the samples that `engine` has.
///
/// # Errors
/// The model cannot be read or is quantized, there are no samples, no channel can be removed, or the engine fails; see
/// [`QuantizeError`].
pub fn prune(
    model: &[u8],
    engine: &dyn Engine,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pruned, QuantizeError> {
    if !(options.ratio > 0.0 && options.ratio < 1.0) {
        return Err(QuantizeError::Ratio(options.ratio));
    }
    let mut source = onnx::decode(model)?;
    onnx::take_in(&mut source, &|tensor| engine.stored(tensor))?;
    let (bytes_before, parameters_before) = (emit::stored_bytes(&source), cost::parameters(&source));
    if engine.samples() == 0 {
        return Err(QuantizeError::NoSamples);
    }
    let (model, mut notes) = prepare::prepare(source, engine, prepare::OPSET)?;
    let shapes = shapes(&model, engine)?;
    let mut channels = Channels::of(&model, &shapes);
    let macs = Macs::of(&model, &shapes);
    let sites: Vec<Site> =
        sites::find(&model, &HashSet::new()).sites.into_iter().filter(|site| site.weights.is_some()).collect();
    if options.criterion == Criterion::Activation {
        channels.hold_unweighed(&model, &sites);
    }
    calibrate::expect_finite(&model, &sites, engine)?;
    let samples = judge::spread(engine.samples(), LEARNED);
    let weights = judge::answers(engine, &model, &samples)?;
    let weights = weights.map_or_else(|| vec![1.0; samples.len()], |answers| balance(&answers));
    let context = Context {
        model: &model,
        shapes: &shapes,
        channels: &channels,
        sites: &sites,
        engine,
        samples: &samples,
        weights: &weights,
    };
    let importance = importance::importance(&context, options.criterion, options.refit, progress)?;
    let ways = match options.allocation {
        Allocation::Auto => vec![Allocation::Uniform, Allocation::Global],
        one => vec![one],
    };
    let mut choices: Vec<Vec<bool>> =
        ways.into_iter().map(|way| select::select(&channels, &importance, &macs, options, way)).collect();
    choices.dedup();
    let none = vec![false; channels.fixed.len()];
    if choices.iter().all(|removed| *removed == none) {
        let groups = report::groups(&model, &channels, &none, options);
        let why: Vec<String> =
            groups.iter().take(3).map(|group| format!("`{}`: {}", group.name(), group.why)).collect();
        let why = if why.is_empty() { "no layer has stored weights".into() } else { why.join("; ") };
        return Err(QuantizeError::NothingToPrune(why));
    }
    let judge = Judge::new(engine, &model, JUDGED)?;
    let mut best: Option<(Score, Emitted, &Vec<bool>, usize)> = None;
    for removed in choices.iter().filter(|removed| **removed != none) {
        let (pruned, refitted) = without(&context, removed, options.refit, progress)?;
        let pruned = Emitted::plain(pruned);
        let score = judge.score(&pruned)?;
        if best.as_ref().is_none_or(|(held, ..)| score.sqnr_db > held.sqnr_db) {
            best = Some((score, pruned, removed, refitted));
        }
    }
    let Some((score, pruned, removed, refitted)) = best else {
        return Err(QuantizeError::NothingToPrune("no choice of channels was tried".into()));
    };
    if options.refit {
        notes.push(format!("{refitted} layers fitted anew"));
    }
    let mut pruned = pruned.model;
    let before = Size { macs: macs.total(&channels, &none), parameters: parameters_before, bytes: bytes_before };
    let after = Size {
        macs: macs.total(&channels, removed),
        parameters: cost::parameters(&pruned),
        bytes: emit::stored_bytes(&pruned),
    };
    pruned.producer_name = Some("tractlet".into());
    pruned.producer_version = Some(env!("CARGO_PKG_VERSION").into());
    let groups = report::groups(&model, &channels, removed, options);
    let report = Report { groups, notes, before, after, score, samples: samples.len() };
    Ok(Pruned { model: pruned.encode_to_vec(), report })
}

/// Samples of an answer, on average, from which on answers are balanced: with fewer they are no classes.
const OF_EACH: usize = 4;
/// A sample counts so many times as much as it would among as many of each answer at most, and that part of it at least.
const SWAY: f64 = 8.0;

/// Weights by which all answers of the model count alike, however many samples have them: calibration samples are seldom
/// balanced, and a channel that only a rare class needs would seem to matter little.
fn balance(answers: &[usize]) -> Vec<f64> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    answers.iter().for_each(|answer| *counts.entry(*answer).or_default() += 1);
    let (all, classes) = (answers.len() as f64, counts.len());
    if classes * OF_EACH > answers.len() {
        return vec![1.0; answers.len()];
    }
    let weight = |answer| (all / (classes * counts[answer]) as f64).clamp(1.0 / SWAY, SWAY);
    answers.iter().map(weight).collect()
}

/// A model without these channels, and how many of its layers were fitted anew.
fn without(
    context: &Context<'_>,
    removed: &[bool],
    refit: bool,
    progress: &dyn Progress,
) -> Result<(ModelProto, usize), QuantizeError> {
    let mut pruned = context.model.clone();
    surgery::mask(&mut pruned, context.channels, removed);
    let count = if refit { refit::refit(context, &mut pruned, removed, progress)? } else { 0 };
    surgery::remove(&mut pruned, context.channels, removed);
    Ok((pruned, count))
}

/// A prepared model with what is known of it.
struct Context<'a> {
    model: &'a ModelProto,
    shapes: &'a HashMap<String, Vec<usize>>,
    channels: &'a Channels,
    /// Layers with weights, in graph order.
    sites: &'a [Site],
    engine: &'a dyn Engine,
    samples: &'a [usize],
    /// How much each of them counts.
    weights: &'a [f64],
}

impl Context<'_> {
    /// The weights of a site in this model or in one with the same nodes.
    fn matrix(&self, model: &ModelProto, site: &Site) -> Option<Matrix> {
        let graph = model.graph.as_ref()?;
        Matrix::of(site, &graph.node, &graph.stored())
    }

    /// Rows of a site's weights that stay.
    fn rows(&self, site: &Site, matrix: &Matrix, removed: &[bool]) -> Vec<usize> {
        match self.channels.cut(site.node, 1, matrix.axis) {
            Some(cut) => self.channels.kept(&cut.atoms, removed),
            None => (0..matrix.rows).collect(),
        }
    }

    /// Columns of a site's weights that stay.
    fn cols(&self, site: &Site, matrix: &Matrix, removed: &[bool]) -> Vec<usize> {
        let Some(cut) = self.channels.read_by(site.node) else { return (0..matrix.cols).collect() };
        let each = matrix.cols / cut.atoms.len().max(1);
        self.channels.kept(&cut.atoms, removed).iter().flat_map(|entry| entry * each..(entry + 1) * each).collect()
    }
}

/// Shapes of a graph's inputs and of all that its nodes write.
fn shapes(model: &ModelProto, engine: &dyn Engine) -> Result<HashMap<String, Vec<usize>>, QuantizeError> {
    let stored = model.graph.as_ref().map(|graph| graph.stored()).unwrap_or_default();
    let inputs = model.graph.iter().flat_map(|graph| &graph.input).filter_map(|input| input.name.as_ref());
    let mut taps: Vec<&String> = inputs.filter(|name| !stored.contains_key(name.as_str())).collect();
    taps.extend(model.nodes().iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()));
    let shapes = Pool::open(engine, model, &taps)?.shapes()?;
    Ok(taps.into_iter().cloned().zip(shapes).collect())
}
