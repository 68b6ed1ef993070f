//! Whether the files of streams are apart: what one writes, no other reads or writes.

use std::path::Path;

use tractlet::sensor::{SinkSpec, SourceSpec};

use super::files;

/// A file that a stream takes, and what for.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    file: &'a Path,
    way: Way,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// A recording or a model, which many may read.
    Read,
    /// A port or a pipe, which gives each byte to one reader.
    Drained,
    Written,
}

/// What a stream takes, `model` being its MODEL; devices and pipes may be written to by many.
pub fn uses<'a>(model: &'a Path, source: &'a SourceSpec, sinks: &'a [SinkSpec]) -> Vec<Use<'a>> {
    let model = Use { file: model, way: Way::Read };
    let read = match source {
        SourceSpec::File(file) => Some((file, if file.is_file() { Way::Read } else { Way::Drained })),
        SourceSpec::Serial { path, .. } => Some((path, Way::Drained)),
        SourceSpec::IioBuffer { device, .. } => Some((device, Way::Drained)),
        _ => None,
    };
    let read = read.map(|(file, way)| Use { file, way });
    let written = sinks.iter().filter_map(SinkSpec::file).map(|file| Use { file, way: Way::Written });
    std::iter::once(model).chain(read).chain(written).collect()
}

/// Of the uses of one stream.
pub fn each(uses: &[Use<'_>]) -> Result<(), String> {
    uses.iter().enumerate().try_for_each(|(index, one)| between(&[*one], uses.get(index + 1..).unwrap_or_default()))
}

/// Of the uses of two.
pub fn between(these: &[Use<'_>], those: &[Use<'_>]) -> Result<(), String> {
    let mut pairs = these.iter().flat_map(|one| those.iter().map(move |other| (one, other)));
    pairs.find_map(|(one, other)| clash(*one, *other)).map_or(Ok(()), Err)
}

fn clash(one: Use<'_>, other: Use<'_>) -> Option<String> {
    let why = match (one.way, other.way) {
        (Way::Read, Way::Read) => return None,
        (Way::Written, Way::Written) => "two sinks would write it, and tear each other's lines",
        (Way::Written, _) | (_, Way::Written) => "a sink would write into what is read",
        _ => "two streams would read it, and each get a part",
    };
    files::same(one.file, other.file).then(|| format!("{}: {why}; give each its own", one.file.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn taken(source: &str, sinks: &[&str]) -> (SourceSpec, Vec<SinkSpec>) {
        (source.parse().unwrap(), sinks.iter().map(|sink| sink.parse().unwrap()).collect())
    }

    #[test]
    fn nothing_is_written_that_is_read_and_nothing_is_written_twice() {
        let told = |source: &str, sinks: &[&str]| {
            let (source, sinks) = taken(source, sinks);
            each(&uses(Path::new("m.onnx"), &source, &sinks)).err().unwrap_or_default()
        };
        assert_eq!(told("Cargo.toml", &["-", "csv:a.csv", "json:a.json", "mqtt://h/a"]), "");
        assert!(told("Cargo.toml", &["csv:./Cargo.toml"]).contains("into what is read"));
        assert!(told("-", &["json:./m.onnx"]).contains("into what is read"));
        assert!(told("-", &["csv:a.csv", "json:./a.csv"]).contains("tear each other's lines"));
        assert_eq!(told("-", &["csv:/dev/null", "json:/dev/null"]), "", "a device takes many");
    }

    #[test]
    fn two_streams_share_a_recording_and_no_port() {
        let told = |one: &str, other: &str| {
            let (model, one, other) = (Path::new("m.onnx"), taken(one, &[]), taken(other, &["csv:a.csv"]));
            between(&uses(model, &one.0, &one.1), &uses(model, &other.0, &other.1)).err().unwrap_or_default()
        };
        assert_eq!(told("Cargo.toml", "./Cargo.toml"), "");
        assert!(told("serial:/dev/tty", "serial:/dev/../dev/tty:9600").contains("each get a part"));
        assert!(told("./a.csv", "Cargo.toml").contains("into what is read"), "it is yet to be made");
    }
}
