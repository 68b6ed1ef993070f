//! Frames of a fixed size: raw samples, .npy, .wav, and the buffers of Industrial I/O.

use super::Decoded;
use super::batch::Batch;
use super::malformed::{Malformed, Reason};
use super::spec::SampleType;

pub struct Binary {
    frame_bytes: usize,
    /// Where each channel is in a frame.
    fields: Vec<Field>,
    /// Where the time is, in nanoseconds, if it is there.
    time: Option<Field>,
    /// Frames so far.
    frame: u64,
    row: Vec<f64>,
}

/// A number in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// First byte.
    pub offset: usize,
    /// Bytes that it takes, 8 at most.
    pub bytes: usize,
    /// Bits that count, from `shift` on.
    pub bits: u32,
    /// Bits below them.
    pub shift: u32,
    pub kind: Kind,
    pub big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Signed,
    Unsigned,
    Float,
}

impl Field {
    pub fn of(sample: SampleType, offset: usize) -> Field {
        let SampleType { bytes, bits, kind, big_endian } = sample;
        Field { offset, bytes, bits, shift: 0, kind, big_endian }
    }

    pub fn number(&self, frame: &[u8]) -> Option<f64> {
        let bytes = frame.get(self.offset..self.offset + self.bytes)?;
        let mut word = [0u8; 8];
        if self.big_endian {
            word.iter_mut().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
        } else {
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
        let word = u64::from_le_bytes(word);
        let unused = 64u32.saturating_sub(self.bits);
        let top = word.checked_shr(self.shift)?.checked_shl(unused)?;
        Some(match (self.kind, self.bytes) {
            (Kind::Float, 4) => f64::from(f32::from_bits(word as u32)),
            (Kind::Float, _) => f64::from_bits(word),
            (Kind::Signed, _) => (top as i64 >> unused) as f64,
            (Kind::Unsigned, _) => (top >> unused) as f64,
        })
    }
}

impl Binary {
    pub fn new(frame_bytes: usize, fields: Vec<Field>, time: Option<Field>) -> Binary {
        Binary { frame_bytes, row: vec![0.0; fields.len()], fields, time, frame: 0 }
    }

    /// Frames of interleaved samples of one type; `columns` says where each channel is among `width`.
    pub fn interleaved(sample: SampleType, width: usize, columns: impl Iterator<Item = usize>) -> Binary {
        let fields = columns.map(|column| Field::of(sample, column * sample.bytes)).collect();
        Binary::new(width * sample.bytes, fields, None)
    }

    /// Decodes one frame. `last` says that nothing follows `bytes`.
    pub fn decode(&mut self, bytes: &[u8], last: bool, batch: &mut Batch) -> Decoded {
        let fault = |number, used, reason| Decoded::Malformed(used, Malformed { what: "frame", number, reason });
        let Some(frame) = bytes.get(..self.frame_bytes) else {
            if !last {
                return Decoded::More;
            }
            self.frame += 1;
            let (bytes, expected) = (bytes.len(), self.frame_bytes);
            return fault(self.frame, bytes, Reason::Incomplete { bytes, expected });
        };
        self.frame += 1;
        for (value, field) in self.row.iter_mut().zip(&self.fields) {
            *value = field.number(frame).unwrap_or(f64::NAN);
        }
        let time = self.time.and_then(|time| time.number(frame)).map(|ns| ns as u64);
        match batch.push(&self.row, time) {
            Ok(()) => Decoded::Frame(self.frame_bytes),
            Err(channel) => fault(self.frame, self.frame_bytes, Reason::NotFinite { field: channel + 1 }),
        }
    }

    /// The source broke after so many bytes of a frame.
    pub fn cut_off(&self, bytes: usize) -> Malformed {
        let reason = Reason::Incomplete { bytes, expected: self.frame_bytes };
        Malformed { what: "frame", number: self.frame + 1, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_odd_sizes_are_read() {
        let field = |bytes, bits, shift, kind, big_endian| Field { offset: 1, bytes, bits, shift, kind, big_endian };
        let frame = [9, 0xF0, 0xFF, 0x12, 0, 0, 0, 0, 0];
        assert_eq!(field(2, 12, 4, Kind::Signed, false).number(&frame), Some(-1.0));
        assert_eq!(field(2, 12, 4, Kind::Unsigned, false).number(&frame), Some(4095.0));
        assert_eq!(field(2, 16, 0, Kind::Unsigned, true).number(&frame), Some(f64::from(0xF0FFu16)));
        assert_eq!(field(3, 24, 0, Kind::Signed, false).number(&frame), Some(f64::from(0x12FFF0)));
        assert_eq!(field(9, 64, 0, Kind::Signed, false).number(&frame), None, "past the end");
    }
}
