//! Planes: how a depthwise convolution is cut up, and where its quads lie.

use crate::shape::{ConvShape, Window};

use super::super::{Layout, panel::lying, params::Params};

/// What vectors may read or write beyond the end of scratch: four registers of quads.
const SLACK: usize = 256;

/// Bytes of quads of a piece of a line, but where it would be short beside the kernel.
const PIECE: usize = 16 << 10;

/// How a depthwise convolution is cut up.
///
/// A *plane* holds the quads of `taps` input rows. The kernel of an output row covers `groups` of
/// them; where strides allow, it finds all but the last among those of earlier output rows.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise {
    pub window: Window,
    /// Whether the image is one row, or a column taken for one, the quads of whose columns hold values of the columns that follow: as if it had four
    /// rows, each of them moved on by a tap.
    pub line: bool,
    /// Pixels of an output row that are done at a time, over one piece of it: all of them, but for a long line.
    pub pixels: usize,
    /// Channels of what a row is cut into: pixels, or runs of whole pixels where channels are few.
    pub channels: usize,
    /// Values between those.
    pub step: usize,
    pub groups: usize,
    /// Output rows between those whose next and whose previous group a plane is, if it is.
    pub reach: Option<usize>,
    /// Columns of quads under so many pixels.
    pub cols: usize,
}

impl Depthwise {
    pub fn new(layout: Layout, shape: &ConvShape) -> Depthwise {
        let line = lying(shape.window).is_row();
        let w = if line { shifted(layout, lying(shape.window)) } else { shape.window };
        let run = layout.lanes * layout.blocks;
        let runs = w.stride_w == 1 && (1..layout.lanes).contains(&w.in_c) && run.is_multiple_of(w.in_c);
        let channels = if runs { run } else { w.in_c };
        let group_rows = layout.taps * w.dilation_h;
        let span = w.kernel_w.saturating_sub(1) * w.dilation_w + 1;
        let pixels = if line { piece(&w, channels, span) } else { w.out_w };
        Depthwise {
            window: w,
            line,
            pixels,
            channels,
            step: if runs { run } else { w.stride_w * w.in_c },
            groups: w.kernel_h.div_ceil(layout.taps),
            reach: group_rows.is_multiple_of(w.stride_h).then(|| group_rows / w.stride_h.max(1)),
            cols: pixels.saturating_sub(1) * w.stride_w + span,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, layout: Layout) -> usize {
        self.taps().saturating_mul(self.lanes(layout) * 4).saturating_add(layout.header_len(self.channels))
    }

    /// Bytes that a run works in: parameters, a row of padding, and planes.
    pub fn scratch_len(&self, layout: Layout) -> usize {
        Params::scratch_len(layout, self.window.in_c, self.channels)
            .saturating_add(self.padding())
            .saturating_add(self.planes().saturating_mul(self.plane()))
            .saturating_add(SLACK)
    }

    /// Channels rounded up to whole blocks.
    pub fn lanes(&self, layout: Layout) -> usize {
        self.channels.next_multiple_of(layout.lanes)
    }

    /// Quads of a channel's weights.
    pub fn taps(&self) -> usize {
        self.window.kernel_w * self.groups
    }

    /// Values of an output row.
    pub fn out_row(&self) -> usize {
        self.window.out_w * self.window.in_c
    }

    /// Input columns left of the image, inside it, and right of it.
    pub fn columns(&self) -> [usize; 3] {
        let before = self.window.pad_left.min(self.cols);
        let inside = self.window.in_w.min(self.cols - before);
        [before, inside, self.cols - before - inside]
    }

    /// Bytes of a column of a plane.
    pub fn column(&self) -> usize {
        self.window.in_c * 4
    }

    /// Bytes of a plane.
    pub fn plane(&self) -> usize {
        self.cols.saturating_mul(self.column()).next_multiple_of(64)
    }

    /// Planes that are kept.
    pub fn planes(&self) -> usize {
        self.reach.map_or(self.groups, |reach| self.groups.saturating_sub(1).saturating_mul(reach) + 1)
    }

    /// Where the plane of group `group` is for an output row whose first one is in place `turn`.
    pub fn at(&self, turn: usize, group: usize) -> usize {
        if self.groups == 1 {
            return 0;
        }
        let place = turn + group * self.reach.unwrap_or(1);
        (if place < self.planes() { place } else { place - self.planes() }) * self.plane()
    }

    /// Whether an earlier output row has made that plane.
    pub fn made(&self, y: usize, group: usize) -> bool {
        group + 1 < self.groups && self.reach.is_some_and(|reach| y >= reach)
    }

    /// Bytes of padding that are read in a row.
    pub fn padding(&self) -> usize {
        // A column of a line is read by itself where there is padding.
        let cols = if self.line { 1 } else { self.window.in_w };
        cols.saturating_mul(self.window.in_c).next_multiple_of(64)
    }
}

/// A kernel over one row becomes one over as many rows as a quad has taps, and as many fewer columns.
fn shifted(layout: Layout, w: Window) -> Window {
    let taps = layout.taps;
    Window { kernel_h: taps, kernel_w: w.kernel_w.div_ceil(taps), dilation_w: w.dilation_w * taps, ..w }
}

/// Pixels of a line whose quads are few, and few of them made once more for the pixels that follow.
fn piece(w: &Window, channels: usize, span: usize) -> usize {
    let cols = (PIECE / (w.in_c.max(1) * 4)).max(span.saturating_mul(4));
    let runs = channels / w.in_c.max(1);
    (cols / w.stride_w.max(1)).next_multiple_of(runs.max(1)).min(w.out_w)
}
