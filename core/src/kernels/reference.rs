//! Plain Rust for any CPU and any convolution, that every vector kernel equals bit for bit.
//!
//! What is under the window is put in the order of a filter's weights, zero points where it is padding, unless it lies so in the
//! input. Then a filter is one product of two slices, and four filters share the reading of it. Depthwise convolution, which
//! takes a value once, multiplies where values lie. There is no scratch: what is put together takes a little of the stack.

use core::ops::Range;

use crate::shape::{ConvShape, Window};

use super::conv::{ConvArgs, Results};
use super::pairs::{self, Taps};
use super::round::ToI8;

/// Output channels of a pixel that are summed up at a time.
const BLOCK: usize = 64;
/// Filters that are taken together.
const FILTERS: usize = 4;
/// Values under a window that are put together at a time.
const COLUMN: usize = 512;

/// Bytes of the packed weights: as many as there are.
pub fn packed_len(shape: &ConvShape) -> usize {
    shape.out_c.saturating_mul(filter_len(shape))
}

/// Copies OHWI `weights`; those of a depthwise convolution become HWO.
pub fn pack(shape: &ConvShape, weights: &[i8], dst: &mut [u8]) {
    assert_eq!(weights.len(), dst.len());
    let filter_len = filter_len(shape);
    for (at, d) in dst.iter_mut().enumerate() {
        let from = if is_depthwise(shape) { at % shape.out_c * filter_len + at / shape.out_c } else { at };
        *d = weights[from] as u8;
    }
}

/// Lays out a matrix of so many columns, or one that is `turned`, as weights that one pixel is multiplied with, and adds up
/// its columns.
pub fn pack_matrix(cols: usize, values: &[i8], turned: bool, dst: &mut [u8], sums: &mut [i32]) {
    let inner = values.len() / cols;
    for (col, (dst, sum)) in dst.chunks_exact_mut(inner).zip(sums).enumerate() {
        let (first, step) = if turned { (col * inner, 1) } else { (col, cols) };
        *sum = 0;
        for (to, &value) in dst.iter_mut().zip(values[first..].iter().step_by(step)) {
            *to = value as u8;
            *sum += i32::from(value);
        }
    }
}

/// Convolves, or returns `false` where weights are not as long as they have to be.
pub fn run(shape: &ConvShape, args: &ConvArgs<'_>, mut output: Results<'_>) -> bool {
    if args.weights.len() != packed_len(shape) {
        return false;
    }
    let w = &shape.window;
    let depthwise = is_depthwise(shape);
    // Channels of a depthwise convolution are taken together like those of one group.
    let groups = if depthwise { 1 } else { shape.groups };
    let (group_in, group_out) = (w.in_c / groups, shape.out_c / groups);
    let len = filter_len(shape);
    let to_i8 = ToI8::new(&args.out);
    let (mut column, mut sums, padding) = ([0; COLUMN], [0; BLOCK], [args.input_zp; BLOCK]);
    let mut taps = Taps::new();
    for out_y in 0..w.out_h {
        let rows = w.rows_inside(out_y);
        for out_x in 0..w.out_w {
            let place = Place { w, args, out_y, out_x, rows: rows.clone(), cols: w.cols_inside(out_x) };
            let pixel = (out_y * w.out_w + out_x) * shape.out_c;
            for group in 0..groups {
                for block in (0..group_out).step_by(BLOCK) {
                    let (first, count) = (group * group_out + block, BLOCK.min(group_out - block));
                    sums[..count].copy_from_slice(&args.bias[first..][..count]);
                    if let Results::Shifted(_, shifts) = output {
                        let shift = shifts[out_y * w.out_w + out_x];
                        sums[..count].iter_mut().for_each(|sum| *sum = sum.wrapping_add(shift));
                    }
                    if depthwise {
                        place.depthwise(first, &padding, &mut taps, &mut sums[..count]);
                    } else {
                        let weights = &args.weights[first * len..][..count * len];
                        let filters = Filters { weights, len, count, sums: &mut sums };
                        place.dense(group * group_in..(group + 1) * group_in, filters, &mut column);
                    }
                    put(args, to_i8, &mut output, pixel + first, first, &sums[..count]);
                }
            }
        }
    }
    true
}

/// Puts the sums of some channels where they go.
fn put(args: &ConvArgs<'_>, to_i8: ToI8, output: &mut Results<'_>, at: usize, first: usize, sums: &[i32]) {
    match output {
        Results::Bytes(bytes) | Results::Shifted(bytes, _) => {
            let scaled = sums.iter().zip(&args.multiplier[first..]).map(|(&sum, multiplier)| sum as f32 * multiplier);
            bytes[at..].iter_mut().zip(scaled).for_each(|(y, value)| *y = to_i8.apply_number(value));
        }
        Results::Sums(all) => all[at..][..sums.len()].copy_from_slice(sums),
    }
}

fn is_depthwise(shape: &ConvShape) -> bool {
    shape.groups == shape.window.in_c && shape.groups == shape.out_c && shape.groups > 1
}

/// Weights one by one of all that a filter covers.
fn filter_len(shape: &ConvShape) -> usize {
    let w = &shape.window;
    w.kernel_h.saturating_mul(w.kernel_w).saturating_mul(w.in_c / shape.groups)
}

