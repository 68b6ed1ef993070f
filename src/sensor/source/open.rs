//! Opens what a [`SourceSpec`] says, and finds out how its bytes are to be read.

use std::fs::File;
use std::io::{self, Seek};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

#[cfg(feature = "audio")]
use super::alsa;
use super::binary::{Binary, Kind};
use super::bytes::{Bytes, Patient};
use super::csv::{Csv, Wanted};
use super::spec::{Column, Format, SampleType, SourceSpec};
use super::{BUFFER_BYTES, Decoder, Opened, Pace, SourceError, SourceOptions, iio, serial, tcp, wav};
use crate::DType;
use crate::npy;
use crate::sensor::recipe::{Channel, Input, RATES_HZ};
use crate::sensor::unit::{Line, Unit};

type Result<T> = std::result::Result<T, SourceError>;

/// What the source itself tells of its frames.
#[derive(Default)]
pub struct Native {
    pub rate_hz: Option<f64>,
    /// Whether it has to be given a rate, be it for frames that are taken as they come.
    pub asks_rate: bool,
    /// For each channel that the model takes.
    pub lines: Vec<Line>,
    pub units: Vec<Option<Unit>>,
}

pub fn open(spec: &SourceSpec, options: &SourceOptions, input: &Input) -> Result<Opened> {
    let fault = |what: String| SourceError::new(spec.to_string(), what);
    if let Some(rate) = options.rate_hz.filter(|rate| !RATES_HZ.contains(rate)) {
        return Err(fault(format!("a rate of {rate:?} frames a second; expected 1e-6 to 1e9")));
    }
    let (bytes, decoder, native) = match spec {
        SourceSpec::Iio(folder) => iio::polled(folder, options, input).map_err(fault)?,
        SourceSpec::IioBuffer { folder, device } => iio::buffered(folder, device, options, input).map_err(fault)?,
        SourceSpec::File(path) => file(path, options, input).map_err(fault)?,
        #[cfg(feature = "audio")]
        SourceSpec::Alsa(device) => alsa::open(device, options, input).map_err(fault)?,
        #[cfg(not(feature = "audio"))]
        SourceSpec::Alsa(device) => return Err(fault(no_alsa(device, options, input))),
        _ => {
            let bytes = live(spec, options).map_err(|error| fault(error.to_string()))?;
            (
                bytes,
                stream_decoder(spec, options, input)?,
                native(options.format.unwrap_or(Format::Csv), options, input),
            )
        }
    };
    let lines = lines(&native, options, input).map_err(fault)?;
    let rate_hz = rate(&native, options, input).map_err(fault)?;
    if options.pace == Pace::Real && rate_hz.is_none() && options.time.is_none() {
        let what = "it cannot be replayed at real speed: neither it nor the model states a rate; say --rate, or --time";
        return Err(fault(format!("{what} for a column that tells when each frame was")));
    }
    Ok(Opened { bytes, decoder, lines, rate_hz })
}

/// The decoder of what has no header.
pub fn stream_decoder(spec: &SourceSpec, options: &SourceOptions, input: &Input) -> Result<Decoder> {
    let made = decoder(options.format.unwrap_or(Format::Csv), options, input);
    match made.map_err(|what| SourceError::new(spec.to_string(), what))? {
        Decoder::Csv(csv) if matches!(spec, SourceSpec::Serial { .. }) => Ok(Decoder::Csv(csv.begun_in_midst())),
        decoder => Ok(decoder),
    }
}

/// Sources that have no header.
fn live(spec: &SourceSpec, options: &SourceOptions) -> io::Result<Bytes> {
    Ok(match spec {
        SourceSpec::Stdin => {
            let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            Bytes::File { file, start: 0, len: None, left: None }
        }
        SourceSpec::Serial { path, baud } => Bytes::Live(serial::open(path, *baud)?),
        SourceSpec::Tcp(address) => Bytes::Tcp(tcp::connect(address, &options.stop)?),
        SourceSpec::TcpListen(address) => Bytes::Listener { listener: TcpListener::bind(address)?, peer: None },
        SourceSpec::Udp(address) => Bytes::Udp(UdpSocket::bind(address)?),
        SourceSpec::File(_)
        | SourceSpec::Iio(_)
        | SourceSpec::IioBuffer { .. }
        | SourceSpec::Mqtt(_)
        | SourceSpec::Alsa(_) => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no stream"));
        }
    })
}

