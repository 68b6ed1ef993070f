//! The boards of targets/, as data in the binary.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::size;

/// A board, or a family that one binary and one budget serve.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name of its file, and of its target in the Makefile.
    #[serde(skip_deserializing)]
    pub board: &'static str,
    /// What it is called by who sells it.
    pub name: String,
    /// Rust's name of the platform.
    pub triple: String,
    pub soc: String,
    pub core: String,
    pub cores: u32,
    /// What its core has beyond the base of its platform and kernels can use; found at run time, never assumed.
    pub features: Vec<String>,
    /// Memory of the smallest that is sold.
    pub ram_bytes: u64,
    /// The most of it that a process should have resident.
    pub budget_bytes: u64,
    /// C library of the usual systems; the static binary needs none of it.
    pub libc: String,
    /// The CPU that stands for it under QEMU.
    pub qemu_cpu: String,
}

macro_rules! files {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../targets/", $name, ".toml")))),*]
    };
}

/// In the order in which they are shown.
const FILES: [(&str, &str); 8] = files!["pi-zero-2w" "pi3" "pi4" "pi5" "jetson-nano" "jetson-orin" "armv7" "pi-zero"];

pub fn boards() -> Result<Vec<Board>, Failure> {
    FILES.into_iter().map(|(name, text)| parse(name, text)).collect()
}

/// The board of this name, or which there are.
pub fn named(name: &str) -> Result<Board, String> {
    let boards = boards().map_err(|_| "the boards' files cannot be read".to_owned())?;
    let names: Vec<&str> = boards.iter().map(|board| board.board).collect();
    let names = names.join(", ");
    boards.into_iter().find(|board| board.board == name).ok_or(names)
}

/// Bytes of a size, or the budget of a board.
pub fn bytes(text: &str) -> Result<u64, String> {
    size::parse(text).or_else(|not_a_size| match named(text) {
        Ok(board) => Ok(board.budget_bytes),
        Err(names) => Err(format!("{not_a_size}, or a board, whose budget it is then: {names}")),
    })
}

fn parse(name: &'static str, text: &str) -> Result<Board, Failure> {
    let board: Board =
        tractlet::from_toml(text).map_err(|why| Failure::Because(format!("targets/{name}.toml: {why}")))?;
    Ok(Board { board: name, ..board })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_a_board_and_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/targets");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()));
        let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), listed);
        assert_eq!(boards().ok().map(|boards| boards.len()), Some(FILES.len()));
    }

    #[test]
    fn a_budget_leaves_the_board_to_its_system() {
        for board in boards().ok().unwrap() {
            assert!(board.budget_bytes > 0 && board.budget_bytes <= board.ram_bytes / 8, "{board:?}");
        }
    }

    #[test]
    fn a_board_stands_for_its_budget() {
        assert_eq!((bytes("24MiB"), bytes("pi-zero-2w")), (Ok(24 << 20), Ok(32 << 20)));
        let told = bytes("pi6").unwrap_err();
        assert!(told.starts_with("`pi6` is not a size") && told.contains("pi5, jetson-nano"), "{told}");
    }

    #[test]
    fn what_a_file_lacks_or_misspells_is_named() {
        let (_, whole) = FILES[0];
        for (from, to, part) in [("triple", "tripel", "tripel"), ("ram_bytes = 5", "ram_bytes = -5", "ram_bytes")] {
            let Err(Failure::Because(why)) = parse("odd", &whole.replace(from, to)) else { panic!("{from}") };
            assert!(why.contains("targets/odd.toml") && why.contains(part), "{why}");
        }
    }
}
