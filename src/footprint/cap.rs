//! A cap on this process's memory, which holds while it works and is not only judged afterwards.
//!
//! What grows by request is counted before it is there: the heap, by [`super::CountingAllocator`], and copies of files.
//! Together they may take what the cap leaves beside all else that is resident: the program's pages, stacks, what
//! the allocator keeps spare. All else no program can refuse itself. It is measured where the cap is set and at each
//! [`Cap::check`], which also says if the process was larger than the cap in between.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::heap;
use super::proc::{self, Kinds};

/// What heap and copies of files may take together; without a cap all that there is.
static GRANT: AtomicUsize = AtomicUsize::new(usize::MAX);
static COPIES: AtomicUsize = AtomicUsize::new(0);
static CAP: AtomicU64 = AtomicU64::new(u64::MAX);
/// Stacks and the program's data as they were when little heap was held, all of which was in use.
static LEAST_REST: AtomicU64 = AtomicU64::new(0);
static REFUSE: OnceLock<fn(&Excess) -> !> = OnceLock::new();

/// A request for heap that the cap leaves no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// What was asked for.
    pub asked_bytes: usize,
    /// Heap and copies of files before that.
    pub held_bytes: usize,
    /// What the two may be, beside all else that is resident.
    pub grant_bytes: usize,
    /// The cap.
    pub cap_bytes: u64,
}

/// Something whose size is known ahead, and that the cap leaves no room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {asked_bytes} bytes, and the cap of {cap_bytes} on this process's memory leaves {left_bytes}")]
pub struct NoRoom {
    /// What it is.
    pub what: String,
    /// Its size.
    pub asked_bytes: usize,
    /// What heap and copies of files may still take.
    pub left_bytes: usize,
    /// The cap.
    pub cap_bytes: u64,
}

/// The process was larger than the cap, or the kernel does not say how large it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// /proc cannot be read.
    #[error("cannot tell what is resident: {0}")]
    Io(#[from] io::Error),
    /// Something that was not asked of the heap was too much.
    #[error("{peak_bytes} bytes were resident, above the cap of {cap_bytes}")]
    Over {
        /// The most that was resident.
        peak_bytes: u64,
        /// The cap.
        cap_bytes: u64,
        /// What is resident now.
        resident: Kinds,
        /// Of that the heap that is held.
        heap_bytes: usize,
    },
}

/// The cap, until it is dropped. There is one for the process.
#[derive(Debug)]
pub struct Cap(());

impl Cap {
    /// Sets it. `refuse` ends the process where a request for heap would pass it: it may allocate, and must not
    /// return; a panic in it aborts. It is the first that was ever set.
    ///
    /// # Errors
    /// Where the process is above it already.
    pub fn set(cap_bytes: u64, refuse: fn(&Excess) -> !) -> Result<Cap, CapError> {
        let resident = proc::kinds()?;
        LEAST_REST.store(resident.anon_bytes.saturating_sub(heap().live_bytes as u64), Relaxed);
        REFUSE.get_or_init(|| refuse);
        CAP.store(cap_bytes, Relaxed);
        let cap = Cap(());
        cap.check()?;
        Ok(cap)
    }

    /// Measures what is resident beside heap and copies of files, and holds all that was resident against the cap.
    ///
    /// # Errors
    /// Where the process was above it, or [`proc::reset_peak`] made the kernel forget and it is so now.
    pub fn check(&self) -> Result<(), CapError> {
        let (resident, heap_bytes) = (proc::kinds()?, heap().live_bytes);
        let (cap_bytes, copies) = (CAP.load(Relaxed), COPIES.load(Relaxed));
        let peak_bytes = proc::resident()?.peak_bytes.max(resident.all_bytes());
        if peak_bytes > cap_bytes {
            // The grant stays as it was: whoever says so needs some memory.
            return Err(CapError::Over { peak_bytes, cap_bytes, resident, heap_bytes });
        }
        GRANT.store(grant(cap_bytes, &resident, heap_bytes, copies, LEAST_REST.load(Relaxed)), Relaxed);
        Ok(())
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        GRANT.store(usize::MAX, Relaxed);
        CAP.store(u64::MAX, Relaxed);
    }
}

