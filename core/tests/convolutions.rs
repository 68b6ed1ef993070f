//! Every convolution on every instruction set of this CPU: the plain one against an oracle in
//! i64 and f64, all others against the plain one, bit for bit.

use proptest::prelude::*;
use tractlet_core::isa::Isa;
use tractlet_core::kernels::ConvKernel;
use tractlet_core::kernels::conv::{ConvArgs, Form, Results};
use tractlet_core::shape::{ConvShape, Requantize, Window};

/// One convolution with all that it reads.
#[derive(Clone, Debug)]
struct Case {
    shape: ConvShape,
    input: Vec<i8>,
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    input_zp: i8,
    out: Requantize,
}

const DENSE: &[ConvKernel] = &[ConvKernel::Dense(Form::Fast), ConvKernel::Dense(Form::Compact)];
const DEPTHWISE: &[ConvKernel] = &[ConvKernel::Depthwise];
const GROUPED: &[ConvKernel] = &[ConvKernel::Dense(Form::Compact)];

/// Results behind the last, which stay as they are.
const GUARD: usize = 64;

/// Runs from exactly as many bytes as it asks for, full of what an earlier layer left. Results are requantized; and the
/// sums as they are, of kernels that give those.
fn run(kernel: ConvKernel, isa: Isa, case: &Case) -> (Vec<i8>, Option<Vec<i32>>) {
    let mut weights = vec![0xA5; kernel.max_packed_len(isa, &case.shape)];
    let len = kernel.pack(isa, &case.shape, &case.weights, &mut weights);
    weights.truncate(len);
    assert!(kernel.holds(isa, &case.shape, &weights));
    // It needs no more room than it takes.
    let mut exactly = vec![0x5A; kernel.packed_len(isa, &case.shape, &case.weights)];
    kernel.pack(isa, &case.shape, &case.weights, &mut exactly);
    assert_eq!(exactly, weights, "{:?}", case.shape);
    let mut scratch = vec![0xA5; kernel.scratch_len(isa, &case.shape)];
    let w = &case.shape.window;
    let len = w.out_h * w.out_w * case.shape.out_c;
    let mut output = vec![77; len + GUARD];
    let args = ConvArgs {
        input: &case.input,
        weights: &weights,
        bias: &case.bias,
        multiplier: &case.multiplier,
        input_zp: case.input_zp,
        out: case.out,
    };
    assert!(kernel.run(isa, &case.shape, &args, Results::Bytes(&mut output[..len]), &mut scratch), "{:?}", case.shape);
    scratch.fill(0xA5);
    let (mut sums, args) = (vec![77; len + GUARD], ConvArgs { multiplier: &[], ..args });
    let sums_given = kernel.run(isa, &case.shape, &args, Results::Sums(&mut sums[..len]), &mut scratch);
    assert_eq!(sums_given, kernel != ConvKernel::Dense(Form::Fast));
    assert!(!kernel.run(isa, &case.shape, &args, Results::Bytes(&mut output[..len]), &mut scratch), "no multipliers");
    assert_eq!((output.split_off(len), sums.split_off(len)), (vec![77; GUARD], vec![77; GUARD]), "{:?}", case.shape);
    (output, sums_given.then_some(sums))
}

/// The definition, in integers and floats wide enough to be exact up to the multiplier's product.
fn oracle(case: &Case) -> (Vec<i8>, Vec<i32>) {
    let (shape, w) = (&case.shape, &case.shape.window);
    let (group_in, group_out) = (w.in_c / shape.groups, shape.out_c / shape.groups);
    let (mut output, mut sums) = (Vec::new(), Vec::new());
    for (oy, ox, oc) in grid(w.out_h, w.out_w, shape.out_c) {
        let mut sum = i64::from(case.bias[oc]);
        for (ky, kx, c) in grid(w.kernel_h, w.kernel_w, group_in) {
            let y = (oy * w.stride_h + ky * w.dilation_h) as i64 - w.pad_top as i64;
            let x = (ox * w.stride_w + kx * w.dilation_w) as i64 - w.pad_left as i64;
            let inside = (0..w.in_h as i64).contains(&y) && (0..w.in_w as i64).contains(&x);
            let at = (y * w.in_w as i64 + x) * w.in_c as i64 + (oc / group_out * group_in + c) as i64;
            let value = if inside { case.input[at as usize] } else { case.input_zp };
            let weight = case.weights[((oc * w.kernel_h + ky) * w.kernel_w + kx) * group_in + c];
            sum += i64::from(value) * i64::from(weight);
        }
        let sum = i32::try_from(sum).expect("sums of test cases fit");
        sums.push(sum);
        let scaled = f64::from(sum as f32 * case.multiplier[oc]).round_ties_even();
        let value = scaled + f64::from(case.out.zero_point);
        output.push(value.clamp(case.out.min.into(), case.out.max.into()) as i8);
    }
    (output, sums)
}