/// A place of the window, and which rows and columns of the kernel are inside the image there.
struct Place<'p, 'a> {
    w: &'p Window,
    args: &'p ConvArgs<'a>,
    out_y: usize,
    out_x: usize,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<'a> Place<'_, 'a> {
    /// The input from the pixel on that is under a tap inside the image.
    #[inline]
    fn tap(&self, ky: usize, kx: usize) -> &'a [i8] {
        let w = self.w;
        let iy = self.out_y * w.stride_h + ky * w.dilation_h - w.pad_top;
        let ix = self.out_x * w.stride_w + kx * w.dilation_w - w.pad_left;
        &self.args.input[(iy * w.in_w + ix) * w.in_c..]
    }

    /// Of a row of the kernel, the columns inside.
    #[inline]
    fn inside(&self, ky: usize) -> Range<usize> {
        if self.rows.contains(&ky) { self.cols.clone() } else { self.w.kernel_w..self.w.kernel_w }
    }

    /// Adds the products of some channels under the window to the sums of filters.
    fn dense(&self, channels: Range<usize>, filters: Filters<'_>, values: &mut [i8; COLUMN]) {
        let len = channels.len();
        // Whether taps next to each other are so in memory.
        let joined = self.w.dilation_w == 1 && len == self.w.in_c;
        let mut column = Column { values, len: 0, start: 0, filters };
        for ky in 0..self.w.kernel_h {
            let inside = self.inside(ky);
            column.pad(inside.start * len, self.args.input_zp);
            if joined && !inside.is_empty() {
                column.copy(&self.tap(ky, inside.start)[..inside.len() * len]);
            } else {
                inside.clone().for_each(|kx| column.copy(&self.tap(ky, kx)[channels.clone()]));
            }
            column.pad((self.w.kernel_w - inside.end) * len, self.args.input_zp);
        }
        column.multiply();
    }

    /// Adds the products of some channels under the window, one by one, to their sums.
    fn depthwise<'t>(&self, first: usize, padding: &'t [i8; BLOCK], taps: &mut Taps<'t>, sums: &mut [i32])
    where
        'a: 't,
    {
        let channels = self.w.in_c;
        let mut weights = &self.args.weights[first..];
        taps.clear(sums.len());
        for ky in 0..self.w.kernel_h {
            let inside = self.inside(ky);
            for kx in 0..self.w.kernel_w {
                if taps.is_full() {
                    taps.multiply(weights, channels, sums);
                    weights = &weights[Taps::MOST * channels..];
                    taps.clear(sums.len());
                }
                taps.push(if inside.contains(&kx) { &self.tap(ky, kx)[first..] } else { padding });
            }
        }
        taps.multiply(weights, channels, sums);
    }
}

/// Some filters and their sums.
struct Filters<'a> {
    weights: &'a [u8],
    /// Weights of each.
    len: usize,
    count: usize,
    sums: &'a mut [i32; BLOCK],
}

impl Filters<'_> {
    /// Adds the products of values and of the weights of each filter from `start` on.
    #[inline(never)]
    fn multiply(&mut self, start: usize, values: &[i8]) {
        let (count, sums) = (self.count, self.sums.as_chunks_mut().0);
        let weights = &self.weights[start..];
        let done = pairs::products(values, weights, self.len, count, sums);
        if done == values.len() {
            return;
        }
        for (first, sums) in (0..count).step_by(FILTERS).zip(sums) {
            // Fewer filters repeat the last.
            let filter = |i| &weights[(count - 1).min(first + i) * self.len + done..];
            products(&values[done..], core::array::from_fn(filter), sums);
        }
    }
}

/// Adds the products of values and of the weights of four filters.
#[inline(always)]
fn products(values: &[i8], weights: [&[u8]; FILTERS], sums: &mut [i32; FILTERS]) {
    let [a, b, c, d] = weights.map(|weights| &weights[..values.len()]);
    let [mut sum_a, mut sum_b, mut sum_c, mut sum_d] = *sums;
    for i in 0..values.len() {
        let value = i32::from(values[i]);
        sum_a = sum_a.wrapping_add(value * i32::from(a[i] as i8));
        sum_b = sum_b.wrapping_add(value * i32::from(b[i] as i8));
        sum_c = sum_c.wrapping_add(value * i32::from(c[i] as i8));
        sum_d = sum_d.wrapping_add(value * i32::from(d[i] as i8));
    }
    *sums = [sum_a, sum_b, sum_c, sum_d];
}

/// What is under the window, in the order of weights, as far as it is not multiplied yet.
struct Column<'a> {
    values: &'a mut [i8; COLUMN],
    /// How many there are.
    len: usize,
    /// The weight of the first.
    start: usize,
    filters: Filters<'a>,
}

impl Column<'_> {
    fn pad(&mut self, mut len: usize, zero_point: i8) {
        while len > 0 {
            let room = self.room(len);
            room.fill(zero_point);
            len -= room.len();
        }
    }

    fn copy(&mut self, mut values: &[i8]) {
        if values.len() == self.filters.len {
            // All of it.
            return self.filters.multiply(0, values);
        }
        while !values.is_empty() {
            let room = self.room(values.len());
            let (here, rest) = values.split_at(room.len());
            room.copy_from_slice(here);
            values = rest;
        }
    }

    /// Room for as many of `len` values as there is.
    fn room(&mut self, len: usize) -> &mut [i8] {
        if self.len == COLUMN {
            self.multiply();
        }
        let from = self.len;
        self.len = COLUMN.min(from + len);
        &mut self.values[from..self.len]
    }

    fn multiply(&mut self) {
        if self.len > 0 {
            self.filters.multiply(self.start, &self.values[..self.len]);
        }
        self.start += self.len;
        self.len = 0;
    }
}
