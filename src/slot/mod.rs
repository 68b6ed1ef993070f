//! Two slots for a model on a device: one runs while the other is filled, and one rename decides which.
//!
//! A package is a folder: a model or a plan, its model.toml and what else belongs to it, and a manifest with the SHA-256
//! of each, signed with minisign. [`Slots::install`] takes it into the slot that is not active, [`Slots::activate`]
//! makes that one active, on trial, and a [`Start`] on trial that is not [confirmed](Slots::confirm) counts as a crash:
//! after three the older package takes over again. Every step is safe from a power cut (`power.rs` tries each).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
mod error;
mod manifest;
mod package;
#[cfg(test)]
mod power;
mod selftest;
mod state;

use std::io;
use std::path::{Path, PathBuf};

use disk::{Disk, Lock, OsDisk, replace};
use error::SlotFault;
pub use error::{SlotError, SlotErrorKind};
pub use manifest::{Golden, Manifest};
use manifest::{MANIFEST, SIGNATURE, is_plain};
pub use package::{Package, digest};
use package::{Trust, key_of, suits, verified};
use state::State;
pub use state::{Other, SlotName};

/// Starts on trial that ended without a word, after which the older package takes over.
pub const MAX_CRASHES: u32 = 3;

/// What the slots are held to, written once: its presence tells a folder of slots.
const TRUST: &str = "slots.toml";
const STATE: &str = "state.toml";
const MAX_TEXT_BYTES: u64 = 4096;

type Result<T> = std::result::Result<T, SlotError>;

/// Says whether a package is fit to be used, which its signature does not: [`Package::self_test`], and what else there is.
pub type Check<'a> = &'a dyn Fn(&Package) -> std::result::Result<(), String>;

/// A folder of two slots.
pub struct Slots {
    disk: Box<dyn Disk>,
    folder: PathBuf,
    trust: Trust,
}

/// What there is.
#[derive(Debug)]
pub struct Status {
    /// The slot that is used, and what is in it.
    pub active: Option<(SlotName, Result<Package>)>,
    /// The other one.
    pub other_slot: SlotName,
    /// What it is for.
    pub other: Other,
    /// The package in it, where there is one.
    pub in_other: Option<Result<Package>>,
    /// The highest version that was ever installed.
    pub newest: u64,
    /// Whether the active one has yet to prove itself.
    pub trial: bool,
    /// Its starts of which no end is known.
    pub crashes: u32,
}

/// A use of the active package, which on trial counts as a crash until it is known to have gone well.
#[derive(Debug)]
pub struct Start {
    package: Package,
    trial: bool,
    /// Tells it from a crash while it goes on.
    in_use: Option<Box<dyn Lock>>,
}