fn grid(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

fn check(kernels: &[ConvKernel], case: &Case) -> Result<(), TestCaseError> {
    let (expected, expected_sums) = oracle(case);
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    for (isa, kernel) in isas.flat_map(|isa| kernels.iter().map(move |kernel| (isa, *kernel))) {
        let (got, sums) = run(kernel, isa, case);
        if let Some(at) = (0..got.len()).find(|&i| got[i] != expected[i]) {
            let (pixel, channel) = (at / case.shape.out_c, at % case.shape.out_c);
            prop_assert!(
                false,
                "{isa}, {kernel:?}: {} for {} at pixel {pixel} channel {channel} of {:?}",
                got[at],
                expected[at],
                case.shape
            );
        }
        let differ = sums.is_some_and(|sums| sums != expected_sums);
        prop_assert!(!differ, "{isa}, {kernel:?}: sums of {:?}", case.shape);
    }
    Ok(())
}

/// One axis: kernel, stride, dilation, padding before, output size, input size. The input may end
/// before the last window does (padding after) or after it.
fn axis(max_kernel: usize, max_out: usize) -> impl Strategy<Value = [usize; 6]> {
    (1..=max_kernel, 1..=3_usize, 1..=3_usize, 0..=3_usize, 1..=max_out, 0..=6_usize).prop_map(
        |(kernel, stride, dilation, pad, out, cut)| {
            let span = (out - 1) * stride + (kernel - 1) * dilation + 1;
            [kernel, stride, dilation, pad, out, (span + 2).saturating_sub(pad + cut).max(1)]
        },
    )
}

fn window() -> impl Strategy<Value = Window> {
    let plain = prop_oneof![Just(true), Just(false)];
    (axis(5, 9), axis(5, 40), plain).prop_map(|(h, w, plain)| {
        let [kernel_h, stride_h, dilation_h, pad_top, out_h, in_h] = h;
        let [kernel_w, stride_w, dilation_w, pad_left, out_w, in_w] = w;
        let window = Window {
            in_h,
            in_w,
            in_c: 1,
            out_h,
            out_w,
            kernel_h,
            kernel_w,
            stride_h,
            stride_w,
            dilation_h,
            dilation_w,
            pad_top,
            pad_left,
        };
        if plain { Window { dilation_h: 1, dilation_w: 1, ..window } } else { window }
    })
}

/// The plainest windows take paths of their own.
fn any_window() -> impl Strategy<Value = Window> {
    let dot = Window::pixels(1, 1);
    let image = (1..=20_usize, 1..=20_usize);
    let pointwise = image.clone().prop_map(move |(h, w)| Window { in_h: h, in_w: w, out_h: h, out_w: w, ..dot });
    let same = image.prop_map(move |(h, w)| Window {
        in_h: h,
        in_w: w,
        out_h: h,
        out_w: w,
        kernel_h: 3,
        kernel_w: 3,
        pad_top: 1,
        pad_left: 1,
        ..dot
    });
    let line = (1..=12_usize, 1..=40_usize, 0..=4_usize).prop_map(move |(kernel, out, pad)| Window {
        in_w: (out + kernel - 1).saturating_sub(pad).max(1),
        out_w: out,
        kernel_w: kernel,
        pad_left: pad,
        ..dot
    });
    let three = (1..=20_usize, 1..=20_usize, 0..=2_usize, 0..=2_usize).prop_map(move |(h, w, top, left)| Window {
        in_h: (h + 1).saturating_sub(top).max(1),
        in_w: (w + 1).saturating_sub(left).max(1),
        out_h: h,
        out_w: w,
        kernel_h: 3,
        kernel_w: 3,
        pad_top: top,
        pad_left: left,
        ..dot
    });
    let five = (1..=70_usize, 0..=4_usize, any::<bool>()).prop_map(move |(out, pad, upright)| {
        let input = (out + 4).saturating_sub(pad).max(1);
        if upright {
            Window { in_h: input, out_h: out, kernel_h: 5, pad_top: pad, ..dot }
        } else {
            Window { in_w: input, out_w: out, kernel_w: 5, pad_left: pad, ..dot }
        }
    });
    prop_oneof![4 => window(), 1 => Just(dot), 2 => pointwise, 2 => same, 2 => three, 2 => line, 2 => five]
}

/// All values follow from a seed, so that shrinking goes for the shape.
fn case(shapes: impl Strategy<Value = ConvShape>) -> impl Strategy<Value = Case> {
    (shapes, any::<u64>(), any::<bool>()).prop_map(|(shape, seed, extreme)| Case::new(shape, seed, extreme))
}

impl Case {
    /// Random values; if `extreme`, none but the ends of their range.
    fn new(shape: ConvShape, seed: u64, extreme: bool) -> Case {
        const MULTIPLIERS: [f32; 6] = [0.0, 1e-30, 0.5, 1.0, 1e5, 1e30];
        let mut random = Random(seed);
        let mut int8 = move || if extreme { [-128, -127, 127][random.below(3)] } else { random.below(256) as u8 as i8 };
        let w = &shape.window;
        let input = (0..w.in_h * w.in_w * w.in_c).map(|_| int8()).collect();
        let filters = shape.out_c * w.kernel_h * w.kernel_w * w.in_c / shape.groups;
        let weights = (0..filters).map(|_| int8()).collect();
        let (input_zp, zero_point, a, b) = (int8(), int8(), int8(), int8());
        let (min, max) = if extreme { (-128, 127) } else { (a.min(b), a.max(b)) };
        let mut random = Random(!seed);
        let reach = if extreme { 1 << 30 } else { 2_000_000 };
        let bias = (0..shape.out_c).map(|_| random.below(2 * reach) as i32 - reach as i32).collect();
        let multiplier = (0..shape.out_c).map(|_| match random.below(4) {
            0 => MULTIPLIERS[random.below(6)],
            _ => 1e-5 * (1 + random.below(1000)) as f32,
        });
        let multiplier = multiplier.collect();
        Case { shape, input, weights, bias, multiplier, input_zp, out: Requantize { zero_point, min, max } }
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end) as usize
    }
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..=70_usize, 1 => Just(8_usize), 1 => Just(16), 1 => Just(32), 1 => Just(64), 1 => 120..=136_usize]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn dense(case in case((any_window(), channels(), channels()).prop_map(|(w, in_c, out_c)| ConvShape {
        window: Window { in_c, ..w }, out_c, groups: 1,
    }))) {
        check(DENSE, &case)?;
    }

    #[test]
    fn depthwise_one_output_a_channel(case in case((any_window(), channels()).prop_map(|(w, in_c)| ConvShape {
        window: Window { in_c, ..w }, out_c: in_c, groups: in_c,
    }))) {
        check(DEPTHWISE, &case)?;
    }

    #[test]
    fn depthwise_with_multiplier(case in case((window(), 1..=9_usize, 2..=4_usize).prop_map(|(w, in_c, times)| ConvShape {
        window: Window { in_c, ..w }, out_c: in_c * times, groups: in_c,
    }))) {
        check(GROUPED, &case)?;
    }

    #[test]
    fn groups(case in case((any_window(), 1..=9_usize, 1..=9_usize, 1..=20_usize).prop_map(|(w, groups, a, b)| ConvShape {
        window: Window { in_c: groups * a, ..w }, out_c: groups * b, groups,
    }))) {
        check(GROUPED, &case)?;
    }
}

