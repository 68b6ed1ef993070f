//! Packages: files that are what somebody trusted signed.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::disk::{self, Disk, OsDisk};
use super::error::{SlotError, SlotFault};
use super::manifest::{self, MANIFEST, Manifest, SIGNATURE};
use super::{MAX_TEXT_BYTES, Result};

/// What slots are held to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Of who signs, as minisign writes it.
    pub key: String,
    pub name: String,
    pub board: Option<String>,
}

/// Files that were found to be what somebody trusted signed.
#[derive(Clone, Debug)]
pub struct Package {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

impl Package {
    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it states of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The model or plan that it is about.
    pub fn model(&self) -> PathBuf {
        self.file(&self.manifest.model)
    }

    /// What lies beside the model and steers how it is used: all but the model, what a plan was made of, golden values.
    pub fn beside(&self) -> BTreeMap<&str, &str> {
        let Manifest { model, from, golden, files, .. } = &self.manifest;
        let golden = golden.iter().flat_map(|golden| golden.inputs.iter().chain(&golden.outputs));
        let apart: Vec<&String> = std::iter::once(model).chain(from).chain(golden).collect();
        let beside = files.iter().filter(|(name, _)| !apart.contains(name));
        beside.map(|(name, digest)| (name.as_str(), digest.as_str())).collect()
    }

    /// Whether it has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.files.contains_key(name)
    }
}

/// The line of a minisign.pub that is the key.
pub fn key_of(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
}

/// The files of a folder, each what its signed manifest says.
pub fn verified(disk: &dyn Disk, folder: &Path, trust: &Trust) -> Result<Package> {
    let (path, signed) = (folder.join(MANIFEST), folder.join(SIGNATURE));
    let text = disk::read(disk, &path, manifest::MAX_BYTES).map_err(SlotError::io(&path, "read"))?;
    let unsigned = |what: String| SlotError::new(&signed, SlotFault::Signature(what));
    let signature = match disk::read(disk, &signed, MAX_TEXT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(unsigned("there is no signature; sign the package: minisign -Sm manifest.toml".to_owned()));
        }
        signature => signature.map_err(SlotError::io(&signed, "read"))?,
    };
    let key = PublicKey::from_base64(&trust.key)
        .map_err(|error| unsigned(format!("`{}` is no key of minisign: {error}", trust.key)))?;
    let signature = std::str::from_utf8(&signature).map_err(|error| unsigned(error.to_string()))?;
    let signature =
        Signature::decode(signature).map_err(|error| unsigned(format!("no signature of minisign: {error}")))?;
    key.verify(&text, &signature, false)
        .map_err(|error| unsigned(format!("manifest.toml is not what the trusted key signed: {error}")))?;
    let manifest = Manifest::parse(&text).map_err(|what| SlotError::new(&path, SlotFault::Format(what)))?;
    for (name, digest) in &manifest.files {
        let path = folder.join(name);
        let file = disk.open(&path).map_err(SlotError::io(&path, "read"))?;
        let found = sha256(file).map_err(SlotError::io(&path, "read"))?;
        if found != *digest {
            let what = format!("its SHA-256 is {found}, and the manifest says {digest}");
            return Err(SlotError::new(&path, SlotFault::Altered(what)));
        }
    }
    Ok(Package { folder: folder.to_owned(), manifest })
}

/// Whether a package is for these slots.
pub fn suits(package: &Package, trust: &Trust) -> Result<()> {
    let foreign = |what: String| Err(SlotError::new(&package.folder, SlotFault::Foreign(what)));
    let Manifest { name, board, .. } = &package.manifest;
    if *name != trust.name {
        return foreign(format!("it is a package of `{name}`, and the slots are for `{}`", trust.name));
    }
    match (board, &trust.board) {
        (Some(board), None) => {
            foreign(format!("it is for the board {board}, and the slots do not say which they are on"))
        }
        (Some(board), Some(here)) if board != here => {
            foreign(format!("it is for the board {board}, and this is {here}"))
        }
        _ => Ok(()),
    }
}

/// In hexadecimal, without holding the file.
pub(super) fn sha256(mut file: impl Read) -> io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), [0; 16 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 of a file, in hexadecimal: what a manifest has of it.
///
/// # Errors
/// Where it cannot be read, or is no regular file.
pub fn digest(path: &Path) -> Result<String> {
    OsDisk.open(path).and_then(sha256).map_err(SlotError::io(path, "read"))
}
