//! `tractlet stream` on sensors that are no files: ports, sockets, IIO, brokers, cards; and as a service.

#[cfg(feature = "audio")]
#[path = "sensors/alsa.rs"]
mod alsa;
mod common;
#[path = "sensors/iio.rs"]
mod iio;
#[cfg(feature = "mqtt")]
#[path = "sensors/mqtt.rs"]
mod mqtt;
#[path = "sensors/service.rs"]
mod service;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::repository;
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
fn what_no_sink_tells_of_is_told_on_stderr() {
    let folder = TempDir::new().unwrap();
    let (file, sink) = (folder.path().join("imu.csv"), format!("csv:{}", folder.path().join("out.csv").display()));
    let told = |lines: &str| {
        fs::write(&file, lines).unwrap();
        let output = end(start(&[HAR, "--source", file.to_str().unwrap(), "--sink", &sink]));
        assert!(output.status.success(), "{}", error(&output));
        error(&output)
    };
    let half = LINE.repeat(100);
    assert_eq!(told(&half.repeat(2)), "");
    let cut = told(&format!("{half}0.1,0.2\n0.3\n{half}"));
    assert_eq!(cut.matches("malformed is left out").count(), 1, "{cut}");
    assert!(cut.contains("line 101: 2 fields, expected 6"), "{cut}");
    let few = told(&half);
    assert!(few.contains("no window was full when the source ended, after 100 frames"), "{few}");
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
        // Of a channel in `full-scale` raw samples are sound, as a card's are; of others they are counts.
        for (model, arecord, scale) in
            [("models/kws_dscnn", "-r 16000 -c 1", ";"), (HAR, "-r 50 -c 6", " --scale 1/32768;")]
        {
            let output = end(start(&[model, "--source", "alsa:hw:1,0"]));
            let piped = format!(
                "arecord -D hw:1,0 -t raw -f S16_LE {arecord} | tractlet stream MODEL --source - --format s16le{scale}"
            );
            assert!(output.status.code() == Some(1) && error(&output).contains(&piped), "{}", error(&output));
        }
    }
    let dat = path("x.dat", "");
    let (_sensor, port) = pty();
    let serial = "it is a terminal: a port is --source serial:PATH or serial:PATH:BAUD".to_owned();
    let to_source = format!("csv:{few}");
    let cases: [(&[&str], i32, &str); 39] = [
        (&[HAR, "--source", "nowhere.csv"], 1, "nowhere.csv: cannot open it"),
        (&[HAR, "--source", "nowhere.npy"], 1, "error: nowhere.npy: cannot open it: No such file"),
        (&[HAR, "--source", "nowhere.dat"], 1, "nowhere.dat: cannot open it: No such file"),
        (&[HAR, "--source", &dat], 1, "`.dat` does not tell its format; say --format"),
        (&[HAR, "--source", "LICENSE-MIT"], 1, "error: LICENSE-MIT: its name does not tell its format; say --format"),
        (&[HAR, "--source", "models"], 1, "models: it is a directory"),
        (&[HAR, "--source", &port, "--format", "csv"], 1, &serial),
        (&[HAR, "--source", &port], 1, &serial),
        (&[HAR, "--source", &few, "--rate", "1e10"], 2, "expected a number from 1e-6 to 1e9"),
        (&[HAR, "--source", &few, "--metrics", ":9100"], 2, "0.0.0.0:9100 for whoever reaches it"),
        (&[HAR, "--source", &few, "--metrics", "127.0.0.1"], 2, "expected ADDR:PORT"),
        (&[HAR, "--source", &few, "--metrics", "127.0.0.1:99999"], 2, "expected ADDR:PORT"),
        (&[HAR, "--source", &few, "--client-id", "i"], 2, "--client-id is for a source or a sink at a broker"),
        (&[HAR, "--source", &few, "--client-id", "i", "--session", "9"], 2, "--session is for a source at a broker"),
        (&[HAR, "--source", &few, "--queue", "1MiB"], 2, "--queue is for a sink at a broker"),
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
        (
            &["models/ad_autoencoder", "--source", &few, "--units", "g"],
            1,
            "--units: the model states no unit of channel `c0`: leave it out, or state `input.units`",
        ),
        (&[HAR, "--source", &few, "--units", "K"], 1, "channel `acc_x` is taken in g, which K cannot be converted to"),
        (&[HAR, "--source", &few, "--buffer", "5"], 1, "--buffer 5: expected 128 to 11184810 frames"),
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
        (&[HAR, "--source", &few, "--sink", &to_source], 2, "a sink would write into what is read"),
        (&[HAR, "--source", "mqtt://:word@/x"], 2, "no host; expected mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC"),
        (&["no.onnx", "--source", "-", "--share", "g", "--client-id", "i"], 2, "Usage: tractlet stream [OPTIONS]"),
        (&["no.onnx", "--source", "mqtt://h/t", "--hop", "2"], 2, "--hop is for frames"),
        (&["no.onnx", "--source", "-", "--sink", "-", "--sink", "text:-"], 2, "two sinks write to standard output"),
        (&[HAR, "--source", "-", "--json", "--sink", "-"], 2, "--json prints the summary alone"),
    ];
    for (args, code, told) in cases {
        let output = end(start(args));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", error(&output));
        assert!(error(&output).contains(told), "{args:?}: {}", error(&output));
    }
}
