//! The plan: one block of bytes that the executor runs in place.
//!
//! Everything is little-endian and written without gaps, each section starting where the one
//! before it ends:
//!
//! | section | bytes |
//! | --- | --- |
//! | header | [`HEADER_BYTES`]: magic, version, ISA, checksum, counts and sizes, the model's digest and name |
//! | descriptors | one record for each input, then one for each output |
//! | ops | one record of fixed size for each op, in execution order |
//! | names | UTF-8, not terminated |
//! | padding | zeros up to a multiple of [`ALIGN`] |
//! | data | packed weights, multipliers, tables; each block at a multiple of [`ALIGN`] |
//!
//! A plan that runs hop by hop keeps the start of its arena, its state, from one run to the next: what it computed of a window
//! and the next one has too. All other plans start anew with each run.
//!
//! Ops name what they read and write by section ([`Section`]): the arena, the data, or the slice that
//! the caller gives for an input or output. Inputs and outputs are therefore never copied. What a kernel
//! works in, its scratch, lies in the arena too, where no tensor is alive while it runs.
//!
//! [`Plan::parse`] checks all of it once: bounds, alignment, shapes against lengths, parameter
//! ranges, overlap, that no op writes to an input, that none reads what nothing has written, and that
//! each has the scratch that its kernel takes, apart from its tensors. What it returns can be run on any slices of the right number, length and alignment without a further check.
//!
//! [`Plan::read`] does the same for a plan that is packed for another CPU: what can be known of it without
//! running it. Running it is an error.
//!
//! - `wire`: fields as words; encoding and decoding in one place
//! - `op`: which ops there are, and what is asked of any; `operand`: what they work on. What each means is in
//!   `core/src/ops/`
//! - `part`: into how many parts ops are cut for several threads
//! - `verify`: what must hold before a plan may run; `rules`: what ops hold their fields to
//! - `builder` (feature `alloc`): writes a plan

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "alloc")]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "writes plans, and reads none")]
mod builder;
pub(crate) mod error;
mod op;
mod operand;
mod part;
pub(crate) mod rules;
#[cfg(all(test, feature = "alloc"))]
#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]
mod tests;
mod verify;
pub(crate) mod wire;

pub use crate::ops::*;
#[cfg(feature = "alloc")]
pub use builder::{AlignedBytes, BuildError, PlanBuilder};
pub use error::{Fault, FieldFault, PlanError};
pub use op::Op;
use op::OpRecord;
pub use operand::{ArenaSpan, Operand, Section};
pub use part::MAX_PARTS;
pub(crate) use verify::Verifier;
pub use wire::{DType, DataSpan};

use crate::isa::Isa;
use op::OP_BYTES;
use wire::{NameSpan, Wire, decode, record};

/// The first bytes of every plan.
pub const MAGIC: [u8; 8] = *b"TRACTLET";
/// The format's version. A plan of another version is refused: it can be rebuilt from its model.
///
/// It goes up with any change of what a record holds or means, or of how a kernel's weights are packed or what it works in:
/// plans lie in files, and an older one must not be run with kernels that it was not packed for.
pub const VERSION: u32 = 12;
/// What the plan, its data blocks and the arena are aligned to, in bytes.
pub const ALIGN: usize = 64;
/// Dimensions that an input or output can have.
pub const MAX_RANK: usize = 8;
/// Ops that a plan can have. Verifying them takes time in the square of it, and no more: a plan whose reads are
/// pieced together from so many writes that it would take longer is refused.
pub const MAX_OPS: usize = 1 << 13;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 128;
/// Bytes of the descriptor of an input or output.
const PORT_BYTES: usize = 64;
/// Where the checksum lies in the header. It covers all other bytes of the plan.
const CHECKSUM: core::ops::Range<usize> = 16..24;

record! {
    /// The name of an instruction set, in UTF-8 padded with zeros.
    #[derive(Eq)]
    pub struct IsaName {
        /// Four bytes a word, the first in the lowest.
        words: [u32; 4],
    }
}

impl IsaName {
    #[cfg(feature = "alloc")]
    #[expect(clippy::indexing_slicing, reason = "no name has more than 16 letters")]
    fn of(isa: Isa) -> Self {
        let mut words = [0; 4];
        for (index, byte) in isa.name().bytes().enumerate() {
            words[index / 4] |= u32::from(byte) << (index % 4 * 8);
        }
        Self { words }
    }

    /// The instruction set, if this build knows it.
    fn isa(self) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().bytes().eq(self.bytes()))
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        self.words.into_iter().flat_map(u32::to_le_bytes).take_while(|&byte| byte != 0)
    }
}

