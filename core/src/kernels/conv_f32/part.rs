//! Parts of an image under whose pixels the same taps are inside: nothing is padded, and no tap is asked for its place.

use core::iter;
use core::ops::Range;

use crate::shape::{ConvShape, Window};

use super::{group_in, is_depthwise};

/// Rows of fewer pixels, at the upper and lower edge of an image, are put together, whatever taps are inside.
const NARROW: usize = 4;
/// And with all between them, unless these have so many pixels.
const MANY: usize = 12;

/// Calls `then` with every part of the output of a convolution.
pub(super) fn each(shape: &ConvShape, mut then: impl FnMut(&Part)) {
    let w = &shape.window;
    let rows = || alike(w.out_h, w.kernel_h, |y| w.rows_inside(y));
    let middle = rows().find(|rows| w.rows_inside(rows.start) == (0..w.kernel_h)).unwrap_or(0..0);
    for columns in alike(w.out_w, w.kernel_w, |x| w.cols_inside(x)) {
        let part = |rows: Range<usize>| {
            if !rows.is_empty() {
                then(&Part::new(shape, rows, columns.clone()));
            }
        };
        if columns.len() >= NARROW || is_depthwise(shape) {
            rows().for_each(part);
        } else if middle.len() * columns.len() >= MANY {
            [0..middle.start, middle.clone(), middle.end..w.out_h].into_iter().for_each(part);
        } else {
            iter::once(0..w.out_h).for_each(part);
        }
    }
}

/// Rows of the output, or columns, next to each other under which the same ones of the kernel lie inside the image.
fn alike(size: usize, kernel: usize, inside: impl Fn(usize) -> Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    iter::from_fn(move || {
        let (first, these) = (next, (next < size).then(|| inside(next))?);
        let same = |&at: &usize| inside(at) == these;
        next = match these == (0..kernel) {
            // Those in the middle are many, and those after them few.
            true => (first..size).rfind(same)? + 1,
            false => (first..size).find(|at| !same(at)).unwrap_or(size),
        };
        Some(first..next)
    })
}

/// Pixels of the output under which the same columns of the kernel lie inside the image, and the same rows unless it says so.
pub(super) struct Part {
    pub(super) pixels: usize,
    /// Pixels of a row.
    width: usize,
    /// Whether some rows of the kernel are outside the image under some pixels.
    pub(super) ragged: bool,
    /// Rows and columns of the kernel that are inside the image; all rows if that differs.
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    first: Pixel,
    /// From a pixel to the next in its row, from one row to the next, and from the last of a row to the first of the next.
    step: Pixel,
    row: Pixel,
    turn: Pixel,
}

/// How many runs of taps next to each other so many columns of a kernel's row have under a pixel, and how many values each. Those of
/// neighbouring taps follow each other, unless something parts them.
pub(super) fn runs(shape: &ConvShape, columns: usize) -> (usize, usize) {
    let group_in = group_in(shape);
    let together = shape.groups == 1 && shape.window.dilation_w == 1;
    if together { (1, columns * group_in) } else { (columns, group_in) }
}

/// Where in the input the values under the first tap of a pixel begin, and its results in the output.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Pixel {
    /// So many times as far on; back where that wraps.
    #[inline(always)]
    fn plus(self, by: Pixel, times: usize) -> Pixel {
        let plus = |at: usize, by: usize| at.wrapping_add(by.wrapping_mul(times));
        Pixel { input: plus(self.input, by.input), output: plus(self.output, by.output) }
    }
}

impl Part {
    fn new(shape: &ConvShape, rows: Range<usize>, columns: Range<usize>) -> Part {
        let (w, out_c) = (&shape.window, shape.out_c);
        let (pixels, width, y, x) = (rows.len() * columns.len(), columns.len(), rows.start, columns.start);
        let (inside, columns) = (w.rows_inside(y), w.cols_inside(x));
        let ragged = inside != w.rows_inside(rows.end - 1);
        let rows = if ragged { 0..w.kernel_h } else { inside };
        // Of what is outside, nothing is read.
        let iy = (y * w.stride_h + rows.start * w.dilation_h).wrapping_sub(w.pad_top);
        let ix = (x * w.stride_w + columns.start * w.dilation_w).wrapping_sub(w.pad_left);
        let input = iy.wrapping_mul(w.in_w).wrapping_add(ix).wrapping_mul(w.in_c);
        let first = Pixel { input, output: (y * w.out_w + x) * out_c };
        let step = Pixel { input: w.stride_w * w.in_c, output: out_c };
        let row = Pixel { input: w.stride_h * w.in_w * w.in_c, output: w.out_w * out_c };
        let turn = row.plus(step, (width - 1).wrapping_neg());
        Part { pixels, width, ragged, rows, columns, first, step, row, turn }
    }

    /// How far the values under a tap, in a row of the kernel and the `column`th of those inside, are from where those of the
    /// pixel begin.
    #[inline(always)]
    pub(super) fn distance(&self, w: &Window, ky: usize, column: usize) -> usize {
        ((ky - self.rows.start) * w.dilation_h * w.in_w + column * w.dilation_w) * w.in_c
    }

    /// The row of the output that a pixel is in.
    #[inline(always)]
    pub(super) fn row_of(&self, pixel: Pixel) -> usize {
        pixel.output / self.row.output
    }

    /// Tiles of so many pixels, of which there are as many. The last one begins early enough to be whole, and its first pixels
    /// are computed twice.
    #[inline(always)]
    pub(super) fn tiles<const ROWS: usize>(&self) -> impl Iterator<Item = [Pixel; ROWS]> {
        let last = (self.pixels - 1) / ROWS;
        let (mut next, mut x) = (self.first, 0);
        (0..=last).map(move |tile| {
            if tile == last {
                let from = self.pixels - ROWS;
                x = from % self.width;
                next = self.first.plus(self.row, from / self.width).plus(self.step, x);
            }
            let mut pixels = [self.first; ROWS];
            // Most tiles are in one row and not at its end.
            if x + ROWS < self.width {
                for pixel in &mut pixels {
                    *pixel = next;
                    next = next.plus(self.step, 1);
                }
                x += ROWS;
                return pixels;
            }
            for pixel in &mut pixels {
                *pixel = next;
                x += 1;
                if x < self.width {
                    next = next.plus(self.step, 1);
                } else {
                    (next, x) = (next.plus(self.turn, 1), 0);
                }
            }
            pixels
        })
    }
}
