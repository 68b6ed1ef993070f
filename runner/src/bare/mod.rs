//! What a C library and std would bring: the start ([`start`]), the heap ([`heap`]), and the functions that the
//! compiler takes to be there ([`mem`], [`symbols`]).
//!
//! The smallest static program on glibc takes 600 KB for aarch64, of which this one needs almost nothing.

#![allow(unsafe_code)]

mod heap;
mod mem;
mod start;
mod symbols;

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;

use rustix::fd::BorrowedFd;
use rustix::fs::{CWD, Mode, OFlags};
use tractlet_runner::World;

/// # Safety
/// `arguments` are `count` pointers to strings that live as long as the process.
unsafe fn main(arguments: *const *const c_char, count: usize) -> i32 {
    open_closed();
    // SAFETY: the kernel laid them out so, see `start`.
    let pointers = unsafe { core::slice::from_raw_parts(arguments, count) };
    // SAFETY: each ends in a zero byte.
    let arguments: Vec<&CStr> = pointers.iter().map(|&text| unsafe { CStr::from_ptr(text) }).collect();
    // SAFETY: all are open, and nothing closes them.
    let [stdin, stdout, stderr] = [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
    tractlet_runner::main(&arguments, World { stdin, stdout, stderr, allocations: heap::allocations })
}

/// A file that is opened where stdout was closed would take its number, and its output.
fn open_closed() {
    // The lowest number that is free is taken: once it is above 2, all three are.
    while let Ok(opened) = rustix::fs::openat(CWD, c"/dev/null", OFlags::RDWR, Mode::empty()) {
        if rustix::fd::AsRawFd::as_raw_fd(&opened) > 2 {
            break;
        }
        core::mem::forget(opened);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    let what = "error: tractlet-plan failed in a way that it should not, or ran out of memory\n";
    // SAFETY: it is open, and nothing closes it.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    let _ = rustix::io::write(stderr, what.as_bytes());
    start::exit(1)
}
