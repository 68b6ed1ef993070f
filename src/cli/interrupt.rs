//! Ctrl-C and SIGTERM while a file in the making has a name that must not stay: they wait until it has gone, a second one does not.

use std::fs;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

use super::failure::Failure;

static AT_ONCE: AtomicBool = AtomicBool::new(true);
/// Which one waits.
static WAITS: AtomicUsize = AtomicUsize::new(0);

/// Told by [`tractlet::whole`], of which there is something to see or no more.
pub fn put_off(is_visible: bool) {
    static LISTENS: Once = Once::new();
    if is_visible {
        LISTENS.call_once(listen);
        AT_ONCE.store(false, SeqCst);
        return;
    }
    AT_ONCE.store(true, SeqCst);
    if let Some(signal) = waiting() {
        // As if nobody had listened.
        let _ = emulate_default_handler(signal);
    }
}

/// Where a signal waits, all work ends here, and the process with the files that it has in the making.
pub fn heed() -> Result<(), Failure> {
    waiting().map_or(Ok(()), |signal| Err(format!("stopped by signal {signal}").into()))
}

fn waiting() -> Option<i32> {
    i32::try_from(WAITS.load(SeqCst)).ok().filter(|signal| *signal != 0)
}

fn listen() {
    for signal in [SIGINT, SIGTERM] {
        // Whoever starts a program in the background may have had it ignore Ctrl-C.
        if is_ignored(signal) {
            continue;
        }
        // In this order the first one does not end the process, and the second one does.
        let heard = flag::register_conditional_default(signal, &AT_ONCE)
            .and_then(|_| flag::register_usize(signal, &WAITS, signal.unsigned_abs() as usize))
            .and_then(|_| flag::register(signal, &AT_ONCE));
        if let Err(error) = heard {
            log::warn!("signal {signal} may leave an unfinished file behind: {error}");
        }
    }
}

fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
