//! `mqtt://` against mosquitto: a fleet that is shared, a broker that goes away, who is let in.
//!
//! Without mosquitto they say that they were skipped; `make test-mqtt` wants it. TRACTLET_TEST_AWAY_S is for how long the broker
//! goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;

/// Where packages put it; not everybody's PATH has the folders of administrators.
const PROGRAMS: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];

/// A broker of its own, with what it knows in a folder.
struct Broker {
    program: &'static Path,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    /// None where there is no mosquitto.
    fn start(settings: &str) -> Option<Broker> {
        let Some(program) = PROGRAMS.iter().map(Path::new).find(|path| path.exists()) else {
            let required = std::env::var("TRACTLET_TEST_MQTT").is_ok_and(|wanted| wanted == "required");
            assert!(!required, "there is no mosquitto: install the packages mosquitto and mosquitto-clients");
            common::skipped("there is no mosquitto");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let port = free_address().rsplit_once(':').unwrap().1.parse().unwrap();
        let place = folder.path().display();
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {place}/\nmax_queued_messages 0\n{settings}\n"
        );
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Broker { program, folder, port, child: None };
        broker.up();
        Some(broker)
    }

    fn up(&mut self) {
        let mut command = Command::new(self.program);
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        connect(&format!("127.0.0.1:{}", self.port));
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    fn address(&self, topic: &str) -> String {
        format!("mqtt://127.0.0.1:{}/{topic}", self.port)
    }

    fn client(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-V", "5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn publish(&self, topic: &str, lines: &str) {
        let mut child = self.client("mosquitto_pub", &["-t", topic, "-l"]).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = end(child);
        assert!(output.status.success(), "{}", error(&output));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.down();
    }
}

/// Everything that is published below `decisions`, as it comes, for as long as it lives.
struct Observer {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    seen: Vec<(String, String)>,
}

impl Observer {
    fn start(broker: &Broker) -> Observer {
        let session = ["-i", "observer", "-c", "-x", "3600", "-t", "decisions/#", "-F", "%t %p"];
        let mut child = broker.client("mosquitto_sub", &session).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Observer { child, lines, seen: Vec::new() }
    }

    /// Waits until `is_enough` of topics and payloads.
    fn until(&mut self, what: &str, is_enough: impl Fn(&[(String, String)]) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60) + away();
        while !is_enough(&self.seen) {
            assert!(Instant::now() < patience, "{what}: {} lines, the last {:?}", self.seen.len(), self.seen.last());
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                let (topic, payload) = line.split_once(' ').unwrap();
                self.seen.push((topic.to_owned(), payload.to_owned()));
            }
        }
    }

