//! The whole way from a float model to a quantized one.

use std::collections::{BTreeMap, HashSet};

use prost::Message;

use crate::calibrate::{self, Method, Observed};
use crate::emit::{self, Emission, Emitted};
use crate::judge::{Judge, Power, Score};
use crate::layer::{Layer, Matrix};
use crate::onnx::proto::ModelProto;
use crate::onnx::{self};
use crate::pool::Pool;
use crate::prepare;
use crate::report::{NodeReport, Report};
use crate::scheme::{Activations, QParams};
use crate::sites::{self, Sites};
use crate::{Engine, Progress, QuantizeError};

/// How much work goes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Ranges and rounding to the nearest.
    Fast,
    /// Channels evened out and biases corrected too.
    #[default]
    Standard,
    /// Weights reconstructed layer by layer too.
    Best,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much work.
    pub effort: Effort,
    /// How ranges of activations are drawn.
    pub method: Method,
    /// Type of activations.
    pub activations: Activations,
    /// Zero points in the middle of the type, which some accelerators need.
    pub symmetric: bool,
    /// Weights that saturate on no CPU: see `layer::Bound::Pairs`.
    pub portable: bool,
    /// Nodes that stay in float, by name.
    pub keep: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            effort: Effort::default(),
            method: Method::default(),
            activations: Activations::default(),
            symmetric: false,
            portable: true,
            keep: Vec::new(),
        }
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
    let source = onnx::decode(model)?;
    let bytes_before = emit::stored_bytes(&source);
    if engine.samples() == 0 {
        return Err(QuantizeError::NoSamples);
    }
    let (model, notes) = prepare::prepare(source, engine)?;
    let sites = find(&model, options)?;
    let judge = Judge::new(engine, &model)?;
    progress.begin("calibrate", 2 * engine.samples());
    let observed = calibrate::observe(&model, &sites, engine, progress)?;
    let work = Work { model: &model, sites: &sites, judge: &judge, engine, options };
    let ranges = work.ranges(&observed, progress)?;
    let layers = work.nearest(&ranges.params);
    let emitted = work.emit(&ranges.params, &layers);
    let score = judge.score(&emitted)?;
    let nodes = work.nodes(&emitted, &ranges)?;
    let report = Report {
        nodes,
        notes,
        score,
        bytes_before,
        bytes_after: emit::stored_bytes(&emitted.model),
        samples: engine.samples(),
    };
    let mut written = emitted.model;
    written.producer_name = Some("tractlet".into());
    written.producer_version = Some(env!("CARGO_PKG_VERSION").into());
    Ok(Quantized { model: written.encode_to_vec(), report })
}

fn find(model: &ModelProto, options: &Options) -> Result<Sites, QuantizeError> {
    let keep: HashSet<&str> = options.keep.iter().map(String::as_str).collect();
    if let Some(unknown) = keep.iter().find(|name| model.nodes().iter().all(|node| node.title() != **name)) {
        return Err(QuantizeError::NoSuchNode((*unknown).to_owned()));
    }
    let sites = sites::find(model, &keep);
    if sites.sites.is_empty() {
        let why: Vec<String> = sites.kept.iter().take(3).map(|(name, op, why)| format!("`{name}` ({op}): {why}")).collect();
        let why = if why.is_empty() { "no node computes".into() } else { why.join("; ") };
        return Err(QuantizeError::NothingToDo(why));
    }
    Ok(sites)
}

/// Parameters of every quantized tensor, with the rule that drew each range.
struct Ranges {
    params: BTreeMap<String, QParams>,
    methods: BTreeMap<String, Method>,
}

struct Work<'a> {
    model: &'a ModelProto,
    sites: &'a Sites,
    judge: &'a Judge<'a>,
    engine: &'a dyn Engine,
    options: &'a Options,
}

