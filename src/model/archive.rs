//! Files of PyTorch, told apart by what their zip archive holds. Only names are looked at: who runs such a file
//! reads it anew.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// What PyTorch wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    /// A program with its weights, by `torch.jit.save`.
    TorchScript,
    /// Weights alone, or a pickled module, by `torch.save`.
    Checkpoint,
    /// A graph of `torch.export`.
    Exported,
}

impl Archive {
    /// What `bytes` are, if they are of PyTorch at all.
    pub fn of(bytes: &[u8]) -> Option<Archive> {
        let holds = |wanted: &[u8]| names(bytes).is_some_and(|mut names| names.any(|name| below_root(name) == wanted));
        if !bytes.starts_with(b"PK\x03\x04") {
            None
        } else if holds(b"constants.pkl") {
            Some(Archive::TorchScript)
        } else if holds(b"data.pkl") {
            Some(Archive::Checkpoint)
        } else if holds(b"archive_format") {
            Some(Archive::Exported)
        } else {
            None
        }
    }

    /// What it is, and what to do with it where an ONNX model is needed.
    pub fn text(self) -> &'static str {
        match self {
            Archive::TorchScript if cfg!(feature = "torch") => {
                "this is a TorchScript file, and an ONNX model is needed here: write one with torch.onnx.export"
            }
            Archive::TorchScript => {
                "this is a TorchScript file, and not an ONNX model: write one with torch.onnx.export, or run the file \
                 with a build that has the feature `torch`"
            }
            Archive::Checkpoint => {
                "this is a PyTorch checkpoint, which holds weights and no graph: load it into its model, and write that \
                 as ONNX with torch.onnx.export"
            }
            Archive::Exported => {
                "this is a program of torch.export, and not an ONNX model: write one with torch.onnx.export"
            }
        }
    }
}

/// A name without the archive's own, which stands before all others.
fn below_root(name: &[u8]) -> &[u8] {
    name.iter().position(|&byte| byte == b'/').and_then(|at| name.get(at + 1..)).unwrap_or(name)
}

/// The names in a zip archive's central directory, up to the first entry that is none.
fn names(bytes: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut rest = bytes.get(directory(bytes)?..)?;
    Some(std::iter::from_fn(move || {
        let lengths = [28, 30, 32].map(|at| word(rest, at).map(usize::from));
        let [Some(name), Some(extra), Some(comment)] = lengths else { return None };
        let entry = rest.strip_prefix(b"PK\x01\x02").and_then(|_| rest.get(46..46 + name))?;
        rest = rest.get(46 + name + extra + comment..)?;
        Some(entry)
    }))
}

/// Where the central directory starts.
fn directory(bytes: &[u8]) -> Option<usize> {
    /// Of the record at the end, without the comment that may follow.
    const END_BYTES: usize = 22;
    let last = bytes.len().checked_sub(END_BYTES)?;
    let earliest = last.saturating_sub(usize::from(u16::MAX));
    let end = (earliest..=last).rev().find(|&at| bytes.get(at..).is_some_and(|end| end.starts_with(b"PK\x05\x06")))?;
    // Where there is a larger record, PyTorch's own writer fills this one in as well only if it can.
    let locator = end.checked_sub(20).and_then(|at| bytes.get(at..)).filter(|at| at.starts_with(b"PK\x06\x07"));
    match locator {
        Some(locator) => {
            let record = bytes.get(offset(locator, 8)?..)?.strip_prefix(b"PK\x06\x06")?;
            offset(record, 44)
        }
        None => {
            let start = bytes.get(end + 16..)?.first_chunk().copied().map(u32::from_le_bytes)?;
            usize::try_from(start).ok()
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn offset(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        std::fs::read(format!("tests/golden/torch/{name}")).unwrap()
    }

    /// An archive as other zip writers make it: no larger record at the end, and a comment behind it.
    fn plain(names: &[&str], comment: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04 whatever the entries hold".to_vec();
        let start = bytes.len() as u32;
        for name in names {
            let mut entry = [0; 46];
            entry[..4].copy_from_slice(b"PK\x01\x02");
            entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend(entry);
            bytes.extend(name.as_bytes());
        }
        bytes.extend(b"PK\x05\x06");
        bytes.extend([0; 12]);
        bytes.extend(start.to_le_bytes());
        bytes.extend((comment.len() as u16).to_le_bytes());
        bytes.extend(comment);
        bytes
    }

    #[test]
    fn what_pytorch_writes_is_told_apart() {
        for (name, archive) in [
            ("kws_dscnn.pt", Archive::TorchScript),
            ("frozen.pt", Archive::TorchScript),
            ("checkpoint.pt", Archive::Checkpoint),
            ("exported.pt2", Archive::Exported),
        ] {
            assert_eq!(Archive::of(&golden(name)), Some(archive), "{name}");
        }
    }

    #[test]
    fn other_archives_and_other_files_are_none_of_them() {
        assert_eq!(Archive::of(&plain(&["a/version", "a/constants.pkl"], b"by hand")), Some(Archive::TorchScript));
        assert_eq!(Archive::of(&plain(&["arr_0.npy", "a/b/constants.pkl"], b"")), None);
        assert_eq!(Archive::of(&std::fs::read("models/kws_dscnn/int8.onnx").unwrap()), None);
        assert_eq!(Archive::of(b""), None);
    }

    #[test]
    fn every_prefix_and_every_damaged_byte_is_looked_at_without_harm() {
        let whole = golden("frozen.pt");
        for end in 0..whole.len() {
            assert_eq!(Archive::of(&whole[..end]), None, "{end}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            let _ = Archive::of(&damaged);
        }
    }

    #[test]
    fn a_model_that_is_none_says_what_it_is() {
        for (name, advice) in [
            ("kws_dscnn.pt", "TorchScript file"),
            ("checkpoint.pt", "checkpoint, which holds weights and no graph"),
            ("exported.pt2", "program of torch.export"),
        ] {
            let error = crate::Model::from_bytes(name, &golden(name)).unwrap_err();
            assert_eq!(error.kind(), crate::ModelErrorKind::Malformed);
            let told = error.to_string();
            assert!(told.contains(advice) && told.contains("torch.onnx.export"), "{told}");
        }
    }
}
