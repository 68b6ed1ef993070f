//! How far a quantized model is from the float one, on some of the samples.

use std::collections::HashSet;

use crate::emit::Emitted;
use crate::onnx::Edges;
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::pool::{Known, Pool};
use crate::scheme::{Activations, QParams};
use crate::{Engine, QuantizeError, Runner};

/// Reference outputs kept, at most, in elements.
const KEPT: usize = 16 << 20;
/// Gain in dB that a change has to bring at least.
const GAIN_DB: f64 = 0.02;
/// What stands for no error at all, in dB.
const PERFECT: f64 = 150.0;

/// The float model's answers.
pub struct Judge<'e> {
    engine: &'e dyn Engine,
    taps: Vec<String>,
    samples: Vec<usize>,
    /// By sample, then by tap.
    reference: Vec<Vec<Vec<f32>>>,
}

/// Error at each tap of one sample, and whether the largest value is the same.
type Held = (Vec<Power>, bool);

/// How near a model is to the float one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Ratio of the outputs' power to that of their error, in dB. A final Softmax is looked through.
    pub sqnr_db: f64,
    /// The same of the output for which it is lowest.
    pub worst_db: f64,
    /// That of all outputs on every other sample, and on those between.
    pub halves_db: [f64; 2],
    /// Share of samples on which the largest value of the first output is the same.
    pub agreement: f64,
}

impl<'e> Judge<'e> {
    /// Runs the float model on `count` of the samples, or fewer where its outputs are large.
    pub fn new(engine: &'e dyn Engine, model: &ModelProto, count: usize) -> Result<Judge<'e>, QuantizeError> {
        Judge::at(engine, model, decisive(model), count)
    }

    /// The same at the outputs themselves, nothing looked through.
    pub fn at_outputs(engine: &'e dyn Engine, model: &ModelProto, count: usize) -> Result<Judge<'e>, QuantizeError> {
        let outputs = model.graph.iter().flat_map(|graph| graph.output_names()).map(str::to_owned);
        Judge::at(engine, model, outputs.collect(), count)
    }

    fn at(
        engine: &'e dyn Engine,
        model: &ModelProto,
        taps: Vec<String>,
        count: usize,
    ) -> Result<Judge<'e>, QuantizeError> {
        let pool = Pool::open(engine, model, &taps)?;
        let elements: usize = pool.shapes()?.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let count = count.min(KEPT / elements.max(1)).max(4);
        let samples = spread(engine.samples(), count);
        let reference =
            pool.each(&samples, |runner, _| Ok((0..taps.len()).map(|tap| runner.output(tap).to_vec()).collect()))?;
        Ok(Judge { engine, taps, samples, reference })
    }

    /// Holds another form of the float model against it.
    pub fn score_float(&self, model: &ModelProto) -> Result<Score, QuantizeError> {
        self.score(&Emitted::plain(model.clone()))
    }

    /// Holds a quantized model against the float one.
    pub fn score(&self, emitted: &Emitted) -> Result<Score, QuantizeError> {
        let taps: Vec<&str> = self.taps.iter().map(|tap| emitted.seen(tap)).collect();
        let pool = Pool::open(self.engine, &emitted.model, &taps)?;
        Ok(self.total(pool.each(&self.samples, |runner, sample| Ok(self.hold(sample, runner)))?))
    }

    /// Holds the float model against itself with these tensors alone as integers, in each of some variants. What lies
    /// before them is run once for all.
    pub fn score_alone(
        &self,
        model: &ModelProto,
        tensors: &[String],
        (variants, activations): (&[QParams], Activations),
    ) -> Result<Vec<Score>, QuantizeError> {
        let known = between(model, tensors);
        let before = Pool::open(self.engine, model, &known)?;
        let values = |runner: &dyn Runner| (0..known.len()).map(|i| runner.output(i).to_vec()).collect::<Vec<_>>();
        let first = self.samples.first().map(|&sample| before.run(sample, &[], |runner| Ok(values(runner))));
        // What is not float32 is computed again.
        let is_float: Vec<bool> =
            first.transpose()?.unwrap_or_default().iter().map(|values| !values.is_empty()).collect();
        let floats = |index: &usize| is_float.get(*index) == Some(&true);
        let shapes = before.shapes()?;
        let known: Vec<Known> = (0..known.len())
            .filter(floats)
            .map(|index| Known { name: known[index].clone(), shape: shapes[index].clone() })
            .collect();
        let behind = Pool::open_from(self.engine, model, &known, &self.taps)?;
        let seen: Vec<Vec<Held>> = before.each(&self.samples, |runner, sample| {
            let values: Vec<Vec<f32>> = values(runner).into_iter().filter(|values| !values.is_empty()).collect();
            let run = |q: &QParams| {
                let mut values = values.clone();
                let quantized = known.iter().zip(&mut values).filter(|(known, _)| tensors.contains(&known.name));
                quantized.for_each(|(_, values)| q.round_trip(activations, values));
                let given: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                behind.run(sample, &given, |runner| Ok(self.hold(sample, runner)))
            };
            variants.iter().map(run).collect()
        })?;
        Ok((0..variants.len()).map(|v| self.total(seen.iter().map(|held| held[v].clone()).collect())).collect())
    }

    /// Holds one run's answers against the float model's.
    fn hold(&self, sample: usize, runner: &dyn Runner) -> Held {
        let reference = &self.reference[self.samples.binary_search(&sample).unwrap_or(0)];
        let mut power = vec![Power::default(); reference.len()];
        for (tap, (reference, power)) in reference.iter().zip(&mut power).enumerate() {
            power.add(reference, runner.output(tap));
        }
        let agrees = reference.first().is_none_or(|first| agree(first, runner.output(0)));
        (power, agrees)
    }

    /// The score of all samples' runs.
    fn total(&self, seen: Vec<Held>) -> Score {
        let mut halves = [vec![Power::default(); self.taps.len()], vec![Power::default(); self.taps.len()]];
        for (index, (powers, _)) in seen.iter().enumerate() {
            halves[index % 2].iter_mut().zip(powers).for_each(|(sum, power)| sum.merge(*power));
        }
        let mut total = halves[0].clone();
        total.iter_mut().zip(&halves[1]).for_each(|(total, half)| total.merge(*half));
        let agreeing = seen.iter().filter(|(_, agrees)| *agrees).count();
        let halves_db = halves.map(|taps| mean_db(&taps));
        let agreement = agreeing as f64 / seen.len().max(1) as f64;
        Score { sqnr_db: mean_db(&total), worst_db: worst_db(&total), halves_db, agreement }
    }

    /// The samples that are judged.
    pub fn samples(&self) -> &[usize] {
        &self.samples
    }
}

impl Score {
    /// Whether it is so much better that chance is unlikely: on all samples together, and on either half.
    pub(crate) fn clearly_above(self, other: Score) -> bool {
        let on_both = self.halves_db.iter().zip(other.halves_db).all(|(mine, theirs)| *mine > theirs);
        on_both && self.sqnr_db > other.sqnr_db + GAIN_DB
    }
}

/// Power of a signal and of its error, summed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Power {
    signal: f64,
    noise: f64,
}

