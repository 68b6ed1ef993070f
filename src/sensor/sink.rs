//! Where decisions go: JSON lines, CSV, or text to read; a broker.
//!
//! Lines are written into buffers that are allocated once, and reach the file when a stream has nothing else
//! to do, and at its end. Files are appended to: what was there before a restart stays.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Control;
use super::counters::Summary;
use super::decide::{Decision, Verdict};
use super::mqtt::{Message, MqttAddress};
use super::writer::Writer;

/// Small, so that all of it is in use soon and memory stands still.
const BUFFER_BYTES: usize = 8 * 1024;

/// How long it sleeps until it looks again whether somebody reads a pipe.
const PATIENCE: Duration = Duration::from_millis(200);

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
            Target::Lines(form, path) => lines(*form, path.as_deref(), control)?,
            Target::Mqtt(address) => publish(address, options, control)?,
        };
        Ok(Box::new(Named { name: self.to_string(), sink }))
    }
}

fn lines(form: Form, path: Option<&Path>, control: &Control) -> io::Result<Box<dyn Sink>> {
    let file = match path {
        Some(path) => open_file(path, control)?,
        None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
    };
    let found = path.map_or(Ok(Found::Nothing), |path| found(path, &file))?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Writer::new(file, Arc::clone(&control.stop)));
    if matches!(found, Found::Torn { .. }) {
        out.write_all(b"\n")?;
    }
    let header_due = matches!(found, Found::Nothing | Found::Torn { in_first: true });
    Ok(match form {
        Form::Json => Box::new(Json(out)),
        Form::Csv => Box::new(Csv { out, header_due }),
        Form::Text => Box::new(Text(out)),
    })
}

/// For appending. A pipe is waited for until somebody reads it, or the stream is stopped.
fn open_file(path: &Path, control: &Control) -> io::Result<File> {
    let is_pipe = || path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut waits = false;
    let file = loop {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::NXIO) if is_pipe() => {}
            opened => break opened?,
        }
        if control.is_stopped() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "stopped before anybody read it"));
        }
        if !std::mem::replace(&mut waits, true) {
            log::warn!("{}: waiting for who reads it", path.display());
        }
        thread::sleep(PATIENCE);
    };
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(File::from(file))
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

/// What is in a file already.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Lines,
    /// The last line does not end: whoever wrote it was killed, or had no room. There may be no other.
    Torn {
        in_first: bool,
    },
}

fn found(path: &Path, file: &File) -> io::Result<Found> {
    let metadata = file.metadata()?;
    let Some(last) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else { return Ok(Found::Nothing) };
    let (mut end, mut start) = ([0], [0; BUFFER_BYTES]);
    let file = File::open(path)?;
    file.read_exact_at(&mut end, last)?;
    if end == *b"\n" {
        return Ok(Found::Lines);
    }
    let read = file.read_at(&mut start, 0)?;
    Ok(Found::Torn { in_first: !start.get(..read).unwrap_or_default().contains(&b'\n') })
}

#[cfg(feature = "mqtt")]
fn publish(address: &MqttAddress, options: &SinkOptions, control: &Control) -> io::Result<Box<dyn Sink>> {
    Ok(Box::new(super::mqtt::Outbox::open(address, options, Arc::clone(&control.stop))?))
}

#[cfg(not(feature = "mqtt"))]
fn publish(_: &MqttAddress, _: &SinkOptions, _: &Control) -> io::Result<Box<dyn Sink>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, super::mqtt::NOT_BUILT))
}

/// A JSON object a line: one for each decision, and in the end `{"summary": {…}}`.
struct Json(BufWriter<Writer>);

impl Sink for Json {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, decision)?;
        self.0.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        #[derive(serde::Serialize)]
        struct Last<'a> {
            summary: &'a Summary,
        }
        serde_json::to_writer(&mut self.0, &Last { summary })?;
        self.0.write_all(b"\n")
    }
}

/// A row for each decision, behind a header where the file is new.
struct Csv {
    out: BufWriter<Writer>,
    header_due: bool,
}

