//! Times products of two computed matrices in f32 and in int8, in turns, on each instruction set of this CPU:
//! `cargo run --release --features std,alloc --example products [ISA]`
//!
//! A time is the least of many batches of runs. In int8 the second matrix lies in rows or in columns, with a zero point of 0
//! or another one.

use std::hint::black_box;
use std::time::Instant;

use tractlet_core::isa::Isa;
use tractlet_core::kernels::matmul::Product;
use tractlet_core::kernels::matmul_s8::ProductS8;
use tractlet_core::plan::AlignedBytes;
use tractlet_core::shape::Requantize;

/// Matrices, rows, what is summed over, columns: scores of four heads and what they weigh.
const SIZES: [[usize; 4]; 8] = [
    [4, 16, 32, 16],
    [4, 16, 16, 32],
    [4, 64, 64, 64],
    [4, 197, 64, 197],
    [4, 197, 197, 64],
    [4, 49, 32, 49],
    [4, 8, 64, 64],
    [1, 1, 64, 64],
];

fn main() {
    let only: Option<Isa> = std::env::args().nth(1).map(|name| name.parse().expect("an instruction set"));
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available() && only.is_none_or(|only| only == *isa));
    for isa in isas {
        println!("{isa:<24}{:>12}{:>12}{:>12}{:>12}{:>12}", "f32 us", "rows", "columns", "rows zp", "columns zp");
        for [count, rows, inner, cols] in SIZES {
            let times = times(isa, count, Product { rows, inner, cols });
            print!("  {:<22}", format!("{count} x {rows}x{inner}x{cols}"));
            times.iter().for_each(|time| print!("{time:>12.2}"));
            println!();
        }
    }
}

/// Microseconds of a product in f32, and of the four in int8.
fn times(isa: Isa, count: usize, sizes: Product) -> [f64; 5] {
    let Product { rows, inner, cols } = sizes;
    let (a, b) = (vec![0.5f32; count * rows * inner], vec![0.25f32; count * inner * cols]);
    let (mut y, mut bias) = (vec![0f32; count * rows * cols], vec![0f32; sizes.scratch_len()]);
    let int8 = [(false, 0), (true, 0), (false, 5), (true, 5)].map(|(turned, b_zero_point)| ProductS8 {
        sizes,
        turned,
        a_zero_point: -128,
        b_zero_point,
        multiplier: 1e-3,
        requantize: Requantize { zero_point: 3, min: i8::MIN, max: i8::MAX },
    });
    let (a8, b8): (Vec<i8>, Vec<i8>) =
        ((0..a.len()).map(|i| i as i8).collect(), (0..b.len()).map(|i| i as i8).collect());
    let mut y8 = vec![0i8; y.len()];
    let mut scratch = AlignedBytes::zeroed(int8.iter().map(|product| product.scratch_len(isa)).max().unwrap_or(0));
    let runs = (2e6 / (count * rows * inner * cols) as f64).clamp(1.0, 200.0) as u32;
    let mut best = [f64::MAX; 5];
    for _ in 0..if isa == Isa::Generic { 5 } else { 100 } {
        for (which, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..runs {
                let done = match which.checked_sub(1).map(|which| &int8[which]) {
                    None => black_box(&sizes).run(isa, &a, &b, &mut y, &mut bias),
                    Some(product) => black_box(product).run(isa, &a8, &b8, &mut y8, &mut scratch),
                };
                assert!(done);
            }
            *best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(runs));
        }
    }
    best
}
