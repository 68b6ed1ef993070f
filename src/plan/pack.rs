//! Integer weights in the form in which kernels read them: the last thing that is made of a model, since it depends on windows,
//! and the largest, so that what it takes is reckoned first and written once.
//!
//! The fastest form of some weights is up to four times as large as they are. Where weights are most of what a device has
//! memory for, those take it whose layers gain most from it, those with the most pixels, and the others a compact one.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use tractlet_core::isa::Isa;
use tractlet_core::kernels::ConvKernel;
use tractlet_core::kernels::conv::Form;
use tractlet_core::plan::{ALIGN, DataSpan, Op, PlanBuilder};
use tractlet_core::shape::ConvShape;

use crate::lower::{Program, Step};

/// So many bytes of weights are packed for speed, whatever that takes.
const SMALL: usize = 512 << 10;

/// Packs the weights of a program that takes whole windows.
pub(crate) fn packed(mut program: Program, builder: &mut PlanBuilder) -> Program {
    let weights = std::mem::take(&mut program.weights);
    pack(&mut program, &weights, builder);
    program
}

/// Packs weights for the windows that convolutions have here.
pub(super) fn pack(program: &mut Program, weights: &[Vec<i8>], builder: &mut PlanBuilder) {
    let (isa, steps) = (builder.isa(), program.steps.len());
    let all: usize = weights.iter().map(Vec::len).sum();
    let mut layers: Vec<Layer<'_>> = program.steps.iter_mut().filter_map(|step| Layer::of(step, weights)).collect();
    let lens = if all > SMALL {
        within(&mut layers, isa, all / 4 * 3)
    } else {
        layers.iter().map(|layer| layer.kernel().max_packed_len(isa, &layer.shape)).collect()
    };
    // Steps of one layer may share what is packed, and then it is packed at the end and dropped again.
    let (mut seen, mut bytes, mut again) = (HashSet::new(), 0, 0);
    for (layer, len) in layers.iter().zip(lens) {
        match seen.insert((layer.place.offset, len)) {
            true => bytes += len.next_multiple_of(ALIGN),
            false => again = again.max(len),
        }
    }
    builder.reserve(bytes + again, steps);
    let mut packed: HashMap<_, DataSpan> = HashMap::new();
    for layer in layers {
        let (key, kernel) = ((layer.key(), layer.is_compact()), layer.kernel());
        let Layer { shape, weights, place, .. } = layer;
        *place = *packed.entry(key).or_insert_with(|| builder.conv_weights(kernel, &shape, weights));
    }
}

/// A step whose weights are to be packed.
struct Layer<'p> {
    shape: ConvShape,
    weights: &'p [i8],
    /// Their number, and then where they lie.
    place: &'p mut DataSpan,
    /// Whether they are compact, where that can be chosen.
    compact: Option<&'p mut bool>,
}

impl<'p> Layer<'p> {
    fn of(step: &'p mut Step, weights: &'p [Vec<i8>]) -> Option<Layer<'p>> {
        let (shape, place, compact) = match &mut step.op {
            Op::ConvS8(conv) => (conv.shape, &mut conv.weights, Some(&mut conv.compact)),
            Op::ConvS32(conv) => (conv.shape, &mut conv.weights, None),
            _ => return None,
        };
        Some(Layer { shape, weights: &weights[place.offset], place, compact })
    }

    fn is_compact(&self) -> bool {
        self.compact.as_ref().is_none_or(|compact| **compact)
    }

    fn kernel(&self) -> ConvKernel {
        ConvKernel::of(&self.shape, if self.is_compact() { Form::Compact } else { Form::Fast })
    }

    /// What its packed weights depend on, but for their form: the number of the weights and the layer's shape.
    fn key(&self) -> (usize, ConvShape) {
        (self.place.offset, self.shape)
    }
}

