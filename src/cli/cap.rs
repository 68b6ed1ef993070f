//! `--max-rss`: the cap on memory, and what is being done while it holds.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use tractlet::footprint::proc::{self, Kinds};
use tractlet::footprint::{Cap, CapError, Excess, heap};
use tractlet::whole::remove_unfinished;

use super::failure::Failure;
use super::{output, size};

static CAP: OnceLock<Cap> = OnceLock::new();
/// For the message where a request for heap is refused: there is no other way to tell who asked.
static DOING: Mutex<Cow<'static, str>> = Mutex::new(Cow::Borrowed("before a model was opened"));

/// Sets the cap, if one was asked for and there is none yet.
pub fn begin(most_bytes: Option<u64>) -> Result<(), Failure> {
    if let (Some(bytes), None) = (most_bytes, CAP.get()) {
        let cap = Cap::set(bytes, refuse).map_err(|error| told("before anything was loaded", &error))?;
        CAP.get_or_init(|| cap);
    }
    Ok(())
}

/// Holds the cap against what was done so far, and says what comes.
pub fn step(doing: String) -> Result<(), Failure> {
    check()?;
    let done = std::mem::replace(&mut *DOING.lock().unwrap_or_else(PoisonError::into_inner), doing.into());
    drop(done);
    Ok(())
}

/// Holds the cap against what was done so far.
pub fn check() -> Result<(), Failure> {
    let checked = CAP.get().map_or(Ok(()), Cap::check);
    checked.map_err(|error| told(&DOING.lock().unwrap_or_else(PoisonError::into_inner), &error))
}

fn told(doing: &str, error: &CapError) -> Failure {
    let CapError::Over { peak_bytes, cap_bytes, resident, heap_bytes } = error else {
        return format!("--max-rss: {error}").into();
    };
    let [peak, cap] = [*peak_bytes, *cap_bytes].map(size::exact);
    format!("{doing}: {peak} were resident, above --max-rss {cap} ({})", parts(resident, *heap_bytes)).into()
}

/// What is resident now, the largest first.
fn parts(resident: &Kinds, heap_bytes: usize) -> String {
    let held = resident.anon_bytes.min(heap_bytes as u64);
    let mut parts = [
        ("program and mapped files", resident.file_bytes),
        ("heap", held),
        ("copies of files", resident.shmem_bytes),
        ("stacks and the rest", resident.anon_bytes - held),
    ];
    parts.sort_by_key(|(_, bytes)| Reverse(*bytes));
    format!("now {}", parts.map(|(what, bytes)| format!("{what} {}", size::human(bytes))).join(", "))
}

/// Called within an allocation that may not be: nothing can be returned from here. What was being written is taken away. Nothing
/// else runs at exit: what asked for memory may hold a lock that it would wait for.
fn refuse(excess: &Excess) -> ! {
    let [asked, held, grant] = [excess.asked_bytes, excess.held_bytes, excess.grant_bytes].map(|b| b as u64);
    let doing = DOING.try_lock().map(|doing| doing.clone()).unwrap_or_default();
    let [asked, held, grant, cap] = [asked, held, grant, excess.cap_bytes].map(size::exact);
    let parts = proc::kinds().map_or(String::new(), |now| format!(" ({})", parts(&now, heap().live_bytes)));
    output::error(&format!(
        "{doing}: refused {asked} of heap: heap and copies of files are at {held}, and --max-rss {cap} leaves them \
         {grant} beside what else is resident{parts}"
    ));
    remove_unfinished();
    signal_hook::low_level::exit(1)
}

/// Called within an allocation for which the system has no memory, and asks for none itself.
pub fn exhausted(bytes: usize) -> ! {
    let mut text = [0; 512];
    let size = text.len();
    let mut room = text.as_mut_slice();
    let held = heap().live_bytes;
    // What is too long is cut off.
    let _ = match DOING.try_lock() {
        Ok(doing) => {
            write!(room, "error: {doing}: no memory for {bytes} bytes of heap more, beside {held} that are held")
        }
        Err(_) => write!(room, "error: no memory for {bytes} bytes of heap more, beside {held} that are held"),
    };
    let len = size - room.len();
    let text = text.get_mut(..len).unwrap_or_default();
    text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b'?');
    // Not through Rust's handle, whose lock may be held. Where stderr is gone there is nobody left to tell.
    let _ = rustix::io::writev(io::stderr().as_fd(), &[IoSlice::new(text), IoSlice::new(b"\n")]);
    remove_unfinished();
    signal_hook::low_level::exit(1)
}