/// alsa-lib is a shared library that loads others, which a static program cannot; its own program pipes as well.
#[cfg(not(feature = "audio"))]
fn no_alsa(device: &str, options: &SourceOptions, input: &Input) -> String {
    let rate = options.rate_hz.or(input.rate_hz).unwrap_or(16000.0);
    let channels = options.channels.unwrap_or(input.channels.len());
    // A card's samples are sound in any case.
    let is_sound = input.channels.iter().all(|channel| channel.unit.is_some_and(Unit::is_full_scale));
    let scale = if is_sound { "" } else { " --scale 1/32768" };
    format!(
        "this build has no ALSA, and static ones never do; pipe it: arecord -D {device} -t raw -f S16_LE -r {rate} -c {channels} | \
         tractlet stream MODEL --source - --format s16le{scale}; or build it with --features audio"
    )
}

fn decoder(format: Format, options: &SourceOptions, input: &Input) -> std::result::Result<Decoder, String> {
    match format {
        Format::Csv => {
            if options.channels.is_some() {
                return Err(OWN_WIDTH.into());
            }
            let channels = input.channels.iter().map(|channel| channel.name.clone()).collect();
            let columns = options.columns.clone();
            columns.as_deref().map_or(Ok(()), |columns| count(columns.len(), input))?;
            let (time, named) = (options.time.clone(), input.named);
            Ok(Decoder::Csv(Csv::new(Wanted { columns, time, channels, named })))
        }
        Format::Raw(sample) => {
            let width = options.channels.unwrap_or(input.channels.len());
            Ok(Decoder::Binary(interleaved(sample, width, options, input)?))
        }
        Format::Json => Err("json is a format of messages, which mqtt:// has; a stream is csv or raw samples".into()),
        Format::Npy | Format::Wav => Err("npy and wav are formats of files; a stream is csv or raw samples".into()),
    }
}

const OWN_WIDTH: &str = "it tells itself how many channels it has: leave --channels out, and say which with --columns";

/// A recording. Whatever else stands under its name, such as a pipe, is read the same.
fn file(path: &Path, options: &SourceOptions, input: &Input) -> std::result::Result<(Bytes, Decoder, Native), String> {
    // NONBLOCK: opening a pipe must not hang; reads wait for themselves.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| format!("cannot open it: {error}"))?;
    let file = File::from(fd);
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("it is a directory; expected a file of frames".into());
    }
    // As a file it would be read at whatever speed it stands, line by line, and echo what comes.
    if rustix::termios::isatty(&file) {
        let remedy = "a port is --source serial:PATH or serial:PATH:BAUD, and standard input is -";
        return Err(format!("it is a terminal: {remedy}"));
    }
    let format = match options.format {
        Some(format) => format,
        None => by_name(path)?,
    };
    if matches!(format, Format::Npy | Format::Wav) && options.channels.is_some() {
        return Err(OWN_WIDTH.into());
    }
    if format == Format::Npy {
        let reader = npy::Reader::open(path).map_err(|error| error.what())?;
        return npy(reader, options, input);
    }
    if format == Format::Wav {
        return sound(Patient { file, stop: &options.stop }, options, input);
    }
    let bytes = Bytes::File { file, start: 0, len: None, left: None };
    Ok((bytes, decoder(format, options, input)?, native(format, options, input)))
}

