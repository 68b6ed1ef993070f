//! Files that are written whole or not at all.
//!
//! A file in the making has no name where its file system has such files, so that nothing is left of it whatever ends the process.
//! When it is complete it gets one beside what it will be called, and takes that place by a rename. Elsewhere it is called so from
//! its beginning. Names of that kind are listed while there are some, for a process that ends where no destructor runs.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tractlet_io::{give_name, unnamed};

/// Names that must not stay.
static LISTED: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());
static TELL: OnceLock<fn(bool)> = OnceLock::new();

#[derive(Debug)]
struct Entry {
    folder: Arc<File>,
    name: CString,
}

/// Removes what is being written and has a name that is not its own: for a process that ends on the spot, such as within an
/// allocation that a [`Cap`](crate::footprint::Cap) refuses. Whoever is writing such a file meanwhile keeps it. It allocates nothing.
pub fn remove_unfinished() {
    // Not to be waited for: this very thread may have it, to free what is in it. Nothing is asked for under it.
    if let Ok(listed) = LISTED.try_lock() {
        listed.iter().for_each(|entry| entry.remove());
    }
}

/// Sets what is told that there is, from now on, a file whose name must not stay, or that there is none any more: for a program
/// that puts off signals meanwhile, and writes on one thread. It is the first that was ever set.
pub fn when_visible(tell: fn(bool)) {
    TELL.get_or_init(|| tell);
}

impl Entry {
    fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

fn listed() -> MutexGuard<'static, Vec<Arc<Entry>>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(is_visible: bool) {
    if let Some(tell) = TELL.get() {
        tell(is_visible);
    }
}

/// A name that goes where this does, if it is still there then.
#[derive(Debug)]
struct Temporary {
    entry: Arc<Entry>,
    is_made: bool,
}

impl Temporary {
    /// Has `make` make something in a folder under a name that nothing has yet.
    fn make<T>(folder: &Arc<File>, make: impl Fn(&CStr) -> Result<T, Errno>) -> io::Result<(T, Temporary)> {
        loop {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let name = CString::new(format!(".tractlet-{:x}-{:x}.part", process::id(), now.as_nanos()))?;
            // Listed before it is there, so that there is no moment at which it would stay.
            let mut temporary = Temporary::list(Entry { folder: Arc::clone(folder), name });
            match make(&temporary.entry.name) {
                Ok(made) => {
                    temporary.is_made = true;
                    return Ok((made, temporary));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn list(entry: Entry) -> Temporary {
        let entry = Arc::new(entry);
        let mut room = Vec::new();
        loop {
            let len = listed().len();
            // While the list is free: a process that ends here for want of memory removes what is in it.
            room.reserve(len + 1);
            let mut listed = listed();
            if room.capacity() > listed.len() {
                room.append(&mut listed);
                room.push(Arc::clone(&entry));
                mem::swap(&mut *listed, &mut room);
                let is_first = listed.len() == 1;
                drop(listed);
                if is_first {
                    tell(true);
                }
                return Temporary { entry, is_made: false };
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What was there before is another's.
        if self.is_made {
            self.entry.remove();
        }
        let mut listed = listed();
        listed.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        let is_last = listed.is_empty();
        drop(listed);
        if is_last {
            tell(false);
        }
    }
}

/// Where a file goes.
#[derive(Debug)]
struct Place {
    /// Open, so that what cannot be brought to disk is not begun.
    folder: Arc<File>,
    name: CString,
}

impl Place {
    fn find(target: &Path) -> io::Result<Place> {
        let name = target.file_name().filter(|_| !target.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names a folder and no file"))?;
        let folder = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, folder, flags, Mode::empty()).map_err(|error| {
            let error = io::Error::from(error);
            let what = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    format!("there is no folder {}; make it first", folder.display())
                }
                _ => format!(
                    "its folder {} cannot be opened, which bringing a name to disk takes: {error}",
                    folder.display()
                ),
            };
            io::Error::new(error.kind(), what)
        })?;
        Ok(Place { folder: Arc::new(opened.into()), name: CString::new(name.as_bytes())? })
    }
}

/// A file in the making. Until [`Finished::publish`], and where anything fails, whatever stands under its name stays as it is.
#[derive(Debug)]
pub struct Unfinished {
    place: Place,
    file: io::BufWriter<File>,
    temporary: Option<Temporary>,
}

/// A complete file on disk that does not have its name yet.
#[derive(Debug)]
pub struct Finished {
    place: Place,
    file: File,
    temporary: Option<Temporary>,
}

impl Unfinished {
    /// Begins a file that will be `named`, with the permissions of what it takes the place of.
    ///
    /// # Errors
    /// Where its folder cannot be written to or read, or what stands there is not a regular file.
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
        let place = Place::find(&target)?;
        // As any new file: the umask decides.
        let as_new = Mode::from_raw_mode(mode.unwrap_or(0o666));
        let (file, temporary) = match unnamed(&place.folder, as_new) {
            Some(file) => (file, None),
            None => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let make = |name: &CStr| rustix::fs::openat(&place.folder, name, flags, as_new);
                let (file, temporary) = Temporary::make(&place.folder, make)?;
                (file, Some(temporary))
            }
        };
        let file = File::from(file);
        if let Some(mode) = mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(Unfinished { place, file: io::BufWriter::new(file), temporary })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Brings the file to disk, still without its name.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn finish(self) -> io::Result<Finished> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Finished { place: self.place, file, temporary: self.temporary })
    }
}

impl Finished {
    /// What [`Finished::publish`] does. With several files each is for all of them before the next: what may well fail comes first.
    pub(crate) const STEPS: [fn(&mut Finished) -> io::Result<()>; 3] =
        [Finished::stand_by, Finished::take_name, Finished::settle];
    /// Which of them gives names.
    pub(crate) const NAMING: usize = 1;

