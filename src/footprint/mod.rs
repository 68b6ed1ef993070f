//! Memory: what a model takes, as the kernel and the allocator see it.
//!
//! [`Loading`] and [`Running`] are the two phases that are measured, with two sources: [`proc`], the
//! pages that the kernel keeps for the process, and [`CountingAllocator`], the bytes that the
//! program asked of its heap. The first is what a board runs out of; the second says whose fault it is.
//! [`Watch`] takes both over time, for a picture, and [`Cap`] holds them to a bound.
//!
//! ```
//! use tractlet::footprint::{Loading, heap};
//! use tractlet::{Model, Session, SessionOptions};
//!
//! let loading = Loading::start();
//! let model = Model::open("models/kws_dscnn/int8.onnx")?;
//! let mut session = Session::new(&model, SessionOptions::default())?;
//! let running = loading.loaded()?;
//! let (input, mut scores) = (vec![0f32; 49 * 10], vec![0f32; 12]);
//! let before = heap();
//! session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()])?;
//! let measured = running.finished(&before)?;
//! assert!(measured.peak_bytes() >= measured.load_peak_bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alloc;
mod cap;
pub mod proc;
mod trace;
mod watch;

use std::io;

use serde::Serialize;

pub use alloc::{CountingAllocator, Heap, fail_request, give_back_free, heap, reset_heap_peak, share_one_heap};
pub(crate) use cap::FileCopy;
pub use cap::{Cap, CapError, Excess, NoRoom, room_for, when_exhausted};
use proc::Faults;
pub use watch::{Sample, Timeline, Watch};

/// Memory of a process that loaded and ran a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// The most resident while the model was loaded.
    pub load_peak_bytes: u64,
    /// The most resident while it ran.
    pub run_peak_bytes: u64,
    /// Whether the kernel let the two peaks be told apart; if not, the second includes the first.
    pub peaks_apart: bool,
    /// Resident after the runs.
    pub rss_bytes: u64,
    /// Of that, this process's share; pages that others use too are divided among them.
    pub pss_bytes: Option<u64>,
    /// Of the resident: heap and stacks.
    pub rss_anon_bytes: u64,
    /// Of the resident: the program, its libraries, mapped files.
    pub rss_file_bytes: u64,
    /// Of the resident: shared memory, in which a model's snapshot lies.
    pub rss_shmem_bytes: u64,
    /// The most heap at once, loading and running.
    pub heap_peak_bytes: usize,
    /// The most heap at once while the model was loaded.
    pub load_heap_peak_bytes: usize,
    /// The most heap at once while it ran.
    pub run_heap_peak_bytes: usize,
    /// Heap after the runs.
    pub heap_live_bytes: usize,
    /// Heap allocations of loading.
    pub load_allocations: u64,
    /// Heap allocations of one run, the last.
    pub run_allocations: u64,
    /// Page faults of loading that needed no disk.
    pub load_minor_faults: u64,
    /// Page faults of loading that read from a disk.
    pub load_major_faults: u64,
    /// Page faults of all runs together that needed no disk.
    pub run_minor_faults: u64,
    /// Page faults of all runs together that read from a disk.
    pub run_major_faults: u64,
    /// What the main thread's stack spans: [`proc::stack_bytes`].
    pub stack_bytes: Option<u64>,
    /// What it ever touched of that: [`proc::stack_touched_bytes`].
    pub stack_touched_bytes: Option<u64>,
}

impl Measured {
    /// The most resident at any time: what a budget is held against.
    pub fn peak_bytes(&self) -> u64 {
        self.load_peak_bytes.max(self.run_peak_bytes)
    }
}

/// The first phase. The process should do nothing but load meanwhile.
#[derive(Debug)]
pub struct Loading {
    peaks_apart: bool,
    before: Heap,
    /// A fault in reading them is returned where the phase ends.
    faults: io::Result<Faults>,
}

/// The second phase: the model is loaded, and may run any number of times.
#[derive(Debug)]
pub struct Running {
    peaks_apart: bool,
    load_heap: Heap,
    load_peak_bytes: u64,
    load_faults: Faults,
    faults: Faults,
}

impl Loading {
    /// Begins to measure.
    pub fn start() -> Loading {
        Loading { peaks_apart: reset(), faults: proc::faults(), before: heap() }
    }

    /// The model is loaded.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn loaded(self) -> io::Result<Running> {
        let load_heap = heap().since(&self.before);
        let load_peak_bytes = proc::resident()?.peak_bytes;
        let faults = proc::faults()?;
        let load_faults = faults.since(self.faults?);
        let peaks_apart = reset() && self.peaks_apart;
        Ok(Running { peaks_apart, load_heap, load_peak_bytes, load_faults, faults: proc::faults()? })
    }
}

impl Running {
    /// Ends the measurement. `before` is the heap as it was before the last run.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn finished(self, before: &Heap) -> io::Result<Measured> {
        let run_heap = heap().since(before);
        let run_faults = proc::faults()?.since(self.faults);
        let resident = proc::resident()?;
        Ok(Measured {
            load_peak_bytes: self.load_peak_bytes,
            run_peak_bytes: resident.peak_bytes,
            peaks_apart: self.peaks_apart,
            rss_bytes: resident.rss_bytes,
            pss_bytes: proc::pss_bytes(),
            rss_anon_bytes: resident.anon_bytes,
            rss_file_bytes: resident.file_bytes,
            rss_shmem_bytes: resident.shmem_bytes,
            heap_peak_bytes: self.load_heap.peak_bytes.max(run_heap.peak_bytes),
            load_heap_peak_bytes: self.load_heap.peak_bytes,
            run_heap_peak_bytes: run_heap.peak_bytes,
            heap_live_bytes: run_heap.live_bytes,
            load_allocations: self.load_heap.allocations,
            run_allocations: run_heap.allocations,
            load_minor_faults: self.load_faults.minor,
            load_major_faults: self.load_faults.major,
            run_minor_faults: run_faults.minor,
            run_major_faults: run_faults.major,
            stack_bytes: proc::stack_bytes(),
            stack_touched_bytes: proc::stack_touched_bytes(),
        })
    }
}

fn reset() -> bool {
    reset_heap_peak();
    proc::reset_peak()
        .inspect_err(|error| {
            log::warn!("the peaks of loading and running cannot be told apart: /proc/self/clear_refs: {error}")
        })
        .is_ok()
}
