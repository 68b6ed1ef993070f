//! `--source SPEC` and its like, parsed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::binary::Kind;
use crate::sensor::mqtt::MqttAddress;

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// `-`
    Stdin,
    /// `PATH` or `file:PATH`: a recording.
    File(PathBuf),
    /// `serial:PATH[:BAUD]`: a port without parity, of 8 bits, 115200 baud where nothing is said.
    Serial {
        /// The device.
        path: PathBuf,
        /// Bits a second.
        baud: u32,
    },
    /// `tcp:HOST:PORT`: connects there.
    Tcp(String),
    /// `tcp-listen:ADDR:PORT`: takes one connection at a time.
    TcpListen(String),
    /// `udp:ADDR:PORT`: takes datagrams, each of whole frames.
    Udp(String),
    /// `iio:DIR`: reads channels of a folder of sysfs, one after the other, at the model's rate.
    Iio(PathBuf),
    /// `iio-buffer:DIR[,DEVICE]`: the buffer of such a device, through `/dev/iio:deviceN` where nothing is said.
    IioBuffer {
        /// The folder in sysfs.
        folder: PathBuf,
        /// The character device.
        device: PathBuf,
    },
    /// `mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC`: windows from a broker, one a message.
    Mqtt(MqttAddress),
    /// `alsa:DEVICE`: what a sound card hears, by alsa-lib's name of it, in a build with the feature `audio`.
    Alsa(String),
}

impl SourceSpec {
    /// Whether it is the same every time that it is read.
    pub fn is_file(&self) -> bool {
        matches!(self, SourceSpec::File(_))
    }

    /// The broker that it is at.
    pub fn broker(&self) -> Option<&MqttAddress> {
        match self {
            SourceSpec::Mqtt(address) => Some(address),
            _ => None,
        }
    }

    /// Whether its end is one, and its times start at 0: a file, or what another program writes.
    pub fn is_recorded(&self) -> bool {
        matches!(self, SourceSpec::File(_) | SourceSpec::Stdin)
    }
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceSpec, String> {
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) else {
            return match text {
                "" => {
                    Err("expected -, a file, or serial:, tcp:, tcp-listen:, udp:, iio:, iio-buffer:, alsa: or mqtt://"
                        .into())
                }
                "-" => Ok(SourceSpec::Stdin),
                path => Ok(SourceSpec::File(path.into())),
            };
        };
        if rest.is_empty() {
            return Err(format!("nothing follows `{scheme}:`"));
        }
        let address = || match rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
            Some(Ok(_)) => Ok(rest.to_owned()),
            _ => Err(format!("`{rest}` is not an address; expected HOST:PORT, such as 127.0.0.1:5000")),
        };
        match scheme {
            "file" => Ok(SourceSpec::File(rest.into())),
            "serial" => match rest.rsplit_once(':').map(|(path, baud)| (path, baud.parse())) {
                Some((path, Ok(baud))) if baud > 0 => Ok(SourceSpec::Serial { path: path.into(), baud }),
                Some((_, _)) => Err(format!("`{rest}`: expected PATH:BAUD, such as /dev/ttyUSB0:115200")),
                None => Ok(SourceSpec::Serial { path: rest.into(), baud: 115_200 }),
            },
            "tcp" => Ok(SourceSpec::Tcp(address()?)),
            "tcp-listen" => Ok(SourceSpec::TcpListen(address()?)),
            "udp" => Ok(SourceSpec::Udp(address()?)),
            "alsa" => Ok(SourceSpec::Alsa(rest.into())),
            "mqtt" => text.parse().map(SourceSpec::Mqtt),
            "iio" => Ok(SourceSpec::Iio(iio_folder(rest))),
            "iio-buffer" => {
                let (folder, device) = rest.split_once(',').map_or((rest, None), |(f, d)| (f, Some(d)));
                let folder = iio_folder(folder);
                let named = || PathBuf::from("/dev").join(folder.file_name().unwrap_or_default());
                let device = device.map_or_else(named, PathBuf::from);
                Ok(SourceSpec::IioBuffer { folder, device })
            }
            other => Err(format!(
                "`{other}:` is no kind of source; expected file:, serial:, tcp:, tcp-listen:, udp:, iio:, iio-buffer:, alsa: or mqtt://"
            )),
        }
    }
}

