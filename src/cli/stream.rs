//! `tractlet stream`.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tractlet::sandbox::Sandbox;
use tractlet::sensor::{
    Column, Control, Counters, Format, Metrics, MqttAddress, Notifier, Overflow, Pace, Recipe, Sink, SinkOptions,
    SinkSpec, Source, SourceOptions, SourceSpec, Stream, StreamError, StreamOptions, Summary, TimeColumn, Unit,
};

use super::apart;
use super::confine::confine;
use super::failure::Failure;
use super::in_use::InUse;
use super::reload::{Loading, one_at_a_time};
use super::threads::ThreadArgs;
use super::{ModelArgs, or_here, output, size};

/// Run a model on what a sensor gives, for as long as it gives something
///
/// MODEL is a folder with a model.toml, such a file, or an .onnx file with one beside it. It states rate,
/// channels and units of the input, how windows are cut, the front end (MFCC, log-mel, spectrum, samples), labels
/// and how scores become decisions. A line is printed for each decision, and a summary at the end.
///
/// A broker's topic, mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, is a source whose messages are whole windows, and a sink. A
/// password that is not in the address is taken from TRACTLET_MQTT_PASSWORD.
///
/// Memory is fixed: frames wait in a ring, and what happens when it is full is --overflow. Each frame is counted
/// once: read = answered + dropped + stranded + malformed + skipped + remainder, where dropped ones were lost because inference did
/// not keep up, and stranded ones came before a gap, too few for a window.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StreamArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    mqtt: MqttArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Where decisions go: -, json:, csv: or text: with - or a file behind it, or mqtt://; repeatable [default: -]
    #[arg(long, value_name = "SPEC", value_parser = str::parse::<SinkSpec>)]
    sink: Vec<SinkSpec>,
    /// Frames from window to window, in place of the recipe's
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(1..))]
    hop: Option<u32>,
    /// Run the model on whole windows where it could be given what is new of each; answers are the same
    #[arg(long)]
    whole_windows: bool,
    /// What becomes of frames when inference does not keep up [default: block for files and standard input,
    /// drop-oldest otherwise]
    #[arg(long, value_enum)]
    overflow: Option<OverflowName>,
    /// Frames that may wait [default: two windows, and a hop or a third, whichever is shorter]
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(1..))]
    buffer: Option<u32>,
    /// Count decisions that come later than this after their window's last frame
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    deadline: Option<u32>,
    /// Serve counters to Prometheus at this address, as http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,
    /// Once everything is open, give up files, the network and other programs for good (Landlock and seccomp). What is left:
    /// the folders of the model and its model.toml, for SIGHUP, a folder of slots, and with --reconnect the source, for which a port needs
    /// the folder of its device and tcp: an address in numbers; mqtt: needs one in any case. Not with a sink mqtt:,
    /// with --threads above 1, with alsa: and --reconnect, or within `tractlet streams`
    #[arg(long)]
    sandbox: bool,
}

