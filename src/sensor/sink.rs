//! Where decisions go: JSON lines, CSV, or text to read.
//!
//! Lines are written into buffers that are allocated once, and reach the file when a stream has nothing else
//! to do, and at its end. Files are appended to: what was there before a restart stays.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::Control;
use super::counters::Summary;
use super::decide::{Decision, Verdict};
use super::writer::Writer;

/// Small, so that all of it is in use soon and memory stands still.
const BUFFER_BYTES: usize = 8 * 1024;

/// Takes what a stream says.
pub trait Sink {
    /// Takes a decision.
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
}

/// A sink as it is written on a command line: `-`, or `json:`, `csv:` or `text:` with `-` or a file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSpec {
    form: Form,
    /// None is standard output.
    path: Option<PathBuf>,
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
        let (form, target) = match text.split_once(':') {
            _ if text == "-" => (Form::Json, "-"),
            Some(("json", target)) => (Form::Json, target),
            Some(("csv", target)) => (Form::Csv, target),
            Some(("text", target)) => (Form::Text, target),
            _ => {
                return Err(format!(
                    "`{text}` is no sink; expected -, or json:, csv: or text: with - or a file behind it"
                ));
            }
        };
        match target {
            "" => Err(format!("nothing follows `{text}`; expected - or a file")),
            "-" => Ok(SinkSpec { form, path: None }),
            path => Ok(SinkSpec { form, path: Some(path.into()) }),
        }
    }
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            None => f.write_str("standard output"),
            Some(path) => path.display().fmt(f),
        }
    }
}

impl SinkSpec {
    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        self.path.is_none()
    }

    /// Opens it, a file for appending, for the stream that `control` steers: once that is stopped, a reader who stalls is
    /// not waited for.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn open(&self, control: &Control) -> io::Result<Box<dyn Sink>> {
        let file = match &self.path {
            Some(path) => OpenOptions::new().append(true).create(true).open(path)?,
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        let is_empty = self.path.is_none() || file.metadata()?.len() == 0;
        let out = BufWriter::with_capacity(BUFFER_BYTES, Writer::new(file, Arc::clone(&control.stop)));
        Ok(match self.form {
            Form::Json => Box::new(Json(out)),
            Form::Csv => Box::new(Csv { out, header_due: is_empty }),
            Form::Text => Box::new(Text(out)),
        })
    }
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
        let Decision { window, from_s, to_s, verdict, changed, latency_us } = decision;
        if std::mem::take(&mut self.header_due) {
            let middle = match verdict {
                Verdict::Class { .. } => "label,score,state",
                Verdict::Anomaly { .. } => "score,limit,alarm",
            };
            writeln!(self.out, "window,from_s,to_s,{middle},changed,latency_us")?;
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
        writeln!(self.out, ",{changed},{latency_us}")
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
        self.0.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let Summary { windows, decisions, read, answered, dropped, malformed, deadline_missed, .. } = summary;
        let rest = summary.skipped + summary.remainder;
        writeln!(
            self.0,
            "{windows} windows, {decisions} decisions; {read} frames: {answered} answered, {dropped} dropped, {malformed} \
             malformed, {rest} in no window; {deadline_missed} deadlines missed"
        )?;
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
        for wrong in ["", "json:", "xml:-", "out.json"] {
            assert!(wrong.parse::<SinkSpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        assert_eq!(Quoted("yes").to_string(), "yes");
        assert_eq!(Quoted("a,\"b\"").to_string(), "\"a,\"\"b\"\"\"");
    }
}
