//! Plain loops, for CPUs that there are no tiles for, and for channels that do not fill one.

use core::array;
use core::ops::Range;

use crate::shape::ConvShape;

use super::{BLOCK, ConvF32Args, Weights, blocks, group_in, group_out, is_depthwise, places};

/// Convolves slices that fit `shape`: of each block, the channels from `first` on.
pub(super) fn run(
    shape: &ConvShape,
    args: &ConvF32Args<'_>,
    output: &mut [f32],
    first: impl Fn(&Range<usize>) -> usize,
) {
    let w = &shape.window;
    if blocks(shape).all(|block| first(&block) == block.end) {
        return;
    }
    for (pixel, y) in output.chunks_exact_mut(shape.out_c).enumerate() {
        let (out_y, out_x) = (pixel / w.out_w, pixel % w.out_w);
        let (rows, columns) = (w.rows_inside(out_y), w.cols_inside(out_x));
        let pixel = Pixel { shape, args, out_y, out_x, rows, columns };
        for block in blocks(shape) {
            let mut first = first(&block);
            while first < block.end {
                // Only so many sums as are known beforehand are kept in registers.
                first += match block.end - first {
                    BLOCK.. => pixel.channels::<BLOCK>(first, &block, y),
                    8.. => pixel.channels::<8>(first, &block, y),
                    4.. => pixel.channels::<4>(first, &block, y),
                    3 => pixel.channels::<3>(first, &block, y),
                    2 => pixel.channels::<2>(first, &block, y),
                    _ => pixel.channels::<1>(first, &block, y),
                };
            }
        }
    }
}

struct Pixel<'a> {
    shape: &'a ConvShape,
    args: &'a ConvF32Args<'a>,
    out_y: usize,
    out_x: usize,
    /// Rows and columns of the kernel that are inside the image.
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Pixel<'_> {
    /// `N` channels of a block from the first on. Returns `N`.
    fn channels<const N: usize>(&self, first: usize, block: &Range<usize>, y: &mut [f32]) -> usize {
        let (shape, args, w) = (self.shape, self.args, &self.shape.window);
        let (group_in, depthwise) = (group_in(shape), is_depthwise(shape));
        let (weights, step) = match args.weights {
            Weights::Packed(values) => (&values[block.start * places(shape) + first - block.start..], block.len()),
            Weights::Rows(values) => (&values[first..], shape.out_c),
        };
        let channel = if depthwise { first } else { first / group_out(shape) * group_in };
        let mut sums: [f32; N] = array::from_fn(|c| args.bias[first + c]);
        for ky in self.rows.clone() {
            let iy = self.out_y * w.stride_h + ky * w.dilation_h - w.pad_top;
            for kx in self.columns.clone() {
                let ix = self.out_x * w.stride_w + kx * w.dilation_w - w.pad_left;
                let x = &args.input[(iy * w.in_w + ix) * w.in_c + channel..];
                let weights = &weights[(ky * w.kernel_w + kx) * group_in * step..];
                if depthwise {
                    let values = x[..N].iter().zip(&weights[..N]);
                    sums.iter_mut().zip(values).for_each(|(sum, (x, w))| *sum += x * w);
                } else {
                    for (c, x) in x[..group_in].iter().enumerate() {
                        sums.iter_mut().zip(&weights[c * step..][..N]).for_each(|(sum, w)| *sum += x * w);
                    }
                }
            }
        }
        y[first..][..N].iter_mut().zip(sums).for_each(|(y, sum)| *y = args.limit(sum));
        N
    }
}
