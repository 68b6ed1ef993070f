//! Frames out of bytes: a place to read from, and a decoder that knows where a frame ends.

use std::ops::Range;

use tractlet_core::signal::Unfit;

use super::batch::Batch;
use super::binary::Binary;
use super::bytes::{Bytes, Got};
use super::csv::Csv;
use super::malformed::Malformed;
use super::open::{self, is_rate};
use super::spec::SourceSpec;
use super::times::Timeline;
use super::{BUFFER_BYTES, Pace, SourceError, SourceOptions};
use crate::sensor::recipe::Input;
use crate::sensor::resample::Resampling;
use crate::sensor::unit::Line;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Frames, perhaps none yet.
    Frames,
    /// Nothing came for a while; time to look at signals.
    Idle,
    /// The source lost some; no window may span that.
    Interrupted,
    /// The end: nothing will come any more.
    End,
}

/// An open source of frames.
pub struct Frames {
    spec: SourceSpec,
    options: SourceOptions,
    input: Input,
    bytes: Bytes,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// What of the buffer is read and not decoded.
    filled: Range<usize>,
    /// Malformed frames so far; the first of them; how many in succession.
    malformed: u64,
    first_malformed: Option<Malformed>,
    in_succession: u32,
    ended: bool,
    passes_left: Option<u64>,
    /// Frames since the file was begun: one without any is not begun again.
    in_pass: u64,
    /// How often the file was begun again.
    pass: u64,
    /// From what it gives to what the model takes, for each channel.
    lines: Vec<Line>,
    /// Its frames a second; none where frames come when they come.
    rate_hz: Option<f64>,
}

pub enum Decoder {
    Csv(Csv),
    Binary(Binary),
}

impl Frames {
    /// # Errors
    /// As [`super::Source::open`].
    pub fn open(spec: &SourceSpec, options: SourceOptions, input: &Input) -> Result<Frames, SourceError> {
        let opened = open::open(spec, &options, input)?;
        let frames = Frames {
            spec: spec.clone(),
            passes_left: options.repeat.map(|passes| passes.saturating_sub(1)),
            options,
            input: input.clone(),
            bytes: opened.bytes,
            decoder: opened.decoder,
            lines: opened.lines,
            rate_hz: opened.rate_hz,
            in_pass: 0,
            pass: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            filled: 0..0,
            malformed: 0,
            first_malformed: None,
            in_succession: 0,
            ended: false,
        };
        // Whether there is one is to be known now.
        frames.resampling()?;
        Ok(frames)
    }

    /// An empty batch of the right width.
    pub fn batch(&self) -> Batch {
        let recorded = self.spec.is_recorded();
        let paced = recorded && self.options.pace == Pace::Real;
        Batch::new(self.lines.clone(), self.rate_hz, recorded, paced)
    }

    /// Its rate, where that is not the model's.
    pub fn other_rate_hz(&self) -> Option<f64> {
        self.rate_hz.filter(|rate| self.input.rate_hz.is_some_and(|expected| !is_rate(*rate, expected)))
    }

    /// What holds its frames' own times against each other, where they have some.
    pub fn timeline(&self) -> Option<Timeline> {
        let Input { rate_hz, windowing, .. } = &self.input;
        let new = |_| Timeline::new(self.spec.to_string(), windowing.length, *rate_hz);
        self.options.time.as_ref().map(new)
    }

    /// What brings its frames to the model's rate, where they have another.
    ///
    /// # Errors
    /// Where nothing does.
    pub fn resampling(&self) -> Result<Option<Resampling>, SourceError> {
        let Some((from, to)) = self.other_rate_hz().zip(self.input.rate_hz) else { return Ok(None) };
        let made = Resampling::new(from, to, self.input.channels.len());
        let told = |unfit: Unfit| {
            let what = format!("it has {from} frames a second, the model takes {to}: {unfit}");
            SourceError::new(self.spec.to_string(), what)
        };
        made.map(Some).map_err(told)
    }

