//! Small networks from end to end, against an oracle that shares no code with the kernels.

use std::vec::Vec;

use super::fixtures::*;
use super::{Hook, Role, RunError};
use crate::isa::Isa;
use crate::plan::AlignedBytes;
use crate::shape::{ConvShape, Requantize};

#[test]
fn f32_and_quantized_ops_meet_in_one_plan() {
    let image: Vec<f32> = noise(8, 64).into_iter().map(|byte| f32::from(byte) / 64.0).collect();
    let run = |isa| {
        let plan = mixed(isa);
        let (mut memory, mut outputs) = room(&plan);
        plan.run(&mut memory, &[bytemuck::cast_slice::<f32, u8>(&image)], &mut outputs).unwrap();
        let probabilities: &[f32] = bytemuck::cast_slice(&outputs[0]);
        let squares: &[i8] = bytemuck::cast_slice(&outputs[1]);
        (probabilities.to_vec(), squares.to_vec())
    };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let (probabilities, squares) = run(isa);
        for (row, squares) in probabilities.chunks(2).zip(squares.chunks(2)) {
            assert!((row[0] + row[1] - 1.0).abs() < 1e-6 && row[0] > 0.0 && row[0] != row[1]);
            let square = |p: f32| {
                let q = (p * 128.0).round_ties_even().min(127.0);
                (q * q / 128.0).round_ties_even() as i8
            };
            assert_eq!(squares, [square(row[1]), square(row[0])]);
        }
    }
}

fn requantize(value: f32, to: &Requantize) -> i8 {
    (value.round_ties_even() + f32::from(to.zero_point)).clamp(to.min.into(), to.max.into()) as i8
}

/// The definition of a convolution, padding skipped and zero points not folded.
fn naive_conv(
    x: &[i8],
    zero_point: i8,
    shape: &ConvShape,
    (weights, bias): (&[i8], &[i32]),
    multipliers: &[f32],
    to: &Requantize,
) -> Vec<i8> {
    let w = &shape.window;
    let (group_in, group_out) = (w.in_c / shape.groups, shape.out_c / shape.groups);
    let mut y = Vec::new();
    for oy in 0..w.out_h as isize {
        for ox in 0..w.out_w as isize {
            for oc in 0..shape.out_c {
                let mut acc = bias[oc];
                for ky in 0..w.kernel_h {
                    for kx in 0..w.kernel_w {
                        let iy = oy * w.stride_h as isize + ky as isize - w.pad_top as isize;
                        let ix = ox * w.stride_w as isize + kx as isize - w.pad_left as isize;
                        if iy < 0 || ix < 0 || iy >= w.in_h as isize || ix >= w.in_w as isize {
                            continue;
                        }
                        for c in 0..group_in {
                            let pixel = iy as usize * w.in_w + ix as usize;
                            let x = x[pixel * w.in_c + oc / group_out * group_in + c];
                            let tap = (oc * w.kernel_h + ky) * w.kernel_w + kx;
                            let weight = weights[tap * group_in + c];
                            acc += (i32::from(x) - i32::from(zero_point)) * i32::from(weight);
                        }
                    }
                }
                y.push(requantize(acc as f32 * multipliers[oc], to));
            }
        }
    }
    y
}

