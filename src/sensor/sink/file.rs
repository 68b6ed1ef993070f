//! Files that decisions are appended to: what was there before a restart stays.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sensor::Control;

/// How long it sleeps until it looks again whether somebody reads a pipe.
const PATIENCE: Duration = Duration::from_millis(200);
/// In which a table's header ends.
const HEADER_BYTES: usize = 8 * 1024;

/// For appending. A pipe is waited for until somebody reads it, or the stream is stopped.
pub(super) fn open(path: &Path, control: &Control) -> io::Result<File> {
    let is_pipe = || path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut waits = false;
    let file = loop {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::NXIO) if is_pipe() => {}
            opened => break opened?,
        }
        if control.is_stopped() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "stopped before anybody read it"));
        }
        if !std::mem::replace(&mut waits, true) {
            log::warn!("{}: waiting for who reads it", path.display());
        }
        thread::sleep(PATIENCE);
    };
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(File::from(file))
}

/// What is in a file already.
#[derive(Default)]
pub(super) struct Found {
    /// How it begins; empty where there is nothing.
    pub start: Vec<u8>,
    /// The last line does not end: whoever wrote it was killed, or had no room.
    pub torn: bool,
}

pub(super) fn found(path: &Path, file: &File) -> io::Result<Found> {
    let metadata = file.metadata()?;
    let Some(last) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else { return Ok(Found::default()) };
    let (mut end, mut start) = ([0], vec![0; HEADER_BYTES]);
    let file = File::open(path)?;
    file.read_exact_at(&mut end, last)?;
    let read = file.read_at(&mut start, 0)?;
    start.truncate(read);
    Ok(Found { start, torn: end != *b"\n" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::decide::{Decision, Verdict};
    use crate::sensor::sink::{SinkOptions, SinkSpec};

    #[test]
    fn what_is_appended_begins_on_a_line_of_its_own() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.jsonl");
        let spec: SinkSpec = format!("json:{}", path.display()).parse().unwrap();
        for (before, after) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"win", "{}\n{\"win\n")] {
            std::fs::write(&path, before).unwrap();
            spec.open(&SinkOptions::default(), &Control::default()).unwrap().flush().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up_at_the_stop_and_a_reader_that_leaves_is_told_of() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let spec: SinkSpec = format!("json:{}", path.display()).parse().unwrap();
        let control = Control::default();
        let open = || spec.open(&SinkOptions::default(), &control);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let mut sink = open().unwrap();
        drop(reader);
        let verdict = Verdict::Anomaly { score: 0.0, limit: None, alarm: false };
        let decision =
            Decision { window: 0, from_s: 0.0, to_s: 1.0, verdict, changed: false, latency_us: 0, message: None };
        let error = sink.decision(&decision).and_then(|()| sink.flush()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::BrokenPipe && error.to_string().contains("/pipe: "), "{error}");
        control.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = open().map(drop).unwrap_err();
        assert!(error.to_string().contains("stopped before anybody read it"), "{error}");
    }
}
