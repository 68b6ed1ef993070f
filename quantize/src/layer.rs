//! Weights as int8, one scale for each output channel.

use std::collections::HashMap;

use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{dims, floats};
use crate::sites::Site;

/// Float weights of a site as a matrix: a row for each output channel.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Output channels.
    pub rows: usize,
    /// Inputs of one output channel.
    pub cols: usize,
    /// Row-major.
    pub values: Vec<f32>,
    /// One for each row, where the site has a bias.
    pub bias: Option<Vec<f32>>,
    /// Dimensions of the stored tensor, and which of them is the rows'.
    pub dims: Vec<usize>,
    /// The dimension of output channels.
    pub axis: usize,
    /// Groups of a convolution; 1 elsewhere.
    pub groups: usize,
}

impl Matrix {
    /// The weights of a site as the nodes of its graph have them now, if it has some.
    pub fn of(site: &Site, nodes: &[NodeProto], stored: &HashMap<&str, &TensorProto>) -> Option<Matrix> {
        let (node, axis) = (nodes.get(site.node)?, site.weights?);
        let tensor = |node: &NodeProto, input| node.arg(input).and_then(|name| stored.get(name)).copied();
        let weights = tensor(node, 1)?;
        let bias = site.bias.and_then(|(at, input)| tensor(nodes.get(at)?, input)).and_then(floats);
        let (dims, values) = (dims(weights), floats(weights)?);
        let rows = dims[axis];
        let groups = if site.op == "Conv" { usize::try_from(node.int("group", 1)).unwrap_or(1).max(1) } else { 1 };
        let mut matrix = Matrix { rows, cols: values.len() / rows.max(1), values, bias, dims, axis, groups };
        if axis > 0 {
            matrix.values = transpose(&matrix.values, matrix.dims[0], rows);
        }
        Some(matrix)
    }

    /// Weights of one output channel.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// Rows as the tensor stores them.
    pub fn stored_order<T: Copy>(&self, rows: &[T]) -> Vec<T> {
        if self.axis > 0 { transpose(rows, self.rows, self.dims[0]) } else { rows.to_vec() }
    }

    /// Whether each output channel reads one input channel of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.rows && self.dims.get(1) == Some(&1)
    }

    /// What integers its rows may hold.
    pub fn bound(&self, portable: bool) -> Bound {
        // Depthwise kernels everywhere multiply one channel at a time, without pairs.
        if portable && !self.is_depthwise() {
            Bound::Neighbours(Neighbours::of(self.neighbours()))
        } else {
            Bound::Full
        }
    }

    /// The weights that may be added up with each, in 16 bits: its neighbours, as the tensor stores a row and
    /// as one with channels last would.
    fn neighbours(&self) -> Vec<Vec<usize>> {
        let taps: usize = self.dims.get(2..).map_or(1, |kernel| kernel.iter().product());
        let channels = self.cols / taps.max(1);
        let last = |place: usize| place % channels * taps + place / channels;
        let mut neighbours = vec![Vec::new(); self.cols];
        for place in 1..self.cols {
            for (a, b) in [(place - 1, place), (last(place - 1), last(place))] {
                for (a, b) in [(a, b), (b, a)] {
                    if !neighbours[a].contains(&b) {
                        neighbours[a].push(b);
                    }
                }
            }
        }
        neighbours
    }
}

/// The first two dimensions of values exchanged; the outputs are the second of a matrix, and of a transposed convolution.
fn transpose<T: Copy>(values: &[T], first: usize, second: usize) -> Vec<T> {
    let inner = values.len() / (first * second).max(1);
    let run = |from: usize| &values[from * inner..(from + 1) * inner];
    (0..second).flat_map(|s| (0..first).flat_map(move |f| run(f * second + s))).copied().collect()
}

/// What integers a row of weights may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// -127 to 127.
    Full,
    /// Also, no two neighbours that add up to more than 128 or less than -128: then `255 * (w0 + w1)` fits 16 bits.
    /// x86 CPUs without VNNI add u8 x s8 products of neighbours in 16 bits (VPMADDUBSW), and saturate.
    Neighbours(Neighbours),
}

/// The weights of a row that may be added up in 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// By index, those of each.
    of: Vec<Vec<usize>>,
    /// All pairs of them, once each.
    pairs: Vec<[usize; 2]>,
}

impl Neighbours {
    /// From those of each.
    pub fn of(of: Vec<Vec<usize>>) -> Neighbours {
        let later =
            |(a, others): (usize, &Vec<usize>)| others.iter().filter(|b| **b > a).map(|&b| [a, b]).collect::<Vec<_>>();
        let pairs = of.iter().enumerate().flat_map(later).collect();
        Neighbours { of, pairs }
    }
}

/// The largest sum of neighbours of one sign.
const PAIR: i32 = 128;

impl Bound {
    /// The least scale at which a row of weights fits, rounding aside.
    pub fn scale(&self, row: &[f32]) -> f32 {
        let largest = row.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        let pair = match self {
            Bound::Full => 0.0,
            Bound::Neighbours(neighbours) => {
                let sums = neighbours.pairs.iter().map(|&[a, b]| (row[a] / 2.0 + row[b] / 2.0).abs());
                sums.fold(0f32, f32::max)
            }
        };
        let scale = (largest / 127.0).max(pair / (PAIR / 2) as f32);
        if scale > f32::MIN_POSITIVE { scale } else { 0.0 }
    }

    /// Whether integers keep to it.
    pub fn holds(&self, row: &[i8]) -> bool {
        let sum = |&[a, b]: &[usize; 2]| i32::from(row[a]) + i32::from(row[b]);
        match self {
            Bound::Full => true,
            Bound::Neighbours(neighbours) => neighbours.pairs.iter().all(|pair| sum(pair).abs() <= PAIR),
        }
    }

