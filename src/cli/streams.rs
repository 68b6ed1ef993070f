//! `tractlet streams`: several streams in one process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser};
use serde::{Deserialize, Serialize};
use tractlet::footprint::{heap, share_one_heap};
use tractlet::sensor::{Control, Metrics, Notifier, Summary};

use super::failure::Failure;
use super::stream::{self, Ran, Status, StreamArgs};
use super::{board, cap, login, output, size};

/// The most streams, each of which has two threads or more.
const MAX_STREAMS: usize = 64;
/// How long it sleeps between two looks at them.
const PATIENCE: Duration = Duration::from_millis(100);
/// The most bytes of a file that lists them.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Run several streams in one process, each with its own model, sensor and sinks
///
/// FILE lists them, each with a name and the words that `tractlet stream` would be given.
///
/// All are made ready one after the other before any of them reads, and what each takes is stated: one that cannot be made ready
/// ends the process then. Later one that breaks is told and does not stop the others. At the end of each its counts are told on stderr. Each has a thread that infers, together with
/// those of --threads, and while it runs one that reads; a sink mqtt: has one more.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct StreamsArgs {
    /// The file that lists them
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stop all where one breaks
    #[arg(long)]
    fail_fast: bool,
    /// Serve counters to Prometheus at this address, as http://ADDR:PORT/metrics, with the label `stream`
    #[arg(long, value_name = "ADDR:PORT", value_parser = stream::endpoint)]
    metrics: Option<String>,
    /// Refuse what would make more than this resident, as for `tractlet stream`: all streams together
    #[arg(long, value_name = "SIZE|BOARD", value_parser = board::bytes)]
    max_rss: Option<u64>,
    /// Print one JSON object at the end: memory and summary of each
    #[arg(long)]
    json: bool,
}

const EXAMPLE: &str = "\
An example of FILE:
  [[stream]]
  name = \"hall\"
  arguments = [
    \"models/kws_dscnn\", \"--source\", \"tcp:10.0.0.7:5000\", \"--format\", \"s16le\",
    \"--sink\", \"json:hall.jsonl\"
  ]

  [[stream]]
  name = \"pump\"
  arguments = [
    \"models/har_cnn1d\", \"--source\", \"serial:/dev/ttyUSB0\", \"--reconnect\", \"5\",
    \"--sink\", \"csv:pump.csv\"
  ]

Paths are from the folder in which it is started. SIGTERM and SIGINT end all of them, SIGHUP exchanges their models.

JSON: streams[].{name, heap_bytes, summary, error}, the last where it broke; summary is that of `tractlet stream \
--json`.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamsFile {
    stream: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    arguments: Vec<String>,
}

// The words of one of them, parsed. No doc comment: clap would show it.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    args: StreamArgs,
}

struct Planned {
    name: String,
    args: StreamArgs,
    control: Control,
}

/// Stops all where one ends and `stop` is still set, as it is if it panics.
struct Others<'a> {
    all: &'a [Planned],
    stop: bool,
}

