//! Whether the files of streams are apart: what one writes, no other reads or writes.

use std::path::{Path, PathBuf};

use tractlet::sensor::{Recipe, SinkSpec, SourceSpec};
use tractlet::slot::Slots;

use super::files;

/// A file that a stream takes, and what for.
pub struct Use {
    file: PathBuf,
    way: Way,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// A recording or a model, which many may read.
    Read,
    /// A folder, and all that lies in it.
    Kept,
    /// A port or a pipe, which gives each byte to one reader.
    Drained,
    Written,
}

/// What a stream takes, `model` being its MODEL; devices and pipes may be written to by many. What a model keeps in files of
/// its own is not among it: that is known once the model is open.
pub fn uses(model: &Path, source: &SourceSpec, sinks: &[SinkSpec]) -> Vec<Use> {
    let read = match source {
        SourceSpec::File(file) => Some((file, if file.is_file() { Way::Read } else { Way::Drained })),
        SourceSpec::Serial { path, .. } => Some((path, Way::Drained)),
        SourceSpec::IioBuffer { device, .. } => Some((device, Way::Drained)),
        _ => None,
    };
    let read = read.map(|(file, way)| Use { file: file.clone(), way });
    read_of(model).into_iter().chain(read).chain(written(sinks)).collect()
}

/// Whether no sink is one of the files that a model was read from.
pub fn from_model(read: Vec<PathBuf>, sinks: &[SinkSpec]) -> Result<(), String> {
    let read: Vec<_> = read.into_iter().map(|file| Use { file, way: Way::Read }).collect();
    between(&read, &written(sinks).collect::<Vec<_>>())
}

fn written(sinks: &[SinkSpec]) -> impl Iterator<Item = Use> {
    sinks.iter().filter_map(SinkSpec::file).map(|file| Use { file: file.to_owned(), way: Way::Written })
}

/// What MODEL stands for, which may be a folder.
fn read_of(model: &Path) -> Vec<Use> {
    if Slots::is_at(model) {
        return vec![Use { file: model.to_owned(), way: Way::Kept }];
    }
    let files = match Recipe::open(model) {
        Ok(recipe) => recipe.files().map(Path::to_owned).collect(),
        // What is wrong with it is told where it is used; until then it is not to be lost.
        Err(_) => vec![model.to_owned(), model.join("model.toml")],
    };
    files.into_iter().map(|file| Use { file, way: Way::Read }).collect()
}

/// Of the uses of one stream.
pub fn each(uses: &[Use]) -> Result<(), String> {
    uses.iter()
        .enumerate()
        .try_for_each(|(index, one)| between(std::slice::from_ref(one), uses.get(index + 1..).unwrap_or_default()))
}

/// Of the uses of two.
pub fn between(these: &[Use], those: &[Use]) -> Result<(), String> {
    let mut pairs = these.iter().flat_map(|one| those.iter().map(move |other| (one, other)));
    pairs.find_map(|(one, other)| clash(one, other)).map_or(Ok(()), Err)
}

fn clash(one: &Use, other: &Use) -> Option<String> {
    let why = match (one.way, other.way) {
        (Way::Written, Way::Written) => "two sinks would write it, and tear each other's lines",
        (Way::Written, _) | (_, Way::Written) => "a sink would write into what is read",
        (Way::Drained, Way::Read | Way::Drained) | (Way::Read, Way::Drained) => {
            "two streams would read it, and each get a part"
        }
        _ => return None,
    };
    let met = match (one.way, other.way) {
        (Way::Kept, _) => files::within(&one.file, &other.file),
        (_, Way::Kept) => files::within(&other.file, &one.file),
        _ => files::same(&one.file, &other.file),
    };
    let told = if one.way == Way::Written { &one.file } else { &other.file };
    met.then(|| format!("{}: {why}; give each its own", told.display()))
}

#[cfg(test)]
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
        let data = |sinks: &[&str]| from_model(vec!["m.data".into()], &taken("-", sinks).1).err().unwrap_or_default();
        assert!(data(&["json:a.json", "csv:./m.data"]).contains("into what is read"));
        assert_eq!(data(&["json:a.json"]), "");
        assert!(told("-", &["csv:a.csv", "json:./a.csv"]).contains("tear each other's lines"));
        assert_eq!(told("-", &["csv:/dev/null", "json:/dev/null"]), "", "a device takes many");
    }

    #[test]
    fn nothing_is_written_that_a_folder_is_read_by() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let told = |model: &Path, sink: &Path| {
            let (source, sinks) = taken("-", &[&format!("csv:{}", sink.display())]);
            each(&uses(model, &source, &sinks)).err().unwrap_or_default()
        };
        let files = ["model.toml", "int8.onnx", "labels.txt"];
        for name in files {
            std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/har_cnn1d").join(name), at(name)).unwrap();
        }
        for model in [folder.path().to_owned(), at("model.toml"), at("int8.onnx")] {
            for read in files {
                assert!(told(&model, &at(read)).contains("into what is read"), "{read} of {}", model.display());
            }
            assert_eq!(told(&model, &at("decisions.csv")), "");
        }
        std::fs::write(at("model.toml"), "model = 1").unwrap();
        assert!(told(folder.path(), &at("model.toml")).contains("into what is read"), "to be mended, not lost");
        std::fs::write(at("slots.toml"), "").unwrap();
        for kept in ["state.toml", "a/manifest.toml"] {
            std::fs::create_dir_all(at("a")).unwrap();
            assert!(told(folder.path(), &at(kept)).contains("into what is read"), "{kept}");
        }
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