/// Chooses forms such that the fastest ones add at most `more` bytes to what the compact ones take; returns what each takes.
fn within(layers: &mut [Layer<'_>], isa: Isa, mut more: usize) -> Vec<usize> {
    let mut lens = vec![0; layers.len()];
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|&layer| Reverse(layers[layer].shape.window.out_h * layers[layer].shape.window.out_w));
    let mut chosen = HashMap::new();
    for index in order {
        let key = layers[index].key();
        let Layer { shape, weights, compact, .. } = &mut layers[index];
        let Some(compact) = compact else {
            lens[index] = ConvKernel::of(shape, Form::Compact).packed_len(isa, shape, weights);
            continue;
        };
        if let Some(&(form, len)) = chosen.get(&key) {
            (**compact, lens[index]) = (form, len);
            continue;
        }
        let [fast, small] =
            [Form::Fast, Form::Compact].map(|form| ConvKernel::of(shape, form).packed_len(isa, shape, weights));
        let added = fast.saturating_sub(small);
        **compact = added > more;
        if !**compact {
            more -= added;
        }
        lens[index] = if **compact { small } else { fast };
        chosen.insert(key, (**compact, lens[index]));
    }
    lens
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::{ArenaSpan, ConvS8, DataSpan, Operand};
    use tractlet_core::shape::{ConvShape, Requantize, Window};

    use super::*;

    /// 3x3 convolutions with a padding of one, of images so many pixels high and wide and so many channels.
    fn network(layers: &[(usize, usize)]) -> Program {
        let mut program = Program::default();
        for &(size, channels) in layers {
            let window = Window {
                in_h: size,
                in_w: size,
                in_c: channels,
                out_h: size,
                out_w: size,
                kernel_h: 3,
                kernel_w: 3,
                stride_h: 1,
                stride_w: 1,
                dilation_h: 1,
                dilation_w: 1,
                pad_top: 1,
                pad_left: 1,
            };
            let number = program.weights.len();
            program.weights.push((0..9 * channels * channels).map(|i| (i * 37 + number) as i8).collect());
            let op = ConvS8 {
                input: Operand::arena(0, 0),
                output: Operand::arena(0, 0),
                shape: ConvShape { window, out_c: channels, groups: 1 },
                input_zero_point: 0,
                requantize: Requantize { zero_point: 0, min: -128, max: 127 },
                compact: false,
                weights: DataSpan { offset: number, len: 0 },
                bias: DataSpan::default(),
                multipliers: DataSpan::default(),
                scratch: ArenaSpan::default(),
            };
            program.steps.push(Step { name: String::new(), op: op.into() });
        }
        program
    }

    /// Which of them are compact, and the bytes of packed weights for one of weights.
    fn compact(layers: &[(usize, usize)], isa: Isa) -> (Vec<bool>, f64) {
        let program = network(layers);
        let weights: usize = program.weights.iter().map(Vec::len).sum();
        let program = packed(program, &mut PlanBuilder::new(isa));
        let convs = program.steps.iter().map(|step| match step.op {
            Op::ConvS8(conv) => conv,
            _ => unreachable!(),
        });
        let (compact, lens): (Vec<bool>, Vec<usize>) = convs.map(|conv| (conv.compact, conv.weights.len)).unzip();
        (compact, lens.iter().sum::<usize>() as f64 / weights as f64)
    }

    #[test]
    fn large_weights_are_transformed_where_there_are_most_pixels() {
        assert_eq!(compact(&[(32, 64), (16, 128)], Isa::Avx2), (vec![false, false], 32.0 / 9.0));
        let (forms, ratio) = compact(&[(4, 256), (32, 64), (16, 128), (8, 128)], Isa::Avx2);
        assert_eq!(forms, [true, false, false, true]);
        assert!((1.5..1.75).contains(&ratio), "{ratio}");
        let (forms, ratio) = compact(&[(8, 256), (8, 256)], Isa::Avx512Vnni);
        assert_eq!(forms, [false, false]);
        assert!(ratio < 1.01, "{ratio}");
    }
}
