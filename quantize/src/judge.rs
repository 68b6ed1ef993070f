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
    /// What parts the two answers that a single value may give.
    middle: Option<f32>,
    samples: Vec<usize>,
    /// By sample, then by tap.
    reference: Vec<Vec<Vec<f32>>>,
}

/// Error at each tap of one sample, and whether the answer is the same.
type Held = (Vec<Power>, Option<bool>);

/// How near a model is to the float one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Ratio of the outputs' power to that of their error, in dB. A final Softmax is looked through.
    pub sqnr_db: f64,
    /// The same of the output for which it is lowest.
    pub worst_db: f64,
    /// That of all outputs on every other sample, and on those between.
    pub halves_db: [f64; 2],
    /// Share of samples on which the first output gives the same answer: its largest value, or of a single one behind a
    /// Sigmoid the side of one half. None of any other number, which is no answer among several.
    pub agreement: Option<f64>,
}

impl<'e> Judge<'e> {
    /// Runs the float model on `count` of the samples, or fewer where its outputs are large.
    pub fn new(engine: &'e dyn Engine, model: &ModelProto, count: usize) -> Result<Judge<'e>, QuantizeError> {
        let taps = decisive(model);
        // Before the Sigmoid, which makes one half of 0, where it is looked through.
        let is_behind = taps.first().is_some_and(|tap| middle(model, tap).is_some());
        let middle = middle(model, first_output(model)).map(|middle| if is_behind { middle } else { 0.0 });
        Judge::at(engine, model, (taps, middle), count)
    }

    /// The same at the outputs themselves, nothing looked through.
    pub fn at_outputs(engine: &'e dyn Engine, model: &ModelProto, count: usize) -> Result<Judge<'e>, QuantizeError> {
        let outputs = model.graph.iter().flat_map(|graph| graph.output_names()).map(str::to_owned);
        Judge::at(engine, model, (outputs.collect(), middle(model, first_output(model))), count)
    }

    fn at(
        engine: &'e dyn Engine,
        model: &ModelProto,
        (taps, middle): (Vec<String>, Option<f32>),
        count: usize,
    ) -> Result<Judge<'e>, QuantizeError> {
        let pool = Pool::open(engine, model, &taps)?;
        let elements: usize = pool.shapes()?.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let count = count.min(KEPT / elements.max(1)).max(4);
        let samples = spread(engine.samples(), count);
        let reference =
            pool.each(&samples, |runner, _| Ok((0..taps.len()).map(|tap| runner.output(tap).to_vec()).collect()))?;
        Ok(Judge { engine, taps, middle, samples, reference })
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
        let agrees = reference.first().and_then(|first| agree(first, runner.output(0), self.middle));
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
        let agreeing: Option<usize> = seen.iter().map(|(_, agrees)| agrees.map(usize::from)).sum();
        let halves_db = halves.map(|taps| mean_db(&taps));
        let agreement = agreeing.map(|agreeing| agreeing as f64 / seen.len().max(1) as f64);
        Score { sqnr_db: mean_db(&total), worst_db: worst_db(&total), halves_db, agreement }
    }

    /// Whether the first output gives answers that can be the same, and is not just a number.
    pub fn has_answers(&self) -> bool {
        let first = self.reference.first().and_then(|taps| taps.first());
        first.is_some_and(|first| agree(first, first, self.middle).is_some())
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
    pub signal: f64,
    pub noise: f64,
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
pub fn mean_db(taps: &[Power]) -> f64 {
    let relative: Vec<f64> = relative(taps).collect();
    decibels(1.0, relative.iter().sum::<f64>() / relative.len().max(1) as f64)
}

/// That of the output that is farthest from the reference.
pub fn worst_db(taps: &[Power]) -> f64 {
    decibels(1.0, relative(taps).fold(0.0, f64::max))
}

/// Relative errors of the outputs that are not 0 in both.
fn relative(taps: &[Power]) -> impl Iterator<Item = f64> {
    let loud = taps.iter().filter(|tap| tap.signal > 0.0 || tap.noise > 0.0);
    loud.map(|tap| if tap.signal > 0.0 { tap.noise / tap.signal } else { f64::INFINITY })
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

/// Whether both give the same answer: the same largest value, or of a single one the same side of `middle`; what has NaN
/// gives none. Of a number without a middle nothing can be said.
pub fn agree(reference: &[f32], found: &[f32], middle: Option<f32>) -> Option<bool> {
    let same = match (reference, found) {
        ([], _) => return None,
        ([reference], [found]) => middle.map(|middle| (*reference >= middle) == (*found >= middle))?,
        _ => argmax(reference) == argmax(found),
    };
    Some(same && !found.iter().any(|value| value.is_nan()))
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

/// Where a tensor parts two answers if it is a single value: at one half where a Sigmoid makes it, whatever shape it gets.
pub fn middle(model: &ModelProto, tensor: &str) -> Option<f32> {
    let edges = Edges::of(model);
    let maker = |tensor: &str| edges.producer.get(tensor).and_then(|&index| model.nodes().get(index));
    let keeps = |op: &str| matches!(op, "Cast" | "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze");
    // Nodes that read each other have no first one.
    let mut steps = std::iter::successors(maker(tensor), |node| maker(node.arg(0)?)).take(model.nodes().len() + 1);
    let sigmoid = steps.find(|node| !keeps(node.op())).filter(|node| node.op() == "Sigmoid")?;
    // Of what is within 0 to 1 already it makes no half.
    makers(model, &edges, sigmoid.arg(0)?).all(|node| keeps(node.op())).then_some(0.5)
}

fn first_output(model: &ModelProto) -> &str {
    let names = model.graph.as_ref().map(|graph| graph.output_names());
    names.and_then(|names| names.first().copied()).unwrap_or_default()
}

/// The nodes that make a tensor of what decides it, the last one first.
fn makers<'m>(model: &'m ModelProto, edges: &'m Edges, tensor: &str) -> impl Iterator<Item = &'m NodeProto> {
    let maker = |tensor: &str| {
        let node = edges.producer.get(tensor).and_then(|&index| model.nodes().get(index))?;
        let squashes = matches!(
            node.op(),
            "Softmax" | "LogSoftmax" | "Sigmoid" | "ArgMax" | "ArgMin" | "TopK" | "Cast" | "Identity"
        );
        (squashes && node.arg(0).is_some()).then_some(node)
    };
    // Nodes that read each other have no first one.
    std::iter::successors(maker(tensor), move |node| maker(node.arg(0)?)).take(model.nodes().len() + 1)
}

/// Outputs of a graph; of one that a Softmax or Sigmoid makes what goes into it, where errors are not squashed, and
/// of an index what it is the index in.
fn decisive(model: &ModelProto) -> Vec<String> {
    let edges = Edges::of(model);
    let mut taps: Vec<String> = Vec::new();
    for name in model.graph.iter().flat_map(|graph| graph.output_names()) {
        let tap = makers(model, &edges, name).last().and_then(|node| node.arg(0)).unwrap_or(name);
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
        let graph =
            GraphProto { node: vec![identity], output: vec![ValueInfoProto::untyped("y")], ..Default::default() };
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
    fn one_value_gives_an_answer_behind_a_sigmoid_alone() {
        let model = |ops: &[&str]| {
            let tensor = |index: usize| format!("t{index}");
            let node = |(i, op): (usize, &&str)| NodeProto::test(op, &[&tensor(i)], &tensor(i + 1));
            let graph = GraphProto {
                node: ops.iter().enumerate().map(node).collect(),
                output: vec![ValueInfoProto::untyped(&tensor(ops.len()))],
                ..GraphProto::default()
            };
            ModelProto { graph: Some(graph), ..ModelProto::default() }
        };
        let of = |ops: &[&str]| middle(&model(ops), first_output(&model(ops)));
        assert_eq!((of(&["Relu", "Sigmoid"]), of(&["Sigmoid", "Identity"])), (Some(0.5), Some(0.5)));
        assert_eq!((of(&["Sigmoid", "Squeeze"]), of(&["Sigmoid", "Sigmoid"])), (Some(0.5), None));
        assert_eq!((of(&["Relu"]), of(&["Softmax"]), of(&["Sigmoid", "Relu"])), (None, None, None));
        assert_eq!((agree(&[3.0], &[-3.0], None), agree(&[], &[], Some(0.0))), (None, None));
        assert_eq!((agree(&[3.0], &[0.5], Some(0.0)), agree(&[3.0], &[-0.5], Some(0.0))), (Some(true), Some(false)));
        assert_eq!(agree(&[3.0], &[f32::NAN], Some(0.0)), Some(false));
        assert_eq!(
            (agree(&[3.0, 1.0], &[1.0, 0.5], None), agree(&[3.0, 1.0], &[1.0, 2.0], None)),
            (Some(true), Some(false))
        );
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
        // That of a single output is its own, to the last bit.
        for noise in 1..100 {
            let tap = [Power { signal: 7.0, noise: f64::from(noise) / 3.0 }];
            assert!(worst_db(&tap) >= mean_db(&tap));
        }
    }

    #[test]
    fn samples_are_spread() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 100), [0, 1, 2]);
    }
}
