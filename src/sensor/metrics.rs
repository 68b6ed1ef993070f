//! Counters for Prometheus: text over HTTP, on one thread, one request at a time.
//!
//! Source of the format: Prometheus, "Exposition formats", text version 0.0.4.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Control;
use super::counters::{Counters, Kind};

/// From the first byte of a request to the last of its answer, so that nobody holds the thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the thread sleeps before it looks whether the stream has ended.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// A request line and more headers than scrapers send.
const MAX_REQUEST_BYTES: usize = 4096;

/// The counters of streams; names become the label `stream`.
pub type Named = Vec<(Option<String>, Arc<Counters>)>;

/// An address that was taken, and nobody is answered at yet.
#[derive(Debug)]
pub struct Metrics(TcpListener);

impl Metrics {
    /// Takes an address.
    ///
    /// # Errors
    /// Where it cannot be taken.
    pub fn bind(address: &str) -> io::Result<Metrics> {
        Ok(Metrics(TcpListener::bind(address)?))
    }

    /// The address, which tells the port where 0 was asked for.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers `GET /metrics` with the counters of `streams`, on a thread of its own, until `control` is stopped.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn serve(self, control: &Control, streams: Named) -> io::Result<()> {
        let (Metrics(listener), control) = (self, control.clone());
        thread::Builder::new().name("metrics".into()).spawn(move || {
            let mut page = String::with_capacity(8192);
            while !control.is_stopped() {
                let ready = poll(&mut [PollFd::new(&listener.as_fd(), PollFlags::IN)], Some(&NAP));
                if ready.is_ok_and(|ready| ready > 0)
                    && let Ok((peer, _)) = listener.accept()
                    && let Err(error) = answer(peer, &streams, &mut page)
                {
                    log::debug!("metrics: {error}");
                }
            }
        })?;
        Ok(())
    }
}

/// Who asks, and until when there is time for it.
struct Peer {
    stream: TcpStream,
    deadline: Instant,
}

impl Peer {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.map(Some).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl Read for Peer {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(room)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn answer(stream: TcpStream, streams: &Named, page: &mut String) -> io::Result<()> {
    let mut peer = Peer { stream, deadline: Instant::now() + PATIENCE };
    let mut request = [0u8; MAX_REQUEST_BYTES];
    let mut filled = 0;
    while !request.get(..filled).unwrap_or_default().windows(4).any(|four| four == b"\r\n\r\n") {
        match peer.read(request.get_mut(filled..).unwrap_or_default())? {
            0 => return Err(io::Error::new(io::ErrorKind::InvalidData, "no whole request")),
            count => filled += count,
        }
    }
    let is_wanted = [&b"GET /metrics "[..], b"GET / "].iter().any(|start| request.starts_with(start));
    page.clear();
    if is_wanted {
        write_page(streams, page);
    }
    let status = if is_wanted { "200 OK" } else { "404 Not Found" };
    let length = page.len();
    write!(
        peer,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    peer.write_all(page.as_bytes())
}

fn write_page(streams: &Named, page: &mut String) {
    let all: Vec<_> = streams.iter().map(|(name, counters)| (name, counters.all())).collect();
    for (index, counter) in Counters::default().all().iter().enumerate() {
        let (kind, end) = match counter.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let (name, help) = (counter.name, counter.help);
        // Writing to a string does not fail.
        let _ = write!(page, "# HELP tractlet_stream_{name}{end} {help}.\n# TYPE tractlet_stream_{name}{end} {kind}\n");
        for (stream, counters) in &all {
            let value = counters.get(index).map_or(0, |counter| counter.value);
            let _ = match stream {
                Some(stream) => writeln!(page, "tractlet_stream_{name}{end}{{stream=\"{stream}\"}} {value}"),
                None => writeln!(page, "tractlet_stream_{name}{end} {value}"),
            };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_byte_by_byte_does_not_hold_the_thread() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let asking = thread::spawn(move || {
            while slow.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let started = Instant::now();
        assert!(answer(peer, &Named::new(), &mut String::new()).is_err());
        assert!(started.elapsed() < 3 * PATIENCE);
        asking.join().unwrap();
    }
}
