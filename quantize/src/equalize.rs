//! Channels evened out: a channel that a layer writes is made larger, and the weights that read it smaller by
//! as much, so that all channels of a tensor fill its one range. The float model answers as before.
//!
//! Between layers with a ReLU or nothing in between, which let a positive factor through: Nagel et al. 2019,
//! "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. There both sides
//! have one scale for all weights; here weights have one for each output channel, so what a layer writes can
//! be scaled for nothing, and what matters is the activation's range against that of the weights behind it:
//! Xiao et al. 2023, "SmoothQuant", equation 4. A depthwise layer has a scale for each channel, and takes
//! any factor.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use crate::calibrate::Method;
use crate::judge::{self, Score};
use crate::layer::Matrix;
use crate::onnx::proto::ModelProto;
use crate::onnx::{Edges, dims, set, stored};
use crate::pool::Pool;
use crate::quantizer::Effort;
use crate::reader::Reader;
use crate::sites::{Site, Sites};
use crate::work::Work;
use crate::{Progress, QuantizeError};

/// How far activations are evened out at the expense of weights, 1 wholly and 0.5 as much as weights; and by what of a
/// channel, its largest value or its power: a range may be drawn narrower than the values go.
const WAYS: [(f32, Measure); 4] =
    [(0.5, Measure::Peak), (1.0, Measure::Peak), (0.5, Measure::Power), (1.0, Measure::Power)];
/// The most that a channel is enlarged.
const MOST: f32 = 8.0;
/// Of the largest value of all channels, what one that is enlarged reaches at most. On new samples it may be louder, and what
/// goes beyond the range is cut off: of half it may be twice as loud, and all of it is tried where many samples judge.
const FILLS: [f32; 2] = [0.5, 1.0];

/// Two layers with channels between them.
#[derive(Clone, Debug)]
struct Seam {
    /// The layers, by place among the sites.
    first: usize,
    second: usize,
    /// Tensors between them, which all have these channels.
    tensors: Vec<String>,
}

/// What of a channel is evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// Its largest magnitude.
    Peak,
    /// The root of its mean square.
    Power,
}

/// What a channel takes as values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    /// The least, or 0.
    pub min: f32,
    /// The greatest, or 0.
    pub max: f32,
    /// Sum of squares; the count is the same for all channels of a tensor.
    squares: f64,
}

impl Channel {
    fn peak(&self) -> f32 {
        self.max.max(-self.min)
    }

    fn with(self, other: Channel) -> Channel {
        let (min, max) = (self.min.min(other.min), self.max.max(other.max));
        Channel { min, max, squares: self.squares + other.squares }
    }
}

/// The channels of each seam's first tensor, in each half of the samples.
type Channels = HashMap<String, [Vec<Channel>; 2]>;

/// Factors for the channels of a seam.
struct Way {
    /// From all samples.
    factors: Vec<f32>,
    /// From each half of them, to be judged on the other.
    halves: [Vec<f32>; 2],
}

/// Evens out every seam for which that lessens the error of the layer behind it; tells whether there was one.
///
/// # Errors
/// The engine fails.
pub fn equalize(work: &mut Work<'_>, progress: &dyn Progress) -> Result<bool, QuantizeError> {
    let seams = seams(&work.model, &work.sites);
    progress.begin("even out channels", seams.len());
    let samples = |most| judge::spread(work.engine.samples(), most);
    let (learned, judged) = (samples(work.options.effort.learned()), samples(work.options.effort.judged()));
    let channels = observe(work, &seams, &learned)?;
    let mut evened: Option<ModelProto> = None;
    for seam in &seams {
        let sites = (&work.sites.sites[seam.first], &work.sites.sites[seam.second]);
        if let Some(factors) = best(work, seam, sites, &channels, &judged)?
            && let Some(model) = even(evened.as_ref().unwrap_or(&work.model), sites, &factors)
        {
            evened = Some(model);
        }
        progress.advance(1);
    }
    let changed = evened.is_some();
    if let Some(model) = evened {
        *work = Work::new(model, work.engine, work.options.clone())?;
    }
    Ok(changed)
}

