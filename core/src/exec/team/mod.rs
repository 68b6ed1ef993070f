//! Ops in parts.
//!
//! A run on several threads is a run on one, but for the ops that are worth more than telling another thread of
//! them ([`Op::parts`]): those are cut along their output, of which each part gets a piece of its own. Parts read
//! what they like and write nothing else, so that nothing is locked and no code here is unsafe. Threads are the
//! caller's, since there are none without an operating system.

#[cfg(all(test, feature = "alloc"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]
mod tests;

use core::mem::take;

use super::memory::{Input, Memory, Output, Split};
use crate::isa::Isa;
use crate::plan::{ALIGN, MAX_PARTS, Op};

/// Threads that do the parts of an op at the same time. `()` is the caller's thread alone.
pub trait Team {
    /// How many there are, the caller's among them.
    fn threads(&self) -> usize;

    /// Calls `work` once for each of `tasks`, in any order and on any thread, and returns when all are done.
    fn each<T: Send>(&mut self, tasks: &mut [T], work: impl Fn(&mut T) + Sync);
}

impl Team for () {
    #[inline]
    fn threads(&self) -> usize {
        1
    }

    #[inline]
    fn each<T: Send>(&mut self, tasks: &mut [T], work: impl Fn(&mut T) + Sync) {
        tasks.iter_mut().for_each(work);
    }
}

/// What there is too little of for an op.
pub(super) enum Lack {
    /// What it names is not there, or does not fit it.
    Memory,
    /// Scratch for its parts.
    Scratch,
}

/// A part of an op, and what came of it.
struct Task<'m, I, O> {
    op: Op,
    memory: Memory<'m, I, O>,
    done: Option<()>,
}

type Tasks<'m, I, O> = heapless::Vec<Task<'m, I, O>, MAX_PARTS>;

/// Runs an op, in `parts` where that is more than 1; they work in its own scratch and in `scratch`.
#[inline]
pub(super) fn run<I: Input, O: Output>(
    op: &Op,
    isa: Isa,
    parts: usize,
    team: &mut impl Team,
    memory: &mut Memory<'_, I, O>,
    scratch: &mut [u8],
) -> Result<(), Lack> {
    if parts < 2 {
        return op.run(isa, memory).ok_or(Lack::Memory);
    }
    run_parts(op, isa, parts, team, memory, scratch)
}

// Apart, for its tasks take 20 KiB of stack, which an op as a whole does not have to touch.
#[inline(never)]
fn run_parts<I: Input, O: Output>(
    op: &Op,
    isa: Isa,
    parts: usize,
    team: &mut impl Team,
    memory: &mut Memory<'_, I, O>,
    scratch: &mut [u8],
) -> Result<(), Lack> {
    let whole = memory.split_scratch(op.output(), op.scratch()).ok_or(Lack::Memory)?;
    let mut tasks = tasks(op, isa, parts, whole, scratch)?;
    team.each(&mut tasks, |task| task.done = task.op.run(isa, &mut task.memory));
    let done = tasks.iter().all(|task| task.done.is_some());
    if done { Ok(()) } else { Err(Lack::Memory) }
}

/// Cuts an op and what it has. Its own scratch serves one of the parts.
fn tasks<'m, I, O>(
    op: &Op,
    isa: Isa,
    count: usize,
    (rest, mut output, mut own): Split<'m, I, O>,
    mut scratch: &'m mut [u8],
) -> Result<Tasks<'m, I, O>, Lack> {
    let mut tasks = Tasks::new();
    for index in 0..count {
        let op = op.part(isa, index, count);
        let (piece, others) = take(&mut output).split_at_mut_checked(op.output().len).ok_or(Lack::Memory)?;
        output = others;
        let len = op.scratch_bytes(isa);
        let work = if len <= own.len() {
            take(&mut own)
        } else {
            let len = len.checked_next_multiple_of(ALIGN).ok_or(Lack::Scratch)?;
            let (work, others) = take(&mut scratch).split_at_mut_checked(len).ok_or(Lack::Scratch)?;
            scratch = others;
            work
        };
        let memory = Memory::Part { rest, output: piece, output_start: op.output().offset, scratch: work };
        tasks.push(Task { op, memory, done: None }).map_err(|_| Lack::Memory)?;
    }
    Ok(tasks)
}

/// Bytes of scratch that so many parts of an op take beyond its own; more than there can be if one is beyond reason.
pub(super) fn scratch_bytes(op: &Op, isa: Isa, count: usize) -> usize {
    let mut own = op.scratch().len;
    let mut beyond = |len: usize| match own.checked_sub(len) {
        Some(_) => {
            own = 0;
            0
        }
        None => len.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX),
    };
    match count {
        0 | 1 => 0,
        _ => {
            (0..count).map(|index| beyond(op.part(isa, index, count).scratch_bytes(isa))).fold(0, usize::saturating_add)
        }
    }
}
