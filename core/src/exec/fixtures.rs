//! Small networks that between them use every op.

use std::vec::Vec;

use crate::isa::Isa;
use crate::kernels::ConvKernel;
use crate::kernels::conv::Form;
use crate::plan::{
    AddS8, AlignedBytes, ArenaSpan, AveragePoolF32, AveragePoolS8, Binary, BinaryF32, ConvF32, ConvS8, ConvS32, DType,
    Dequantize, DynamicQuantize, DynamicRange, DynamicScale, DynamicZeroPoint, Fill, LessS32, LutS8, MatMulS8,
    MaxPoolF32, MaxPoolS8, MulS8, Op, Operand, Plan, PlanBuilder, Quantize, ScaleS32, Shift, SoftmaxF32, SoftmaxS8,
    StridedCopy, Unary, UnaryF32,
};
use crate::shape::{ConvShape, Requantize, Window};

pub(crate) const IN_H: usize = 6;
pub(crate) const IN_W: usize = 5;
pub(crate) const IN_C: usize = 3;
pub(crate) const CHANNELS: usize = 8;
pub(crate) const CLASSES: usize = 4;

pub(crate) const INPUT_SCALE: f32 = 0.02;
pub(crate) const INPUT_ZERO: i8 = -3;
pub(crate) const LOGIT_SCALE: f32 = 0.1;

pub(crate) const CONV_OUT: Requantize = Requantize { zero_point: -128, min: -128, max: 127 };
pub(crate) const DEPTHWISE_OUT: Requantize = Requantize { zero_point: 4, min: -128, max: 127 };
pub(crate) const ADD_OUT: Requantize = Requantize { zero_point: -20, min: -20, max: 127 };
pub(crate) const MEAN_OUT: Requantize = Requantize { zero_point: 7, min: -128, max: 127 };
pub(crate) const LOGITS_OUT: Requantize = Requantize { zero_point: 0, min: -128, max: 127 };
pub(crate) const SOFTMAX_OUT: Requantize = Requantize { zero_point: -128, min: -128, max: 127 };
pub(crate) const SOFTMAX_SCALE: f32 = 1.0 / 256.0;

pub(crate) const CONV_MULTIPLIERS: [f32; CHANNELS] = [0.01, 0.02, 0.005, 0.03, 0.011, 0.007, 0.04, 0.0125];
pub(crate) const DEPTHWISE_MULTIPLIERS: [f32; CHANNELS] = [0.004; CHANNELS];
pub(crate) const DENSE_MULTIPLIERS: [f32; CLASSES] = [0.01; CLASSES];
pub(crate) const ADD_MULTIPLIERS: (f32, f32) = (0.7, 0.9);
pub(crate) const MEAN_MULTIPLIER: f32 = 1.5;

pub(crate) fn window(size: (usize, usize), in_c: usize, out: (usize, usize), kernel: usize) -> Window {
    Window {
        in_h: size.0,
        in_w: size.1,
        in_c,
        out_h: out.0,
        out_w: out.1,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
    }
}

pub(crate) fn padded(groups: usize, in_c: usize) -> ConvShape {
    let size = (IN_H, IN_W);
    let window = Window { pad_top: 1, pad_left: 1, ..window(size, in_c, size, 3) };
    ConvShape { window, out_c: CHANNELS, groups }
}

pub(crate) const DENSE: (usize, usize) = (CHANNELS, CLASSES);

pub(crate) fn half_size() -> Window {
    let halved = (IN_H / 2, IN_W / 2);
    Window { stride_h: 2, stride_w: 2, ..window((IN_H, IN_W), CHANNELS, halved, 2) }
}

/// Reproducible bytes, a different sequence for each seed.
pub(crate) fn noise(seed: u32, len: usize) -> Vec<i8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    core::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    })
    .take(len)
    .collect()
}

pub(crate) fn biases(seed: u32, len: usize) -> Vec<i32> {
    noise(seed, len).into_iter().map(|byte| i32::from(byte) * 20).collect()
}

