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

use crate::layer::Matrix;
use crate::onnx::proto::ModelProto;
use crate::onnx::{Edges, Names, f32s};
use crate::pool::Pool;
use crate::sites::{Site, Sites};
use crate::{Engine, QuantizeError};

/// How far activations are evened out at the expense of weights, 1 wholly and 0.5 as much as weights; and by what of a
/// channel, its largest value or its power: a range may be drawn narrower than the values go.
pub const WAYS: [(f32, Measure); 4] =
    [(0.5, Measure::Peak), (1.0, Measure::Peak), (0.5, Measure::Power), (1.0, Measure::Power)];
/// The most that a channel is enlarged.
const MOST: f32 = 8.0;

/// Two layers with channels between them.
#[derive(Clone, Debug)]
pub struct Seam {
    /// The layers, by place among the sites.
    first: usize,
    second: usize,
    /// Tensors between them, which all have these channels.
    pub tensors: Vec<String>,
}

/// What of a channel is evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Its largest magnitude.
    Peak,
    /// The root of its mean square.
    Power,
}

/// What a channel takes as values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    peak: f32,
    /// Sum of squares; the count is the same for all channels of a tensor.
    squares: f64,
}

/// The channels of each seam's first tensor.
pub type Channels = HashMap<String, Vec<Channel>>;

/// Finds the seams of a prepared model.
pub fn seams(model: &ModelProto, sites: &Sites) -> Vec<Seam> {
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
        let mut tensors = vec![site.output.clone()];
        loop {
            let tensor = tensors.last()?;
            let reader = edges.sole_reader(tensor)?;
            if nodes[reader].arg(0) != Some(tensor) {
                return None;
            }
            if let Some(&second) = layers.get(&reader) {
                return Some(Seam { first: at, second, tensors });
            }
            // Pooling works on each channel alone, and lets a factor through.
            if !matches!(nodes[reader].op(), "MaxPool" | "AveragePool" | "GlobalAveragePool") {
                return None;
            }
            tensors.push(nodes[reader].out().to_owned());
        }
    };
    sites.sites.iter().enumerate().filter_map(follow).collect()
}

/// What the channels at the seams take as values, over these samples.
pub fn observe(
    model: &ModelProto,
    seams: &[Seam],
    engine: &dyn Engine,
    samples: &[usize],
) -> Result<Channels, QuantizeError> {
    let taps: Vec<&String> = seams.iter().filter_map(|seam| seam.tensors.first()).collect();
    if taps.is_empty() {
        return Ok(Channels::new());
    }
    let pool = Pool::open(engine, model, &taps)?;
    // Channels are the second dimension of images and rows alike; calibration samples come one by one.
    let counts: Vec<usize> = pool.shapes()?.iter().map(|shape| shape.get(1).copied().unwrap_or(1)).collect();
    let channel = |values: &[f32]| Channel {
        peak: values.iter().fold(0.0, |peak, value| value.abs().max(peak)),
        squares: values.iter().map(|&value| f64::from(value) * f64::from(value)).sum(),
    };
    let seen = pool.each(samples, |runner, _| {
        let of = |(tap, &count): (usize, &usize)| {
            let values = runner.output(tap);
            values.chunks((values.len() / count.max(1)).max(1)).map(channel).collect::<Vec<_>>()
        };
        Ok(counts.iter().enumerate().map(of).collect::<Vec<_>>())
    })?;
    let mut all: Vec<Vec<Channel>> = counts.iter().map(|&count| vec![Channel::default(); count]).collect();
    for sample in seen {
        for (all, one) in all.iter_mut().flatten().zip(sample.iter().flatten()) {
            *all = Channel { peak: all.peak.max(one.peak), squares: all.squares + one.squares };
        }
    }
    Ok(taps.into_iter().cloned().zip(all).collect())
}

/// A model with a seam evened out in one of the [`WAYS`]; none where its layers do not have the same channels.
pub fn even(
    model: &ModelProto,
    sites: &Sites,
    seam: &Seam,
    channels: &Channels,
    (share, measure): (f32, Measure),
) -> Option<ModelProto> {
    let (first, second) = (sites.sites.get(seam.first)?, sites.sites.get(seam.second)?);
    let graph = model.graph.as_ref()?;
    let stored = graph.stored();
    let matrix = |site: &Site| Matrix::of(site, &graph.node[site.node], &stored);
    let (writes, reads) = (matrix(first)?, matrix(second)?);
    let channels = channels.get(seam.tensors.first()?)?;
    let size = |channel: &Channel| match measure {
        Measure::Peak => channel.peak,
        Measure::Power => channel.squares.sqrt() as f32,
    };
    let largest: Vec<f32> = channels.iter().map(size).collect();
    let count = writes.rows;
    let depthwise = reads.is_depthwise();
    // A Gemm that reads an image would need it flattened, which is no seam.
    let per_channel = if reads.dims.len() > 2 { reads.dims[2..].iter().product::<usize>() } else { 1 };
    let fits = largest.len() == count
        && if depthwise { reads.rows == count } else { reads.groups == 1 && reads.cols == count * per_channel };
    if !fits {
        return None;
    }
    let mut weights = vec![0f32; count];
    for (index, value) in reads.values.iter().enumerate() {
        let channel = if depthwise { index / reads.cols } else { index % reads.cols / per_channel };
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
    let factors: Vec<f32> =
        raw.iter().map(|f| f.map_or(1.0, |f| (f * top / reached).clamp(1.0 / MOST, MOST))).collect();
    if factors.iter().any(|f| !f.is_finite()) {
        return None;
    }
    let mut written = writes.values.clone();
    written.chunks_mut(writes.cols).zip(&factors).for_each(|(row, f)| row.iter_mut().for_each(|w| *w *= f));
    let mut read = reads.values.clone();
    for (index, value) in read.iter_mut().enumerate() {
        *value /= factors[if depthwise { index / reads.cols } else { index % reads.cols / per_channel }];
    }
    let mut model = model.clone();
    replace(&mut model, first, 1, &writes.stored_order(&written), &writes.dims);
    if let Some(bias) = &writes.bias {
        let bias: Vec<f32> = bias.iter().zip(&factors).map(|(b, f)| b * f).collect();
        replace(&mut model, first, 2, &bias, &[count]);
    }
    replace(&mut model, second, 1, &reads.stored_order(&read), &reads.dims);
    Some(model)
}

/// Gives a node an input of its own with these values, in place of the stored one.
fn replace(model: &mut ModelProto, site: &Site, input: usize, values: &[f32], shape: &[usize]) {
    let name = model.nodes()[site.node].input[input].clone();
    let edges = Edges::of(model);
    // What the caller sees keeps its values too.
    let shared = edges.readers(&name).len() > 1 || edges.is_output(&name);
    let new = if shared { Names::of(model).fresh(&format!("{name}_{}", site.name)) } else { name.clone() };
    let graph = model.graph_mut();
    if !shared {
        graph.initializer.retain(|tensor| tensor.name.as_deref() != Some(name.as_str()));
    }
    graph.initializer.push(f32s(&new, shape, values));
    graph.node[site.node].input[input] = new;
}
