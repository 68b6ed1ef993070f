//! Counters for Prometheus: text over HTTP, on one thread, for a few who ask at once.
//!
//! Source of the format: Prometheus, "Exposition formats", text version 0.0.4.

use std::array;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Control;
use super::counters::{Counters, Kind};

/// From the first byte of a request to the last of its answer, so that nobody holds the thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the thread sleeps before it looks whether the stream has ended.
const NAP: Duration = Duration::from_millis(200);
/// Who may ask at once.
const MAX_PEERS: usize = 8;
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
        listener.set_nonblocking(true)?;
        thread::Builder::new().name("metrics".into()).spawn(move || {
            let mut page = String::with_capacity(8192);
            let mut asking = Vec::with_capacity(MAX_PEERS);
            while !control.is_stopped() {
                if let Err(error) = wait(&listener, &asking).and_then(|()| admit(&listener, &mut asking)) {
                    log::debug!("metrics: {error}");
                    // Where descriptors have run out, the next look would find the same at once.
                    thread::sleep(NAP);
                }
                attend(&mut asking, Instant::now(), &streams, &mut page);
            }
        })?;
        Ok(())
    }
}

/// Who asks, what of the request has come, and until when there is time for it and its answer.
struct Peer {
    stream: TcpStream,
    request: [u8; MAX_REQUEST_BYTES],
    filled: usize,
    deadline: Instant,
}

/// Waits until somebody connects or writes.
fn wait(listener: &TcpListener, asking: &[Peer]) -> io::Result<()> {
    let mut peers = asking.iter();
    // One place more than there are peers: what is left is the listener's.
    let mut places: [PollFd<'_>; MAX_PEERS + 1] = array::from_fn(|_| match peers.next() {
        Some(peer) => PollFd::new(&peer.stream, PollFlags::IN),
        None => PollFd::new(listener, PollFlags::IN),
    });
    match poll(&mut places, Some(&Timespec { tv_sec: 0, tv_nsec: NAP.subsec_nanos().into() })) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes up who connects; who has asked for longest without coming to an end makes room.
fn admit(listener: &TcpListener, asking: &mut Vec<Peer>) -> io::Result<()> {
    let stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    stream.set_nonblocking(true)?;
    if asking.len() == MAX_PEERS {
        asking.remove(0);
    }
    asking.push(Peer { stream, request: [0; MAX_REQUEST_BYTES], filled: 0, deadline: Instant::now() + PATIENCE });
    Ok(())
}

/// Reads on from each, answers whose request is whole, and gives up who took too long.
fn attend(asking: &mut Vec<Peer>, now: Instant, streams: &Named, page: &mut String) {
    asking.retain_mut(|peer| {
        now < peer.deadline
            && match peer.read_on() {
                Ok(false) => true,
                Ok(true) => told(peer.answer(streams, page)),
                Err(error) => told(Err(error)),
            }
    });
}

/// It is done with, one way or the other.
fn told(answered: io::Result<()>) -> bool {
    if let Err(error) = answered {
        log::debug!("metrics: {error}");
    }
    false
}

impl Peer {
    /// Whether its request is whole.
    fn read_on(&mut self) -> io::Result<bool> {
        match self.stream.read(self.request.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::InvalidData, "no whole request")),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(self.request().windows(4).any(|four| four == b"\r\n\r\n"))
    }

    fn request(&self) -> &[u8] {
        self.request.get(..self.filled).unwrap_or_default()
    }

    fn answer(&mut self, streams: &Named, page: &mut String) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        page.clear();
        let asked = asked(self.request());
        if asked.is_some() {
            write_page(streams, page);
        }
        let status = if asked.is_some() { "200 OK" } else { "404 Not Found" };
        let length = page.len();
        write!(
            self,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        if asked == Some(Wish::HeadAlone) { Ok(()) } else { self.write_all(page.as_bytes()) }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Page,
    HeadAlone,
}

/// What is asked for of the counters; none where it is something else.
fn asked(request: &[u8]) -> Option<Wish> {
    let mut words = request.split(|byte| *byte == b'\r').next()?.split(|byte| *byte == b' ');
    let wish = match words.next()? {
        b"GET" => Wish::Page,
        b"HEAD" => Wish::HeadAlone,
        _ => return None,
    };
    let path = words.next()?.split(|byte| *byte == b'?').next()?;
    matches!(path, b"/metrics" | b"/").then_some(wish)
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
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_holds_nobody_and_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut asking, mut page, begun) = (Vec::new(), String::new(), Instant::now());
        let idle: Vec<_> = (0..=MAX_PEERS)
            .map(|_| {
                let peer = connect();
                admit(&listener, &mut asking).unwrap();
                peer
            })
            .collect();
        assert_eq!(asking.len(), MAX_PEERS);
        let mut scraper = connect();
        scraper.write_all(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n").unwrap();
        admit(&listener, &mut asking).unwrap();
        while asking.len() == MAX_PEERS {
            wait(&listener, &asking).unwrap();
            attend(&mut asking, begun, &vec![(None, Arc::default())], &mut page);
        }
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("tractlet_stream_read_total 0"), "{answer}");
        attend(&mut asking, Instant::now() + PATIENCE, &Named::new(), &mut page);
        assert!(asking.is_empty() && !idle.is_empty());
    }

    #[test]
    fn a_request_is_for_the_counters_or_for_nothing() {
        for (line, wish) in [
            ("GET /metrics HTTP/1.1", Some(Wish::Page)),
            ("GET /?a=b HTTP/1.0", Some(Wish::Page)),
            ("HEAD /metrics HTTP/1.1", Some(Wish::HeadAlone)),
            ("POST /metrics HTTP/1.1", None),
            ("GET /metricsx HTTP/1.1", None),
            ("GET", None),
            ("", None),
        ] {
            assert_eq!(asked(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()), wish, "{line}");
        }
    }
}
