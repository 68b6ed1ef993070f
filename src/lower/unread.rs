//! Channels between two convolutions that the second multiplies by nothing but zeros. They are neither computed
//! nor stored: training with a penalty on weights leaves many of them, and pruning does.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::value::Value;
use super::{Expanded, Lowering, Why, int};
use crate::model::Node;

/// A convolution on integers.
struct Conv {
    /// Its node, by index.
    node: usize,
    depthwise: bool,
    /// Outputs, inputs of each, and the values of their kernels.
    dims: [usize; 3],
    /// The integers that it makes, and what another one reads of them, where nothing else reads either.
    link: Option<[String; 2]>,
}

/// Weights of a convolution, OIHW.
pub(super) struct Filters<T> {
    pub values: Vec<T>,
    pub out_c: usize,
    /// Of one group.
    pub in_c: usize,
    pub kernel: Vec<usize>,
    pub groups: usize,
    /// Which of the model's output channels these are, if they are not the same.
    pub outputs: Option<Rc<[usize]>>,
}

impl Conv {
    /// Input channels.
    fn channels(&self) -> usize {
        if self.depthwise { self.dims[0] } else { self.dims[1] }
    }
}

impl Lowering<'_> {
    /// Whether a node is nothing but stored integers seen through a stored scale.
    pub(super) fn dequantizes_stored(&self, node: &Node) -> bool {
        node.op == "DequantizeLinear"
            && !self.is_lost(node)
            && self.value(node, 0).is_ok_and(|value| value.is_constant() || matches!(value, Value::Quantized(_)))
    }

    /// A convolution's OIHW weights without what is not read of its outputs, nor computed of its input.
    pub(super) fn filters<T: Copy>(&self, node: &Node, values: Vec<T>, dims: &[usize]) -> Result<Filters<T>, Why> {
        let groups = int(node, "group", 1) as usize;
        let (out_c, in_c, kernel) = (dims[0], dims[1], dims[2..].to_vec());
        let outputs = self.read.get(&self.tail(node)?.output).cloned();
        let inputs = node.input(0).and_then(|name| self.read.get(name)).filter(|_| groups == 1);
        if outputs.is_none() && inputs.is_none() {
            return Ok(Filters { values, out_c, in_c, kernel, groups, outputs });
        }
        let taps = kernel.iter().product();
        let values = kept(&values, [out_c, in_c, taps], outputs.as_deref(), inputs.map(|inputs| &**inputs));
        let in_c = inputs.map_or(in_c, |inputs| inputs.len());
        let out_c = outputs.as_ref().map_or(out_c, |outputs| outputs.len());
        Ok(Filters { values, out_c, in_c, kernel, groups: if groups == 1 { 1 } else { out_c }, outputs })
    }

    /// Finds the channels that are read, from the last convolution to the first. What is stored has to have been
    /// lowered.
    pub(super) fn find_unread(&mut self) {
        let dequantized: HashSet<&str> = (self.nodes.iter().map(Expanded::get))
            .filter(|node| node.op == "DequantizeLinear" && !self.dequantizes_stored(node))
            .filter_map(|node| node.outputs.first().map(String::as_str))
            .collect();
        let on_integers = |node: &Node| node.input(0).is_some_and(|name| dequantized.contains(name));
        let convs: Vec<Conv> = (0..self.nodes.len())
            .filter(|&index| on_integers(self.nodes[index].get()))
            .filter_map(|index| self.conv(index))
            .collect();
        let by_input: HashMap<&str, usize> =
            (0..convs.len()).filter_map(|i| Some((self.nodes[convs[i].node].get().input(0)?, i))).collect();
        let reader = |conv: &Conv| {
            let next = conv.link.as_ref().and_then(|[_, name]| by_input.get(name.as_str()))?;
            (convs[*next].channels() == conv.dims[0]).then_some(*next)
        };
        // A depthwise convolution has the channels of its input: it can leave some out if that does.
        let mut leaves_out: Vec<bool> = convs.iter().map(|conv| !conv.depthwise).collect();
        for i in 0..convs.len() {
            if let Some(next) = reader(&convs[i]).filter(|&next| convs[next].depthwise) {
                leaves_out[next] = leaves_out[i];
            }
        }
        let mut read: Vec<Option<Rc<[usize]>>> = vec![None; convs.len()];
        for i in (0..convs.len()).rev().filter(|&i| leaves_out[i]) {
            let Some(next) = reader(&convs[i]) else { continue };
            read[i] = match convs[next].depthwise {
                true => read[next].clone(),
                false => self.columns(&convs[next], read[next].as_deref()),
            };
        }
        for (conv, channels) in convs.into_iter().zip(read) {
            if let (Some(names), Some(channels)) = (conv.link, channels) {
                self.read.extend(names.map(|name| (name, channels.clone())));
            }
        }
    }

    /// The node as a convolution whose weights and ends are integers, one group or depthwise. It is lowered to floats if its
    /// bias does not hold in steps of its sums, and leaves out the same channels there.
    fn conv(&self, index: usize) -> Option<Conv> {
        let node = self.nodes[index].get();
        if node.op != "Conv" {
            return None;
        }
        let tail = self.tail(node).ok()?;
        tail.quantized?;
        let (stored, _) = self.weights_of(node).ok()??;
        let (&[outputs, inputs], kernel) = stored.tensor.dims.split_first_chunk()?;
        let groups = int(node, "group", 1);
        let depthwise = inputs == 1 && groups > 1 && usize::try_from(groups) == Ok(outputs);
        let dims = [outputs, inputs, kernel.iter().product()];
        let taken = (groups == 1 || depthwise) && !dims.contains(&0);
        taken.then(|| Conv { node: index, depthwise, dims, link: self.link(&tail.output) })
    }

    /// The integers of that name and what their sole reader, a DequantizeLinear, makes of them for a sole reader.
    fn link(&self, integers: &str) -> Option<[String; 2]> {
        let (_, node) = self.sole_reader(integers).filter(|(_, node)| node.op == "DequantizeLinear")?;
        let output = node.outputs.first()?;
        let first = |node: &Node, name: &str| node.input(0) == Some(name);
        let (_, reader) = self.sole_reader(output)?;
        (first(node, integers) && first(reader, output)).then(|| [integers.to_owned(), output.clone()])
    }

    /// The inputs of a convolution that have a weight other than 0 for one of `outputs`; `None` if that is all.
    fn columns(&self, conv: &Conv, outputs: Option<&[usize]>) -> Option<Rc<[usize]>> {
        let (_, weights) = self.weights_of(self.nodes[conv.node].get()).ok()??;
        let [all, inputs, taps] = conv.dims;
        let mut used = vec![false; inputs];
        let mut mark = |output: usize| {
            let kernels = weights[output * inputs * taps..][..inputs * taps].chunks(taps);
            used.iter_mut().zip(kernels).for_each(|(used, kernel)| *used |= kernel.iter().any(|&w| w != 0));
        };
        match outputs {
            Some(outputs) => outputs.iter().for_each(|&output| mark(output)),
            None => (0..all).for_each(&mut mark),
        }
        // A tensor has a channel at least.
        used[0] |= !used.contains(&true);
        used.contains(&false).then(|| (0..inputs).filter(|&input| used[input]).collect())
    }
}

