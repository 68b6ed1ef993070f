//! Running a plan on slices that the caller gives.
//!
//! Inputs are read and outputs written where the caller has them. The memory is the arena, where
//! all other activations lie, and among them the scratch of kernels. One loop decodes a record,
//! borrows the slices it names and calls a kernel: no allocation, no state between runs but in the
//! memory that the caller gives, no unsafe code. Where the caller brings a [`Team`], an op that is worth it is done
//! in parts at the same time.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(all(test, feature = "alloc"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests run")]
pub(crate) mod fixtures;
pub(crate) mod memory;
mod team;
#[cfg(all(test, feature = "alloc"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]
mod tests;

use core::fmt;

use crate::isa::Isa;
use crate::plan::{ALIGN, Op, Plan, Port};
use memory::Memory;
use team::Lack;
pub use team::Team;

/// Called around every op of a run: profiling, and looking at activations.
pub trait Hook {
    /// Whether it is told of what ops leave, which then has to be looked up.
    #[inline]
    fn looks(&self) -> bool {
        true
    }

    /// Op number `index` is about to run.
    fn before(&mut self, index: usize);

    /// Op number `index` has run and left `output`.
    fn after(&mut self, index: usize, output: &[u8]);
}

/// Observes nothing and costs nothing.
impl Hook for () {
    #[inline]
    fn looks(&self) -> bool {
        false
    }

    #[inline]
    fn before(&mut self, _: usize) {}

    #[inline]
    fn after(&mut self, _: usize, _: &[u8]) {}
}

/// What the caller hands to a run for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Inputs, which are read.
    Input,
    /// Outputs, which are written.
    Output,
}

/// Why a run did not take place or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The plan is packed for an instruction set that this CPU does not have.
    Isa(Isa),
    /// The memory is smaller than [`Plan::memory_bytes`]; with a team this may be found at a later op.
    TooSmall {
        /// Bytes that the plan needs.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The memory does not start at a multiple of [`ALIGN`].
    Unaligned,
    /// The network has another number of inputs or outputs.
    Count {
        /// Of which there are too many or too few.
        role: Role,
        /// How many the network has.
        needed: usize,
        /// How many were given.
        given: usize,
    },
    /// An input or output has another length than its shape implies.
    Length {
        /// Whether it is an input or an output.
        role: Role,
        /// Which one.
        index: usize,
        /// Bytes of its elements.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// An input or output does not start at a multiple of the size of its elements.
    Misaligned {
        /// Whether it is an input or an output.
        role: Role,
        /// Which one.
        index: usize,
    },
    /// An index that this op was given lies outside of the tensor that it looks elements up in.
    Index {
        /// Which op, in execution order.
        index: usize,
    },
    /// This op's record is not what was verified: the plan's bytes have changed since.
    Damaged {
        /// Which op, in execution order.
        index: usize,
    },
}

impl<B: AsRef<[u8]>> Plan<B> {
    /// Runs the network once, on as many `inputs` and `outputs` as it has, in its order, each as long
    /// as [`Port::byte_len`] says and at a multiple of the size of its elements. `memory` has at least
    /// [`Plan::arena_bytes`] bytes and starts at a multiple of [`ALIGN`]; what it holds does not
    /// matter.
    ///
    /// A plan that runs [hop by hop](Plan::hop) is given only what is new of each window, and the memory of the run before,
    /// which it keeps the first [`Plan::state_bytes`] of. What the first of its runs finds there does not matter.
    ///
    /// # Errors
    /// Slices that do not fit, of which nothing has been written then. [`RunError::Damaged`] only if
    /// the plan's bytes have changed.
    pub fn run<I: AsRef<[u8]> + Sync, O: AsRef<[u8]> + AsMut<[u8]> + Send + Sync>(
        &self,
        memory: &mut [u8],
        inputs: &[I],
        outputs: &mut [O],
    ) -> Result<(), RunError> {
        self.run_with(memory, inputs, outputs, &mut ())
    }

    /// Like [`Plan::run`], with `hook` called around every op.
    ///
    /// # Errors
    /// Those of [`Plan::run`].
    pub fn run_with<I: AsRef<[u8]> + Sync, O: AsRef<[u8]> + AsMut<[u8]> + Send + Sync>(
        &self,
        memory: &mut [u8],
        inputs: &[I],
        outputs: &mut [O],
        hook: &mut impl Hook,
    ) -> Result<(), RunError> {
        self.run_on(&mut (), memory, inputs, outputs, hook)
    }

    /// Like [`Plan::run_with`], with a team to share the work among. `memory` has at least [`Plan::memory_bytes`] for
    /// its threads. The answers of a plan that was made by this library are the same bits, whatever the team; of another
    /// that verifies they are whatever it computes, and nothing worse.
    ///
    /// # Errors
    /// Those of [`Plan::run`].
    pub fn run_on<I: AsRef<[u8]> + Sync, O: AsRef<[u8]> + AsMut<[u8]> + Send + Sync>(
        &self,
        team: &mut impl Team,
        memory: &mut [u8],
        inputs: &[I],
        outputs: &mut [O],
        hook: &mut impl Hook,
    ) -> Result<(), RunError> {
        if !self.runs_here() {
            return Err(RunError::Isa(self.isa()));
        }
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(RunError::Unaligned);
        }
        let (needed, given) = (self.arena_bytes(), memory.len());
        let (arena, scratch) = memory.split_at_mut_checked(needed).ok_or(RunError::TooSmall { needed, given })?;
        fit(Role::Input, self.inputs(), inputs.iter().map(AsRef::as_ref))?;
        fit(Role::Output, self.outputs(), outputs.iter().map(AsRef::as_ref))?;
        let mut memory = Memory::Whole { arena, data: self.data(), inputs, outputs };
        for (index, record) in self.op_records().iter().enumerate() {
            let damaged = RunError::Damaged { index };
            hook.before(index);
            // It stays where it is decoded, for it is large.
            let decoded = Op::decode(record);
            let (op, None) = &decoded else { return Err(damaged) };
            let parts = op.parts(self.isa(), team.threads());
            team::run(op, self.isa(), parts, team, &mut memory, scratch).map_err(|lack| match lack {
                Lack::Memory if op.looks_up() => RunError::Index { index },
                Lack::Memory => damaged,
                Lack::Scratch => RunError::TooSmall { needed: self.memory_bytes(team.threads()), given },
            })?;
            if hook.looks() {
                let (_, output) = memory.split(op.output()).ok_or(damaged)?;
                hook.after(index, output);
            }
        }
        Ok(())
    }

    /// Bytes of memory that a run on a team of so many threads asks for: the arena, and what the parts of ops work in
    /// beyond the scratch that lies there. `usize::MAX` is more than there can be.
    pub fn memory_bytes(&self, threads: usize) -> usize {
        let beyond = |op: &Op| team::scratch_bytes(op, self.isa(), op.parts(self.isa(), threads));
        let most = self.op_records().iter().map(|record| beyond(&Op::decode(record).0)).max().unwrap_or(0);
        self.arena_bytes().saturating_add(most)
    }
}

