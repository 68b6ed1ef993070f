//! Runs `src/engine/threads.rs` in every order that its threads may take, by loom: it stops each thread before each step
//! that another could notice, lets every other one go first, and does so again until no order is left.
//!
//! What holds in each of them: a task is done once, and by the time that `each` returns; nobody touches it afterwards; what
//! it panics with reaches the caller; a thread that sleeps is woken; every helper ends with the pool.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook};
use std::process::exit;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use tractlet_core::exec::Team;

mod sync;
#[path = "../../../src/engine/threads.rs"]
mod threads;

use sync::{ALIVE, FOLLOW_HINTS, REFUSE_SECOND, WAKE_FOR_NOTHING};
use threads::Threads;

/// A pool is started, called and dropped.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    helpers: usize,
    /// Tasks of each call.
    calls: &'static [usize],
    tasks: Tasks,
    mishap: Mishap,
    /// How often, in one order, a thread is stopped that could go on. Two helpers have too many orders to run all.
    preemptions: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tasks {
    End,
    /// Those of these indices end by a panic.
    Panic(&'static [usize]),
    /// None goes on before all have begun, which takes a thread for each.
    Meet,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    None,
    /// None either, but the hints to look out for are followed.
    Hints,
    WakeForNothing,
    RefuseSecond,
}

const ONE: Scenario = Scenario { helpers: 1, calls: &[], tasks: Tasks::End, mishap: Mishap::None, preemptions: None };
const TWO: Scenario = Scenario { helpers: 2, preemptions: Some(3), ..ONE };

const SCENARIOS: &[Scenario] = &[
    ONE,
    Scenario { calls: &[1, 1], ..ONE },
    Scenario { calls: &[2, 0], ..ONE },
    Scenario { calls: &[3, 3], ..ONE },
    Scenario { calls: &[3, 2], tasks: Tasks::Panic(&[1]), ..ONE },
    Scenario { calls: &[2, 2], tasks: Tasks::Panic(&[0, 1]), ..ONE },
    Scenario { calls: &[1, 2], tasks: Tasks::Meet, ..ONE },
    Scenario { calls: &[1, 1], mishap: Mishap::Hints, ..ONE },
    Scenario { calls: &[2, 2], mishap: Mishap::Hints, preemptions: Some(3), ..ONE },
    Scenario { calls: &[2, 1], mishap: Mishap::WakeForNothing, preemptions: Some(3), ..ONE },
    TWO,
    Scenario { calls: &[1, 2], ..TWO },
    Scenario { calls: &[3, 3], ..TWO },
    Scenario { calls: &[3, 1], tasks: Tasks::Panic(&[1, 2]), preemptions: Some(2), ..TWO },
    Scenario { calls: &[1, 3], tasks: Tasks::Meet, preemptions: Some(2), ..TWO },
    Scenario { calls: &[3, 3], mishap: Mishap::Hints, preemptions: Some(2), ..TWO },
    Scenario { calls: &[3, 1], mishap: Mishap::WakeForNothing, preemptions: Some(2), ..TWO },
    Scenario { mishap: Mishap::RefuseSecond, preemptions: None, ..TWO },
];

static ORDERS: AtomicUsize = AtomicUsize::new(0);
static HELPED: AtomicUsize = AtomicUsize::new(0);

fn main() {
    // The first fault is the last: nothing unwinds through a model that stands still. Planned panics do not come by here.
    set_hook(Box::new(|fault| {
        eprintln!("\nin order {ORDERS:?}: {fault}");
        exit(1);
    }));
    SCENARIOS.iter().copied().for_each(check);
}

fn check(mut scenario: Scenario) {
    let mut model = loom::model::Builder::new();
    // The environment's bound goes before.
    scenario.preemptions = scenario.preemptions.map(|bound| model.preemption_bound.unwrap_or(bound));
    model.preemption_bound = scenario.preemptions;
    eprint!("{scenario:?}: ");
    ORDERS.store(0, Relaxed);
    HELPED.store(0, Relaxed);
    FOLLOW_HINTS.store(scenario.mishap == Mishap::Hints, Relaxed);
    REFUSE_SECOND.store(scenario.mishap == Mishap::RefuseSecond, Relaxed);
    let start = Instant::now();
    model.check(move || {
        ORDERS.fetch_add(1, Relaxed);
        ALIVE.store(0, Relaxed);
        WAKE_FOR_NOTHING.store(scenario.mishap == Mishap::WakeForNothing, Relaxed);
        run(scenario);
    });
    eprintln!("{ORDERS:?} orders, {HELPED:?} tasks by helpers, {:.1} s", start.elapsed().as_secs_f64());
    let alone = scenario.calls.iter().all(|count| *count < 2);
    assert_eq!(HELPED.load(Relaxed) == 0, alone, "the first task is the caller's, others may be a helper's");
}

struct Task {
    index: usize,
    /// Loom tells when two threads come here, and nothing says which of them is first.
    touched: UnsafeCell<()>,
    done: usize,
}

/// One order.
fn run(scenario: Scenario) {
    let Ok(mut threads) = Threads::start(scenario.helpers + 1) else {
        assert_eq!(scenario.mishap, Mishap::RefuseSecond);
        assert_eq!(ALIVE.load(Relaxed), 0, "a helper outlives the pool");
        return;
    };
    // They outlive the threads, so that a touch that comes too late is still one of a task.
    let tasks = |count| (0..count).map(|index| Task { index, touched: UnsafeCell::default(), done: 0 }).collect();
    let mut calls: Vec<Vec<Task>> = scenario.calls.iter().copied().map(tasks).collect();
    for tasks in &mut calls {
        call(scenario, &mut threads, tasks);
    }
    drop(threads);
    assert_eq!(ALIVE.load(Relaxed), 0, "a helper outlives the pool");
}

fn call(scenario: Scenario, threads: &mut Threads, tasks: &mut [Task]) {
    let caller = thread::current().id();
    let (count, begun, all_begun) = (tasks.len(), Mutex::new(0), Condvar::new());
    let end = catch_unwind(AssertUnwindSafe(|| {
        threads.each(tasks, |task| {
            task.touched.with_mut(|_| task.done += 1);
            HELPED.fetch_add((thread::current().id() != caller).into(), Relaxed);
            match scenario.tasks {
                Tasks::End => {}
                Tasks::Panic(indices) if !indices.contains(&task.index) => {}
                Tasks::Panic(_) => resume_unwind(Box::new("planned")),
                Tasks::Meet => {
                    let mut begun = begun.lock().unwrap();
                    *begun += 1;
                    all_begun.notify_all();
                    while *begun < count {
                        begun = all_begun.wait(begun).unwrap();
                    }
                }
            }
        });
    }));
    for task in &mut *tasks {
        task.touched.with_mut(|_| assert_eq!(task.done, 1, "a task was not done once"));
    }
    let planned = matches!(scenario.tasks, Tasks::Panic(indices) if indices.iter().any(|index| *index < count));
    let what = end.map_err(|what| what.downcast_ref::<&str>().copied());
    assert_eq!(what, if planned { Err(Some("planned")) } else { Ok(()) });
}
