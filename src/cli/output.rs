//! What reaches the terminal.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use tractlet::EngineName;
use tractlet::whole::{Finished, Unfinished};

use super::failure::Failure;

/// Stdout, buffered; [`Out::flush`] before it is dropped, or a full disk goes unnoticed.
pub struct Out(io::BufWriter<io::StdoutLock<'static>>);

impl Out {
    pub fn stdout() -> Out {
        Out(io::BufWriter::new(io::stdout().lock()))
    }

    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.0, "{}", printable(line)).map_err(refused)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(refused)
    }
}

/// An engine, and what it runs on where it has a choice.
pub fn engine_on(engine: EngineName, provider: Option<&str>) -> String {
    provider.map_or_else(|| engine.to_string(), |provider| format!("{engine} on {provider}"))
}

pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = Out::stdout();
    text.lines().try_for_each(|line| out.line(line))?;
    out.flush()
}

/// One JSON object and a line end. Numbers that JSON lacks (NaN, infinities) become null.
pub fn json(object: &impl Serialize) -> Result<(), Failure> {
    let mut out = Out::stdout();
    serde_json::to_writer_pretty(&mut out.0, object).map_err(|error| refused(error.into()))?;
    out.line("")?;
    out.flush()
}

/// What is said of a share of samples with the same answer, where outputs give answers.
#[cfg(feature = "quantize")]
pub fn same_answer(share: Option<f64>, of: &str) -> String {
    share.map_or_else(String::new, |share| format!(", the same answer on {:.1} % of {of}", 100.0 * share))
}

/// Writes a file whole or not at all, in place of what stood there; never over a device or a pipe.
pub fn file(target: &Path, contents: impl AsRef<[u8]>) -> Result<(), Failure> {
    written(target, contents.as_ref())?.publish().map_err(|error| fault(target, error))
}

/// Finds out whether a file could be written, before what goes there costs anything.
pub fn expect_writable(target: &Path) -> Result<(), Failure> {
    Unfinished::create(target).map(drop).map_err(|error| fault(target, error))
}

/// Writes two files whole or neither: a new one, and one in place of what stood there, which names the new one.
#[cfg(feature = "quantize")]
pub fn pair(new: (&Path, &[u8]), main: (&Path, &[u8])) -> Result<(), Failure> {
    let (first, second) = (written(new.0, new.1)?, written(main.0, main.1)?);
    first.publish_with(second).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => fault(new.0, error),
        _ => fault(main.0, error),
    })
}

/// Contents on disk that have no name yet.
fn written(target: &Path, contents: &[u8]) -> Result<Finished, Failure> {
    let write = || {
        let mut file = Unfinished::create(target)?;
        file.write(contents)?;
        file.finish()
    };
    write().map_err(|error| fault(target, error))
}

fn fault(target: &Path, error: io::Error) -> Failure {
    format!("{}: cannot write it: {error}", target.display()).into()
}

pub fn error(reason: &str) {
    // Where stderr is gone too there is nobody left to tell.
    let _ = writeln!(io::stderr(), "error: {}", printable(reason));
}

fn refused(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Because(format!("cannot write to standard output: {error}")),
    }
}

/// A line of the log. What it tells may have names in it.
pub fn log_line(out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>) -> io::Result<()> {
    let (time, level, target) = (out.timestamp(), record.level(), record.target());
    // What goes over several lines, such as a panic, stays readable, and is seen to go on.
    let text = record.args().to_string().replace('\t', "    ");
    let lines: Vec<String> = text.lines().map(printable).collect();
    writeln!(out, "[{time} {level:5} {target}] {}", lines.join("\n  "))
}

/// A path in JSON, which has no bytes that are no text.
pub fn path_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Names come out of model files: none may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Aligned columns; those from `numbers` on are numbers, and lean right.
pub fn table(header: &[&str], numbers: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            text += &if column < numbers { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["conv".into(), "12.5".into()], vec!["relu_1".into(), "3".into()]];
        assert_eq!(table(&["step", "us"], 1, rows), "step      us\nconv    12.5\nrelu_1     3\n");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
