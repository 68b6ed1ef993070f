//! A file whose reader may stall: writing waits for it, but once the stream is stopped not for long.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a write waits before it looks at the stop.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// How long what was decided may still take to be read after the stop.
pub const GRACE: Duration = Duration::from_secs(2);
/// A pipe that is ready has room for as much: PIPE_BUF.
const PIECE_BYTES: usize = 4096;

pub struct Writer {
    file: File,
    stop: Arc<AtomicBool>,
    /// Set by the first write that had to wait after the stop.
    until: Option<Instant>,
}

impl Writer {
    pub fn new(file: File, stop: Arc<AtomicBool>) -> Writer {
        Writer { file, stop, until: None }
    }

    fn is_ready(&self) -> io::Result<bool> {
        match poll(&mut [PollFd::new(&self.file.as_fd(), PollFlags::OUT)], Some(&NAP)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        while !self.is_ready()? {
            if self.stop.load(Relaxed) && Instant::now() > *self.until.get_or_insert_with(|| Instant::now() + GRACE) {
                let what = format!("whoever reads it took nothing for {GRACE:?} after the stop");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
        }
        self.file.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
