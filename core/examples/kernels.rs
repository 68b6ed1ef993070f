//! Times every convolution of the benchmark networks on each instruction set of this CPU:
//! `cargo run --release --features std,alloc --example kernels [NETWORK] [ISA] [compact]`
//!
//! A layer's time is the least of many batches of runs. All layers of a network run on the same
//! buffers, so that weights are as near as they are in a real run of a small network.

use std::hint::black_box;
use std::time::Instant;

use bytemuck::cast_slice_mut;
use tractlet_core::isa::Isa;
use tractlet_core::kernels::ConvKernel;
use tractlet_core::kernels::conv::{ConvArgs, Form, Results};
use tractlet_core::plan::AlignedBytes;
use tractlet_core::shape::{ConvShape, Requantize, Window};

/// `[input height, width, channels]`, `[output height, width, channels]`, kernel, stride, padding.
fn conv(input: [usize; 3], output: [usize; 3], kernel: [usize; 2], stride: usize, pad: [usize; 2]) -> ConvShape {
    let window = Window {
        in_h: input[0],
        in_w: input[1],
        in_c: input[2],
        out_h: output[0],
        out_w: output[1],
        kernel_h: kernel[0],
        kernel_w: kernel[1],
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: pad[0],
        pad_left: pad[1],
    };
    ConvShape { window, out_c: output[2], groups: 1 }
}

fn depthwise(h: usize, w: usize, channels: usize, kernel: [usize; 2], stride: usize, pad: usize) -> ConvShape {
    let (out_h, out_w) = match pad {
        0 if stride == 1 => (h - kernel[0] + 1, w - kernel[1] + 1),
        _ => (h / stride, w / stride),
    };
    let shape = conv([h, w, channels], [out_h, out_w, channels], kernel, stride, [pad, pad]);
    ConvShape { groups: channels, ..shape }
}

fn pointwise(h: usize, w: usize, in_c: usize, out_c: usize) -> ConvShape {
    conv([h, w, in_c], [h, w, out_c], [1, 1], 1, [0, 0])
}

fn fc(in_c: usize, out_c: usize) -> ConvShape {
    pointwise(1, 1, in_c, out_c)
}

fn kws() -> Vec<ConvShape> {
    let mut layers = vec![conv([49, 10, 1], [25, 5, 64], [10, 4], 2, [4, 1])];
    for _ in 0..4 {
        layers.extend([depthwise(25, 5, 64, [3, 3], 1, 1), pointwise(25, 5, 64, 64)]);
    }
    layers.push(fc(64, 12));
    layers
}

fn vww() -> Vec<ConvShape> {
    let mut layers = vec![conv([96, 96, 3], [48, 48, 8], [3, 3], 2, [0, 0])];
    let mut size = 48;
    let blocks = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)];
    let blocks = blocks.into_iter().chain([(128, 128, 1); 5]).chain([(128, 256, 2), (256, 256, 1)]);
    for (in_c, out_c, stride) in blocks {
        layers.push(depthwise(size, size, in_c, [3, 3], stride, 2 - stride));
        size /= stride;
        layers.push(pointwise(size, size, in_c, out_c));
    }
    layers.push(fc(256, 2));
    layers
}

fn resnet8(c: usize) -> Vec<ConvShape> {
    let three = |size: usize, in_c, out_c, stride| {
        conv([size, size, in_c], [size / stride, size / stride, out_c], [3, 3], stride, [2 - stride; 2])
    };
    let one = |size: usize, in_c, out_c| conv([size, size, in_c], [size / 2, size / 2, out_c], [1, 1], 2, [0, 0]);
    vec![
        three(32, 3, c, 1),
        three(32, c, c, 1),
        three(32, c, c, 1),
        one(32, c, 2 * c),
        three(32, c, 2 * c, 2),
        three(16, 2 * c, 2 * c, 1),
        one(16, 2 * c, 4 * c),
        three(16, 2 * c, 4 * c, 2),
        three(8, 4 * c, 4 * c, 1),
        fc(4 * c, 10),
    ]
}

fn autoencoder() -> Vec<ConvShape> {
    let widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640];
    widths.windows(2).map(|w| fc(w[0], w[1])).collect()
}

fn har(channels: usize) -> Vec<ConvShape> {
    vec![
        conv([1, 128, channels], [1, 124, 32], [1, 5], 1, [0, 0]),
        conv([1, 62, 32], [1, 58, 48], [1, 5], 1, [0, 0]),
        conv([1, 29, 48], [1, 25, 64], [1, 5], 1, [0, 0]),
        fc(64, 6),
    ]
}

fn sww() -> Vec<ConvShape> {
    vec![
        depthwise(30, 1, 40, [3, 1], 1, 0),
        pointwise(28, 1, 40, 128),
        depthwise(28, 1, 128, [5, 1], 1, 0),
        pointwise(24, 1, 128, 128),
        depthwise(24, 1, 128, [10, 1], 1, 0),
        pointwise(15, 1, 128, 128),
        depthwise(15, 1, 128, [15, 1], 1, 0),
        pointwise(1, 1, 128, 32),
        fc(32, 3),
    ]
}

/// Layers whose weights do not fit the caches of a small CPU.
fn large() -> Vec<ConvShape> {
    let three = |size, c| conv([size, size, c], [size, size, c], [3, 3], 1, [1, 1]);
    vec![three(56, 64), three(28, 128), three(14, 256), three(7, 512), fc(1024, 1024)]
}