pub(crate) fn square_root(q: i8) -> i8 {
    (f64::from(i32::from(q) + 128).sqrt() * 15.9) as i32 as i8
}

/// Stores weights and biases, the input's zero point folded into the latter.
pub(crate) fn conv(
    builder: &mut PlanBuilder,
    shape: ConvShape,
    (input, input_zero_point): (Operand, i8),
    (output, requantize): (Operand, Requantize),
    (weights, bias): (&[i8], &[i32]),
    multipliers: &[f32],
) -> ConvS8 {
    let per_channel = weights.chunks_exact(weights.len() / shape.out_c);
    let folded: Vec<i32> = per_channel
        .zip(bias)
        .map(|(weights, bias)| {
            let sum: i32 = weights.iter().map(|&w| i32::from(w)).sum();
            bias - i32::from(input_zero_point) * sum
        })
        .collect();
    ConvS8 {
        input,
        output,
        shape,
        input_zero_point,
        requantize,
        compact: false,
        weights: builder.conv_weights(ConvKernel::of(&shape, Form::Fast), &shape, weights),
        bias: builder.data(&folded),
        multipliers: builder.data(multipliers),
        scratch: ArenaSpan::default(),
    }
}

/// Memory for a run of `plan`, and outputs to write to.
pub(crate) fn room(plan: &Plan<impl AsRef<[u8]>>) -> (AlignedBytes, Vec<AlignedBytes>) {
    let outputs = plan.outputs().map(|port| AlignedBytes::zeroed(port.byte_len())).collect();
    (AlignedBytes::zeroed(plan.arena_bytes()), outputs)
}

