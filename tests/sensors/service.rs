//! A stream as a service: signals, its model exchanged, its readers gone, several in one process, the service manager.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;

use super::{HAR, LINE, connect, end, error, free_address, repository, signal, start, stream, summary};

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

    // Half of what the other model takes. To read it, some of the program comes into memory that was not there.
    let cap = format!("{}KiB", peak_kib + 3072);
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
    assert!(told.contains("live: 2 windows, 2 decisions; 192 frames: 192 answered, 0 dropped"), "{told}");
    assert!(told.contains("all streams: ") && told.contains("1 of 2 streams broke: frail"), "{told}");
    assert!(told.contains("stream `frail`: ") && told.contains("the other side closed it"), "{told}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let streams = &told["streams"];
    for (stream, name, windows) in [(&streams[0], "live", 2), (&streams[1], "frail", 1)] {
        assert_eq!((&stream["name"], &stream["summary"]["windows"]), (&name.into(), &windows.into()), "{told}");
        assert!(stream["heap_bytes"].as_u64().unwrap() > 10_000, "{told}");
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap().lines().count(), windows + 1);
    }
    assert!(streams[0].get("error").is_none() && streams[1]["error"].is_string(), "{told}");

    fs::write(&list, entry("one", "-")).unwrap();
    let shared = command.output().unwrap();
    assert_eq!(shared.status.code(), Some(1));
    assert!(error(&shared).contains("stream `one`: standard input is one for all"), "{}", error(&shared));
    let again = entry("live", &frail).replace("name = \"live\"", "name = \"twin\"");
    fs::write(&list, entry("live", &live) + &again).unwrap();
    let torn = command.output().unwrap();
    assert_eq!(torn.status.code(), Some(1));
    assert!(error(&torn).contains("stream `twin`: ") && error(&torn).contains("two sinks"), "{}", error(&torn));
    let share =
        entry("frail", &frail).replace("\"--overflow\"", "\"--share\", \"a\", \"--client-id\", \"b\", \"--overflow\"");
    fs::write(&list, entry("live", &live) + &share).unwrap();
    let wrong = command.output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "the command line is right, and the file is not");
    assert!(error(&wrong).contains("stream `frail`: --share is for a source at a broker"), "{}", error(&wrong));
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
fn models_that_are_exchanged_leave_nothing_in_memory() {
    let folder = exchangeable();
    let file = folder.path().join("walk.csv");
    fs::write(&file, LINE.repeat(10_000)).unwrap();
    // Without a pause in its input, a stream looks at signals all the time.
    let args = [folder.path().to_str().unwrap(), "--source", file.to_str().unwrap(), "--repeat", "0", "--json"];
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let mut command = stream(&args);
    let mut child = command.env("RUST_LOG", "tractlet=info").env("NOTIFY_SOCKET", &notify).spawn().unwrap();
    manager.recv(&mut [0; 16]).unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut exchange = || {
        signal(&child, "HUP");
        let mut line = String::new();
        while !line.contains("the model was ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        }
        assert!(line.contains("the model was exchanged"), "{line}");
        private_kib(child.id())
    };
    // Pages that models share with what lay between them come and go.
    let first = exchange();
    let last = (0..200).map(|_| exchange()).skip(150).min().unwrap();
    assert!(last < first + 32, "{first} KiB after one, {last} KiB after 200");
    signal(&child, "TERM");
    assert!(end(child).status.success());
}

/// Heap, stacks and their like, counted page by page.
fn private_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let row = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    row.trim().trim_end_matches(" kB").parse().unwrap()
}
