//! Weights behind removed channels fitted anew, so that a layer answers as it did before on what it still reads:
//! He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1, with the original
//! answers on the left and what the pruned layers before give on the right, and at the end of a residual branch
//! with what the other branch misses (section 3.3). A ridge draws weights towards those that they had, not towards
//! zero; how strong it is, samples that were held out decide.

use std::collections::HashSet;

use rayon::prelude::*;

use super::Context;
use super::solve::{Cholesky, dot};
use crate::layer::Matrix;
use crate::onnx::proto::ModelProto;
use crate::onnx::{Edges, dims, set, stored};
use crate::pool::Pool;
use crate::reconstruct::moments::{Centred, Moments};
use crate::reconstruct::patches::Patches;
use crate::reconstruct::{MAX_COLS, gather};
use crate::sites::Site;
use crate::{Progress, QuantizeError};

/// Ridges that are tried, over the mean power of the inputs.
const RIDGES: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// The one that is taken where no samples are held out.
const SAFE: f64 = 1e-1;

/// Refits every layer of a masked model behind a removed channel, in graph order; tells how many there were.
///
/// # Errors
/// The engine fails.
pub fn refit(
    context: &Context<'_>,
    masked: &mut ModelProto,
    removed: &[bool],
    progress: &dyn Progress,
) -> Result<usize, QuantizeError> {
    let touched = touched(context, removed);
    let sites: Vec<&Site> = context.sites.iter().filter(|site| touched.contains(&site.node)).collect();
    progress.begin("refit layers", sites.len());
    let mut count = 0;
    for site in sites {
        count += usize::from(refit_one(context, masked, site, removed)?);
        progress.advance(1);
    }
    Ok(count)
}

/// Nodes that read a removed channel through their weights, and those that depend on them.
fn touched(context: &Context<'_>, removed: &[bool]) -> HashSet<usize> {
    let (mut nodes, mut tensors) = (HashSet::new(), HashSet::new());
    for (index, node) in context.model.nodes().iter().enumerate() {
        let reads = |cut: &super::channels::Cut| context.channels.kept(&cut.atoms, removed).len() < cut.atoms.len();
        let mut is_touched = context.channels.read_by(index).is_some_and(reads);
        node.reads(&mut |name| is_touched |= tensors.contains(name));
        if is_touched {
            nodes.insert(index);
            tensors.extend(node.output.iter().cloned());
        }
    }
    nodes
}

/// Where a layer's answers are looked up: at its output; or behind the sum that it alone goes into, less the other
/// operand, where that is settled.
fn answers(context: &Context<'_>, site: &Site) -> (String, Option<String>) {
    let nodes = context.model.nodes();
    let edges = Edges::of(context.model);
    // A bias may be added by a node of its own.
    let last = site.bias.map_or(site.node, |(at, _)| at);
    let out = nodes[last].out();
    let own = (out.to_owned(), None);
    let Some(sum) = edges.sole_reader(out).map(|reader| &nodes[reader]).filter(|sum| sum.op() == "Add") else {
        return own;
    };
    let Some(other) = sum.input.iter().find(|name| *name != out) else { return own };
    let settled = edges.producer.get(other).is_some_and(|&producer| producer < site.node);
    let alike = context.shapes.get(other) == context.shapes.get(out);
    if settled && alike { (sum.out().to_owned(), Some(other.clone())) } else { own }
}

fn refit_one(
    context: &Context<'_>,
    masked: &mut ModelProto,
    site: &Site,
    removed: &[bool],
) -> Result<bool, QuantizeError> {
    let node = &context.model.nodes()[site.node];
    let (Some(matrix), Some((_, input))) = (context.matrix(masked, site), site.inputs.first()) else {
        return Ok(false);
    };
    let (answer, other) = answers(context, site);
    let float = Pool::open(context.engine, context.model, &[&answer])?;
    // A block may add what its layer reads.
    let taps: Vec<&String> = std::iter::once(input).chain(other.iter().filter(|other| *other != input)).collect();
    let pruned = Pool::open(context.engine, masked, &taps)?;
    let shapes = pruned.shapes()?;
    let (Some(from), Some(to)) = (shapes.first(), context.shapes.get(node.out())) else { return Ok(false) };
    let Some(patches) = Patches::of(node, &matrix, from, to) else { return Ok(false) };
    let (second, can_shift) = (matrix.cols <= MAX_COLS, site.bias.is_some());
    if !second && !can_shift {
        return Ok(false);
    }
    let pull = |block: &[usize]| {
        let mut answers = float.each(block, |runner, _| Ok(runner.output(0).to_vec()))?;
        let read = |runner: &dyn crate::Runner, _| {
            Ok((runner.output(0).to_vec(), other.as_ref().map(|_| runner.output(taps.len() - 1).to_vec())))
        };
        let inputs = pruned.each(block, read)?;
        for (answer, (_, other)) in answers.iter_mut().zip(&inputs) {
            answer.iter_mut().zip(other.iter().flatten()).for_each(|(answer, other)| *answer -= other);
        }
        Ok(inputs.into_iter().map(|(input, _)| input).zip(answers).collect())
    };
    let [learned, held_out] = gather(&matrix, &patches, (context.samples, context.weights), second, &pull)?;
    let per_group = matrix.rows / matrix.groups;
    let (rows, cols) = (context.rows(site, &matrix, removed), context.cols(site, &matrix, removed));
    let fitted: Vec<Vec<(usize, Vec<f32>, f32)>> = (0..matrix.groups)
        .into_par_iter()
        .map(|group| {
            let first = group * per_group;
            let own = rows.iter().copied().filter(|row| (first..first + per_group).contains(row)).collect::<Vec<_>>();
            let fit = Fit { matrix: &matrix, first, rows: &own, cols: &cols, second, can_shift };
            fit.run(&learned[group], &held_out[group])
        })
        .collect();
    let mut values = matrix.values.clone();
    let mut bias = matrix.bias.clone().unwrap_or_else(|| vec![0.0; matrix.rows]);
    for (row, weights, shift) in fitted.into_iter().flatten() {
        values[row * matrix.cols..(row + 1) * matrix.cols].copy_from_slice(&weights);
        bias[row] = shift;
    }
    set(masked, site.node, 1, &matrix.dims, &matrix.stored_order(&values));
    if let Some((at, input)) = site.bias {
        let shape = stored(masked, at, input).map_or(vec![matrix.rows], dims);
        set(masked, at, input, &shape, &bias);
    }
    Ok(true)
}