    /// Gives the file its name, in place of what stood there.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn publish(mut self) -> io::Result<()> {
        Finished::STEPS.iter().try_for_each(|step| step(&mut self))
    }

    /// Gives both files their names or neither: this one a name that nothing has yet, and `main`, which names it, in place
    /// of what stood there.
    ///
    /// # Errors
    /// As [`Finished::publish`], and where the new name is taken.
    pub fn publish_with(mut self, mut main: Finished) -> io::Result<()> {
        main.stand_by()?;
        self.take_new_name()?;
        // On disk before anything names it.
        if let Err(error) = self.settle().and_then(|()| main.take_name()) {
            // Nobody has been told of it yet.
            let _ = rustix::fs::unlinkat(&self.place.folder, &self.place.name, AtFlags::empty());
            return Err(error);
        }
        main.settle()
    }

    /// Has a name beside its own.
    fn stand_by(&mut self) -> io::Result<()> {
        if self.temporary.is_none() {
            let Finished { place, file, .. } = self;
            let ((), temporary) = Temporary::make(&place.folder, |name| give_name(&*file, &place.folder, name))?;
            self.temporary = Some(temporary);
        }
        Ok(())
    }

    fn take_name(&mut self) -> io::Result<()> {
        let Place { folder, name } = &self.place;
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(folder, &temporary.entry.name, folder, name)?;
        }
        Ok(())
    }

    /// One that nothing has.
    fn take_new_name(&mut self) -> io::Result<()> {
        let Place { folder, name } = &self.place;
        let Some(temporary) = &self.temporary else {
            return Ok(give_name(&self.file, folder, name)?);
        };
        let temporary = &temporary.entry.name;
        match rustix::fs::renameat_with(folder, temporary, folder, name, RenameFlags::NOREPLACE) {
            // A file system, or a kernel, that takes no such flag.
            Err(Errno::INVAL | Errno::NOSYS) => {
                Ok(rustix::fs::linkat(folder, temporary, folder, name, AtFlags::empty())?)
            }
            result => Ok(result?),
        }
    }

    /// Brings the name to disk: it is there once its folder is.
    fn settle(&mut self) -> io::Result<()> {
        self.place.folder.sync_all().map_err(|error| {
            io::Error::new(error.kind(), format!("it is there, and may not be after a power cut: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(target: &Path, contents: &[u8]) -> io::Result<Finished> {
        let mut file = Unfinished::create(target)?;
        file.write(contents)?;
        file.finish()
    }

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
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
        assert_eq!(names(folder.path()), ["secret"]);
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
        assert_eq!(names(folder.path()), ["main", "new"], "nothing of what failed");
    }

    /// As where a file system has no files without a name.
    fn named(target: &Path, contents: &[u8]) -> Finished {
        let place = Place::find(target).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let make = |name: &CStr| rustix::fs::openat(&place.folder, name, flags, Mode::from_raw_mode(0o644));
        let (file, temporary) = Temporary::make(&place.folder, make).unwrap();
        let mut file = File::from(file);
        file.write_all(contents).unwrap();
        Finished { place, file, temporary: Some(temporary) }
    }

    #[test]
    fn a_file_that_had_to_have_a_name_is_published_alike_and_leaves_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        drop(named(&at("a"), b"dropped"));
        assert!(names(folder.path()).is_empty());
        named(&at("a"), b"one").publish().unwrap();
        named(&at("a"), b"two").publish().unwrap();
        named(&at("b"), b"data").publish_with(named(&at("a"), b"main")).unwrap();
        assert_eq!([fs::read(at("a")).unwrap(), fs::read(at("b")).unwrap()], [b"main", b"data"]);
        let again = named(&at("b"), b"other").publish_with(named(&at("a"), b"other")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::find(&folder.path().join("a")).unwrap();
        let tries = std::cell::Cell::new(0);
        let make = |name: &CStr| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                rustix::fs::openat(&place.folder, name, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR)?;
                return Err(Errno::EXIST);
            }
            Ok(())
        };
        Temporary::make(&place.folder, make).unwrap();
        assert_eq!((tries.get(), names(folder.path()).len()), (2, 1));
    }

    #[test]
    fn a_fault_is_told_without_the_name_that_a_file_has_meanwhile() {
        let told = |path: &str| Unfinished::create(Path::new(path)).unwrap_err().to_string();
        assert_eq!(told("/nonexistent/x"), "there is no folder /nonexistent; make it first");
        assert_eq!(told("/nonexistent/"), "it names a folder and no file");
        // Nobody makes files in /proc, whatever he may.
        let told = told("/proc/x");
        assert!(told.ends_with(')') && !told.contains(".part"), "{told}");
    }
}
