//! Two forms of one model side by side: how far each tensor of one is from the other's.
//!
//! Tensors are the same where they have the same name. In a quantized model what counts is what others read of a
//! tensor, its dequantized values.

use std::collections::{HashMap, HashSet};

use crate::judge::{Score, agree, decibels};
use crate::onnx::proto::{ModelProto, TensorProto, data_type};
use crate::onnx::{self, Edges, floats};
use crate::pool::Pool;
use crate::scheme::Activations;
use crate::{Engine, Progress, QuantizeError, Runner};

/// How far a tensor is from the reference.
#[derive(Clone, Debug)]
pub struct LayerError {
    /// The tensor's name.
    pub tensor: String,
    /// The node that makes it in the reference, and its operator.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Ratio of the reference's power to that of the difference, in dB.
    pub sqnr_db: f64,
    /// The largest difference, infinite where one has NaN or an infinity that the other has not; none where channels are
    /// [scaled](LayerError::scaled).
    pub max_abs: Option<f32>,
    /// Share of the reference's values, by the channels' factors, that lie outside what the quantized tensor can hold.
    pub saturation: f64,
    /// Cosine of the angle between both, taken as vectors; NaN where the largest difference is infinite.
    pub cosine: f64,
    /// Whether the model has the tensor's channels by factors larger or smaller, as channels evened out are. They
    /// are then compared less their factors, each the one of least squares on what is not cut off.
    pub scaled: bool,
}

/// Two models compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Tensors that both have, in the reference's order.
    pub layers: Vec<LayerError>,
    /// Tensors that have one name in both and different shapes.
    pub unlike: Vec<String>,
    /// The outputs together. Nothing is looked through.
    pub output: Score,
    /// The largest difference of an output, infinite as that of a [tensor](LayerError::max_abs) is.
    pub output_max_abs: f32,
    /// Samples that were run.
    pub samples: usize,
}

