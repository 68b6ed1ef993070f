//! Decisions as lines: JSON, CSV, or text to read.
//!
//! They are written into buffers that are allocated once, and reach the file when a stream has nothing else to do, every 200 ms
//! while it has, and at its end.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::file::{self, Found};
use super::{Form, Sink};
use crate::sensor::Control;
use crate::sensor::counters::Summary;
use crate::sensor::decide::{Decision, Verdict};
use crate::sensor::mqtt::Message;
use crate::sensor::writer::Writer;

/// Small, so that all of it is in use soon and memory stands still.
const BUFFER_BYTES: usize = 8 * 1024;

/// Lines of a form, to a file or to standard output.
pub(super) fn open(form: Form, path: Option<&Path>, control: &Control) -> io::Result<Box<dyn Sink>> {
    let file = match path {
        Some(path) => file::open(path, control)?,
        None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
    };
    let found = path.map(|path| file::found(path, &file)).transpose()?.unwrap_or_default();
    // Which of ours it is shows with the first decision, which may be hours away.
    let begun = String::from_utf8_lossy(&found.start);
    if let Some(line) = first_line(OF_ALL, &begun).filter(|line| form == Form::Csv && !line.starts_with(OF_ALL)) {
        return Err(foreign(line, &format!("{OF_ALL}…")));
    }
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Writer::new(file, Arc::clone(&control.stop)));
    // A table is not touched before it is known to be one of these.
    if found.torn && form != Form::Csv {
        out.write_all(b"\n")?;
    }
    Ok(match form {
        Form::Json => Box::new(Json(out)),
        Form::Csv => Box::new(Csv { out, begun: Some(found) }),
        Form::Text => Box::new(Text(out)),
    })
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

/// A row for each decision, behind a header where the file has none yet.
struct Csv {
    out: BufWriter<Writer>,
    /// What is in the file, until the first row.
    begun: Option<Found>,
}

/// What the header of any table of decisions begins with.
const OF_ALL: &str = "window,from_s,to_s,";

/// The first line of what a file begins with that is not the beginning of this header: one that was cut off has a whole one
/// behind it.
fn first_line<'b>(header: &str, begun: &'b str) -> Option<&'b str> {
    begun.lines().find(|line| !(header.len() > line.len() && header.starts_with(line)))
}

/// Rows would stand below another table's header, or below what is no table.
fn foreign(line: &str, header: &str) -> io::Error {
    let line: String = line.chars().take(100).collect();
    let what = format!("it begins with {line:?}, and rows are {header:?}: give them a file of their own");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether `header` is still to be written in a file that begins like this.
fn is_due(header: &str, begun: &[u8]) -> io::Result<bool> {
    match first_line(header, &String::from_utf8_lossy(begun)) {
        None => Ok(true),
        Some(line) if line == header => Ok(false),
        Some(line) => Err(foreign(line, header)),
    }
}

impl Sink for Csv {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let Decision { window, from_s, to_s, verdict, changed, latency_us, message } = decision;
        if let Some(begun) = self.begun.take() {
            let middle = match verdict {
                Verdict::Class { .. } => "label,score,state",
                Verdict::Anomaly { .. } => "score,limit,alarm",
            };
            let end = if message.is_some() { ",topic,id,redelivered" } else { "" };
            let header = format!("window,from_s,to_s,{middle},changed,latency_us{end}");
            let is_due = is_due(&header, &begun.start)?;
            if begun.torn {
                self.out.write_all(b"\n")?;
            }
            if is_due {
                writeln!(self.out, "{header}")?;
            }
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
        writeln!(self.0, "{summary}")?;
        if let Some(rate) = summary.resampled_from_hz {
            writeln!(self.0, "resampled from {rate} frames a second")?;
        }
        let millions = |macs: u64| format!("{:.3} MMAC a window", macs as f64 / 1e6);
        let how = [summary.macs_per_hop.map(millions), summary.whole_windows.as_deref().map(whole)];
        let how: Vec<String> = how.into_iter().flatten().collect();
        if how.is_empty() { Ok(()) } else { writeln!(self.0, "{}", how.join(", ")) }
    }
}

/// Why whole windows are taken. It names a node of the model, and none may steer the terminal.
fn whole(why: &str) -> String {
    format!("whole: {}", why.replace(char::is_control, "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::sink::{SinkOptions, SinkSpec};

    #[test]
    fn rows_stand_below_their_own_header_and_below_no_other() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        let spec: SinkSpec = format!("csv:{}", path.display()).parse().unwrap();
        let header = "window,from_s,to_s,score,limit,alarm,changed,latency_us\n";
        let row = "0,0,1,0.5,,false,false,7\n";
        let appended = |before: &str| {
            std::fs::write(&path, before).unwrap();
            let mut sink = spec.open(&SinkOptions::default(), &Control::default())?;
            let verdict = Verdict::Anomaly { score: 0.5, limit: None, alarm: false };
            let decision =
                Decision { window: 0, from_s: 0.0, to_s: 1.0, verdict, changed: false, latency_us: 7, message: None };
            let written = sink.decision(&decision).and_then(|()| sink.decision(&decision)).and_then(|()| sink.flush());
            written.and_then(|()| std::fs::read_to_string(&path))
        };
        let rows = row.repeat(2);
        for (before, after) in [
            ("", header.to_owned()),
            (header, header.to_owned()),
            ("window,fr", format!("window,fr\n{header}")),
            (&format!("window,fr\n{header}{row}"), format!("window,fr\n{header}{row}")),
            (&format!("{header}0,"), format!("{header}0,\n")),
        ] {
            assert_eq!(appended(before).unwrap(), format!("{after}{rows}"), "{before:?}");
        }
        let classes = header.replace("score,limit,alarm", "label,score,state");
        // What is no table of decisions at all is refused when it is opened.
        for (before, line, expected) in [
            (&*classes, classes.trim(), header.trim()),
            ("note\n", "note", "window,from_s,to_s,…"),
            ("window,fro\n\u{1b}[2J", "\u{1b}[2J", "window,from_s,to_s,…"),
        ] {
            let told = appended(before).unwrap_err().to_string();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
            assert!(told.contains(&format!("it begins with {line:?}, and rows are {expected:?}")), "{told}");
        }
    }

    #[test]
    fn nodes_cannot_steer_the_terminal() {
        assert_eq!(whole("step `\u{1b}[2J`"), "whole: step `\u{fffd}[2J`");
    }

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        assert_eq!(Quoted("yes").to_string(), "yes");
        assert_eq!(Quoted("a,\"b\"").to_string(), "\"a,\"\"b\"\"\"");
    }
}
