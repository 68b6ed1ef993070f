//! Linux Industrial I/O, against a folder that is laid out as the kernel's is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{HAR, end, error, signal, start, summary};

/// A device as the kernel shows one: acceleration and rotation, with scales.
fn iio_device(folder: &Path) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (index, axis) in ["x", "y", "z"].iter().enumerate() {
        write(&format!("in_accel_{axis}_raw"), if *axis == "z" { "1024\n" } else { "0\n" });
        write(&format!("in_anglvel_{axis}_raw"), "0\n");
        for (kind, base) in [("accel", 0), ("anglvel", 3)] {
            write(&format!("scan_elements/in_{kind}_{axis}_en"), "0\n");
            write(&format!("scan_elements/in_{kind}_{axis}_index"), &format!("{}\n", base + index));
            write(&format!("scan_elements/in_{kind}_{axis}_type"), "be:s12/16>>4\n");
        }
    }
    write("scan_elements/in_timestamp_en", "0\n");
    write("scan_elements/in_timestamp_index", "6\n");
    write("scan_elements/in_timestamp_type", "le:s64/64>>0\n");
    write("buffer/enable", "0\n");
    write("in_accel_scale", "0.0095788\n");
    write("in_anglvel_scale", "0.001\n");
}

const IIO_COLUMNS: &str = "accel_x,accel_y,accel_z,anglvel_x,anglvel_y,anglvel_z";

#[test]
fn iio_channels_are_polled_at_the_models_rate() {
    let folder = TempDir::new().unwrap();
    iio_device(folder.path());
    let source = format!("iio:{}", folder.path().display());
    let mut child = start(&[HAR, "--source", &source, "--columns", IIO_COLUMNS]);
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    let took = first["to_s"].as_f64().unwrap() - first["from_s"].as_f64().unwrap();
    assert!(took >= 2.4, "127 frames at 50 Hz took {took} s");
    signal(&child, "INT");
    assert!(end(child).status.success());

    let output = end(start(&[HAR, "--source", &source]));
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("the device has accel_x, accel_y"), "{}", error(&output));
}

#[test]
fn an_iio_buffer_is_laid_out_as_its_types_say() {
    let folder = TempDir::new().unwrap();
    iio_device(folder.path());
    let device = folder.path().join("iio:device0");
    // Six big-endian numbers of 12 bits, four bytes of padding, a time.
    let mut bytes = Vec::new();
    for frame in 0..200i64 {
        for value in [0i16, 0, 1024, -1, 0, 0] {
            bytes.extend((value << 4).to_be_bytes());
        }
        bytes.extend([0xEE; 4]);
        bytes.extend((1_000_000_000 + frame * 20_000_000).to_le_bytes());
    }
    fs::write(&device, bytes).unwrap();
    let source = format!("iio-buffer:{},{}", folder.path().display(), device.display());
    let output = end(start(&[HAR, "--source", &source, "--columns", IIO_COLUMNS, "--overflow", "block"]));
    // A device that ends has gone away.
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert!(error(&output).contains("went away"), "{}", error(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((first["from_s"].as_f64(), first["to_s"].as_f64()), (Some(1.0), Some(3.54)));
    assert_eq!(summary(&output)["read"], 200);
    let enabled = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((enabled("buffer/enable"), enabled("scan_elements/in_accel_z_en")), ("0".into(), "1".into()));
}
