//! Files that are written whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
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
pub(crate) struct Unfinished {
    target: PathBuf,
    temp: io::BufWriter<NamedTempFile>,
    listed: Listed,
}

/// A complete file on disk that has no name yet.
#[derive(Debug)]
pub(crate) struct Finished {
    target: PathBuf,
    temp: NamedTempFile,
    listed: Listed,
}

impl Unfinished {
    /// Begins a file that will be `named`.
    pub fn create(named: &Path) -> io::Result<Unfinished> {
        // Through a symbolic link, and never over a device or a pipe.
        let target = match named.canonicalize() {
            Ok(existing) if existing.is_file() => existing,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && !named.is_symlink() => named.to_owned(),
            Err(source) => return Err(source),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there and is not a regular file")),
        };
        let mut builder = tempfile::Builder::new();
        // As any new file: the umask decides.
        let builder = builder.prefix(".tractlet-").suffix(".part").permissions(Permissions::from_mode(0o666));
        let temp = io::BufWriter::new(builder.tempfile_in(folder_of(&target))?);
        let listed = Listed::new(temp.get_ref().path());
        Ok(Unfinished { target, temp, listed })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.temp.write_all(bytes)
    }

    /// Brings the file to disk, still without its name.
    pub fn finish(self) -> io::Result<Finished> {
        let temp = self.temp.into_inner().map_err(io::IntoInnerError::into_error)?;
        temp.as_file().sync_all()?;
        Ok(Finished { target: self.target, temp, listed: self.listed })
    }
}

impl Finished {
    /// Gives the file its name, in place of what stood there.
    pub fn publish(self) -> io::Result<()> {
        let Finished { target, temp, listed } = self;
        temp.persist(&target).map_err(|error| error.error)?;
        drop(listed);
        // The name is on disk once its folder is.
        File::open(folder_of(&target))?.sync_all()
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
