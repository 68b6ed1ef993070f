//! What must hold before a plan may run.
//!
//! Here is what all ops share: bounds, overlap, scratch, reading only what was written. What differs
//! between them is with each op, in [`ops`](crate::ops).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use core::cell::Cell;

use bytemuck::AnyBitPattern;

use super::op::{OP_BYTES, Op, OpRecord};
use super::operand::{Operand, Section};
use super::rules::{exact, product, require, within};
use super::wire::{DataSpan, NameSpan, decode};
use super::{
    ALIGN, Fault, FieldFault, Header, MAGIC, MAX_OPS, MAX_RANK, PORT_BYTES, Plan, PlanError, Port, PortRecord,
    SectionRanges, VERSION, checksum,
};
use crate::isa::Isa;

/// The largest plan and the largest arena, so that no offset overflows on a 32-bit target.
pub(super) const MAX_BYTES: usize = i32::MAX as usize;
/// Ops that are looked at to find out who wrote what is read: as many as it takes where each of the most ops
/// reads two operands that one op wrote. Without it the time would grow with the cube of the ops.
const MAX_STEPS: usize = MAX_OPS * MAX_OPS;

impl<B: AsRef<[u8]>> Plan<B> {
    /// Verifies a plan that this CPU is to run.
    ///
    /// # Errors
    /// The first thing found wrong, with the record and the field.
    pub fn parse(bytes: B) -> Result<Self, PlanError> {
        let plan = Self::read(bytes)?;
        if plan.runs_here { Ok(plan) } else { Err(PlanError::Isa(plan.header.isa)) }
    }

    /// Verifies a plan for whichever CPU: all that [`Plan::parse`] does but for its instruction set
    /// being here.
    ///
    /// # Errors
    /// The first thing found wrong, with the record and the field.
    pub fn read(bytes: B) -> Result<Self, PlanError> {
        let plan = bytes.as_ref();
        let fields = plan.strip_prefix(&MAGIC).ok_or(PlanError::NotAPlan)?;
        if !plan.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(PlanError::Unaligned);
        }
        let found = decode(fields).map_err(PlanError::Header)?;
        if found != VERSION {
            return Err(PlanError::Version { found });
        }
        let header = decode::<Header>(fields).map_err(PlanError::Header)?;
        let sections = check_header(&header, plan.len()).map_err(PlanError::Header)?;
        if checksum(plan) != header.checksum {
            return Err(PlanError::Checksum);
        }
        let isa = header.isa.isa().ok_or(PlanError::Isa(header.isa))?;

        let plan = Self { bytes, header, sections, isa, runs_here: isa.is_available() };
        let verifier = Verifier {
            isa,
            arena_bytes: header.arena_bytes,
            state_bytes: header.state_bytes,
            ports: plan.section(&plan.sections.ports).as_chunks().0,
            ops: plan.op_records(),
            names: plan.section(&plan.sections.names),
            data: plan.data(),
            input_count: header.input_count,
            steps_left: Cell::new(MAX_STEPS),
        };
        let name = verifier.check_name(header.model_name);
        name.map_err(|fault| PlanError::Header(FieldFault::new("model_name", fault.fault)))?;
        verifier.check()?;
        verifier.check_hop(&header).map_err(PlanError::Header)?;
        Ok(plan)
    }
}

fn check_header(header: &Header, len: usize) -> Result<SectionRanges, FieldFault> {
    for (field, bytes) in [("data_bytes", header.data_bytes), ("arena_bytes", header.arena_bytes)] {
        require(bytes.is_multiple_of(ALIGN), field, Fault::Unaligned)?;
    }
    require(header.arena_bytes <= MAX_BYTES, "arena_bytes", Fault::OutOfRange)?;
    for (field, bytes) in
        [("scratch_bytes", header.scratch_bytes), ("arena_lower_bound_bytes", header.arena_lower_bound_bytes)]
    {
        require(bytes <= header.arena_bytes, field, Fault::OutOfRange)?;
    }
    let state_fits = header.state_bytes.is_multiple_of(ALIGN) && header.state_bytes <= header.arena_bytes;
    require(state_fits && (header.state_bytes == 0 || header.window_rows > 0), "state_bytes", Fault::OutOfRange)?;
    require(header.op_count <= MAX_OPS, "op_count", Fault::OutOfRange)?;
    require(header.output_count > 0, "output_count", Fault::OutOfRange)?;

    exact("total_bytes", header.total_bytes, len)?;
    let sections = SectionRanges::of(header).filter(|sections| sections.data.end <= MAX_BYTES);
    let sections = sections.ok_or(FieldFault::new("total_bytes", Fault::OutOfRange))?;
    exact("total_bytes", header.total_bytes, sections.data.end)?;
    Ok(sections)
}