/// The factors of a seam by which the layer behind it is nearest to the float one; none where it is nearest as it is.
/// What a seam's factors change is that layer's error alone: before it, what is written has a scale for each channel.
fn best(
    work: &Work<'_>,
    seam: &Seam,
    (first, second): (&Site, &Site),
    channels: &Channels,
    samples: &[usize],
) -> Result<Option<Vec<f32>>, QuantizeError> {
    let (Some(writes), Some(reads)) = (work.matrix(first), work.matrix(second)) else { return Ok(None) };
    let channels = seam.tensors.first().and_then(|tensor| channels.get(tensor));
    let (Some(halves), Some(read)) = (channels, seam.tensors.last()) else { return Ok(None) };
    let all: Vec<Channel> = halves[0].iter().zip(&halves[1]).map(|(&one, &other)| one.with(other)).collect();
    let way = |way| {
        let of = |channels: &[Channel]| factors((&writes, &reads), channels, way);
        Some(Way { factors: of(&all)?, halves: [of(&halves[0])?, of(&halves[1])?] })
    };
    let fills = if work.options.effort == Effort::Best { &FILLS[..] } else { &FILLS[..1] };
    let ways: Vec<Way> = fills.iter().flat_map(|&fill| WAYS.map(|way| (way, fill))).filter_map(way).collect();
    if ways.is_empty() {
        return Ok(None);
    }
    let Some(reader) = Reader::of(work, second, reads, read, samples)? else { return Ok(None) };
    let ones = vec![1f32; all.len()];
    let plain = Way { factors: ones.clone(), halves: [ones.clone(), ones] };
    let tried: Vec<(Score, &Way)> = [&plain]
        .into_par_iter()
        .chain(&ways)
        .flat_map_iter(|way| [Method::MinMax, Method::Mse].map(|method| (way, method)))
        .map(|(way, method)| (reader.score(work, halves, &way.halves, method), way))
        .collect();
    let mut best = tried[0];
    for candidate in tried {
        if candidate.0.clearly_above(best.0) {
            best = candidate;
        }
    }
    Ok((!std::ptr::eq(best.1, &plain)).then(|| best.1.factors.clone()))
}

/// Finds the seams of a prepared model.
fn seams(model: &ModelProto, sites: &Sites) -> Vec<Seam> {
    let edges = Edges::of(model);
    let nodes = model.nodes();
    let layers: BTreeMap<usize, usize> = sites
        .sites
        .iter()
        .enumerate()
        .filter(|(_, site)| site.weights.is_some())
        .map(|(at, site)| (site.node, at))
        .collect();
    let follow = |(at, site): (usize, &Site)| {
        site.weights.as_ref()?;
        if site.clamp.is_some_and(|clamp| nodes[clamp].op() != "Relu") {
            return None;
        }
        let image = is_image(site);
        let mut tensors = vec![site.output.clone()];
        loop {
            let tensor = tensors.last()?;
            let reader = edges.sole_reader(tensor)?;
            if nodes[reader].arg(0) != Some(tensor) {
                return None;
            }
            if let Some(&second) = layers.get(&reader) {
                // What is a channel to one of them, is a row to the other.
                let alike = is_image(&sites.sites[second]) == image;
                return alike.then_some(Seam { first: at, second, tensors });
            }
            // Pooling works on each channel of an image alone, and lets a factor through.
            if !image || !matches!(nodes[reader].op(), "MaxPool" | "AveragePool" | "GlobalAveragePool") {
                return None;
            }
            tensors.push(nodes[reader].out().to_owned());
        }
    };
    sites.sites.iter().enumerate().filter_map(follow).collect()
}

/// Whether a layer's channels are the second dimension, and not the last.
fn is_image(site: &Site) -> bool {
    matches!(site.op.as_str(), "Conv" | "ConvTranspose")
}

