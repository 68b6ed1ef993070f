//! `--sandbox`: what holds of it on this kernel, and what does not.

use tractlet::EngineName;
use tractlet::sandbox::{Confined, Sandbox, SandboxError};

use super::failure::Failure;
use super::threads::ThreadArgs;

/// Whether what is to be confined begins with one thread.
pub fn expect_one_thread(is_confined: bool, threads: &ThreadArgs) -> Result<(), &'static str> {
    match is_confined && threads.threads > 1 {
        true => Err("--sandbox confines a process of one thread: leave --threads at 1"),
        false => Ok(()),
    }
}

/// Gives up all but what is needed, for good; says so where the kernel cannot hold it.
pub fn confine(sandbox: &Sandbox, engine: EngineName) -> Result<(), Failure> {
    if !matches!(engine, EngineName::Plan | EngineName::Tract) {
        let what = "its library opens files and starts threads as it likes";
        return Err(format!("--sandbox: not with the engine {engine}: {what}").into());
    }
    let confined = sandbox.enter().map_err(|error| match error {
        SandboxError::Threads(_) => {
            format!("--sandbox: {error}; take no engine and no source whose library starts some of its own")
        }
        error => format!("--sandbox: {error}"),
    })?;
    let missing = match confined {
        Confined { files: true, calls: true } => return Ok(()),
        Confined { files: false, calls: true } => {
            "no Landlock (Linux 5.13 or later, built and started with it): other programs and the network are out of reach, \
             and files are not"
        }
        Confined { files: true, calls: false } => "no seccomp: files are out of reach, and other system calls are not",
        Confined { files: false, calls: false } => "neither Landlock nor seccomp: nothing is confined",
    };
    log::warn!("--sandbox: this kernel has {missing}");
    Ok(())
}
