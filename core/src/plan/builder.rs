//! Writes plans.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::op::{OP_BYTES, Op, OpRecord};
use super::operand::Section;
use super::wire::{DType, DataSpan, NameSpan, Wire};
use super::{
    ALIGN, CHECKSUM, HEADER_BYTES, Header, IsaName, MAGIC, MAX_RANK, PORT_BYTES, Plan, PlanError, PortRecord,
    SectionRanges, VERSION, checksum,
};
use crate::isa::Isa;
use crate::kernels::ConvKernel;
use crate::shape::ConvShape;

/// Collects the parts of a plan and lays them out.
///
/// Where tensors and scratch lie in the arena is the caller's decision; how large the arena is
/// follows from it. Blocks of data that are equal are stored once.
#[derive(Clone, Debug)]
pub struct PlanBuilder {
    isa: Isa,
    inputs: Vec<PortRecord>,
    outputs: Vec<PortRecord>,
    ops: Vec<OpRecord>,
    names: String,
    data: Vec<u8>,
    blocks: Vec<DataSpan>,
    model_digest: [u32; 8],
    model_name: NameSpan,
    scratch_bytes: usize,
    arena_lower_bound_bytes: usize,
    state_bytes: usize,
    window: [usize; 2],
}

/// Why no plan was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An input or output has more than [`MAX_RANK`] dimensions.
    Rank {
        /// How many it has.
        rank: usize,
    },
    /// What was collected is no valid plan.
    Invalid(PlanError),
}

impl PlanBuilder {
    /// An empty plan for `isa`.
    pub fn new(isa: Isa) -> Self {
        Self {
            isa,
            inputs: Vec::new(),
            outputs: Vec::new(),
            ops: Vec::new(),
            names: String::new(),
            data: Vec::new(),
            blocks: Vec::new(),
            model_digest: [0; 8],
            model_name: NameSpan::default(),
            scratch_bytes: 0,
            arena_lower_bound_bytes: 0,
            state_bytes: 0,
            window: [0; 2],
        }
    }

    /// The instruction set that the plan is for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Makes room for this many further bytes of constants, and for the records and names of as many ops as a
    /// plan of `ops` will have: weights are most of a plan, and to move them would take as much memory again.
    pub fn reserve(&mut self, bytes: usize, ops: usize) -> &mut Self {
        self.data.reserve_exact(bytes + HEADER_BYTES + ops * (OP_BYTES + ALIGN) + ALIGN);
        self
    }

    /// States the model that the plan is made from: its file name, and its SHA-256 as big-endian words.
    pub fn model(&mut self, name: &str, digest: [u32; 8]) -> &mut Self {
        self.model_name = self.name(name);
        self.model_digest = digest;
        self
    }

    /// States what the arena is made of, for reports: by how much scratch makes it larger, and what it
    /// cannot be smaller than.
    pub fn arena_parts(&mut self, scratch_bytes: usize, lower_bound_bytes: usize) -> &mut Self {
        (self.scratch_bytes, self.arena_lower_bound_bytes) = (scratch_bytes, lower_bound_bytes);
        self
    }

    /// States that the plan runs hop by hop: along which dimension of its first input, of how many rows a window is, and how many
    /// bytes at the start of the arena it keeps. See [`Hop`](super::Hop).
    pub fn hop(&mut self, axis: usize, window_rows: usize, state_bytes: usize) -> &mut Self {
        (self.window, self.state_bytes) = ([axis, window_rows], state_bytes);
        self
    }

