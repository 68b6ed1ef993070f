use tempfile::NamedTempFile;

use super::*;

fn open(bytes: &[u8]) -> Result<Reader, NpyError> {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    Reader::open(file.path())
}

/// A version 1.0 file with this header and this many zero bytes of data.
fn npy(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn headers_survive_a_round_trip() {
    for shape in [&[][..], &[7], &[3, 4], &[1, 1, 49, 10], &[0, 5]] {
        for dtype in [DType::F32, DType::U8, DType::I64, DType::Bool] {
            let bytes = header::encode(&descr(dtype), shape);
            assert_eq!(bytes.len() % 64, 0);
            let header = header::parse(&bytes[10..]).unwrap();
            assert_eq!((element(&header).unwrap(), header.shape.as_slice()), (dtype, shape));
        }
    }
}

#[test]
fn hostile_files_are_refused() {
    let dict = |descr: &str, fortran: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    };
    let plain = npy(&dict("'<f4'", "False", "(2, 3)"), 24);
    assert_eq!(open(&plain).unwrap().shape(), [2, 3]);
    let huge_header = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes()].concat();
    for (bytes, part) in [
        (plain[..5].to_vec(), "ends within its header"),
        (plain[..30].to_vec(), "ends within its header"),
        (plain[..plain.len() - 1].to_vec(), "takes 24 bytes of data, the file has 23"),
        ([plain.as_slice(), &[0]].concat(), "the file has 25"),
        (b"hello, I am a text file".to_vec(), "does not begin as one"),
        (huge_header, "header claims 4294967295 bytes"),
        (npy(&dict("'<f4'", "False", "(18446744073709551615, 2)"), 0), "more than a file can hold"),
        (npy(&dict("'<f4'", "False", "(99999999999999999999,)"), 0), "(shape)"),
        (npy(&dict("'<f4'", "False", "(-1,)"), 0), "(shape)"),
        (npy(&dict("'<f4'", "True", "(2, 3)"), 24), "Fortran"),
        (npy(&dict("'|O'", "False", "(1,)"), 8), "`|O`"),
        (npy(&dict("[('a', '<f4')]", "False", "(1,)"), 4), "structures"),
        (npy("{'descr': '<f4', 'shape': (1,)}", 4), "a key is missing"),
        (npy("{'descr': '<f4'", 4), "no end"),
        (npy("{", 0), "a key is missing"),
        (npy("", 0), "no dictionary"),
        (npy("{'\u{e9}", 0), "a key is missing"),
    ] {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn big_endian_elements_are_read_as_little_endian() {
    let mut bytes = npy("{'descr': '>i2', 'fortran_order': False, 'shape': (2,)}", 0);
    bytes.extend([1, 2, 3, 4]);
    let mut out = [0; 4];
    open(&bytes).unwrap().read(0, &mut out).unwrap();
    assert_eq!(out, [2, 1, 4, 3]);
}

#[test]
fn a_file_appears_only_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("y.npy");
    let mut writer = Writer::create(&target, DType::U8, &[2, 2]).unwrap();
    writer.write(&[1, 2]).unwrap();
    assert!(writer.finish().is_err(), "two elements are missing");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);

    let mut writer = Writer::create(&target, DType::U8, &[2, 2]).unwrap();
    writer.write(&[1, 2, 3, 4]).unwrap();
    assert!(writer.write(&[5]).is_err(), "one element too many");
    let written = writer.finish().unwrap();
    assert!(!target.exists());
    written.publish().unwrap();
    let mut out = [0; 2];
    Reader::open(&target).unwrap().read(2, &mut out).unwrap();
    assert_eq!(out, [3, 4]);
    assert!(Writer::create("/dev/null", DType::U8, &[1]).is_err());
}

#[test]
fn of_several_files_a_name_that_cannot_be_given_says_which_were() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.npy", "b.npy", "c.npy"];
    let written = || {
        let write = |name: &str| {
            let mut writer = Writer::create(folder.path().join(name), DType::U8, &[1]).unwrap();
            writer.write(&[1]).unwrap();
            writer.finish().unwrap()
        };
        names.map(write).into()
    };
    let there = || names.map(|name| folder.path().join(name).is_file());
    let files = written();
    std::fs::create_dir(folder.path().join("b.npy")).unwrap();
    let error = Written::publish_all(files).unwrap_err().to_string();
    assert!(
        error.contains("b.npy: cannot put it in place") && error.ends_with("; 1 of 3 files have their names"),
        "{error}"
    );
    assert_eq!(there(), [true, false, false]);
    std::fs::remove_dir(folder.path().join("b.npy")).unwrap();
    Written::publish_all(written()).unwrap();
    assert_eq!(there(), [true; 3]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "and no other name");
}