/// `iio:device0` is short for its folder in sysfs, and then the scheme is part of the name.
fn iio_folder(text: &str) -> PathBuf {
    if text.contains('/') { text.into() } else { PathBuf::from("/sys/bus/iio/devices").join(format!("iio:{text}")) }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Stdin => f.write_str("standard input"),
            SourceSpec::File(path) | SourceSpec::Iio(path) => path.display().fmt(f),
            SourceSpec::Serial { path, .. } => path.display().fmt(f),
            SourceSpec::Tcp(address) => write!(f, "tcp:{address}"),
            SourceSpec::TcpListen(address) => write!(f, "tcp-listen:{address}"),
            SourceSpec::Udp(address) => write!(f, "udp:{address}"),
            SourceSpec::IioBuffer { device, .. } => device.display().fmt(f),
            SourceSpec::Mqtt(address) => address.fmt(f),
            SourceSpec::Alsa(device) => write!(f, "alsa:{device}"),
        }
    }
}

/// How bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, a frame a line.
    Csv,
    /// NumPy's, of shape `[frames, channels]`, or `[frames]` for one channel.
    Npy,
    /// RIFF WAVE, PCM or float.
    Wav,
    /// JSON, of a broker's messages alone.
    Json,
    /// Samples of this type, channel after channel, frame after frame.
    Raw(SampleType),
}

/// Type of a raw sample: `u8`, `s8`, `s16le`, `u16be`, `s24le`, `s32le`, `f32le`, `f64be` and their like. Those of 24 bits take
/// three bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleType {
    pub(super) bytes: usize,
    /// Those that count, the lower ones.
    pub(super) bits: u32,
    pub(super) kind: Kind,
    pub(super) big_endian: bool,
}

impl SampleType {
    pub(super) fn little(bytes: usize, kind: Kind) -> SampleType {
        SampleType { bytes, bits: 8 * bytes as u32, kind, big_endian: false }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let wrong = || {
            format!(
                "`{text}` is no format; expected csv, npy, wav, json, or a type of raw samples: u8, s8, or \
                 one of u16 s16 u24 s24 u32 s32 f32 f64 with le or be behind it"
            )
        };
        match text {
            "csv" => return Ok(Format::Csv),
            "npy" => return Ok(Format::Npy),
            "wav" => return Ok(Format::Wav),
            "json" => return Ok(Format::Json),
            _ => {}
        }
        let (bare, big_endian) = match (text.strip_suffix("le"), text.strip_suffix("be")) {
            (Some(bare), _) => (bare, false),
            (_, Some(bare)) => (bare, true),
            _ if matches!(text, "u8" | "s8") => (text, false),
            _ => return Err(wrong()),
        };
        let (bytes, kind) = match bare {
            "u8" => (1, Kind::Unsigned),
            "s8" => (1, Kind::Signed),
            "u16" => (2, Kind::Unsigned),
            "s16" => (2, Kind::Signed),
            "u24" => (3, Kind::Unsigned),
            "s24" => (3, Kind::Signed),
            "u32" => (4, Kind::Unsigned),
            "s32" => (4, Kind::Signed),
            "f32" => (4, Kind::Float),
            "f64" => (8, Kind::Float),
            _ => return Err(wrong()),
        };
        Ok(Format::Raw(SampleType { big_endian, ..SampleType::little(bytes, kind) }))
    }
}

/// A column of a source: by its name, or by its number from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// As the header has it.
    Name(String),
    /// From 1.
    Number(usize),
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Column, String> {
        match text.parse() {
            Ok(0) => Err("columns are counted from 1".into()),
            Ok(number) => Ok(Column::Number(number)),
            Err(_) if text.is_empty() => Err("expected the name or the number of a column".into()),
            Err(_) => Ok(Column::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::Name(name) => write!(f, "`{name}`"),
            Column::Number(number) => number.fmt(f),
        }
    }
}

/// The column that has the time: `COLUMN:UNIT`, with the unit one of s, ms, us and ns.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeColumn {
    /// Which.
    pub column: Column,
    /// Nanoseconds of one of its units.
    pub unit_ns: f64,
}

impl FromStr for TimeColumn {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeColumn, String> {
        let (column, unit) = text.rsplit_once(':').unwrap_or((text, ""));
        let unit_ns = match unit {
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return Err(format!("`{text}`: expected COLUMN:UNIT, with UNIT one of s, ms, us, ns")),
        };
        Ok(TimeColumn { column: column.parse()?, unit_ns })
    }
}
