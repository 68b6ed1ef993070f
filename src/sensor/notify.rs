//! What systemd is told: that the stream is ready, that it makes progress, that it stops.
//!
//! Source of the protocol: sd_notify(3). The watchdog is fed by windows alone: a stream whose sensor is silent is not
//! alive in the sense that matters, and systemd may start it anew.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager that started this process.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    /// How often it wants to hear of progress.
    watchdog: Option<Duration>,
    ready: bool,
    windows: u64,
    told: Instant,
}

impl Notifier {
    /// The manager that the environment names, by NOTIFY_SOCKET and WATCHDOG_USEC; none where it names none.
    ///
    /// # Errors
    /// Where it names one that does not answer.
    pub fn from_env() -> io::Result<Option<Notifier>> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // Who is slow to read must not hold the stream.
        socket.set_nonblocking(true)?;
        let for_us = env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok()).filter(|_| for_us);
        let watchdog = watchdog.map(Duration::from_micros);
        Ok(Some(Notifier { socket, watchdog, ready: false, windows: 0, told: Instant::now() }))
    }

    /// `windows` were answered so far. The first time says that the stream is ready; later ones, every 200 ms at least, feed the
    /// watchdog where there are more windows than before, and it is time.
    pub fn progress(&mut self, windows: u64) {
        // Who is slow to read is told the next time: a service of which nobody hears that it is ready is ended.
        self.ready = self.ready || self.tell(b"READY=1");
        let Some(watchdog) = self.watchdog else { return };
        if windows > self.windows && self.told.elapsed() >= watchdog / 4 && self.tell(b"WATCHDOG=1") {
            (self.windows, self.told) = (windows, Instant::now());
        }
    }

    /// The stream ends.
    pub fn stopping(&self) {
        self.tell(b"STOPPING=1");
    }

    /// Whether it was told.
    fn tell(&self, what: &[u8]) -> bool {
        let told = self.socket.send(what);
        if let Err(error) = &told {
            log::debug!("the service manager was not told: {error}");
        }
        told.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_is_slow_to_read_is_told_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.send(b"full").is_ok() {}
        let watchdog = Some(Duration::ZERO);
        let mut notifier = Notifier { socket, watchdog, ready: false, windows: 0, told: Instant::now() };
        notifier.progress(1);
        let heard = || {
            let mut room = [0; 64];
            let mut heard = Vec::new();
            while let Ok(count) = manager.recv(&mut room) {
                heard.push(String::from_utf8(room[..count].to_vec()).unwrap());
            }
            heard.retain(|told| told != "full");
            heard
        };
        assert!(heard().is_empty());
        notifier.progress(1);
        assert_eq!(heard(), ["READY=1", "WATCHDOG=1"]);
        notifier.progress(1);
        assert!(heard().is_empty(), "once");
    }
}