/// What to read, and how.
#[derive(Args)]
#[command(next_help_heading = "Source")]
struct SourceArgs {
    /// -, a file, serial:PATH[:BAUD], tcp:HOST:PORT, tcp-listen:ADDR:PORT, udp:ADDR:PORT, iio:DEVICE,
    /// iio-buffer:DEVICE[,PATH], mqtt://HOST/TOPIC or alsa:DEVICE (in a build with the feature audio; static ones pipe arecord, see below)
    #[arg(long, value_name = "SPEC", value_parser = str::parse::<SourceSpec>)]
    source: SourceSpec,
    /// csv, npy, wav, json, or a type of raw samples such as s16le [default: by the file's name, else csv]
    #[arg(long, value_name = "FORMAT", value_parser = str::parse::<Format>)]
    format: Option<Format>,
    /// Column of each channel, by name or number from 1, in the model's order
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = str::parse::<Column>)]
    columns: Option<Vec<Column>>,
    /// Column with the time, and its unit: s, ms, us or ns
    #[arg(long, value_name = "COLUMN:UNIT", value_parser = str::parse::<TimeColumn>)]
    time: Option<TimeColumn>,
    /// Frames a second of the source, where it does not tell itself; where they are not the model's, they are resampled
    #[arg(long, value_name = "HZ", value_parser = positive)]
    rate: Option<f64>,
    /// Factor of each channel, or one for all; A/B is a fraction
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = factor)]
    scale: Vec<f64>,
    /// Unit of each channel after scaling, or one for all; converted to the model's
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = str::parse::<Unit>)]
    units: Vec<Unit>,
    /// Channels of a frame of raw samples [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    channels: Option<u32>,
    /// How fast a recording is replayed
    #[arg(long, value_enum, default_value_t = PaceName::Max)]
    replay: PaceName,
    /// How often a file is replayed; 0 is without end
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Malformed frames in succession that end the stream as an error
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_malformed: u32,
    /// Open a port, socket or device anew after it went away, every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = pause)]
    reconnect: Option<f64>,
}

/// What is said to a broker.
#[derive(Args)]
#[command(next_help_heading = "MQTT")]
struct MqttArgs {
    /// Share the source's messages with all that name this group: each goes to one of them
    #[arg(long, value_name = "GROUP", requires = "client_id", value_parser = level)]
    share: Option<String>,
    /// What the broker knows this process by, and no other: it keeps what was not answered until the process is back
    #[arg(long, value_name = "ID", value_parser = level)]
    client_id: Option<String>,
    /// For how long it does
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    session: u32,
    /// Decisions that are kept while the broker of a sink is away; the oldest go beyond it, and are counted
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size::parse)]
    queue: u64,
}

const EXAMPLES: &str = "\
Examples:
  tractlet stream models/kws_dscnn --source models/kws_dscnn/words.wav --sink text:-
  arecord -t raw -f S16_LE -r 16000 | tractlet stream models/kws_dscnn --source - --format s16le
  tractlet stream models/kws_dscnn --source alsa:plughw:1,0 --sink text:-
  tractlet stream models/har_cnn1d --source walk.csv --columns ax,ay,az,gx,gy,gz --units g,g,g,deg/s,deg/s,deg/s
  tractlet stream models/har_cnn1d --source serial:/dev/ttyUSB0:115200 --reconnect 5 --sink csv:har.csv --deadline 100
  tractlet stream models/har_cnn1d --source mqtt://broker/fleet/+/imu --format f32le --share imu --client-id node1 \\
    --sink mqtt://broker/decisions

