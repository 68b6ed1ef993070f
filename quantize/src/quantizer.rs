//! The whole way from a float model to a quantized one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost::Message;

use crate::calibrate::{self, Method};
use crate::emit::{self, Emitted};
use crate::equalize;
use crate::judge::{Judge, Power};
use crate::layer::Layer;
use crate::mixed::{self, Mixed, Target};
use crate::onnx;
use crate::onnx::proto::ModelProto;
use crate::pool::Pool;
use crate::prepare;
use crate::ranges::Ranges;
use crate::report::{NodeReport, Report};
use crate::scheme::{Activations, Scheme};
use crate::sites::Site;
use crate::work::Work;
use crate::{Engine, Progress, QuantizeError};

/// Samples on which the prepared model is held against the original.
const CHECKED: usize = 4;
/// What f32 arithmetic in another order leaves, with a margin.
const SAME_DB: f64 = 60.0;
/// Samples on which the result is judged, at most.
const THOROUGH: usize = 128;
/// With fewer samples ranges were seen to be too narrow for new ones, whatever rule drew them and however much room it left.
const ENOUGH: usize = 50;

/// How much work goes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// One rule for all ranges, weights to the nearest integer, biases corrected.
    Fast,
    /// Channels evened out, a rule for each range, weights rounded so that layers answer as the float ones.
    #[default]
    Standard,
    /// The same, learned from and judged on more samples.
    Best,
}

impl Effort {
    /// Samples on which choices are judged, at most.
    pub(crate) fn judged(self) -> usize {
        if self == Effort::Best { 256 } else { 48 }
    }

    /// Samples that channels are observed and layers reconstructed on, at most.
    pub(crate) fn learned(self) -> usize {
        if self == Effort::Best { 2048 } else { 256 }
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much work.
    pub effort: Effort,
    /// How ranges of activations are drawn.
    pub method: Method,
    /// What becomes integers.
    pub scheme: Scheme,
    /// Type of activations, where their ranges are set by the samples.
    pub activations: Activations,
    /// Zero points in the middle of the type, which some accelerators need.
    pub symmetric: bool,
    /// Weights that saturate on no CPU: neighbours add up to 128 at most.
    pub portable: bool,
    /// Nodes that stay in float, by name.
    pub keep: Vec<String>,
    /// A quality for which further nodes may stay in float.
    pub target: Option<Target>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            effort: Effort::default(),
            method: Method::default(),
            scheme: Scheme::default(),
            activations: Activations::default(),
            symmetric: false,
            portable: true,
            keep: Vec::new(),
            target: None,
        }
    }
}

impl Options {
    /// Whether weights are held to [`Options::portable`]: with 16 bits of activations or none of them as integers, nothing
    /// adds products in 16 bits.
    pub(crate) fn is_portable(&self) -> bool {
        self.portable && self.scheme != Scheme::WeightOnly && !self.activations.is_wide()
    }
}

/// A quantized model.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The ONNX file.
    pub model: Vec<u8>,
    /// What was done.
    pub report: Report,
}

