//! `tractlet stream` on sensors that are no files, and as a service: ports, sockets, IIO, signals, metrics.

#[cfg(feature = "audio")]
#[path = "sensors/alsa.rs"]
mod alsa;
mod common;
#[cfg(feature = "mqtt")]
#[path = "sensors/mqtt.rs"]
mod mqtt;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::repository;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::Value;
use tempfile::TempDir;

const HAR: &str = "models/har_cnn1d";
const LINE: &str = "0.1,0.2,0.9,0.0,0.1,-0.1\n";

fn stream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
    command.current_dir(repository()).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").arg("stream").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(args: &[&str]) -> Child {
    stream(args).spawn().unwrap()
}

/// Waits for the end, which has to come.
fn end(mut child: Child) -> Output {
    let patience = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > patience {
            child.kill().unwrap();
            panic!("it did not end: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

/// The last line of JSON, whose counts have to add up.
fn summary(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("no output: {}", error(output)));
    let summary = serde_json::from_str::<Value>(last).unwrap()["summary"].clone();
    let count = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {last}"));
    let all = ["answered", "dropped", "stranded", "malformed", "skipped", "remainder"].map(count);
    assert_eq!(count("read"), all.iter().sum::<u64>(), "{last}");
    summary
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `address` answers.
fn connect(address: &str) -> TcpStream {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > patience => panic!("{address}: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A port that is free now.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A pseudo-terminal: the sensor's side, and the name of the port.
fn pty() -> (fs::File, String) {
    let sensor = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&sensor).unwrap();
    unlockpt(&sensor).unwrap();
    let name = ptsname(&sensor, Vec::new()).unwrap().into_string().unwrap();
    (sensor.into(), name)
}

#[test]
fn standard_input_is_read_to_its_end() {
    let mut child = start(&[HAR, "--source", "-"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(LINE.repeat(300).as_bytes()).unwrap();
    drop(input);
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    let summary = summary(&output);
    assert_eq!((summary["windows"].as_u64(), summary["remainder"].as_u64()), (Some(3), Some(44)));
}

#[test]
fn a_serial_port_that_is_unplugged_ends_with_its_name() {
    let (mut sensor, port) = pty();
    let mut child = start(&[HAR, "--source", &format!("serial:{port}")]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // As a terminal it would echo what comes before it is made a port.
    let patience = Instant::now() + Duration::from_secs(20);
    while tcgetattr(&sensor).unwrap().local_modes.contains(LocalModes::ICANON) {
        assert!(Instant::now() < patience);
        thread::sleep(Duration::from_millis(10));
    }
    // Half a line in front is malformed, and so is one behind.
    let sent = thread::spawn(move || {
        sensor.write_all(b"0.9\n").unwrap();
        for _ in 0..200 {
            sensor.write_all(LINE.as_bytes()).unwrap();
        }
        sensor.write_all(b"0.1,0.").unwrap();
        sensor
    });
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(first["label"].is_string() && first["from_s"].as_f64().unwrap() > 1e9, "{first}");
    lines.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(300));
    drop(sent.join().unwrap());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains(&port) && error(&output).contains("went away"), "{}", error(&output));
    let last: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    let count = |key: &str| last["summary"][key].as_u64().unwrap();
    assert_eq!((count("read"), count("malformed"), count("windows")), (202, 2, 2), "{last}");
    assert!(last["summary"]["first_malformed"].as_str().unwrap().starts_with("line 1: "), "{last}");
    assert_eq!(count("answered") + count("remainder"), 200);
}

#[test]
fn a_port_that_is_none_says_so() {
    let output = end(start(&[HAR, "--source", "serial:/dev/null"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("/dev/null: it is no serial port"), "{}", error(&output));
}

#[test]
fn a_sensor_that_comes_back_is_taken_up_again_and_no_window_spans_the_gap() {
    let address = free_address();
    let source = format!("tcp-listen:{address}");
    let child = start(&[HAR, "--source", &source, "--reconnect", "0.05", "--overflow", "block"]);
    for _ in 0..2 {
        let mut sensor = connect(&address);
        sensor.write_all(LINE.repeat(150).as_bytes()).unwrap();
        sensor.flush().unwrap();
        drop(sensor);
        thread::sleep(Duration::from_millis(700));
    }
    signal(&child, "TERM");
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    let summary = summary(&output);
    assert_eq!(summary["read"], 300);
    // 150 frames hold one window of 128; with the gap papered over there would be three.
    assert_eq!(summary["windows"], 2, "{summary}");
    assert!(summary["reconnects"].as_u64().unwrap() >= 1, "{summary}");
    assert_eq!(summary["dropped"], 0, "inference kept up: {summary}");
    assert!(summary["stranded"].as_u64().unwrap() >= 22, "{summary}");
}

#[test]
fn a_server_and_datagrams_are_read() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = start(&[HAR, "--source", &format!("tcp:{}", server.local_addr().unwrap()), "--format", "f32le"]);
    let frame: Vec<u8> = [0.1f32, 0.2, 0.9, 0.0, 0.1, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(&frame.repeat(128)).unwrap();
    peer.write_all(&frame[..7]).unwrap();
    drop(peer);
    let output = end(child);
    assert_eq!(output.status.code(), Some(1), "the other side closed it");
    let last = summary(&output);
    assert_eq!(
        (last["read"].as_u64(), last["malformed"].as_u64(), last["windows"].as_u64()),
        (Some(129), Some(1), Some(1))
    );
    assert_eq!(last["first_malformed"], "frame 129: cut off after 7 of 24 bytes");

    let address = free_address();
    let child = start(&[HAR, "--source", &format!("udp:{address}"), "--format", "f32le"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    // Until somebody is there, datagrams are refused.
    socket.connect(&address).unwrap();
    while socket.send(&frame).is_err() || socket.send(&frame).is_err() {
        assert!(Instant::now() < patience);
        thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..140 {
        socket.send(&frame).unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    socket.send(&frame[..5]).unwrap();
    thread::sleep(Duration::from_millis(500));
    signal(&child, "TERM");
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    let last = summary(&output);
    assert_eq!((last["malformed"].as_u64(), last["windows"].as_u64()), (Some(1), Some(1)), "{last}");
}

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

#[test]
fn sigterm_finishes_and_writes_everything() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("walk.csv");
    fs::write(&file, LINE.repeat(10_000)).unwrap();
    let rows = folder.path().join("out.csv");
    let sink = format!("csv:{}", rows.display());
    let args = ["--source", file.to_str().unwrap(), "--repeat", "0", "--sink", "-", "--sink", &sink];
    let mut child = start(&[&[HAR][..], &args].concat());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    signal(&child, "TERM");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(end(child).status.success());
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    let windows = last["summary"]["windows"].as_u64().unwrap();
    assert_eq!(rest.lines().count() as u64, windows, "a line for each, the first having been read, and the summary");
    assert_eq!(fs::read_to_string(rows).unwrap().lines().count() as u64, windows + 1, "and a header");
}

#[test]
fn sighup_exchanges_a_good_model_and_refuses_a_bad_one() {
    let folder = exchangeable();
    let copy = |from: &str| fs::copy(repository().join(from), folder.path().join("new")).unwrap();
    let exchange = || fs::rename(folder.path().join("new"), folder.path().join("model.onnx")).unwrap();

    let address = free_address();
    let mut child = start(&[folder.path().to_str().unwrap(), "--source", "-", "--metrics", &address]);
    let counter = |name: &str| {
        let mut peer = connect(&address);
        peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        peer.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        let line = page.lines().find(|line| line.starts_with(&format!("tractlet_stream_{name}_total "))).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let until = |name: &str, value: u64| {
        let patience = Instant::now() + Duration::from_secs(20);
        while counter(name) < value {
            assert!(Instant::now() < patience, "{name} did not come to {value}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let mut input = child.stdin.take().unwrap();
    input.write_all(LINE.repeat(128).as_bytes()).unwrap();
    until("windows", 1);
    copy("models/har_cnn1d/f32.onnx");
    exchange();
    signal(&child, "HUP");
    until("reloads", 1);
    // Damaged, then sound and of another shape.
    for (bad, refused) in [("README.md", 1), ("models/kws_dscnn/int8.onnx", 2)] {
        copy(bad);
        exchange();
        signal(&child, "HUP");
        until("reloads_refused", refused);
    }
    // Fit, and its classes are in another order.
    copy("models/har_cnn1d/f32.onnx");
    exchange();
    let labels = fs::read_to_string(folder.path().join("labels.txt")).unwrap();
    let turned: Vec<&str> = labels.lines().rev().collect();
    fs::write(folder.path().join("labels.txt"), turned.join("\n")).unwrap();
    signal(&child, "HUP");
    until("reloads_refused", 3);
    input.write_all(LINE.repeat(64).as_bytes()).unwrap();
    until("windows", 2);
    drop(input);
    let output = end(child);
    assert!(output.status.success());
    let told = error(&output);
    assert!(told.contains("was not exchanged") && told.contains("[1, 1, 49, 10]"), "{told}");
    assert!(told.contains("model.toml: `labels` is not what the stream was started with"), "{told}");
    let last = summary(&output);
    assert_eq!((last["reloads"].as_u64(), last["reloads_refused"].as_u64()), (Some(1), Some(3)));
}

/// A folder of which the model may be exchanged, with har_cnn1d's recipe.
fn exchangeable() -> TempDir {
    let folder = TempDir::new().unwrap();
    let from = repository().join(HAR);
    fs::copy(from.join("int8.onnx"), folder.path().join("model.onnx")).unwrap();
    fs::copy(from.join("labels.txt"), folder.path().join("labels.txt")).unwrap();
    let recipe = fs::read_to_string(from.join("model.toml")).unwrap();
    fs::write(folder.path().join("model.toml"), recipe.replace("int8.onnx", "model.onnx")).unwrap();
    folder
}

#[test]
fn a_model_that_the_cap_has_no_room_for_is_refused_and_the_old_one_goes_on() {
    let folder = exchangeable();
    let model = folder.path().to_str().unwrap();
    let first_line = |child: &mut Child| {
        child.stdin.as_mut().unwrap().write_all(LINE.repeat(128).as_bytes()).unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    };
    let mut uncapped = start(&[model, "--source", "-"]);
    first_line(&mut uncapped);
    let status = fs::read_to_string(format!("/proc/{}/status", uncapped.id())).unwrap();
    let peak_kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak_kib.trim().trim_end_matches(" kB").parse().unwrap();
    uncapped.kill().unwrap();
    uncapped.wait().unwrap();

    let cap = format!("{}KiB", peak_kib + 1024);
    let mut child = start(&[model, "--source", "-", "--max-rss", &cap]);
    first_line(&mut child);
    fs::copy(repository().join("models/ad_autoencoder/f32.onnx"), folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("model.onnx")).unwrap();
    signal(&child, "HUP");
    thread::sleep(Duration::from_millis(600));
    child.stdin.as_mut().unwrap().write_all(LINE.repeat(128).as_bytes()).unwrap();
    drop(child.stdin.take());
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    assert!(error(&output).contains("beside the model that runs"), "{}", error(&output));
    assert_eq!(summary(&output)["reloads_refused"], 1);
}

#[test]
fn a_stop_does_not_wait_for_who_no_longer_reads() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("walk.csv");
    fs::write(&file, LINE.repeat(10_000)).unwrap();
    let mut child = start(&[HAR, "--source", file.to_str().unwrap(), "--repeat", "0"]);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    // Until the pipe is full.
    let pipe = fs::OpenOptions::new().write(true).open(format!("/proc/{}/fd/1", child.id())).unwrap();
    let has_room = || poll(&mut [PollFd::new(&pipe, PollFlags::OUT)], Some(&Timespec::default())).unwrap() > 0;
    let patience = Instant::now() + Duration::from_secs(20);
    while has_room() {
        assert!(Instant::now() < patience, "the pipe is not filled");
        thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "TERM");
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("took nothing for 2s after the stop"), "{}", error(&output));
}

#[test]
fn a_reader_that_leaves_one_of_two_sinks_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("walk.csv"), LINE.repeat(10_000)).unwrap();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let (piped, kept) = (format!("json:{}", path("pipe")), format!("csv:{}", path("kept.csv")));
    let args = ["--source", &path("walk.csv"), "--repeat", "0", "--sink", &piped, "--sink", &kept];
    let child = start(&[&[HAR][..], &args].concat());
    let mut reader = BufReader::new(fs::File::open(path("pipe")).unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("/pipe: Broken pipe"), "{}", error(&output));
    assert!(fs::read_to_string(path("kept.csv")).unwrap().ends_with('\n'));
}

#[test]
fn one_of_several_streams_breaks_and_the_others_go_on() {
    let folder = TempDir::new().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, metrics) = (free_address(), free_address());
    let sink = |name: &str| format!("json:{}", folder.path().join(name).display());
    let entry = |name: &str, source: &str| {
        let words = [HAR, "--source", source, "--sink", &sink(name), "--overflow", "block"];
        format!("[[stream]]\nname = \"{name}\"\narguments = {words:?}\n")
    };
    let list = folder.path().join("streams.toml");
    let live = format!("tcp-listen:{address}");
    let frail = format!("tcp:{}", server.local_addr().unwrap());
    fs::write(&list, entry("live", &live) + &entry("frail", &frail)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
    command.current_dir(repository()).env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command.args(["streams", list.to_str().unwrap(), "--json", "--metrics", &metrics]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(LINE.repeat(130).as_bytes()).unwrap();
    drop(peer);
    let page = || {
        let mut peer = connect(&metrics);
        peer.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut page = String::new();
        peer.read_to_string(&mut page).unwrap();
        page
    };
    let until = |line: &str| {
        let patience = Instant::now() + Duration::from_secs(20);
        while !page().lines().any(|found| found == line) {
            assert!(Instant::now() < patience, "{line}: {}", page());
            thread::sleep(Duration::from_millis(50));
        }
    };
    until("tractlet_stream_windows_total{stream=\"frail\"} 1");
    // The other one is fed only now.
    let mut sensor = connect(&address);
    sensor.write_all(LINE.repeat(192).as_bytes()).unwrap();
    until("tractlet_stream_windows_total{stream=\"live\"} 2");
    signal(&child, "TERM");
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    let told = error(&output);
    assert!(told.contains("all streams: ") && told.contains("1 of 2 streams broke: frail"), "{told}");
    assert!(told.contains("stream `frail`: ") && told.contains("the other side closed it"), "{told}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (stream, name, windows) in [(&told[0], "live", 2), (&told[1], "frail", 1)] {
        assert_eq!((&stream["name"], &stream["summary"]["windows"]), (&name.into(), &windows.into()), "{told}");
        assert!(stream["heap_bytes"].as_u64().unwrap() > 10_000, "{told}");
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap().lines().count(), windows + 1);
    }
    assert!(told[0].get("error").is_none() && told[1]["error"].is_string(), "{told}");

    fs::write(&list, entry("one", "-")).unwrap();
    let shared = command.output().unwrap();
    assert_eq!(shared.status.code(), Some(1));
    assert!(error(&shared).contains("stream `one`: standard input is one for all"), "{}", error(&shared));
    let again = entry("live", &frail).replace("name = \"live\"", "name = \"twin\"");
    fs::write(&list, entry("live", &live) + &again).unwrap();
    let torn = command.output().unwrap();
    assert_eq!(torn.status.code(), Some(1));
    assert!(error(&torn).contains("stream `twin`: ") && error(&torn).contains("two sinks"), "{}", error(&torn));
}

#[test]
fn the_service_manager_hears_of_progress_and_not_of_silence() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    let heard = || {
        let mut text = [0; 64];
        manager.recv(&mut text).ok().map(|count| String::from_utf8_lossy(&text[..count]).into_owned())
    };
    let mut command = stream(&[HAR, "--source", "-"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let mut child = command.spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    while heard().as_deref() != Some("READY=1") {
        assert!(Instant::now() < patience);
    }
    assert_eq!(heard(), None, "no frame, no progress");
    let mut input = child.stdin.take().unwrap();
    input.write_all(LINE.repeat(128).as_bytes()).unwrap();
    assert_eq!(heard().as_deref(), Some("WATCHDOG=1"));
    assert_eq!(heard(), None, "silent again");
    drop(input);
    assert_eq!(heard().as_deref(), Some("STOPPING=1"));
    assert!(end(child).status.success());
}

#[test]
fn a_replay_at_real_speed_takes_its_time() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("walk.csv");
    fs::write(&file, LINE.repeat(192)).unwrap();
    let started = Instant::now();
    let mut child = start(&[HAR, "--source", file.to_str().unwrap(), "--replay", "real"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let first = started.elapsed().as_secs_f64();
    assert!(first >= 2.5, "127 frames at 50 Hz: {first}");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(started.elapsed().as_secs_f64() > 3.8, "and the rest of them");
    assert!(end(child).status.success());
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(last["summary"]["windows"], 2, "{last}");
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let named = path("named.csv", "t,a,b\n1,2,3\n");
    let few = path("few.csv", "1,2,3\n");
    let words = "models/kws_dscnn/words.wav";
    #[cfg(not(feature = "audio"))]
    {
        let output = end(start(&["models/kws_dscnn", "--source", "alsa:hw:1,0"]));
        let piped =
            "arecord -D hw:1,0 -t raw -f S16_LE -r 16000 -c 1 | tractlet stream MODEL --source - --format s16le";
        assert!(output.status.code() == Some(1) && error(&output).contains(piped), "{}", error(&output));
    }
    let to_source = format!("csv:{few}");
    let cases: [(&[&str], i32, &str); 22] = [
        (&[HAR, "--source", "nowhere.csv"], 1, "nowhere.csv: cannot open it"),
        (&[HAR, "--source", "x.dat"], 1, "`.dat` does not tell its format; say --format"),
        (
            &[HAR, "--source", &named],
            1,
            "line 1: the model takes acc_x, acc_y, acc_z, gyro_x, gyro_y, gyro_z; the columns are t, a, b",
        ),
        (&[HAR, "--source", &few], 1, "there are 3 columns, and no header"),
        (&[HAR, "--source", words], 1, "frames have 1 channels, the model takes 6"),
        (
            &["models/kws_dscnn", "--source", words, "--rate", "44101"],
            1,
            "44101 frames a second, the model takes 16000: `rate_hz` has",
        ),
        (&[HAR, "--source", &few, "--rate", "100", "--time", "1:ms"], 1, "are not resampled"),
        (&[HAR, "--source", &few, "--units", "K"], 1, "channel `acc_x` is taken in g, which K cannot be converted to"),
        (&[HAR, "--source", &few, "--buffer", "5"], 1, "a buffer of 5 frames: expected 128 to"),
        // A hop of any length takes no buffer of as many frames.
        (&[HAR, "--source", &few, "--hop", "4000000000"], 1, "there are 3 columns, and no header"),
        (&["models/ic_resnet8", "--source", "-"], 1, "models/ic_resnet8/model.toml: cannot open it"),
        (&["models/nosuch", "--source", "-"], 1, "models/nosuch: cannot open it: No such file"),
        (&[HAR, "--source", "-", "--repeat", "2"], 1, "leave --repeat out"),
        (&[HAR, "--source", "-", "--reconnect", "1"], 1, "leave --reconnect out"),
        (&[HAR, "--source", "udp:127.0.0.1:0", "--replay", "real"], 1, "leave --replay real out"),
        (&[HAR, "--source", &few, "--channels", "3"], 1, "leave --channels out"),
        (&["models/kws_dscnn", "--source", words, "--channels", "1"], 1, "leave --channels out"),
        (&["models/kws_dscnn", "--source", words, "--time", "1:s"], 1, "leave --time out"),
        (&[HAR, "--source", "iio:/sys", "--format", "csv"], 1, "leave --format, --channels and --time out"),
        (&[HAR, "--source", &few, "--sink", &to_source], 2, "a sink would write into what is a source"),
        (&[HAR, "--source", "mqtt://:word@/x"], 2, "no host; expected mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC"),
        (&[HAR, "--source", "-", "--json", "--sink", "-"], 2, "--json prints the summary alone"),
    ];
    for (args, code, told) in cases {
        let output = end(start(args));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", error(&output));
        assert!(error(&output).contains(told), "{args:?}: {}", error(&output));
    }
}