impl core::fmt::Display for IsaName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.bytes().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

record! {
    /// The header, after the magic.
    struct Header {
        version: u32,
        op_count: usize,
        checksum: u64,
        isa: IsaName,
        total_bytes: usize,
        input_count: usize,
        output_count: usize,
        names_bytes: usize,
        data_bytes: usize,
        arena_bytes: usize,
        scratch_bytes: usize,
        arena_lower_bound_bytes: usize,
        model_digest: [u32; 8],
        model_name: NameSpan,
        state_bytes: usize,
        window_axis: usize,
        window_rows: usize,
    }
}

/// How a plan runs that is given only what is new of each window: its first input is the part of a window of `window_rows`
/// along `axis` by which it differs from the window before, moved along by `rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The dimension of the first input that is time.
    pub axis: usize,
    /// Rows of a window along it.
    pub window_rows: usize,
    /// Rows from a window to the next: what a run takes.
    pub rows: usize,
}

impl Hop {
    /// Runs until the answer is that of a whole window, whatever the state was before: at the start, and behind a gap. What
    /// the first of them takes beyond a window does not matter.
    pub const fn runs(&self) -> usize {
        self.window_rows.div_ceil(self.rows)
    }
}

record! {
    /// The descriptor of an input or output.
    struct PortRecord {
        name: NameSpan,
        dtype: DType,
        rank: usize,
        dims: [usize; MAX_RANK],
    }
}

const _: () = assert!(MAGIC.len() + 4 * Header::WORDS <= HEADER_BYTES);
const _: () = assert!(4 * PortRecord::WORDS <= PORT_BYTES);

impl PortRecord {
    fn port<'p>(&self, name: &'p str) -> Port<'p> {
        Port { name, dtype: self.dtype, dims: self.dims, rank: self.rank }
    }
}

/// An input or output of the network: a slice of the caller's, dense and in the model's own layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port<'p> {
    /// Its name in the model.
    pub name: &'p str,
    /// Type of its elements, as the model states it.
    pub dtype: DType,
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Port<'_> {
    /// The shape that the model states, batch included.
    pub fn shape(&self) -> &[usize] {
        self.dims.get(..self.rank).unwrap_or(&self.dims)
    }

    /// Bytes of its elements.
    pub fn byte_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype.size_bytes()
    }
}

/// A verified plan, in bytes that it owns (`AlignedBytes`) or borrows (`&[u8]`).
///
/// The bytes must not change while the plan lives. Should they, in a file mapped shared, answers
/// become arbitrary and [`Plan::run`] may panic or fail.
#[derive(Clone, Debug)]
pub struct Plan<B> {
    bytes: B,
    header: Header,
    sections: SectionRanges,
    isa: Isa,
    /// Whether this CPU has `isa`.
    runs_here: bool,
}

/// Where the sections lie, in bytes from the start of the plan.
#[derive(Clone, Debug)]
struct SectionRanges {
    ports: core::ops::Range<usize>,
    ops: core::ops::Range<usize>,
    names: core::ops::Range<usize>,
    data: core::ops::Range<usize>,
}

impl SectionRanges {
    /// `None` if the sizes overflow.
    fn of(header: &Header) -> Option<Self> {
        let port_count = header.input_count.checked_add(header.output_count)?;
        let ports_end = port_count.checked_mul(PORT_BYTES)?.checked_add(HEADER_BYTES)?;
        let ops_end = header.op_count.checked_mul(OP_BYTES)?.checked_add(ports_end)?;
        let names_end = ops_end.checked_add(header.names_bytes)?;
        let data_start = names_end.checked_next_multiple_of(ALIGN)?;
        let data_end = data_start.checked_add(header.data_bytes)?;
        Some(Self {
            ports: HEADER_BYTES..ports_end,
            ops: ports_end..ops_end,
            names: ops_end..names_end,
            data: data_start..data_end,
        })
    }
}

impl<B: AsRef<[u8]>> Plan<B> {
    /// Bytes of the arena, the memory that [`Plan::run`] asks for: activations, and the scratch that
    /// kernels work in while an op runs. Inputs and outputs are the caller's and not in it.
    pub fn arena_bytes(&self) -> usize {
        self.header.arena_bytes
    }

    /// By how much the scratch of kernels makes the arena larger, as the planner states it.
    pub fn scratch_bytes(&self) -> usize {
        self.header.scratch_bytes
    }

