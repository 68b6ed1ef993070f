//! What multiplies and adds behind a convolution or a matrix product goes into its weights and bias:
//! BatchNormalization, and Mul, Add, Sub and Div by a constant for each channel.

use std::collections::{HashMap, HashSet};

use super::constants::scalar;
use super::{Notes, remove};
use crate::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::onnx::{Edges, Names, dims, f32s, floats, row};

/// Folds until nothing is left to fold.
pub fn fold(model: &mut ModelProto, notes: &mut Notes) {
    let mut folded = 0;
    while fold_one(model) {
        folded += 1;
    }
    if folded > 0 {
        notes.push(format!("{folded} scalings and shifts folded into the weights before them"));
    }
}

/// `y = scale * x + shift`, for each channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// Weights with the dimension of their output channels.
struct Product {
    weights: TensorProto,
    axis: usize,
    bias: Option<Vec<f32>>,
}

fn fold_one(model: &mut ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let (stored, edges) = (graph.stored(), Edges::of(model));
    let found = graph.node.iter().enumerate().find_map(|(index, node)| {
        let product = product(node, &stored)?;
        let reader = edges.sole_reader(node.out())?;
        let channels = dims(&product.weights)[product.axis];
        let affine = affine(&graph.node[reader], node, channels, &stored)?;
        Some((index, reader, product, affine))
    });
    let Some((index, reader, product, affine)) = found else {
        return false;
    };
    let mut names = Names::of(model);
    let (weights, bias) = applied(&product, &affine);
    let node = &model.nodes()[index];
    let weights_name = names.fresh(&format!("{}_folded", node.arg(1).unwrap_or_default()));
    let bias_name = names.fresh(&format!("{}_bias", node.title()));
    let output = model.nodes()[reader].out().to_owned();
    let shape = dims(&product.weights);
    let graph = model.graph_mut();
    let node = &mut graph.node[index];
    node.input.truncate(2);
    node.input[1].clone_from(&weights_name);
    node.input.push(bias_name.clone());
    node.output[0] = output;
    graph.initializer.push(f32s(&weights_name, &shape, &weights));
    graph.initializer.push(f32s(&bias_name, &[bias.len()], &bias));
    remove(model, &HashSet::from([reader]));
    model.graph_mut().sweep();
    true
}

/// A convolution or Gemm whose weights and bias are stored. A MatMul has no place for a bias.
fn product(node: &NodeProto, stored: &HashMap<&str, &TensorProto>) -> Option<Product> {
    let axis = match node.op() {
        "Conv" => 0,
        "ConvTranspose" if node.int("group", 1) == 1 => 1,
        "Gemm" if node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0 => {
            usize::from(node.int("transB", 0) == 0)
        }
        _ => return None,
    };
    let weights = (*stored.get(node.arg(1)?)?).clone();
    let channels = *dims(&weights).get(axis)?;
    floats(&weights)?;
    let bias = match node.arg(2) {
        Some(name) => Some(row(stored.get(name)?, channels)?),
        None => None,
    };
    Some(Product { weights, axis, bias })
}

fn affine(
    node: &NodeProto,
    before: &NodeProto,
    channels: usize,
    stored: &HashMap<&str, &TensorProto>,
) -> Option<Affine> {
    let constant = |index: usize| node.arg(index).and_then(|name| stored.get(name).copied());
    if node.op() == "BatchNormalization" {
        if node.arg(0) != Some(before.out()) || node.int("training_mode", 0) != 0 || node.output.len() != 1 {
            return None;
        }
        let values = |index| constant(index).and_then(floats).filter(|values| values.len() == channels);
        let (gamma, beta, mean, variance) = (values(1)?, values(2)?, values(3)?, values(4)?);
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        let scale: Vec<f64> =
            gamma.iter().zip(&variance).map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt()).collect();
        let shift =
            scale.iter().zip(beta.iter().zip(&mean)).map(|(s, (&b, &m))| f64::from(b) - s * f64::from(m)).collect();
        return Some(Affine { scale, shift });
    }
    let first = node.arg(0) == Some(before.out());
    let rank = stored.get(before.arg(1)?).map(|weights| dims(weights).len())?;
    let values = per_channel(constant(usize::from(first))?, channels, rank)?;
    let (ones, none) = (vec![1.0; channels], vec![0.0; channels]);
    let map = |f: fn(f64) -> f64| values.iter().map(|&v| f(v)).collect();
    Some(match (node.op(), first) {
        ("Add", _) => Affine { scale: ones, shift: values },
        ("Sub", true) => Affine { scale: ones, shift: map(|v| -v) },
        ("Mul", _) => Affine { scale: values, shift: none },
        ("Div", true) if values.iter().all(|&v| v != 0.0) => Affine { scale: map(|v| 1.0 / v), shift: none },
        _ => return None,
    })
}

