//! What reaches the terminal.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;
use tractlet::EngineName;

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

/// Writes a file whole or not at all, in place of what stood there; never over a device or a pipe.
pub fn file(target: &Path, contents: impl AsRef<[u8]>) -> Result<(), Failure> {
    let staged = Staged::write(target, contents.as_ref())?;
    staged.temp.persist(&staged.real).map_err(|error| fault(target, error.error))?;
    named(&staged.real).map_err(|error| fault(target, error))
}

/// Finds out whether a file could be written, before what goes there costs anything.
pub fn expect_writable(target: &Path) -> Result<(), Failure> {
    Staged::write(target, &[]).map(drop)
}

/// Writes two files whole or neither: a new one, and one in place of what stood there, which names the new one.
#[cfg(feature = "quantize")]
pub fn pair(new: (&Path, &[u8]), main: (&Path, &[u8])) -> Result<(), Failure> {
    let (first, second) = (Staged::write(new.0, new.1)?, Staged::write(main.0, main.1)?);
    first.temp.persist_noclobber(&first.real).map_err(|error| fault(new.0, error.error))?;
    // On disk before anything names it.
    let done = named(&first.real)
        .and_then(|()| second.temp.persist(&second.real).map_err(|error| error.error))
        .map_err(|error| fault(main.0, error));
    if let Err(failure) = done {
        // Nobody has been told of it yet.
        let _ = std::fs::remove_file(&first.real);
        return Err(failure);
    }
    named(&second.real).map_err(|error| fault(main.0, error))
}

/// Contents on disk that have no name yet.
struct Staged {
    real: PathBuf,
    temp: NamedTempFile,
}

impl Staged {
    fn write(target: &Path, contents: &[u8]) -> Result<Staged, Failure> {
        // Through a symbolic link, to the file itself.
        let (real, found) = match target.canonicalize() {
            Ok(real) => (real, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !target.is_symlink() => (target.to_owned(), false),
            Err(error) => return Err(fault(target, error)),
        };
        if found && !real.is_file() {
            let what = "cannot write it: it is there and is not a regular file";
            return Err(format!("{}: {what}", target.display()).into());
        }
        let folder = folder_of(&real);
        if !folder.is_dir() {
            let what = format!("cannot write it: there is no folder {}; make it first", folder.display());
            return Err(format!("{}: {what}", target.display()).into());
        }
        let write = || {
            let mut builder = tempfile::Builder::new();
            // As any new file: the umask decides.
            let builder = builder.prefix(".tractlet-").suffix(".part").permissions(Permissions::from_mode(0o666));
            let mut temp = builder.tempfile_in(folder)?;
            temp.write_all(contents)?;
            temp.as_file().sync_all()?;
            Ok::<_, io::Error>(temp)
        };
        let temp = write().map_err(|error| fault(target, error))?;
        Ok(Staged { real, temp })
    }
}

/// The name is on disk once its folder is.
fn named(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
