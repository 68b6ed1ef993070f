//! TCP connections that a stop does not wait for, and of which a dead other side is noticed.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How long an address may take to answer, and after how much of that the stop is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// A connection without data is probed after this, then that often, and given up after so many probes without an answer.
const IDLE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Connects to the first address that answers. A name that has to be looked up is waited for as long as that takes.
pub fn connect(address: &str, stop: &AtomicBool) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match connect_to(address, stop) {
            Ok(stream) => return watched(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, stop: &AtomicBool) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => wait(&socket, stop)?,
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn wait(socket: &OwnedFd, stop: &AtomicBool) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&NAP)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(sockopt::socket_error(socket)??),
            Err(error) => return Err(error.into()),
        }
        if stop.load(Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped before it answered"));
        }
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")));
        }
    }
}

/// Has the kernel ask a silent other side whether it is still there: a sensor whose power was cut says no goodbye.
pub fn watched(stream: TcpStream) -> io::Result<TcpStream> {
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_does_not_answer_is_given_up_at_the_stop() {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        // Whoever finds the queue full is not answered.
        let stop = AtomicBool::new(true);
        let tries: Vec<_> = (0..4).map(|_| connect_to(address, &stop)).collect();
        let last = tries.last().unwrap().as_ref().unwrap_err();
        assert!(tries.first().unwrap().is_ok() && last.kind() == io::ErrorKind::Interrupted, "{tries:?}");
    }
}
