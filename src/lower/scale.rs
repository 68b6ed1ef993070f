//! Sums of products that become floats, a multiplication that brings them to scale and an addition of a bias: one op in
//! place of the three, whichever of the model's nodes stand between.

use std::collections::HashMap;

use tractlet_core::plan::{Binary, BinaryF32, Convert, DType, DataSpan, Op, Operand, ScaleS32, Section};

use super::binary::UNBOUNDED;
use super::program::{Program, TensorId, reads};

impl Program {
    /// Puts together what nobody else reads the steps between of.
    pub(super) fn scale_sums(&mut self) {
        let readers = self.only_readers();
        let next = |tensor: Operand| readers.get(&tensor.offset).copied();
        let mut left_out = vec![false; self.steps.len()];
        for first in 0..self.steps.len() {
            let Op::Convert(Convert { input, output, from: DType::I32, to: DType::F32 }) = self.steps[first].op else {
                continue;
            };
            // One of two conversions that are multiplied with each other is left as it is.
            let Some(product) = next(output).filter(|&product| !left_out[product]) else { continue };
            let Some((mut op, bounded)) = scaled(input, output, &self.steps[product].op) else { continue };
            let mut last = product;
            if !bounded
                && let Some(sum) = next(op.output)
                && add(&mut op, &self.steps[sum].op)
            {
                left_out[product] = true;
                last = sum;
            }
            left_out[first] = true;
            self.steps[last].op = op.into();
        }
        let mut left_out = left_out.into_iter();
        self.steps.retain(|_| left_out.next() != Some(true));
    }

    /// The step that reads a tensor, of those that one step does and no caller, and that are no part of another.
    pub(super) fn only_readers(&self) -> HashMap<TensorId, usize> {
        let mut readers: HashMap<TensorId, Vec<usize>> = HashMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            reads(&step.op).for_each(|tensor| readers.entry(tensor).or_default().push(index));
        }
        let shared = self.parts.iter().flat_map(|(part, (whole, _))| [*part, *whole]);
        for tensor in shared.chain(self.outputs.iter().map(|output| output.tensor)) {
            readers.remove(&tensor);
        }
        readers
            .into_iter()
            .filter_map(|(tensor, steps)| Some((tensor, *steps.first().filter(|_| steps.len() == 1)?)))
            .collect()
    }
}

/// The op for a product of `floats`, which `sums` become, and whether there are bounds that a sum behind it would pass.
fn scaled(sums: Operand, floats: Operand, op: &Op) -> Option<(ScaleS32, bool)> {
    let Op::BinaryF32(BinaryF32 { function: Binary::Mul, inner: 1, a, b, output, min, max }) = *op else {
        return None;
    };
    let scale = if a == floats { b } else { a };
    // The other way round for as many values, which then are one pixel.
    let fits = a == floats || b == floats && a.len == b.len;
    let op = ScaleS32 {
        input: sums,
        scale,
        bias: DataSpan::default().into(),
        output,
        channels: scale.len / size_of::<f32>(),
        min,
        max,
    };
    fits.then_some((op, (min, max) != UNBOUNDED))
}

/// Takes in the addition of a row of values, one for each channel.
fn add(op: &mut ScaleS32, sum: &Op) -> bool {
    let BinaryF32 { a, b, output, min, max, .. } = match sum {
        Op::BinaryF32(sum) if sum.function == Binary::Add && sum.inner == 1 && sum.a == op.output => *sum,
        _ => return false,
    };
    let channels = b.len / size_of::<f32>();
    // Another tensor of that size has no row to stand for all others, along which threads could share it.
    let is_row = b.section == Section::Data || b.len < a.len;
    if !is_row || ![1, channels].contains(&op.channels) {
        return false;
    }
    *op = ScaleS32 { bias: b, output, channels, min, max, ..*op };
    true
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::Op;

    use crate::lower::golden;

    /// The kinds of the steps from the sums of a golden model on, and the channels of the op that scales them and whether it
    /// adds a bias.
    fn steps(name: &str) -> (Vec<&'static str>, Option<(usize, bool)>) {
        let steps = golden(name).program.steps;
        let scaled = steps.iter().find_map(|step| match step.op {
            Op::ScaleS32(op) => Some((op.channels, op.bias.len > 0)),
            _ => None,
        });
        let kinds = steps.iter().map(|step| step.op.kind()).skip_while(|kind| *kind != "ConvS32");
        (kinds.filter(|kind| *kind != "StridedCopy").collect(), scaled)
    }

    #[test]
    fn a_layer_is_its_sums_and_what_they_stand_for() {
        let cases = [
            ("dynamic_matmul", 7, true),
            ("dynamic_matmul_one_row", 7, true),
            ("dynamic_matmul_relu", 7, true),
            ("dynamic_matmul_3d", 7, false),
            ("dynamic_conv", 5, true),
            ("dynamic_conv_depthwise", 20, true),
        ];
        for (name, channels, bias) in cases {
            // Between them the product of scales.
            assert_eq!(steps(name), (vec!["ConvS32", "BinaryF32", "ScaleS32"], Some((channels, bias))), "{name}");
        }
        let put_right = vec!["ConvS32", "ConvS32", "LessS32", "BinaryF32", "ScaleS32"];
        assert_eq!(steps("dynamic_matmul_far_zero_point"), (put_right.clone(), Some((7, true))));
        assert_eq!(steps("dynamic_conv_far_zero_point_depthwise"), (put_right, Some((20, true))));
        assert_eq!(steps("dynamic_matmul_per_tensor").0, ["ConvS32", "UnaryF32", "ScaleS32"]);
    }

    #[test]
    fn what_somebody_else_reads_stays() {
        assert_eq!(steps("dynamic_matmul_read_twice"), (vec!["ConvS32", "Convert", "BinaryF32"], None));
        assert_eq!(steps("dynamic_matmul_products_add").0, ["ConvS32", "ConvS32", "Convert", "ScaleS32"]);
    }
}