JSON lines: window, from_s, to_s, label, score, state, top[].{index, label, score}, changed, latency_us; for an
anomaly score, limit and alarm in place of label to top; for a message message.{topic, id, redelivered}. The last line is {\"summary\": {windows, dropped, deadline_missed, …}}.
With --json and no --sink, stdout is the summary alone.

SIGTERM and SIGINT finish the window in flight and write everything. SIGHUP reads model.toml and loads the model anew: it takes
over between two windows if it fits and passes a test run, and input, front end, labels and decision are those that the
stream was started with; else the old one goes on.";

#[derive(Clone, Copy, ValueEnum)]
enum OverflowName {
    /// Give up the frames that waited longest
    DropOldest,
    /// Give up frames until there is room for a window
    DropNewest,
    /// Let the source wait
    Block,
}

#[derive(Clone, Copy, ValueEnum)]
enum PaceName {
    /// As fast as it is taken
    Max,
    /// At its rate, or by its time column
    Real,
}

pub fn stream(args: &StreamArgs) -> Result<(), Failure> {
    if args.model.json && args.sink.iter().any(SinkSpec::is_stdout) {
        usage("--json prints the summary alone to standard output: give sinks a file, or leave --json out");
    }
    if let Err(what) = args.fits_itself() {
        usage(&what);
    }
    let control = Control::default();
    listen(&control, [])?;
    let metrics = args.metrics.as_ref().map(|address| {
        let bound = Metrics::bind(address).and_then(|metrics| Ok((metrics.address()?, metrics)));
        bound.map_err(|error| format!("--metrics {address}: cannot listen there: {error}"))
    });
    let metrics = metrics.transpose()?;
    let mut notifier = Notifier::from_env().map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
    let mut status = Status::new(args.writes_to_stdout());
    let mut progress = |counters: &Counters| {
        if let Some(notifier) = &mut notifier {
            notifier.progress(counters.windows());
        }
        status.show([counters].into_iter());
    };
    let mut served = Ok(());
    // A thread is confined if it starts after that.
    let may_begin = || {
        if let Some((address, metrics)) = metrics {
            served = metrics.serve(&control, vec![(None, control.counters.clone())]);
            log::info!("metrics at http://{address}/metrics");
        }
        served.is_ok()
    };
    let Ran { summary, ended } = run(args, &control, &mut progress, may_begin);
    served.map_err(|error| format!("--metrics: no thread for it: {error}"))?;
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    // Whatever else listens to the stream ends with it.
    control.stop.store(true, Relaxed);
    if let (true, Some(summary)) = (args.model.json, summary) {
        output::json(&summary)?;
    }
    ended
}

/// What came of a stream.
pub struct Ran {
    /// None where it did not come to reading, or its model or a sink failed.
    pub summary: Option<Box<Summary>>,
    pub ended: Result<(), Failure>,
}

/// Makes a stream ready and, if `may_begin` says so, runs it to its end.
pub fn run(
    args: &StreamArgs,
    control: &Control,
    progress: &mut dyn FnMut(&Counters),
    may_begin: impl FnOnce() -> bool,
) -> Ran {
    let (in_use, model) = match args.model.begin_use() {
        Ok((in_use, model)) => (RefCell::new(in_use), model),
        Err(failure) => return Ran { summary: None, ended: Err(failure) },
    };
    let ran = ran(args, &model, &in_use, control, progress, may_begin);
    let Ran { summary, ended } = match ran {
        Ok(Some(Ok(summary))) => Ran { summary: Some(Box::new(summary)), ended: Ok(()) },
        Ok(Some(Err(StreamError::Source { fault, summary }))) => {
            Ran { summary: Some(summary), ended: Err(Failure::Because(fault.to_string())) }
        }
        Ok(Some(Err(error))) => Ran { summary: None, ended: Err(args.because(error)) },
        Ok(None) => Ran { summary: None, ended: Ok(()) },
        Err(failure) => Ran { summary: None, ended: Err(failure) },
    };
    Ran { summary, ended: in_use.into_inner().end(false, ended) }
}

fn ran(
    args: &StreamArgs,
    model: &Path,
    in_use: &RefCell<InUse>,
    control: &Control,
    progress: &mut dyn FnMut(&Counters),
    may_begin: impl FnOnce() -> bool,
) -> Result<Option<Result<Summary, StreamError>>, Failure> {
    match args.source.source.broker() {
        Some(_) if args.hop.is_some() => {
            usage("--hop is for frames that windows are cut from, and a message is a window")
        }
        None if args.mqtt.share.is_some() => usage("--share is for a source at a broker, mqtt://HOST/TOPIC"),
        _ => {}
    }
    let recipe = args.recipe(model)?;
    let by_hops = !args.whole_windows && recipe.hop_rows().is_ok();
    let load = |model: &Path| {
        // The plans that are kept of models take whole windows.
        let file = if by_hops { args.model.open_itself_at(model) } else { args.model.open_at(model) }?;
        let with = |options| if by_hops { recipe.by_hops(options) } else { options };
        args.model.session_on(&args.threads, &file, model, with)
    };
    let (session, loading) = Loading::measured(&recipe.model, || load(&recipe.model))?;
    if args.whole_windows && session.hop().is_some() {
        let plan = recipe.model.display();
        return Err(format!("{plan}: a plan that runs hop by hop; leave --whole-windows out, or name its model").into());
    }
    let engine = session.engine();
    let options = StreamOptions {
        overflow: args.overflow(),
        capacity: args.buffer.map(|frames| frames as usize),
        deadline: args.deadline.map(|ms| Duration::from_millis(ms.into())),
        reload: Some(Box::new(|| {
            let again = || {
                let _alone = one_at_a_time();
                loading.may_happen_again(&recipe.model)?;
                let model = in_use.borrow_mut().again(model, control.counters.reloads())?;
                let fresh = args.recipe(&model)?;
                if let Some(part) = recipe.differs_in(&fresh) {
                    let what = "is not what the stream was started with; start it anew";
                    return Err(format!("{}: `{part}` {what}", fresh.path.display()).into());
                }
                loading.may_happen_again(&fresh.model)?;
                load(&fresh.model)
            };
            again().map_err(|failure| match failure {
                Failure::Because(why) => why,
                Failure::Closed => "standard output was closed".to_owned(),
            })
        })),
        progress: Some(Box::new(|counters| {
            in_use.borrow_mut().progress(counters.windows(), counters.reloads());
            progress(counters);
        })),
    };
    let stream = Stream::new(&recipe, session, options).map_err(|error| args.because(error))?;
    let source = Source::open(&args.source(), args.source_options(control), &recipe.input);
    let source = source.map_err(|error| Failure::Because(error.to_string()))?;
    let mut sinks = args.sinks(control)?;
    if args.sandbox {
        confine(&args.needs(&recipe, &in_use.borrow())?, engine)?;
    }
    Ok(may_begin().then(|| stream.run(source, &mut sinks, control)))
}

impl StreamArgs {
    /// What the model takes and what is made of its answers, as these arguments have it.
    fn recipe(&self, model: &Path) -> Result<Recipe, Failure> {
        let mut recipe = Recipe::open(model).map_err(|error| error.to_string())?;
        if let Some(hop) = self.hop {
            recipe.input.windowing.hop = hop as usize;
        }
        if let Some(broker) = self.source.source.broker() {
            let one_sensor = self.mqtt.share.is_none() && broker.is_one_topic();
            recipe.for_messages(one_sensor).map_err(|error| error.to_string())?;
        }
        Ok(recipe)
    }

    fn uses(&self) -> Vec<apart::Use<'_>> {
        apart::uses(&self.source.source, &self.sink)
    }

    /// Whether its files are apart.
    pub fn fits_itself(&self) -> Result<(), String> {
        apart::each(&self.uses())
    }

    fn writes_to_stdout(&self) -> bool {
        self.sink.iter().any(SinkSpec::is_stdout) || (self.sink.is_empty() && !self.model.json)
    }

    /// Whoever read standard output has seen enough; other sinks lack what would have come.
    fn because(&self, error: StreamError) -> Failure {
        match error {
            StreamError::Sink(error)
                if error.kind() == io::ErrorKind::BrokenPipe && self.sink.iter().all(SinkSpec::is_stdout) =>
            {
                Failure::Closed
            }
            error => Failure::Because(error.to_string()),
        }
    }

    /// Whether it takes nothing that there is once in a process.
    pub fn fits_beside_others(&self) -> Result<(), &'static str> {
        if self.sink.is_empty() || self.writes_to_stdout() {
            return Err(
                "its decisions would go to standard output, which all share: give it --sink with a file or mqtt://",
            );
        }
        if self.sandbox {
            return Err(
                "--sandbox confines a process, and begins with one thread: start that stream by itself, with `tractlet stream`",
            );
        }
        if self.source.source == SourceSpec::Stdin {
            return Err("standard input is one for all: give it another --source");
        }
        if self.metrics.is_some() || self.model.json || self.model.max_rss.is_some() {
            return Err("--metrics, --json and --max-rss are for all streams: give them to `tractlet streams`");
        }
        Ok(())
    }

    /// Whether it takes nothing that `other` has, which runs in the same process.
    pub fn fits_beside(&self, other: &StreamArgs) -> Result<(), String> {
        if let Some(id) = self.mqtt.client_id.as_ref().filter(|id| other.mqtt.client_id.as_ref() == Some(id)) {
            return Err(format!("--client-id {id} is another stream's: their broker would hang one of them up"));
        }
        apart::between(&self.uses(), &other.uses())
    }

    fn overflow(&self) -> Overflow {
        match self.overflow {
            Some(OverflowName::DropOldest) => Overflow::DropOldest,
            Some(OverflowName::DropNewest) => Overflow::DropNewest,
            Some(OverflowName::Block) => Overflow::Block,
            None if self.source.source.is_recorded() || self.source.source.broker().is_some() => Overflow::Block,
            None => Overflow::DropOldest,
        }
    }

    /// The model is exchanged on SIGHUP, and a source that went away is opened anew if that was asked for.
    fn needs(&self, recipe: &Recipe, in_use: &InUse) -> Result<Sandbox, Failure> {
        if self.sink.clone().iter_mut().any(|sink| sink.broker().is_some()) {
            return Err(
                "--sandbox: not with a sink mqtt:, whose thread is there before it and connects anew by itself".into(),
            );
        }
        let mut needs = self.model.reopening(&recipe.model);
        needs.read.extend(recipe.path.parent().map(or_here));
        needs.write.extend(in_use.folder().map(PathBuf::from));
        // A broker is connected to anew in any case.
        if self.source.reconnect.is_none() && self.source.source.broker().is_none() {
            return Ok(needs);
        }
        let unknown = |host: &str| {
            let what = "names cannot be looked up from within, to connect anew; give the address in numbers";
            Err(format!("--sandbox: {host}: {what}").into())
        };
        match &self.source.source {
            SourceSpec::Stdin | SourceSpec::File(_) => {}
            SourceSpec::Alsa(_) => {
                let what = "alsa-lib opens its configuration, plugins and card anew, wherever they lie";
                return Err(format!("--sandbox: not with --reconnect and a source alsa:, for which {what}").into());
            }
            // A port that is plugged in again is another file.
            SourceSpec::Serial { path, .. } => needs.write.extend(device_folder(path)),
            SourceSpec::Iio(folder) => needs.read.extend(folder.canonicalize()),
            SourceSpec::IioBuffer { folder, device } => {
                needs.write.extend(folder.canonicalize().ok().into_iter().chain(device_folder(device)));
            }
            SourceSpec::Tcp(address) if address.parse::<SocketAddr>().is_err() => return unknown(address),
            SourceSpec::Mqtt(address) if address.host.parse::<IpAddr>().is_err() => return unknown(&address.host),
            SourceSpec::Tcp(_) | SourceSpec::TcpListen(_) | SourceSpec::Udp(_) | SourceSpec::Mqtt(_) => {
                needs.network = true;
            }
        }
        Ok(needs)
    }

    fn sinks(&self, control: &Control) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let mut specs = self.sink.clone();
        if specs.is_empty() && !self.model.json {
            specs.extend("-".parse::<SinkSpec>());
        }
        if specs.iter().filter(|spec| spec.is_stdout()).count() > 1 {
            usage("two sinks write to standard output; give one of them a file");
        }
        specs.iter_mut().filter_map(SinkSpec::broker).for_each(add_password);
        let queue_bytes = usize::try_from(self.mqtt.queue).unwrap_or(usize::MAX);
        let mut options = SinkOptions { client_id: self.mqtt.client_id.clone(), queue_bytes, number: 0 };
        let open = |mut spec: SinkSpec| {
            options.number += u32::from(spec.broker().is_some());
            spec.open(&options, control).map_err(|error| format!("{spec}: cannot write it: {error}").into())
        };
        specs.into_iter().map(open).collect()
    }

    fn source(&self) -> SourceSpec {
        let mut spec = self.source.source.clone();
        if let SourceSpec::Mqtt(address) = &mut spec {
            add_password(address);
        }
        spec
    }

    fn source_options(&self, control: &Control) -> SourceOptions {
        let (share, client_id, session_s) = (self.mqtt.share.clone(), self.mqtt.client_id.clone(), self.mqtt.session);
        let stop = Arc::clone(&control.stop);
        SourceOptions { share, client_id, session_s, stop, ..self.source.options() }
    }
}