fn cases() -> u32 {
    if cfg!(debug_assertions) { 50 } else { 1500 }
}

/// Every place of an input that is padded alike on opposite sides.
fn unit_steps(
    (in_h, in_w, in_c): (usize, usize, usize),
    (kernel_h, kernel_w): (usize, usize),
    (pad_top, pad_left): (usize, usize),
) -> Window {
    let (out_h, out_w) = (in_h + 2 * pad_top + 1 - kernel_h, in_w + 2 * pad_left + 1 - kernel_w);
    let (stride_h, stride_w, dilation_h, dilation_w) = (1, 1, 1, 1);
    Window {
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad_top,
        pad_left,
    }
}

/// Sums of five products along a line, as far up as they go: random extremes cancel.
#[test]
fn lines_of_largest_sums() {
    for in_c in [843, 844, 1023, 1024] {
        for (kernel_h, kernel_w) in [(1, 5), (5, 1)] {
            let (in_h, in_w) = if kernel_h == 1 { (1, 6) } else { (6, 1) };
            let window = unit_steps((in_h, in_w, in_c), (kernel_h, kernel_w), (0, 0));
            let along = |values: &[i8]| values.iter().flat_map(|value| vec![*value; in_c]).collect::<Vec<i8>>();
            for sign in [1, -1] {
                let weights = along(&[127, -128, -128, -128, -128].map(|w: i8| if sign > 0 { w } else { !w }));
                let case = Case {
                    shape: ConvShape { window, out_c: 8, groups: 1 },
                    input: along(&[0, 127, -128, -128, -128, 127]),
                    weights: weights.repeat(8),
                    bias: vec![0; 8],
                    multiplier: vec![1e-6; 8],
                    input_zp: 0,
                    out: Requantize { zero_point: 0, min: -128, max: 127 },
                };
                check(DENSE, &case).unwrap();
            }
        }
    }
}

