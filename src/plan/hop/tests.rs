//! Networks of all kinds, hop by hop and over whole windows: the same answers, in every bit, on every instruction set.

use proptest::prelude::*;
use tractlet_core::isa::Isa;
use tractlet_core::plan::{
    AddS8, AlignedBytes, ArenaSpan, AveragePoolF32, AveragePoolS8, Binary, BinaryF32, ConvF32, ConvS8, DataSpan,
    Dequantize, Fill, LutS8, MaxPoolF32, MaxPoolS8, Op, Operand, Plan, PlanBuilder, Quantize, StridedCopy, Unary,
    UnaryF32,
};
use tractlet_core::shape::{ConvShape, Requantize, Window};

use super::by_hops;
use crate::lower::{Port, Program, Step, TensorId};
use crate::model::DType;
use crate::plan::{packed, plan};

const ANY: Requantize = Requantize { zero_point: 3, min: -128, max: 127 };

/// What a layer does along time. Across it, images keep their width.
#[derive(Clone, Debug)]
enum Layer {
    Conv {
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad: (usize, usize),
        channels: usize,
        depthwise: bool,
    },
    Pool {
        kernel: usize,
        stride: usize,
        pad: (usize, usize),
        max: bool,
    },
    Unary,
    /// A convolution of the same length, added to what it was computed of.
    Residual {
        kernel: usize,
    },
    /// Joined with itself, channel by channel.
    Concat,
    /// Rows of one value.
    Pad {
        before: usize,
        after: usize,
    },
}

fn layer() -> impl Strategy<Value = Layer> {
    let pad = || (0usize..4, 0usize..4);
    prop_oneof![
        4 => (1usize..6, 1usize..3, 1usize..3, pad(), 1usize..9, any::<bool>()).prop_map(
            |(kernel, stride, dilation, pad, channels, depthwise)| Layer::Conv {
                kernel, stride, dilation, pad, channels, depthwise
            }
        ),
        2 => (1usize..4, 1usize..3, pad(), any::<bool>())
            .prop_map(|(kernel, stride, pad, max)| Layer::Pool { kernel, stride, pad, max }),
        1 => Just(Layer::Unary),
        1 => (1usize..4).prop_map(|half| Layer::Residual { kernel: 2 * half - 1 }),
        1 => Just(Layer::Concat),
        1 => (0usize..3, 0usize..3).prop_map(|(before, after)| Layer::Pad { before, after }),
    ]
}

/// A tensor while a network grows: `[time, width, channels]`.
#[derive(Clone, Copy)]
struct Act {
    tensor: TensorId,
    time: usize,
    channels: usize,
}

struct Net {
    program: Program,
    builder: PlanBuilder,
    float: bool,
    /// Of an image that is as high as time; 0 for one that is as wide as it.
    width: usize,
    seed: u32,
}