impl Drop for Others<'_> {
    fn drop(&mut self) {
        if self.stop {
            self.all.iter().for_each(|one| one.control.stop.store(true, Relaxed));
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    streams: &'a [Told],
}

/// One that is ready, and what is told about it in the end.
#[derive(Serialize)]
struct Told {
    name: String,
    /// What its model, its arena, its windows and its sinks hold of the heap.
    heap_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Box<Summary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn streams(args: &StreamsArgs) -> Result<(), Failure> {
    let planned = planned(args)?;
    share_one_heap();
    cap::begin(args.max_rss)?;
    let ended = Control::default();
    stream::listen(&ended, planned.iter().map(|planned| &planned.control))?;
    let mut notifier = Notifier::from_env().map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
    let told = thread::scope(|scope| -> Result<Vec<Told>, Failure> {
        let mut running = Vec::new();
        for one in &planned {
            let (ready, is_ready) = channel();
            let (go, may_go) = channel::<()>();
            let before = heap().live_bytes;
            let all = planned.as_slice();
            let work = move || {
                let mut others = Others { all, stop: args.fail_fast };
                // Where no word comes, another could not be made ready.
                let ran = stream::run(&one.args, &one.control, &mut |_| {}, || {
                    ready.send(()).is_ok() && may_go.recv().is_ok()
                });
                if let Some(summary) = &ran.summary {
                    // Where stderr is closed there is nobody to tell.
                    let first = summary.first_malformed.as_ref().map(|first| format!("; the first malformed, {first}"));
                    let _ = writeln!(io::stderr(), "{}: {summary}{}", one.name, first.unwrap_or_default());
                }
                if let Err(Failure::Because(why)) = &ran.ended {
                    output::error(&format!("stream `{}`: {why}", one.name));
                }
                others.stop &= ran.ended.is_err();
                ran
            };
            let thread = thread::Builder::new().name(one.name.chars().take(15).collect()).spawn_scoped(scope, work);
            let thread = thread.map_err(|error| format!("stream `{}`: no thread for it: {error}", one.name))?;
            if is_ready.recv().is_err() {
                return Err("no stream began to read".into());
            }
            running.push((one, heap().live_bytes.saturating_sub(before), thread, go));
        }
        cap::check()?;
        state(running.iter().map(|(one, bytes, ..)| (one.name.as_str(), *bytes)));
        if let Some(address) = &args.metrics {
            let named = planned.iter().map(|one| (Some(one.name.clone()), one.control.counters.clone())).collect();
            let bound = Metrics::bind(address).and_then(|metrics| {
                let bound = metrics.address()?;
                metrics.serve(&ended, named).map(|()| bound)
            });
            let bound = bound.map_err(|error| format!("--metrics {address}: cannot listen there: {error}"))?;
            log::info!("metrics at http://{bound}/metrics");
        }
        for (.., go) in &running {
            // Who is gone is told of below.
            let _ = go.send(());
        }
        let mut status = Status::new(false);
        while running.iter().any(|(_, _, thread, _)| !thread.is_finished()) {
            if let Some(notifier) = &mut notifier {
                notifier.progress(planned.iter().map(|one| one.control.counters.windows()).sum());
            }
            status.show(planned.iter().map(|one| &*one.control.counters));
            thread::sleep(PATIENCE);
        }
        Ok(running.into_iter().map(|(one, heap_bytes, thread, _)| told(one, heap_bytes, thread.join())).collect())
    })?;
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    ended.stop.store(true, Relaxed);
    if args.json {
        output::json(&Report { streams: &told })?;
    }
    let broken: Vec<&str> = told.iter().filter(|told| told.error.is_some()).map(|told| told.name.as_str()).collect();
    match broken.len() {
        0 => Ok(()),
        count => Err(format!("{count} of {} streams broke: {}", told.len(), broken.join(", ")).into()),
    }
}

/// Reads the file, and finds out whether its streams can share a process.
fn planned(args: &StreamsArgs) -> Result<Vec<Planned>, Failure> {
    let path = args.file.display();
    let fault = |what: String| Failure::Because(format!("{path}: {what}"));
    let mut text = String::new();
    let file = File::open(&args.file).map_err(|error| fault(format!("cannot open it: {error}")))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    if read.map_err(|error| fault(format!("cannot read it: {error}")))? as u64 > MAX_FILE_BYTES {
        return Err(fault(format!("has more than {MAX_FILE_BYTES} bytes")));
    }
    let file: StreamsFile = tractlet::from_toml(&text).map_err(fault)?;
    if file.stream.is_empty() || file.stream.len() > MAX_STREAMS {
        return Err(fault(format!("lists {} streams; expected 1 to {MAX_STREAMS}", file.stream.len())));
    }
    let mut planned: Vec<Planned> = Vec::new();
    for Entry { name, arguments } in file.stream {
        let unfit = |what: &str| fault(format!("stream `{name}`: {what}"));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(unfit("its name has other characters than letters, digits, -, _ and ."));
        }
        if planned.iter().any(|other| other.name == name) {
            return Err(unfit("there are two of that name"));
        }
        let words = Words::try_parse_from(&arguments);
        let words = words.map_err(|error| unfit(&in_a_line(&login::masked(error.to_string(), &arguments))))?;
        words.args.fits_beside_others().map_err(unfit)?;
        words.args.fits_itself().map_err(|what| unfit(&what))?;
        let fits = planned.iter().try_for_each(|other| words.args.fits_beside(&other.args));
        fits.map_err(|what| unfit(&what))?;
        planned.push(Planned { name, args: words.args, control: Control::default() });
    }
    Ok(planned)
}

/// What clap says of a command line, but for how it is used otherwise.
fn in_a_line(said: &str) -> String {
    let what = said.split("\n\n").next().unwrap_or_default();
    what.trim_start_matches("error: ").lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What each takes, before anything runs.
fn state<'a>(streams: impl Iterator<Item = (&'a str, usize)>) {
    // Where stderr is closed there is nobody to tell.
    let (mut out, mut total) = (io::stderr(), 0);
    for (name, bytes) in streams {
        total += bytes;
        let _ = writeln!(out, "{name}: {} of heap", size::human(bytes as u64));
    }
    let _ = writeln!(out, "all streams: {} of heap; reading begins", size::human(total as u64));
}

fn told(one: &Planned, heap_bytes: usize, ran: thread::Result<Ran>) -> Told {
    let name = one.name.clone();
    match ran {
        Ok(Ran { summary, ended }) => {
            let error = match ended {
                Ok(()) => None,
                Err(Failure::Because(why)) => Some(why),
                Err(Failure::Closed) => Some("whoever read its decisions is gone".to_owned()),
            };
            Told { name, heap_bytes, summary, error }
        }
        Err(_) => {
            let error = "it failed in a way that it should not; please report it with what RUST_LOG=debug shows";
            output::error(&format!("stream `{name}`: {error}"));
            Told { name, heap_bytes, summary: None, error: Some(error.to_owned()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_told_in_a_line() {
        let told =
            |arguments: &[&str]| Words::try_parse_from(arguments).err().map(|error| in_a_line(&error.to_string()));
        assert_eq!(told(&["m.onnx", "--source", "-", "--foo"]).as_deref(), Some("unexpected argument '--foo' found"));
        assert_eq!(
            told(&["m.onnx"]).as_deref(),
            Some("the following required arguments were not provided: --source <SPEC>")
        );
    }
}
