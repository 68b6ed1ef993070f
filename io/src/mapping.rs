//! Pages of a file as memory: by memmap2, and by the kernel's own call in a program without a C library. Only of files that
//! the kernel itself keeps as they are: others could change what a reference says cannot.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, SealFlags, StatxAttributes, StatxFlags};

use crate::HoldError;

/// Pages of a file, until it is dropped.
#[derive(Debug)]
pub struct Mapping(Pages);

#[allow(unsafe_code)]
impl Mapping {
    /// All of a memfd, which is sealed against writing and resizing for good.
    pub fn sealing(copy: OwnedFd) -> Result<Mapping, HoldError> {
        rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let len = rustix::fs::fstat(&copy)?.st_size as u64;
        // SAFETY: its seals keep its bytes and its length as they are.
        Ok(Mapping(unsafe { Pages::of(copy, len)? }))
    }

    /// All of a file of `len` bytes, if nobody can change it.
    pub fn direct(file: impl AsFd, len: u64) -> Result<Option<Mapping>, HoldError> {
        if !cannot_change(&file) {
            return Ok(None);
        }
        if rustix::fs::fstat(&file)?.st_size as u64 != len {
            return Err(HoldError::Changed);
        }
        // SAFETY: it has that length, and there is no way to write to it.
        Ok(Some(Mapping(unsafe { Pages::of(file, len)? })))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Filesystems that cannot be written to, by `statfs.f_type`: squashfs, EROFS, ISO 9660, cramfs.
const WRITE_ONCE: [u64; 4] = [0x7371_7368, 0xe0f5_e1e2, 0x9660, 0x28cd_3d45];

fn cannot_change(file: impl AsFd) -> bool {
    let write_once =
        || rustix::fs::fstatfs(&file).is_ok_and(|fs| WRITE_ONCE.contains(&(fs.f_type as u64 & 0xffff_ffff)));
    let verity = || {
        rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::VERITY))
    };
    write_once() || verity()
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
        /// # Safety
        /// The file has `len` bytes, and they never change.
        pub unsafe fn of(file: impl AsFd, len: u64) -> Result<Pages, HoldError> {
            let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
            // SAFETY: the bytes behind the mapping stay as they are, as the caller vouches.
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
        /// # Safety
        /// The file has `len` bytes, and they never change.
        pub unsafe fn of(file: impl AsFd, len: u64) -> Result<Pages, HoldError> {
            let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
            // SAFETY: a new mapping where the kernel likes, over nothing that is there.
            let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0)? };
            Ok(Pages { start, len })
        }

        pub fn bytes(&self) -> &[u8] {
            // SAFETY: `len` bytes are mapped at `start` while `self` lives, and stay as they are, as `of` asks of its
            // caller.
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