    /// Whether one weight of a row that keeps to it may become `next`.
    pub fn allows(&self, row: &[i8], index: usize, next: i32) -> bool {
        let fits = |&other: &usize| (i32::from(row[other]) + next).abs() <= PAIR;
        next.abs() <= 127
            && match self {
                Bound::Full => true,
                Bound::Neighbours(neighbours) => neighbours.of[index].iter().all(fits),
            }
    }
}

/// Weights of a site as integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Row-major, a row for each output channel.
    pub values: Vec<i8>,
    /// One for each row.
    pub scales: Vec<f32>,
    /// In real numbers; one for each row.
    pub bias: Option<Vec<f32>>,
}

impl Layer {
    /// Every weight to the nearest integer.
    pub fn nearest(matrix: &Matrix, bound: &Bound) -> Layer {
        let mut layer =
            Layer { values: Vec::with_capacity(matrix.values.len()), scales: vec![], bias: matrix.bias.clone() };
        for row in 0..matrix.rows {
            let weights = matrix.row(row);
            let mut scale = bound.scale(weights);
            let mut integers = round_row(weights, scale);
            while !bound.holds(&integers) {
                scale *= 1.0 + 1.0 / 512.0;
                integers = round_row(weights, scale);
            }
            layer.values.extend(integers);
            layer.scales.push(scale);
        }
        layer
    }

    /// Gives rows of nothing but zeros a scale of their own, and raises those at which the bias would
    /// leave int32, with room for the sums.
    ///
    /// `input_scale` is that of the activations that the weights meet.
    pub fn fit_bias(&mut self, input_scale: f32) {
        let bias = self.bias.clone();
        let cols = self.values.len() / self.scales.len().max(1);
        for (row, scale) in self.scales.iter_mut().enumerate() {
            let bias = bias.as_ref().map_or(0.0, |bias| bias[row].abs());
            let least = bias / (input_scale * (1u32 << 29) as f32);
            let integers = &mut self.values[row * cols..(row + 1) * cols];
            if *scale == 0.0 {
                // Nothing to scale but the bias: in 24 bits, as exact as a float.
                *scale = if bias > 0.0 { bias / (input_scale * (1u32 << 24) as f32) } else { 1.0 };
            } else if *scale < least {
                let (old, new) = (*scale, least);
                integers.iter_mut().for_each(|q| *q = (f32::from(*q) * old / new).round_ties_even() as i8);
                *scale = new;
            }
            *scale = scale.max(f32::MIN_POSITIVE);
        }
    }
}

/// A row in steps of `scale`, to the nearest; zeros where there is no scale.
pub fn round_row(row: &[f32], scale: f32) -> Vec<i8> {
    let step =
        |&value: &f32| if scale > 0.0 { (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 };
    row.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(values: Vec<f32>, cols: usize) -> Matrix {
        let rows = values.len() / cols;
        Matrix { rows, cols, values, bias: None, dims: vec![rows, cols], axis: 0, groups: 1 }
    }

    proptest! {
        #[test]
        fn rounding_keeps_to_the_bound_and_to_half_a_step(
            row in prop::collection::vec(prop_oneof![-1f32..1.0, Just(0.0), -1e-20f32..1e-20, -1e20f32..1e20], 1..40),
            portable: bool,
        ) {
            let matrix = matrix(row.clone(), row.len());
            let bound = matrix.bound(portable);
            let layer = Layer::nearest(&matrix, &bound);
            prop_assert!(bound.holds(&layer.values));
            let scale = layer.scales[0];
            for (&weight, &q) in row.iter().zip(&layer.values) {
                prop_assert!((weight - scale * f32::from(q)).abs() <= scale * 0.502 + f32::MIN_POSITIVE, "{weight} {q} {scale}");
            }
            for pair in layer.values.windows(2).filter(|_| portable) {
                let sum = 255 * (i32::from(pair[0]) + i32::from(pair[1]));
                prop_assert!((-32768..=32767).contains(&sum));
            }
        }
    }

    #[test]
    fn neighbours_are_those_of_either_layout() {
        let mut matrix = matrix(vec![0.0; 12], 6);
        matrix.dims = vec![2, 2, 3];
        // Stored as c0k0 c0k1 c0k2 c1k0 c1k1 c1k2; channels last as 0 3 1 4 2 5.
        let neighbours = matrix.neighbours();
        assert_eq!((neighbours[0].as_slice(), neighbours[3].as_slice()), (&[1, 3][..], &[0, 1, 2, 4][..]));
        assert_eq!(Neighbours::of(neighbours).pairs.len(), 5 + 5);
    }

    #[test]
    fn depthwise_weights_are_not_bound() {
        let mut matrix = matrix(vec![1.0; 18], 9);
        (matrix.dims, matrix.groups) = (vec![2, 1, 3, 3], 2);
        assert_eq!(matrix.bound(true), Bound::Full);
    }

    #[test]
    fn a_dead_channel_keeps_its_bias() {
        let mut layer = Layer { values: vec![0, 0], scales: vec![0.0], bias: Some(vec![3.0]) };
        layer.fit_bias(0.5);
        let step = f64::from(layer.scales[0]) * 0.5;
        assert!((3.0 / step).round() * step - 3.0 < 1e-6 && 3.0 / step < f64::from(i32::MAX / 4));
    }

    #[test]
    fn a_bias_that_is_too_large_for_the_scale_raises_it() {
        let mut layer = Layer { values: vec![127, -127], scales: vec![1e-12], bias: Some(vec![1.0]) };
        layer.fit_bias(1e-3);
        assert!(1.0 / (layer.scales[0] * 1e-3) <= (1u32 << 29) as f32 * 1.001);
        assert_eq!(layer.values, [0, 0]);
    }
}