fn by_name(path: &Path) -> std::result::Result<Format, String> {
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    match extension.as_deref() {
        Some("npy") => Ok(Format::Npy),
        Some("wav") => Ok(Format::Wav),
        Some("csv" | "tsv" | "txt") => Ok(Format::Csv),
        other => {
            let found = other.map_or("its name".to_owned(), |extension| format!("`.{extension}`"));
            let what = "does not tell its format; say --format csv, npy, wav, or a type of raw samples such as s16le";
            Err(format!("{found} {what}"))
        }
    }
}

fn sound(
    mut file: Patient<'_>,
    options: &SourceOptions,
    input: &Input,
) -> std::result::Result<(Bytes, Decoder, Native), String> {
    let unreadable = |why: String| format!("not a readable .wav file: {why}");
    let wav::Header { format, bytes } = wav::Header::read(&mut file).map_err(unreadable)?;
    let wav::Format { channels, rate_hz, sample } = format;
    let line = full_scale(sample);
    let decoder = interleaved(sample, channels.into(), options, input)?;
    let frame_bytes = u64::from(channels) * sample.bytes as u64;
    let len = bytes.map(u64::from);
    if let Some(len) = len.filter(|len| len % frame_bytes != 0) {
        return Err(unreadable(format!("its {len} bytes of samples are no whole frames of {frame_bytes}")));
    }
    let mut file = file.file;
    let metadata = file.metadata().map_err(|error| format!("cannot read it: {error}"))?;
    // A pipe has no place to come back to, and who writes to one does not know yet how much comes.
    let start = if metadata.is_file() { file.stream_position() } else { Ok(0) };
    let start = start.map_err(|error| format!("cannot read it: {error}"))?;
    let len = len.filter(|len| *len > 0 || metadata.is_file());
    let behind = metadata.len().saturating_sub(start);
    if len == Some(0) && behind > 0 {
        let what = "bytes follow its header, which says that there are none: whoever wrote it did not come to its end";
        return Err(format!("{behind} {what}; tail -c +{} FILE | … --source - --format, and the type", start + 1));
    }
    let native = Native {
        asks_rate: false,
        rate_hz: Some(rate_hz.into()),
        lines: vec![line; input.channels.len()],
        units: Vec::new(),
    };
    let bytes = Bytes::File { file, start, len, left: len };
    Ok((bytes, Decoder::Binary(decoder), native))
}

/// What makes sound of these samples -1 to 1.
pub fn full_scale(sample: SampleType) -> Line {
    let gain = 2f64.powi(1 - sample.bits as i32);
    match sample.kind {
        Kind::Float => Line::IDENTITY,
        Kind::Unsigned => Line { gain, bias: -1.0 },
        Kind::Signed => Line::scale(gain),
    }
}

/// Samples without a header are counts, but for a channel that is taken in `full-scale`: there they are sound, as in a .wav, where
/// nobody says what else.
pub fn native(format: Format, options: &SourceOptions, input: &Input) -> Native {
    let Format::Raw(sample) = format else { return Native::default() };
    let is_open = options.scale.is_empty() && options.units.is_empty();
    let line = |channel: &Channel| match channel.unit.is_some_and(Unit::is_full_scale) && is_open {
        true => full_scale(sample),
        false => Line::IDENTITY,
    };
    Native { lines: input.channels.iter().map(line).collect(), ..Native::default() }
}

fn npy(
    reader: npy::Reader,
    options: &SourceOptions,
    input: &Input,
) -> std::result::Result<(Bytes, Decoder, Native), String> {
    let width = match *reader.shape() {
        [_] => 1,
        [_, width] => width,
        _ => {
            let shape = reader.shape();
            return Err(format!("shape {shape:?} is no list of frames; expected [frames, channels] or [frames]"));
        }
    };
    let kind = match reader.dtype() {
        DType::F32 | DType::F64 => Kind::Float,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Kind::Signed,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => Kind::Unsigned,
        other => return Err(format!("elements of {other} are no samples; convert it: x.astype('float32')")),
    };
    let sample = SampleType::little(reader.dtype().size(), kind);
    let decoder = interleaved(sample, width, options, input)?;
    let bytes = (reader.shape().iter().product::<usize>() * reader.dtype().size()) as u64;
    let native = native(Format::Raw(sample), options, input);
    Ok((Bytes::Npy { reader, bytes, at: 0 }, Decoder::Binary(decoder), native))
}