/// Long rows are cut into regions, and long sums reach far.
#[test]
fn large_layers() {
    let dot = |in_c, out_c| (1, 1, 1, in_c, out_c);
    for (h, w, k, in_c, out_c) in [
        (3, 700, 3, 17, 9),
        (4, 5, 3, 2048, 24),
        (1, 1, 1, 3000, 33),
        (40, 41, 1, 64, 130),
        (9, 300, 5, 64, 20),
        dot(640, 128),
    ] {
        let window = unit_steps((h, w, in_c), (k, k), (k / 2, k / 2));
        let shape = ConvShape { window, out_c, groups: 1 };
        for extreme in [false, true] {
            check(DENSE, &Case::new(shape, 1, extreme)).unwrap();
        }
    }
}

/// As ONNX has it of MatMulInteger: on every instruction set, whatever the order of the sum.
#[test]
fn sums_beyond_32_bits_wrap() {
    let (pixels, in_c, out_c) = (16, 140_000, 3);
    let shape = ConvShape { window: Window::pixels(pixels, in_c), out_c, groups: 1 };
    let (input, weights) = (vec![-128; pixels * in_c], vec![-128; out_c * in_c]);
    let kernel = ConvKernel::Dense(Form::Compact);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut packed = vec![0; kernel.max_packed_len(isa, &shape)];
        kernel.pack(isa, &shape, &weights, &mut packed);
        let mut scratch = vec![0; kernel.scratch_len(isa, &shape)];
        let out = Requantize { zero_point: 0, min: -128, max: 127 };
        let args = ConvArgs { input: &input, weights: &packed, bias: &[1, 2, 3], multiplier: &[], input_zp: 0, out };
        let mut sums = vec![0; pixels * out_c];
        assert!(kernel.run(isa, &shape, &args, Results::Sums(&mut sums), &mut scratch));
        let expected = [1, 2, 3].map(|bias| (128 * 128 * in_c as i64 + bias) as i32);
        assert_eq!(sums, expected.repeat(pixels), "{isa}");
    }
}