/// Holds what the caller gives against what the plan states.
fn fit<'a>(
    role: Role,
    ports: impl ExactSizeIterator<Item = Port<'a>>,
    slices: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<(), RunError> {
    let (needed, given) = (ports.len(), slices.len());
    if needed != given {
        return Err(RunError::Count { role, needed, given });
    }
    for (index, (port, slice)) in ports.zip(slices).enumerate() {
        let (needed, given) = (port.byte_len(), slice.len());
        if needed != given {
            return Err(RunError::Length { role, index, needed, given });
        }
        if !slice.as_ptr().addr().is_multiple_of(port.dtype.size_bytes()) {
            return Err(RunError::Misaligned { role, index });
        }
    }
    Ok(())
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isa(isa) => write!(f, "the plan is for instruction set {isa}, which this CPU does not have"),
            Self::TooSmall { needed, given } => {
                write!(f, "the plan needs {needed} bytes of memory, {given} were given")
            }
            Self::Unaligned => write!(f, "memory is not {ALIGN}-byte aligned"),
            Self::Count { role, needed, given } => write!(f, "the plan has {needed} {role}s, {given} were given"),
            Self::Length { role, index, needed, given } => {
                write!(f, "{role} {index} takes {needed} bytes, {given} were given")
            }
            Self::Misaligned { role, index } => write!(f, "{role} {index} is not aligned to its elements"),
            Self::Index { index } => {
                write!(f, "op {index} was given an index outside of the tensor that it looks elements up in")
            }
            Self::Damaged { index } => {
                write!(f, "op {index} has changed since the plan was verified")
            }
        }
    }
}

impl core::error::Error for RunError {}
