//! Why a command failed, in words for its user.

use alloc::string::String;

#[derive(Debug)]
pub enum Failure {
    /// Stdout was closed by its reader: the end, but no error.
    Closed,
    /// The work failed.
    Work(String),
    /// The command line is wrong.
    Usage(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Work(why)
    }
}
