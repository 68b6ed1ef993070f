//! ALSA capture: what a sound card hears, by the name that alsa-lib's configuration gives it.
//!
//! The kernel keeps half a second of it while the reader is held up. What comes beyond is lost, and ALSA does not say how much: that
//! it happened is counted, and no window spans it.

use std::io;

use alsa::pcm::{Access, Format as Encoding, HwParams, PCM, State};
use alsa::{Direction, ValueOr};
use rustix::io::Errno;

use super::binary::Kind;
use super::bytes::{Bytes, Got};
use super::open::{Native, full_scale, interleaved};
use super::spec::{Format, SampleType};
use super::{Decoder, SourceOptions};
use crate::sensor::recipe::Input;

/// How long a read waits before it lets others look at signals.
const PATIENCE_MS: u32 = 200;
const BUFFER_US: u32 = 500_000;
/// How often the card hands over what it has: a window is as late.
const PERIOD_US: u32 = 20_000;
const RATES_HZ: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// A capture that runs.
pub struct Capture {
    /// Until it broke: it is opened anew only once it is closed.
    pcm: Option<PCM>,
    frame_bytes: usize,
    /// What the card's buffer holds, beyond which plugins take no reads.
    most_bytes: usize,
}

/// Starts to capture at the rate that was asked for, or else the model's.
pub fn open(device: &str, options: &SourceOptions, input: &Input) -> Result<(Bytes, Decoder, Native), String> {
    let sample = match options.format {
        None => SampleType::little(2, Kind::Signed),
        Some(Format::Raw(sample)) => sample,
        Some(_) => return Err(UNFIT_FORMAT.to_owned()),
    };
    let (encoding, line) = encoding(sample).zip(full_scale(sample)).ok_or(UNFIT_FORMAT)?;
    let width = options.channels.unwrap_or(input.channels.len());
    let decoder = interleaved(sample, width, options, input)?;
    let rate = options.rate_hz.or(input.rate_hz);
    let rate = rate.ok_or(
        "a sound card is given a rate, and the model states none: `input.rate_hz` of its model.toml, or --rate HZ",
    )?;
    if rate.fract() != 0.0 || !RATES_HZ.contains(&rate) {
        return Err(format!("a rate of {rate} samples a second; a sound card takes whole numbers of them to {}", 1e6));
    }
    let pcm = PCM::new(device, Direction::Capture, true).map_err(|error| told("cannot open it", error))?;
    let frame_bytes = width * sample.bytes;
    let most_bytes = configure(&pcm, encoding, width, rate as u32)? * frame_bytes;
    pcm.start().map_err(|error| told("cannot start to capture", error))?;
    let lines = vec![line; input.channels.len()];
    let native = Native { rate_hz: Some(rate), asks_rate: true, lines, units: Vec::new() };
    Ok((Bytes::Alsa(Capture { pcm: Some(pcm), frame_bytes, most_bytes }), Decoder::Binary(decoder), native))
}

const UNFIT_FORMAT: &str = "a sound card gives raw samples: --format u8, s16le, s24le, s32le or f32le [default: s16le]";

fn encoding(sample: SampleType) -> Option<Encoding> {
    Some(match (sample.kind, sample.bytes, sample.big_endian) {
        (Kind::Unsigned, 1, _) => Encoding::U8,
        (Kind::Signed, 2, false) => Encoding::S16LE,
        (Kind::Signed, 3, false) => Encoding::S243LE,
        (Kind::Signed, 4, false) => Encoding::S32LE,
        (Kind::Float, 4, false) => Encoding::FloatLE,
        _ => return None,
    })
}

/// Gives how many frames its buffer has room for.
fn configure(pcm: &PCM, encoding: Encoding, width: usize, rate: u32) -> Result<usize, String> {
    let has_not = |what: String| move |error| told(&format!("it does not give {what}; plughw: converts"), error);
    let unfit = |error| told("cannot configure it", error);
    let wanted = HwParams::any(pcm).map_err(unfit)?;
    wanted.set_access(Access::RWInterleaved).map_err(unfit)?;
    wanted.set_format(encoding).map_err(has_not(format!("samples of {encoding}, see --format")))?;
    let channels = u32::try_from(width).unwrap_or(u32::MAX);
    wanted.set_channels(channels).map_err(has_not(format!("{width} channels, see --channels and --columns")))?;
    wanted.set_rate(rate, ValueOr::Nearest).map_err(has_not(format!("{rate} samples a second, see --rate")))?;
    wanted.set_period_time_near(PERIOD_US, ValueOr::Nearest).map_err(unfit)?;
    wanted.set_buffer_time_near(BUFFER_US, ValueOr::Nearest).map_err(unfit)?;
    pcm.hw_params(&wanted).map_err(unfit)?;
    let frames = wanted.get_buffer_size().map_err(unfit)?;
    Ok(usize::try_from(frames).unwrap_or(0).max(1))
}

impl Capture {
    /// Whole frames, as many as there are; what was overrun says so once, and goes on.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        match self.frames(room) {
            Ok(0) => Ok(Got::Nothing),
            Ok(frames) => Ok(Got::Bytes(frames * self.frame_bytes)),
            Err(error) => self.after(error),
        }
    }

    fn frames(&self, room: &mut [u8]) -> alsa::Result<usize> {
        let Some(pcm) = &self.pcm else { return Err(alsa::Error::new("read", Errno::NODEV.raw_os_error())) };
        if !pcm.wait(Some(PATIENCE_MS))? {
            return Ok(0);
        }
        let whole = room.len().min(self.most_bytes) / self.frame_bytes * self.frame_bytes;
        pcm.io_bytes().readi(room.get_mut(..whole).unwrap_or_default())
    }

    fn after(&mut self, error: alsa::Error) -> io::Result<Got> {
        let again = match (meaning(error.errno()), &self.pcm) {
            (Meaning::NotYet, _) => return Ok(Got::Nothing),
            (Meaning::Interrupted, Some(pcm)) => pcm.try_recover(error, true).and_then(|()| match pcm.state() {
                State::Prepared => pcm.start(),
                // What was suspended may run again by now.
                _ => Ok(()),
            }),
            _ => Err(error),
        };
        again.map(|()| Got::Interrupted).map_err(|error| {
            self.pcm = None;
            io::Error::from_raw_os_error(error.errno())
        })
    }
}

#[derive(Debug, PartialEq)]
enum Meaning {
    NotYet,
    /// The card ran on without its reader, or the machine slept.
    Interrupted,
    Gone,
}

fn meaning(errno: i32) -> Meaning {
    let is = |known: [Errno; 2]| known.iter().any(|known| known.raw_os_error() == errno);
    if is([Errno::AGAIN, Errno::INTR]) {
        Meaning::NotYet
    } else if is([Errno::PIPE, Errno::STRPIPE]) {
        Meaning::Interrupted
    } else {
        Meaning::Gone
    }
}

fn told(what: &str, error: alsa::Error) -> String {
    format!("{what}: {}", io::Error::from_raw_os_error(error.errno()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_is_gone_on_from_and_a_card_that_was_pulled_out_is_not() {
        let of = |errno: Errno| meaning(errno.raw_os_error());
        assert_eq!([of(Errno::AGAIN), of(Errno::INTR)], [Meaning::NotYet, Meaning::NotYet]);
        assert_eq!([of(Errno::PIPE), of(Errno::STRPIPE)], [Meaning::Interrupted, Meaning::Interrupted]);
        assert_eq!([of(Errno::NODEV), of(Errno::IO), of(Errno::BADFD)], [Meaning::Gone, Meaning::Gone, Meaning::Gone]);
    }
}
