//! Where frames come from.
//!
//! Every source is bytes and a decoder that makes frames of them, but for a broker, whose messages are whole windows. What
//! does not decode is counted, described once and left out; one hundred in succession are an error, since then
//! the source is not what it was said to be.

#[cfg(feature = "audio")]
mod alsa;
mod batch;
mod binary;
mod bytes;
mod csv;
mod frames;
mod iio;
#[cfg(feature = "mqtt")]
mod inbox;
mod malformed;
mod open;
#[cfg(feature = "mqtt")]
mod payload;
mod serial;
mod spec;
pub(super) mod tcp;
mod times;
mod wav;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(super) use batch::Batch;
pub use malformed::{Malformed, Reason};
pub use spec::{Column, Format, SampleType, SourceSpec, TimeColumn};

use super::recipe::Input;
use super::unit::Unit;
use frames::{Decoded, Decoder, Opened};
pub(super) use frames::{Frames, Progress};
#[cfg(feature = "mqtt")]
pub(super) use inbox::Inbox;
#[cfg(feature = "mqtt")]
pub use payload::Payload;
pub(super) use times::Timeline;

/// Bytes that are read at once, and the most that a line of text may have.
const BUFFER_BYTES: usize = 64 * 1024;

/// What is known of a source beyond where it is.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// How its bytes are read. Where nothing is said, a file's name has to tell: .csv, .tsv, .txt, .npy or .wav; what is no file is
    /// CSV, and a card gives s16le.
    pub format: Option<Format>,
    /// The column of each channel, in the model's order. Where nothing is said they are found by the model's names in a
    /// header, whatever its case, and a header without them is refused; where there is none, or the model names no channels,
    /// they are in order.
    pub columns: Option<Vec<Column>>,
    /// The column of CSV that has the time. No window spans a step back in it, or one forward of more than five periods and a
    /// quarter of a window.
    pub time: Option<TimeColumn>,
    /// Its frames a second, where the source itself does not tell. Frames of another rate than the model's are brought to that.
    pub rate_hz: Option<f64>,
    /// Factors of its values, one for all channels or one for each; what they give is in `units`.
    pub scale: Vec<f64>,
    /// What values are in after that, one for all channels or one for each; the model's where nothing is said.
    pub units: Vec<Unit>,
    /// Channels of a binary frame [default: as many as the model takes].
    pub channels: Option<usize>,
    /// How fast a file is read.
    pub pace: Pace,
    /// How often a file is read; `None` is without end.
    pub repeat: Option<u64>,
    /// Malformed frames in succession that end the stream as an error.
    pub max_malformed: u32,
    /// Where a serial port, socket or device went away: after this time, again and again, it is opened anew. A broker is
    /// in any case, every second where nothing is said.
    pub reconnect: Option<Duration>,
    /// The group of subscribers that share the messages of a broker, each of which goes to one of them.
    pub share: Option<String>,
    /// What a broker knows this client by: with it, it keeps what was not acknowledged while the client is away.
    pub client_id: Option<String>,
    /// For so many seconds.
    pub session_s: u32,
    /// Once it is set, a connection that does not come about is not waited for: that of the stream's [`Control`](super::Control).
    pub stop: Arc<AtomicBool>,
}

impl Default for SourceOptions {
    fn default() -> SourceOptions {
        SourceOptions {
            format: None,
            columns: None,
            time: None,
            rate_hz: None,
            scale: Vec::new(),
            units: Vec::new(),
            channels: None,
            pace: Pace::Maximal,
            repeat: Some(1),
            max_malformed: 100,
            reconnect: None,
            share: None,
            client_id: None,
            session_s: 300,
            stop: Arc::default(),
        }
    }
}

impl SourceOptions {
    /// What would have no effect is refused; what depends on the format is when that is known.
    fn suit(&self, spec: &SourceSpec) -> Result<(), &'static str> {
        let cases = [
            (self.repeat != Some(1) && !spec.is_file(), "only a file is read again: leave --repeat out"),
            (self.pace == Pace::Real && !spec.is_recorded(), "its frames come when they come: leave --replay real out"),
            (
                self.reconnect.is_some() && spec.is_recorded(),
                "where it ends nothing comes back: leave --reconnect out, which is for ports, sockets and devices",
            ),
        ];
        cases.into_iter().find(|(is_given, _)| *is_given).map_or(Ok(()), |(_, what)| Err(what))
    }
}