/// What a cap leaves for heap and copies. Heap that nobody touched yet is not resident and will be; so of private
/// memory the rest is at least what it was at first.
fn grant(cap: u64, resident: &Kinds, heap: usize, copies: usize, least_rest: u64) -> usize {
    let rest = resident.anon_bytes.saturating_sub(heap as u64).max(least_rest);
    let shared = resident.shmem_bytes.saturating_sub(copies as u64);
    let others = resident.file_bytes.saturating_add(rest).saturating_add(shared);
    usize::try_from(cap.saturating_sub(others)).unwrap_or(usize::MAX)
}

/// Whether something of a known size may be asked for.
///
/// # Errors
/// Where the cap leaves less; without a cap never.
pub fn room_for(what: impl Into<String>, bytes: usize) -> Result<(), NoRoom> {
    let grant = GRANT.load(Relaxed);
    let left_bytes = grant.saturating_sub(heap().live_bytes.saturating_add(COPIES.load(Relaxed)));
    if grant == usize::MAX || bytes <= left_bytes {
        return Ok(());
    }
    Err(NoRoom { what: what.into(), asked_bytes: bytes, left_bytes, cap_bytes: CAP.load(Relaxed) })
}

/// A copy of a file, counted while it is held.
#[derive(Debug)]
pub(crate) struct FileCopy(usize);

impl FileCopy {
    /// # Errors
    /// As [`room_for`].
    pub fn new(what: impl Into<String>, bytes: usize) -> Result<FileCopy, NoRoom> {
        room_for(what, bytes)?;
        COPIES.fetch_add(bytes, Relaxed);
        Ok(FileCopy(bytes))
    }
}

impl Drop for FileCopy {
    fn drop(&mut self) {
        COPIES.fetch_sub(self.0, Relaxed);
    }
}

/// The heap becomes `live_bytes` by a request for `asked_bytes`, if the cap leaves as much: else this does not return.
#[inline]
pub(super) fn hold(live_bytes: usize, asked_bytes: usize) {
    let held = live_bytes.saturating_add(COPIES.load(Relaxed));
    if held > GRANT.load(Relaxed) {
        refuse(held, asked_bytes);
    }
}

// An allocator must not unwind, whatever `REFUSE` does: out of this function nothing can.
#[cold]
extern "C" fn refuse(held_bytes: usize, asked_bytes: usize) {
    let Some(refuse) = REFUSE.get() else { return };
    // What it says takes memory too.
    let grant_bytes = GRANT.swap(usize::MAX, Relaxed);
    let cap_bytes = CAP.load(Relaxed);
    refuse(&Excess { asked_bytes, held_bytes: held_bytes.saturating_sub(asked_bytes), grant_bytes, cap_bytes })
}

/// What is called where the system has no memory for a request, in place of the abort that Rust's library ends with.
static EXHAUSTED: OnceLock<fn(usize) -> !> = OnceLock::new();
static IS_EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Sets what ends the process where the system has no memory for a request of so many bytes. It must not return, a panic
/// in it aborts, and what it asks of the heap in vain is the abort after all. It is the first that was ever set.
pub fn when_exhausted(end: fn(usize) -> !) {
    EXHAUSTED.get_or_init(|| end);
}

// As `refuse`.
#[cold]
pub(super) extern "C" fn exhausted(bytes: usize) {
    if let Some(end) = EXHAUSTED.get().filter(|_| !IS_EXHAUSTED.swap(true, Relaxed)) {
        end(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_leaves_what_else_is_not_resident() {
        let kinds = |anon_bytes, file_bytes, shmem_bytes| Kinds { anon_bytes, file_bytes, shmem_bytes };
        // 600 of files and 50 of stacks, beside a heap of 150 and a copy of 100.
        assert_eq!(grant(1000, &kinds(200, 600, 100), 150, 100, 50), 350);
        // A heap that nobody touched hides stacks, which are known from before.
        assert_eq!(grant(1000, &kinds(100, 600, 0), 500, 0, 50), 350);
        assert_eq!(grant(1000, &kinds(200, 600, 100), 150, 0, 50), 250);
        assert_eq!(grant(500, &kinds(200, 600, 0), 150, 0, 50), 0);
    }

    #[test]
    fn without_a_cap_there_is_room_for_all() {
        assert_eq!(room_for("all", usize::MAX), Ok(()));
        assert!(FileCopy::new("a file", usize::MAX / 2).is_ok());
    }
}