/// f32 NCHW in, conv, depthwise, residual add, max pool, look-up, mean, fully connected, softmax,
/// f32 probabilities out; and beside them the probabilities doubled and padded with sevens.
pub(crate) fn network(isa: Isa) -> Plan<AlignedBytes> {
    let mut end = 0;
    let mut tensor = |len: usize| {
        let at = Operand::arena(end, len);
        end += len.next_multiple_of(64);
        at
    };
    let builder = &mut PlanBuilder::new(isa);
    let pixels = IN_H * IN_W;
    let image = Operand::input(0, 4 * IN_C * pixels);
    let quantized = tensor(IN_C * pixels);
    let features = tensor(CHANNELS * pixels);
    let filtered = tensor(CHANNELS * pixels);
    let pool = half_size();
    let pooled = tensor(CHANNELS * pool.out_h * pool.out_w);
    let mean = tensor(CHANNELS);
    let logits = tensor(CLASSES);
    let probabilities = tensor(CLASSES);
    let answer = Operand::output(0, 4 * CLASSES);
    let doubled = tensor(4 * CLASSES);
    // Behind every tensor.
    let scratch = tensor(0).offset;
    let frame = Operand::output(1, 4 * (CLASSES + 2));

    builder.input("image", DType::F32, &[1, IN_C, IN_H, IN_W]).unwrap();
    builder.op(
        "quantize",
        Quantize {
            input: image,
            output: quantized,
            channels: IN_C,
            pixels,
            scale: INPUT_SCALE,
            zero_point: INPUT_ZERO,
        },
    );
    let shape = padded(1, IN_C);
    let (weights, bias) = (noise(1, CHANNELS * 9 * IN_C), biases(2, CHANNELS));
    let parameters = (weights.as_slice(), bias.as_slice());
    let from = (quantized, INPUT_ZERO);
    let op = conv(builder, shape, from, (features, CONV_OUT), parameters, &CONV_MULTIPLIERS);
    builder.op("conv", Op::from(op).with_scratch_at(isa, scratch));
    let shape = padded(CHANNELS, CHANNELS);
    let (weights, bias) = (noise(3, CHANNELS * 9), biases(4, CHANNELS));
    let parameters = (weights.as_slice(), bias.as_slice());
    let from = (features, CONV_OUT.zero_point);
    let to = (filtered, DEPTHWISE_OUT);
    let op = conv(builder, shape, from, to, parameters, &DEPTHWISE_MULTIPLIERS);
    builder.op("depthwise", Op::from(op).with_scratch_at(isa, scratch));
    builder.op(
        "add",
        AddS8 {
            a: filtered,
            b: features,
            output: filtered,
            a_multiplier: ADD_MULTIPLIERS.0,
            b_multiplier: ADD_MULTIPLIERS.1,
            a_zero_point: DEPTHWISE_OUT.zero_point,
            b_zero_point: CONV_OUT.zero_point,
            requantize: ADD_OUT,
        },
    );
    builder.op("pool", MaxPoolS8 { input: filtered, output: pooled, window: pool });
    let table: [i8; 256] = core::array::from_fn(|index| square_root((index as i32 - 128) as i8));
    let table = builder.data(&table);
    builder.op("sqrt", LutS8 { input: pooled, output: pooled, table });
    builder.op(
        "mean",
        AveragePoolS8 {
            input: pooled,
            output: mean,
            window: Window { kernel_w: pool.out_w, ..window((pool.out_h, pool.out_w), CHANNELS, (1, 1), pool.out_h) },
            count_include_pad: false,
            multiplier: MEAN_MULTIPLIER,
            input_zero_point: 0,
            requantize: MEAN_OUT,
        },
    );
    let shape = ConvShape { window: window((1, 1), DENSE.0, (1, 1), 1), out_c: DENSE.1, groups: 1 };
    let (weights, bias) = (noise(5, CLASSES * CHANNELS), biases(6, CLASSES));
    let parameters = (weights.as_slice(), bias.as_slice());
    let from = (mean, MEAN_OUT.zero_point);
    let op = conv(builder, shape, from, (logits, LOGITS_OUT), parameters, &DENSE_MULTIPLIERS);
    builder.op("dense", Op::from(op).with_scratch_at(isa, scratch));
    let exp_table = builder.exp_table(LOGIT_SCALE);
    builder.op(
        "softmax",
        SoftmaxS8 {
            input: logits,
            output: probabilities,
            rows: 1,
            cols: CLASSES,
            exp_table,
            output_scale: SOFTMAX_SCALE,
            requantize: SOFTMAX_OUT,
        },
    );
    builder.op(
        "dequantize",
        Dequantize {
            input: probabilities,
            output: answer,
            channels: 1,
            pixels: CLASSES,
            scale: SOFTMAX_SCALE,
            zero_point: SOFTMAX_OUT.zero_point,
        },
    );
    let two = builder.data(&[2f32]);
    builder.op(
        "double",
        BinaryF32 {
            a: answer,
            b: two.into(),
            output: doubled,
            function: Binary::Mul,
            inner: 1,
            min: f32::NEG_INFINITY,
            max: f32::INFINITY,
        },
    );
    builder.op("frame", Fill { output: frame, element_bytes: 4, bits: 7f32.to_bits().into() });
    builder.op(
        "inside",
        StridedCopy {
            input: doubled,
            output: frame,
            element_bytes: 4,
            dims: [1, 1, 1, 1, 1, CLASSES],
            input_start: 0,
            input_strides: [0, 0, 0, 0, 0, 1],
            output_start: 1,
            output_strides: [0, 0, 0, 0, 0, 1],
        },
    );
    builder.output("probabilities", DType::F32, &[1, CLASSES]).unwrap();
    builder.output("framed", DType::F32, &[CLASSES + 2]).unwrap();
    builder.clone().finish().unwrap()
}

