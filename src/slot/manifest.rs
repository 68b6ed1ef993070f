//! `manifest.toml`: what is in a package, signed as one.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

/// The manifest's file, and its signature as `minisign -S` writes it.
pub const MANIFEST: &str = "manifest.toml";
pub const SIGNATURE: &str = "manifest.toml.minisig";

/// A manifest is a page of text.
pub const MAX_BYTES: u64 = 64 * 1024;
const FORMAT: u32 = 1;
const MAX_FILES: usize = 64;

/// What a package holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// What the model is for: slots take packages of one name.
    pub name: String,
    /// Goes up with every package.
    pub version: u64,
    /// The board that it is for; any, where there is none.
    pub board: Option<String>,
    /// Which of the files is MODEL.
    pub model: String,
    /// Which of the files a plan was compiled from.
    pub from: Option<String>,
    /// Runs whose answers are known.
    pub golden: Option<Golden>,
    /// SHA-256 of each file, in hexadecimal.
    pub files: BTreeMap<String, String>,
}

/// Inputs and the outputs that they have to give: .npy files in the model's order, of one sample or many.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// A file for each input.
    pub inputs: Vec<String>,
    /// A file for each output.
    pub outputs: Vec<String>,
    /// Most that a float may be off; 0 asks for the same bits.
    #[serde(default)]
    pub tolerance: f64,
}

impl Manifest {
    /// A manifest of the format that this version writes.
    pub fn new(name: String, version: u64, model: String, files: BTreeMap<String, String>) -> Manifest {
        Manifest { format: FORMAT, name, version, board: None, model, from: None, golden: None, files }
    }

    /// Reads what [`Manifest::text`] wrote, or a hand.
    pub fn parse(text: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no UTF-8 text".to_owned())?;
        let manifest: Manifest = crate::from_toml(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether names stay in their folder, and what is named is there.
    pub fn check(&self) -> Result<(), String> {
        let Manifest { format, name, version, board, model, from, golden, files } = self;
        if *format != FORMAT {
            return Err(format!("`format` is {format}; this version reads {FORMAT}"));
        }
        if *version == 0 || i64::try_from(*version).is_err() {
            return Err(format!("`version` is {version}; expected 1 or more"));
        }
        for word in [Some(name), board.as_ref()].into_iter().flatten() {
            if !is_plain(word) {
                return Err(format!("`{word}` is no name; expected letters, digits and . _ -"));
            }
        }
        if files.len() > MAX_FILES {
            return Err(format!("{} files; expected {MAX_FILES} at most", files.len()));
        }
        for (file, digest) in files {
            if !is_plain(file) || [MANIFEST, SIGNATURE].contains(&file.as_str()) {
                return Err(format!(
                    "`{file}` in `files` is no name for a file of a package; expected letters, digits and . _ -"
                ));
            }
            if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!(
                    "`{digest}` is no SHA-256 of `{file}`; expected 64 digits of lower-case hexadecimal"
                ));
            }
        }
        let golden_files = golden.iter().flat_map(|golden| golden.inputs.iter().chain(&golden.outputs));
        let named = std::iter::once(model).chain(from).chain(golden_files);
        if let Some(missing) = named.into_iter().find(|name| !files.contains_key(*name)) {
            return Err(format!("`{missing}` is named and not among `files`"));
        }
        match golden {
            Some(Golden { tolerance, .. }) if !(0.0..1e9).contains(tolerance) => {
                Err(format!("`tolerance` is {tolerance}; expected 0 or more"))
            }
            Some(Golden { inputs, outputs, .. }) if inputs.is_empty() || outputs.is_empty() => {
                Err("`golden` needs files for `inputs` and `outputs`".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The file, to be signed.
    pub fn text(&self) -> String {
        let Manifest { format, name, version, board, model, from, golden, files } = self;
        let mut text = format!("format = {format}\nname = \"{name}\"\nversion = {version}\n");
        let mut line = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                // To a String that cannot fail.
                let _ = writeln!(text, "{key} = \"{value}\"");
            }
        };
        line("board", board);
        line("model", &Some(model.clone()));
        line("from", from);
        if let Some(Golden { inputs, outputs, tolerance }) = golden {
            text += &format!("\n[golden]\ninputs = {inputs:?}\noutputs = {outputs:?}\ntolerance = {tolerance:?}\n");
        }
        text += "\n[files]\n";
        text.extend(files.iter().map(|(file, digest)| format!("\"{file}\" = \"{digest}\"\n")));
        text
    }
}

/// Without anything that a path, a shell or a TOML file could read otherwise.
pub fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let files = ["m.plan", "m.onnx", "x.npy", "y.npy"].map(|name| (name.to_owned(), "0a".repeat(32)));
        let golden = Golden { inputs: vec!["x.npy".into()], outputs: vec!["y.npy".into()], tolerance: 1e-4 };
        Manifest {
            board: Some("pi4".into()),
            from: Some("m.onnx".into()),
            golden: Some(golden),
            ..Manifest::new("walk".into(), 7, "m.plan".into(), files.into())
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bare = Manifest { board: None, from: None, golden: None, ..manifest() };
        for manifest in [manifest(), bare] {
            assert_eq!(Manifest::parse(manifest.text().as_bytes()), Ok(manifest));
        }
    }

    #[test]
    fn what_leaves_the_folder_or_misses_is_refused_by_name() {
        let text = manifest().text();
        for (from, to, told) in [
            ("\"x.npy\" = ", "\"../x.npy\" = ", "`../x.npy`"),
            ("\"x.npy\" = ", "\".x.npy\" = ", "`.x.npy`"),
            ("\"x.npy\" = ", "\"manifest.toml\" = ", "`manifest.toml`"),
            ("model = \"m.plan\"", "model = \"n.plan\"", "`n.plan` is named"),
            ("version = 7", "version = 0", "`version` is 0"),
            ("format = 1", "format = 2", "`format` is 2"),
            ("\"0a", "\"0A", "hexadecimal"),
            ("board = \"pi4\"", "bord = \"pi4\"", "bord"),
            ("tolerance = 0.0001", "tolerance = nan", "`tolerance`"),
            ("name = \"walk\"", "name = \"wa/lk\"", "`wa/lk` is no name"),
        ] {
            let why = Manifest::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(why.contains(told), "{to}: {why}");
        }
    }
}
