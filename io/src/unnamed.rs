//! Files without a name: nobody sees them, and the kernel takes them away with whoever makes them, however that ends.

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// A new file in a folder, to be written, that has no name until [`give_name`]. `None` where that cannot be had: FAT and NFS have no
/// such files, overlayfs only since Linux 6.1, and they get their name through /proc. What is wrong otherwise is for whoever makes
/// one with a name instead to find.
pub fn unnamed(folder: impl AsFd, mode: Mode) -> Option<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, c".", flags, mode).ok()?;
    rustix::fs::statat(CWD, through_proc(&file).as_str(), AtFlags::empty()).ok()?;
    Some(file)
}

/// Gives a file of [`unnamed`] a name in its folder that nothing has yet.
///
/// # Errors
/// As the kernel has them: [`Errno::EXIST`] where the name is taken.
pub fn give_name(file: impl AsFd, folder: impl AsFd, name: &CStr) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, through_proc(file).as_str(), folder, name, AtFlags::SYMLINK_FOLLOW)
}

/// What a file is called without a name; by its number alone only the almighty may link it.
fn through_proc(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;
    use std::vec::Vec;

    #[test]
    fn a_file_is_not_there_until_it_has_a_name_and_takes_none_that_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let Some(file) = unnamed(&folder, Mode::from_raw_mode(0o640)) else {
            // Past the test runner, which keeps what a test prints.
            std::io::stderr().write_all(b"skipped: the folder of temporary files has none without a name\n").unwrap();
            return;
        };
        let mut file = File::from(file);
        file.write_all(b"whole").unwrap();
        assert!(names().is_empty());
        give_name(&file, &folder, c"y").unwrap();
        assert_eq!((names(), fs::read(dir.path().join("y")).unwrap()), (std::vec!["y".into()], b"whole".to_vec()));
        let other = unnamed(&folder, Mode::from_raw_mode(0o640)).unwrap();
        assert_eq!(give_name(&other, &folder, c"y"), Err(Errno::EXIST));
        drop(other);
        assert_eq!(names().len(), 1);
    }
}
