//! `tractlet-plan`: what of `tractlet` runs plans, and nothing else. No reader of ONNX, no engine but the plan's, no
//! std and no C library: a static program that is smaller than what a C library alone takes.
//!
//! Its commands and exit codes are those of `tractlet`, and so are options and JSON keys but of `stream`, as far as they go. This
//! is the library under it, for any host; `main.rs` is how it starts.

#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod args;
mod bench;
mod failure;
mod footprint;
mod json;
mod npy;
mod os;
mod out;
mod run;
mod session;
mod stream;

use alloc::format;
use core::ffi::CStr;

use rustix::fd::BorrowedFd;

use args::{Args, Command};
use failure::Failure;
use out::Out;

/// What the program has of the world around it.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Where `stream` reads.
    pub stdin: BorrowedFd<'a>,
    /// Where results go.
    pub stdout: BorrowedFd<'a>,
    /// Where it says what went wrong.
    pub stderr: BorrowedFd<'a>,
    /// How many heap allocations there have been.
    pub allocations: fn() -> u64,
}

/// Does what the arguments say, the program's own name first, and returns the exit code.
pub fn main(arguments: &[&CStr], world: World<'_>) -> i32 {
    // Where stderr is gone too there is nobody left to tell.
    let complain = |text: &str| {
        let _ = os::write_all(world.stderr, os::printable(text).as_bytes());
    };
    match work(arguments, world) {
        // Whoever read stdout has seen enough.
        Ok(()) | Err(Failure::Closed) => 0,
        Err(Failure::Work(why)) => {
            complain(&format!("error: {why}\n"));
            1
        }
        Err(Failure::Usage(why)) => {
            complain(&format!("error: {why}\n\n{}", args::USAGE));
            2
        }
    }
}

fn work(arguments: &[&CStr], world: World<'_>) -> Result<(), Failure> {
    let mut out = Out::new(world.stdout);
    match Args::parse(arguments)? {
        Command::Help => out.text(args::USAGE)?,
        Command::Version => out.text(concat!("tractlet-plan ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::Run(args) => run::run(&args, &mut out)?,
        Command::Bench(args) => bench::bench(&args, world.allocations, &mut out)?,
        Command::Footprint(args) => footprint::footprint(&args, &mut out)?,
        Command::Stream(args) => stream::stream(&args, world.stdin, &mut out)?,
    }
    out.flush()
}
