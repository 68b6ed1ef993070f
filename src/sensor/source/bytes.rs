//! Bytes of a source, waited for no longer than signals may.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[cfg(feature = "audio")]
use super::alsa::Capture;
use super::iio::{Captured, Polled};
use super::tcp;
use crate::npy;

/// How long a read waits before it lets others look at signals.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

pub enum Bytes {
    /// A part of a file that starts at `start` and has `left` bytes more; all of it where that is not known.
    File {
        file: File,
        start: u64,
        len: Option<u64>,
        left: Option<u64>,
    },
    Npy {
        reader: npy::Reader,
        bytes: u64,
        at: u64,
    },
    /// What ends in silence when its other side is gone.
    Live(File),
    Tcp(TcpStream),
    /// Waits for who connects.
    Listener {
        listener: TcpListener,
        peer: Option<TcpStream>,
    },
    Udp(UdpSocket),
    /// Files of sysfs, read in turn.
    Polled(Polled),
    Captured(Captured),
    #[cfg(feature = "audio")]
    Alsa(Capture),
    /// It went away, and is not back yet.
    Closed,
}

pub enum Got {
    Bytes(usize),
    /// Not yet.
    Nothing,
    /// What came next was lost, and what follows is behind it.
    #[cfg_attr(not(feature = "audio"), expect(dead_code))]
    Interrupted,
    End,
}

impl Bytes {
    /// Whether a read gives a whole packet, which is to be decoded on its own.
    pub fn is_packet(&self) -> bool {
        matches!(self, Bytes::Udp(_))
    }

    /// # Errors
    /// Where the source broke; a live one that ends has broken.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        if room.is_empty() {
            return Ok(Got::Nothing);
        }
        match self {
            Bytes::File { file, left, .. } => {
                let most = left.map_or(room.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(room.len()));
                if most == 0 {
                    return Ok(Got::End);
                }
                let room = room.get_mut(..most).unwrap_or_default();
                let got = when_ready(file.as_fd(), || (&*file).read(room))?;
                match (&got, left.as_mut()) {
                    (Got::Bytes(count), Some(left)) => *left -= *count as u64,
                    (Got::End, Some(left)) => {
                        let what = format!("it ends {left} bytes before its header says");
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                    }
                    _ => {}
                }
                Ok(got)
            }
            Bytes::Npy { reader, bytes, at } => {
                let size = reader.dtype().size();
                let left = usize::try_from(*bytes - *at).unwrap_or(usize::MAX);
                let count = left.min(room.len()) / size * size;
                let room = room.get_mut(..count).unwrap_or_default();
                let read = reader.read(usize::try_from(*at).unwrap_or(usize::MAX) / size, room);
                read.map_err(|error| io::Error::other(error.what()))?;
                *at += count as u64;
                Ok(if count == 0 && left == 0 { Got::End } else { Got::Bytes(count) })
            }
            Bytes::Polled(polled) => polled.read(room),
            #[cfg(feature = "audio")]
            Bytes::Alsa(capture) => capture.read(room),
            Bytes::Closed => Err(io::ErrorKind::NotConnected.into()),
            Bytes::Captured(Captured { device, .. }) => alive(when_ready(device.as_fd(), || (&*device).read(room))?),
            Bytes::Live(file) => alive(when_ready(file.as_fd(), || (&*file).read(room))?),
            Bytes::Tcp(stream) => alive(when_ready(stream.as_fd(), || (&*stream).read(room))?),
            Bytes::Udp(socket) => when_ready(socket.as_fd(), || socket.recv(room)).map(|got| match got {
                // An empty datagram is no end.
                Got::End => Got::Nothing,
                got => got,
            }),
            Bytes::Listener { listener, peer } => {
                let Some(stream) = peer else {
                    if wait(listener.as_fd())? {
                        *peer = Some(tcp::watched(listener.accept()?.0)?);
                    }
                    return Ok(Got::Nothing);
                };
                alive(when_ready(stream.as_fd(), || (&*stream).read(room))?)
            }
        }
    }

    /// Waits for another to connect, where that is how it began: an address cannot be taken twice.
    pub fn hang_up(&mut self) -> bool {
        match self {
            Bytes::Listener { peer, .. } => {
                *peer = None;
                true
            }
            _ => false,
        }
    }

    /// Back to the first byte.
    pub fn rewind(&mut self) -> io::Result<()> {
        match self {
            Bytes::File { file, start, len, left } => {
                *left = *len;
                file.seek(SeekFrom::Start(*start)).map(|_| ())
            }
            Bytes::Npy { at, .. } => {
                *at = 0;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The beginning of a file or pipe, waited for until it comes or the stream is stopped.
pub struct Patient<'a> {
    pub file: File,
    pub stop: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match when_ready(self.file.as_fd(), || (&self.file).read(room))? {
                Got::Bytes(count) => return Ok(count),
                Got::End => return Ok(0),
                _ if self.stop.load(Relaxed) => return Err(io::Error::other("stopped before its header came")),
                _ => {}
            }
        }
    }
}

fn alive(got: Got) -> io::Result<Got> {
    match got {
        Got::End => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed it")),
        got => Ok(got),
    }
}

fn when_ready(fd: BorrowedFd<'_>, read: impl FnOnce() -> io::Result<usize>) -> io::Result<Got> {
    if !wait(fd)? {
        return Ok(Got::Nothing);
    }
    match read() {
        Ok(0) => Ok(Got::End),
        Ok(count) => Ok(Got::Bytes(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(Got::Nothing)
        }
        Err(error) => Err(error),
    }
}

/// Whether there is something to read, an end or an error included.
fn wait(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&PATIENCE)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
