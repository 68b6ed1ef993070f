//! How much each channel matters: by its own weights, or by the error that its removal makes where it is read.

use std::collections::HashMap;

use super::channels::{Channels, Role};
use super::{Context, Criterion};
use crate::layer::Matrix;
use crate::onnx::proto::ModelProto;
use crate::onnx::{dims, floats, stored};
use crate::pool::Pool;
use crate::reconstruct::patches::Patches;
use crate::sites::Site;
use crate::{Progress, QuantizeError};

/// Positions of a reader's output that are looked at, at most; channels differ by far more than chance among so many.
const POSITIONS: usize = 4096;
/// Samples that are run at a time.
const BLOCK: usize = 16;

/// Importance of each class of channels.
///
/// # Errors
/// The engine fails.
pub fn importance(
    context: &Context<'_>,
    criterion: Criterion,
    shift: bool,
    progress: &dyn Progress,
) -> Result<Vec<f64>, QuantizeError> {
    match criterion {
        Criterion::Magnitude => Ok(magnitude(context.model, context.channels)),
        Criterion::Activation => activation(context, shift, progress),
    }
}

/// The L2 norm of a channel's filters, over the mean of those of its layer: layers have weights of any size.
fn magnitude(model: &ModelProto, channels: &Channels) -> Vec<f64> {
    let mut importance = vec![0.0; channels.fixed.len()];
    for cut in channels.cuts.iter().filter(|cut| cut.role == Role::Writes && cut.input == 1) {
        let Some(tensor) = stored(model, cut.node, 1) else { continue };
        let (shape, values) = (dims(tensor), floats(tensor).unwrap_or_default());
        let inner: usize = shape[cut.axis + 1..].iter().product();
        let mut squares = vec![0.0; cut.atoms.len()];
        for (index, &value) in values.iter().enumerate() {
            squares[index / inner % shape[cut.axis]] += f64::from(value) * f64::from(value);
        }
        let mean = squares.iter().map(|square| square.sqrt()).sum::<f64>() / squares.len().max(1) as f64;
        for (square, &atom) in squares.iter().zip(&cut.atoms) {
            importance[channels.class[atom]] += if mean > 0.0 { square.sqrt() / mean } else { 0.0 };
        }
    }
    importance
}

/// Power of what a channel contributes to each reader's outputs over the power of those, summed over readers.
///
/// `shift` says that biases will take up means, so that only what varies counts.
fn activation(context: &Context<'_>, shift: bool, progress: &dyn Progress) -> Result<Vec<f64>, QuantizeError> {
    let Context { channels, sites, .. } = *context;
    let mut importance = vec![0.0; channels.fixed.len()];
    progress.begin("weigh channels", sites.len());
    for site in sites {
        progress.advance(1);
        if let Some(reader) = Reader::of(context, site) {
            for (class, share) in reader.shares(context, shift)? {
                importance[class] += share;
            }
        }
    }
    Ok(importance)
}

/// A layer that mixes channels, some of which may go.
struct Reader<'a> {
    site: &'a Site,
    matrix: Matrix,
    /// Place of each column's class among those that it reads; for each group.
    places: Vec<usize>,
    classes: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn of(context: &Context<'_>, site: &'a Site) -> Option<Reader<'a>> {
        let channels = context.channels;
        let cut = channels.read_by(site.node)?;
        if cut.atoms.iter().all(|&atom| channels.fixed[channels.class[atom]]) {
            return None;
        }
        let matrix = context.matrix(context.model, site)?;
        let each = matrix.cols / cut.atoms.len().max(1);
        let (mut classes, mut known) = (vec![], HashMap::new());
        let mut place = |col: usize| {
            let class = channels.class[cut.atoms[col / each]];
            *known.entry(class).or_insert_with(|| {
                classes.push(class);
                classes.len() - 1
            })
        };
        let places = (0..matrix.cols).map(&mut place).collect();
        Some(Reader { site, matrix, places, classes })
    }

    /// Each class with its share of the power of the outputs.
    fn shares(&self, context: &Context<'_>, shift: bool) -> Result<Vec<(usize, f64)>, QuantizeError> {
        let node = &context.model.nodes()[self.site.node];
        let Some((_, input)) = self.site.inputs.first() else { return Ok(vec![]) };
        let pool = Pool::open(context.engine, context.model, &[input])?;
        let shapes = pool.shapes()?;
        let output = context.shapes.get(node.out());
        let (Some(from), Some(to)) = (shapes.first(), output) else { return Ok(vec![]) };
        let Some(patches) = Patches::of(node, &self.matrix, from, to) else { return Ok(vec![]) };
        let step = (patches.positions() * context.samples.len() / POSITIONS).max(1);
        let (rows, count) = (self.matrix.rows, self.classes.len());
        // Of each class and row, and then of each row: sum and sum of squares.
        let mut sums = vec![[0.0; 2]; rows * (count + 1)];
        let mut seen = 0.0;
        let mut weights = context.weights.iter();
        for block in context.samples.chunks(BLOCK) {
            let parts =
                pool.each(block, |runner, sample| Ok(self.sample(&patches, runner.output(0), (sample % step, step))))?;
            for ((positions, part), weight) in parts.into_iter().zip(weights.by_ref()) {
                seen += weight * positions as f64;
                sums.iter_mut().zip(part).for_each(|(sum, part)| {
                    sum[0] += weight * part[0];
                    sum[1] += weight * part[1];
                });
            }
        }
        let seen = f64::max(seen, 1.0);
        let power = |class: usize, about_mean: bool| -> f64 {
            let of = |row: usize| {
                let [sum, squares] = sums[row * (count + 1) + class];
                squares / seen - if about_mean { (sum / seen) * (sum / seen) } else { 0.0 }
            };
            (0..rows).map(of).sum::<f64>().max(0.0)
        };
        let all = power(count, true);
        let shift = shift && self.site.bias.is_some();
        let share = |place: usize| if all > 0.0 { power(place, shift) / all } else { 0.0 };
        Ok(self.classes.iter().enumerate().map(|(place, &class)| (class, share(place))).collect())
    }

    /// What each class contributes to each row at some positions of a sample.
    fn sample(&self, patches: &Patches, input: &[f32], (offset, step): (usize, usize)) -> (usize, Vec<[f64; 2]>) {
        let (matrix, count) = (&self.matrix, self.classes.len());
        let per_group = matrix.rows / matrix.groups;
        let mut sums = vec![[0.0; 2]; matrix.rows * (count + 1)];
        let mut x = vec![0.0; matrix.cols];
        let mut parts = vec![0f64; count + 1];
        let positions: Vec<usize> = (offset..patches.positions()).step_by(step).collect();
        for &position in &positions {
            for row in 0..matrix.rows {
                if row % per_group == 0 {
                    patches.row(input, row / per_group, position, &mut x);
                }
                parts.fill(0.0);
                for ((weight, x), &place) in matrix.row(row).iter().zip(&x).zip(&self.places) {
                    parts[place] += f64::from(weight * x);
                }
                parts[count] = parts[..count].iter().sum();
                for (sum, part) in sums[row * (count + 1)..].iter_mut().zip(&parts) {
                    sum[0] += part;
                    sum[1] += part * part;
                }
            }
        }
        (positions.len(), sums)
    }
}
