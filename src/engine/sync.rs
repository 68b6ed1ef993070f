//! What the threads of a session wait for each other by. `tests/loom` has a module of the same names, which a model checker
//! follows.

pub(super) use std::sync::atomic::AtomicUsize;
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::thread::{Builder, JoinHandle};
pub(super) use std::time::Instant;
