//! Files that are written whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

/// Files without a name yet, for a process that ends where no destructor runs.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what is being written and has no name yet: for a process that ends on the spot, such as within an allocation
/// that a [`Cap`](crate::footprint::Cap) refuses. Whoever is writing such a file meanwhile keeps it.
pub fn remove_unfinished() {
    // Not to be waited for: this very thread may have it.
    if let Ok(unfinished) = UNFINISHED.try_lock() {
        for path in &*unfinished {
            let _ = fs::remove_file(path);
        }
    }
}

/// Has its file among the unfinished, as long as it lives.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Listed {
        unfinished().push(path.to_owned());
        Listed(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.0);
    }
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file in the making, beside the name that it will have. Until [`Finished::publish`], and where anything
/// fails, whatever stands under that name stays as it is.
#[derive(Debug)]
pub struct Unfinished {
    target: PathBuf,
    temp: io::BufWriter<NamedTempFile>,
    listed: Listed,
}

/// A complete file on disk that has no name yet.
#[derive(Debug)]
pub struct Finished {
    target: PathBuf,
    temp: NamedTempFile,
    listed: Listed,
}

impl Unfinished {
    /// Begins a file that will be `named`, with the permissions of what it takes the place of.
    ///
    /// # Errors
    /// Where its folder cannot be written to, or what stands there is not a regular file.
    pub fn create(named: &Path) -> io::Result<Unfinished> {
        // Through a symbolic link, and never over a device or a pipe.
        let (target, mode) = match named.canonicalize() {
            Ok(existing) => {
                let found = fs::metadata(&existing)?;
                if !found.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there and is not a regular file"));
                }
                (existing, Some(found.mode() & 0o777))
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && !named.is_symlink() => {
                (named.to_owned(), None)
            }
            Err(source) => return Err(source),
        };
        let folder = folder_of(&target);
        if !folder.is_dir() {
            let what = format!("there is no folder {}; make it first", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        // As any new file: the umask decides. The file is opened here, and not by tempfile, whose errors are of its name.
        let open = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o666)).open(path);
        let builder = tempfile::Builder::new().prefix(".tractlet-").suffix(".part").make_in(folder, open);
        let temp = io::BufWriter::new(builder?);
        let listed = Listed::new(temp.get_ref().path());
        if let Some(mode) = mode {
            temp.get_ref().as_file().set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(Unfinished { target, temp, listed })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.temp.write_all(bytes)
    }

    /// Brings the file to disk, still without its name.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn finish(self) -> io::Result<Finished> {
        let temp = self.temp.into_inner().map_err(io::IntoInnerError::into_error)?;
        temp.as_file().sync_all()?;
        Ok(Finished { target: self.target, temp, listed: self.listed })
    }
}

impl Finished {
    /// Gives the file its name, in place of what stood there.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn publish(self) -> io::Result<()> {
        let folder = folder_of(&self.target).to_owned();
        self.take_name()?;
        synced(&folder)
    }

    /// Gives both files their names or neither: this one a name that nothing has yet, and `main`, which names it, in place
    /// of what stood there.
    ///
    /// # Errors
    /// As [`Finished::publish`], and where the new name is taken.
    pub fn publish_with(self, main: Finished) -> io::Result<()> {
        let Finished { target, temp, listed } = self;
        temp.persist_noclobber(&target).map_err(|error| error.error)?;
        drop(listed);
        let folder = folder_of(&main.target).to_owned();
        // On disk before anything names it.
        if let Err(error) = synced(folder_of(&target)).and_then(|()| main.take_name()) {
            // Nobody has been told of it yet.
            let _ = fs::remove_file(&target);
            return Err(error);
        }
        synced(&folder)
    }

    fn take_name(self) -> io::Result<()> {
        let Finished { target, temp, listed } = self;
        temp.persist(&target).map_err(|error| error.error)?;
        drop(listed);
        Ok(())
    }
}

/// Names are on disk once their folder is.
fn synced(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write(target: &Path, contents: &[u8]) -> io::Result<Finished> {
        let mut file = Unfinished::create(target)?;
        file.write(contents)?;
        file.finish()
    }

    #[test]
    fn what_takes_the_place_of_a_file_has_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "old").unwrap();
        for mode in [0o600, 0o666, 0o440] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            write(&file, b"new").unwrap().publish().unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, mode, "{mode:o}");
            assert_eq!(fs::read(&file).unwrap(), b"new");
        }
    }

    #[test]
    fn two_files_have_their_names_or_neither_has() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let both = |new: &str| write(&at(new), b"data")?.publish_with(write(&at("main"), b"main")?);
        both("new").unwrap();
        assert_eq!([fs::read(at("new")).unwrap(), fs::read(at("main")).unwrap()], [b"data", b"main"]);
        fs::write(at("main"), "before").unwrap();
        assert_eq!(both("new").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let new = write(&at("other"), b"data").unwrap();
        let main = write(&at("main"), b"main").unwrap();
        fs::remove_file(at("main")).unwrap();
        fs::create_dir(at("main")).unwrap();
        new.publish_with(main).unwrap_err();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["main", "new"], "nothing of what failed");
    }

    #[test]
    fn a_fault_is_told_without_the_name_that_a_file_has_meanwhile() {
        let told = |path: &str| Unfinished::create(Path::new(path)).unwrap_err().to_string();
        assert_eq!(told("/nonexistent/x"), "there is no folder /nonexistent; make it first");
        // Nobody makes files in /proc, whatever he may.
        let told = told("/proc/x");
        assert!(told.ends_with(')') && !told.contains(".part"), "{told}");
    }
}
