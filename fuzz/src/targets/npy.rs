//! A .npy file: its header alone, and the file with its reader.

use tractlet::npy::Reader;
use tractlet_io::npy::{self as header, PREFIX_BYTES};

use super::files;
use crate::memory_file::in_file;

/// Reads a header, and the file's first and last elements.
pub fn run(bytes: &[u8]) {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    if let Ok((start, len)) = header::locate(&prefix)
        && let Some(text) = bytes.get(start..).map(|rest| &rest[..len.min(rest.len())])
        && let Ok(found) = header::parse(text)
    {
        let _ = (found.code(), found.data_bytes(8), header::count_samples(&found.shape, &[1, 4]));
    }
    // Whatever its text, as a header.
    let _ = header::parse(bytes);
    in_file(bytes, |path| {
        let Ok(reader) = Reader::open(path) else { return };
        let elements: usize = reader.shape().iter().product();
        let mut one = [0; 8];
        let one = &mut one[..reader.dtype().size()];
        // Past the end is an error, not a panic.
        for first in [0, elements.saturating_sub(1), elements, usize::MAX] {
            let _ = reader.read(first, one);
        }
    });
}

/// Files of other programs, without most of what they hold.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("tests/golden/onnx_node", &|name| name.ends_with(".npy"), 512);
    for (descr, shape) in [("<f4", &[2, 3][..]), (">i2", &[4]), ("|u1", &[]), ("<f8", &[0, 7]), ("|b1", &[1, 1, 1, 2])]
    {
        let mut file = header::encode(descr, shape);
        let bytes: usize = descr[2..].parse().unwrap_or(1);
        file.resize(file.len() + bytes * shape.iter().product::<usize>(), 7);
        seeds.push(file);
    }
    seeds
}