/// Compares a model with a reference, on the samples that both engines have. With `one_at_a_time` a pair of
/// tensors is in memory at once, at the price of a run for each.
///
/// # Errors
/// A model cannot be read, the outputs differ in number, or an engine fails.
pub fn compare(
    (reference, reference_engine): (&[u8], &dyn Engine),
    (model, engine): (&[u8], &dyn Engine),
    one_at_a_time: bool,
    progress: &dyn Progress,
) -> Result<Comparison, QuantizeError> {
    let load = |bytes: &[u8], engine: &dyn Engine| {
        let mut model = onnx::decode(bytes)?;
        onnx::take_in(&mut model, &|tensor| engine.stored(tensor))?;
        Ok::<_, QuantizeError>(model)
    };
    let (reference, model) = (load(reference, reference_engine)?, load(model, engine)?);
    let samples: Vec<usize> = (0..reference_engine.samples().min(engine.samples())).collect();
    if samples.is_empty() {
        return Err(QuantizeError::NoSamples);
    }
    let pairs = pairs(&reference, &model);
    let outputs = (output_names(&reference), output_names(&model));
    if outputs.0.len() != outputs.1.len() {
        let what =
            format!("the models have {} and {} outputs; they cannot be compared", outputs.0.len(), outputs.1.len());
        return Err(QuantizeError::Mismatch(what));
    }
    let batch = if one_at_a_time { 1 } else { pairs.len().max(1) };
    progress.begin("compare", samples.len() * (pairs.len().div_ceil(batch) + 1));
    let run = |left: &[String], right: &[String], ranges: &[Option<Span>]| {
        let pools = (Pool::open(reference_engine, &reference, left)?, Pool::open(engine, &model, right)?);
        let shapes = (pools.0.shapes()?, pools.1.shapes()?);
        let channels = shapes.0.iter().map(|shape| if shape.len() > 1 { shape[1] } else { 1 });
        let mut sums: Vec<Sums> = channels.map(Sums::new).collect();
        for (index, sums) in sums.iter_mut().enumerate() {
            sums.comparable = shapes.0[index] == shapes.1[index];
        }
        let mut agreeing = 0;
        for sample in &samples {
            let all = |pool: &Pool<'_>, count: usize| {
                pool.each(&[*sample], |runner, _| Ok((0..count).map(|i| runner.output(i).to_vec()).collect::<Vec<_>>()))
            };
            let (a, b) = (all(&pools.0, left.len())?, all(&pools.1, right.len())?);
            for (index, (a, b)) in a.iter().flatten().zip(b.iter().flatten()).enumerate() {
                if sums[index].comparable {
                    sums[index].add(a, b, ranges[index]);
                }
                agreeing += usize::from(index == 0 && agree(a, b));
            }
            progress.advance(1);
        }
        Ok::<_, QuantizeError>((sums, agreeing))
    };
    let (mut layers, mut unlike) = (Vec::new(), Vec::new());
    for batch in pairs.chunks(batch) {
        let names = |of: fn(&Pair) -> &String| batch.iter().map(|pair| of(pair).clone()).collect::<Vec<_>>();
        let ranges: Vec<_> = batch.iter().map(|pair| pair.range).collect();
        let (sums, _) = run(&names(|pair| &pair.tensor), &names(|pair| &pair.seen), &ranges)?;
        for (pair, sums) in batch.iter().zip(sums) {
            // Indices and shapes are not compared; what only shares a name is not either, and is said.
            match (sums.comparable, sums.count) {
                (true, 0) => {}
                (true, _) => layers.push(sums.layer(pair)),
                (false, _) => unlike.push(pair.tensor.clone()),
            }
        }
    }
    let (sums, agreeing) = run(&outputs.0, &outputs.1, &vec![None; outputs.0.len()])?;
    if let Some(index) = sums.iter().position(|sums| !sums.comparable || sums.count == 0) {
        let name = &outputs.0[index];
        return Err(QuantizeError::Mismatch(format!(
            "output `{name}` is of another shape in the other model, or not float32; it cannot be compared"
        )));
    }
    Ok(Comparison { layers, unlike, ..Comparison::of_outputs(&sums, agreeing, samples.len()) })
}

/// Compares the outputs alone, one by one in their order: of models whose tensors within have no names, or that are no
/// ONNX models at all. Both run the same samples.
///
/// # Errors
/// The outputs differ in number or shape, are not float32, or a runner fails.
pub fn compare_outputs(
    reference: &mut dyn Runner,
    model: &mut dyn Runner,
    samples: usize,
    progress: &dyn Progress,
) -> Result<Comparison, QuantizeError> {
    if samples == 0 {
        return Err(QuantizeError::NoSamples);
    }
    let shapes = reference.shapes().to_vec();
    if shapes != model.shapes() {
        let what = format!("the outputs are of shapes {shapes:?} and {:?}; they cannot be compared", model.shapes());
        return Err(QuantizeError::Mismatch(what));
    }
    let mut sums: Vec<Sums> = shapes.iter().map(|_| Sums::new(1)).collect();
    let mut agreeing = 0;
    progress.begin("compare", samples);
    for sample in 0..samples {
        reference.run(sample, &[])?;
        model.run(sample, &[])?;
        for (index, sums) in sums.iter_mut().enumerate() {
            let (a, b) = (reference.output(index), model.output(index));
            let expected: usize = shapes[index].iter().product();
            if [a.len(), b.len()] != [expected; 2] {
                return Err(QuantizeError::Mismatch(format!("output {index} (from 0) is not float32 in both models")));
            }
            sums.add(a, b, None);
            agreeing += usize::from(index == 0 && agree(a, b));
        }
        progress.advance(1);
    }
    Ok(Comparison::of_outputs(&sums, agreeing, samples))
}