/// How fast a recorded file is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it is taken.
    #[default]
    Maximal,
    /// At its rate.
    Real,
}

/// A source that cannot be opened or read: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {what}")]
pub struct SourceError {
    source_name: String,
    what: String,
    gone: bool,
}

impl SourceError {
    fn new(source_name: impl Into<String>, what: impl Into<String>) -> SourceError {
        SourceError { source_name: source_name.into(), what: what.into(), gone: false }
    }

    /// A sensor that was there and is no more: opening it anew may help.
    fn gone(source_name: impl Into<String>, what: impl Into<String>) -> SourceError {
        SourceError { gone: true, ..SourceError::new(source_name, what) }
    }

    /// Whether the source was there and went away.
    pub fn is_gone(&self) -> bool {
        self.gone
    }
}

/// An open source.
pub struct Source(Kind);

pub(super) enum Kind {
    Frames(Box<Frames>),
    #[cfg(feature = "mqtt")]
    Messages(Box<Inbox>),
}

impl Source {
    /// Opens `spec` for what `input` takes.
    ///
    /// # Errors
    /// Where it is not there, or its header, rate, channels or units do not fit; the message says what to do.
    pub fn open(spec: &SourceSpec, options: SourceOptions, input: &Input) -> Result<Source, SourceError> {
        options.suit(spec).map_err(|what| SourceError::new(spec.to_string(), what))?;
        let SourceSpec::Mqtt(address) = spec else {
            return Frames::open(spec, options, input).map(|frames| Source(Kind::Frames(Box::new(frames))));
        };
        let fault = |what: String| SourceError::new(address.to_string(), what);
        #[cfg(not(feature = "mqtt"))]
        return Err(fault(super::mqtt::NOT_BUILT.into()));
        #[cfg(feature = "mqtt")]
        {
            let (hop, length) = (input.windowing.hop, input.windowing.length);
            if hop != length {
                return Err(fault(format!(
                    "a message is a window of {length} frames, and the hop is {hop}: make it as long"
                )));
            }
            Inbox::open(address, &options, input).map(|inbox| Source(Kind::Messages(Box::new(inbox))))
        }
    }

    /// Reads frames to their end on this thread and gives none on; how many there were. For tests of what reads them.
    #[doc(hidden)]
    pub fn drain(&mut self) -> Result<u64, SourceError> {
        match &mut self.0 {
            Kind::Frames(frames) => frames.drain(),
            #[cfg(feature = "mqtt")]
            Kind::Messages(_) => Ok(0),
        }
    }

    pub(super) fn kind(&mut self) -> &mut Kind {
        &mut self.0
    }

    /// Whether each window comes in a message of its own, which is acknowledged once its decision is out.
    pub fn has_messages(&self) -> bool {
        !matches!(self.0, Kind::Frames(_))
    }

    /// Frames that did not decode so far; of a broker, messages.
    pub fn malformed(&self) -> u64 {
        match &self.0 {
            Kind::Frames(frames) => frames.malformed(),
            #[cfg(feature = "mqtt")]
            Kind::Messages(inbox) => inbox.malformed(),
        }
    }

    /// The first of them.
    pub fn first_malformed(&self) -> Option<&Malformed> {
        match &self.0 {
            Kind::Frames(frames) => frames.first_malformed(),
            #[cfg(feature = "mqtt")]
            Kind::Messages(inbox) => inbox.first_malformed(),
        }
    }

    /// Its frames a second, where they are brought to the model's rate.
    pub fn resampled_from_hz(&self) -> Option<f64> {
        match &self.0 {
            Kind::Frames(frames) => frames.other_rate_hz(),
            #[cfg(feature = "mqtt")]
            Kind::Messages(_) => None,
        }
    }

    /// Acknowledges what was answered last, where that is done.
    pub(super) fn close(&mut self) {
        match &mut self.0 {
            Kind::Frames(_) => {}
            #[cfg(feature = "mqtt")]
            Kind::Messages(inbox) => inbox.close(),
        }
    }
}