/// Frames of `width` samples of one type, of which the model takes some.
pub fn interleaved(
    sample: SampleType,
    width: usize,
    options: &SourceOptions,
    input: &Input,
) -> std::result::Result<Binary, String> {
    if options.time.is_some() {
        return Err("samples have no column with a time: leave --time out, which is for csv".into());
    }
    let most = BUFFER_BYTES / sample.bytes.max(1);
    if width > most {
        return Err(format!(
            "frames have {width} channels of {} bytes; expected {most} channels at most, so that a frame fits \
             {BUFFER_BYTES} bytes",
            sample.bytes
        ));
    }
    let Some(columns) = &options.columns else {
        if width != input.channels.len() {
            let takes = input.channels.len();
            return Err(format!("frames have {width} channels, the model takes {takes}: say which with --columns"));
        }
        return Ok(Binary::interleaved(sample, width, 0..width));
    };
    count(columns.len(), input)?;
    let index = |column: &Column| match column {
        Column::Number(number) if (1..=width).contains(number) => Ok(number - 1),
        _ => Err(format!("no column {column}: frames have channels 1 to {width}, without names")),
    };
    let columns = columns.iter().map(index).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Binary::interleaved(sample, width, columns.into_iter()))
}

fn count(columns: usize, input: &Input) -> std::result::Result<(), String> {
    let names: Vec<&str> = input.channels.iter().map(|channel| channel.name.as_str()).collect();
    if columns == names.len() {
        return Ok(());
    }
    Err(format!("{columns} columns for {} channels, which are {}", names.len(), names.join(", ")))
}

pub fn is_rate(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected
}

/// Frames a second that the source has; where nothing tells, the model's.
pub fn rate(native: &Native, options: &SourceOptions, input: &Input) -> std::result::Result<Option<f64>, String> {
    match (options.rate_hz, options.rate_hz.or(native.rate_hz), input.rate_hz) {
        (Some(found), _, None) if !native.asks_rate => Err(format!(
            "--rate {found}: the model states no `input.rate_hz` to bring frames to; leave it out, or state one"
        )),
        (_, Some(found), Some(expected)) if !is_rate(found, expected) && options.time.is_some() => Err(format!(
            "it has {found} frames a second, the model takes {expected}: frames with times of their own (--time) are not \
             resampled, since they need not be evenly spaced"
        )),
        (_, stated, expected) => Ok(stated.or(expected)),
    }
}