impl Net {
    fn noise(&mut self) -> i8 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.seed >> 24) as i8
    }

    fn pixels(&self) -> usize {
        self.width.max(1)
    }

    fn element(&self) -> usize {
        if self.float { 4 } else { 1 }
    }

    fn act(&mut self, time: usize, channels: usize) -> Act {
        let elements = time * self.pixels() * channels;
        self.program.tensors.push(elements * self.element());
        Act { tensor: self.program.tensors.len() - 1, time, channels }
    }

    fn span(&self, act: Act) -> Operand {
        Operand::arena(act.tensor, self.program.tensors[act.tensor])
    }

    fn push(&mut self, op: impl Into<Op>) {
        let name = format!("step {}", self.program.steps.len());
        self.program.steps.push(Step { name, op: op.into() });
    }

    /// Along time as given, across it of one pixel.
    fn window(&self, x: Act, y: usize, (kernel, stride, dilation, pad): (usize, usize, usize, usize)) -> Window {
        let one = Window::pixels(1, x.channels);
        if self.width == 0 {
            let (in_w, out_w, kernel_w) = (x.time, y, kernel);
            return Window { in_w, out_w, kernel_w, stride_w: stride, dilation_w: dilation, pad_left: pad, ..one };
        }
        let (in_h, out_h, kernel_h) = (x.time, y, kernel);
        let (in_w, out_w) = (self.width, self.width);
        Window { in_h, out_h, kernel_h, stride_h: stride, dilation_h: dilation, pad_top: pad, in_w, out_w, ..one }
    }

    fn conv(&mut self, x: Act, window: Window, channels: usize, groups: usize) -> Act {
        let y = self.act(window.out_h.max(window.out_w * usize::from(self.width == 0)), channels);
        let (input, output) = (self.span(x), self.span(y));
        let shape = ConvShape { window, out_c: channels, groups };
        let taps = window.kernel_h * window.kernel_w * window.in_c / groups;
        let weights: Vec<i8> = (0..taps * channels).map(|_| self.noise()).collect();
        let bias: Vec<i32> = (0..channels).map(|_| i32::from(self.noise()) * 50).collect();
        let scale = 1.0 / (60.0 * (taps as f32).sqrt());
        let scratch = ArenaSpan::default();
        if self.float {
            let weights: Vec<f32> = weights.into_iter().map(|w| f32::from(w) * scale).collect();
            let bias: Vec<f32> = bias.into_iter().map(|b| b as f32 / 5000.0).collect();
            let (weights, bias) = (self.builder.data(&weights), self.builder.data(&bias));
            self.push(ConvF32 { input, output, shape, weights, bias, min: -3.0, max: 4.0 });
        } else {
            self.program.weights.push(weights);
            let weights = DataSpan { offset: self.program.weights.len() - 1, len: 0 };
            let (bias, multipliers) = (self.builder.data(&bias), self.builder.data(&vec![scale; channels]));
            let (input_zero_point, requantize) = (-7, ANY);
            self.push(ConvS8 {
                compact: false,
                input,
                output,
                shape,
                input_zero_point,
                requantize,
                weights,
                bias,
                multipliers,
                scratch,
            });
        }
        y
    }

    fn pool(&mut self, x: Act, window: Window, max: bool) -> Act {
        let y = self.act(window.out_h.max(window.out_w * usize::from(self.width == 0)), x.channels);
        let (input, output, count_include_pad) = (self.span(x), self.span(y), false);
        match (self.float, max) {
            (true, true) => self.push(MaxPoolF32 { input, output, window }),
            (true, false) => self.push(AveragePoolF32 { input, output, window, count_include_pad }),
            (false, true) => self.push(MaxPoolS8 { input, output, window }),
            (false, false) => self.push(AveragePoolS8 {
                input,
                output,
                window,
                count_include_pad,
                multiplier: 1.3,
                input_zero_point: -7,
                requantize: ANY,
            }),
        }
        y
    }

    /// The layer's output, or what came in where a window would not fit.
    fn layer(&mut self, x: Act, layer: &Layer) -> Act {
        let out = |kernel: usize, stride: usize, dilation: usize, (before, after): (usize, usize)| {
            let reach = (kernel - 1) * dilation + 1;
            let (before, after) = (before.min(reach - 1), after.min(reach - 1));
            let room = (x.time + before + after).checked_sub(reach)?;
            Some((room / stride + 1, before))
        };
        match *layer {
            Layer::Conv { kernel, stride, dilation, pad, channels, depthwise } => {
                let Some((time, pad)) = out(kernel, stride, dilation, pad) else { return x };
                let window = self.window(x, time, (kernel, stride, dilation, pad));
                let (channels, groups) = if depthwise { (x.channels, x.channels) } else { (channels, 1) };
                self.conv(x, window, channels, groups)
            }
            Layer::Pool { kernel, stride, pad, max } => {
                let Some((time, pad)) = out(kernel, stride, 1, pad) else { return x };
                let window = self.window(x, time, (kernel, stride, 1, pad));
                self.pool(x, window, max)
            }
            Layer::Unary => {
                let y = self.act(x.time, x.channels);
                let (input, output) = (self.span(x), self.span(y));
                if self.float {
                    self.push(UnaryF32 { input, output, function: Unary::Tanh, alpha: 0.0, beta: 0.0 });
                } else {
                    let table: Vec<i8> = (0..=255u8).map(|x| (x ^ 0x5a) as i8).collect();
                    let table = self.builder.data(&table);
                    self.push(LutS8 { input, output, table });
                }
                y
            }
            Layer::Residual { kernel } => {
                let window = self.window(x, x.time, (kernel, 1, 1, kernel / 2));
                let conv = self.conv(x, window, x.channels, 1);
                let y = self.act(x.time, x.channels);
                let (a, b, output) = (self.span(conv), self.span(x), self.span(y));
                if self.float {
                    self.push(BinaryF32 { a, b, output, function: Binary::Add, inner: 1, min: -5.0, max: 5.0 });
                } else {
                    let (a_multiplier, b_multiplier) = (0.5, 0.75);
                    let (a_zero_point, b_zero_point, requantize) = (3, -7, ANY);
                    self.push(AddS8 {
                        a,
                        b,
                        output,
                        a_multiplier,
                        b_multiplier,
                        a_zero_point,
                        b_zero_point,
                        requantize,
                    });
                }
                y
            }
            Layer::Concat if x.channels < 20 => {
                let y = self.act(x.time, 2 * x.channels);
                let (input, output, element_bytes) = (self.span(x), self.span(y), self.element());
                let (rows, row) = (x.time * self.pixels(), x.channels);
                for part in 0..2 {
                    self.push(StridedCopy {
                        input,
                        output,
                        element_bytes,
                        dims: [1, 1, 1, 1, rows, row],
                        input_start: 0,
                        input_strides: [0, 0, 0, 0, row, 1],
                        output_start: part * row,
                        output_strides: [0, 0, 0, 0, 2 * row, 1],
                    });
                }
                y
            }
            Layer::Concat => x,
            Layer::Pad { before, after } => {
                let y = self.act(x.time + before + after, x.channels);
                let (input, output, element_bytes) = (self.span(x), self.span(y), self.element());
                let row = self.pixels() * x.channels;
                self.push(Fill { output, element_bytes, bits: if self.float { 1f32.to_bits().into() } else { 9 } });
                self.push(StridedCopy {
                    input,
                    output,
                    element_bytes,
                    dims: [1, 1, 1, x.time, self.pixels(), x.channels],
                    input_start: 0,
                    input_strides: [0, 0, 0, row, x.channels, 1],
                    output_start: before * row,
                    output_strides: [0, 0, 0, row, x.channels, 1],
                });
                y
            }
        }
    }
}

