//! Frames that do not decode.

use std::fmt;

/// A frame that did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// `line`, `frame` or `message`.
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
    /// A line has bytes that no text has, as raw samples do.
    NotText,
    /// It is the first line of a port that was opened in its midst: what it begins with may be missing.
    Headless,
    /// A value is NaN or infinite.
    NotFinite {
        /// The channel or field, counted from 1.
        field: usize,
    },
    /// A time is before 0, or more nanoseconds than are counted.
    Time {
        /// The field, counted from 1.
        field: usize,
    },
    /// A line does not end within the reader's buffer.
    TooLong,
    /// A message has another number of values than a window.
    Values {
        /// How many it has.
        found: usize,
        /// How many a window has.
        expected: usize,
    },
    /// A frame of a message has another number of values than there are channels.
    Frame {
        /// How many it has.
        found: usize,
        /// How many channels there are.
        expected: usize,
    },
    /// A message of raw samples has another length than a window.
    Bytes {
        /// How long it is.
        found: usize,
        /// How long a window is.
        expected: usize,
    },
    /// A message is no JSON, or says no window in it.
    NotJson {
        /// Where, counted from 1.
        line: usize,
        /// In that line.
        column: usize,
    },
    /// What its sender calls a message is too long.
    Id,
    /// It is cut off.
    Incomplete {
        /// Bytes that are there.
        bytes: usize,
        /// Bytes of a whole frame; 0 for a line, which ends with a line feed.
        expected: usize,
    },
}

/// What arrives as CSV and is something else, with what to do about it.
pub const NOT_TEXT: &str = "it is no CSV, but has bytes that text does not; raw samples need --format, such as s16le";

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.what, self.number)?;
        match self.reason {
            Reason::Fields { found, expected } => write!(f, "{found} fields, expected {expected}"),
            Reason::NotANumber { field } => write!(f, "field {field} is not a number"),
            Reason::NotText => f.write_str(NOT_TEXT),
            Reason::Headless => write!(f, "the port was opened in its midst, and its beginning may be missing"),
            Reason::NotFinite { field } => write!(f, "field {field} is NaN or infinite"),
            Reason::Time { field } => {
                write!(
                    f,
                    "field {field} is a time before 0, as of recordings that count from an event, or past 584 years; add an offset, or mind the unit of --time"
                )
            }
            Reason::TooLong => write!(f, "longer than {} bytes", super::BUFFER_BYTES),
            Reason::Values { found, expected } => write!(f, "{found} values, expected {expected}"),
            Reason::Frame { found, expected } => write!(f, "a frame of {found} values, expected {expected}"),
            Reason::Bytes { found, expected } => write!(f, "{found} bytes, expected {expected}"),
            Reason::NotJson { line, column } => {
                write!(f, "no JSON array of numbers, nor an object with such `values`, at line {line}, column {column}")
            }
            Reason::Id => write!(f, "an id of more than 256 bytes"),
            Reason::Incomplete { bytes, expected: 0 } => write!(f, "cut off after {bytes} bytes"),
            Reason::Incomplete { bytes, expected } => write!(f, "cut off after {bytes} of {expected} bytes"),
        }
    }
}
