//! How far a layer is from the float one for what quantizing its input and its own weights does to it, and for
//! nothing else: judged by itself, on rows of what it reads, without running the model.

use crate::QuantizeError;
use crate::calibrate::{Histogram, Method};
use crate::equalize::{Channel, channel_of};
use crate::judge::{self, Score};
use crate::layer::{Bound, Layer, Matrix};
use crate::pool::Pool;
use crate::reconstruct::moments::product;
use crate::reconstruct::patches::Patches;
use crate::scheme::Range;
use crate::sites::Site;
use crate::work::Work;

/// Rows that a layer is judged on, about.
const ROWS: usize = 4096;
/// Elements of them and of what it answers that are kept, about.
const KEPT: usize = 16 << 20;

/// A layer with rows of its input.
pub struct Reader {
    reads: Matrix,
    bound: Bound,
    /// By [half](judge::half) of the samples, then by group: what it reads, a column for each row of input, and what it answers.
    halves: [Vec<Sheet>; 2],
}

struct Sheet {
    rows: usize,
    /// cols by rows.
    x: Vec<f32>,
    /// Rows by output channels of the group.
    y: Vec<f32>,
}

impl Reader {
    /// The layer of a site that reads `tensor`; none where it reads no images or rows one by one.
    pub fn of(
        work: &Work<'_>,
        site: &Site,
        reads: Matrix,
        tensor: &str,
        samples: &[usize],
    ) -> Result<Option<Reader>, QuantizeError> {
        let node = &work.model.nodes()[site.node];
        let pool = Pool::open(work.engine, &work.model, &[tensor, node.out()])?;
        let shapes = pool.shapes()?;
        let Some(patches) = Patches::of(node, &reads, &shapes[0], &shapes[1]) else { return Ok(None) };
        let step = (patches.positions() * samples.len() / rows(reads.groups * reads.cols + reads.rows)).max(1);
        // By sample and group, rows one after the other.
        let seen: Vec<Vec<Vec<f32>>> = pool.each(samples, |runner, sample| {
            let positions = || (sample % step..patches.positions()).step_by(step);
            let group = |group: usize| {
                let mut rows = vec![0f32; positions().count() * reads.cols];
                for (row, position) in rows.chunks_mut(reads.cols).zip(positions()) {
                    patches.row(runner.output(0), group, position, row);
                }
                rows
            };
            Ok((0..reads.groups).map(group).collect())
        })?;
        let sheet = |half: usize, group: usize| {
            let own =
                samples.iter().zip(&seen).filter(|(sample, _)| judge::half(**sample, work.engine.samples()) == half);
            let rows: Vec<f32> = own.flat_map(|(_, groups)| groups[group].clone()).collect();
            let count = rows.len() / reads.cols.max(1);
            let x: Vec<f32> = (0..reads.cols)
                .flat_map(|c| (0..count).map(move |r| (c, r)))
                .map(|(c, r)| rows[r * reads.cols + c])
                .collect();
            let y = answers(&x, weights(&reads, &reads.values, group), count, reads.cols);
            Sheet { rows: count, x, y }
        };
        let halves = [0, 1].map(|half| (0..reads.groups).map(|group| sheet(half, group)).collect());
        Ok(Some(Reader { bound: reads.bound(work.options.is_portable()), reads, halves }))
    }

    /// How near it is with its input's channels enlarged by factors and quantized by a rule, and its weights, made smaller
    /// by as much, rounded to the nearest. Each half is answered with the factors and the range that the other gives: what
    /// fits the samples alone is not to win. The mean error is left out: a bias takes it up.
    pub fn score(
        &self,
        work: &Work<'_>,
        channels: &[Vec<Channel>; 2],
        factors: &[Vec<f32>; 2],
        method: Method,
    ) -> Score {
        let mut powers = [[0f64; 2]; 2];
        for half in [0, 1] {
            let (learned, judged) = (1 - half, half);
            powers[half] = self.answer(work, &channels[learned], &factors[learned], method, [learned, judged]);
        }
        let decibels = |[signal, noise]: [f64; 2]| crate::judge::decibels(signal, noise);
        let all = [powers[0][0] + powers[1][0], powers[0][1] + powers[1][1]];
        let sqnr_db = decibels(all);
        Score { sqnr_db, worst_db: sqnr_db, halves_db: powers.map(decibels), agreement: None }
    }

