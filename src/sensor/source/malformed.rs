//! Frames that do not decode.

use std::fmt;

/// A frame that did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// `line` or `frame`.
    pub what: &'static str,
    /// Which, counted from 1 since the source was opened.
    pub number: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a frame does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A line has another number of fields than the first.
    Fields {
        /// How many it has.
        found: usize,
        /// How many the first has.
        expected: usize,
    },
    /// A field is no number.
    NotANumber {
        /// Which, counted from 1.
        field: usize,
    },
    /// A value is NaN or infinite.
    NotFinite {
        /// The channel or field, counted from 1.
        field: usize,
    },
    /// A line does not end within the reader's buffer.
    TooLong,
    /// It is cut off.
    Incomplete {
        /// Bytes that are there.
        bytes: usize,
        /// Bytes of a whole frame; 0 for a line, which ends with a line feed.
        expected: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.what, self.number)?;
        match self.reason {
            Reason::Fields { found, expected } => write!(f, "{found} fields, expected {expected}"),
            Reason::NotANumber { field } => write!(f, "field {field} is not a number"),
            Reason::NotFinite { field } => write!(f, "field {field} is NaN or infinite"),
            Reason::TooLong => write!(f, "longer than {} bytes", super::BUFFER_BYTES),
            Reason::Incomplete { bytes, expected: 0 } => write!(f, "cut off after {bytes} bytes"),
            Reason::Incomplete { bytes, expected } => write!(f, "cut off after {bytes} of {expected} bytes"),
        }
    }
}
