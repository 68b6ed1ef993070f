//! The threads of a session on the plan engine: started with it and stopped with it. Telling them of work allocates
//! nothing.
//!
//! Who runs an op hands its parts out under a lock, and takes parts too, as long as there are some: a thread that
//! comes late costs nothing, since its part is done by then. The ops of a run follow each other within microseconds, so a
//! thread without work looks out for more for [`PATIENCE`], which is dearer than to sleep and sooner there; then it sleeps
//! until it is woken. Between runs, nothing spins.
//!
//! `make loom` runs this file in every order that its threads may take: `tests/loom`.

#![allow(unsafe_code)]

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tractlet_core::exec::Team;

use super::sync::{AtomicUsize, Builder, Condvar, Instant, JoinHandle, Mutex, MutexGuard};

/// How long a thread looks out for work, or for the end of others' work, before it sleeps: longer than waking one takes.
const PATIENCE: Duration = Duration::from_micros(50);
/// A thread's stack, of which kernels touch less than a tenth.
const STACK_BYTES: usize = 256 << 10;

/// The caller's thread and those that help it.
pub(super) struct Threads {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Whether there is something to hand out, and whether something handed out is being done: what is looked at
    /// without the lock, to know when it is worth taking.
    open: AtomicUsize,
    running: AtomicUsize,
    /// There is work, or there will be none any more.
    work: Condvar,
    /// A helper has started, or the last task is done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Tasks that were handed out, of how many.
    next: usize,
    count: usize,
    /// Tasks that were handed out and are not done.
    running: usize,
    started: usize,
    sleeping: usize,
    closing: bool,
    /// What a task ended with in place of its end.
    panic: Option<Box<dyn Any + Send>>,
}

/// A function and the tasks that it is called on, without their types and lifetimes.
#[derive(Clone, Copy)]
struct Job {
    tasks: *mut (),
    work: *const (),
    /// # Safety
    /// The job is not over, and no other call has this index.
    call: unsafe fn(Job, usize),
}

// SAFETY: `Job::new` asks for tasks that may be sent to another thread, and for a function that threads may share.
unsafe impl Send for Job {}

impl Job {
    fn new<T: Send, W: Fn(&mut T) + Sync>(tasks: &mut [T], work: &W) -> Job {
        unsafe fn call<T, W: Fn(&mut T)>(job: Job, index: usize) {
            // SAFETY: tasks and function are those of `Job::new` and there until the job is over; there is a task of
            // this index, and it is nobody else's.
            unsafe { (*job.work.cast::<W>())(&mut *job.tasks.cast::<T>().add(index)) }
        }
        Job { tasks: tasks.as_mut_ptr().cast(), work: std::ptr::from_ref(work).cast(), call: call::<T, W> }
    }
}

impl Threads {
    /// The caller's thread and `count - 1` helpers.
    pub fn start(count: usize) -> io::Result<Threads> {
        let mut threads = Threads { shared: Arc::default(), helpers: vec![] };
        for index in 1..count {
            let shared = Arc::clone(&threads.shared);
            let builder = Builder::new().name(format!("plan {index}")).stack_size(STACK_BYTES);
            threads.helpers.push(builder.spawn(move || shared.serve())?);
        }
        // What a thread takes to start is spent before the first run.
        let mut state = threads.shared.lock();
        while state.started < threads.helpers.len() {
            state = threads.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Ok(threads)
    }
}

impl Team for Threads {
    fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    fn each<T: Send>(&mut self, tasks: &mut [T], work: impl Fn(&mut T) + Sync) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        (state.job, state.next, state.count) = (Some(Job::new(tasks, &work)), 0, tasks.len());
        shared.open.store(tasks.len(), Ordering::Relaxed);
        if state.sleeping > 0 {
            shared.work.notify_all();
        }
        let mut state = shared.help(state);
        // From here on nothing is handed out. What was is waited for, whatever comes: the tasks are borrowed.
        if state.running > 0 {
            drop(state);
            look_out(|| shared.running.load(Ordering::Relaxed) == 0);
            state = shared.lock();
            while state.running > 0 {
                state = shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.job = None;
        let panic = state.panic.take();
        drop(state);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches what its tasks panic with.
            drop(helper.join());
        }
    }
}

impl Shared {
    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A helper's life.
    fn serve(&self) {
        let mut state = self.lock();
        state.started += 1;
        self.done.notify_one();
        while !state.closing {
            state = self.help(state);
            drop(state);
            look_out(|| self.open.load(Ordering::Relaxed) > 0);
            state = self.lock();
            while state.next == state.count && !state.closing {
                state.sleeping += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleeping -= 1;
            }
        }
    }

    /// Does tasks until all are handed out.
    fn help<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        while let Some(job) = state.job.filter(|_| state.next < state.count) {
            let index = state.next;
            state.next += 1;
            state.running += 1;
            self.publish(&state);
            drop(state);
            // SAFETY: each index is handed out once, under the lock, and counted as running until it is done; `each`
            // does not return before.
            let end = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job, index) }));
            state = self.lock();
            state.running -= 1;
            state.panic = state.panic.take().or(end.err());
            self.publish(&state);
            if state.running == 0 && state.next == state.count {
                self.done.notify_one();
            }
        }
        state
    }

    fn publish(&self, state: &State) {
        self.open.store(state.count - state.next, Ordering::Relaxed);
        self.running.store(state.running, Ordering::Relaxed);
    }
}

/// Looks out for `news`, for a while. It does not say whether there are any: what is read without the lock decides nothing.
fn look_out(news: impl Fn() -> bool) {
    let start = Instant::now();
    while !news() && start.elapsed() < PATIENCE {
        for _ in 0..16 {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once_and_by_more_than_one_thread() {
        for count in [1, 2, 5] {
            let mut threads = Threads::start(count).unwrap();
            assert_eq!(threads.threads(), count);
            let mut who = std::collections::HashSet::new();
            // Until all have come; a thread that never does would hang the test.
            for tasks in (1..=16).cycle() {
                let mut sums = vec![(0, None); tasks];
                threads.each(&mut sums, |(sum, by)| {
                    *sum += 1;
                    *by = Some(std::thread::current().id());
                    std::thread::yield_now();
                });
                assert!(sums.iter().all(|(sum, _)| *sum == 1));
                who.extend(sums.into_iter().filter_map(|(_, by)| by));
                if who.len() == count && tasks == 16 {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_task_that_panics_does_so_to_the_caller_when_all_are_done() {
        let mut threads = Threads::start(3).unwrap();
        let mut done = [false; 8];
        let mut tasks: Vec<(usize, &mut bool)> = done.iter_mut().enumerate().collect();
        let call = AssertUnwindSafe(|| {
            threads.each(&mut tasks, |(index, done)| {
                assert!(*index != 3, "three");
                **done = true;
            });
        });
        assert_eq!(catch_unwind(call).unwrap_err().downcast_ref::<&str>(), Some(&"three"));
        assert_eq!(done.iter().filter(|done| **done).count(), 7);
        // And they go on working.
        let mut sums = [0; 4];
        threads.each(&mut sums, |sum| *sum += 1);
        assert_eq!(sums, [1; 4]);
    }

    #[test]
    fn sleeping_threads_wake_and_stop() {
        let mut threads = Threads::start(2).unwrap();
        while threads.shared.lock().sleeping == 0 {
            std::thread::yield_now();
        }
        let mut sums = [0; 2];
        threads.each(&mut sums, |sum| *sum += 1);
        assert_eq!(sums, [1; 2]);
        drop(threads);
    }
}