/// Quantizes a float model by the samples that `engine` has.
///
/// # Errors
/// The model cannot be read or is quantized already, there are no samples, a value is no number, or the engine
/// fails; see [`QuantizeError`].
pub fn quantize(
    model: &[u8],
    engine: &dyn Engine,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Quantized, QuantizeError> {
    let mut source = onnx::decode(model)?;
    onnx::take_in(&mut source, &|tensor| engine.stored(tensor))?;
    let bytes_before = emit::stored_bytes(&source);
    if engine.samples() == 0 {
        return Err(QuantizeError::NoSamples);
    }
    let original = source.clone();
    let opset = if options.activations.is_wide() { prepare::WIDE_OPSET } else { prepare::OPSET };
    let (model, mut notes) = prepare::prepare(source, engine, opset)?;
    let work = Work::new(model, engine, Cow::Borrowed(options))?;
    if options.scheme == Scheme::Static {
        let distinct = calibrate::distinct(&work.model, &work.sites, engine)?;
        notes.extend(few(engine.samples(), distinct));
    }
    if let Some(target) = options.target {
        // Before minutes of work.
        target.expect_sense(&Judge::new(engine, &work.model, CHECKED)?)?;
    }
    let prepared = options.target.map(|target| (target, work.model.clone()));
    let fitted = fit(work, &original, progress)?;
    let judge = Judge::new(engine, &fitted.work.model, THOROUGH)?;
    let mixed = match prepared {
        Some((target, prepared)) => {
            let anew = |keep| {
                let options = Cow::Owned(Options { keep, ..options.clone() });
                fit(Work::new(prepared.clone(), engine, options)?, &original, progress)
            };
            mixed::keep_fewest(fitted, &judge, target, &anew, progress)?
        }
        None => Mixed::whole(fitted),
    };
    let emitted = mixed.emit();
    let report = Report {
        nodes: nodes(&mixed, &emitted, judge.samples())?,
        notes,
        score: judge.score(&emitted)?,
        bytes_before,
        bytes_after: emit::stored_bytes(&emitted.model),
        samples: engine.samples(),
    };
    let mut written = emitted.model;
    written.producer_name = Some("tractlet".into());
    written.producer_version = Some(env!("CARGO_PKG_VERSION").into());
    Ok(Quantized { model: written.encode_to_vec(), report })
}

/// A model with what was fitted to the samples.
pub struct Fitted<'a> {
    pub work: Work<'a>,
    pub ranges: Ranges,
    /// Quantized weights, by the site's node.
    pub layers: BTreeMap<usize, Layer>,
}

/// Fits ranges and weights to the samples, in a float model that answers as the original.
fn fit<'a>(mut work: Work<'a>, original: &ModelProto, progress: &dyn Progress) -> Result<Fitted<'a>, QuantizeError> {
    let ranges = match work.options.scheme {
        Scheme::Static => ranges(&mut work, progress)?,
        Scheme::WeightOnly | Scheme::Dynamic => {
            calibrate::expect_finite(&work.model, &work.sites.sites, work.engine)?;
            Ranges::default()
        }
    };
    let same = Judge::at_outputs(work.engine, original, CHECKED)?.score_float(&work.model)?;
    if same.sqnr_db < SAME_DB {
        let what = format!("folded and evened out, the float model answers otherwise ({:.1} dB)", same.sqnr_db);
        return Err(QuantizeError::Mismatch(format!("{what}; please report it with the model")));
    }
    let layers = work.layers(&ranges.params, progress)?;
    Ok(Fitted { work, ranges, layers })
}

/// What is said of too few samples; one that is there several times counts once.
fn few(samples: usize, distinct: usize) -> Option<String> {
    let differ = match distinct {
        ENOUGH.. => return None,
        _ if distinct == samples => String::new(),
        1 => "all alike, and so ".into(),
        _ => format!("of which {distinct} differ, "),
    };
    let what = "what new ones have beyond their ranges is cut off, and an SQNR on them says more than it should";
    Some(format!("samples: {samples}, {differ}fewer than {ENOUGH}: {what}"))
}

/// Evens out channels and draws the ranges of activations.
fn ranges(work: &mut Work<'_>, progress: &dyn Progress) -> Result<Ranges, QuantizeError> {
    let (engine, options) = (work.engine, work.options.clone());
    // One rule for all has nothing to judge.
    let judges = options.method == Method::Auto && !options.activations.is_wide();
    let quick = judges.then(|| Judge::new(engine, &work.model, options.effort.judged())).transpose()?;
    let observe = |work: &Work<'_>| {
        progress.begin("calibrate", 2 * engine.samples());
        calibrate::observe(&work.model, &work.sites, engine, progress)
    };
    let mut observed = observe(work)?;
    if options.effort != Effort::Fast && equalize::equalize(work, progress)? {
        observed = observe(work)?;
    }
    Ok(match (options.method, quick) {
        (Method::Auto, None) => Ranges::roomy(work, &observed),
        (Method::Auto, Some(quick)) if options.effort == Effort::Fast => Ranges::best_rule(work, &observed, &quick)?.1,
        (Method::Auto, Some(quick)) => Ranges::auto(work, &observed, &quick, progress)?,
        (rule, _) => Ranges::uniform(work, &observed, rule),
    })
}

