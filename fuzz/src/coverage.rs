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

/// Counters that are looked at together.
const LARGE: usize = 4096;
const SMALL: usize = 32;

/// What all inputs so far have reached.
pub struct Coverage {
    modules: Vec<Counters>,
    /// How many counters there are.
    len: usize,
    /// The counters after the last input, and zeros up to a whole block.
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
        let room = len.next_multiple_of(LARGE);
        (len > 0).then(|| Coverage { modules, len, now: vec![0; room], seen: vec![0; room], reached: 0 })
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
        // An input reaches a hundredth of all, and seldom anything new. What is all zeros is passed over in large blocks, and
        // what is not in small ones at once: this code has counters too, and bytes taken one by one would be most of the time.
        let mut new = false;
        let blocks = self.now.as_chunks::<LARGE>().0.iter().zip(self.seen.as_chunks_mut::<LARGE>().0);
        for (now, seen) in blocks.filter(|(now, _)| **now != [0; LARGE]) {
            for (now, seen) in now.as_chunks::<SMALL>().0.iter().zip(seen.as_chunks_mut::<SMALL>().0) {
                let words = now.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
                let news = |(now, seen): (&u8, &u8)| magnitude(*now) & !*seen;
                if words.fold(0, |all, word| all | word) == 0
                    || now.iter().zip(&*seen).map(news).fold(0, |all, news| all | news) == 0
                {
                    continue;
                }
                for (count, seen) in now.iter().zip(seen) {
                    let magnitude = magnitude(*count);
                    self.reached += usize::from(*seen == 0 && magnitude != 0);
                    *seen |= magnitude;
                }
                new = true;
            }
        }
        new
    }

    /// Edges that some input has taken, of all that there are.
    pub fn edges(&self) -> (usize, usize) {
        (self.reached, self.len)
    }
}

/// 1, 2, 3, 4 to 7, 8 to 15, … as one bit each: a loop that runs once more is no news, one that runs twice as long is.
/// Without a branch, for many at a time.
fn magnitude(count: u8) -> u8 {
    let within = |from: u8, to: u8, bit: u8| u8::from(count >= from && count <= to) << bit;
    within(1, 1, 0)
        | within(2, 2, 1)
        | within(3, 3, 2)
        | within(4, 7, 3)
        | within(8, 15, 4)
        | within(16, 31, 5)
        | within(32, 127, 6)
        | within(128, 255, 7)
}