impl Comparison {
    fn of_outputs(sums: &[Sums], agreeing: usize, samples: usize) -> Comparison {
        let total = sums.iter().map(|sums| sums.total(|channel| channel.all)).fold(Products::default(), Products::plus);
        let output_max_abs = sums.iter().fold(0.0, |most, sums| sums.max_abs.max(most));
        let sqnr_db = total.sqnr_db(output_max_abs);
        let worst_db = sums.iter().map(|sums| sums.total(|channel| channel.all).sqnr_db(sums.max_abs));
        let worst_db = worst_db.fold(sqnr_db, f64::min);
        let output = Score { sqnr_db, worst_db, halves_db: [sqnr_db; 2], agreement: agreeing as f64 / samples as f64 };
        Comparison { layers: vec![], unlike: vec![], output, output_max_abs: output_max_abs as f32, samples }
    }
}

/// A tensor of the reference with the one that holds its values in the model.
struct Pair {
    tensor: String,
    seen: String,
    node: String,
    op: String,
    /// What the quantized tensor can hold.
    range: Option<Span>,
}

fn pairs(reference: &ModelProto, model: &ModelProto) -> Vec<Pair> {
    let edges = Edges::of(model);
    let stored = model.graph.as_ref().map(onnx::proto::GraphProto::stored).unwrap_or_default();
    let outputs: HashSet<String> = output_names(reference).into_iter().collect();
    let computes = |op: &str| !matches!(op, "Constant" | "Identity" | "Shape" | "DequantizeLinear" | "");
    let nodes = reference.nodes().iter().filter(|node| computes(node.op()) && node.output.len() == 1);
    nodes
        .filter(|node| !outputs.contains(node.out()))
        .filter_map(|node| {
            let tensor = node.out().to_owned();
            edges.producer.get(&tensor)?;
            let (seen, range) = match dequantized(&tensor, model, &edges, &stored) {
                Some(found) => found,
                None if goes_into_a_clamp(&tensor, model, &edges) => return None,
                None => (tensor.clone(), None),
            };
            Some(Pair { tensor, seen, node: node.title().into(), op: node.op().into(), range })
        })
        .collect()
}

/// Whether a tensor is only there for a Relu or Clip behind it. An engine makes one op of both, and asking for
/// what lies between would change how it computes.
fn goes_into_a_clamp(tensor: &str, model: &ModelProto, edges: &Edges) -> bool {
    let reader = edges.sole_reader(tensor).and_then(|index| model.nodes().get(index));
    reader.is_some_and(|node| matches!(node.op(), "Relu" | "Clip"))
}

/// The tensor behind `tensor → QuantizeLinear → DequantizeLinear`, and what it can hold.
fn dequantized(
    tensor: &str,
    model: &ModelProto,
    edges: &Edges,
    stored: &HashMap<&str, &TensorProto>,
) -> Option<(String, Option<Span>)> {
    let quantizing =
        edges.readers(tensor).iter().map(|&index| &model.nodes()[index]).find(|node| node.op() == "QuantizeLinear")?;
    let reader = edges.readers(quantizing.out()).first()?;
    let dequantizing = model.nodes().get(*reader).filter(|node| node.op() == "DequantizeLinear")?;
    let scale = quantizing.arg(1).and_then(|name| stored.get(name)).and_then(|tensor| floats(tensor));
    let range = match (scale.as_deref(), quantizing.arg(2).and_then(|name| stored.get(name))) {
        (Some(&[scale]), Some(zero_point)) => bounds(zero_point).map(|(zero, (low, high))| Span {
            low: (low - zero) as f32 * scale,
            high: (high - zero) as f32 * scale,
            half: scale / 2.0,
        }),
        _ => None,
    };
    Some((dequantizing.out().to_owned(), range))
}