/// Command lines are for all to see.
fn add_password(address: &mut MqttAddress) {
    if address.user.is_some() && address.password.is_none() {
        address.password = std::env::var("TRACTLET_MQTT_PASSWORD").ok();
    }
}

impl SourceArgs {
    fn options(&self) -> SourceOptions {
        SourceOptions {
            format: self.format,
            columns: self.columns.clone(),
            time: self.time.clone(),
            rate_hz: self.rate,
            scale: self.scale.clone(),
            units: self.units.clone(),
            channels: self.channels.map(|channels| channels as usize),
            pace: match self.replay {
                PaceName::Max => Pace::Maximal,
                PaceName::Real => Pace::Real,
            },
            repeat: (self.repeat > 0).then_some(self.repeat),
            max_malformed: self.max_malformed,
            reconnect: self.reconnect.map(Duration::from_secs_f64),
            ..SourceOptions::default()
        }
    }
}

fn device_folder(device: &Path) -> Option<PathBuf> {
    Some(device.canonicalize().ok()?.parent()?.to_owned())
}

/// Signals become flags, which streams look at; a second one of those that end them ends the process at once.
pub fn listen<'a>(control: &'a Control, others: impl IntoIterator<Item = &'a Control>) -> Result<(), Failure> {
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&control.stop))?;
    }
    for control in std::iter::once(control).chain(others) {
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&control.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&control.reload))?;
    }
    Ok(())
}