/// One value for each channel of what a product of this rank writes: the second
/// dimension of images and rows alike.
fn per_channel(tensor: &TensorProto, channels: usize, rank: usize) -> Option<Vec<f64>> {
    let shape = dims(tensor);
    if let Some(value) = scalar(tensor) {
        // More dimensions than the product's own would give the result more.
        return (shape.len() <= rank).then(|| vec![f64::from(value); channels]);
    }
    // The second dimension, counted from the end as broadcasting does.
    let channel = shape.len().checked_sub(rank - 1)?;
    let ones = shape.iter().enumerate().all(|(axis, &dim)| axis == channel || dim == 1);
    let fits = ones && shape.len() <= rank && shape.get(channel) == Some(&channels);
    Some(floats(tensor).filter(|_| fits)?.into_iter().map(f64::from).collect())
}

fn applied(product: &Product, affine: &Affine) -> (Vec<f32>, Vec<f32>) {
    let shape = dims(&product.weights);
    let inner: usize = shape[product.axis + 1..].iter().product();
    let channels = shape[product.axis];
    let weights = floats(&product.weights).unwrap_or_default();
    let scaled = |(index, &w): (usize, &f32)| (f64::from(w) * affine.scale[index / inner % channels]) as f32;
    let bias = |c: usize| {
        let bias = product.bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
        (bias * affine.scale[c] + affine.shift[c]) as f32
    };
    (weights.iter().enumerate().map(scaled).collect(), (0..channels).map(bias).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::i64s;
    use crate::onnx::proto::GraphProto;

    #[test]
    fn constants_lie_along_the_channels_or_are_left_alone() {
        let of = |shape: &[usize], rank| {
            per_channel(&f32s("c", shape, &vec![2.0; shape.iter().product()]), 3, rank).is_some()
        };
        // A row of a matrix product, an image of two dimensions, one of one.
        assert!(of(&[3], 2) && of(&[1, 3], 2) && of(&[1], 2) && of(&[], 2));
        assert!(of(&[3, 1, 1], 4) && of(&[1, 3, 1, 1], 4) && of(&[1, 1, 1], 4));
        assert!(of(&[3, 1], 3) && of(&[1, 3, 1], 3));
        // What broadcasts otherwise, or not at all.
        for (shape, rank) in
            [(&[3][..], 4), (&[1, 3], 4), (&[3, 1], 2), (&[3, 1, 1], 3), (&[1, 1, 1], 2), (&[1, 3, 1, 2], 4), (&[4], 2)]
        {
            assert!(!of(shape, rank), "{shape:?} {rank}");
        }
    }

    /// No sound model adds integers to floats; a fuzzer's did.
    #[test]
    fn what_is_added_in_another_type_is_no_shift() {
        let graph = GraphProto {
            node: vec![NodeProto::test("Gemm", &["x", "w"], "a"), NodeProto::test("Add", &["a", "c"], "y")],
            initializer: vec![f32s("w", &[2, 3], &[1.0; 6]), i64s("c", &[3], &[1; 3])],
            ..GraphProto::default()
        };
        let mut model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        fold(&mut model, &mut Notes::new());
        assert_eq!(model.nodes().len(), 2);
    }
}
