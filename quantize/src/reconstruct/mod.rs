//! Weights rounded so that a layer answers as the float one does, on what the quantized layers before it
//! give: the float network teaches the integer one, layer by layer, without labels.
//!
//! Rounding to the nearest minimises the error of weights; what counts is the error of outputs. With the
//! second moments of a layer's inputs that is a quadratic function of the roundings, one for each output
//! channel: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound),
//! equation 13. AdaRound relaxes it and descends by gradients; here it is minimised as it is, by
//! coordinate descent, as in Behdin et al. 2023 (QuantEase): deterministic, and with nothing to tune.
//!
//! The bias then takes up what is left of the mean: Nagel et al. 2019, "Data-Free Quantization Through
//! Weight Equalization and Bias Correction", section 4.2, by samples.

pub(crate) mod moments;
pub(crate) mod patches;
mod rounding;

use rayon::prelude::*;

use crate::QuantizeError;
use crate::emit::Emitted;
use crate::frontier::Frontier;
use crate::layer::{Bound, Layer, Matrix};
use crate::onnx::proto::ModelProto;
use crate::sites::Site;

use moments::Moments;
use patches::Patches;

/// Rows of input for each weight of a row, at least, where the samples have so many.
const ROWS_PER_COL: usize = 8;
/// And at least this many in all.
const MIN_ROWS: usize = 8192;
/// Inputs of an output channel above which second moments take too much memory: 128 MB, those held out and centred ones
/// included.
pub(crate) const MAX_COLS: usize = 2048;
/// One sample in so many is held out, and decides between roundings.
const HELD_OUT: usize = 5;
/// Samples that one accumulator takes, whatever the number of threads.
const BLOCK: usize = 16;

/// What is done to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its bias is corrected.
    Bias,
    /// Its weights are rounded anew, and then its bias is corrected.
    Rounding,
}

/// A layer with what it is held against.
pub struct Task<'a> {
    /// The layer's place in the float model.
    pub site: &'a Site,
    /// Its float weights.
    pub matrix: &'a Matrix,
    /// What its integers may be.
    pub bound: Bound,
    /// The float model.
    pub float: &'a ModelProto,
    /// The quantized model as it is so far.
    pub quantized: &'a Emitted,
    /// How far that is, and the samples to learn from.
    pub frontier: &'a Frontier<'a>,
}

/// Rounds a layer's weights and corrects its bias; `layer` is where it begins.
///
/// A layer without a place for a bias, and one whose inputs are too many to hold their moments, has less
/// done to it.
pub fn reconstruct(task: &Task<'_>, layer: &mut Layer, depth: Depth) -> Result<(), QuantizeError> {
    let node = &task.float.nodes()[task.site.node];
    let Some((_, input)) = task.site.inputs.first() else { return Ok(()) };
    // With its bias, which the Add behind a MatMul adds.
    let answer = task.site.bias.map_or(node, |(at, _)| &task.float.nodes()[at]).out();
    let (float, quantized) = task.frontier.pools(answer, task.quantized, task.quantized.seen(input))?;
    let shapes = (quantized.shapes()?, float.shapes()?);
    let (Some(from), Some(to)) = (shapes.0.first(), shapes.1.first()) else { return Ok(()) };
    let Some(patches) = Patches::of(node, task.matrix, from, to) else { return Ok(()) };
    let second = depth == Depth::Rounding && task.matrix.cols <= MAX_COLS;
    let can_shift = task.site.bias.is_some();
    if !second && !can_shift {
        return Ok(());
    }
    let pull = |block: &[usize]| task.frontier.pairs((&float, &quantized), block);
    let [learned, held_out] = gather(task.matrix, &patches, (task.frontier.samples(), &[]), second, &pull)?;
    let (matrix, per_group) = (task.matrix, task.matrix.rows / task.matrix.groups);
    if second {
        let moments: Vec<_> = learned.iter().zip(&held_out).map(|(a, b)| (a.centred(), b.centred())).collect();
        let rows: Vec<(Vec<i8>, f32)> = (0..matrix.rows)
            .into_par_iter()
            .map(|row| {
                let (learned, held_out) = &moments[row / per_group];
                let integers = &layer.values[row * matrix.cols..(row + 1) * matrix.cols];
                let start = (integers, layer.scales[row]);
                rounding::round(matrix.row(row), start, &task.bound, (learned, held_out), row % per_group)
            })
            .collect();
        for (row, (integers, scale)) in rows.into_iter().enumerate() {
            layer.values[row * matrix.cols..(row + 1) * matrix.cols].copy_from_slice(&integers);
            layer.scales[row] = scale;
        }
    }
    if can_shift {
        let mut bias = layer.bias.take().unwrap_or_else(|| vec![0.0; matrix.rows]);
        for (row, bias) in bias.iter_mut().enumerate() {
            let mut all = learned[row / per_group].clone();
            all.merge(&held_out[row / per_group]);
            let integers = &layer.values[row * matrix.cols..(row + 1) * matrix.cols];
            let scale = f64::from(layer.scales[row]);
            let product: f64 = integers.iter().zip(all.mean_x()).map(|(&q, x)| scale * f64::from(q) * x).sum();
            *bias = (all.mean_y(row % per_group) - product) as f32;
        }
        layer.bias = Some(bias);
    }
    Ok(())
}

/// What a layer reads and what it should answer, for each of some samples.
pub(crate) type Pull<'a> = &'a dyn Fn(&[usize]) -> Result<Vec<(Vec<f32>, Vec<f32>)>, QuantizeError>;

/// Moments of each group, of the samples to learn from and of those held out. Samples have these weights, or all the same
/// where there are none.
pub(crate) fn gather(
    matrix: &Matrix,
    patches: &Patches,
    (samples, weights): (&[usize], &[f64]),
    second: bool,
    pull: Pull<'_>,
) -> Result<[Vec<Moments>; 2], QuantizeError> {
    let per_group = matrix.rows / matrix.groups;
    let empty = vec![Moments::new(matrix.cols, per_group, second); matrix.groups];
    let wanted = MIN_ROWS.max(ROWS_PER_COL * matrix.cols);
    let step = (patches.positions() * samples.len() / wanted).max(1);
    let mut sums = [empty.clone(), empty.clone()];
    for (index, block) in samples.chunks(BLOCK).enumerate() {
        // Groups in parallel, samples one after the other: sums come out alike on any number of threads.
        for (place, (input, answer)) in pull(block)?.iter().enumerate() {
            let sample = index * BLOCK + place;
            let which = usize::from(samples.len() >= 2 * HELD_OUT && sample % HELD_OUT == HELD_OUT - 1);
            let weight = weights.get(sample).copied().unwrap_or(1.0);
            let add = |(group, moments): (usize, &mut Moments)| {
                moments.add(patches, group, (input, answer), matrix.rows, (sample % step, step), weight);
            };
            sums[which].par_iter_mut().enumerate().for_each(add);
        }
    }
    Ok(sums)
}
