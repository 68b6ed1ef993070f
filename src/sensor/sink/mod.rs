//! Where decisions go: JSON lines, CSV, or text to read; a broker.

mod file;
mod lines;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
#[cfg(feature = "mqtt")]
use std::sync::Arc;

use super::Control;
use super::counters::Summary;
use super::decide::Decision;
use super::mqtt::MqttAddress;

/// Takes what a stream says.
pub trait Sink {
    /// Takes a decision. Who does not have it out by the next [`Sink::flush`] keeps a copy of its message's receipt, and
    /// confirms that then.
    ///
    /// # Errors
    /// Where it cannot be written; the stream ends then.
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()>;

    /// Makes what was taken visible to others.
    ///
    /// # Errors
    /// As [`Sink::decision`].
    fn flush(&mut self) -> io::Result<()>;

    /// Takes the summary, once, at the end.
    ///
    /// # Errors
    /// As [`Sink::decision`].
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;

    /// Decisions that were taken and given up.
    fn undelivered(&self) -> u64 {
        0
    }
}

/// A sink as it is written on a command line: `-`, or `json:`, `csv:` or `text:` with `-` or a file behind it, or `mqtt://`
/// with a broker's topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSpec(Target);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// Lines, to standard output or to a file.
    Lines(Form, Option<PathBuf>),
    Mqtt(MqttAddress),
}

/// What a sink that is no file is told.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// What a broker knows this client by.
    pub client_id: Option<String>,
    /// Decisions that are kept while a broker is away, in bytes; the oldest go beyond it.
    pub queue_bytes: usize,
    /// Which of the sinks at brokers under this `client_id` it is, from 1: no two of them may be one client.
    pub number: u32,
}

impl Default for SinkOptions {
    fn default() -> SinkOptions {
        SinkOptions { client_id: None, queue_bytes: 1 << 20, number: 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Text,
}

impl FromStr for SinkSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<SinkSpec, String> {
        if text.starts_with("mqtt:") {
            let address: MqttAddress = text.parse()?;
            return match address.is_one_topic() {
                true => Ok(SinkSpec(Target::Mqtt(address))),
                false => Err(format!("{address}: decisions are published at one topic, without # or +")),
            };
        }
        let (form, target) = match text.split_once(':') {
            _ if text == "-" => (Form::Json, "-"),
            Some(("json", target)) => (Form::Json, target),
            Some(("csv", target)) => (Form::Csv, target),
            Some(("text", target)) => (Form::Text, target),
            _ => {
                return Err(format!(
                    "`{text}` is no sink; expected -, json:, csv: or text: with - or a file behind it, or mqtt://"
                ));
            }
        };
        match target {
            "" => Err(format!("nothing follows `{text}`; expected - or a file")),
            "-" => Ok(SinkSpec(Target::Lines(form, None))),
            path => Ok(SinkSpec(Target::Lines(form, Some(path.into())))),
        }
    }
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Lines(_, None) => f.write_str("standard output"),
            Target::Lines(_, Some(path)) => path.display().fmt(f),
            Target::Mqtt(address) => address.fmt(f),
        }
    }
}

impl SinkSpec {
    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.0, Target::Lines(_, None))
    }

    /// The file that it is, or will be; devices and pipes may be written to by many.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Target::Lines(_, Some(path)) if path.is_file() || !path.exists() => Some(path),
            Target::Lines(..) | Target::Mqtt(_) => None,
        }
    }

    /// The broker that it is at.
    pub fn broker(&mut self) -> Option<&mut MqttAddress> {
        match &mut self.0 {
            Target::Mqtt(address) => Some(address),
            Target::Lines(..) => None,
        }
    }

    /// Opens it, a file for appending, for the stream that `control` steers: once that is stopped, a reader who stalls is
    /// not waited for.
    ///
    /// # Errors
    /// Where the file cannot be written, or the broker is not there.
    pub fn open(&self, options: &SinkOptions, control: &Control) -> io::Result<Box<dyn Sink>> {
        let sink = match &self.0 {
            Target::Lines(form, path) => lines::open(*form, path.as_deref(), control)?,
            Target::Mqtt(address) => publish(address, options, control)?,
        };
        Ok(Box::new(Named { name: self.to_string(), sink }))
    }
}

/// Says in errors which sink it was.
struct Named {
    name: String,
    sink: Box<dyn Sink>,
}

impl Named {
    fn told(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.name))
    }
}

impl Sink for Named {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        self.sink.decision(decision).map_err(|error| self.told(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().map_err(|error| self.told(error))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.sink.summary(summary).map_err(|error| self.told(error))
    }

    fn undelivered(&self) -> u64 {
        self.sink.undelivered()
    }
}

#[cfg(feature = "mqtt")]
fn publish(address: &MqttAddress, options: &SinkOptions, control: &Control) -> io::Result<Box<dyn Sink>> {
    Ok(Box::new(super::mqtt::Outbox::open(address, options, Arc::clone(&control.stop))?))
}

#[cfg(not(feature = "mqtt"))]
fn publish(_: &MqttAddress, _: &SinkOptions, _: &Control) -> io::Result<Box<dyn Sink>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, super::mqtt::NOT_BUILT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_parsed_or_refused() {
        assert!("-".parse::<SinkSpec>().unwrap().is_stdout());
        assert_eq!("csv:a:b".parse::<SinkSpec>().unwrap().to_string(), "a:b");
        assert_eq!("mqtt://u:p@h/a".parse::<SinkSpec>().unwrap().to_string(), "mqtt://h:1883/a");
        for wrong in ["", "json:", "xml:-", "out.json", "mqtt://h/a/#", "mqtt:h/a"] {
            assert!(wrong.parse::<SinkSpec>().is_err(), "{wrong}");
        }
    }
}