    /// Adds an input of the network, which ops name by its number, from 0.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] dimensions.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<&mut Self, BuildError> {
        let port = self.port(name, dtype, shape)?;
        self.inputs.push(port);
        Ok(self)
    }

    /// Adds an output of the network, which ops name by its number, from 0.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] dimensions.
    pub fn output(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<&mut Self, BuildError> {
        let port = self.port(name, dtype, shape)?;
        self.outputs.push(port);
        Ok(self)
    }

    /// Adds an op, to run after those that were added before. `name` is that of its node.
    pub fn op(&mut self, name: &str, op: impl Into<Op>) -> &mut Self {
        let name = self.name(name);
        self.ops.push(OpRecord { name, op: op.into() });
        self
    }

    /// Stores a constant: `i8`, `u8`, `i32` or `f32`.
    pub fn data<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> DataSpan {
        let offset = self.data.len();
        self.data.extend_from_slice(bytemuck::cast_slice(values));
        self.block(offset)
    }

    /// The same of values that lie nowhere yet.
    pub fn data_of<T: bytemuck::NoUninit>(&mut self, values: impl Iterator<Item = T>) -> DataSpan {
        let offset = self.data.len();
        values.for_each(|value| self.data.extend_from_slice(bytemuck::bytes_of(&value)));
        self.block(offset)
    }

    /// Packs and stores the weights of an int8 convolution, given as OHWI.
    pub fn conv_weights(&mut self, kernel: ConvKernel, shape: &ConvShape, weights: &[i8]) -> DataSpan {
        let offset = self.data.len();
        let mut len = kernel.max_packed_len(self.isa, shape);
        // In place, since weights may be most of what there is.
        if self.data.capacity() - offset < len {
            len = kernel.packed_len(self.isa, shape, weights);
        }
        self.data.resize(offset + len, 0);
        let len = kernel.pack(self.isa, shape, weights, &mut self.data[offset..]);
        self.data.truncate(offset + len);
        self.block(offset)
    }

    /// What was written from `offset` on is a block, unless there is one like it.
    fn block(&mut self, offset: usize) -> DataSpan {
        let (before, new) = self.data.split_at(offset);
        let equal = |span: &&DataSpan| before[span.offset..][..span.len] == *new;
        if let Some(&span) = self.blocks.iter().find(equal) {
            self.data.truncate(offset);
            return span;
        }
        let span = DataSpan { offset, len: new.len() };
        self.data.resize(self.data.len().next_multiple_of(ALIGN), 0);
        self.blocks.push(span);
        span
    }

    /// Stores the table of a quantized softmax: `exp(-d * input_scale)` for `d` in `0..256`.
    pub fn exp_table(&mut self, input_scale: f32) -> DataSpan {
        let table: [f32; 256] = core::array::from_fn(|d| libm::exp(-(d as f64) * f64::from(input_scale)) as f32);
        self.data(&table)
    }

    /// Lays the plan out and verifies it, for this CPU or another.
    ///
    /// # Errors
    /// [`BuildError::Invalid`] names the op and the field that break a rule.
    pub fn finish(self) -> Result<Plan<AlignedBytes>, BuildError> {
        self.finish_in()
    }

    /// As [`PlanBuilder::finish`], with the bytes held in the caller's way.
    ///
    /// # Errors
    /// As [`PlanBuilder::finish`].
    pub fn finish_in<B: AsRef<[u8]> + From<AlignedBytes>>(self) -> Result<Plan<B>, BuildError> {
        Plan::read(B::from(self.layout())).map_err(BuildError::Invalid)
    }

    fn layout(self) -> AlignedBytes {
        let written = self.ops.iter().flat_map(|record| [record.op.output(), record.op.scratch().into()]);
        let in_arena = written.filter(|operand| operand.section == Section::Arena);
        let arena_end = in_arena.map(|operand| operand.offset.saturating_add(operand.len)).max();

        let mut header = Header {
            version: VERSION,
            op_count: self.ops.len(),
            checksum: 0,
            isa: IsaName::of(self.isa),
            total_bytes: 0,
            input_count: self.inputs.len(),
            output_count: self.outputs.len(),
            names_bytes: self.names.len(),
            data_bytes: self.data.len(),
            arena_bytes: round_up(arena_end.unwrap_or(0)),
            scratch_bytes: self.scratch_bytes,
            arena_lower_bound_bytes: self.arena_lower_bound_bytes,
            model_digest: self.model_digest,
            model_name: self.model_name,
            state_bytes: self.state_bytes,
            window_axis: self.window[0],
            window_rows: self.window[1],
        };
        let sections = SectionRanges::of(&header).expect("what lies in memory has a size");
        header.total_bytes = sections.data.end;

        let mut plan = AlignedBytes::behind(sections.data.start, self.data);
        plan[..MAGIC.len()].copy_from_slice(&MAGIC);
        header.write(&mut words_of(&mut plan[MAGIC.len()..HEADER_BYTES]));
        let ports = plan[sections.ports.clone()].chunks_exact_mut(PORT_BYTES);
        for (bytes, port) in ports.zip(self.inputs.iter().chain(&self.outputs)) {
            port.write(&mut words_of(bytes));
        }
        for (bytes, record) in plan[sections.ops.clone()].chunks_exact_mut(OP_BYTES).zip(&self.ops) {
            record.encode(&mut words_of(bytes));
        }
        plan[sections.names].copy_from_slice(self.names.as_bytes());
        seal(&mut plan);
        plan
    }

    fn port(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<PortRecord, BuildError> {
        let rank = shape.len();
        let mut dims = [0; MAX_RANK];
        dims.get_mut(..rank).ok_or(BuildError::Rank { rank })?.copy_from_slice(shape);
        Ok(PortRecord { name: self.name(name), dtype, rank, dims })
    }

    fn name(&mut self, name: &str) -> NameSpan {
        let offset = self.names.len();
        self.names.push_str(name);
        NameSpan { offset, len: name.len() }
    }
}

/// Takes words and lays them from the front of `bytes`.
fn words_of(bytes: &mut [u8]) -> impl FnMut(u32) {
    let mut words = bytes.as_chunks_mut().0.iter_mut();
    move |word: u32| {
        if let Some(bytes) = words.next() {
            *bytes = word.to_le_bytes();
        }
    }
}

/// Writes the checksum of a complete plan into its header.
pub(super) fn seal(plan: &mut [u8]) {
    let checksum = checksum(plan);
    plan[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The next multiple of [`ALIGN`]; a size that has none is left for the verifier to refuse.
fn round_up(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(ALIGN).unwrap_or(bytes)
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank { rank } => write!(f, "{rank} dimensions, at most {MAX_RANK} fit"),
            Self::Invalid(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for BuildError {}

/// Heap bytes that start at a multiple of [`ALIGN`]: what a plan and its memory lie in.
#[derive(Debug)]
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// Bytes that are all zero.
    pub fn zeroed(len: usize) -> Self {
        // The allocation is never grown, so that it stays where it is.
        let bytes = vec![0; len + ALIGN - 1];
        Self { start: start_of(&bytes), bytes, len }
    }

    /// So many zeros, and `bytes` behind them, which stay where they are allocated if there is room: weights are most
    /// of a plan, and another copy of them would be most of its peak.
    fn behind(zeros: usize, mut bytes: Vec<u8>) -> Self {
        let (behind, len) = (bytes.len(), zeros + bytes.len());
        bytes.reserve_exact(zeros + ALIGN - 1);
        bytes.resize(len + ALIGN - 1, 0);
        // What was reserved for constants that are not there is not kept as long as the plan is; but a new allocation may be
        // there beside the old one, which a little room is not worth.
        if bytes.capacity() - bytes.len() > bytes.len() / 8 {
            bytes.shrink_to_fit();
        }
        let start = start_of(&bytes);
        bytes.copy_within(..behind, start + zeros);
        bytes[start..start + zeros].fill(0);
        Self { bytes, start, len }
    }
}

/// Where the first multiple of [`ALIGN`] is in bytes whose allocation is not grown any more.
fn start_of(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr().next_multiple_of(ALIGN) - bytes.as_ptr().addr()
}

impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.copy_from_slice(bytes);
        aligned
    }
}

/// Copies into an allocation of its own, which may need another start.
impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl core::ops::Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl core::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}