/// The ops that [`network`] does not use: grouped and f32 convolution, f32 pools and softmax, the
/// quantized product.
pub(crate) fn mixed(isa: Isa) -> Plan<AlignedBytes> {
    let image = Operand::input(0, 4 * 4 * 4 * 4);
    let convolved = Operand::arena(0, 256);
    let small = Operand::arena(256, 64);
    let mean = Operand::output(0, 16);
    let bytes = Operand::output(1, 4);
    let grouped = Operand::arena(320, 4);
    let builder = &mut PlanBuilder::new(isa);
    builder.input("image", DType::F32, &[4, 4, 4]).unwrap();
    let window_3x3 = Window { pad_top: 1, pad_left: 1, ..window((4, 4), 4, (4, 4), 3) };
    let weights: Vec<f32> = noise(7, 9 * 4 * 4).into_iter().map(|w| f32::from(w) / 512.0).collect();
    let (weights, bias) = (builder.data(&weights), builder.data(&[0.5f32, -0.25, 0.0, 1.0]));
    let op = ConvF32 {
        input: image,
        output: convolved,
        shape: ConvShape { window: window_3x3, out_c: 4, groups: 1 },
        weights,
        bias,
        min: 0.0,
        max: f32::INFINITY,
    };
    builder.op("conv", op);
    let halved = Window { stride_h: 2, stride_w: 2, ..window((4, 4), 4, (2, 2), 2) };
    builder.op("max", MaxPoolF32 { input: convolved, output: small, window: halved });
    let whole = window((2, 2), 4, (1, 1), 2);
    let count_include_pad = true;
    builder.op("mean", AveragePoolF32 { input: small, output: mean, window: whole, count_include_pad });
    let function = Unary::Affine;
    builder.op("scale", UnaryF32 { input: mean, output: mean, function, alpha: 2.0, beta: -1.0 });
    builder.op("softmax", SoftmaxF32 { input: mean, output: mean, rows: 2, cols: 2 });
    builder.op(
        "quantize",
        Quantize { input: mean, output: bytes, channels: 1, pixels: 4, scale: 1.0 / 128.0, zero_point: 0 },
    );
    builder.op(
        "square",
        MulS8 {
            a: bytes,
            b: bytes,
            output: grouped,
            multiplier: 1.0 / 128.0,
            a_zero_point: 0,
            b_zero_point: 0,
            requantize: LOGITS_OUT,
        },
    );
    // Times 1.
    let product = Operand::arena(256, 4);
    let op = MatMulS8 {
        a: grouped,
        b: builder.data(&[6i8, 5, 5, 6]).into(),
        output: product,
        count: 1,
        a_count: 1,
        b_count: 1,
        rows: 2,
        inner: 2,
        cols: 2,
        turned: true,
        a_zero_point: 0,
        b_zero_point: 5,
        multiplier: 1.0,
        requantize: LOGITS_OUT,
        scratch: ArenaSpan::default(),
    };
    builder.op("product", Op::from(op).with_scratch_at(isa, 384));
    let shape = ConvShape { window: window((1, 1), 4, (1, 1), 1), out_c: 4, groups: 2 };
    // Swaps the channels of each group.
    let parameters = (&[0i8, 1, 1, 0, 0, 1, 1, 0][..], &[0i32; 4][..]);
    let op = conv(builder, shape, (product, 0), (bytes, LOGITS_OUT), parameters, &[1.0; 4]);
    builder.op("swap", Op::from(op).with_scratch_at(isa, 384));
    builder.output("probabilities", DType::F32, &[2, 2]).unwrap();
    builder.output("squares", DType::I8, &[4]).unwrap();
    builder.clone().finish().unwrap()
}

/// Rows, and values and sums of each, of [`dynamic`].
pub(crate) const DYNAMIC: (usize, usize, usize) = (24, 19, 33);
/// The scale of its weights, and its bias.
pub(crate) const DYNAMIC_WEIGHTS: (f32, f32) = (0.25, -3.5);

/// What each of its weights is less by, channel by channel.
pub(crate) fn dynamic_shift(channel: usize) -> i32 {
    channel as i32 % 7 - 90
}

