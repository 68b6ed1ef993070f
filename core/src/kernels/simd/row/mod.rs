//! Dense convolution to a single pixel, which is what a fully connected layer is: a vector times a
//! matrix, through products of bytes that are added two by two in 16 bits (AVX2).
//!
//! `vpmaddubsw` takes twice the weights that `vpmaddwd` does and takes them as they are stored, but
//! its sums of two saturate. Whether they can is known from the weights: where two of them add up to
//! no more than [`MAX_PAIR`], their sum with any two values of 0 to 255 fits. Packing lets no others
//! through. For each group of channels:
//!
//! - Input values are brought into an order of the group's own (`pairing`), in which few pairs of
//!   weights do not fit.
//! - A quad with a pair that does not fit is listed twice, with half of its weights each time. One
//!   without weights is not listed.

mod pairing;

use crate::isa::Isa;
use crate::kernels::conv::ConvArgs;
use crate::shape::ConvShape;

use super::Layout;
use super::ops::{Arrange, Epilogue, Rows, each, store, vectorized};
use super::params::Params;
use pairing::{SPAN, pair};

/// Input values that there are at most: the number of a quad is a byte.
const MAX_VALUES: usize = 4 << 8;
/// Channels of a block.
const LANES: usize = Layout::BYTES.lanes;
/// Blocks of a group, unless it is the last.
const BLOCKS: usize = 4;
/// Bytes of the weights of a quad of values for a block.
const QUAD: usize = LANES * Layout::BYTES.taps;
/// 255 times this is the most that fits an i16.
const MAX_PAIR: i16 = 128;

/// Whether `isa` takes such a convolution this way.
pub fn takes(isa: Isa, shape: &ConvShape) -> bool {
    let w = &shape.window;
    isa == Isa::Avx2 && w.is_whole() && w.in_h.saturating_mul(w.in_w).saturating_mul(w.in_c) <= MAX_VALUES
}

/// The sizes of such a convolution.
#[derive(Clone, Copy)]
struct Row {
    values: usize,
    out_c: usize,
}

/// A group of channels in packed weights: the order of the input values, its quads and their numbers.
struct Group<'a> {
    /// Its first channel, and how many there are.
    first: usize,
    len: usize,
    order: &'a [u8],
    weights: &'a [u8],
    numbers: &'a [u8],
}

impl Row {
    fn new(shape: &ConvShape) -> Row {
        let w = &shape.window;
        Row { values: w.in_h * w.in_w * w.in_c, out_c: shape.out_c }
    }

    /// Input values, filled up to whole spans.
    fn arranged(self) -> usize {
        self.values.next_multiple_of(SPAN)
    }

    /// Bytes before the groups: corrections, and how many quads each group has.
    fn header_len(self) -> usize {
        Layout::BYTES.header_len(self.out_c) + (self.groups().len() * 2).next_multiple_of(64)
    }

    /// Bytes of a group of so many channels with so many quads.
    fn group_len(self, len: usize, quads: usize) -> usize {
        self.arranged() + quads * len.div_ceil(LANES) * QUAD + quads.next_multiple_of(64)
    }

    /// The first channel of each group and how many it has.
    fn groups(self) -> impl ExactSizeIterator<Item = (usize, usize)> + use<> {
        let step = BLOCKS * LANES;
        (0..self.out_c.div_ceil(step)).map(move |group| (group * step, step.min(self.out_c - group * step)))
    }

    /// The groups as far as there are bytes of them.
    fn packed(self, packed: &[u8]) -> impl Iterator<Item = Group<'_>> + use<'_> {
        let (header, mut rest) = packed.split_at_checked(self.header_len()).unwrap_or_default();
        let counts = header.get(Layout::BYTES.header_len(self.out_c)..).unwrap_or_default().as_chunks::<2>().0;
        self.groups().zip(counts).map_while(move |((first, len), &count)| {
            let quads = usize::from(u16::from_le_bytes(count));
            let (order, tail) = rest.split_at_checked(self.arranged())?;
            let (weights, tail) = tail.split_at_checked(quads * len.div_ceil(LANES) * QUAD)?;
            let (numbers, tail) = tail.split_at_checked(quads.next_multiple_of(64))?;
            rest = tail;
            Some(Group { first, len, order, weights, numbers: &numbers[..quads] })
        })
    }
}

