//! Protobuf fields written anew, for the few models that are changed before they are read.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::wire::{Field, Value};

pub(super) fn copy(out: &mut Vec<u8>, field: &Field<'_>) {
    match field.value {
        Value::Varint(value) => put_int(out, field.number, value),
        Value::Fixed64(value) => {
            tag(out, field.number, 1);
            out.extend(value.to_le_bytes());
        }
        Value::Chunk(chunk) => put(out, field.number, chunk.bytes),
        Value::Fixed32(value) => {
            tag(out, field.number, 5);
            out.extend(value.to_le_bytes());
        }
    }
}

pub(super) fn put(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    tag(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, 0);
    varint(out, value);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u64) {
    varint(out, u64::from(number) << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
