//! Inputs that are worth changing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::artifact::name;
use crate::rng::Rng;

/// What is in the repository for a target.
pub fn committed(target: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target)
}

/// The files of a folder, in the order of their names; none where there is no such folder.
pub fn read(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Writes an input under a name that follows from it.
///
/// # Errors
/// It cannot be written.
pub fn write(folder: &Path, input: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{:016x}", name(input))), input)
}

/// Inputs, of which small and new ones are drawn more often.
#[derive(Default)]
pub struct Corpus {
    inputs: Vec<Vec<u8>>,
    /// Sums of weights up to each.
    sums: Vec<f64>,
}

impl Corpus {
    /// Adds an input.
    pub fn add(&mut self, input: Vec<u8>) {
        let newer = 1.0 + self.inputs.len() as f64 / 200.0;
        let weight = newer / (1.0 + input.len() as f64 / 1024.0);
        self.sums.push(self.sums.last().unwrap_or(&0.0) + weight);
        self.inputs.push(input);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// One of them; empty where there is none.
    pub fn draw(&self, rng: &mut Rng) -> &[u8] {
        let point = self.sums.last().unwrap_or(&0.0) * (rng.number() >> 11) as f64 / (1u64 << 53) as f64;
        let index = self.sums.partition_point(|sum| *sum <= point);
        self.inputs.get(index).map_or(&[], Vec::as_slice)
    }
}