/// From what the source gives to what the model takes, for each channel.
pub fn lines(native: &Native, options: &SourceOptions, input: &Input) -> std::result::Result<Vec<Line>, String> {
    let channels = input.channels.len();
    let spread = |given: usize, what: &str| match given {
        0 | 1 => Ok(()),
        given if given == channels => Ok(()),
        given => Err(format!("{given} {what} for {channels} channels; expected 1 or {channels}")),
    };
    spread(options.scale.len(), "factors of --scale")?;
    spread(options.units.len(), "units of --units")?;
    let line = |index: usize| {
        let own = native.lines.get(index).copied().unwrap_or(Line::IDENTITY);
        let scale = options.scale.get(index).or(options.scale.first()).copied().unwrap_or(1.0);
        let scaled = own.then(Line::scale(scale));
        let stated = options.units.get(index).or(options.units.first()).copied();
        let from = stated.or(native.units.get(index).copied().flatten());
        let channel = input.channels.get(index);
        match (from, channel.and_then(|channel| channel.unit)) {
            (Some(from), Some(to)) => from.to(to).map(|to| scaled.then(to)).ok_or_else(|| {
                let name = channel.map_or("", |channel| &channel.name);
                format!("channel `{name}` is taken in {}, which {} cannot be converted to", to.name(), from.name())
            }),
            (Some(_), None) if stated.is_some() => {
                let name = channel.map_or("", |channel| &channel.name);
                Err(format!(
                    "--units: the model states no unit of channel `{name}`: leave it out, or state `input.units`"
                ))
            }
            _ => Ok(scaled),
        }
    };
    (0..channels).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tractlet_core::ring::Windowing;

    #[test]
    fn a_rate_is_the_sources_own_and_asks_for_a_model_that_has_one() {
        let channels = vec![Channel { name: "a".into(), unit: None }];
        let input = |rate_hz| Input {
            rate_hz,
            channels: channels.clone(),
            named: true,
            windowing: Windowing { length: 4, hop: 4 },
        };
        let of = |native, stated, model| {
            let native = Native { rate_hz: native, ..Native::default() };
            rate(&native, &SourceOptions { rate_hz: stated, ..SourceOptions::default() }, &input(model))
        };
        assert_eq!(of(Some(48e3), None, Some(16e3)), Ok(Some(48e3)));
        assert_eq!(of(Some(48e3), Some(8e3), Some(16e3)), Ok(Some(8e3)), "who says so knows better than a header");
        assert_eq!(of(None, None, Some(50.0)), Ok(Some(50.0)));
        assert_eq!(of(Some(48e3), None, None), Ok(Some(48e3)));
        assert!(of(None, Some(100.0), None).unwrap_err().contains("states no `input.rate_hz`"));
    }

    #[test]
    fn integers_are_sound_where_a_channel_is_taken_in_full_scale() {
        let channels = vec![
            Channel { name: "audio".into(), unit: "full-scale".parse().ok() },
            Channel { name: "x".into(), unit: "g".parse().ok() },
        ];
        let input = Input { rate_hz: None, channels, named: true, windowing: Windowing { length: 4, hop: 4 } };
        let of = |format: &str, options: &SourceOptions, count: f64| {
            let native = native(format.parse().unwrap(), options, &input);
            let lines = lines(&native, options, &input).unwrap();
            (lines[0].at(count), lines[1].at(count))
        };
        let open = SourceOptions::default();
        assert_eq!(of("s16le", &open, -32768.0), (-1.0, -32768.0));
        assert_eq!(of("s24be", &open, 4_194_304.0), (0.5, 4_194_304.0));
        assert_eq!((of("u8", &open, 128.0).0, of("u16le", &open, 0.0).0), (0.0, -1.0));
        assert_eq!((of("f32le", &open, 0.25).0, of("csv", &open, 7.0).0), (0.25, 7.0));
        let scaled = SourceOptions { scale: vec![1.0 / 1024.0, 1.0], ..SourceOptions::default() };
        assert_eq!(of("s16le", &scaled, 512.0), (0.5, 512.0), "who says so knows better");
        let units = ["%", "g"].map(|unit| unit.parse().unwrap()).to_vec();
        assert_eq!(of("s16le", &SourceOptions { units, ..SourceOptions::default() }, 50.0), (0.5, 50.0));
    }

    #[test]
    fn a_frame_that_no_buffer_holds_is_refused() {
        let channels = vec![Channel { name: "a".into(), unit: None }];
        let input = Input { rate_hz: None, channels, named: true, windowing: Windowing { length: 4, hop: 4 } };
        let columns = || Some(vec![Column::Number(1)]);
        let format = Format::Raw(SampleType::little(4, Kind::Float));
        for (channels, fits) in [(16384, true), (16385, false), (usize::MAX, false)] {
            let options = SourceOptions { channels: Some(channels), columns: columns(), ..SourceOptions::default() };
            match decoder(format, &options, &input) {
                Ok(_) => assert!(fits, "{channels}"),
                Err(told) => assert!(!fits && told.contains("expected 16384 channels at most"), "{told}"),
            }
        }
    }
}