/// The probabilities of [`network`].
fn oracle(image: &[f32]) -> Vec<f32> {
    let pixels = IN_H * IN_W;
    let input_out = Requantize { zero_point: INPUT_ZERO, min: -128, max: 127 };
    let nhwc = (0..pixels).flat_map(|p| (0..IN_C).map(move |c| image[c * pixels + p]));
    let x: Vec<i8> = nhwc.map(|value| requantize(value / INPUT_SCALE, &input_out)).collect();

    let (weights, bias) = (noise(1, CHANNELS * 9 * IN_C), biases(2, CHANNELS));
    let shape = padded(1, IN_C);
    let features = naive_conv(&x, INPUT_ZERO, &shape, (&weights, &bias), &CONV_MULTIPLIERS, &CONV_OUT);
    let (weights, bias) = (noise(3, CHANNELS * 9), biases(4, CHANNELS));
    let filtered = naive_conv(
        &features,
        CONV_OUT.zero_point,
        &padded(CHANNELS, CHANNELS),
        (&weights, &bias),
        &DEPTHWISE_MULTIPLIERS,
        &DEPTHWISE_OUT,
    );
    let real = |q: i8, zero_point: i8| f32::from(q) - f32::from(zero_point);
    let sums: Vec<i8> = filtered
        .iter()
        .zip(&features)
        .map(|(&a, &b)| {
            let a = real(a, DEPTHWISE_OUT.zero_point) * ADD_MULTIPLIERS.0;
            requantize(a + real(b, CONV_OUT.zero_point) * ADD_MULTIPLIERS.1, &ADD_OUT)
        })
        .collect();
    let pool = half_size();
    let mut totals = [0i32; CHANNELS];
    for oy in 0..pool.out_h {
        for ox in 0..pool.out_w {
            for (c, total) in totals.iter_mut().enumerate() {
                let at = |dy, dx| sums[((2 * oy + dy) * IN_W + 2 * ox + dx) * CHANNELS + c];
                let max = at(0, 0).max(at(0, 1)).max(at(1, 0)).max(at(1, 1));
                *total += i32::from(square_root(max));
            }
        }
    }
    let share = MEAN_MULTIPLIER / (pool.out_h * pool.out_w) as f32;
    let mean = totals.map(|total| requantize(total as f32 * share, &MEAN_OUT));
    let (weights, bias) = (noise(5, CLASSES * CHANNELS), biases(6, CLASSES));
    let shape = ConvShape { window: window((1, 1), DENSE.0, (1, 1), 1), out_c: DENSE.1, groups: 1 };
    let zero_point = MEAN_OUT.zero_point;
    let parameters = (weights.as_slice(), bias.as_slice());
    let logits = naive_conv(&mean, zero_point, &shape, parameters, &DENSE_MULTIPLIERS, &LOGITS_OUT);

    let max = f64::from(*logits.iter().max().unwrap());
    let powers: Vec<f64> = logits.iter().map(|&q| ((f64::from(q) - max) * f64::from(LOGIT_SCALE)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers
        .iter()
        .map(|power| requantize((power / sum) as f32 / SOFTMAX_SCALE, &SOFTMAX_OUT))
        .map(|q| real(q, SOFTMAX_OUT.zero_point) * SOFTMAX_SCALE)
        .collect()
}

fn images() -> impl Iterator<Item = Vec<f32>> {
    // Miri takes minutes for what is done in a second.
    let seeds = if cfg!(miri) { 10..12 } else { 10..60 };
    seeds.map(|seed| noise(seed, IN_C * IN_H * IN_W).into_iter().map(|byte| f32::from(byte) * 0.021).collect())
}

#[test]
fn a_network_equals_its_oracle_on_every_isa() {
    let mut answers = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let plan = network(isa);
        let (mut memory, mut outputs) = room(&plan);
        for image in images() {
            plan.run(&mut memory, &[bytemuck::cast_slice::<f32, u8>(&image)], &mut outputs).unwrap();

            let expected = oracle(&image);
            let answer: &[f32] = bytemuck::cast_slice(&outputs[0]);
            assert_eq!(answer, expected, "{isa}");
            let framed: &[f32] = bytemuck::cast_slice(&outputs[1]);
            let doubled: Vec<f32> = expected.iter().map(|p| p * 2.0).collect();
            assert_eq!(framed, [&[7.0], &doubled[..], &[7.0]].concat());
            answers.push(expected);
        }
    }
    let first = &answers[0];
    assert!(answers.iter().any(|answer| answer != first), "the network ignores its input");
}

/// An image for [`network`], as bytes.
fn an_image() -> AlignedBytes {
    let image: Vec<f32> = images().next().unwrap();
    AlignedBytes::from(bytemuck::cast_slice::<f32, u8>(&image))
}

#[test]
fn a_hook_sees_every_op_and_its_output() {
    #[derive(Default)]
    struct Trace {
        begun: Vec<usize>,
        ended: Vec<usize>,
        last: Vec<u8>,
    }
    impl Hook for Trace {
        fn before(&mut self, index: usize) {
            self.begun.push(index);
        }
        fn after(&mut self, index: usize, output: &[u8]) {
            self.ended.push(index);
            self.last = output.to_vec();
        }
    }
    let plan = network(Isa::Generic);
    let (mut memory, mut outputs) = room(&plan);
    let mut trace = Trace::default();
    plan.run_with(&mut memory, &[an_image()], &mut outputs, &mut trace).unwrap();
    let all: Vec<usize> = (0..plan.ops().len()).collect();
    assert_eq!((trace.begun, trace.ended), (all.clone(), all));
    assert_eq!(trace.last, *outputs[1]);
}

#[test]
fn nothing_is_written_to_an_input_nor_beyond_an_output() {
    for plan in [network(Isa::detect()), mixed(Isa::detect())] {
        let (mut memory, mut outputs) = room(&plan);
        let inputs: Vec<AlignedBytes> = plan.inputs().map(|port| AlignedBytes::zeroed(port.byte_len())).collect();
        plan.run(&mut memory, &inputs, &mut outputs).unwrap();
        assert!(inputs.iter().all(|input| input.iter().all(|&byte| byte == 0)));
        // What was in memory and in the outputs before makes no difference.
        memory.fill(0x55);
        let mut again = outputs.clone();
        again.iter_mut().for_each(|output| output.fill(0x55));
        plan.run(&mut memory, &inputs, &mut again).unwrap();
        assert!(outputs.iter().zip(&again).all(|(output, again)| **output == **again));
    }
}

#[test]
fn memory_that_does_not_fit_is_refused() {
    let plan = network(Isa::Generic);
    let needed = plan.arena_bytes();
    let (_, mut outputs) = room(&plan);
    let mut memory = AlignedBytes::zeroed(needed + 1);
    let inputs = [an_image()];
    assert_eq!(plan.run(&mut memory[1..], &inputs, &mut outputs), Err(RunError::Unaligned));
    let given = needed - 1;
    let refused = plan.run(&mut memory[..given], &inputs, &mut outputs);
    assert_eq!(refused, Err(RunError::TooSmall { needed, given }));
    assert_eq!(plan.run(&mut memory, &inputs, &mut outputs), Ok(()));
}

#[test]
fn what_is_quantized_by_its_range_equals_its_oracle_on_every_isa() {
    let (rows, in_c, out_c) = DYNAMIC;
    let weights = noise(11, in_c * out_c);
    let image: Vec<f32> = noise(12, rows * in_c).into_iter().map(|x| f32::from(x) / 100.0 + 0.5).collect();
    let (least, greatest) = image.iter().fold((0f32, 0f32), |(a, b), &x| (a.min(x), b.max(x)));
    let scale = (greatest - least) / 255.0;
    let zero_point = (-least / scale).round_ties_even();
    let quantize = |x: f32| (((x / scale).round_ties_even() + zero_point).clamp(0.0, 255.0) - zero_point) as i32;
    let quantized: Vec<i32> = image.iter().map(|&x| quantize(x)).collect();
    let expected = (0..rows * out_c).map(|at| {
        let (row, filter) = (&quantized[at / out_c * in_c..][..in_c], &weights[at % out_c * in_c..][..in_c]);
        let shift = dynamic_shift(at % out_c);
        let sum: i32 = row.iter().zip(filter).map(|(x, w)| x * (i32::from(*w) - shift)).sum();
        (sum as f32 * DYNAMIC_WEIGHTS.0 + DYNAMIC_WEIGHTS.1).max(0.0)
    });
    let expected: Vec<f32> = expected.collect();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let plan = dynamic(isa);
        let (mut memory, mut outputs) = room(&plan);
        memory.fill(0x55);
        plan.run(&mut memory, &[AlignedBytes::from(bytemuck::cast_slice::<f32, u8>(&image))], &mut outputs).unwrap();
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&outputs[0]), expected, "{isa}");
    }
}