    fn decisions(seen: &[(String, String)]) -> Vec<Value> {
        let decisions = seen.iter().filter(|(topic, _)| topic == "decisions");
        let decisions = decisions.map(|(_, payload)| serde_json::from_str::<Value>(payload).unwrap());
        decisions.filter(|decision| decision.get("summary").is_none()).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn away() -> Duration {
    Duration::from_secs(std::env::var("TRACTLET_TEST_AWAY_S").map_or(2, |seconds| seconds.parse().unwrap()))
}

/// A window of har_cnn1d in a message, with its number.
fn window(number: usize) -> String {
    let values: Vec<String> = (0..128 * 6).map(|i| format!("{:.2}", ((i * 7 + number) % 90) as f64 / 100.0)).collect();
    format!("{{\"id\": {number}, \"values\": [{}]}}\n", values.join(","))
}

fn windows(numbers: std::ops::Range<usize>) -> String {
    numbers.map(window).collect()
}

/// The last line that a process published or printed, whose counts have to add up.
fn adds_up(summary: &Value) {
    let count = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {summary}"));
    let all: u64 = ["answered", "dropped", "stranded", "malformed", "skipped", "remainder"].map(count).iter().sum();
    assert_eq!(count("read"), all, "{summary}");
}

#[test]
fn no_window_is_lost_where_one_of_three_that_share_a_fleet_is_killed() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    let mut observer = Observer::start(&broker);
    let node = |name: &str| {
        let (source, sink) = (broker.address("fleet/+/imu"), broker.address("decisions"));
        let shared = ["--format", "json", "--share", "imu", "--client-id", name, "--sink", &sink];
        start(&[&[HAR, "--source", &source], &shared[..]].concat())
    };
    let is_online = |seen: &[(String, String)], name: &str, times: usize| {
        let status = (format!("decisions/status/{name}"), "online".to_owned());
        seen.iter().filter(|line| **line == status).count() >= times
    };
    let names = ["node1", "node2", "node3"];
    let mut nodes: Vec<Child> = names.into_iter().map(node).collect();
    observer.until("three nodes", |seen| names.iter().all(|name| is_online(seen, name, 1)));
    broker.publish("fleet/a/imu", &windows(0..60));
    observer.until("sixty windows", |seen| Observer::decisions(seen).len() >= 60);
    // What it has in hands when it is killed is not answered.
    signal(&nodes[1], "STOP");
    broker.publish("fleet/b/imu", &windows(60..150));
    nodes[1].kill().unwrap();
    nodes[1].wait().unwrap();
    observer.until("a last will", |seen| seen.contains(&("decisions/status/node2".into(), "offline".into())));
    broker.publish("fleet/c/imu", &windows(150..200));
    nodes[1] = node("node2");
    observer.until("every window", |seen| {
        let ids: BTreeSet<String> = Observer::decisions(seen).iter().map(|d| d["message"]["id"].to_string()).collect();
        ids.len() >= 200
    });
    let mut of_window = BTreeMap::<usize, Vec<Value>>::new();
    for decision in Observer::decisions(&observer.seen) {
        let id = decision["message"]["id"].as_str().unwrap().parse().unwrap();
        of_window.entry(id).or_default().push(decision["message"].clone());
    }
    assert!(of_window.keys().copied().eq(0..200));
    assert_eq!(of_window[&70][0]["topic"], "fleet/b/imu");
    let marked = |messages: &[Value]| messages.iter().any(|message| message["redelivered"] == true);
    assert!(of_window.values().all(|messages| messages.len() == 1 || marked(messages)), "a duplicate is not marked");
    let again = of_window.values().filter(|messages| marked(messages)).count();
    assert!(again > 0, "nothing was given out again: the killed one had nothing in hands");

    nodes.iter().for_each(|node| signal(node, "TERM"));
    for node in nodes {
        let output = end(node);
        assert!(output.status.success(), "{}", error(&output));
    }
    observer
        .until("three summaries", |seen| seen.iter().filter(|(_, payload)| payload.contains("summary")).count() == 3);
    let summaries = observer.seen.iter().filter(|(_, payload)| payload.contains("summary"));
    let summaries: Vec<Value> = summaries.map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
    summaries.iter().for_each(|summary| adds_up(&summary["summary"]));
    let total = |key: &str| summaries.iter().map(|summary| summary["summary"][key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(total("undelivered") + total("dropped") + total("malformed"), 0);
    println!("{again} of 200 windows were given out again, {} decisions", Observer::decisions(&observer.seen).len());
}

#[test]
fn a_window_is_given_out_again_where_its_decision_went_to_nobody() {
    let Some(broker) = Broker::start("allow_anonymous true") else { return };
    let Some(other) = Broker::start("allow_anonymous true") else { return };
    let mut observer = Observer::start(&other);
    let decided = broker.folder.path().join("decided");
    let node = || {
        let (source, sink) = (broker.address("imu"), other.address("decisions"));
        let file = format!("json:{}", decided.display());
        start(&[HAR, "--source", &source, "--format", "json", "--client-id", "node", "--sink", &sink, "--sink", &file])
    };
    let mut first = node();
    observer.until("a node", |seen| seen.iter().any(|(_, payload)| payload == "online"));
    // It takes the windows and decides, and who takes the decisions does not say so.
    signal(other.child.as_ref().unwrap(), "STOP");
    broker.publish("imu", &windows(0..10));
    let patience = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&decided).unwrap().lines().count() < 10 {
        assert!(Instant::now() < patience, "ten windows are not decided");
        thread::sleep(Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    signal(other.child.as_ref().unwrap(), "CONT");
    let second = node();
    observer.until("ten windows again", |seen| {
        let again = Observer::decisions(seen).into_iter().map(|decision| decision["message"].clone());
        let again = again.filter(|message| message["redelivered"] == true);
        again.map(|message| message["id"].to_string()).collect::<BTreeSet<_>>().len() == 10
    });
    signal(&second, "TERM");
    let output = end(second);
    assert!(output.status.success(), "{}", error(&output));
}

#[test]
fn decisions_wait_for_a_broker_that_is_away_and_what_goes_beyond_the_bound_is_counted() {
    let Some(mut broker) = Broker::start("allow_anonymous true") else { return };
    // Room for all, and for a few.
    for (client, queue) in [("ample", "1MiB"), ("scant", "4KiB")] {
        let mut observer = Observer::start(&broker);
        let sink = broker.address("decisions");
        let args = [HAR, "--source", "-", "--client-id", client, "--queue", queue, "--sink", &sink, "--sink", "-"];
        let mut child = start(&args);
        let mut input = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // The first window is two hops long.
        input.write_all(LINE.repeat(64).as_bytes()).unwrap();
        let mut decided = |windows: usize| {
            input.write_all(LINE.repeat(64 * windows).as_bytes()).unwrap();
            input.flush().unwrap();
            (0..windows).for_each(|_| assert!(out.read_line(&mut String::new()).unwrap() > 0));
        };
        decided(10);
        observer.until("ten decisions", |seen| Observer::decisions(seen).len() >= 10);
        broker.down();
        let began = Instant::now();
        decided(20);
        while began.elapsed() < away() {
            thread::sleep(Duration::from_millis(500));
            decided(1);
        }
        broker.up();
        decided(10);
        drop(input);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        let output = end(child);
        assert!(output.status.success(), "{}", error(&output));
        let summary = &last["summary"];
        adds_up(summary);
        observer.until("the summary", |seen| seen.iter().any(|(_, payload)| payload.contains("summary")));
        let arrived: BTreeSet<u64> =
            Observer::decisions(&observer.seen).iter().map(|decision| decision["window"].as_u64().unwrap()).collect();
        let (made, lost) = (summary["decisions"].as_u64().unwrap(), summary["undelivered"].as_u64().unwrap());
        assert_eq!(arrived.len() as u64 + lost, made, "{client}: {summary}");
        assert_eq!(lost > 0, client == "scant", "{client}: {lost} of {made}");
        println!("{client}: {made} decisions, {lost} lost");
        drop(observer);
        // The next one begins without what this one left.
        broker.client("mosquitto_sub", &["-i", "observer", "-t", "decisions/#", "-E"]).output().unwrap();
    }
}

#[test]
fn windows_go_on_from_a_broker_that_was_away() {
    let Some(mut broker) = Broker::start("allow_anonymous true") else { return };
    let notify = broker.folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let mut command = stream(&[HAR, "--source", &broker.address("imu"), "--format", "json", "--client-id", "node"]);
    let mut child = command.env("NOTIFY_SOCKET", &notify).spawn().unwrap();
    manager.recv(&mut [0; 16]).unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // One that was answered just before the broker went may come again.
    let mut answered = BTreeSet::new();
    let mut until = |count: usize| {
        while answered.len() < count {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended after {answered:?}");
            let decision: Value = serde_json::from_str(&line).unwrap();
            answered.insert(decision["message"]["id"].as_str().unwrap().parse::<usize>().unwrap());
        }
        assert!(answered.iter().copied().eq(0..count), "{answered:?}");
    };
    broker.publish("imu", &windows(0..10));
    until(10);
    broker.down();
    thread::sleep(away());
    broker.up();
    broker.publish("imu", &windows(10..20));
    until(20);
    signal(&child, "TERM");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    let last = &last["summary"];
    adds_up(last);
    let again = last["redelivered"].as_u64().unwrap();
    assert_eq!((&last["windows"], &last["malformed"]), (&(20 + again).into(), &0.into()), "{last}");
    assert_eq!(last["read"], 128 * (20 + again), "{last}");
    println!("{again} came again");
}

#[test]
fn who_is_not_let_in_is_told_and_a_malformed_message_is_counted() {
    let Some(mut broker) = Broker::start("allow_anonymous false") else { return };
    broker.down();
    let words = broker.folder.path().join("words");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&words).args(["ann", "p@ss"]).status().unwrap();
    assert!(made.success());
    let conf = broker.folder.path().join("mosquitto.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}password_file {}\n", words.display())).unwrap();
    broker.up();
    let port = broker.port;
    let refused = end(start(&[HAR, "--source", &format!("mqtt://ann:wrong@127.0.0.1:{port}/imu")]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(error(&refused).contains("refused the connection: NotAuthorized"), "{}", error(&refused));
    assert!(!error(&refused).contains("wrong"), "{}", error(&refused));
    let misspelt = end(start(&[HAR, "--source", "mqtt://ann:secret@127.0.0.1:x/imu"]));
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(error(&misspelt).contains("mqtt:***@127.0.0.1:x/imu"), "{}", error(&misspelt));
    assert!(!error(&misspelt).contains("secret"), "{}", error(&misspelt));

    let mut command = stream(&[HAR, "--source", &format!("mqtt://ann@127.0.0.1:{port}/imu"), "--format", "f32le"]);
    let notify = broker.folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    command.env("TRACTLET_MQTT_PASSWORD", "p@ss").env("NOTIFY_SOCKET", &notify);
    let mut child = command.spawn().unwrap();
    manager.recv(&mut [0; 16]).unwrap();
    let send = |payload: &[u8], id: &str| {
        let named = ["-t", "imu", "-u", "ann", "-P", "p@ss", "-D", "publish", "correlation-data", id, "-s"];
        let mut publisher = broker.client("mosquitto_pub", &named).spawn().unwrap();
        publisher.stdin.take().unwrap().write_all(payload).unwrap();
        assert!(end(publisher).status.success());
    };
    send(&[0; 100], "short");
    send(&[0; 128 * 6 * 4], "seven");
    // Larger than any window: the broker keeps it.
    send(&[b' '; 200_000], "vast");
    send(&[0; 128 * 6 * 4], "eight");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for id in ["seven", "eight"] {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let decision: Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({"topic": "imu", "id": id, "redelivered": false});
        assert_eq!(decision["message"], expected);
    }
    signal(&child, "TERM");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = end(child);
    assert!(output.status.success(), "{}", error(&output));
    let last: Value = serde_json::from_str(&rest).unwrap();
    let last = &last["summary"];
    adds_up(last);
    assert_eq!((&last["windows"], &last["malformed"], &last["read"]), (&2.into(), &1.into(), &257.into()), "{last}");
    assert_eq!(last["first_malformed"], "message 1: 100 bytes, expected 3072");

    // It is let in, and after the broker was away no more.
    let mut late = command.spawn().unwrap();
    while manager.recv(&mut [0; 16]).unwrap() != "READY=1".len() {}
    broker.down();
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&words).args(["ann", "other"]).status().unwrap();
    assert!(made.success());
    broker.up();
    drop(late.stdin.take());
    let refused = end(late);
    assert_eq!(refused.status.code(), Some(1));
    assert!(error(&refused).contains("refused the connection: NotAuthorized"), "{}", error(&refused));
}