/// The error of each tensor in the quantized model.
fn errors(
    work: &Work<'_>,
    emitted: &Emitted,
    outputs: &[&str],
    samples: &[usize],
) -> Result<Vec<Power>, QuantizeError> {
    let float = Pool::open(work.engine, &work.model, outputs)?;
    let seen: Vec<&str> = outputs.iter().map(|name| emitted.seen(name)).collect();
    let quantized = Pool::open(work.engine, &emitted.model, &seen)?;
    let mut total = vec![Power::default(); outputs.len()];
    // A sample at a time: activations of a whole network are large.
    for sample in samples.iter().step_by(4) {
        let all = |pool: &Pool<'_>| {
            pool.each(&[*sample], |runner, _| {
                Ok((0..outputs.len()).map(|i| runner.output(i).to_vec()).collect::<Vec<_>>())
            })
        };
        let (reference, found) = (all(&float)?, all(&quantized)?);
        for (reference, found) in reference.iter().zip(&found) {
            total.iter_mut().zip(reference.iter().zip(found)).for_each(|(power, (r, f))| power.add(r, f));
        }
    }
    Ok(total)
}

/// Each node with the error at its output, in the quantized model.
fn nodes(mixed: &Mixed<'_>, emitted: &Emitted, samples: &[usize]) -> Result<Vec<NodeReport>, QuantizeError> {
    let Fitted { work, ranges, .. } = &mixed.fitted;
    let outputs: Vec<&str> = mixed.sites.sites.iter().map(|site| site.output.as_str()).collect();
    let total = if outputs.is_empty() { Vec::new() } else { errors(work, emitted, &outputs, samples)? };
    let leaders: BTreeMap<String, String> = work.sites.tensors().into_iter().collect();
    let site = |(site, power): (&Site, &Power)| {
        let method = leaders.get(&site.output).and_then(|leader| ranges.methods.get(leader));
        let report = NodeReport {
            name: site.name.clone(),
            op: site.op.clone(),
            scheme: scheme(&work.options, site),
            how: method.map_or("", |method| method.name()).into(),
            sqnr_db: Some(power.sqnr_db()),
        };
        (site.node, report)
    };
    let mut nodes: Vec<(usize, NodeReport)> = mixed.sites.sites.iter().zip(&total).map(site).collect();
    for (name, op, why) in &mixed.sites.kept {
        let index = work.model.nodes().iter().position(|node| node.title() == name).unwrap_or(usize::MAX);
        let how = match mixed.kept.get(name) {
            Some(db) => format!("kept for quality: quantized alone, {db:.1} dB at the output"),
            None => why.clone(),
        };
        let (name, op) = (name.clone(), op.clone());
        nodes.push((index, NodeReport { name, op, scheme: "float32".into(), how, sqnr_db: None }));
    }
    nodes.sort_by_key(|(index, _)| *index);
    Ok(nodes.into_iter().map(|(_, report)| report).collect())
}

/// What a site computes in, in words.
fn scheme(options: &Options, site: &Site) -> String {
    match (options.scheme, options.activations, &site.weights) {
        (Scheme::WeightOnly, ..) => "int8 weights".into(),
        (Scheme::Dynamic, ..) => "int8 dynamic".into(),
        (Scheme::Static, Activations::Int8, Some(_)) => "int8 per-channel".into(),
        (Scheme::Static, activations, Some(_)) => format!("{}, int8 weights", activations.name()),
        (Scheme::Static, activations, None) => activations.name().into(),
    }
}