impl Power {
    /// Adds values with what became of them.
    pub fn add(&mut self, reference: &[f32], found: &[f32]) {
        for (&reference, &found) in reference.iter().zip(found) {
            if !reference.is_finite() {
                // Nothing to be near to.
                continue;
            }
            let (reference, found) = (f64::from(reference), f64::from(found));
            self.signal += reference * reference;
            let error = reference - found;
            self.noise += if error.is_nan() { f64::INFINITY } else { error * error };
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Power) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// The ratio in dB, 150 at most.
    pub fn sqnr_db(self) -> f64 {
        decibels(self.signal, self.noise)
    }
}

/// Outputs count alike, whatever their magnitude: the mean of their relative errors, in dB.
fn mean_db(taps: &[Power]) -> f64 {
    let loud = taps.iter().filter(|tap| tap.signal > 0.0 || tap.noise > 0.0);
    let relative = loud.clone().map(|tap| if tap.signal > 0.0 { tap.noise / tap.signal } else { f64::INFINITY });
    decibels(1.0, relative.sum::<f64>() / loud.count().max(1) as f64)
}

/// That of the output that is farthest from the reference.
fn worst_db(taps: &[Power]) -> f64 {
    taps.iter().map(|tap| tap.sqnr_db()).fold(PERFECT, f64::min)
}

/// A ratio of powers in dB, 150 at most.
pub fn decibels(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 {
        return PERFECT;
    }
    (10.0 * (signal / noise).log10()).clamp(-PERFECT, PERFECT)
}

/// Which half of all samples one belongs to, where one half is judged by what the other says: the first or the second.
/// Neighbours, which are often of one recording, are in the same.
pub fn half(sample: usize, of: usize) -> usize {
    usize::from(2 * sample >= of)
}

/// At most `count` of `all` samples, evenly spread and in order.
pub fn spread(all: usize, count: usize) -> Vec<usize> {
    let count = count.min(all);
    (0..count).map(|index| index * all / count).collect()
}

/// Whether both have the same largest value; what has NaN has none.
pub fn agree(reference: &[f32], found: &[f32]) -> bool {
    argmax(reference) == argmax(found) && !found.iter().any(|value| value.is_nan())
}

/// Index of the largest, the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// These tensors, and all others of a sample that what depends on them reads: what lies behind can be run from them on.
/// What follows from stored tensors alone is none of them, since an operator may need it to be constant.
fn between(model: &ModelProto, tensors: &[String]) -> Vec<String> {
    let Some(graph) = &model.graph else { return tensors.to_vec() };
    let stored: HashSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    // An input may have a stored tensor as its default, which no sample has another value for.
    let inputs = graph.input.iter().filter_map(|input| input.name.as_deref());
    let mut of_a_sample: HashSet<&str> = inputs.filter(|name| !stored.contains(name)).collect();
    let mut behind: HashSet<&str> = tensors.iter().map(String::as_str).collect();
    let mut read = Vec::new();
    for node in &graph.node {
        let mut names = Vec::new();
        node.reads(&mut |name| names.push(name.to_owned()));
        if names.iter().any(|name| of_a_sample.contains(name.as_str())) {
            of_a_sample.extend(node.output.iter().map(String::as_str));
        }
        if names.iter().any(|name| behind.contains(name.as_str())) {
            behind.extend(node.output.iter().map(String::as_str));
            read.extend(names);
        }
    }
    let mut known = tensors.to_vec();
    for name in read {
        // What a subgraph makes has a name of its own, which is none of the graph's.
        if of_a_sample.contains(name.as_str()) && !behind.contains(name.as_str()) && !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

/// Index of the largest value of the first output, on each of some samples; none where that output is not one list of
/// scores, but has them for places or times.
pub fn answers(
    engine: &dyn Engine,
    model: &ModelProto,
    samples: &[usize],
) -> Result<Option<Vec<usize>>, QuantizeError> {
    let taps: Vec<String> = decisive(model).into_iter().take(1).collect();
    let pool = Pool::open(engine, model, &taps)?;
    if pool.shapes()?.iter().any(|shape| shape.iter().filter(|&&size| size > 1).count() > 1) {
        return Ok(None);
    }
    pool.each(samples, |runner, _| Ok(argmax(runner.output(0)))).map(Some)
}

/// Outputs of a graph; of one that a Softmax or Sigmoid makes what goes into it, where errors are not squashed, and
/// of an index what it is the index in.
fn decisive(model: &ModelProto) -> Vec<String> {
    let edges = Edges::of(model);
    let mut taps: Vec<String> = Vec::new();
    for name in model.graph.iter().flat_map(|graph| graph.output_names()) {
        let producer = |tap: &str| edges.producer.get(tap).and_then(|&index| model.nodes().get(index));
        let squashes = |node: &&NodeProto| {
            matches!(
                node.op(),
                "Softmax" | "LogSoftmax" | "Sigmoid" | "ArgMax" | "ArgMin" | "TopK" | "Cast" | "Identity"
            )
        };
        let before = |&tap: &&str| producer(tap).filter(squashes)?.arg(0);
        // Nodes that read each other have no first one.
        let steps = std::iter::successors(Some(name), before).take(model.nodes().len() + 1);
        let tap: &str = steps.last().unwrap_or_default();
        if !taps.iter().any(|held| held == tap) {
            taps.push(tap.to_owned());
        }
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::f32s;
    use crate::onnx::proto::{GraphProto, ValueInfoProto};

    #[test]
    fn what_reads_itself_ends() {
        let identity = NodeProto::new("Identity", "i".into(), vec!["y".into()], vec!["y".into()]);
        let graph = GraphProto {
            node: vec![identity],
            output: vec![ValueInfoProto::untyped("y")],
            ..Default::default()
        };
        assert_eq!(decisive(&ModelProto { graph: Some(graph), ..Default::default() }), ["y"]);
    }

    #[test]
    fn what_is_known_depends_on_a_sample() {
        let graph = GraphProto {
            node: vec![
                NodeProto::test("Cast", &["half"], "w"),
                NodeProto::test("Relu", &["x"], "a"),
                NodeProto::test("Sigmoid", &["x"], "b"),
                NodeProto::test("MatMul", &["a", "w"], "c"),
                NodeProto::test("Add", &["c", "default"], "d"),
                NodeProto::test("Add", &["d", "b"], "y"),
            ],
            input: ["x", "default"].map(ValueInfoProto::untyped).into(),
            output: vec![ValueInfoProto::untyped("y")],
            initializer: vec![f32s("half", &[1, 1], &[1.0]), f32s("default", &[1], &[1.0])],
            ..GraphProto::default()
        };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        assert_eq!(between(&model, &["a".to_owned()]), ["a", "b"]);
    }

    #[test]
    fn ratios() {
        let mut power = Power::default();
        power.add(&[3.0, 4.0], &[3.0, 4.0]);
        assert_eq!(power.sqnr_db(), PERFECT);
        power.add(&[0.0], &[0.5]);
        assert!((power.sqnr_db() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn outputs_without_an_error_do_not_thin_out_that_of_another() {
        let power = |noise| Power { signal: 1.0, noise };
        let taps = [power(0.01), power(0.0), power(0.0), power(0.0)];
        assert!(mean_db(&taps) > 26.0);
        assert!((worst_db(&taps) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn samples_are_spread() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 100), [0, 1, 2]);
    }
}