/// Floats in, quantized by their range, times a matrix whose weights do not fit int8, floats out: not below 0.
pub(crate) fn dynamic(isa: Isa) -> Plan<AlignedBytes> {
    let (rows, in_c, out_c) = DYNAMIC;
    let builder = &mut PlanBuilder::new(isa);
    let (image, answer) = (Operand::input(0, 4 * rows * in_c), Operand::output(0, 4 * rows * out_c));
    let (range, scale, zero_point) = (Operand::arena(0, 8), Operand::arena(64, 4), Operand::arena(128, 1));
    let (quantized, sums) = (Operand::arena(192, rows * in_c), Operand::arena(768, 4 * rows * out_c));
    builder.input("image", DType::F32, &[rows, in_c]).unwrap().output("answer", DType::F32, &[rows, out_c]).unwrap();
    builder.op("range", DynamicRange { input: image, output: range });
    builder.op("scale", DynamicScale { range, output: scale });
    builder.op("zero point", DynamicZeroPoint { range, scale, output: zero_point });
    let quantize =
        DynamicQuantize { input: image, scale, zero_point, output: quantized, channels: 1, pixels: rows * in_c };
    builder.op("quantize", quantize);
    let shape = ConvShape { window: Window::pixels(rows, in_c), out_c, groups: 1 };
    let weights = noise(11, in_c * out_c);
    let weight_sums: Vec<i32> = weights.chunks(in_c).map(|row| row.iter().map(|&w| i32::from(w)).sum()).collect();
    let op = ConvS32 {
        input: quantized,
        zero_point,
        output: sums,
        shape,
        weights: builder.conv_weights(ConvKernel::of(&shape, Form::Compact), &shape, &weights),
        weight_sums: builder.data(&weight_sums),
        scratch: ArenaSpan::default(),
    };
    builder.op("sums", Op::from(op).with_scratch_at(isa, 768 + sums.len.next_multiple_of(64)));
    let one = ConvShape { out_c: 1, ..shape };
    let of_windows = Operand::arena(4224, 4 * rows);
    let op = ConvS32 {
        output: of_windows,
        shape: one,
        weights: builder.conv_weights(ConvKernel::of(&one, Form::Compact), &one, &std::vec![1; in_c]),
        weight_sums: builder.data(&[in_c as i32]),
        ..op
    };
    builder.op("sums of windows", Op::from(op).with_scratch_at(isa, 4480));
    let shifts: Vec<i32> = (0..out_c).map(dynamic_shift).collect();
    let shifts = builder.data(&shifts).into();
    let less = LessS32 { input: sums, window_sums: of_windows, shifts, output: sums, channels: out_c, groups: 1 };
    builder.op("less", less);
    let (factors, bias) = (std::vec![DYNAMIC_WEIGHTS.0; out_c], std::vec![DYNAMIC_WEIGHTS.1; out_c]);
    let (scale, bias) = (builder.data(&factors).into(), builder.data(&bias).into());
    let (min, max) = (0.0, f32::INFINITY);
    builder.op("floats", ScaleS32 { input: sums, scale, bias, output: answer, channels: out_c, min, max });
    builder.clone().finish().unwrap()
}

/// Readings of a window of [`hopping`], and of a hop.
pub(crate) const READINGS: (usize, usize) = (5, 2);

/// Mean and maximum of a window of f32 readings, of which each run is given those of a hop.
pub(crate) fn hopping(isa: Isa) -> Plan<AlignedBytes> {
    let (length, hop) = READINGS;
    let readings = Operand::arena(0, 4 * length);
    let builder = &mut PlanBuilder::new(isa);
    builder.hop(1, length, 64).input("readings", DType::F32, &[1, hop]).unwrap();
    builder.op("pass", Shift { output: readings, element_bytes: 4, by: hop });
    let new = StridedCopy {
        input: Operand::input(0, 4 * hop),
        output: readings,
        element_bytes: 4,
        dims: [1, 1, 1, 1, 1, hop],
        input_start: 0,
        input_strides: [0, 0, 0, 0, 0, 1],
        output_start: length - hop,
        output_strides: [0, 0, 0, 0, 0, 1],
    };
    builder.op("new", new);
    let window = Window { kernel_w: length, ..window((1, length), 1, (1, 1), 1) };
    let mean = Operand::output(0, 4);
    builder.op("mean", AveragePoolF32 { input: readings, output: mean, window, count_include_pad: false });
    builder.op("max", MaxPoolF32 { input: readings, output: Operand::output(1, 4), window });
    builder.output("mean", DType::F32, &[1]).unwrap();
    builder.output("max", DType::F32, &[1]).unwrap();
    builder.clone().finish().unwrap()
}