#[test]
fn inputs_and_outputs_that_do_not_fit_are_refused() {
    let plan = network(Isa::Generic);
    let (mut memory, mut outputs) = room(&plan);
    let image = an_image();
    let (input, output) = (Role::Input, Role::Output);
    let mut run = |inputs: &[&[u8]], outputs: &mut [AlignedBytes]| plan.run(&mut memory, inputs, outputs).unwrap_err();

    let refused = run(&[], &mut outputs);
    assert_eq!(refused, RunError::Count { role: input, needed: 1, given: 0 });
    let refused = run(&[&image], &mut outputs[..1]);
    assert_eq!(refused, RunError::Count { role: output, needed: 2, given: 1 });
    let (needed, given) = (image.len(), image.len() - 1);
    let refused = run(&[&image[..given]], &mut outputs);
    assert_eq!(refused, RunError::Length { role: input, index: 0, needed, given });
    let mut shifted = AlignedBytes::zeroed(image.len() + 1);
    shifted[1..].copy_from_slice(&image);
    assert_eq!(run(&[&shifted[1..]], &mut outputs), RunError::Misaligned { role: input, index: 0 });
    outputs.swap(0, 1);
    let (needed, given) = (outputs[1].len(), outputs[0].len());
    let refused = run(&[&image], &mut outputs);
    assert_eq!(refused, RunError::Length { role: output, index: 0, needed, given });
    assert_eq!(std::format!("{refused}"), "output 0 takes 16 bytes, 24 were given");
}

#[test]
fn what_is_new_of_a_window_is_enough() {
    let (length, hop) = READINGS;
    let plan = hopping(Isa::detect());
    let stated = plan.hop().unwrap();
    assert_eq!((stated.axis, stated.window_rows, stated.rows, stated.runs()), (1, length, hop, 3));
    let (mut memory, mut outputs) = room(&plan);
    memory.fill(0xa5);
    let readings: Vec<f32> = noise(5, 40).into_iter().map(f32::from).collect();
    for (run, end) in (hop..=readings.len()).step_by(hop).enumerate() {
        let new = bytemuck::cast_slice::<f32, u8>(&readings[end - hop..end]);
        plan.run(&mut memory, &[new], &mut outputs).unwrap();
        if run + 1 >= stated.runs() {
            let window = &readings[end - length..end];
            let answers = [0, 1].map(|output| bytemuck::cast_slice::<u8, f32>(&outputs[output])[0]);
            let mean = window.iter().sum::<f32>() / length as f32;
            assert_eq!(answers, [mean, window.iter().copied().fold(f32::MIN, f32::max)], "window to {end}");
        }
    }
}