impl Sink for Csv {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let Decision { window, from_s, to_s, verdict, changed, latency_us, message } = decision;
        if std::mem::take(&mut self.header_due) {
            let middle = match verdict {
                Verdict::Class { .. } => "label,score,state",
                Verdict::Anomaly { .. } => "score,limit,alarm",
            };
            let end = if message.is_some() { ",topic,id,redelivered" } else { "" };
            writeln!(self.out, "window,from_s,to_s,{middle},changed,latency_us{end}")?;
        }
        write!(self.out, "{window},{from_s},{to_s},")?;
        match verdict {
            Verdict::Class { label, score, state, .. } => {
                write!(self.out, "{},{score},{}", Quoted(label), Quoted(state.unwrap_or("")))?;
            }
            Verdict::Anomaly { score, limit, alarm } => {
                write!(self.out, "{score},")?;
                limit.map_or(Ok(()), |limit| write!(self.out, "{limit}"))?;
                write!(self.out, ",{alarm}")?;
            }
        }
        write!(self.out, ",{changed},{latency_us}")?;
        if let Some(Message { topic, id, redelivered, .. }) = message {
            write!(self.out, ",{},{},{redelivered}", Quoted(topic), Quoted(id.as_deref().unwrap_or_default()))?;
        }
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

/// A field of CSV, in quotes where it needs them.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        if !self.0.contains(['"', ',', '\n', '\r']) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            if c == '"' {
                f.write_char('"')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

/// A line for each decision, to be read.
struct Text(BufWriter<Writer>);

impl Sink for Text {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        write!(self.0, "{:>9.3} s to {:>9.3} s", decision.from_s, decision.to_s)?;
        match decision.verdict {
            Verdict::Class { label, score, state, .. } => {
                write!(self.0, "  {label:<12} {score:.4}")?;
                state.map_or(Ok(()), |state| write!(self.0, "  [{state}]"))?;
            }
            Verdict::Anomaly { score, limit, alarm } => {
                write!(self.0, "  {score:>10.4}")?;
                limit.map_or(Ok(()), |limit| write!(self.0, " of {limit:.4}"))?;
                self.0.write_all(if alarm { b"  [alarm]" } else { b"" })?;
            }
        }
        if let Some(Message { topic, id, redelivered, .. }) = decision.message {
            // What others sent must not steer the terminal.
            write!(self.0, "  {}", topic.escape_debug())?;
            id.as_ref().map_or(Ok(()), |id| write!(self.0, " {}", id.escape_debug()))?;
            self.0.write_all(if *redelivered { b" [again]" } else { b"" })?;
        }
        self.0.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let Summary { windows, decisions, read, answered, dropped, malformed, deadline_missed, .. } = summary;
        let rest = summary.stranded + summary.skipped + summary.remainder;
        writeln!(
            self.0,
            "{windows} windows, {decisions} decisions; {read} frames: {answered} answered, {dropped} dropped, {malformed} \
             malformed, {rest} in no window; {deadline_missed} deadlines missed"
        )?;
        if let Some(rate) = summary.resampled_from_hz {
            writeln!(self.0, "resampled from {rate} frames a second")?;
        }
        let millions = |macs: u64| format!("{:.3} MMAC a window", macs as f64 / 1e6);
        let how =
            [summary.macs_per_hop.map(millions), summary.whole_windows.as_ref().map(|why| format!("whole: {why}"))];
        let how: Vec<String> = how.into_iter().flatten().collect();
        if how.is_empty() { Ok(()) } else { writeln!(self.0, "{}", how.join(", ")) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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

    #[test]
    fn what_is_appended_begins_on_a_line_of_its_own() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.jsonl");
        let spec: SinkSpec = format!("json:{}", path.display()).parse().unwrap();
        for (before, after) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"win", "{}\n{\"win\n")] {
            std::fs::write(&path, before).unwrap();
            spec.open(&SinkOptions::default(), &Control::default()).unwrap().flush().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_table_whose_first_line_was_cut_off_has_its_header_behind_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        for (before, expected) in [
            ("", Found::Nothing),
            ("window,from_s\n", Found::Lines),
            ("window,fr", Found::Torn { in_first: true }),
            ("window,from_s\n0,", Found::Torn { in_first: false }),
        ] {
            std::fs::write(&path, before).unwrap();
            assert_eq!(found(&path, &File::open(&path).unwrap()).unwrap(), expected, "{before:?}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up_at_the_stop_and_a_reader_that_leaves_is_told_of() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let spec: SinkSpec = format!("json:{}", path.display()).parse().unwrap();
        let control = Control::default();
        let open = || spec.open(&SinkOptions::default(), &control);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let mut sink = open().unwrap();
        drop(reader);
        let verdict = Verdict::Anomaly { score: 0.0, limit: None, alarm: false };
        let decision =
            Decision { window: 0, from_s: 0.0, to_s: 1.0, verdict, changed: false, latency_us: 0, message: None };
        let error = sink.decision(&decision).and_then(|()| sink.flush()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::BrokenPipe && error.to_string().contains("/pipe: "), "{error}");
        control.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = open().map(drop).unwrap_err();
        assert!(error.to_string().contains("stopped before anybody read it"), "{error}");
    }

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        assert_eq!(Quoted("yes").to_string(), "yes");
        assert_eq!(Quoted("a,\"b\"").to_string(), "\"a,\"\"b\"\"\"");
    }
}
