//! TCP connections of which a dead other side is noticed.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::net::sockopt;

/// How long an address may take to answer: signals wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection without data is probed after this, then that often, and given up after so many probes without an answer.
const IDLE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Connects to the first address that answers.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return watched(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Has the kernel ask a silent other side whether it is still there: a sensor whose power was cut says no goodbye.
pub fn watched(stream: TcpStream) -> io::Result<TcpStream> {
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    Ok(stream)
}
