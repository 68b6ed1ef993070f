//! Times what stands between the convolutions and products of a network, on each instruction set of this CPU:
//! `cargo run --release --features std,alloc --example around [ISA]`
//!
//! A time is the least of many batches of runs, for each element.

use std::hint::black_box;
use std::time::Instant;

use tractlet_core::isa::Isa;
use tractlet_core::kernels::resize::{self, Blend, WHOLE};
use tractlet_core::kernels::{copy, lut, pool, softmax, unary};
use tractlet_core::plan::{AveragePoolS8, Operand, StridedCopy, Unary};
use tractlet_core::shape::{Requantize, Window};

/// Copies: name, dimensions, how far apart their elements are in the input, and in the output.
type Copies = (&'static str, [usize; 3], [usize; 3], [usize; 3]);
const COPIES: [Copies; 7] = [
    ("96x96x3, channels last", [1, 9216, 3], [0, 1, 9216], [0, 3, 1]),
    ("40x40x64, channels last", [1, 1600, 64], [0, 1, 1600], [0, 64, 1]),
    ("heads of 64x4x32", [4, 64, 32], [32, 128, 1], [2048, 32, 1]),
    ("the same turned", [4, 32, 64], [32, 1, 128], [2048, 64, 1]),
    ("40x40x64 of 128", [1, 1600, 64], [0, 64, 1], [0, 128, 1]),
    ("64x64x16 of 32", [1, 4096, 16], [0, 16, 1], [0, 32, 1]),
    ("30x30x24 of 40", [1, 900, 24], [0, 24, 1], [0, 40, 1]),
];

/// Pools: name, rows, columns and channels of the input, rows and columns of the kernel, its stride, and the padding before.
type Pools = (&'static str, [usize; 3], [usize; 2], usize, usize);
const POOLS: [Pools; 5] = [
    ("1x2 by 2 of 1x124x32", [1, 124, 32], [1, 2], 2, 0),
    ("2x2 by 2 of 48x48x16", [48, 48, 16], [2, 2], 2, 0),
    ("3x3 by 2 of 56x56x64", [56, 56, 64], [3, 3], 2, 1),
    ("5x5 by 1 of 13x13x96", [13, 13, 96], [5, 5], 1, 2),
    ("all of 25x5x64", [25, 5, 64], [25, 5], 1, 0),
];

const FUNCTIONS: [Unary; 9] = [
    Unary::Sigmoid,
    Unary::Swish,
    Unary::Tanh,
    Unary::Gelu,
    Unary::Exp,
    Unary::Elu,
    Unary::Softplus,
    Unary::Mish,
    Unary::Sqrt,
];

fn main() {
    let only: Option<Isa> = std::env::args().nth(1).map(|name| name.parse().expect("an instruction set"));
    println!("on any CPU");
    for (name, dims, x_strides, y_strides) in COPIES {
        let [bytes, words] = [1, 4].map(|element_bytes| copy_of(element_bytes, dims, x_strides, y_strides));
        let count = dims.iter().product();
        let (x, mut y) = (vec![7u8; 1 << 20], vec![0u8; 1 << 20]);
        report(&format!("{name}, bytes"), count, || {
            copy::strided_copy(black_box(&x), black_box(&mut y), &bytes).expect("fits")
        });
        let (x, mut y) = (vec![7u32; 1 << 20], vec![0u32; 1 << 20]);
        report(&format!("{name}, words"), count, || {
            copy::strided_copy(black_box(&x), black_box(&mut y), &words).expect("fits")
        });
    }
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && only.is_none_or(|only| only == *isa)) {
        println!("{isa}");
        on(isa);
    }
}

fn on(isa: Isa) {
    let table: [i8; 256] = std::array::from_fn(|index| (index as i8).wrapping_mul(3));
    let mut bytes: Vec<i8> = (0..16_384).map(|index| (index * 5) as i8).collect();
    report("table", bytes.len(), || lut::lut_s8(isa, black_box(&mut bytes), &table));
    let exponentials = std::array::from_fn(|distance| (-0.05 * distance as f32).exp());
    let requantize = Requantize { zero_point: -128, min: -128, max: 127 };
    report("softmax of 64, int8", bytes.len(), || {
        softmax::softmax_s8(isa, black_box(&mut bytes), 64, &exponentials, 1.0 / 256.0, &requantize);
    });
    let values: Vec<f32> = (0..16_384).map(|index| (index % 97) as f32 * 0.1 - 4.0).collect();
    let mut y = values.clone();
    report("softmax of 64, f32, with a copy", y.len(), || {
        y.copy_from_slice(&values);
        softmax::softmax_f32(isa, black_box(&mut y), 64);
    });
    for function in FUNCTIONS {
        report(&format!("{function:?}, with a copy"), y.len(), || {
            y.copy_from_slice(&values);
            unary::unary_f32(isa, black_box(&mut y), function, 1.0, 0.0);
        });
    }
    pools(isa);
    for (name, unit) in [("twice the size, 64x64x32", WHOLE / 4), ("the same, uneven shares", WHOLE / 4 - 1)] {
        let blend = |at: u32| [at / 2, (at / 2 + 1).min(31), if at.is_multiple_of(2) { unit } else { 3 * unit }];
        let blends: Vec<Blend> = (0..64).map(blend).collect();
        let (x, mut y) = (vec![7i8; 32 * 32 * 32], vec![0i8; 64 * 64 * 32]);
        report(name, y.len(), || resize::resize_s8(isa, black_box(&x), black_box(&mut y), 32, 32, &blends, &blends));
    }
}

/// Per element that is read.
fn pools(isa: Isa) {
    for (name, [in_h, in_w, in_c], [kernel_h, kernel_w], stride, pad) in POOLS {
        let outputs = |size: usize, kernel: usize| (size + 2 * pad - kernel) / stride + 1;
        let window = Window {
            in_h,
            in_w,
            in_c,
            out_h: outputs(in_h, kernel_h),
            out_w: outputs(in_w, kernel_w),
            kernel_h,
            kernel_w,
            stride_h: stride,
            stride_w: stride,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: pad,
            pad_left: pad,
        };
        let (values, results) = (in_h * in_w * in_c, window.out_h * window.out_w * in_c);
        let (x, mut y) = (vec![5i8; values], vec![0i8; results]);
        report(&format!("maximum {name}, int8"), values, || {
            pool::max_s8(isa, black_box(&x), black_box(&mut y), &window)
        });
        let average = AveragePoolS8 {
            input: Operand::default(),
            output: Operand::default(),
            window,
            count_include_pad: false,
            input_zero_point: 3,
            multiplier: 0.9,
            requantize: Requantize { zero_point: 0, min: -128, max: 127 },
        };
        report(&format!("average {name}, int8"), values, || {
            pool::average_s8(isa, black_box(&x), black_box(&mut y), &average);
        });
        let (x, mut y) = (vec![5f32; values], vec![0f32; results]);
        report(&format!("maximum {name}, f32"), values, || {
            pool::max_f32(isa, black_box(&x), black_box(&mut y), &window)
        });
    }
}

fn copy_of(element_bytes: usize, dims: [usize; 3], x_strides: [usize; 3], y_strides: [usize; 3]) -> StridedCopy {
    let padded = |values: [usize; 3], unused| [[unused; 3], values].concat().try_into().expect("six dimensions");
    StridedCopy {
        input: Operand::default(),
        output: Operand::default(),
        element_bytes,
        dims: padded(dims, 1),
        input_start: 0,
        input_strides: padded(x_strides, 0),
        output_start: 0,
        output_strides: padded(y_strides, 0),
    }
}

fn report(name: &str, count: usize, mut run: impl FnMut()) {
    let runs = (200_000 / count).max(1);
    let batches = (0..60).map(|_| {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        start.elapsed().as_secs_f64() / runs as f64
    });
    let best = batches.fold(f64::MAX, f64::min);
    println!("  {name:<34} {:8.3} ns an element", best * 1e9 / count as f64);
}