impl Slots {
    /// Whether a folder is one of slots.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(TRUST).is_file()
    }

    /// Opens a folder of slots.
    ///
    /// # Errors
    /// Where it is none.
    pub fn open(folder: &Path) -> Result<Slots> {
        Slots::on(Box::new(OsDisk), folder)
    }

    fn on(disk: Box<dyn Disk>, folder: &Path) -> Result<Slots> {
        let path = folder.join(TRUST);
        let text = disk::read(&*disk, &path, MAX_TEXT_BYTES).map_err(SlotError::io(&path, "read"))?;
        let trust = std::str::from_utf8(&text).map_err(|error| error.to_string());
        let trust = trust.and_then(crate::from_toml);
        let trust = trust.map_err(|what| SlotError::new(&path, SlotFault::Format(what)))?;
        Ok(Slots { disk, folder: folder.to_owned(), trust })
    }

    /// Makes a folder of slots that takes packages by this key, of the name that the first one has, for this board. `key`
    /// is a minisign.pub, or the line of letters in one.
    ///
    /// # Errors
    /// Where the first package is not signed by it, is for another board, or `check` finds it unfit. No folder is made then.
    pub fn create(folder: &Path, key: &str, board: Option<&str>, first: &Path, check: Check<'_>) -> Result<Slots> {
        Slots::create_on(Box::new(OsDisk), folder, key, board, first, check)
    }

    fn create_on(
        disk: Box<dyn Disk>,
        folder: &Path,
        key: &str,
        board: Option<&str>,
        first: &Path,
        check: Check<'_>,
    ) -> Result<Slots> {
        if let Some(board) = board.filter(|board| !is_plain(board)) {
            let what = format!("board {board:?} is no name; expected letters, digits and . _ -");
            return Err(SlotError::new(folder, SlotFault::Format(what)));
        }
        let mut trust = Trust { key: key_of(key).to_owned(), name: String::new(), board: board.map(str::to_owned) };
        let package = verified(&*disk, first, &trust)?;
        trust.name.clone_from(&package.manifest.name);
        suits(&package, &trust)?;
        check(&package).map_err(|what| SlotError::new(first, SlotFault::Unfit(what)))?;
        disk.create_folder(folder).map_err(SlotError::io(folder, "make"))?;
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync(above).map_err(SlotError::io(above, "write"))?;
        let Trust { key, name, board } = &trust;
        let board = board.as_ref().map_or(String::new(), |board| format!("board = \"{board}\"\n"));
        let text = format!(
            "# Whose packages are taken here. tractlet slot wrote this file.\nkey = \"{key}\"\nname = \"{name}\"\n{board}"
        );
        let path = folder.join(TRUST);
        replace(&*disk, &path, text.as_bytes()).map_err(SlotError::io(&path, "write"))?;
        Ok(Slots { disk, folder: folder.to_owned(), trust })
    }

    /// Whether packages by this key, for this board, are those that are taken; what is not said is as it is.
    pub fn trusts(&self, key: Option<&str>, board: Option<&str>) -> bool {
        key.is_none_or(|key| key_of(key) == self.trust.key) && (board.is_none() || board == self.trust.board.as_deref())
    }

    /// What is in the slots, each looked through anew.
    ///
    /// # Errors
    /// Where state.toml cannot be read.
    pub fn status(&self) -> Result<Status> {
        let state = self.state()?;
        let State { active, other, newest, trial, crashes } = state;
        let (active, other_slot) = (active.map(|slot| (slot, self.package(slot))), state.other_slot());
        let in_other = (other != Other::Nothing).then(|| self.package(other_slot));
        Ok(Status { active, other_slot, other, in_other, newest, trial, crashes })
    }

    /// Takes a package into the slot that is not active.
    ///
    /// # Errors
    /// Where it is unsigned, altered, not newer, for another board, or `check` finds it unfit. Nothing is changed then.
    pub fn install(&self, package: &Path, check: Check<'_>) -> Result<Package> {
        let _lock = self.lock()?;
        let state = self.state()?;
        let given = verified(&*self.disk, package, &self.trust)?;
        suits(&given, &self.trust)?;
        let (found, newest) = (given.manifest.version, state.newest);
        if found <= newest {
            return Err(SlotError::new(package, SlotFault::Version { found, newest }));
        }
        if state.trial && state.other == Other::Older {
            let what = "the active package is on trial, and the older one is kept for it to fall back to; install when it \
                        is confirmed, by a run or a stream that goes well, or roll back first";
            return Err(SlotError::new(&self.folder, SlotFault::Nothing(what.to_owned())));
        }
        check(&given).map_err(|what| SlotError::new(package, SlotFault::Unfit(what)))?;
        if state.other != Other::Nothing {
            // From here on nobody takes what is in the slot for a package.
            self.decide(&State { other: Other::Nothing, ..state.clone() })?;
        }
        let installed = self.fill(state.other_slot(), &given)?;
        self.decide(&State { other: Other::Newer, newest: found, ..state })?;
        Ok(installed)
    }

    /// Copies a package into a slot that is nobody's, and looks through what has arrived.
    fn fill(&self, slot: SlotName, package: &Package) -> Result<Package> {
        let (disk, folder) = (&*self.disk, self.folder.join(slot.as_str()));
        fn writing(path: &Path) -> impl FnOnce(io::Error) -> SlotError {
            SlotError::io(path, "write")
        }
        disk.create_folder(&folder).map_err(writing(&folder))?;
        disk.sync(&self.folder).map_err(writing(&self.folder))?;
        for name in disk.list(&folder).map_err(SlotError::io(&folder, "list"))? {
            let path = folder.join(name);
            disk.remove(&path).map_err(SlotError::io(&path, "remove"))?;
        }
        for name in package.manifest.files.keys().map(String::as_str).chain([MANIFEST, SIGNATURE]) {
            let (from, to) = (package.file(name), folder.join(name));
            let mut contents = disk.open(&from).map_err(SlotError::io(&from, "read"))?;
            disk.write(&to, &mut contents).map_err(writing(&to))?;
            disk.sync(&to).map_err(writing(&to))?;
        }
        disk.sync(&folder).map_err(writing(&folder))?;
        let arrived = self.package(slot)?;
        if arrived.manifest != package.manifest {
            return Err(SlotError::new(
                &package.folder,
                SlotFault::Altered("it changed while it was copied".to_owned()),
            ));
        }
        Ok(arrived)
    }

    /// Makes the package active that was installed, on trial.
    ///
    /// # Errors
    /// Where there is none, or it is not what it was, or `check` finds it unfit. The old one stays active then.
    pub fn activate(&self, check: Check<'_>) -> Result<Package> {
        let _lock = self.lock()?;
        let state = self.state()?;
        let what = match state.other {
            Other::Newer => None,
            Other::Withdrawn => {
                Some("the other package was rolled back; sign it under a higher version and install that")
            }
            Other::Nothing | Other::Older => Some("no newer package is installed"),
        };
        if let Some(what) = what {
            return Err(SlotError::new(&self.folder, SlotFault::Nothing(what.to_owned())));
        }
        let package = self.package(state.other_slot())?;
        check(&package).map_err(|what| SlotError::new(&package.folder, SlotFault::Unfit(what)))?;
        self.decide(&state.activated())?;
        Ok(package)
    }

    /// Makes the package active again that was active before.
    ///
    /// # Errors
    /// Where there is none, or it is not what it was.
    pub fn roll_back(&self) -> Result<Package> {
        let _lock = self.lock()?;
        let state = self.state()?;
        if state.other != Other::Older {
            let what = "there is no older package to go back to".to_owned();
            return Err(SlotError::new(&self.folder, SlotFault::Nothing(what)));
        }
        let package = self.package(state.other_slot())?;
        self.decide(&state.rolled_back())?;
        Ok(package)
    }

    /// The active package, looked through; nothing is counted.
    ///
    /// # Errors
    /// Where there is none, or it is not what it was.
    pub fn active(&self) -> Result<Package> {
        self.package(self.state()?.active.ok_or_else(|| self.nothing_active())?)
    }

    /// The active package, to be used. On trial this start counts as a crash until it is told otherwise, and the
    /// older package takes over where there were too many and none of them goes on, or where `check` finds the new one unfit. It does too where
    /// the files of the active one are not what they were.
    ///
    /// # Errors
    /// Where there is none to use.
    pub fn begin(&self, check: Check<'_>) -> Result<Start> {
        let mut lock = Some(self.lock()?);
        let mut state = self.state()?;
        let active = state.active.ok_or_else(|| self.nothing_active())?;
        let has_older = state.other == Other::Older;
        let failed = match self.package(active) {
            Err(error) if has_older && error.is_decay() => error.to_string(),
            Err(error) => return Err(error),
            Ok(package) if state.trial && has_older && state.crashes >= MAX_CRASHES && !self.is_in_use(&package)? => {
                format!("{}: {} starts on trial did not end well", self.folder.display(), state.crashes)
            }
            Ok(package) if !state.trial => return Ok(Start::settled(package)),
            Ok(package) => {
                let manifest = package.file(MANIFEST);
                let in_use = self.disk.use_of(&manifest).map_err(SlotError::io(&manifest, "lock"))?;
                state.crashes = state.crashes.saturating_add(1);
                if let Err(error) = self.decide(&state) {
                    log::warn!("{error}; this start is not counted, and a crash will not bring the older package back");
                }
                // A test that takes the process with it counts too, and others may look meanwhile.
                lock = None;
                match check(&package) {
                    Ok(()) => return Ok(Start { package, trial: true, in_use: Some(in_use) }),
                    Err(what) if has_older => format!("{}: {what}", package.folder.display()),
                    Err(what) => return Err(SlotError::new(&package.folder, SlotFault::Unfit(what))),
                }
            }
        };
        let package = self.package(state.other_slot())?;
        let _lock = match lock {
            Some(lock) => lock,
            None => self.lock()?,
        };
        // Somebody may have decided otherwise meanwhile; other starts only counted themselves.
        let now = self.state()?;
        if (now.active, now.other, now.trial) == (state.active, state.other, state.trial) {
            self.decide(&now.rolled_back())?;
            log::warn!("{failed}; rolled back to version {}", package.manifest.version);
        } else {
            log::warn!("{failed}; version {} is used this time", package.manifest.version);
        }
        Ok(Start::settled(package))
    }

    /// Whether a start of it goes on, which its count says nothing of.
    fn is_in_use(&self, package: &Package) -> Result<bool> {
        let manifest = package.file(MANIFEST);
        self.disk.is_in_use(&manifest).map_err(SlotError::io(&manifest, "lock"))
    }

    /// The package works: its trial is over, and the older one is only gone back to by hand.
    ///
    /// # Errors
    /// Where that cannot be written; it may be tried again.
    pub fn confirm(&self, start: &mut Start) -> Result<()> {
        self.settle(start, |state| State { trial: false, crashes: 0, ..state })
    }

    /// The use ended without a crash, and without telling whether the package is good.
    ///
    /// # Errors
    /// As [`Slots::confirm`].
    pub fn excuse(&self, start: &mut Start) -> Result<()> {
        self.settle(start, |state| State { crashes: state.crashes.saturating_sub(1), ..state })
    }

    fn settle(&self, start: &mut Start, settled: impl FnOnce(State) -> State) -> Result<()> {
        if !start.trial {
            return Ok(());
        }
        let _lock = self.lock()?;
        let state = self.state()?;
        // Somebody may have decided otherwise meanwhile.
        let is_ours = |slot: SlotName| {
            self.folder.join(slot.as_str()) == start.package.folder
                && self.package(slot).is_ok_and(|package| package.manifest == start.package.manifest)
        };
        let ours = state.active.is_some_and(is_ours);
        if ours && state.trial {
            self.decide(&settled(state))?;
        }
        // What could not be written may be tried again.
        (start.trial, start.in_use) = (false, None);
        Ok(())
    }

    fn package(&self, slot: SlotName) -> Result<Package> {
        let package = verified(&*self.disk, &self.folder.join(slot.as_str()), &self.trust)?;
        suits(&package, &self.trust)?;
        let names = self.disk.list(&package.folder).map_err(SlotError::io(&package.folder, "list"))?;
        let unsigned = |name: &&String| !package.has(name) && ![MANIFEST, SIGNATURE].contains(&name.as_str());
        match names.iter().find(unsigned) {
            None => Ok(package),
            // A model may read what lies beside it.
            Some(name) => {
                Err(SlotError::new(&package.file(name), SlotFault::Altered("it is not in the manifest".to_owned())))
            }
        }
    }

    fn state(&self) -> Result<State> {
        let path = self.folder.join(STATE);
        match disk::read(&*self.disk, &path, MAX_TEXT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::EMPTY),
            Err(error) => Err(SlotError::io(&path, "read")(error)),
            Ok(text) => State::parse(&text).map_err(|what| SlotError::new(&path, SlotFault::Format(what))),
        }
    }

    fn decide(&self, state: &State) -> Result<()> {
        let path = self.folder.join(STATE);
        replace(&*self.disk, &path, state.text().as_bytes()).map_err(SlotError::io(&path, "write"))
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.disk.lock(&self.folder).map_err(SlotError::io(&self.folder, "lock"))
    }

    fn nothing_active(&self) -> SlotError {
        let what = "no slot is active; tractlet slot install, then tractlet slot activate".to_owned();
        SlotError::new(&self.folder, SlotFault::Nothing(what))
    }
}

impl Start {
    fn settled(package: Package) -> Start {
        Start { package, trial: false, in_use: None }
    }

    /// The package to use.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// Whether it has yet to prove itself.
    pub fn is_on_trial(&self) -> bool {
        self.trial
    }
}
