//! How an instruction set wants weights: plain code, so that any machine packs for any other.

use crate::isa::Isa;
use crate::shape::ConvShape;

/// The shape of an instruction set's dot product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Accumulators in a register.
    pub lanes: usize,
    /// Input values in a quad: 4 or 8 bytes or 2 16-bit integers.
    pub taps: usize,
    /// Registers of accumulators that one output pixel spans at most.
    pub blocks: usize,
    /// Output pixels of a tile of a dense convolution.
    pub rows: usize,
    /// What is added to an input value to make it unsigned.
    pub offset: i32,
}

impl Layout {
    /// So many channels or fewer take half registers where registers have 16 lanes.
    pub const NARROW: usize = 8;
    pub const NARROW_VNNI: Layout = Layout { lanes: 8, taps: 4, blocks: 2, rows: 6, offset: 128 };

    pub const AVX2: Layout = Layout { lanes: 8, taps: 2, blocks: 2, rows: 6, offset: 0 };
    /// Quads of bytes on AVX2, for weights whose products of two fit 16 bits.
    pub const BYTES: Layout = Layout { lanes: 8, taps: 4, blocks: 2, rows: 1, offset: 128 };
    pub const NEON: Layout = Layout { lanes: 4, taps: 4, blocks: 2, rows: 6, offset: 0 };
    pub const DOTPROD: Layout = Layout { lanes: 4, taps: 4, blocks: 4, rows: 6, offset: 0 };
    /// Two channels of eight values are an operand: quads that are twice as long.
    pub const I8MM: Layout = Layout { lanes: 4, taps: 8, blocks: 4, rows: 6, offset: 0 };
    /// Of 16 registers, accumulators take eight: what is widened on the way needs the others.
    pub const NEON32: Layout = Layout { lanes: 8, taps: 2, blocks: 1, rows: 4, offset: 0 };

    /// What a dense convolution takes; `None` is plain code.
    pub fn gemm(isa: Isa, shape: &ConvShape) -> Option<Layout> {
        match isa {
            Isa::Avx512Vnni if shape.out_c <= Layout::NARROW => Some(Layout::NARROW_VNNI),
            Isa::Avx2 => Some(Layout::AVX2),
            Isa::Neon32 => Some(Layout::NEON32),
            Isa::Neon => Some(Layout::NEON),
            Isa::NeonI8mm if fills_eights(shape) => Some(Layout::I8MM),
            Isa::NeonDotprod | Isa::NeonI8mm => Some(Layout::DOTPROD),
            _ => Layout::depthwise(isa),
        }
    }

    /// The quads of a depthwise convolution; `None` where there are none.
    pub fn depthwise(isa: Isa) -> Option<Layout> {
        match isa {
            Isa::Generic | Isa::Avx2 | Isa::Neon32 | Isa::Neon => None,
            Isa::NeonDotprod | Isa::NeonI8mm => Some(Layout::DOTPROD),
            Isa::AvxVnni => Some(Layout::NARROW_VNNI),
            Isa::Avx512Vnni => Some(Layout { lanes: 16, taps: 4, blocks: 4, rows: 6, offset: 128 }),
        }
    }

    /// Registers whose lanes so many channels fill, the last of them not always whole.
    pub const fn registers(self, channels: usize) -> usize {
        // Lanes are known here only where the instruction set is, and a division takes long.
        let (lanes, shift) = (self.lanes, self.lanes.trailing_zeros());
        (channels >> shift) + (channels & (lanes - 1) != 0) as usize
    }

    /// Quads that so many values fill, likewise.
    pub const fn quads(self, values: usize) -> usize {
        let (taps, shift) = (self.taps, self.taps.trailing_zeros());
        (values >> shift) + (values & (taps - 1) != 0) as usize
    }

    /// Whether so many values that follow each other in the input can be read there: vectors have to end where they do, for
    /// nobody has slack there.
    pub const fn reads(self, values: usize) -> bool {
        self.is_plain() && values.is_multiple_of(16)
    }

    /// Bytes of an input value in a quad.
    pub const fn value_bytes(self) -> usize {
        if self.taps == 2 { 2 } else { 1 }
    }

    /// Bytes of a quad.
    pub const fn quad_bytes(self) -> usize {
        self.taps * self.value_bytes()
    }

    /// Whether quads are bytes of the input as they are.
    pub const fn is_plain(self) -> bool {
        self.value_bytes() == 1 && self.offset == 0
    }

    /// Four bytes whose values are all `value`.
    pub const fn quad(self, value: i8) -> [u8; 4] {
        let offset = (value as i16).wrapping_add(self.offset as i16).to_le_bytes();
        if self.value_bytes() == 1 { [offset[0]; 4] } else { [offset[0], offset[1], offset[0], offset[1]] }
    }

    /// Bytes of the corrections that packed weights begin with: an i32 a channel.
    pub fn header_len(self, channels: usize) -> usize {
        if self.offset == 0 { 0 } else { (self.registers(channels) * self.lanes * 4).next_multiple_of(64) }
    }

    /// Writes what `offset` adds to the accumulator of `channel` for `weights`, negated.
    pub fn put_correction(self, header: &mut [u8], channel: usize, weights: &[i8]) {
        if self.offset != 0 {
            let sum: i32 = weights.iter().copied().map(i32::from).sum();
            header[channel * 4..][..4].copy_from_slice(&sum.wrapping_mul(-self.offset).to_ne_bytes());
        }
    }
}

/// Whether there are several pixels, each with a window whose segments take few eights of values more than they have.
/// Matrices of two rows by eight multiply nothing faster otherwise.
fn fills_eights(shape: &ConvShape) -> bool {
    let w = &shape.window;
    let segment = if w.dilation_w == 1 { w.kernel_w.saturating_mul(w.in_c) } else { w.in_c };
    (w.out_h, w.out_w) != (1, 1) && (8 - segment % 8) % 8 <= segment / 4
}
