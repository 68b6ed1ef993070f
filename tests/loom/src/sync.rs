//! What stands in for `src/engine/sync.rs`: the same names, which a model checker follows, and the mishaps that these may have.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{self, AtomicBool, Ordering};
use std::sync::{Arc, LockResult};
use std::time::Duration;

use loom::sync as tracked;
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::JoinHandle;

/// Whether loom follows what is read without the lock, and with it every order that this may be seen in.
pub(crate) static FOLLOW_HINTS: AtomicBool = AtomicBool::new(false);
/// One thread that waits is woken for nothing, as operating systems may do.
pub(crate) static WAKE_FOR_NOTHING: AtomicBool = AtomicBool::new(false);
/// There is no second helper to be had.
pub(crate) static REFUSE_SECOND: AtomicBool = AtomicBool::new(false);

/// Helpers that have begun and not ended.
pub(crate) static ALIVE: atomic::AtomicUsize = atomic::AtomicUsize::new(0);

/// A look-out ends after one look. It stands for those of any length, since it gives no answer: who looked out takes the
/// lock and goes by what it finds there.
pub(crate) struct Instant;

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::MAX
    }
}

/// A hint for who looks out. For the same reason it is no step of the model where it is not to be followed.
#[derive(Default)]
pub(crate) struct AtomicUsize {
    hint: atomic::AtomicUsize,
    followed: tracked::atomic::AtomicUsize,
}

impl AtomicUsize {
    pub(crate) fn load(&self, order: Ordering) -> usize {
        if FOLLOW_HINTS.load(Relaxed) { self.followed.load(order) } else { self.hint.load(order) }
    }

    pub(crate) fn store(&self, value: usize, order: Ordering) {
        if FOLLOW_HINTS.load(Relaxed) {
            self.followed.store(value, order);
        } else {
            self.hint.store(value, order);
        }
    }
}

/// Loom's, which by itself wakes nobody for nothing.
#[derive(Default)]
pub(crate) struct Condvar {
    condvar: Arc<tracked::Condvar>,
}

impl Condvar {
    pub(crate) fn wait<'s, T>(&self, guard: MutexGuard<'s, T>) -> LockResult<MutexGuard<'s, T>> {
        if WAKE_FOR_NOTHING.swap(false, Relaxed) {
            let condvar = Arc::clone(&self.condvar);
            loom::thread::spawn(move || condvar.notify_all());
        }
        self.condvar.wait(guard)
    }

    pub(crate) fn notify_one(&self) {
        self.condvar.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.condvar.notify_all();
    }
}

/// Starts helpers, and counts them.
pub(crate) struct Builder {
    name: String,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { name: String::new() }
    }

    pub(crate) fn name(self, name: String) -> Builder {
        Builder { name }
    }

    pub(crate) fn stack_size(self, _: usize) -> Builder {
        self
    }

    pub(crate) fn spawn(self, life: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        if self.name.ends_with('2') && REFUSE_SECOND.load(Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ALIVE.fetch_add(1, Relaxed);
        loom::thread::Builder::new().spawn(|| {
            life();
            ALIVE.fetch_sub(1, Relaxed);
        })
    }
}
