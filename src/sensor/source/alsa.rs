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
pub struct Capture<C = PCM> {
    /// Until it broke: it is opened anew only once it is closed.
    card: Option<C>,
    frame_bytes: usize,
    /// What the card's buffer holds, beyond which plugins take no reads.
    most_bytes: usize,
}

/// What a capture asks of its card.
trait Card {
    /// Waits for a while, and says whether there is something to read.
    fn has_some(&self) -> alsa::Result<bool>;
    /// Whole frames, and how many they are.
    fn read(&self, room: &mut [u8]) -> alsa::Result<usize>;
    /// Captures again behind what it lost.
    fn go_on(&self, lost: alsa::Error) -> alsa::Result<()>;
}

impl Card for PCM {
    fn has_some(&self) -> alsa::Result<bool> {
        self.wait(Some(PATIENCE_MS))
    }

    fn read(&self, room: &mut [u8]) -> alsa::Result<usize> {
        self.io_bytes().readi(room)
    }

    fn go_on(&self, lost: alsa::Error) -> alsa::Result<()> {
        self.try_recover(lost, true)?;
        match self.state() {
            State::Prepared => self.start(),
            // What was suspended may run again by now.
            _ => Ok(()),
        }
    }
}

/// Starts to capture at the rate that was asked for, or else the model's.
pub fn open(device: &str, options: &SourceOptions, input: &Input) -> Result<(Bytes, Decoder, Native), String> {
    let sample = match options.format {
        None => SampleType::little(2, Kind::Signed),
        Some(Format::Raw(sample)) => sample,
        Some(_) => return Err(UNFIT_FORMAT.to_owned()),
    };
    let encoding = encoding(sample).ok_or(UNFIT_FORMAT)?;
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
    let lines = vec![full_scale(sample); input.channels.len()];
    let native = Native { rate_hz: Some(rate), asks_rate: true, lines, units: Vec::new() };
    Ok((Bytes::Alsa(Capture { card: Some(pcm), frame_bytes, most_bytes }), Decoder::Binary(decoder), native))
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

#[expect(private_bounds, reason = "its card is alsa-lib's, but for tests")]
impl<C: Card> Capture<C> {
    /// Whole frames, as many as there are; what was overrun says so once, and goes on.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        match self.frames(room) {
            Ok(0) => Ok(Got::Nothing),
            Ok(frames) => Ok(Got::Bytes(frames * self.frame_bytes)),
            Err(error) => self.after(error),
        }
    }

    fn frames(&self, room: &mut [u8]) -> alsa::Result<usize> {
        let Some(card) = &self.card else { return Err(alsa::Error::new("read", Errno::NODEV.raw_os_error())) };
        if !card.has_some()? {
            return Ok(0);
        }
        let whole = room.len().min(self.most_bytes) / self.frame_bytes * self.frame_bytes;
        card.read(room.get_mut(..whole).unwrap_or_default())
    }

    fn after(&mut self, error: alsa::Error) -> io::Result<Got> {
        let again = match (meaning(error.errno()), &self.card) {
            (Meaning::NotYet, _) => return Ok(Got::Nothing),
            (Meaning::Interrupted, Some(card)) => card.go_on(error),
            _ => Err(error),
        };
        again.map(|()| Got::Interrupted).map_err(|error| {
            self.card = None;
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
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    /// Does in turn what it was told to, and keeps what it was asked.
    #[derive(Clone, Default)]
    struct Told(Rc<RefCell<VecDeque<Result<usize, Errno>>>>, Rc<RefCell<Vec<&'static str>>>);

    impl Told {
        fn next(&self, asked: &'static str) -> alsa::Result<usize> {
            self.1.borrow_mut().push(asked);
            let told = self.0.borrow_mut().pop_front().unwrap();
            told.map_err(|errno| alsa::Error::new("told", errno.raw_os_error()))
        }
    }

    impl Card for Told {
        fn has_some(&self) -> alsa::Result<bool> {
            self.next("has some").map(|some| some > 0)
        }

        fn read(&self, room: &mut [u8]) -> alsa::Result<usize> {
            assert_eq!(room.len() % 4, 0, "whole frames");
            self.next("read")
        }

        fn go_on(&self, _: alsa::Error) -> alsa::Result<()> {
            self.next("go on").map(drop)
        }
    }

    fn told(answers: impl IntoIterator<Item = Result<usize, Errno>>) -> (Told, Capture<Told>) {
        let card = Told(Rc::new(RefCell::new(answers.into_iter().collect())), Rc::default());
        (card.clone(), Capture { card: Some(card), frame_bytes: 4, most_bytes: 64 })
    }

    #[test]
    fn an_overrun_is_told_once_and_what_comes_then_is_read() {
        for lost in [Errno::PIPE, Errno::STRPIPE] {
            // While it is waited for, and while it is read.
            for before in [&[Err(lost), Ok(0)][..], &[Ok(1), Err(lost), Ok(0)]] {
                let (card, mut capture) = told(before.iter().copied().chain([Ok(1), Ok(3), Err(Errno::AGAIN)]));
                let mut room = [0; 30];
                assert!(matches!(capture.read(&mut room), Ok(Got::Interrupted)), "{lost}");
                assert_eq!(card.1.borrow().last(), Some(&"go on"));
                assert!(matches!(capture.read(&mut room), Ok(Got::Bytes(12))), "{lost}");
                assert!(matches!(capture.read(&mut room), Ok(Got::Nothing)), "{lost}");
            }
        }
    }

    #[test]
    fn a_card_that_does_not_go_on_is_closed_and_asked_nothing_more() {
        for answers in [&[Ok(1), Err(Errno::PIPE), Err(Errno::NODEV)][..], &[Err(Errno::NODEV)]] {
            let (card, mut capture) = told(answers.iter().copied());
            for _ in 0..2 {
                let error = capture.read(&mut [0; 16]).err().unwrap();
                assert_eq!(error.raw_os_error(), Some(Errno::NODEV.raw_os_error()));
            }
            assert_eq!(card.1.borrow().len(), answers.len());
        }
    }

    #[test]
    fn an_overrun_is_gone_on_from_and_a_card_that_was_pulled_out_is_not() {
        let of = |errno: Errno| meaning(errno.raw_os_error());
        assert_eq!([of(Errno::AGAIN), of(Errno::INTR)], [Meaning::NotYet, Meaning::NotYet]);
        assert_eq!([of(Errno::PIPE), of(Errno::STRPIPE)], [Meaning::Interrupted, Meaning::Interrupted]);
        assert_eq!([of(Errno::NODEV), of(Errno::IO), of(Errno::BADFD)], [Meaning::Gone, Meaning::Gone, Meaning::Gone]);
    }
}
