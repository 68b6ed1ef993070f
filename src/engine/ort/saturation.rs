//! A warning of sums that ONNX Runtime would get wrong.
//!
//! On x86-64 CPUs without VNNI its int8 kernels add the products of two activations, as uint8, and two int8 weights in 16
//! bits (VPMADDUBSW), which saturates where `255 * (w0 + w1)` is beyond an i16: whole layers may answer with nonsense.
//! int8 activations it makes uint8 first. Models whose neighbouring weights are small enough cannot meet it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{AttributeValue, DType, Graph, Model, Node, Tensor};

/// The largest sum of two weights whose products with 255 fit 16 bits, and the least: -32768 / 255 is -128.5.
const MOST: i32 = 128;

/// Warns where this CPU and the model are such.
pub(super) fn warn(model: &Model) {
    if !cpu_saturates() {
        return;
    }
    let (at_risk, layers) = count(model);
    // Once: whoever makes several sessions knows by then.
    static TOLD: AtomicBool = AtomicBool::new(false);
    if at_risk > 0 && !TOLD.swap(true, Ordering::Relaxed) {
        log::warn!(
            "{}: in {at_risk} of {layers} quantized layers ONNX Runtime's sums may saturate on this CPU, which has no \
             VNNI, and answers be wrong; ask for exact sums (--exact), or run a model of portable weights, which \
             `tractlet quantize` makes",
            model.path().display()
        );
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_saturates() -> bool {
    !(is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni"))
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_saturates() -> bool {
    false
}

/// Layers with stored int8 weights: how many have weights that may saturate, and all.
fn count(model: &Model) -> (usize, usize) {
    let graph = model.graph();
    let stored: HashMap<&str, &Tensor> =
        graph.initializers.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let weights = graph.nodes.iter().filter_map(|node| weights(graph, &stored, node));
    let at_risk = |weights: &&Weights<'_>| match weights {
        Weights::Stored(tensor) => model.bytes(tensor).is_ok_and(|bytes| saturates(&tensor.dims, bytes)),
        Weights::Made => true,
    };
    let layers: Vec<Weights<'_>> = weights.collect();
    (layers.iter().filter(at_risk).count(), layers.len())
}

enum Weights<'a> {
    /// int8, as they are multiplied but for a transposition of rows and columns.
    Stored(&'a Tensor),
    /// Quantized when the session is made: what they become is not known here.
    Made,
}

/// The weights of a layer on integers, where they are int8 and constant.
fn weights<'a>(graph: &'a Graph, stored: &HashMap<&str, &'a Tensor>, node: &Node) -> Option<Weights<'a>> {
    let producer = |name: &str| graph.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name));
    let mut name = match node.op.as_str() {
        "Conv" | "MatMul" | "Gemm" => {
            producer(node.input(0)?).filter(|node| node.op == "DequantizeLinear")?;
            node.input(1)?
        }
        "ConvInteger" | "MatMulInteger" => node.input(1)?,
        "QLinearConv" | "QLinearMatMul" | "QGemm" => node.input(3)?,
        _ => return None,
    };
    let mut made = false;
    // The chain that leads to what is stored cannot be longer than the graph.
    for _ in 0..=graph.nodes.len() {
        let tensor = match (stored.get(name), producer(name)) {
            (Some(tensor), _) => *tensor,
            (None, Some(node)) => match (node.op.as_str(), node.attribute("value")) {
                ("Constant", Some(AttributeValue::Tensor(tensor))) => tensor,
                ("DequantizeLinear" | "QuantizeLinear" | "Transpose" | "Identity" | "Reshape", _) => {
                    made |= node.op == "QuantizeLinear";
                    name = node.input(0)?;
                    continue;
                }
                _ => return None,
            },
            (None, None) => return None,
        };
        return match tensor.dtype {
            DType::I8 => Some(Weights::Stored(tensor)),
            _ => made.then_some(Weights::Made),
        };
    }
    None
}

/// Whether any two weights that a kernel may pair, neighbours as the tensor stores them or as one with channels last
/// would, add up to more than 16 bits hold.
fn saturates(dims: &[usize], weights: &[u8]) -> bool {
    let weight = |at: usize| weights.get(at).map_or(0, |byte| i32::from(*byte as i8));
    let too_large = |a: usize, b: usize| (weight(a) + weight(b)).abs() > MOST;
    match dims {
        // A matrix: its rows are either side of the product, its columns the other.
        [rows, cols] => {
            let (rows, cols) = (*rows, *cols);
            (0..rows * cols).any(|at| {
                (at % cols + 1 < cols && too_large(at, at + 1)) || (at / cols + 1 < rows && too_large(at, at + cols))
            })
        }
        [rows, channels, kernel @ ..] => {
            let taps: usize = kernel.iter().product();
            let row = channels * taps;
            // Depthwise kernels multiply one channel at a time, without pairs.
            *channels > 1
                && (0..rows * row).any(|at| {
                    let (channel, tap) = (at % row / taps, at % taps);
                    let stored = at % row + 1 < row && too_large(at, at + 1);
                    let next = if channel + 1 < *channels {
                        Some(at + taps)
                    } else {
                        (tap + 1 < taps).then(|| at + 1 - channel * taps)
                    };
                    stored || next.is_some_and(|next| too_large(at, next))
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(weights: &[i8]) -> Vec<u8> {
        weights.iter().map(|weight| *weight as u8).collect()
    }

    #[test]
    fn neighbours_of_either_layout_count() {
        // Two rows, two channels, two taps.
        let dims = [2, 2, 2];
        assert!(!saturates(&dims, &bytes(&[64, 64, -64, 64, -64, -64, -64, 1])));
        assert!(saturates(&dims, &bytes(&[65, 64, 0, 0, 0, 0, 0, 0])), "stored side by side");
        assert!(saturates(&dims, &bytes(&[0, 0, 0, 0, 0, -65, 0, -64])), "channels of one tap");
        assert!(saturates(&dims, &bytes(&[0, 100, 100, 0, 0, 0, 0, 0])), "stored side by side, and across taps");
        assert!(!saturates(&dims, &bytes(&[100, 0, 0, 100, 100, 0, 0, 0])), "two rows are no neighbours");
    }

    #[test]
    fn opposite_signs_do_no_harm() {
        assert!(!saturates(&[1, 2, 1], &bytes(&[127, -127])));
        assert!(saturates(&[1, 2, 1], &bytes(&[-127, -2])));
    }

    #[test]
    fn depthwise_kernels_pair_nothing() {
        assert!(!saturates(&[2, 1, 3], &bytes(&[127; 6])));
    }

    #[test]
    fn weights_are_found_wherever_they_lie() {
        assert_eq!(count(&Model::open("tests/golden/ort/weights_in_a_node.onnx").unwrap()), (1, 1));
    }

    #[test]
    fn shipped_models_have_portable_weights_in_every_layer() {
        let mut all = 0;
        for folder in std::fs::read_dir("models").unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()) {
            let (at_risk, layers) = count(&Model::open(folder.join("int8.onnx")).unwrap());
            assert_eq!(at_risk, 0, "{}", folder.display());
            all += layers;
        }
        assert!(all > 30, "{all}");
    }
}
