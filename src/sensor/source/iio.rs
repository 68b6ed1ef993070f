//! Linux Industrial I/O: sensors as the kernel gives them, by files of sysfs or by a buffer.
//!
//! Source of the layout: Documentation/ABI/testing/sysfs-bus-iio and iio/iio_devbuf.rst in the kernel tree. A raw value becomes (raw + offset) * scale,
//! in the unit that the ABI states for its kind: m/s^2, rad/s, gauss, milli degrees Celsius, kilopascal, millivolt.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::binary::{Binary, Field, Kind};
use super::bytes::{Bytes, Got};
use super::open::Native;
use super::spec::{Column, SampleType};
use super::{Decoder, SourceOptions};
use crate::sensor::recipe::Input;
use crate::sensor::unit::{Line, Unit};

type Parts = (Bytes, Decoder, Native);

/// The longest that a read sleeps before others may look at signals.
const PATIENCE: Duration = Duration::from_millis(200);

/// Channels of a folder of sysfs, read in turn.
pub struct Polled {
    files: Vec<File>,
    period: Duration,
    due: Instant,
}

/// Reads each channel's file once a period.
pub fn polled(folder: &Path, options: &SourceOptions, input: &Input) -> Result<Parts, String> {
    let rate = options.rate_hz.or(input.rate_hz).ok_or(
        "channels are read at a rate, and the model states none: `input.rate_hz` of its model.toml, or --rate HZ",
    )?;
    let channels = channels(options, input)?;
    let mut files = Vec::new();
    let mut native = Native { asks_rate: true, ..Native::default() };
    for channel in &channels {
        // What the driver has converted already, or what it has not.
        let (converted, raw) = (folder.join(format!("in_{channel}_input")), folder.join(format!("in_{channel}_raw")));
        let is_raw = !converted.exists();
        let path = if is_raw { raw } else { converted };
        let file = File::open(&path).map_err(|error| {
            let there = available(folder, "_raw");
            format!(
                "channel `{channel}`: {}: {error}; the device has {there}: name them with --columns",
                path.display()
            )
        })?;
        value_of(&file).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push(file);
        native.lines.push(if is_raw { line(folder, channel)? } else { Line::IDENTITY });
        native.units.push(unit(channel));
    }
    let width = files.len();
    let polled = Polled { files, period: Duration::from_secs_f64(1.0 / rate), due: Instant::now() };
    let sample = SampleType::little(8, Kind::Float);
    Ok((Bytes::Polled(polled), Decoder::Binary(Binary::interleaved(sample, width, 0..width)), native))
}

impl Polled {
    /// One frame of f64, when it is due.
    pub fn read(&mut self, room: &mut [u8]) -> std::io::Result<Got> {
        let now = Instant::now();
        if let Some(early) = self.due.checked_duration_since(now).filter(|early| !early.is_zero()) {
            thread::sleep(early.min(PATIENCE));
            if early > PATIENCE {
                return Ok(Got::Nothing);
            }
        }
        // After a pause the missed times are not made up for.
        self.due = (self.due + self.period).max(now);
        let places = room.as_chunks_mut::<8>().0;
        if places.len() < self.files.len() {
            return Ok(Got::Nothing);
        }
        for (place, file) in places.iter_mut().zip(&self.files) {
            *place = value_of(file)?.to_le_bytes();
        }
        Ok(Got::Bytes(self.files.len() * 8))
    }
}