/// The one zero point, and the ends of its type.
fn bounds(zero_point: &TensorProto) -> Option<(i32, (i32, i32))> {
    let number = match (zero_point.raw_data.as_deref(), zero_point.int32_data.as_slice()) {
        (Some(&[byte]), _) => u16::from(byte),
        (Some(&[low, high]), _) => u16::from_le_bytes([low, high]),
        (None, &[number]) => number as u16,
        _ => return None,
    };
    let (zero, activations) = match zero_point.data_type? {
        data_type::INT8 => (i32::from(number as i8), Activations::Int8),
        data_type::UINT8 => (i32::from(number as u8), Activations::Uint8),
        data_type::INT16 => (i32::from(number as i16), Activations::Int16),
        data_type::UINT16 => (i32::from(number), Activations::Uint16),
        _ => return None,
    };
    Some((zero, activations.bounds()))
}

fn output_names(model: &ModelProto) -> Vec<String> {
    model.graph.iter().flat_map(|graph| graph.output_names()).map(str::to_owned).collect()
}

/// The values that a quantized tensor holds.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: f32,
    high: f32,
    /// Half a step: so far beyond the ends a value is rounded, not cut off.
    half: f32,
}

impl Span {
    fn cuts_off(self, value: f32) -> bool {
        value < self.low - self.half || value > self.high + self.half
    }

    /// Whether a value that it holds is one of the ends, where all lies that is cut off.
    fn is_end(self, value: f32) -> bool {
        value < self.low + self.half || value > self.high - self.half
    }
}

/// Sums over values of the reference `r` and of the model `f`.
#[derive(Clone, Copy, Debug, Default)]
struct Products {
    rr: f64,
    rf: f64,
    ff: f64,
}

impl Products {
    fn plus(self, other: Products) -> Products {
        Products { rr: self.rr + other.rr, rf: self.rf + other.rf, ff: self.ff + other.ff }
    }

    /// What the reference's values are multiplied by in the model, by least squares; none where they are not the same but
    /// for a factor.
    fn factor(self) -> Option<f64> {
        (self.rf > 0.0 && self.cosine() >= ALIKE).then(|| self.rf / self.rr)
    }

    fn cosine(self) -> f64 {
        if self.rr == 0.0 && self.ff == 0.0 { 1.0 } else { self.rf / (self.rr * self.ff).sqrt().max(f64::MIN_POSITIVE) }
    }

    fn sqnr_db(self, max_abs: f64) -> f64 {
        let noise = if max_abs.is_finite() { (self.rr - 2.0 * self.rf + self.ff).max(0.0) } else { f64::INFINITY };
        decibels(self.rr, noise)
    }
}

/// A channel of a tensor.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    all: Products,
    /// Of what does not lie at an end of the range.
    within: Products,
}

impl Channel {
    /// The factor of a channel that has one which rounding does not make.
    fn scaled(&self) -> Option<f64> {
        self.within.factor().filter(|factor| (factor - 1.0).abs() > SCALED)
    }
}

/// What was seen of a tensor, channel by channel.
struct Sums {
    channels: Vec<Channel>,
    /// Infinite where one value is not finite, and the other another.
    max_abs: f64,
    outside: usize,
    count: usize,
    comparable: bool,
}

/// A factor this far from 1 is none that rounding makes.
const SCALED: f64 = 0.1;
/// The least cosine of a channel with its reference at which both are said to be the same but for a factor.
const ALIKE: f64 = 0.95;

impl Sums {
    fn new(channels: usize) -> Sums {
        let channels = vec![Channel::default(); channels.max(1)];
        Sums { channels, max_abs: 0.0, outside: 0, count: 0, comparable: true }
    }

    fn add(&mut self, reference: &[f32], found: &[f32], range: Option<Span>) {
        let inner = (reference.len() / self.channels.len()).max(1);
        for (channel, (reference, found)) in
            self.channels.iter_mut().zip(reference.chunks(inner).zip(found.chunks(inner)))
        {
            for (&r, &f) in reference.iter().zip(found) {
                if !r.is_finite() || !f.is_finite() {
                    let same = r == f || (r.is_nan() && f.is_nan());
                    self.max_abs = if same { self.max_abs } else { f64::INFINITY };
                    continue;
                }
                let at_an_end = range.is_some_and(|range| range.is_end(f));
                let (r, f) = (f64::from(r), f64::from(f));
                self.max_abs = self.max_abs.max((r - f).abs());
                let products = Products { rr: r * r, rf: r * f, ff: f * f };
                channel.all = channel.all.plus(products);
                if !at_an_end {
                    channel.within = channel.within.plus(products);
                }
            }
            if let Some(range) = range {
                let factor = channel.scaled().unwrap_or(1.0) as f32;
                self.outside += reference.iter().filter(|&&value| range.cuts_off(value * factor)).count();
            }
        }
        self.count += reference.len();
    }