    /// What the plan keeps from one run to the next: so many bytes at the start of its arena. 0 but for a plan that runs hop by
    /// hop.
    pub fn state_bytes(&self) -> usize {
        self.header.state_bytes
    }

    /// How it runs, if hop by hop: see [`Plan::run`].
    pub fn hop(&self) -> Option<Hop> {
        let Header { window_axis: axis, window_rows, .. } = self.header;
        let rows = self.inputs().next()?.shape().get(axis).copied()?;
        (window_rows > 0).then_some(Hop { axis, window_rows, rows })
    }

    /// The largest sum of tensors and scratch that are alive at once, as the planner states it: no arena
    /// can be smaller.
    pub fn arena_lower_bound_bytes(&self) -> usize {
        self.header.arena_lower_bound_bytes
    }

    /// Bytes of packed weights, multipliers and tables.
    pub fn data_bytes(&self) -> usize {
        self.header.data_bytes
    }

    /// The instruction set that the weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// SHA-256 of the model that the plan was made from, as big-endian words; zeros if not stated.
    pub fn model_digest(&self) -> [u32; 8] {
        self.header.model_digest
    }

    /// File name of the model that the plan was made from; empty if not stated.
    pub fn model_name(&self) -> &str {
        self.name(self.header.model_name)
    }

    /// Whether this CPU has the plan's instruction set: always, for a plan that [`Plan::parse`] gave.
    pub fn runs_here(&self) -> bool {
        self.runs_here
    }

    /// The plan's bytes: what a `.plan` file holds.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The network's inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Port<'_>> {
        (0..self.header.input_count).map(|index| self.port(index))
    }

    /// The network's outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Port<'_>> {
        let first = self.header.input_count;
        (0..self.header.output_count).map(move |index| self.port(first + index))
    }

    /// Whether an input is read, and by nothing that does not quantize it: NaN has no integer.
    pub fn quantizes(&self, input: usize) -> bool {
        let reads = |op: &Op| op.inputs().iter().any(|operand| operand.section == Section::Input(input));
        let mut readers = self.ops().map(|(_, op)| op).filter(reads).peekable();
        readers.peek().is_some() && readers.all(|op| matches!(op, Op::Quantize(_)))
    }

    /// The ops in execution order, each with the name of its node in the model.
    #[expect(clippy::expect_used, reason = "the verifier decoded every record")]
    pub fn ops(&self) -> impl ExactSizeIterator<Item = (&str, Op)> {
        self.op_records().iter().map(|bytes| {
            let record = OpRecord::decode(bytes).expect(VERIFIED);
            (self.name(record.name), record.op)
        })
    }

    pub(crate) fn op_records(&self) -> &[[u8; OP_BYTES]] {
        self.section(&self.sections.ops).as_chunks().0
    }

    /// The data section.
    #[inline]
    pub(crate) fn data(&self) -> &[u8] {
        self.section(&self.sections.data)
    }

    fn section(&self, range: &core::ops::Range<usize>) -> &[u8] {
        self.bytes.as_ref().get(range.clone()).unwrap_or_default()
    }

    #[expect(
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "the verifier decoded as many records as the header counts"
    )]
    fn port(&self, index: usize) -> Port<'_> {
        let (ports, _) = self.section(&self.sections.ports).as_chunks::<PORT_BYTES>();
        let record = decode::<PortRecord>(&ports[index]).expect(VERIFIED);
        record.port(self.name(record.name))
    }

    #[expect(clippy::expect_used, clippy::indexing_slicing, reason = "the verifier read every name")]
    fn name(&self, span: NameSpan) -> &str {
        let names = self.section(&self.sections.names);
        core::str::from_utf8(&names[span.offset..span.offset + span.len]).expect(VERIFIED)
    }
}

/// Why an access cannot fail.
const VERIFIED: &str = "the plan was verified and its bytes have not changed";

/// FNV-1a over 64-bit little-endian words, the checksum itself left out, with the high half folded into
/// the low one after each: a multiplication alone would carry a flipped top bit along untouched, and a
/// second one would undo it. Any change within one word changes the result.
fn checksum(plan: &[u8]) -> u64 {
    let (before, from) = plan.split_at(CHECKSUM.start.min(plan.len()));
    let after = from.get(CHECKSUM.len()..).unwrap_or_default();
    [before, after].into_iter().flat_map(|part| part.as_chunks::<8>().0).fold(
        0xcbf2_9ce4_8422_2325,
        |hash: u64, word| {
            let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^ (hash >> 32)
        },
    )
}
