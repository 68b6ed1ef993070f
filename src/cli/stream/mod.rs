//! `tractlet stream`: its command line. What is made of it is beside it.

mod fits;
mod needs;
mod parts;
mod run;
mod status;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tractlet::sensor::{Column, Format, SinkSpec, SourceSpec, TimeColumn, Unit};

use super::threads::ThreadArgs;
use super::{ModelArgs, size};
pub use run::{Ran, listen, run, stream};
pub use status::Status;

/// Run a model on what a sensor gives, for as long as it gives something
///
/// A model.toml beside the model states rate, channels and units of the input, how windows are cut, the front end (MFCC,
/// log-mel, spectrum, samples), labels and how scores become decisions. A line is printed for each decision, and a summary at the end.
///
/// A broker's topic, mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, is a source whose messages are whole windows, and a sink. A
/// password that is not in the address is taken from TRACTLET_MQTT_PASSWORD.
///
/// Memory is fixed: frames wait in a ring, and what happens when it is full is --overflow. Each frame is counted
/// once: read = answered + dropped + stranded + malformed + skipped + remainder, where dropped ones were lost because inference did
/// not keep up, and stranded ones came before a gap, too few for a window.
#[derive(Args)]
#[command(after_help = EXAMPLES, mut_arg("model", |arg| arg.help(MODEL).long_help(MODEL)))]
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
    #[arg(long, value_name = "ADDR:PORT", value_parser = endpoint)]
    metrics: Option<String>,
    /// Once everything is open, give up files, the network and other programs for good (Landlock and seccomp). What is left:
    /// the folders of the model and its model.toml, for SIGHUP, a folder of slots, and with --reconnect the source, for which a port needs
    /// the folder of its device and tcp: an address in numbers; mqtt: needs one in any case. Not with a sink mqtt:,
    /// with --threads above 1, with alsa: and --reconnect, or within `tractlet streams`
    #[arg(long)]
    sandbox: bool,
}

// On each of their options and not on the group: what follows a group would have its heading too.
const SOURCE: &str = "Source";
const MQTT: &str = "MQTT";

/// What to read, and how.
#[derive(Args)]
struct SourceArgs {
    /// -, a file, serial:PATH[:BAUD], tcp:HOST:PORT, tcp-listen:ADDR:PORT, udp:ADDR:PORT, iio:DEVICE,
    /// iio-buffer:DEVICE[,PATH], mqtt://HOST/TOPIC or alsa:DEVICE (in a build with the feature audio; static ones pipe arecord, see below)
    #[arg(help_heading = SOURCE, long, value_name = "SPEC", value_parser = str::parse::<SourceSpec>)]
    source: SourceSpec,
    /// csv, npy, wav, json, or a type of raw samples such as s16le [default: by a file's name, .csv, .tsv, .txt,
    /// .npy or .wav; csv of what is no file, s16le of alsa:]. In csv, fields
    /// are between commas, semicolons, tabs or spaces, in quotes or not, and lines that begin with # and empty ones count as nothing. s24le takes three bytes a sample, as ALSA's S24_3LE; its S24_LE takes four.
    /// Raw integers are counts, but where the model takes a channel in `full-scale`: there they are sound from -1 to 1, as of a
    /// .wav, unless --scale or --units says what else
    #[arg(help_heading = SOURCE, long, value_name = "FORMAT", value_parser = str::parse::<Format>)]
    format: Option<Format>,
    /// Column of each channel, by name or number from 1, in the model's order [default: by the model's names in the header;
    /// in order where there is no header, or the model names no channels]
    #[arg(help_heading = SOURCE, long, value_name = "A,B,…", value_delimiter = ',', value_parser = str::parse::<Column>)]
    columns: Option<Vec<Column>>,
    /// Column with the time, and its unit: s, ms, us or ns. No window spans a step back in it, or one forward of more than five
    /// periods and a quarter of a window
    #[arg(help_heading = SOURCE, long, value_name = "COLUMN:UNIT", value_parser = str::parse::<TimeColumn>)]
    time: Option<TimeColumn>,
    /// Frames a second of the source, where it does not tell itself; where they are not the model's, they are resampled
    #[arg(help_heading = SOURCE, long, value_name = "HZ", value_parser = rate)]
    rate: Option<f64>,
    /// Factor of each channel, or one for all; A/B is a fraction
    #[arg(help_heading = SOURCE, long, value_name = "A,B,…", value_delimiter = ',', value_parser = factor)]
    scale: Vec<f64>,
    /// Unit of each channel after scaling, or one for all; converted to the model's
    #[arg(help_heading = SOURCE, long, value_name = "A,B,…", value_delimiter = ',', value_parser = str::parse::<Unit>)]
    units: Vec<Unit>,
    /// Channels of a frame of raw samples [default: the model's]
    #[arg(help_heading = SOURCE, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    channels: Option<u32>,
    /// How fast a recording is replayed
    #[arg(help_heading = SOURCE, long, value_enum, default_value_t = PaceName::Max)]
    replay: PaceName,
    /// How often a file is replayed; 0 is without end
    #[arg(help_heading = SOURCE, long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Malformed frames in succession that end the stream as an error
    #[arg(help_heading = SOURCE, long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_malformed: u32,
    /// Open a port, socket or device anew after it went away, every so many seconds
    #[arg(help_heading = SOURCE, long, value_name = "SECONDS", value_parser = pause)]
    reconnect: Option<f64>,
}

