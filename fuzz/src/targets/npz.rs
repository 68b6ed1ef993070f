//! An .npz archive: its directory, and each array where that says.

use tractlet_io::npy;
use tractlet_io::npz::Archive;

/// Reads the directory and looks for every array, and for one that is hardly there.
pub fn run(bytes: &[u8]) {
    let read = |at: u64, out: &mut [u8]| {
        let held = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..out.len()));
        held.map(|held| out.copy_from_slice(held)).ok_or_else(|| "it ends too early".to_owned())
    };
    let Ok(archive) = Archive::open(bytes.len() as u64, &read) else { return };
    for name in archive.names().into_iter().chain(["x"]) {
        let Ok(place) = archive.array(name, &read) else { continue };
        // What is found lies in the file.
        super::npy::run(&bytes[place.start as usize..place.end as usize]);
    }
}

/// Archives as `numpy.savez` writes them, with a comment and without, and one that is empty.
pub fn seeds() -> Vec<Vec<u8>> {
    let array = |descr: &str, shape: &[usize], bytes: usize| [npy::encode(descr, shape), vec![7; bytes]].concat();
    let (a, b) = (array("<f4", &[2, 3], 24), array("|u1", &[1], 1));
    vec![archive(&[], b""), archive(&[("x", &a)], b""), archive(&[("a", &a), ("b", &b)], b"of two")]
}

/// Arrays as they are, one behind the other; sums are not looked at and left out.
fn archive(arrays: &[(&str, &[u8])], comment: &[u8]) -> Vec<u8> {
    let halves = |values: &[usize]| values.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect::<Vec<u8>>();
    let words = |values: &[usize]| values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect::<Vec<u8>>();
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in arrays {
        let name = format!("{name}.npy");
        let [version, flags, method, time, date] = [20, 0, 0, 0, 0];
        // What an array and its entry in the directory both begin with, behind the magic.
        let both = [halves(&[version, flags, method, time, date]), words(&[0, bytes.len(), bytes.len()])].concat();
        let lengths = halves(&[name.len(), 0]);
        let attributes = [halves(&[0, 0, 0]), words(&[0, file.len()])].concat();
        directory
            .extend([b"PK\x01\x02", &halves(&[version])[..], &both, &lengths, &attributes, name.as_bytes()].concat());
        file.extend([b"PK\x03\x04", &both[..], &lengths, name.as_bytes(), bytes].concat());
    }
    let (start, count) = (file.len(), arrays.len());
    let end = [halves(&[0, 0, count, count]), words(&[directory.len(), start]), halves(&[comment.len()])].concat();
    [&file[..], &directory, b"PK\x05\x06", &end, comment].concat()
}
