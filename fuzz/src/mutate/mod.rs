//! Changes to inputs. Half of them know nothing of what the bytes mean; the others keep a form, so that what is
//! behind the first check is reached.

mod bytes;
mod protobuf;
mod text;
mod words;

use crate::rng::Rng;

/// What inputs look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An ONNX file: messages whose lengths have to be right.
    Onnx,
    /// Records of little-endian 32-bit words.
    Words,
    /// Text, or what has some in it.
    Text,
}

/// Changes `input` in one to eight places. `other` is an input to take parts of. The result has `most` bytes at most.
pub fn mutate(input: &[u8], other: &[u8], form: Form, most: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = match form {
        Form::Onnx if !rng.once_in(4) => protobuf::mutate(input, other, rng),
        _ => input.to_vec(),
    };
    // What the protobuf changes left alone is changed in any case.
    let rounds = if bytes == input { 1 + rng.below(4) } else { rng.below(2) };
    for _ in 0..rounds {
        match form {
            Form::Words if !rng.once_in(3) => words::mutate(&mut bytes, other, rng),
            Form::Text if rng.once_in(2) => text::mutate(&mut bytes, other, rng),
            _ => bytes::mutate(&mut bytes, other, rng),
        }
    }
    bytes.truncate(most);
    bytes
}
