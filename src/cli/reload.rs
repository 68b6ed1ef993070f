//! Whether a model can be loaded beside the one that runs.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tractlet::footprint::{heap, reset_heap_peak, room_for};

use super::failure::Failure;

/// Held from the first question for room until the model is loaded: streams of one process that exchange theirs at once
/// would all be given the same room.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOADING: Mutex<()> = Mutex::new(());
    LOADING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What it took to load the model. Under `--max-rss` an exchange that would take more than there is left has to be refused before
/// it begins: in its midst a request for heap that passes the cap ends the process.
pub struct Loading {
    heap_bytes: usize,
    file_bytes: u64,
}

impl Loading {
    pub fn measured<T>(model: &Path, load: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Loading), Failure> {
        let before = heap().live_bytes;
        reset_heap_peak();
        let loaded = load()?;
        let heap_bytes = heap().peak_bytes.saturating_sub(before);
        Ok((loaded, Loading { heap_bytes, file_bytes: file_bytes(model) }))
    }

    /// As much heap again for each byte of the file, and the copy of the file.
    pub fn may_happen_again(&self, model: &Path) -> Result<(), Failure> {
        let now = file_bytes(model);
        let heap_bytes = self.heap_bytes as f64 * (now as f64 / self.file_bytes.max(1) as f64).max(1.0);
        let bytes = heap_bytes + now as f64;
        room_for(format!("loading {} beside the model that runs", model.display()), bytes as usize)
            .map_err(|error| format!("--max-rss: {error}").into())
    }
}

/// 0 where it is not there, which loading it will tell.
fn file_bytes(model: &Path) -> u64 {
    std::fs::metadata(model).map_or(0, |file| file.len())
}