/// What the channels at the seams take as values, over these samples.
fn observe(work: &Work<'_>, seams: &[Seam], samples: &[usize]) -> Result<Channels, QuantizeError> {
    let firsts = seams.iter().filter_map(|seam| Some((seam.tensors.first()?, &work.sites.sites[seam.first])));
    let (taps, sites): (Vec<&String>, Vec<&Site>) = firsts.unzip();
    if taps.is_empty() {
        return Ok(Channels::new());
    }
    let pool = Pool::open(work.engine, &work.model, &taps)?;
    // Channels are the second dimension of images, of which samples have one each, and the last of rows.
    let place = |(site, shape): (&&Site, Vec<usize>)| {
        let axis = if is_image(site) { 1 } else { shape.len().saturating_sub(1) };
        (shape.get(axis).copied().unwrap_or(1), shape.iter().skip(axis + 1).product())
    };
    let places: Vec<(usize, usize)> = sites.iter().zip(pool.shapes()?).map(place).collect();
    let seen = pool.each(samples, |runner, _| {
        let of = |(tap, &place): (usize, &(usize, usize))| channels_of(runner.output(tap), place);
        Ok(places.iter().enumerate().map(of).collect::<Vec<_>>())
    })?;
    let none = |&(count, _): &(usize, usize)| [vec![Channel::default(); count], vec![Channel::default(); count]];
    let mut all: Vec<[Vec<Channel>; 2]> = places.iter().map(none).collect();
    for (sample, seen) in samples.iter().zip(seen) {
        let half = judge::half(*sample, work.engine.samples());
        for (all, one) in all.iter_mut().flat_map(|halves| &mut halves[half]).zip(seen.iter().flatten()) {
            *all = all.with(*one);
        }
    }
    Ok(taps.into_iter().cloned().zip(all).collect())
}

/// Each channel of a tensor that has so many, in runs of so many elements.
fn channels_of(values: &[f32], (count, run): (usize, usize)) -> Vec<Channel> {
    let channel = |channel: usize| {
        let own = || values.chunks(run.max(1)).skip(channel).step_by(count).flatten().copied();
        let squares = own().map(|value| f64::from(value) * f64::from(value)).sum();
        Channel { min: own().fold(0.0, f32::min), max: own().fold(0.0, f32::max), squares }
    };
    (0..count).map(channel).collect()
}

/// What the channels of a seam are multiplied by in one of the [`WAYS`], with one of the [`FILLS`]; none where its layers do not
/// have the same channels.
fn factors(
    (writes, reads): (&Matrix, &Matrix),
    channels: &[Channel],
    ((share, measure), fill): ((f32, Measure), f32),
) -> Option<Vec<f32>> {
    let size = |channel: &Channel| match measure {
        Measure::Peak => channel.peak(),
        Measure::Power => channel.squares.sqrt() as f32,
    };
    let largest: Vec<f32> = channels.iter().map(size).collect();
    let count = writes.rows;
    let depthwise = reads.is_depthwise();
    let fits = largest.len() == count
        && if depthwise { reads.rows == count } else { reads.groups == 1 && reads.cols == count * taps(reads) };
    if !fits {
        return None;
    }
    let mut weights = vec![0f32; count];
    for (index, value) in reads.values.iter().enumerate() {
        let channel = channel_of(reads, index);
        weights[channel] = weights[channel].max(value.abs());
    }
    let factor = |(&largest, &weight): (&f32, &f32)| {
        if largest <= 0.0 || weight <= 0.0 {
            return None;
        }
        Some(if depthwise { largest.powf(-share) } else { weight.powf(1.0 - share) * largest.powf(-share) })
    };
    let raw: Vec<Option<f32>> = largest.iter().zip(&weights).map(factor).collect();
    // The largest stays as it is, so that numbers keep their order of magnitude.
    let top = largest.iter().copied().fold(0.0, f32::max);
    let reached = raw.iter().zip(&largest).filter_map(|(f, l)| f.map(|f| f * l)).fold(0.0, f32::max);
    if reached <= 0.0 || !(top / reached).is_finite() {
        return None;
    }
    let peaks = || channels.iter().map(Channel::peak);
    let room = peaks().fold(0.0, f32::max) * fill;
    let bounded = |(f, peak): (&Option<f32>, f32)| {
        let most = if room > peak { MOST.min(room / peak) } else { 1.0 };
        f.map_or(1.0, |f| (f * top / reached).clamp(1.0 / MOST, most))
    };
    let factors: Vec<f32> = raw.iter().zip(peaks()).map(bounded).collect();
    factors.iter().all(|f| f.is_finite()).then_some(factors)
}