/// One group of a layer.
struct Fit<'a> {
    matrix: &'a Matrix,
    /// The group's first row.
    first: usize,
    /// Rows that stay.
    rows: &'a [usize],
    /// Columns that stay.
    cols: &'a [usize],
    second: bool,
    can_shift: bool,
}

impl Fit<'_> {
    /// Rows with their new weights and bias.
    fn run(&self, learned: &Moments, held_out: &Moments) -> Vec<(usize, Vec<f32>, f32)> {
        let mut all = learned.clone();
        all.merge(held_out);
        let old: Vec<Vec<f64>> = self.rows.iter().map(|&row| self.weights(row)).collect();
        let new = if self.second { self.weigh(&old, learned, held_out, &all) } else { old };
        let means = all.mean_x();
        let rows = self.rows.iter().zip(new).map(|(&row, new)| {
            let mut weights = vec![0f32; self.matrix.cols];
            self.cols.iter().zip(&new).for_each(|(&col, &weight)| weights[col] = weight as f32);
            let product: f64 = weights.iter().zip(&means).map(|(&weight, mean)| f64::from(weight) * mean).sum();
            let shift = if self.can_shift { all.mean_y(row - self.first) - product } else { 0.0 };
            (row, weights, shift as f32)
        });
        rows.collect()
    }

    fn weights(&self, row: usize) -> Vec<f64> {
        let weights = self.matrix.row(row);
        self.cols.iter().map(|&col| f64::from(weights[col])).collect()
    }

    /// The weights as they were, or those by the ridge with the least error on the samples held out.
    fn weigh(&self, old: &[Vec<f64>], learned: &Moments, held_out: &Moments, all: &Moments) -> Vec<Vec<f64>> {
        let about = |moments: &Moments| self.kept(&if self.can_shift { moments.centred() } else { moments.raw() });
        let (learned, held_out, all) = (about(learned), about(held_out), about(all));
        let n = self.cols.len();
        let error =
            |weights: &[Vec<f64>]| -> f64 { weights.iter().enumerate().map(|(row, w)| held_out.error(row, w)).sum() };
        let mut best = (error(old), None);
        if held_out.power(n) > 0.0 {
            for ridge in RIDGES {
                let Some(weights) = learned.solve(n, ridge, old) else { continue };
                let error = error(&weights);
                if error < best.0 {
                    best = (error, Some(ridge));
                }
            }
        } else {
            best.1 = Some(SAFE);
        }
        best.1.and_then(|ridge| all.solve(n, ridge, old)).unwrap_or_else(|| old.to_vec())
    }

    /// Moments of the rows and columns that stay.
    fn kept(&self, moments: &Centred) -> Normal {
        let width = self.matrix.cols;
        let pick =
            |values: &[f64], row: usize| self.cols.iter().map(|&col| values[row * width + col]).collect::<Vec<_>>();
        Normal {
            xx: self.cols.iter().flat_map(|&col| pick(&moments.xx, col)).collect(),
            xy: self.rows.iter().map(|&row| pick(&moments.xy, row - self.first)).collect(),
        }
    }
}

/// The normal equations of a layer's rows.
struct Normal {
    xx: Vec<f64>,
    xy: Vec<Vec<f64>>,
}

impl Normal {
    /// Mean power of the inputs.
    fn power(&self, n: usize) -> f64 {
        (0..n).map(|i| self.xx[i * n + i]).sum::<f64>() / n.max(1) as f64
    }

    /// Weights with the least error and `ridge` for what they differ from the old ones; none where inputs never vary.
    fn solve(&self, n: usize, ridge: f64, old: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
        let stiffness = ridge * self.power(n);
        let factors = Cholesky::of(&self.xx, n, stiffness)?;
        let row = |(xy, old): (&Vec<f64>, &Vec<f64>)| {
            factors.solve(xy.iter().zip(old).map(|(xy, old)| xy + stiffness * old).collect())
        };
        Some(self.xy.par_iter().zip(old).map(row).collect())
    }

    /// The squared error of a row, less a constant.
    fn error(&self, row: usize, weights: &[f64]) -> f64 {
        let n = weights.len();
        let product = |i: usize| dot(&self.xx[i * n..(i + 1) * n], weights);
        (0..n).map(|i| weights[i] * (product(i) - 2.0 * self.xy[row][i])).sum()
    }
}
