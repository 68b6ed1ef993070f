//! An instruction set of quads of 4 or 8 bytes, of any lanes and blocks, that every CPU has: it shows that
//! packing, tiles and epilogue agree where the vectors themselves cannot be tried.
#![allow(unsafe_op_in_unsafe_fn)]

use super::Layout;
use super::ops::{Arrange, Epilogue, Interleave, Rows, Simd};

pub struct Scalar<const LANES: usize, const BLOCKS: usize, const OFFSET: u8, const TAPS: usize = 4>;

impl<const LANES: usize, const BLOCKS: usize, const OFFSET: u8, const TAPS: usize> Simd
    for Scalar<LANES, BLOCKS, OFFSET, TAPS>
{
    type Acc = [i32; LANES];
    type Quads = [[u8; TAPS]; LANES];
    const LAYOUT: Layout = Layout { lanes: LANES, taps: TAPS, blocks: BLOCKS, rows: 6, offset: OFFSET as i32 };
    const WHOLE: bool = LANES == 4;
    const PAIRS: bool = LANES == 4;

    unsafe fn broadcast(quad: *const u8) -> [[u8; TAPS]; LANES] {
        [quad.cast::<[u8; TAPS]>().read(); LANES]
    }

    unsafe fn load(lanes: *const u8) -> [i32; LANES] {
        lanes.cast::<[i32; LANES]>().read_unaligned()
    }

    unsafe fn load_weights(weights: *const u8) -> [[u8; TAPS]; LANES] {
        weights.cast::<[[u8; TAPS]; LANES]>().read()
    }

    unsafe fn add(a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        core::array::from_fn(|lane| a[lane] + b[lane])
    }

    unsafe fn zero() -> [i32; LANES] {
        [0; LANES]
    }

    unsafe fn dot(acc: [i32; LANES], values: [[u8; TAPS]; LANES], weights: [[u8; TAPS]; LANES]) -> [i32; LANES] {
        let value = |byte: u8| if OFFSET == 0 { i32::from(byte as i8) } else { i32::from(byte) };
        core::array::from_fn(|lane| {
            let pairs = values[lane].into_iter().zip(weights[lane]);
            acc[lane] + pairs.map(|(v, w)| value(v) * i32::from(w as i8)).sum::<i32>()
        })
    }

    unsafe fn store<const COLUMNS: usize>(acc: [[i32; LANES]; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        let rows = if COLUMNS <= 2 { 4 / COLUMNS } else { 1 };
        for row in 0..rows.min(to.rows) {
            for at in 0..to.len {
                let sum = acc[row * COLUMNS + at / LANES][at % LANES];
                let scaled = sum as f32 * multiplier.cast::<f32>().add(at).read_unaligned();
                let value = scaled.min(out.high).round_ties_even() + f32::from(out.zero_point);
                to.dst.add(row * to.step + at).write(value.max(out.min.into()) as i8);
            }
        }
    }

    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        for i in 0..len {
            dst.add(i).write(src.add(i).read() as u8 ^ OFFSET);
        }
    }

    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl<const LANES: usize, const BLOCKS: usize, const OFFSET: u8> Interleave for Scalar<LANES, BLOCKS, OFFSET> {
    unsafe fn interleave(rows: &[*const i8; 4], len: usize, dst: *mut u8) {
        for i in 0..len {
            dst.add(i * 4).cast::<[u8; 4]>().write(rows.map(|row| row.add(i).read() as u8 ^ OFFSET));
        }
    }
}

/// Eight lanes whose products of two neighbours are added in 16 bits and saturate, as those of AVX2 do.
pub struct Saturating;

type Exact = Scalar<8, 2, 128>;

impl Simd for Saturating {
    type Acc = [i32; 8];
    type Quads = [[u8; 4]; 8];
    const LAYOUT: Layout = Layout::BYTES;

    unsafe fn broadcast(quad: *const u8) -> [[u8; 4]; 8] {
        Exact::broadcast(quad)
    }

    unsafe fn load(lanes: *const u8) -> [i32; 8] {
        Exact::load(lanes)
    }

    unsafe fn load_weights(weights: *const u8) -> [[u8; 4]; 8] {
        Exact::load_weights(weights)
    }

    unsafe fn add(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        Exact::add(a, b)
    }

    unsafe fn zero() -> [i32; 8] {
        Exact::zero()
    }

    unsafe fn dot(acc: [i32; 8], values: [[u8; 4]; 8], weights: [[u8; 4]; 8]) -> [i32; 8] {
        core::array::from_fn(|lane| {
            let product = |tap: usize| i32::from(values[lane][tap]) * i32::from(weights[lane][tap] as i8);
            let pair = |tap: usize| (product(tap) + product(tap + 1)).clamp(i16::MIN.into(), i16::MAX.into());
            acc[lane] + pair(0) + pair(2)
        })
    }

    unsafe fn store<const COLUMNS: usize>(acc: [[i32; 8]; 4], multiplier: *const u8, out: &Epilogue, to: Rows) {
        Exact::store::<COLUMNS>(acc, multiplier, out, to);
    }

    unsafe fn widen(src: *const i8, len: usize, dst: *mut u8) {
        Exact::widen(src, len, dst);
    }

    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl Arrange for Saturating {
    unsafe fn arrange(src: *const i8, order: *const u8, dst: *mut u8) {
        for i in 0..64 {
            dst.add(i).write(src.add(order.add(i).read().into()).read() as u8 ^ 128);
        }
    }
}