    /// Waits for frames, for 200 ms at most, and adds them to `batch` as far as it has room.
    ///
    /// # Errors
    /// Where the source broke, or is not what it was said to be.
    pub fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if self.ended && self.filled.is_empty() && !self.begin_again()? {
            self.expect_some()?;
            return Ok(Progress::End);
        }
        let before = batch.frames();
        self.decode(batch)?;
        if batch.frames() > before || batch.is_full() || self.ended {
            return Ok(Progress::Frames);
        }
        self.make_space();
        let room = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        let got = self.bytes.read(room);
        match got.map_err(|error| self.broke(&error))? {
            Got::Nothing => return Ok(Progress::Idle),
            Got::Interrupted => return Ok(Progress::Interrupted),
            Got::End => self.ended = true,
            Got::Bytes(count) => self.filled.end += count,
        }
        batch.came_now();
        self.decode(batch)?;
        Ok(Progress::Frames)
    }

    /// Reads all that there is, and tells only how much.
    ///
    /// # Errors
    /// As [`Frames::read`].
    pub fn drain(&mut self) -> Result<u64, SourceError> {
        let mut batch = self.batch();
        let mut frames = 0;
        loop {
            let progress = self.read(&mut batch)?;
            frames += batch.frames() as u64;
            batch.clear();
            if progress == Progress::End {
                return Ok(frames);
            }
        }
    }

    /// Opens the source anew after it went away; windows may not span the two sides. What came back may have another scale
    /// or rate: [`Frames::batch`] and [`Frames::resampling`] are those of before no more.
    ///
    /// # Errors
    /// As [`super::Source::open`].
    pub fn reopen(&mut self) -> Result<(), SourceError> {
        if self.bytes.hang_up() {
            self.decoder = open::stream_decoder(&self.spec, &self.options, &self.input)?;
        } else {
            // What it held of a device is given up before that is asked for again.
            self.bytes = Bytes::Closed;
            let Opened { bytes, decoder, lines, rate_hz } = open::open(&self.spec, &self.options, &self.input)?;
            (self.bytes, self.decoder, self.lines, self.rate_hz) = (bytes, decoder, lines, rate_hz);
        }
        self.filled = 0..0;
        self.ended = false;
        Ok(())
    }

    /// Frames that did not decode so far.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The first of them.
    pub fn first_malformed(&self) -> Option<&Malformed> {
        self.first_malformed.as_ref()
    }

    /// Which reading of the file the last frames are of, from 0.
    pub fn pass(&self) -> u64 {
        self.pass
    }

    /// How it was opened.
    pub fn options(&self) -> &SourceOptions {
        &self.options
    }

    /// Where it is.
    pub fn spec(&self) -> &SourceSpec {
        &self.spec
    }

    fn decode(&mut self, batch: &mut Batch) -> Result<(), SourceError> {
        loop {
            let bytes = self.buffer.get(self.filled.clone()).unwrap_or_default();
            if batch.is_full() || bytes.is_empty() {
                break;
            }
            let last = self.ended || self.bytes.is_packet();
            let step = match &mut self.decoder {
                Decoder::Csv(csv) => csv.decode(bytes, last, self.spec.is_recorded() || self.bytes.is_packet(), batch),
                Decoder::Binary(binary) => binary.decode(bytes, last, batch),
            };
            match step {
                Decoded::More => break,
                Decoded::Nothing(count) => self.filled.start += count,
                Decoded::Frame(count) => {
                    self.filled.start += count;
                    self.in_succession = 0;
                    self.in_pass += 1;
                }
                Decoded::Malformed(count, what) => {
                    self.filled.start += count;
                    batch.missed();
                    self.is_malformed(what)?;
                }
                Decoded::Unfit(what) => return Err(SourceError::new(self.spec.to_string(), what)),
            }
        }
        Ok(())
    }

    fn is_malformed(&mut self, what: Malformed) -> Result<(), SourceError> {
        self.malformed += 1;
        self.in_succession += 1;
        self.first_malformed.get_or_insert(what);
        if self.in_succession >= self.options.max_malformed {
            let count = self.in_succession;
            let what = format!("{count} malformed frames in succession; the last, {what}");
            return Err(SourceError::new(self.spec.to_string(), what));
        }
        Ok(())
    }

    /// Begins a file again, if it is to be read more often and there is something in it.
    fn begin_again(&mut self) -> Result<bool, SourceError> {
        let more = self.spec.is_file() && self.passes_left != Some(0) && self.in_pass > 0;
        if more {
            self.ended = false;
            self.in_pass = 0;
            self.pass += 1;
            self.passes_left = self.passes_left.map(|passes| passes - 1);
            let begun = self.bytes.rewind();
            begun.map_err(|error| self.broke(&error))?;
            match &mut self.decoder {
                Decoder::Csv(csv) => csv.rewind(),
                Decoder::Binary(_) => {}
            }
        }
        Ok(more)
    }

    /// Where not one frame of all that there was decoded, it is not what it was said to be.
    fn expect_some(&self) -> Result<(), SourceError> {
        match &self.first_malformed {
            Some(first) if self.pass == 0 && self.in_pass == 0 => {
                let what = format!("none of its {} frames decodes; the first, {first}", self.malformed);
                Err(SourceError::new(self.spec.to_string(), what))
            }
            _ => Ok(()),
        }
    }

    /// Moves what is not decoded to the front. A line that fills the buffer is the decoder's to refuse.
    fn make_space(&mut self) {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
    }

    /// What was read of a frame when it broke will never be whole.
    fn broke(&mut self, error: &std::io::Error) -> SourceError {
        let left = std::mem::take(&mut self.filled).len();
        if left > 0 {
            let what = match &self.decoder {
                Decoder::Csv(csv) => csv.cut_off(left),
                Decoder::Binary(binary) => binary.cut_off(left),
            };
            self.malformed += 1;
            self.first_malformed.get_or_insert(what);
        }
        match self.spec.is_recorded() {
            true => SourceError::new(self.spec.to_string(), format!("cannot read it: {error}")),
            false => SourceError::gone(self.spec.to_string(), format!("the sensor went away: {error}")),
        }
    }
}

/// What a decoder made of the bytes that it was shown.
pub enum Decoded {
    /// Not enough of them.
    More,
    /// So many that say nothing: a header, a comment, an empty line.
    Nothing(usize),
    /// So many that were a frame, which is in the batch.
    Frame(usize),
    /// So many that should have been one.
    Malformed(usize, Malformed),
    /// The source is another than what it was said to be.
    Unfit(String),
}

/// An open source's parts.
pub struct Opened {
    pub bytes: Bytes,
    pub decoder: Decoder,
    pub lines: Vec<Line>,
    pub rate_hz: Option<f64>,
}