/// Reads the device's own buffer, which the kernel fills at the device's rate.
pub fn buffered(folder: &Path, device: &Path, options: &SourceOptions, input: &Input) -> Result<Parts, String> {
    let channels = channels(options, input)?;
    let scan = folder.join("scan_elements");
    let at = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let set = |path: &Path, value: &str| fs::write(path, value).map_err(|error| at(path, &error));
    // The layout may be changed while nothing is captured.
    set(&folder.join("buffer/enable"), "0")?;
    for name in elements(&scan)? {
        let wanted = channels.contains(&name.as_str()) || name == "timestamp";
        set(&scan.join(format!("in_{name}_en")), if wanted { "1" } else { "0" })?;
    }
    let mut laid: Vec<(u32, String, Element)> = Vec::new();
    for name in elements(&scan)?.into_iter().filter(|name| channels.contains(&name.as_str()) || name == "timestamp") {
        let path = scan.join(format!("in_{name}_index"));
        let index = text(&path)?.parse().map_err(|error| at(&path, &error))?;
        let path = scan.join(format!("in_{name}_type"));
        let element = Element::parse(&text(&path)?).map_err(|error| at(&path, &error))?;
        laid.push((index, name, element));
    }
    laid.sort_by_key(|(index, _, _)| *index);
    // Each element lies at a multiple of its own size, and the frame ends at one of the largest.
    let (mut end, mut largest, mut time) = (0usize, 1, None);
    let mut fields = vec![None; channels.len()];
    for (_, name, element) in &laid {
        let offset = end.next_multiple_of(element.bytes);
        (end, largest) = (offset + element.bytes, largest.max(element.bytes));
        let field = element.at(offset);
        match channels.iter().position(|channel| channel == name) {
            Some(channel) => fields.iter_mut().skip(channel).take(1).for_each(|place| *place = Some(field)),
            None => time = Some(field),
        }
    }
    let missing = |(field, name): (Option<Field>, &&str)| {
        field.ok_or_else(|| format!("no channel `{name}` in its buffer; it has {}", available(&scan, "_en")))
    };
    let fields = fields.into_iter().zip(&channels).map(missing).collect::<Result<Vec<_>, _>>()?;
    let lines = channels.iter().map(|channel| line(folder, channel)).collect::<Result<_, _>>()?;
    let units = channels.iter().map(|channel| unit(channel)).collect();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(device, flags, Mode::empty()).map_err(|error| at(device, &error))?;
    let enable = folder.join("buffer/enable");
    let captured = File::create(&enable).and_then(|enable| Captured::begin(File::from(opened), enable));
    let captured = captured.map_err(|error| at(&enable, &error))?;
    let binary = Binary::new(end.next_multiple_of(largest), fields, time);
    Ok((Bytes::Captured(captured), Decoder::Binary(binary), Native { lines, units, ..Native::default() }))
}

/// A device whose buffer is filled, until this is dropped.
pub struct Captured {
    pub device: File,
    /// Held open: a confined process opens nothing.
    enable: File,
}

impl Captured {
    fn begin(device: File, enable: File) -> std::io::Result<Captured> {
        enable.write_all_at(b"1", 0)?;
        Ok(Captured { device, enable })
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Err(error) = self.enable.write_all_at(b"0", 0) {
            log::debug!("buffer/enable: {error}");
        }
    }
}

/// How a channel lies in a buffer: `le:s12/16>>4`.
#[derive(Debug, PartialEq)]
struct Element {
    big_endian: bool,
    signed: bool,
    bits: u32,
    bytes: usize,
    shift: u32,
}

impl Element {
    fn parse(text: &str) -> Result<Element, String> {
        let wrong = || format!("`{text}` is no layout that is read; expected the like of le:s12/16>>4");
        let (endian, rest) = text.split_once(':').ok_or_else(wrong)?;
        let big_endian = match endian {
            "le" => false,
            "be" => true,
            _ => return Err(wrong()),
        };
        let signed = match rest.get(..1) {
            Some("s") => true,
            Some("u") => false,
            _ => return Err(wrong()),
        };
        let (bits, storage) = rest.get(1..).and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let (storage, shift) = storage.split_once(">>").unwrap_or((storage, "0"));
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let (bits, storage, shift) = (number(bits)?, number(storage)?, number(shift)?);
        if !matches!(storage, 8 | 16 | 32 | 64) || bits == 0 || shift.saturating_add(bits) > storage {
            return Err(wrong());
        }
        Ok(Element { big_endian, signed, bits, bytes: storage as usize / 8, shift })
    }