    /// Power of what it answers on one half and of its error, by what the other gives.
    fn answer(
        &self,
        work: &Work<'_>,
        channels: &[Channel],
        factors: &[f32],
        method: Method,
        [learned, judged]: [usize; 2],
    ) -> [f64; 2] {
        let mut reads = self.reads.clone();
        reads.values.iter_mut().enumerate().for_each(|(i, w)| *w /= factors[channel_of(&self.reads, i)]);
        let layer = Layer::nearest(&reads, &self.bound);
        let rounded: Vec<f32> =
            layer.values.iter().enumerate().map(|(i, &q)| f32::from(q) * layer.scales[i / reads.cols]).collect();
        let per_group = reads.rows / reads.groups;
        let enlarged = |group: usize, sheet: &Sheet| {
            let mut x = sheet.x.clone();
            for (col, row) in x.chunks_mut(sheet.rows.max(1)).enumerate() {
                let f = factors[channel_of(&self.reads, group * per_group * reads.cols + col)];
                row.iter_mut().for_each(|value| *value *= f);
            }
            x
        };
        let enlarged = |half: usize| self.halves[half].iter().enumerate().map(move |(g, sheet)| enlarged(g, sheet));
        let mut range = channels.iter().zip(factors).fold(Range::EMPTY, |range, (channel, f)| {
            range.union(Range { min: channel.min * f, max: channel.max * f })
        });
        if method == Method::Mse {
            let mut histogram = Histogram::new(range);
            enlarged(learned).for_each(|x| histogram.add(&x));
            range = histogram.least_squares(work.options.activations.levels());
        }
        let q = work.params_of(range);
        let mut power = [0f64; 2];
        for (group, (mut x, sheet)) in enlarged(judged).zip(&self.halves[judged]).enumerate() {
            q.round_trip(work.options.activations, &mut x);
            let found = answers(&x, weights(&reads, &rounded, group), sheet.rows, reads.cols);
            let [signal, noise] = error(&sheet.y, &found, per_group);
            power = [power[0] + signal, power[1] + noise];
        }
        power
    }
}

/// Rows that a layer is judged on, of which each has so many elements.
fn rows(elements: usize) -> usize {
    ROWS.min(KEPT / elements.max(1)).max(1)
}

/// Rows of weights of one group.
fn weights<'a>(reads: &Matrix, values: &'a [f32], group: usize) -> &'a [f32] {
    let each = values.len() / reads.groups;
    &values[group * each..(group + 1) * each]
}

/// What these weights make of the columns of `x`: rows of input by output channels.
fn answers(x: &[f32], weights: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let count = weights.len() / cols.max(1);
    let columns: Vec<f32> = (0..cols).flat_map(|c| (0..count).map(move |o| weights[o * cols + c])).collect();
    let mut y = vec![0f32; rows * count];
    product(x, &columns, cols, rows, count, &mut y);
    y
}

/// Power of answers, and that of their error about its mean, for each of some channels, summed.
fn error(reference: &[f32], found: &[f32], channels: usize) -> [f64; 2] {
    let rows = (reference.len() / channels.max(1)).max(1) as f64;
    let (mut signal, mut squares, mut sums) = (0f64, 0f64, vec![0f64; channels]);
    for (index, (&r, &f)) in reference.iter().zip(found).enumerate() {
        let error = f64::from(r - f);
        signal += f64::from(r) * f64::from(r);
        squares += error * error;
        sums[index % channels] += error;
    }
    [signal, (squares - sums.iter().map(|sum| sum * sum / rows).sum::<f64>()).max(0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_a_bias_takes_up_is_none() {
        let reference = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let shifted = [1.5, 1.0, 3.5, 3.0, 5.5, 5.0];
        assert_eq!(error(&reference, &shifted, 2), [91.0, 0.0]);
        assert_eq!(error(&reference, &[1.0, 2.0, 3.0, 4.0, 8.0, 6.0], 2), [91.0, 9.0 - 3.0]);
    }

    #[test]
    fn long_rows_are_few() {
        assert_eq!([rows(0), rows(300), rows(1 << 20), rows(usize::MAX)], [ROWS, ROWS, 16, 1]);
    }

    #[test]
    fn answers_are_products_of_rows() {
        // Two columns, three rows of input; one output channel after the other.
        let x = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        assert_eq!(answers(&x, &[1.0, 0.0, 2.0, 1.0], 3, 2), [1.0, 12.0, 2.0, 24.0, 3.0, 36.0]);
    }
}