/// A network over `[1, channels, time, width]` floats with one output, its weights not packed.
fn network(layers: &[Layer], isa: Isa, shape: (usize, usize, usize), float: bool, seed: u32) -> (Program, PlanBuilder) {
    let (channels, time, width) = shape;
    let mut net = Net { program: Program::default(), builder: PlanBuilder::new(isa), float, width, seed };
    let pixels = time * net.pixels();
    net.program.tensors.push(4 * channels * pixels);
    let mut dims = vec![1, channels, time];
    dims.extend((width > 0).then_some(width));
    net.program.inputs.push(Port { name: "x".into(), dtype: DType::F32, dims, tensor: 0 });
    let input = net.span(Act { tensor: 0, time, channels });
    let mut act = net.act(time, channels);
    let output = net.span(act);
    if !float {
        net.push(Quantize { input, output, channels, pixels, scale: 0.02, zero_point: -7 });
    } else if channels > 1 {
        net.push(StridedCopy {
            input,
            output,
            element_bytes: 4,
            dims: [1, 1, 1, 1, pixels, channels],
            input_start: 0,
            input_strides: [0, 0, 0, 0, 1, pixels],
            output_start: 0,
            output_strides: [0, 0, 0, 0, channels, 1],
        });
    } else {
        // Read where it comes in.
        act = Act { tensor: 0, time, channels };
    }
    for layer in layers {
        act = net.layer(act, layer);
    }
    let flat = act.time * net.pixels() * act.channels;
    let answers = 3;
    let one = Net { width: 0, ..net };
    let mut net = one;
    let window = net.window(Act { tensor: act.tensor, time: 1, channels: flat }, 1, (1, 1, 1, 0));
    let logits = net.conv(act, window, answers, 1);
    let output = if float {
        logits.tensor
    } else {
        net.program.tensors.push(4 * answers);
        let output = Operand::arena(net.program.tensors.len() - 1, 4 * answers);
        let input = net.span(logits);
        net.push(Dequantize { input, output, channels: 1, pixels: answers, scale: 0.1, zero_point: 3 });
        output.offset
    };
    net.program.outputs.push(Port { name: "y".into(), dtype: DType::F32, dims: vec![1, answers], tensor: output });
    (net.program, net.builder)
}

/// Columns `from..to` along time of a series of `[channels, length, pixels]`.
fn cut(series: &[f32], length: usize, pixels: usize, from: usize, to: usize) -> Vec<f32> {
    series.chunks(length * pixels).flat_map(|channel| &channel[from * pixels..to * pixels]).copied().collect()
}

fn run(plan: &Plan<AlignedBytes>, memory: &mut AlignedBytes, input: &[f32]) -> Vec<u32> {
    let mut answer = [0f32; 3];
    let output: &mut [u8] = bytemuck::cast_slice_mut(&mut answer);
    plan.run(memory, &[bytemuck::cast_slice::<f32, u8>(input)], &mut [output]).unwrap();
    answer.map(f32::to_bits).to_vec()
}