/// Bytes that packed weights take at most: every quad twice.
pub fn max_packed_len(shape: &ConvShape) -> usize {
    let row = Row::new(shape);
    row.groups().fold(row.header_len(), |all, (_, len)| all.saturating_add(row.group_len(len, row.arranged() / 2)))
}

/// Bytes that these OHWI `weights` take once they are packed.
pub fn packed_len(shape: &ConvShape, weights: &[i8]) -> usize {
    let row = Row::new(shape);
    let mut order = [0; MAX_VALUES];
    let order = &mut order[..row.arranged()];
    row.groups().fold(row.header_len(), |all, (first, len)| {
        let filters = &weights[first * row.values..][..len * row.values];
        pair_all(filters, row.values, order);
        let quads = (0..order.len() / 4).map(|quad| Quad::of(filters, row.values, order, quad).parts().len()).sum();
        all + row.group_len(len, quads)
    })
}

/// Whether `packed` is laid out as [`pack`] does it for `shape`.
pub fn holds(shape: &ConvShape, packed: &[u8]) -> bool {
    let row = Row::new(shape);
    let in_panel = |&number: &u8| usize::from(number) * 4 < row.arranged();
    let (mut groups, mut len) = (0, row.header_len());
    for group in row.packed(packed) {
        if !group.numbers.iter().all(in_panel) {
            return false;
        }
        groups += 1;
        len += row.group_len(group.len, group.numbers.len());
    }
    groups == row.groups().len() && len == packed.len()
}

/// Lays OHWI `weights` out and returns how many bytes that takes.
pub fn pack(shape: &ConvShape, weights: &[i8], dst: &mut [u8]) -> usize {
    let row = Row::new(shape);
    assert_eq!(weights.len(), row.out_c * row.values);
    dst.fill(0);
    let (header, mut rest) = dst.split_at_mut(row.header_len());
    for (channel, filter) in weights.chunks_exact(row.values).enumerate() {
        Layout::BYTES.put_correction(header, channel, filter);
    }
    let counts = &mut header[Layout::BYTES.header_len(row.out_c)..];
    let mut packed_len = row.header_len();
    for ((first, len), dst) in row.groups().zip(counts.chunks_exact_mut(2)) {
        let filters = &weights[first * row.values..][..len * row.values];
        let (order, quads) = rest.split_at_mut(row.arranged());
        pair_all(filters, row.values, order);
        let count = pack_quads(filters, row.values, order, quads);
        dst.copy_from_slice(&(count as u16).to_le_bytes());
        let group_len = row.group_len(len, count);
        rest = &mut rest[group_len..];
        packed_len += group_len;
    }
    packed_len
}

/// The order of the input values for a group.
fn pair_all(filters: &[i8], values: usize, order: &mut [u8]) {
    for (span, order) in order.as_chunks_mut::<SPAN>().0.iter_mut().enumerate() {
        pair(filters, values, span * SPAN, order);
    }
}

/// Four input values and the weights of a group for them.
struct Quad<'a> {
    filters: core::slice::ChunksExact<'a, i8>,
    taps: [usize; 4],
}

impl<'a> Quad<'a> {
    fn of(filters: &'a [i8], values: usize, order: &[u8], quad: usize) -> Quad<'a> {
        let taps = core::array::from_fn(|tap| quad * 4 / SPAN * SPAN + usize::from(order[quad * 4 + tap]));
        Quad { filters: filters.chunks_exact(values), taps }
    }

    /// Those of each channel, 0 beyond the last value.
    fn weights(&self) -> impl Iterator<Item = [i8; 4]> + use<'a> {
        let taps = self.taps;
        self.filters.clone().map(move |filter| taps.map(|tap| filter.get(tap).copied().unwrap_or(0)))
    }

    /// What is listed of each weight: nothing, all of it or a half each time.
    fn parts(&self) -> &'static [fn(i8) -> i8] {
        let misfit = |[a, b, c, d]: [i8; 4]| !(fits(a, b) && fits(c, d));
        match self.weights().all(|weights| weights == [0; 4]) {
            true => &[],
            _ if self.weights().any(misfit) => &[|w| w / 2, |w| w - w / 2],
            _ => &[|w| w],
        }
    }
}

