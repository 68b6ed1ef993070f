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
    /// One for each row, where the node has a bias.
    pub bias: Option<Vec<f32>>,
    /// Dimensions of the stored tensor, and which of them is the rows'.
    pub dims: Vec<usize>,
    /// The dimension of output channels.
    pub axis: usize,
    /// Groups of a convolution; 1 elsewhere.
    pub groups: usize,
}

impl Matrix {
    /// The weights of a site, if it has some.
    pub fn of(site: &Site, node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> Option<Matrix> {
        let weights = site.weights.as_ref()?;
        let tensor = stored.get(weights.name.as_str())?;
        let (dims, axis) = (dims(tensor), weights.axis);
        let values = floats(tensor)?;
        let bias = weights.bias.as_ref().and_then(|name| stored.get(name.as_str())).and_then(|tensor| floats(tensor));
        let rows = dims[axis];
        let groups = if site.op == "Conv" { usize::try_from(node.int("group", 1)).unwrap_or(1).max(1) } else { 1 };
        let mut matrix = Matrix { rows, cols: values.len() / rows.max(1), values, bias, dims, axis, groups };
        if axis > 0 {
            // Of a matrix with the outputs last.
            matrix.values = transpose(&matrix.values, matrix.cols, matrix.rows);
        }
        Some(matrix)
    }

    /// Weights of one output channel.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// Rows as the tensor stores them.
    pub fn stored_order<T: Copy>(&self, rows: &[T]) -> Vec<T> {
        if self.axis > 0 { transpose(rows, self.rows, self.cols) } else { rows.to_vec() }
    }

    /// Whether each output channel reads one input channel of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.rows && self.dims.get(1) == Some(&1)
    }

    /// How large integers may be, in every row.
    pub fn bound(&self, portable: bool) -> Bound {
        // Depthwise kernels everywhere multiply one channel at a time, without pairs.
        if portable && !self.is_depthwise() { Bound::Pairs } else { Bound::Full }
    }
}

fn transpose<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// What integers a row of weights may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// -127 to 127.
    Full,
    /// No two weights of one sign with magnitudes that add up to more than 128: then
    /// `255 * (w0 + w1)` fits 16 bits for any pair, and x86 CPUs that add pairs of u8 x s8 products in
    /// 16 bits (VPMADDUBSW) do not saturate.
    Pairs,
}

impl Bound {
    /// The least scale at which a row of weights fits.
    pub fn scale(self, row: &[f32]) -> f32 {
        let [largest, pair] = ends(row);
        let scale = match self {
            Bound::Full => largest / 127.0,
            // 127 and not 128: rounding may add half a step to each.
            Bound::Pairs => (largest / 127.0).max(pair / 127.0),
        };
        if scale > f32::MIN_POSITIVE { scale } else { 0.0 }
    }

    /// Whether integers keep to it.
    pub fn holds(self, row: &[i8]) -> bool {
        let row: Vec<f32> = row.iter().map(|&q| f32::from(q)).collect();
        let [largest, pair] = ends(&row);
        largest <= 127.0 && (self == Bound::Full || pair <= 128.0)
    }

    /// How large the magnitude of each weight of a row may become, the others being what they are.
    pub fn caps(self, row: &[i8]) -> Vec<i32> {
        let magnitude = |q: &i8| i32::from(*q).abs();
        let largest = row.iter().map(magnitude).max().unwrap_or(0);
        let at = row.iter().position(|q| magnitude(q) == largest);
        let cap = |(index, _): (usize, &i8)| match self {
            Bound::Full => 127,
            Bound::Pairs if Some(index) == at => largest.max(64),
            Bound::Pairs => 128 - largest.max(64),
        };
        row.iter().enumerate().map(cap).collect()
    }
}

/// The largest magnitude, and the largest sum of magnitudes of two values of one sign.
fn ends(row: &[f32]) -> [f32; 2] {
    let (mut above, mut below) = ([0f32; 2], [0f32; 2]);
    for &value in row {
        let (two, value) = if value >= 0.0 { (&mut above, value) } else { (&mut below, -value) };
        if value > two[0] {
            *two = [value, two[0]];
        } else if value > two[1] {
            two[1] = value;
        }
    }
    [above[0].max(below[0]), (above[0] + above[1]).max(below[0] + below[1])]
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
    pub fn nearest(matrix: &Matrix, bound: Bound) -> Layer {
        let mut layer = Layer { values: Vec::with_capacity(matrix.values.len()), scales: vec![], bias: matrix.bias.clone() };
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
    let step = |&value: &f32| if scale > 0.0 { (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 };
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
            pairs: bool,
        ) {
            let bound = if pairs { Bound::Pairs } else { Bound::Full };
            let layer = Layer::nearest(&matrix(row.clone(), row.len()), bound);
            prop_assert!(bound.holds(&layer.values));
            let scale = layer.scales[0];
            for (&weight, &q) in row.iter().zip(&layer.values) {
                prop_assert!((weight - scale * f32::from(q)).abs() <= scale * 0.502 + f32::MIN_POSITIVE, "{weight} {q} {scale}");
            }
            if pairs {
                for (i, &a) in layer.values.iter().enumerate() {
                    for &b in &layer.values[i + 1..] {
                        let sum = 255 * (i32::from(a) + i32::from(b));
                        prop_assert!((-32768..=32767).contains(&sum));
                    }
                }
            }
            let caps = bound.caps(&layer.values);
            prop_assert!(layer.values.iter().zip(&caps).all(|(&q, &cap)| pairs || i32::from(q).abs() <= cap));
        }
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