/// What is said to a broker.
#[derive(Args)]
struct MqttArgs {
    /// Share the source's messages with all that name this group: each goes to one of them
    #[arg(help_heading = MQTT, long, value_name = "GROUP", requires = "client_id", value_parser = level)]
    share: Option<String>,
    /// What the broker knows this process by, and no other: it keeps what was not answered until the process is back
    #[arg(help_heading = MQTT, long, value_name = "ID", value_parser = level)]
    client_id: Option<String>,
    /// For how long it does [default: 300]
    #[arg(help_heading = MQTT, long, value_name = "SECONDS", requires = "client_id", value_parser = clap::value_parser!(u32).range(1..))]
    session: Option<u32>,
    /// Decisions that are kept while the broker of a sink is away; the oldest go beyond it, and are counted [default: 1MiB]
    #[arg(help_heading = MQTT, long, value_name = "SIZE", value_parser = size::parse)]
    queue: Option<u64>,
}

const MODEL: &str = "\
The model: a folder with a model.toml, such a file, an .onnx file or a .plan file with one beside it, or a folder of slots \
(`tractlet slot`)";

const EXAMPLES: &str = "\
Examples:
  tractlet stream models/kws_dscnn --source models/kws_dscnn/words.wav \\
    --sink text:-
  arecord -t raw -f S16_LE -r 16000 |
    tractlet stream models/kws_dscnn --source - --format s16le
  tractlet stream models/kws_dscnn --source alsa:plughw:1,0 --sink text:-
  tractlet stream models/har_cnn1d --source walk.csv \\
    --columns ax,ay,az,gx,gy,gz --units g,g,g,deg/s,deg/s,deg/s
  tractlet stream models/har_cnn1d --source serial:/dev/ttyUSB0:115200 \\
    --reconnect 5 --sink csv:har.csv --deadline 100
  tractlet stream models/har_cnn1d --source mqtt://broker/fleet/+/imu \\
    --format f32le --share imu --client-id node1 \\
    --sink mqtt://broker/decisions

JSON lines: window, from_s, to_s, label, score, state, top[].{index, label, score}, changed, latency_us; for an \
anomaly score, limit and alarm in place of label to top; for a message message.{topic, id, redelivered}. The last line \
is {\"summary\": {windows, dropped, deadline_missed, …}}, whose keys docs/stream.md lists.
With --json and no --sink, stdout is the summary alone.

SIGTERM and SIGINT finish the window in flight and write everything. SIGHUP reads model.toml and loads the model anew: \
it takes over between two windows if it fits and passes a test run, and input, front end, labels and decision are \
those that the stream was started with; else the old one goes on.";

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

/// A name that can stand between the slashes of a topic.
fn level(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(['/', '+', '#', '\0']) {
        true => Err("expected a name without /, + or #".into()),
        false => Ok(text.to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-6..=1e9).contains(rate));
    rate.ok_or_else(|| "expected a number from 1e-6 to 1e9".into())
}

fn pause(text: &str) -> Result<f64, String> {
    let pause = text.parse().ok().filter(|pause| (1e-3..=1e9).contains(pause));
    pause.ok_or_else(|| "expected a number of seconds from 0.001 to 1e9".into())
}

/// An address to listen at; whether it is this machine's is known when that is tried.
pub fn endpoint(text: &str) -> Result<String, String> {
    let is_named = |(host, port): (&str, &str)| {
        !host.is_empty() && !host.contains([':', '[', ']', '/']) && port.parse::<u16>().is_ok()
    };
    match text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(is_named) {
        true => Ok(text.to_owned()),
        false => {
            Err("expected ADDR:PORT: 127.0.0.1:9100 for this machine alone, 0.0.0.0:9100 for whoever reaches it".into())
        }
    }
}

fn factor(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let factor = match text.split_once('/') {
        Some((over, under)) => number(over).zip(number(under)).map(|(over, under)| over / under),
        None => number(text),
    };
    factor.filter(|factor| factor.is_finite()).ok_or_else(|| "expected a number or a fraction, such as 1/720".into())
}
