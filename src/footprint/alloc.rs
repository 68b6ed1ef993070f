//! The heap, counted: a global allocator that adds up what passes through it.

use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(target_env = "gnu")]
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use serde::Serialize;

use super::{cap, trace};

/// The system's allocator, with counters: a few relaxed atomic additions a call.
///
/// ```
/// use tractlet::footprint::{CountingAllocator, heap};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let before = heap();
/// drop(vec![0u8; 1000]);
/// assert!(heap().since(&before).allocated_bytes >= 1000);
/// ```
pub struct CountingAllocator;

/// What passed through the [`CountingAllocator`]; all zero where it is not installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heap {
    /// Calls that asked for memory, growing and shrinking included.
    pub allocations: u64,
    /// Bytes that they asked for, all together.
    pub allocated_bytes: u64,
    /// Bytes held now.
    pub live_bytes: usize,
    /// The most bytes held at once since the start, or since [`reset_heap_peak`].
    pub peak_bytes: usize,
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The number of the request that is to fail.
static FAILS: AtomicU64 = AtomicU64::new(0);

/// The counters as they stand.
pub fn heap() -> Heap {
    Heap {
        allocations: ALLOCATIONS.load(Relaxed),
        allocated_bytes: ALLOCATED.load(Relaxed),
        live_bytes: LIVE.load(Relaxed),
        peak_bytes: PEAK.load(Relaxed),
    }
}

/// Forgets the peak: from here on it is the most bytes held at once since this call.
pub fn reset_heap_peak() {
    PEAK.store(LIVE.load(Relaxed), Relaxed);
}

impl Heap {
    /// The counters that only grow, less what they were at `before`; live and peak as they are.
    pub fn since(&self, before: &Heap) -> Heap {
        Heap {
            allocations: self.allocations - before.allocations,
            allocated_bytes: self.allocated_bytes - before.allocated_bytes,
            ..*self
        }
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
// SAFETY: declared as in <malloc.h>. Both take locks of their own, and touch no block that is in use.
unsafe extern "C" {
    safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    safe fn malloc_trim(pad: usize) -> c_int;
}

/// Has all threads that are yet to be started take memory from the same heap, where the C library would give each one of its own.
///
/// glibc does, against waiting for each other, and trims them less well than the first. It is for programs whose threads do
/// not allocate all the time.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        /// From <malloc.h>.
        const M_ARENA_MAX: c_int = -8;
        // It refuses no value.
        mallopt(M_ARENA_MAX, 1);
    }
}

/// Gives back to the kernel what of the heap is free.
///
/// glibc keeps it for what is asked for next, so that a process that loaded a model has for good what loading took. Pages
/// that something lies in stay, as do those that a running thread keeps blocks of at hand. Other C libraries are left to
/// what they do by themselves, and an allocator of the caller's own is not asked.
pub fn give_back_free() {
    #[cfg(target_env = "gnu")]
    // Whether there was something to give back is all that it says.
    malloc_trim(0);
}

/// Has the `nth` request for heap from now on fail, from 1, as if there were no memory: for tests of what happens then.
#[doc(hidden)]
pub fn fail_request(nth: u64) {
    FAILS.store(ALLOCATIONS.load(Relaxed) + nth, Relaxed);
}

/// Before the memory is asked for: the cap is held against all requests, those of other threads included. Whether the
/// request may go on.
fn grown(bytes: usize) -> bool {
    let number = ALLOCATIONS.fetch_add(1, Relaxed) + 1;
    ALLOCATED.fetch_add(bytes as u64, Relaxed);
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    cap::hold(live, bytes);
    // Most calls do not set a record, and then share the line instead of owning it.
    if live > PEAK.load(Relaxed) {
        PEAK.fetch_max(live, Relaxed);
    }
    trace::note(live);
    number != FAILS.load(Relaxed)
}

/// There is no memory, or it is to seem so.
#[cold]
fn refused(bytes: usize) -> *mut u8 {
    shrunk(bytes);
    cap::exhausted(bytes);
    ptr::null_mut()
}

fn shrunk(bytes: usize) {
    trace::note(LIVE.fetch_sub(bytes, Relaxed) - bytes);
}

// SAFETY: every call goes to `System` with the arguments that came, and its answer goes back
// unchanged, or null is the answer, which says that there is no memory and leaves a block as it is; the counters, the trace and the cap touch no memory but their own, never allocate while a cap lets the
// call through, and never unwind.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !grown(layout.size()) {
            return refused(layout.size());
        }
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s too.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { refused(layout.size()) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !grown(layout.size()) {
            return refused(layout.size());
        }
        // SAFETY: as in `alloc`. Passed on, and not done by `alloc`, so that fresh pages stay untouched.
        let block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() { refused(layout.size()) } else { block }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: every block that we hand out is `System`'s, so this one is, with this layout.
        unsafe { System.dealloc(block, layout) };
        shrunk(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // In this order the peak counts both blocks, which a move holds at once.
        if !grown(new_size) {
            return refused(new_size);
        }
        // SAFETY: as in `dealloc`; the caller vouches for `new_size`.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if moved.is_null() {
            return refused(new_size);
        }
        shrunk(layout.size());
        moved
    }
}
