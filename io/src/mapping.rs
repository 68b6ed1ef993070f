//! Pages of a file as memory: by memmap2, and by the kernel's own call in a program without a C library.

use rustix::fd::AsFd;

use crate::HoldError;

/// Pages of a file, until it is dropped.
#[derive(Debug)]
pub struct Mapping(Pages);

impl Mapping {
    /// The first `len` bytes of a file that has as many, and whose bytes do not change: a sealed memfd is kept
    /// as it is by the kernel, and so is a file under fs-verity or on a filesystem without writing; in
    /// `MapMode::Direct` the caller has vouched for it. [`crate::HeldFile`] sees to it.
    pub fn of(file: impl AsFd, len: u64) -> Result<Mapping, HoldError> {
        Ok(Mapping(Pages::of(file, len)?))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[cfg(feature = "std")]
use with_std::Pages;
#[cfg(not(feature = "std"))]
use without_std::Pages;

#[cfg(feature = "std")]
#[allow(unsafe_code)]
mod with_std {
    use std::os::fd::AsRawFd;

    use memmap2::{Mmap, MmapOptions};
    use rustix::fd::AsFd;
    use rustix::io::Errno;

    use crate::HoldError;

    #[derive(Debug)]
    pub struct Pages(Mmap);

    impl Pages {
        pub fn of(file: impl AsFd, len: u64) -> Result<Pages, HoldError> {
            let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
            // SAFETY: the bytes behind the mapping stay as they are, as `Mapping::of` asks of its caller.
            let map = unsafe { MmapOptions::new().len(len).map(file.as_fd().as_raw_fd()) };
            Ok(Pages(map.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?))
        }

        pub fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
}

#[cfg(not(feature = "std"))]
#[allow(unsafe_code)]
mod without_std {
    use core::ffi::c_void;
    use core::{ptr, slice};

    use rustix::fd::AsFd;
    use rustix::io::Errno;
    use rustix::mm::{MapFlags, ProtFlags};

    use crate::HoldError;

    #[derive(Debug)]
    pub struct Pages {
        start: *mut c_void,
        len: usize,
    }

    // SAFETY: the pages are read-only and belong to the mapping alone; it can be used and dropped anywhere.
    unsafe impl Send for Pages {}
    // SAFETY: as above.
    unsafe impl Sync for Pages {}

    impl Pages {
        pub fn of(file: impl AsFd, len: u64) -> Result<Pages, HoldError> {
            let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
            // SAFETY: a new mapping where the kernel likes, over nothing that is there.
            let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0)? };
            Ok(Pages { start, len })
        }

        pub fn bytes(&self) -> &[u8] {
            // SAFETY: `len` bytes are mapped at `start` while `self` lives, and stay as they are, as `Mapping::of`
            // asks of its caller.
            unsafe { slice::from_raw_parts(self.start.cast(), self.len) }
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: mapped by `of` and by nobody else, and no slice of it outlives `self`.
            let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
        }
    }
}
