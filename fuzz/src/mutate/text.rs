//! Changes to text: lines, words and numbers.

use crate::rng::Rng;

const NUMBERS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "-0",
    "1e-40",
    "1e38",
    "1e39",
    "1e308",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0.000001",
];

/// What means something in one of the formats.
const WORDS: [&str; 30] = [
    "\n",
    "\r\n",
    ",",
    ";",
    "\t",
    " ",
    "#",
    "\"",
    "'",
    "=",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "()",
    "(1,)",
    "true",
    "\u{feff}",
    "'<f4'",
    "'|O'",
    "'>c16'",
    "'shape'",
    "True",
    "[input]\n",
    "[frontend]\n",
    "[decision]\n",
    "fmt ",
    "data",
];

/// Changes one place.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    match rng.below(6) {
        0 => replace(bytes, rng, &|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'), &NUMBERS),
        1 => replace(bytes, rng, &|byte| byte.is_ascii_alphabetic(), &WORDS),
        2 => {
            let at = rng.below(bytes.len() + 1);
            bytes.splice(at..at, rng.pick(&WORDS).bytes());
        }
        3 => {
            let at = rng.below(bytes.len() + 1);
            bytes.splice(at..at, rng.pick(&NUMBERS).bytes());
        }
        4 => {
            // A line of another, or of itself, between two lines.
            let from = if rng.once_in(2) { other.to_vec() } else { bytes.clone() };
            let lines: Vec<&[u8]> = from.split_inclusive(|&byte| byte == b'\n').collect();
            if let Some(line) = lines.get(rng.below(lines.len())) {
                let ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').map(|at| at + 1).collect();
                let at = ends.get(rng.below(ends.len())).copied().unwrap_or(0);
                bytes.splice(at..at, line.iter().copied());
            }
        }
        _ => {
            // Without a line.
            let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            if !lines.is_empty() {
                lines.remove(rng.below(lines.len()));
            }
            *bytes = lines.concat();
        }
    }
}

/// Puts one of `new` in the place of a run of such bytes.
fn replace(bytes: &mut Vec<u8>, rng: &mut Rng, of: &dyn Fn(u8) -> bool, new: &[&str]) {
    let start = rng.below(bytes.len());
    let Some(start) = (start..bytes.len()).find(|&at| of(bytes[at])) else { return };
    let start = (0..start).rev().take_while(|&at| of(bytes[at])).last().unwrap_or(start);
    let end = (start..bytes.len()).find(|&at| !of(bytes[at])).unwrap_or(bytes.len());
    bytes.splice(start..end, rng.pick(new).bytes());
}