/// The quads of a group, block by block in each, and their numbers; returns how many there are.
fn pack_quads(filters: &[i8], values: usize, order: &[u8], dst: &mut [u8]) -> usize {
    let step = (filters.len() / values).div_ceil(LANES) * QUAD;
    let mut numbers = [0; MAX_VALUES / 2];
    let mut count = 0;
    for quad in 0..order.len() / 4 {
        let weights = Quad::of(filters, values, order, quad);
        for part in weights.parts() {
            for (channel, weights) in weights.weights().enumerate() {
                dst[count * step + channel * 4..][..4].copy_from_slice(&weights.map(|w| part(w) as u8));
            }
            numbers[count] = quad as u8;
            count += 1;
        }
    }
    dst[count * step..][..count].copy_from_slice(&numbers[..count]);
    count
}

/// Whether the products of these weights with any two values of 0 to 255 add up to an i16.
fn fits(a: i8, b: i8) -> bool {
    // Weights of opposite signs always do, and their sum is no farther from 0 than they are.
    (i16::from(a) + i16::from(b)).abs() <= MAX_PAIR
}

/// Bytes that a run works in.
pub fn scratch_len(shape: &ConvShape) -> usize {
    Params::scratch_len(Layout::BYTES, shape.out_c, shape.out_c) + MAX_VALUES
}

/// Convolves, or returns `false` where weights or scratch are not as long as they have to be.
///
/// # Safety
/// The CPU has the instruction set; `args` otherwise [fit](ConvArgs::fit) `shape`, which this module
/// [takes].
pub unsafe fn run<S: Arrange>(shape: &ConvShape, args: &ConvArgs<'_>, output: &mut [i8], scratch: &mut [u8]) -> bool {
    let row = Row::new(shape);
    if args.weights.len() < row.header_len() || scratch.len() < scratch_len(shape) {
        return false;
    }
    let (params, panel) = Params::new(Layout::BYTES, args, shape.out_c, scratch);
    let (panel, out) = (panel.as_mut_ptr(), &Epilogue::from(&args.out));
    // What does not fill a span, in one that can be read as a whole.
    let (spans, rest) = args.input.as_chunks::<SPAN>();
    let mut tail = [0; SPAN];
    tail[..rest.len()].copy_from_slice(rest);
    // SAFETY: as the caller's; the panel has as many bytes as there are numbers of quads, times four.
    unsafe {
        vectorized!(S, {
            for group in row.packed(args.weights) {
                arrange::<S>((spans, &tail), group.order, panel);
                let dst = output[group.first..][..group.len].as_mut_ptr();
                match group.len.div_ceil(LANES) {
                    1 => product::<S, 1>(&group, params, panel, out, dst),
                    2 => product::<S, 2>(&group, params, panel, out, dst),
                    3 => product::<S, 3>(&group, params, panel, out, dst),
                    _ => product::<S, BLOCKS>(&group, params, panel, out, dst),
                }
            }
        });
    }
    true
}

/// Writes the input, whose last span is the second part, into the panel in the order of a group.
///
/// # Safety
/// The CPU has the instruction set; the panel has as many bytes as the order.
#[inline(always)]
unsafe fn arrange<S: Arrange>((spans, tail): (&[[i8; SPAN]], &[i8; SPAN]), order: &[u8], panel: *mut u8) {
    let spans = spans.iter().chain(core::iter::once(tail));
    for (i, (values, order)) in spans.zip(order.as_chunks::<SPAN>().0).enumerate() {
        // SAFETY: as the caller's.
        unsafe { S::arrange(values.as_ptr(), order.as_ptr(), panel.add(i * SPAN)) };
    }
}

/// The channels of a group, which are as many blocks.
///
/// # Safety
/// The CPU has the instruction set; the panel has [`MAX_VALUES`] bytes; `params` and `dst` are those of
/// all channels of the group.
#[inline(always)]
unsafe fn product<S: Arrange, const B: usize>(
    group: &Group<'_>,
    params: Params,
    panel: *const u8,
    out: &Epilogue,
    dst: *mut i8,
) {
    // SAFETY: as the caller's; a group has as many quads as numbers.
    unsafe {
        let mut acc: [S::Acc; B] = each!(|b| params.first::<S>(group.first + b * LANES));
        let mut weights = group.weights.as_ptr();
        for &number in group.numbers {
            let quad = S::broadcast(panel.add(usize::from(number) * 4));
            for (b, acc) in acc.iter_mut().enumerate() {
                *acc = S::dot(*acc, quad, S::load_weights(weights.add(b * QUAD)));
            }
            weights = weights.add(B * QUAD);
        }
        let to = Rows { dst, step: 0, len: group.len, rows: 1 };
        store::<S, 1, B>([acc], params.multiplier(group.first), out, to);
    }
}