/// Whether it could run hop by hop; its answers are then held to those of whole windows.
fn agree(layers: &[Layer], shape: (usize, usize, usize), hop: usize, float: bool, seed: u32) -> bool {
    let (channels, time, width) = shape;
    let pixels = width.max(1);
    let mut hopped = false;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let (program, mut builder) = network(layers, isa, shape, float, seed);
        let Ok(hopping) = by_hops(&program, hop, None, &mut builder) else { continue };
        hopped = true;
        let hops: Plan<AlignedBytes> = plan(hopping.program, builder.clone()).unwrap();
        let program = packed(program, &mut builder);
        let whole: Plan<AlignedBytes> = plan(program, builder).unwrap();
        let stated = hops.hop().unwrap();
        assert_eq!((stated.axis, stated.window_rows, stated.rows), (2, time, hop));
        let windows = 7;
        // Before the first window there is something, which must not matter.
        let lead = stated.runs() * hop - time;
        let length = lead + time + windows * hop;
        let mut state = seed ^ 0x1234_5678;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        let series: Vec<f32> = (0..channels * length * pixels).map(|_| noise()).collect();
        let mut memory = [&whole, &hops].map(|plan| AlignedBytes::zeroed(plan.arena_bytes()));
        memory[1].fill(0xa5);
        for index in 0..stated.runs() + windows {
            let end = (index + 1) * hop;
            let new = run(&hops, &mut memory[1], &cut(&series, length, pixels, end - hop, end));
            if let Some(start) = end.checked_sub(time).filter(|_| index + 1 >= stated.runs()) {
                let all = run(&whole, &mut memory[0], &cut(&series, length, pixels, start, end));
                assert_eq!(new, all, "{isa}, window {start}: {layers:?}, {shape:?}, hop {hop}, float {float}");
            }
        }
    }
    hopped
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn answers_are_those_of_whole_windows(
        layers in proptest::collection::vec(layer(), 1..6),
        channels in 1usize..5, time in 6usize..40, width in 0usize..3, hop in 1usize..12,
        float: bool, seed: u32,
    ) {
        agree(&layers, (channels, time, width), hop, float, seed);
    }
}

#[test]
fn padded_and_dilated_networks_do_run_hop_by_hop() {
    let conv =
        |kernel, stride, dilation, pad| Layer::Conv { kernel, stride, dilation, pad, channels: 8, depthwise: false };
    // As exporters write temporal networks: padded on both sides, on one, and by a Pad of its own.
    let both = [conv(3, 1, 1, (1, 1)), Layer::Unary, conv(3, 2, 1, (1, 1)), Layer::Residual { kernel: 3 }];
    let causal = [conv(3, 1, 1, (2, 0)), conv(3, 1, 2, (4, 0)), Layer::Concat, conv(3, 1, 4, (8, 0))];
    let padded = [
        Layer::Pad { before: 2, after: 0 },
        conv(3, 1, 1, (0, 0)),
        Layer::Pad { before: 4, after: 0 },
        conv(3, 1, 2, (0, 0)),
    ];
    for layers in [&both[..], &causal, &padded] {
        for float in [false, true] {
            for shape in [(4, 40, 0), (1, 40, 2)] {
                assert!(agree(layers, shape, 4, float, 11), "{layers:?} {float} {shape:?}");
            }
        }
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let conv = |stride| Layer::Conv { kernel: 3, stride, dilation: 1, pad: (0, 0), channels: 4, depthwise: false };
    let hopping = |layers: &[Layer], hop| {
        let (program, mut builder) = network(layers, Isa::Generic, (2, 30, 0), false, 1);
        by_hops(&program, hop, None, &mut builder)
    };
    let refused = |layers: &[Layer], hop| hopping(layers, hop).map(drop).unwrap_err();
    assert_eq!(refused(&[conv(1)], 30), "windows of 30 rows that come 30 apart have nothing in common");
    let odd = "step `step 1`: its stride along time, 2, does not divide the 3 rows of a hop";
    assert_eq!(refused(&[conv(2)], 3), odd);
    let (program, mut builder) = network(&[conv(1)], Isa::Generic, (2, 30, 0), false, 1);
    let other = by_hops(&program, 3, Some(49), &mut builder).map(drop).unwrap_err();
    assert_eq!(other, "its input has 30 rows along dimension 2, and a window 49 along time");
    // The first layer still goes by hops.
    let partly = hopping(&[conv(1), conv(2)], 3).unwrap();
    let (step, why) = partly.whole_from.unwrap();
    assert_eq!((step.as_str(), why.contains("does not divide the 3 rows")), ("step 2", true));
}

#[test]
fn channels_of_several_images_are_not_taken_for_time() {
    let (mut program, mut builder) = network(&[Layer::Unary], Isa::Generic, (2, 6, 0), false, 1);
    program.inputs[0].dims = vec![2, 2, 6];
    program.tensors.iter_mut().for_each(|bytes| *bytes *= 2);
    for step in &mut program.steps {
        step.op.relocate(|operand| Operand { len: 2 * operand.len, ..operand });
    }
    let why = by_hops(&program, 1, None, &mut builder).map(drop).unwrap_err();
    assert!(why.contains("step 0"), "{why}");
}
