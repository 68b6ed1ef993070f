//! How the weights of a product lie, and the window that they are multiplied with.

use super::super::Layout;
use super::super::panel::SLACK;
use super::super::params::Params;
use crate::shape::ConvShape;

/// A pixel's window as segments, and the channels that each is multiplied for.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    pub out_c: usize,
    /// Results from one pixel to the next.
    pub out_step: usize,
    /// Segments of a window, bytes between them, quads of each.
    pub outer: usize,
    pub outer_step: usize,
    pub inner: usize,
    pub inner_step: usize,
    pub quads: usize,
    /// Values of a segment.
    pub segment: usize,
}

impl Filter {
    /// That of the one window which is all of the input.
    pub fn whole(layout: Layout, shape: &ConvShape) -> Filter {
        let w = &shape.window;
        let segment = w.in_h * w.in_w * w.in_c;
        Filter {
            out_c: shape.out_c,
            out_step: shape.out_c,
            outer: 1,
            outer_step: 0,
            inner: 1,
            inner_step: 0,
            quads: layout.quads(segment),
            segment,
        }
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, layout: Layout) -> usize {
        self.block_bytes(layout)
            .saturating_mul(layout.registers(self.out_c))
            .saturating_add(layout.header_len(self.out_c))
    }

    /// Bytes that a run works in whose one window is all of the input.
    pub fn scratch_len(&self, layout: Layout) -> usize {
        let window = self.segment.saturating_mul(layout.value_bytes()).saturating_add(SLACK);
        Params::scratch_len(layout, self.out_c, self.out_c).saturating_add(window)
    }

    /// Bytes of the weights of a block of channels.
    pub fn block_bytes(&self, layout: Layout) -> usize {
        (self.outer * self.inner * self.quads).saturating_mul(layout.lanes * layout.taps)
    }

    /// The groups of blocks of channels that go together: the first block of each, and how many.
    pub fn groups(&self, layout: Layout) -> impl Iterator<Item = (usize, usize)> + use<> {
        let each = |run: Groups| (0..run.groups).map(move |group| (run.first + group * run.blocks, run.blocks));
        self.sizes(layout).into_iter().flat_map(each)
    }

    /// The groups of each of two sizes. They are alike: 5 blocks are 3 and 2, not 4 and 1.
    pub fn sizes(&self, layout: Layout) -> [Groups; 2] {
        let blocks = layout.registers(self.out_c);
        let groups = blocks.div_ceil(layout.blocks);
        let (small, large) = (blocks / groups.max(1), blocks % groups.max(1));
        let first = large * (small + 1);
        [Groups { first: 0, blocks: small + 1, groups: large }, Groups { first, blocks: small, groups: groups - large }]
    }
}

/// Groups of as many blocks of channels.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// The first block of the first group; the others follow.
    pub first: usize,
    /// Blocks of each.
    pub blocks: usize,
    pub groups: usize,
}
