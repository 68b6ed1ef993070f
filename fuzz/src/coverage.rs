//! Which code an input reaches, as counters that the compiler puts on every edge between blocks.
//!
//! `-Cpasses=sancov-module` with `-sanitizer-coverage-inline-8bit-counters` calls the function below before `main`,
//! with the counters of a module. Without those flags there are none, and the driver says so.

use std::sync::Mutex;

static COUNTERS: Mutex<Vec<Counters>> = Mutex::new(Vec::new());

/// The counters of a module: where they begin, and how many there are.
#[derive(Clone, Copy)]
struct Counters {
    start: usize,
    len: usize,
}

/// Is called by the instrumentation of each module, perhaps more than once.
///
/// # Safety
/// From `start` to `stop` lie counters of one byte that stay for as long as the program does, which instrumented code
/// alone writes to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let counters = Counters { start: start.expose_provenance(), len: stop.addr().saturating_sub(start.addr()) };
    let mut known = COUNTERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if counters.len > 0 && known.iter().all(|other| other.start != counters.start) {
        known.push(counters);
    }
}

impl Counters {
    fn clear(self) {
        // SAFETY: whoever called `__sanitizer_cov_8bit_counters_init` vouched for the range. This function's own
        // counters are among them, and are written to before and after the call, not by it.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(self.start), 0, self.len) }
    }

    /// As they stand, in `to`, which has as many bytes.
    fn copy(self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "room for all counters");
        // SAFETY: as in `clear`; `to` has been allocated, so it lies elsewhere, and its length was just compared.
        unsafe {
            let from = std::ptr::with_exposed_provenance::<u8>(self.start);
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), self.len);
        }
    }
}

/// What all inputs so far have reached.
pub struct Coverage {
    modules: Vec<Counters>,
    /// The counters after the last input.
    now: Vec<u8>,
    /// For each counter, which magnitudes it has had, one a bit.
    seen: Vec<u8>,
    reached: usize,
}

impl Coverage {
    /// Nothing reached yet; `None` where the program was built without counters.
    pub fn new() -> Option<Coverage> {
        let modules = COUNTERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let len: usize = modules.iter().map(|module| module.len).sum();
        (len > 0).then(|| Coverage { modules, now: vec![0; len], seen: vec![0; len], reached: 0 })
    }

    /// Forgets what ran since the last input.
    pub fn clear(&self) {
        self.modules.iter().for_each(|module| module.clear());
    }

    /// Takes what ran since [`Coverage::clear`] into account; tells whether any of it is new.
    pub fn take(&mut self) -> bool {
        let mut rest = self.now.as_mut_slice();
        for module in &self.modules {
            let (now, more) = rest.split_at_mut(module.len);
            module.copy(now);
            rest = more;
        }
        // An input reaches a hundredth of all. What is all zeros is passed over in large blocks, and then in small ones:
        // this code has counters too, and bytes taken one by one would be most of the time.
        const LARGE: usize = 4096;
        const SMALL: usize = 32;
        let mut new = false;
        for (now, seen) in self.now.chunks(LARGE).zip(self.seen.chunks_mut(LARGE)) {
            if now == &[0; LARGE][..now.len()] {
                continue;
            }
            for (now, seen) in now.chunks(SMALL).zip(seen.chunks_mut(SMALL)) {
                if now == &[0; SMALL][..now.len()] {
                    continue;
                }
                for (count, seen) in now.iter().zip(seen) {
                    let magnitude = magnitude(*count);
                    if magnitude & !*seen != 0 {
                        self.reached += usize::from(*seen == 0);
                        *seen |= magnitude;
                        new = true;
                    }
                }
            }
        }
        new
    }

    /// Edges that some input has taken, of all that there are.
    pub fn edges(&self) -> (usize, usize) {
        (self.reached, self.seen.len())
    }
}

/// 1, 2, 3, 4 to 7, 8 to 15, … as one bit each: a loop that runs once more is no news, one that runs twice as long is.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1..=3 => 1 << (count - 1),
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}