/// Weights of a reading layer for each of its input channels. A Gemm that reads an image would need it flattened,
/// which is no seam.
fn taps(reads: &Matrix) -> usize {
    if reads.dims.len() > 2 { reads.dims[2..].iter().product() } else { 1 }
}

/// The channel that a weight of the reading layer meets.
pub fn channel_of(reads: &Matrix, index: usize) -> usize {
    if reads.is_depthwise() { index / reads.cols } else { index % reads.cols / taps(reads) }
}

/// A model with a seam evened out.
fn even(model: &ModelProto, (first, second): (&Site, &Site), factors: &[f32]) -> Option<ModelProto> {
    let graph = model.graph.as_ref()?;
    let matrix = |site: &Site| Matrix::of(site, &graph.node, &graph.stored());
    let (writes, reads) = (matrix(first)?, matrix(second)?);
    let mut written = writes.values.clone();
    written.chunks_mut(writes.cols).zip(factors).for_each(|(row, f)| row.iter_mut().for_each(|w| *w *= f));
    let mut read = reads.values.clone();
    read.iter_mut().enumerate().for_each(|(index, value)| *value /= factors[channel_of(&reads, index)]);
    let mut model = model.clone();
    set(&mut model, first.node, 1, &writes.dims, &writes.stored_order(&written));
    if let (Some(bias), Some((at, input))) = (&writes.bias, first.bias) {
        let bias: Vec<f32> = bias.iter().zip(factors).map(|(b, f)| b * f).collect();
        let shape = stored(&model, at, input).map_or(vec![writes.rows], dims);
        set(&mut model, at, input, &shape, &bias);
    }
    set(&mut model, second.node, 1, &reads.dims, &reads.stored_order(&read));
    Some(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
    use crate::onnx::{f32s, floats};
    use crate::sites;
    use std::collections::HashSet;

    #[test]
    fn a_quiet_channel_is_enlarged_to_a_share_of_the_loudest_at_most() {
        let layer = |dims: [usize; 4], groups| Matrix {
            rows: dims[0],
            cols: dims[1],
            values: vec![1.0; dims[0] * dims[1]],
            bias: None,
            dims: dims.into(),
            axis: 0,
            groups,
        };
        let channels =
            [8.0, -1.0, 0.1].map(|peak: f32| Channel { min: peak.min(0.0), max: peak.max(0.0), squares: 1.0 });
        let (writes, depthwise) = (layer([3, 1, 1, 1], 1), layer([3, 1, 1, 1], 3));
        let filled = |fill| factors((&writes, &depthwise), &channels, ((1.0, Measure::Peak), fill)).unwrap();
        assert_eq!([filled(0.5), filled(1.0)], [[1.0, 4.0, MOST], [1.0, 8.0, MOST]]);
    }

    #[test]
    fn channels_lie_in_runs() {
        let values = [1.0, -2.0, 3.0, 4.0, -5.0, 6.0];
        let ends = |count, run| -> Vec<[f32; 2]> {
            channels_of(&values, (count, run)).iter().map(|channel| [channel.min, channel.max]).collect()
        };
        assert_eq!(ends(2, 3), [[-2.0, 3.0], [-5.0, 6.0]]);
        assert_eq!(ends(3, 1), [[0.0, 4.0], [-5.0, 0.0], [0.0, 6.0]]);
    }

    #[test]
    fn a_row_behind_a_layer_is_evened_out_with_it() {
        let graph = GraphProto {
            node: vec![
                NodeProto::test("MatMul", &["x", "u"], "a"),
                NodeProto::test("Add", &["row", "a"], "b"),
                NodeProto::test("Relu", &["b"], "c"),
                NodeProto::test("MatMul", &["c", "w"], "y"),
            ],
            input: vec![ValueInfoProto::floats("x", &[1, 3, 2])],
            output: vec![ValueInfoProto::untyped("y")],
            initializer: vec![
                f32s("u", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
                f32s("w", &[2, 2], &[5.0, 6.0, 7.0, 8.0]),
                f32s("row", &[1, 1, 2], &[1.0, -1.0]),
            ],
            ..GraphProto::default()
        };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let sites = sites::find(&model, &HashSet::new());
        let seam = &seams(&model, &sites)[0];
        assert_eq!(seam.tensors, ["c"]);
        let model = even(&model, (&sites.sites[seam.first], &sites.sites[seam.second]), &[2.0, 4.0]).unwrap();
        let row = stored(&model, 1, 0).unwrap();
        assert_eq!((dims(row), floats(row).unwrap()), (vec![1, 1, 2], vec![2.0, -4.0]));
        assert_eq!(floats(stored(&model, 0, 1).unwrap()).unwrap(), [2.0, 8.0, 6.0, 16.0]);
        assert_eq!(floats(stored(&model, 3, 1).unwrap()).unwrap(), [2.5, 3.0, 1.75, 2.0]);
    }

    #[test]
    fn layers_that_mean_other_dimensions_by_channels_have_no_seam() {
        let seams_of = |nodes: &[NodeProto], first: &[usize]| {
            let graph = GraphProto {
                node: nodes.to_vec(),
                input: vec![ValueInfoProto::floats("x", first)],
                output: vec![ValueInfoProto::untyped("y")],
                initializer: vec![f32s("conv", &[2, 2, 1], &[1.0; 4]), f32s("rows", &[2, 2], &[1.0; 4])],
                ..GraphProto::default()
            };
            let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
            let sites = sites::find(&model, &HashSet::new());
            assert_eq!(sites.sites.len(), 2);
            seams(&model, &sites).len()
        };
        let node = NodeProto::test;
        let layer =
            |weights, input, output| node(if weights == "conv" { "Conv" } else { "MatMul" }, &[input, weights], output);
        for (first, second, expected) in
            [("conv", "conv", [1, 1]), ("rows", "rows", [1, 0]), ("conv", "rows", [0, 0]), ("rows", "conv", [0, 0])]
        {
            let direct = [layer(first, "x", "a"), layer(second, "a", "y")];
            let pooled = [layer(first, "x", "a"), node("MaxPool", &["a"], "b"), layer(second, "b", "y")];
            let found = [seams_of(&direct, &[1, 2, 2]), seams_of(&pooled, &[1, 2, 2])];
            assert_eq!(found, expected, "{first} and {second}");
        }
    }

    #[test]
    fn a_layer_between_two_seams_is_evened_out_for_both_whoever_shares_its_weights() {
        let gemms = [["x", "u", "a"], ["a", "w", "b"], ["b", "u", "c"], ["c", "w", "y"]];
        let graph = GraphProto {
            node: gemms.map(|[input, weights, output]| NodeProto::test("MatMul", &[input, weights], output)).into(),
            input: vec![ValueInfoProto::floats("x", &[1, 2])],
            output: vec![ValueInfoProto::untyped("y")],
            initializer: vec![f32s("u", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), f32s("w", &[2, 2], &[5.0, 6.0, 7.0, 8.0])],
            ..GraphProto::default()
        };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let sites = sites::find(&model, &HashSet::new()).sites;
        for seam in sites.windows(2) {
            model = even(&model, (&seam[0], &seam[1]), &[2.0, 4.0]).unwrap();
        }
        let weights = |node| floats(stored(&model, node, 1).unwrap()).unwrap();
        // What is read is made smaller row by row, what is written larger column by column.
        assert_eq!(weights(0), [1.0 * 2.0, 2.0 * 4.0, 3.0 * 2.0, 4.0 * 4.0]);
        assert_eq!(weights(1), [5.0, 6.0 * 4.0 / 2.0, 7.0 * 2.0 / 4.0, 8.0]);
        assert_eq!(weights(2), [1.0, 2.0 * 4.0 / 2.0, 3.0 * 2.0 / 4.0, 4.0]);
        assert_eq!(weights(3), [5.0 / 2.0, 6.0 / 2.0, 7.0 / 4.0, 8.0 / 4.0]);
        assert_eq!(model.graph.unwrap().initializer.len(), 4);
    }
}
