//! Standard output.

use alloc::format;
use alloc::string::String;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::failure::Failure;
use crate::os;

/// Kept until it is worth a call.
const FULL: usize = 8 << 10;

/// Stdout, buffered; [`Out::flush`] at the end.
pub struct Out<'a> {
    stdout: BorrowedFd<'a>,
    buffer: String,
}

impl<'a> Out<'a> {
    pub fn new(stdout: BorrowedFd<'a>) -> Out<'a> {
        Out { stdout, buffer: String::new() }
    }

    /// Lines, in which no character steers the terminal.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer += &os::printable(text);
        if self.buffer.len() < FULL { Ok(()) } else { self.flush() }
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        let written = os::write_all(self.stdout, self.buffer.as_bytes());
        self.buffer.clear();
        written.map_err(|error| match error {
            Errno::PIPE => Failure::Closed,
            error => Failure::Work(format!("cannot write to standard output: {}", os::reason(error))),
        })
    }
}