/// A line on a terminal that says how it goes, where nothing else is written there.
pub struct Status {
    shown: Option<Instant>,
}

impl Status {
    pub fn new(decisions_on_stdout: bool) -> Status {
        let is_free = io::stderr().is_terminal() && !(decisions_on_stdout && io::stdout().is_terminal());
        Status { shown: is_free.then(Instant::now) }
    }

    /// What all of them did together.
    pub fn show<'a>(&mut self, counters: impl Iterator<Item = &'a Counters> + Clone) {
        if self.shown.is_some_and(|shown| shown.elapsed() >= Duration::from_secs(1)) {
            self.shown = Some(Instant::now());
            let sum = |of: fn(&Counters) -> u64| counters.clone().map(of).sum::<u64>();
            let (windows, dropped) = (sum(Counters::windows), sum(Counters::dropped));
            let (malformed, late) = (sum(Counters::malformed), sum(Counters::deadline_missed));
            // Nobody is harmed where it cannot be seen.
            let line =
                format_args!("\r{windows} windows, {dropped} frames dropped, {malformed} malformed, {late} late \r");
            let _ = io::stderr().write_fmt(line);
        }
    }
}

/// Ends the process as clap does, with 2.
fn usage(what: &str) -> ! {
    super::Cli::command().error(ErrorKind::ArgumentConflict, what).exit()
}

/// A name that can stand between the slashes of a topic.
fn level(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(['/', '+', '#', '\0']) {
        true => Err("expected a name without /, + or #".into()),
        false => Ok(text.to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number < 1e9 => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

fn pause(text: &str) -> Result<f64, String> {
    positive(text).ok().filter(|pause| *pause >= 1e-3).ok_or_else(|| "expected a number of seconds from 0.001".into())
}

fn factor(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let factor = match text.split_once('/') {
        Some((over, under)) => number(over).zip(number(under)).map(|(over, under)| over / under),
        None => number(text),
    };
    factor.filter(|factor| factor.is_finite()).ok_or_else(|| "expected a number or a fraction, such as 1/720".into())
}