    /// Over all channels, of what `of` makes of each.
    fn total(&self, of: impl Fn(&Channel) -> Products) -> Products {
        self.channels.iter().map(of).fold(Products::default(), Products::plus)
    }

    fn layer(self, pair: &Pair) -> LayerError {
        let carries = self.total(|channel| channel.all).rr * 1e-4 / self.channels.len() as f64;
        let scaled = self.channels.iter().any(|channel| channel.all.rr > carries && channel.scaled().is_some());
        let less = |channel: &Channel| {
            let factor = channel.within.factor().filter(|_| scaled).unwrap_or(1.0);
            let Products { rr, rf, ff } = channel.all;
            Products { rr, rf: rf / factor, ff: ff / (factor * factor) }
        };
        let total = self.total(less);
        LayerError {
            tensor: pair.tensor.clone(),
            node: pair.node.clone(),
            op: pair.op.clone(),
            sqnr_db: total.sqnr_db(self.max_abs),
            max_abs: (!scaled).then_some(self.max_abs as f32),
            saturation: self.outside as f64 / self.count.max(1) as f64,
            cosine: if self.max_abs.is_finite() { total.cosine() } else { f64::NAN },
            scaled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair { tensor: "t".into(), seen: "t".into(), node: "n".into(), op: "Conv".into(), range: None }
    }

    #[test]
    fn channels_by_factors_are_compared_less_their_factors() {
        let mut sums = Sums::new(2);
        sums.add(&[1.0, 2.0, 3.0, 4.0], &[4.0, 8.0, 1.5, 2.0], None);
        let layer = sums.layer(&pair());
        assert!(layer.scaled && layer.max_abs.is_none() && layer.sqnr_db > 100.0, "{layer:?}");
    }

    #[test]
    fn what_the_range_does_not_hold_is_counted() {
        let mut sums = Sums::new(1);
        let range = Span { low: -9.8, high: 10.9, half: 0.1 };
        sums.add(&[0.0, 10.0, -10.0, 3.0], &[0.0, 10.0, -10.0, 2.0], Some(range));
        let layer = sums.layer(&pair());
        assert_eq!((layer.saturation, layer.max_abs, layer.scaled), (0.25, Some(1.0), false));
        assert!((layer.sqnr_db - 10.0 * 209f64.log10()).abs() < 1e-9);
    }

    #[test]
    fn a_value_that_is_no_number_is_the_worst_there_is() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut sums = Sums::new(1);
            sums.add(&[1.0, 2.0], &[1.0, broken], None);
            let output = Comparison::of_outputs(&[sums], 0, 1);
            assert_eq!((output.output.sqnr_db, output.output_max_abs), (-150.0, f32::INFINITY));
            let mut sums = Sums::new(1);
            sums.add(&[1.0, 2.0], &[1.0, broken], None);
            let layer = sums.layer(&pair());
            assert_eq!((layer.sqnr_db, layer.max_abs), (-150.0, Some(f32::INFINITY)));
            assert!(layer.cosine.is_nan());
            // What both have is no difference.
            let mut sums = Sums::new(1);
            sums.add(&[1.0, broken], &[1.0, broken], None);
            assert_eq!(sums.layer(&pair()).sqnr_db, 150.0);
        }
    }

    #[test]
    fn what_is_cut_off_is_not_scaled() {
        let reference: Vec<f32> = (0..100).map(|i| i as f32 / 10.0).collect();
        let range = Span { low: 0.0, high: 5.0, half: 0.01 };
        let found = |factor: f32| reference.iter().map(|r| (r * factor).min(5.0)).collect::<Vec<_>>();
        for (factor, saturation) in [(1.0, 0.49), (3.0, 0.83)] {
            let mut sums = Sums::new(1);
            sums.add(&reference, &found(factor), Some(range));
            let layer = sums.layer(&pair());
            assert_eq!((layer.scaled, layer.saturation), (factor > 1.0, saturation));
            assert!(layer.sqnr_db < 10.0, "{layer:?}");
        }
    }

    #[test]
    fn noise_is_no_factor() {
        let mut sums = Sums::new(1);
        sums.add(&[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 3.0, 0.0], None);
        let layer = sums.layer(&pair());
        assert!(!layer.scaled && layer.max_abs == Some(4.0), "{layer:?}");
    }

    #[test]
    fn zero_points_of_every_type_are_read() {
        let zero = |activations: Activations, number: i32| {
            let (kind, bytes) = activations.stored(number);
            bounds(&onnx::raw("zero", kind, &[], bytes))
        };
        assert_eq!(zero(Activations::Int8, -3), Some((-3, (-128, 127))));
        assert_eq!(zero(Activations::Uint8, 200), Some((200, (0, 255))));
        assert_eq!(zero(Activations::Int16, -300), Some((-300, (-32768, 32767))));
        assert_eq!(zero(Activations::Uint16, 40000), Some((40000, (0, 65535))));
    }

    /// Answers from a table: a row a sample.
    struct Table(Vec<Vec<usize>>, Vec<[f32; 2]>, usize);

    impl Runner for Table {
        fn shapes(&self) -> &[Vec<usize>] {
            &self.0
        }

        fn run(&mut self, sample: usize, _: &[&[f32]]) -> Result<(), crate::EngineError> {
            self.2 = sample;
            Ok(())
        }

        fn output(&self, index: usize) -> &[f32] {
            if index == 0 { &self.1[self.2] } else { &[] }
        }
    }

    struct Silent;

    impl Progress for Silent {
        fn begin(&self, _: &str, _: usize) {}
        fn advance(&self, _: usize) {}
    }

    #[test]
    fn outputs_alone_are_compared_sample_by_sample() {
        let table = |shapes: &[&[usize]], rows: &[[f32; 2]]| {
            Table(shapes.iter().map(|shape| shape.to_vec()).collect(), rows.to_vec(), 0)
        };
        let mut reference = table(&[&[1, 2]], &[[3.0, 0.0], [0.0, 4.0]]);
        let mut model = table(&[&[1, 2]], &[[3.0, 0.5], [4.0, 0.0]]);
        let compared = compare_outputs(&mut reference, &mut model, 2, &Silent).unwrap();
        assert_eq!((compared.layers.len(), compared.samples, compared.output_max_abs), (0, 2, 4.0));
        assert_eq!(compared.output.agreement, 0.5);
        assert!((compared.output.sqnr_db - 10.0 * (25.0 / 32.25f64).log10()).abs() < 1e-9);

        let refused = |reference: &mut Table, model: &mut Table, samples| {
            compare_outputs(reference, model, samples, &Silent).unwrap_err()
        };
        let mut flat = table(&[&[2]], &[[0.0; 2]]);
        assert!(matches!(refused(&mut reference, &mut flat, 1), QuantizeError::Mismatch(_)), "another shape");
        let mut integers = table(&[&[1, 2], &[1]], &[[0.0; 2]]);
        let mut others = table(&[&[1, 2], &[1]], &[[0.0; 2]]);
        assert!(matches!(refused(&mut integers, &mut others, 1), QuantizeError::Mismatch(_)), "not float32");
        assert!(matches!(refused(&mut reference, &mut model, 0), QuantizeError::NoSamples));
    }
}
