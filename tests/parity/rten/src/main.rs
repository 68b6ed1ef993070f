//! `rten-latency MODEL.onnx SECONDS`: prints the median latency of a model with one float input, in microseconds, as
//! `tractlet bench` measures it: one inference after the other, the input ready, the output dropped.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rten::{Dimension, ModelOptions};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, seconds] = &args[..] else { return Err("usage: rten-latency MODEL.onnx SECONDS".into()) };
    let time = Duration::from_secs_f64(seconds.parse()?);
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(path)?;
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Symbolic(_) => 1,
    };
    let shape: Vec<usize> = model.input_shape(0).ok_or("the input has no shape")?.iter().map(size).collect();
    let mut state = 1_u32;
    let values = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    });
    let input = Tensor::from_data(&shape[..], values.take(shape.iter().product()).collect::<Vec<f32>>());
    let infer = || model.run_one(input.view().into(), None).map(|output| drop(black_box(output)));
    for _ in 0..20 {
        infer()?;
    }
    let (mut times, end) = (Vec::new(), Instant::now() + time);
    while Instant::now() < end || times.len() < 50 {
        let start = Instant::now();
        infer()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("{}", times[times.len() / 2].as_secs_f64() * 1e6);
    Ok(())
}