impl Work<'_> {
    fn params(&self, observed: &Observed, method: Method) -> QParams {
        QParams::of(observed.range(method), self.options.activations, self.options.symmetric)
    }

    /// Parameters for all tensors, each with its leader's range.
    fn spread(&self, by_leader: &BTreeMap<String, QParams>) -> BTreeMap<String, QParams> {
        let tensors = self.sites.tensors().into_iter();
        tensors.filter_map(|(name, leader)| by_leader.get(&leader).map(|&q| (name, q))).collect()
    }

    fn ranges(&self, observed: &BTreeMap<String, Observed>, progress: &dyn Progress) -> Result<Ranges, QuantizeError> {
        let all = |method: Method| -> BTreeMap<String, QParams> {
            observed.iter().map(|(leader, observed)| (leader.clone(), self.params(observed, method))).collect()
        };
        if self.options.method != Method::Auto {
            let methods = observed.keys().map(|leader| (leader.clone(), self.options.method)).collect();
            return Ok(Ranges { params: self.spread(&all(self.options.method)), methods });
        }
        progress.begin("choose ranges", observed.len());
        let none = BTreeMap::new();
        let (mut chosen, mut methods) = (BTreeMap::new(), BTreeMap::new());
        for (leader, observed) in observed {
            let mut best: Option<(f64, QParams, Method)> = None;
            let mut tried: Vec<QParams> = Vec::new();
            for method in Method::RULES {
                let q = self.params(observed, method);
                if tried.contains(&q) {
                    continue;
                }
                tried.push(q);
                let params = self.spread(&BTreeMap::from([(leader.clone(), q)]));
                let sqnr = self.judge.score(&self.emit(&params, &none))?.sqnr_db;
                // Of equals the first: the wider range is the safer one.
                if best.is_none_or(|(held, ..)| sqnr > held) {
                    best = Some((sqnr, q, method));
                }
            }
            if let Some((_, q, method)) = best {
                chosen.insert(leader.clone(), q);
                methods.insert(leader.clone(), method);
            }
            progress.advance(1);
        }
        Ok(Ranges { params: self.spread(&chosen), methods })
    }

    fn matrix(&self, site: &sites::Site) -> Option<Matrix> {
        let graph = self.model.graph.as_ref()?;
        Matrix::of(site, &graph.node[site.node], &graph.stored())
    }

    /// Weights of all sites, each rounded to the nearest.
    fn nearest(&self, params: &BTreeMap<String, QParams>) -> BTreeMap<usize, Layer> {
        let layer = |site: &sites::Site| {
            let matrix = self.matrix(site)?;
            let mut layer = Layer::nearest(&matrix, matrix.bound(self.options.portable));
            if let Some(input) = site.inputs.first().and_then(|(_, name)| params.get(name)) {
                layer.fit_bias(input.scale);
            }
            Some((site.node, layer))
        };
        self.sites.sites.iter().filter_map(layer).collect()
    }

    fn emit(&self, params: &BTreeMap<String, QParams>, layers: &BTreeMap<usize, Layer>) -> Emitted {
        let activations = self.options.activations;
        Emission { model: self.model, sites: self.sites, activations, params, layers }.emit()
    }

    /// Each node with the error at its output, in the quantized model.
    fn nodes(&self, emitted: &Emitted, ranges: &Ranges) -> Result<Vec<NodeReport>, QuantizeError> {
        let outputs: Vec<&str> = self.sites.sites.iter().map(|site| site.output.as_str()).collect();
        let float = Pool::open(self.engine, self.model, &outputs)?;
        let seen: Vec<&str> = outputs.iter().map(|name| emitted.seen(name)).collect();
        let quantized = Pool::open(self.engine, &emitted.model, &seen)?;
        let mut total = vec![Power::default(); outputs.len()];
        // A sample at a time: activations of a whole network are large.
        for sample in self.judge.samples().iter().step_by(4) {
            let all = |pool: &Pool<'_>| {
                pool.each(&[*sample], |runner, _| Ok((0..outputs.len()).map(|i| runner.output(i).to_vec()).collect::<Vec<_>>()))
            };
            let (reference, found) = (all(&float)?, all(&quantized)?);
            for (reference, found) in reference.iter().zip(&found) {
                total.iter_mut().zip(reference.iter().zip(found)).for_each(|(power, (r, f))| power.add(r, f));
            }
        }
        let leaders: BTreeMap<String, String> = self.sites.tensors().into_iter().collect();
        let site = |(site, power): (&sites::Site, &Power)| {
            let method = leaders.get(&site.output).and_then(|leader| ranges.methods.get(leader));
            let report = NodeReport {
                name: site.name.clone(),
                op: site.op.clone(),
                scheme: if site.weights.is_some() { "int8 per-channel" } else { "int8" },
                how: method.map_or("", |method| method.name()).into(),
                sqnr_db: Some(power.sqnr_db()),
            };
            (site.node, report)
        };
        let mut nodes: Vec<(usize, NodeReport)> = self.sites.sites.iter().zip(&total).map(site).collect();
        for (name, op, why) in &self.sites.kept {
            let index = self.model.nodes().iter().position(|node| node.title() == name).unwrap_or(usize::MAX);
            let (name, op, how) = (name.clone(), op.clone(), why.clone());
            nodes.push((index, NodeReport { name, op, scheme: "float32", how, sqnr_db: None }));
        }
        nodes.sort_by_key(|(index, _)| *index);
        Ok(nodes.into_iter().map(|(_, report)| report).collect())
    }
}

#[allow(unused)]
fn _unused(_: Score) {}
