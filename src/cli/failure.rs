//! Why a command failed, in words for its user.

use std::io;

use tractlet::footprint::NoRoom;
use tractlet::npy::NpyError;
use tractlet::slot::SlotError;
use tractlet::{ModelError, OpenError, PlanFileError, RunError};

#[derive(Debug)]
pub enum Failure {
    /// Stdout was closed by its reader: the end, but no error.
    Closed,
    Because(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure::Because(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Failure {
        Failure::Because(reason.to_owned())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<PlanFileError> for Failure {
    fn from(error: PlanFileError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<NpyError> for Failure {
    fn from(error: NpyError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<NoRoom> for Failure {
    fn from(error: NoRoom) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::Because(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Because(error.to_string())
    }
}