fn main() {
    let mut words = std::env::args().skip(1);
    let network = words.next().unwrap_or_default();
    let only = words.next();
    let form = if words.next().as_deref() == Some("compact") { Form::Compact } else { Form::Fast };
    let isas: Vec<Isa> = match &only {
        Some(name) => vec![name.parse().expect("an instruction set")],
        None => Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect(),
    };
    let networks = [
        ("kws_dscnn", kws()),
        ("har_cnn1d_6ch", har(6)),
        ("har_cnn1d_9ch", har(9)),
        ("ic_resnet8", resnet8(16)),
        ("ic_resnet8_large", resnet8(40)),
        ("vww_mobilenetv1", vww()),
        ("ad_autoencoder", autoencoder()),
        ("sww_conv1d", sww()),
        ("large", large()),
    ];
    for (name, layers) in networks.into_iter().filter(|(name, _)| name.starts_with(&network)) {
        report(name, &layers, &isas, form);
    }
}

/// Prints a line a layer and a line for their sum.
fn report(name: &str, layers: &[ConvShape], isas: &[Isa], form: Form) {
    print!("{name:<44}{:>9}", "kMAC");
    isas.iter().for_each(|isa| print!("{isa:>14} us{:>7}", "GMAC/s"));
    println!();
    let columns: Vec<Vec<f64>> = isas.iter().map(|&isa| time_network(isa, layers, form)).collect();
    for (i, shape) in layers.iter().enumerate() {
        print!("  {:<42}{:>9.1}", label(shape), macs(shape) / 1e3);
        columns.iter().for_each(|c| print!("{:>17.2}{:>7.1}", c[i], macs(shape) / c[i] / 1e3));
        println!();
    }
    let total: f64 = layers.iter().map(macs).sum();
    print!("  {:<42}{:>9.1}", "sum", total / 1e3);
    for column in columns {
        let sum: f64 = column.iter().sum();
        print!("{sum:>17.2}{:>7.1}", total / sum / 1e3);
    }
    println!("\n");
}

fn label(shape: &ConvShape) -> String {
    let w = &shape.window;
    let kind = if shape.groups > 1 { "dw" } else { "conv" };
    format!(
        "{kind} {}x{}x{} -> {}x{}x{} k{}x{} s{}",
        w.in_h, w.in_w, w.in_c, w.out_h, w.out_w, shape.out_c, w.kernel_h, w.kernel_w, w.stride_h
    )
}

fn macs(shape: &ConvShape) -> f64 {
    let w = &shape.window;
    (w.out_h * w.out_w * shape.out_c * w.kernel_h * w.kernel_w * w.in_c / shape.groups) as f64
}

struct Layer {
    shape: ConvShape,
    kernel: ConvKernel,
    weights: AlignedBytes,
    /// Bytes of them that are used.
    weights_len: usize,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
}

/// Microseconds of each layer.
fn time_network(isa: Isa, shapes: &[ConvShape], form: Form) -> Vec<f64> {
    let largest = |f: fn(&ConvShape) -> usize| shapes.iter().map(f).max().unwrap_or(0);
    let mut input = AlignedBytes::zeroed(largest(|s| s.window.in_h * s.window.in_w * s.window.in_c));
    input.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 37) as u8);
    let mut output = AlignedBytes::zeroed(largest(|s| s.window.out_h * s.window.out_w * s.out_c));
    let (mut layers, scratch_len): (Vec<Layer>, Vec<usize>) =
        shapes.iter().map(|shape| layer(isa, shape, form)).unzip();
    let mut scratch = AlignedBytes::zeroed(scratch_len.into_iter().max().unwrap_or(0));
    let mut best = vec![f64::MAX; shapes.len()];
    let (input, output, scratch) = (cast_slice_mut(&mut input), cast_slice_mut(&mut output), &mut scratch[..]);
    for _ in 0..if isa == Isa::Generic { 5 } else { 150 } {
        for (layer, best) in layers.iter_mut().zip(&mut best) {
            let (shape, w) = (&layer.shape, &layer.shape.window);
            let args = ConvArgs {
                input: &input[..w.in_h * w.in_w * w.in_c],
                weights: &layer.weights[..layer.weights_len],
                bias: &layer.bias,
                multiplier: &layer.multiplier,
                input_zp: -3,
                out: Requantize { zero_point: -128, min: -128, max: 127 },
            };
            let output = &mut output[..w.out_h * w.out_w * shape.out_c];
            let runs = (2e5 / macs(shape)).clamp(1.0, 100.0) as u32;
            layer.kernel.run(isa, shape, &args, Results::Bytes(output), scratch);
            let start = Instant::now();
            for _ in 0..runs {
                layer.kernel.run(isa, shape, black_box(&args), Results::Bytes(output), scratch);
            }
            *best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(runs));
        }
    }
    best
}

/// Weights spread as those of a trained network are: sums of three numbers, their deviation a third of
/// the largest.
fn bell(len: usize) -> Vec<i8> {
    let mut state = 1_u32;
    let mut third = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i32 % 85 - 42
    };
    (0..len).map(|_| (third() + third() + third()) as i8).collect()
}

fn layer(isa: Isa, shape: &ConvShape, form: Form) -> (Layer, usize) {
    let w = &shape.window;
    let weights = bell(shape.out_c * w.kernel_h * w.kernel_w * w.in_c / shape.groups);
    let kernel = ConvKernel::of(shape, form);
    let mut packed = AlignedBytes::zeroed(kernel.max_packed_len(isa, shape));
    let weights_len = kernel.pack(isa, shape, &weights, &mut packed);
    let (bias, multiplier) = (vec![100; shape.out_c], vec![1e-3; shape.out_c]);
    (Layer { shape: *shape, kernel, weights: packed, weights_len, bias, multiplier }, kernel.scratch_len(isa, shape))
}
