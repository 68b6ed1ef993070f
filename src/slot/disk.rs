//! What slots need of a disk: few enough operations that a test can cut the power between any two of them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// A file system. Nothing is safe from a power cut before [`Disk::sync`]: contents once their file is synced, names
/// once their folder is. A rename is whole or has not happened.
pub trait Disk: Send {
    /// Opens a regular file, and follows no link.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>>;
    /// Names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes a file of what there is to read, in place of the one that may be there.
    fn write(&self, path: &Path, contents: &mut dyn Read) -> io::Result<()>;
    /// Brings a file's contents, or a folder's names, to disk.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in place of the file that may have it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a folder; one that is there already will do.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Takes a file away, or a folder with all that is in it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Keeps others out of the folder until it is dropped.
    fn lock(&self, folder: &Path) -> io::Result<Box<dyn Lock>>;
    /// Marks the file, not what takes its place, as in use until this is dropped, or the process ends in whatever way; many may.
    fn use_of(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Whether somebody does.
    fn is_in_use(&self, path: &Path) -> io::Result<bool>;
}

/// Is held, and nothing else.
pub trait Lock: std::fmt::Debug + Send {}

/// The machine's own.
#[derive(Debug)]
pub struct OsDisk;

impl Lock for File {}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        // NONBLOCK: a pipe in the place of a file must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(Box::new(file))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(folder)?.map(name).collect()
    }

    fn write(&self, path: &Path, contents: &mut dyn Read) -> io::Result<()> {
        let mut file = File::create(path)?;
        io::copy(contents, &mut file)?;
        file.flush()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    }

    fn lock(&self, folder: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(locked(folder, FlockOperation::LockExclusive)?))
    }

    fn use_of(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(locked(path, FlockOperation::LockShared)?))
    }

    fn is_in_use(&self, path: &Path) -> io::Result<bool> {
        match locked(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// What is there itself, so that nothing has to be written to hold it.
fn locked(path: &Path, how: FlockOperation) -> io::Result<File> {
    let file = File::open(path)?;
    loop {
        match rustix::fs::flock(&file, how) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result.map(|()| file)?),
        }
    }
}

/// A file that is whole at any time: the old one, or these bytes.
pub fn replace(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    let fresh = beside(path);
    disk.write(&fresh, &mut &*contents)?;
    disk.sync(&fresh)?;
    disk.rename(&fresh, path)?;
    disk.sync(path.parent().unwrap_or(Path::new(".")))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// At most so many bytes of a file; more is an error.
pub fn read(disk: &dyn Disk, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if disk.open(path)?.take(most + 1).read_to_end(&mut bytes)? as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_somebody_left_is_taken_away_and_what_a_link_names_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (left, link) = (folder.path().join("left"), folder.path().join("link"));
        std::fs::create_dir_all(left.join("deep")).unwrap();
        std::os::unix::fs::symlink(&left, &link).unwrap();
        OsDisk.remove(&link).unwrap();
        assert!(left.is_dir() && !link.is_symlink());
        OsDisk.remove(&left).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_file_in_the_place_of_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        std::fs::write(&path, "1").unwrap();
        let uses = [OsDisk.use_of(&path).unwrap(), OsDisk.use_of(&path).unwrap()];
        assert!(OsDisk.is_in_use(&path).unwrap());
        replace(&OsDisk, &path, b"2").unwrap();
        assert!(!OsDisk.is_in_use(&path).unwrap());
        drop(uses);
        let held = OsDisk.use_of(&path).unwrap();
        assert!(OsDisk.is_in_use(&path).unwrap());
        drop(held);
        assert!(!OsDisk.is_in_use(&path).unwrap());
    }
}
