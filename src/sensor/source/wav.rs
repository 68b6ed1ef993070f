//! The header of .wav files: RIFF WAVE, with samples of PCM or float.

use std::io::{self, Read};

use super::binary::Kind;
use super::spec::SampleType;

/// What a header says of the samples behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// None where whoever wrote it did not know yet.
    pub bytes: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub channels: u16,
    pub rate_hz: u32,
    pub sample: SampleType,
}

impl Header {
    /// Reads up to the first sample, and no further.
    pub fn read(file: &mut impl Read) -> Result<Header, String> {
        if !matches!(take::<12>(file)?, [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E']) {
            return Err("it does not begin with RIFF and WAVE".into());
        }
        let mut format = None;
        loop {
            let [a, b, c, d, size @ ..] = take::<8>(file)?;
            let size = u32::from_le_bytes(size);
            // What fills a chunk of odd length up is not counted.
            let (mut left, odd) = (u64::from(size), u64::from(size % 2));
            match &[a, b, c, d] {
                b"data" => {
                    let format = format.ok_or("its samples come before a chunk `fmt `, which tells what they are")?;
                    return Ok(Header { format, bytes: (size < u32::MAX).then_some(size) });
                }
                b"fmt " if size >= 40 => {
                    format = Some(Format::extended(take(file)?)?);
                    left -= 40;
                }
                b"fmt " if size >= 16 => {
                    format = Some(Format::plain(take(file)?, None)?);
                    left -= 16;
                }
                b"fmt " => return Err(format!("its chunk `fmt ` has {size} bytes; expected 16 at least")),
                _ => {}
            }
            skip(file, left + odd)?;
        }
    }
}

/// In place of a kind of samples: an extension of the header has it.
const EXTENDED: u16 = 0xfffe;
const PCM: u16 = 1;
const FLOAT: u16 = 3;

impl Format {
    /// A header that has room for an extension, whether there is one or not.
    fn extended(fmt: [u8; 40]) -> Result<Format, String> {
        let [plain @ .., _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = fmt;
        Format::plain(plain, Some(u16::from_le_bytes([k0, k1])))
    }

    fn plain(fmt: [u8; 16], extended: Option<u16>) -> Result<Format, String> {
        let [k0, k1, c0, c1, r0, r1, r2, r3, _, _, _, _, f0, f1, b0, b1] = fmt;
        let [kind, channels, frame_bytes, bits] = [[k0, k1], [c0, c1], [f0, f1], [b0, b1]].map(u16::from_le_bytes);
        let rate_hz = u32::from_le_bytes([r0, r1, r2, r3]);
        if channels == 0 || rate_hz == 0 {
            return Err(format!("{channels} channels at {rate_hz} frames a second; expected 1 or more of each"));
        }
        if frame_bytes % channels != 0 {
            return Err(format!("frames of {frame_bytes} bytes do not hold {channels} channels of one size"));
        }
        // Where a sample has more bytes than bits, the extended header has it in the upper ones, and what lies below it is
        // no more than noise; `bits` are then those of the bytes. ALSA's S24_LE comes without one, in the lower three of four.
        let sample = match (kind, extended, frame_bytes / channels, bits) {
            // Eight bits are without a sign in this format, and others have one.
            (PCM, _, 1, 8) | (EXTENDED, Some(PCM), 1, 8) => SampleType::little(1, Kind::Unsigned),
            (PCM, _, bytes @ 2..=4, bits) | (EXTENDED, Some(PCM), bytes @ 2..=4, bits) if bits == 8 * bytes => {
                SampleType::little(bytes.into(), Kind::Signed)
            }
            (PCM, _, 4, 24) => SampleType { bits: 24, ..SampleType::little(4, Kind::Signed) },
            (FLOAT, _, 4, 32) | (EXTENDED, Some(FLOAT), 4, 32) => SampleType::little(4, Kind::Float),
            (kind, extended, bytes, bits) => {
                let kind = extended.filter(|_| kind == EXTENDED).unwrap_or(kind);
                return Err(format!(
                    "samples of {bits} bits in {bytes} bytes, of the kind {kind}, are not read; expected PCM (1) of 8, 16, 24 \
                     or 32 bits, or float (3) of 32: sox IN.wav -b 16 -e signed-integer OUT.wav"
                ));
            }
        };
        Ok(Format { channels, rate_hz, sample })
    }
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(told)?;
    Ok(bytes)
}

fn skip(file: &mut impl Read, count: u64) -> Result<(), String> {
    match io::copy(&mut file.by_ref().take(count), &mut io::sink()) {
        Ok(skipped) if skipped == count => Ok(()),
        Ok(_) => Err(told(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(told(error)),
    }
}

fn told(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends before its samples begin".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of two channels at 8000 frames a second.
    fn header(kind: u16, bytes: u16, bits: u16, extension: &[u8]) -> Vec<u8> {
        let words = [kind, 2, 8000, 0, 0, 0, 2 * bytes, bits].map(u16::to_le_bytes).concat();
        let size = (words.len() + extension.len()) as u32;
        [b"RIFF\0\0\0\0WAVEfmt ", &size.to_le_bytes()[..], &words, extension, b"data\x30\0\0\0"].concat()
    }

    fn extension(kind: u8) -> [u8; 24] {
        let mut extension = *b"\x16\0\x14\0\0\0\0\0\0\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
        extension[8] = kind;
        extension
    }

    #[test]
    fn samples_are_as_far_apart_as_their_container_is_wide() {
        let sample = |bytes, bits, kind| SampleType { bits, ..SampleType::little(bytes, kind) };
        for (kind, bytes, bits, extension, expected) in [
            (PCM, 1, 8, &[][..], sample(1, 8, Kind::Unsigned)),
            (PCM, 2, 16, &[0, 0], sample(2, 16, Kind::Signed)),
            (PCM, 3, 24, &[], sample(3, 24, Kind::Signed)),
            (PCM, 4, 24, &[], sample(4, 24, Kind::Signed)),
            (PCM, 4, 32, &[], sample(4, 32, Kind::Signed)),
            (FLOAT, 4, 32, &[0, 0], sample(4, 32, Kind::Float)),
            (EXTENDED, 3, 24, &extension(1), sample(3, 24, Kind::Signed)),
            (EXTENDED, 4, 32, &extension(1), sample(4, 32, Kind::Signed)),
            (EXTENDED, 4, 32, &extension(3), sample(4, 32, Kind::Float)),
        ] {
            let found = Header::read(&mut &*header(kind, bytes, bits, extension));
            let format = Format { channels: 2, rate_hz: 8000, sample: expected };
            assert_eq!(found, Ok(Header { format, bytes: Some(48) }), "{kind}: {bits} bits in {bytes} bytes");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let good = header(PCM, 2, 16, &[]);
        for length in 0..good.len() {
            let told = Header::read(&mut good.get(..length).unwrap()).unwrap_err();
            assert_eq!(told, "it ends before its samples begin", "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            *bytes.get_mut(at).unwrap() = byte;
            bytes
        };
        for (bytes, part) in [
            (with(0, b'r'), "it does not begin with RIFF and WAVE"),
            (with(12, b'F'), "its samples come before a chunk `fmt `"),
            (with(16, 15), "its chunk `fmt ` has 15 bytes"),
            (with(22, 0), "0 channels at 8000 frames a second"),
            (with(32, 5), "frames of 5 bytes do not hold 2 channels of one size"),
            (with(32, 8), "samples of 16 bits in 4 bytes, of the kind 1, are not read"),
            (with(20, 2), "samples of 16 bits in 2 bytes, of the kind 2, are not read"),
            (header(EXTENDED, 4, 24, &extension(1)), "samples of 24 bits in 4 bytes, of the kind 1, are not read"),
            (header(EXTENDED, 4, 32, &[]), "samples of 32 bits in 4 bytes, of the kind 65534, are not read"),
            (header(FLOAT, 8, 64, &[]), "samples of 64 bits in 8 bytes, of the kind 3, are not read"),
        ] {
            let told = Header::read(&mut &*bytes).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_length_that_was_not_known_is_none() {
        let mut bytes = header(PCM, 2, 16, &[]);
        let length = bytes.len() - 4;
        bytes.get_mut(length..).unwrap().fill(0xff);
        assert_eq!(Header::read(&mut &*bytes).unwrap().bytes, None);
    }
}