/// The sections of a plan whose header is sound.
pub(crate) struct Verifier<'p> {
    pub(crate) isa: Isa,
    arena_bytes: usize,
    state_bytes: usize,
    ports: &'p [[u8; PORT_BYTES]],
    ops: &'p [[u8; OP_BYTES]],
    names: &'p [u8],
    data: &'p [u8],
    input_count: usize,
    steps_left: Cell<usize>,
}

impl Verifier<'_> {
    fn check(&self) -> Result<(), PlanError> {
        let (inputs, outputs) = self.ports.split_at(self.input_count);
        for (index, bytes) in inputs.iter().enumerate() {
            self.check_port(bytes).map_err(|fault| PlanError::Input(index, fault))?;
        }
        for (index, bytes) in outputs.iter().enumerate() {
            self.check_port(bytes).map_err(|fault| PlanError::Output(index, fault))?;
        }
        for (index, bytes) in self.ops.iter().enumerate() {
            let record = OpRecord::decode(bytes).map_err(|(kind, fault)| PlanError::Op { index, kind, fault })?;
            self.check_op(index, &record).map_err(|fault| PlanError::Op { index, kind: record.op.kind(), fault })?;
        }
        for index in 0..outputs.len() {
            let all = Operand::output(index, self.section_bytes(Section::Output(index)));
            self.check_written("dims", all, self.ops.len()).map_err(|fault| PlanError::Output(index, fault))?;
        }
        Ok(())
    }

    /// What a run takes is a part of a window.
    fn check_hop(&self, header: &Header) -> Result<(), FieldFault> {
        if header.window_rows == 0 {
            return Ok(());
        }
        let rows = self.port(Section::Input(0)).and_then(|port| port.shape().get(header.window_axis).copied());
        let rows = rows.ok_or(FieldFault::new("window_axis", Fault::OutOfRange))?;
        require(rows <= header.window_rows, "window_rows", Fault::OutOfRange)
    }

    fn check_port(&self, bytes: &[u8; PORT_BYTES]) -> Result<(), FieldFault> {
        let port = decode::<PortRecord>(bytes)?;
        self.check_name(port.name)?;
        require(port.rank <= MAX_RANK, "rank", Fault::OutOfRange)?;
        let dims = port.dims.get(..port.rank).unwrap_or_default();
        let count = product("dims", dims)?;
        require(count > 0, "dims", Fault::OutOfRange)?;
        product("dims", &[count, port.dtype.size_bytes()]).map(|_| ())
    }

    /// The descriptor of the input or output that a section is.
    fn port(&self, section: Section) -> Option<Port<'_>> {
        let (inputs, outputs) = self.ports.split_at_checked(self.input_count)?;
        let bytes = match section {
            Section::Input(index) => inputs.get(index)?,
            Section::Output(index) => outputs.get(index)?,
            Section::Arena | Section::Data => return None,
        };
        decode::<PortRecord>(bytes).ok().map(|record| record.port(""))
    }

    /// Length of a section; none where the network has no such input or output.
    fn section_bytes(&self, section: Section) -> usize {
        match section {
            Section::Arena => self.arena_bytes,
            Section::Data => self.data.len(),
            Section::Input(_) | Section::Output(_) => self.port(section).map_or(0, |port| port.byte_len()),
        }
    }

    /// Elements of this size can be read and written at `operand`, wherever its section starts: the
    /// arena and the data do at [`ALIGN`], a slice of the caller's at what its own elements need.
    pub(crate) fn check_alignment(
        &self,
        field: &'static str,
        operand: Operand,
        element_bytes: usize,
    ) -> Result<(), FieldFault> {
        let base = self.port(operand.section).map_or(ALIGN, |port| port.dtype.size_bytes());
        let aligned = base.is_multiple_of(element_bytes) && operand.offset.is_multiple_of(element_bytes);
        require(aligned, field, Fault::Unaligned)
    }

    fn check_op(&self, index: usize, record: &OpRecord) -> Result<(), FieldFault> {
        self.check_name(record.name)?;
        let op = &record.op;
        let output = op.output();
        require(output.len > 0, "output", Fault::OutOfRange)?;
        require(output.section.is_writable(), "output", Fault::ReadOnly)?;
        within("output", output.offset, output.len, self.section_bytes(output.section))?;
        for (position, input) in op.inputs().into_iter().enumerate() {
            let field = op.operation().input_names().get(position).copied().unwrap_or_default();
            within(field, input.offset, input.len, self.section_bytes(input.section))?;
            let in_place = position == 0 && op.in_place() && input == output;
            require(in_place || !overlap(input, output), field, Fault::Overlap)?;
            self.check_written(field, input, index)?;
        }
        op.check(self)?;
        self.check_scratch(op)
    }

    /// As much as the kernel takes, and apart from what the op reads and writes: the executor borrows
    /// all of them at once. The op's shape has been checked, which is what the length follows from.
    fn check_scratch(&self, op: &Op) -> Result<(), FieldFault> {
        let span = op.scratch();
        exact("scratch", span.len, op.scratch_bytes(self.isa))?;
        require(span.offset.is_multiple_of(ALIGN), "scratch", Fault::Unaligned)?;
        within("scratch", span.offset, span.len, self.arena_bytes)?;
        // What outlasts a run is not worked in.
        require(span.len == 0 || span.offset >= self.state_bytes, "scratch", Fault::Overlap)?;
        let apart = op.inputs().iter().chain([&op.output()]).all(|&operand| !overlap(span.into(), operand));
        require(apart, "scratch", Fault::Overlap)
    }

    fn check_name(&self, name: NameSpan) -> Result<(), FieldFault> {
        within("name", name.offset, name.len, self.names.len())?;
        let bytes = self.names.get(name.offset..).and_then(|bytes| bytes.get(..name.len));
        let utf8 = bytes.is_some_and(|bytes| core::str::from_utf8(bytes).is_ok());
        require(utf8, "name", Fault::NotUtf8)
    }

    /// Every byte that is read in the arena or in an output of the network lies in the output of an op
    /// before `reader`, or in the state, which holds something from the start. An op that writes part of its output, a strided copy, counts as writing all of it.
    ///
    /// Looks the writers up anew for each read and again for each part that another one wrote, since there is
    /// no memory to keep a map in: from the reader back, which is quadratic in the number of ops where what is
    /// read was written long before. [`MAX_STEPS`] bounds it where there are many writers.
    fn check_written(&self, field: &'static str, read: Operand, reader: usize) -> Result<(), FieldFault> {
        if !read.section.is_writable() {
            return Ok(());
        }
        let end = read.offset + read.len;
        let state_bytes = if read.section == Section::Arena { self.state_bytes } else { 0 };
        let mut covered = read.offset.max(state_bytes);
        while covered < end {
            let (mut next, mut steps) = (0, 0);
            // Mostly one of the last wrote it.
            for op in self.ops.iter().take(reader).rev() {
                steps += 1;
                let output = Op::decode(op).0.output();
                if output.section == read.section && output.offset <= covered {
                    next = next.max(output.offset + output.len);
                    if next >= end {
                        break;
                    }
                }
            }
            let left = self.steps_left.get().checked_sub(steps);
            self.steps_left.set(left.ok_or(FieldFault::new(field, Fault::TooManyWriters))?);
            require(next > covered, field, Fault::Unwritten)?;
            covered = next;
        }
        Ok(())
    }

    /// A block of `count` elements in the data section.
    pub(crate) fn block<T: AnyBitPattern>(
        &self,
        field: &'static str,
        span: DataSpan,
        count: usize,
    ) -> Result<&[T], FieldFault> {
        exact(field, span.len, product(field, &[count, size_of::<T>()])?)?;
        require(span.offset.is_multiple_of(ALIGN), field, Fault::Unaligned)?;
        within(field, span.offset, span.len, self.data.len())?;
        let bytes = self.data.get(span.offset..span.offset + span.len).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).map_err(|_| FieldFault::new(field, Fault::Unaligned))
    }
}

/// Whether an op cannot borrow both at once: an output of the network is borrowed whole.
fn overlap(a: Operand, b: Operand) -> bool {
    let whole = matches!(a.section, Section::Output(_)) && a.len > 0;
    a.section == b.section && (whole || a.offset < b.offset + b.len && b.offset < a.offset + a.len)
}