    fn at(&self, offset: usize) -> Field {
        let kind = if self.signed { Kind::Signed } else { Kind::Unsigned };
        Field { offset, bytes: self.bytes, bits: self.bits, shift: self.shift, kind, big_endian: self.big_endian }
    }
}

/// Names as sysfs has them, between `in_` and `_raw`: `accel_x`.
fn channels<'a>(options: &'a SourceOptions, input: &'a Input) -> Result<Vec<&'a str>, String> {
    if options.format.is_some() || options.channels.is_some() || options.time.is_some() {
        return Err("the kernel tells how its channels are read: leave --format, --channels and --time out".into());
    }
    let Some(columns) = &options.columns else {
        return Ok(input.channels.iter().map(|channel| channel.name.as_str()).collect());
    };
    if columns.len() != input.channels.len() {
        return Err(format!("{} columns for {} channels", columns.len(), input.channels.len()));
    }
    let name = |column: &'a Column| match column {
        Column::Name(name) if !name.contains('/') => Ok(name.as_str()),
        other => Err(format!("{other} is no channel; expected a name as in sysfs, such as accel_x")),
    };
    columns.iter().map(name).collect()
}

/// (raw + offset) * scale; both may be the channel's own or shared by its kind, and 0 and 1 where there is none.
fn line(folder: &Path, channel: &str) -> Result<Line, String> {
    let attribute = |what: &str| {
        let kind = channel.split('_').next().unwrap_or(channel).trim_end_matches(|c: char| c.is_ascii_digit());
        let paths = [channel, kind].map(|name| folder.join(format!("in_{name}_{what}")));
        match paths.iter().find(|path| path.exists()) {
            None => Ok(None),
            Some(path) => text(path)?.parse::<f64>().map(Some).map_err(|error| format!("{}: {error}", path.display())),
        }
    };
    let (scale, offset) = (attribute("scale")?.unwrap_or(1.0), attribute("offset")?.unwrap_or(0.0));
    Ok(Line { gain: scale, bias: offset * scale })
}

/// The unit of a kind of channel, by the kernel's ABI.
fn unit(channel: &str) -> Option<Unit> {
    let kind = channel.split('_').next().unwrap_or(channel).trim_end_matches(|c: char| c.is_ascii_digit());
    let name = match kind {
        "accel" | "gravity" => "m/s^2",
        "anglvel" => "rad/s",
        "magn" => "G",
        "temp" => "mdegC",
        "pressure" => "kPa",
        "voltage" => "mV",
        "current" => "mA",
        _ => return None,
    };
    name.parse().ok()
}

/// What can be captured.
fn elements(scan: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(scan).map_err(|error| format!("{}: {error}", scan.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let name = |file: String| file.strip_prefix("in_").and_then(|f| f.strip_suffix("_en")).map(str::to_owned);
    let mut names: Vec<String> = names.filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn available(folder: &Path, suffix: &str) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let name = |file: String| file.strip_prefix("in_").and_then(|f| f.strip_suffix(suffix)).map(str::to_owned);
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| format!("{}: {error}", path.display()))
}

/// A number as text, which the kernel writes anew at every read from the start.
fn value_of(file: &File) -> std::io::Result<f64> {
    let mut text = [0u8; 64];
    let count = file.read_at(&mut text, 0)?;
    let number =
        text.get(..count).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_parsed_or_refused() {
        let element = Element { big_endian: true, signed: true, bits: 12, bytes: 2, shift: 4 };
        assert_eq!(Element::parse("be:s12/16>>4").unwrap(), element);
        assert_eq!(Element::parse("le:u8/8").unwrap().bytes, 1);
        for wrong in ["", "le", "xx:s8/8", "le:f32/32", "le:s12/12", "le:s16/16>>1", "le:s0/8", "le:s8/8X2"] {
            assert!(Element::parse(wrong).is_err(), "{wrong}");
        }
    }
}
