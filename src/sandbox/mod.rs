//! A process that gives up what it does not need any more: files by Landlock, system calls by seccomp.
//!
//! Whoever finds a way to run code of their own in a process that reads a sensor finds no file, no other program and no
//! network to go on with. There is no way back, for threads that are started later neither.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod filter;

use std::fs;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use calls::Calls;

/// What the kernel is asked for; an older one gives what it has.
const NEWEST: ABI = ABI::V5;

/// What the process still needs, beside what it has open.
///
/// ```no_run
/// use tractlet::sandbox::Sandbox;
/// let confined = Sandbox { read: vec!["models".into()], ..Sandbox::default() }.enter()?;
/// assert!(confined.files && std::fs::read("/etc/passwd").is_err());
/// # Ok::<(), tractlet::sandbox::SandboxError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Files to open for reading, and folders of them.
    pub read: Vec<PathBuf>,
    /// Files to write, and folders to make, rename and remove files in; these can be read too.
    pub write: Vec<PathBuf>,
    /// Whether to open sockets, and to connect and bind them.
    pub network: bool,
}

/// What holds from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Paths: without it, files can be opened wherever the user may, if the sandbox lets any be opened.
    pub files: bool,
    /// System calls.
    pub calls: bool,
}

/// A sandbox that cannot be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Landlock holds the thread that asks for it and those that it starts.
    #[error("the process has {0} threads already, and a sandbox is entered with one")]
    Threads(usize),
    /// The kernel has Landlock and refused.
    #[error("Landlock: {0}")]
    Files(#[from] RulesetError),
    /// The kernel has seccomp and refused.
    #[error("seccomp: {0}")]
    Calls(seccompiler::Error),
    /// /proc cannot be read.
    #[error("cannot count the threads: {0}")]
    Io(#[from] io::Error),
}

impl Sandbox {
    /// Confines the process, for good. What a kernel does not have is missing from the answer, and no error.
    ///
    /// # Errors
    /// Where a kernel refuses what it has, or other threads would be left out.
    pub fn enter(&self) -> Result<Confined, SandboxError> {
        let threads = fs::read_dir("/proc/self/task")?.count();
        if threads != 1 {
            return Err(SandboxError::Threads(threads));
        }
        let files = self.confine_files()?;
        let needed = Calls { files: !(self.read.is_empty() && self.write.is_empty()), network: self.network };
        let calls =
            match seccompiler::apply_filter_all_threads(&filter::allowing(&needed.numbers(), needed.unaddressed())) {
                Ok(()) => true,
                Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
                {
                    false
                }
                Err(error) => return Err(SandboxError::Calls(error)),
            };
        Ok(Confined { files, calls })
    }

    fn confine_files(&self) -> Result<bool, RulesetError> {
        let ruleset =
            Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST))?;
        let ruleset = if self.network { ruleset } else { ruleset.handle_access(AccessNet::from_all(NEWEST))? };
        let mut ruleset = ruleset.create()?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::from_all(NEWEST) & !AccessFs::Execute;
        for (paths, access) in [(&self.read, read), (&self.write, write)] {
            for path in paths {
                // What is not there now cannot be opened later either.
                let Ok(fd) = PathFd::new(path) else { continue };
                let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
                ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
            }
        }
        Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
    }
}