/// Of OIHW weights, those of `outputs` and `inputs`, each all of them where it is `None`.
fn kept<T: Copy>(
    weights: &[T],
    [all_outputs, all_inputs, taps]: [usize; 3],
    outputs: Option<&[usize]>,
    inputs: Option<&[usize]>,
) -> Vec<T> {
    let numbers = |kept: Option<&[usize]>, all: usize| kept.map_or_else(|| (0..all).collect(), <[usize]>::to_vec);
    let inputs = numbers(inputs, all_inputs);
    let kernel = |output: usize, input: usize| &weights[(output * all_inputs + input) * taps..][..taps];
    let outputs = numbers(outputs, all_outputs);
    let mut kept = Vec::with_capacity(outputs.len() * inputs.len() * taps);
    for &output in &outputs {
        inputs.iter().for_each(|&input| kept.extend_from_slice(kernel(output, input)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::{ConvF32, ConvS8, Op};

    use super::*;
    use crate::lower::golden;

    /// Input and output channels of each convolution of a golden model.
    fn channels(name: &str) -> Vec<[usize; 2]> {
        let shape = |op: &Op| match op {
            Op::ConvS8(ConvS8 { shape, .. }) | Op::ConvF32(ConvF32 { shape, .. }) => {
                Some([shape.window.in_c, shape.out_c])
            }
            _ => None,
        };
        golden(name).program.steps.iter().filter_map(|step| shape(&step.op)).collect()
    }

    #[test]
    fn what_nothing_reads_is_not_computed() {
        assert_eq!(channels("unread_channels"), [[6, 7], [7, 7], [7, 9]]);
        assert_eq!(channels("unread_channels_of_3x3"), [[6, 7], [7, 9]]);
        assert_eq!(channels("unread_channels_all"), [[6, 1], [1, 1], [1, 9]]);
        assert_eq!(channels("unread_channels_behind_constants"), [[6, 7], [7, 7], [7, 9]]);
    }

    /// Whether a layer computes in integers is known when it is lowered, and what is read before that.
    #[test]
    fn what_nothing_reads_is_not_computed_in_float_either() {
        assert_eq!(channels("unread_channels_of_a_layer_in_float"), [[6, 8], [8, 5]]);
        assert_eq!(channels("unread_channels_of_a_depthwise_layer_in_float"), [[6, 10], [10, 10], [10, 5]]);
    }

    #[test]
    fn what_a_caller_sees_or_gives_is_whole() {
        assert_eq!(channels("unread_channels_that_are_an_output"), [[6, 12], [12, 12], [12, 9]]);
        assert_eq!(channels("unread_channels_of_an_input"), [[12, 12], [12, 9]]);
    }

    #[test]
    fn weights_of_some_outputs_and_inputs() {
        let weights: Vec<i8> = (0..12).collect();
        assert_eq!(kept(&weights, [3, 2, 2], Some(&[0, 2]), None), [0, 1, 2, 3, 8, 9, 10, 11]);
        assert_eq!(kept(&weights, [3, 2, 2], Some(&[1]), Some(&[1])), [6, 7]);
    }
}
