//! The header: a Python dictionary of three known keys, written as text.

use super::{Fault, MAGIC};
use crate::DType;

/// numpy's own limit is 64.
const MAX_DIMENSIONS: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub dtype: DType,
    pub order: ByteOrder,
    pub shape: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl Header {
    /// Bytes of data that the file must hold; `None` above what a number can say.
    pub fn data_bytes(&self) -> Option<u64> {
        let size = self.dtype.size() as u64;
        self.shape.iter().try_fold(size, |bytes, &dim| bytes.checked_mul(dim as u64))
    }
}

/// The file up to its first element, padded so that the data is 64-byte aligned.
pub(super) fn encode(dtype: DType, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let dims = if shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({dims}), }}", descr(dtype));
    let padded = (MAGIC.len() + 4 + text.len() + 1).next_multiple_of(64) - MAGIC.len() - 4 - 1;
    let text = format!("{text:padded$}\n");
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

pub(super) fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let broken = |what: &str| Fault::Malformed(format!("its header is not what numpy writes ({what})"));
    let text = std::str::from_utf8(bytes).map_err(|_| broken("not text"))?;
    let mut rest = Cursor(text);
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    rest.expect("{").ok_or_else(|| broken("no dictionary"))?;
    while rest.expect("}").is_none() {
        let key = rest.quoted().ok_or_else(|| broken("a key is missing"))?;
        rest.expect(":").ok_or_else(|| broken("a value is missing"))?;
        match key {
            "descr" => dtype = Some(element(rest.quoted().ok_or_else(structured)?)?),
            "fortran_order" => fortran = Some(rest.boolean().ok_or_else(|| broken("fortran_order"))?),
            "shape" => shape = Some(rest.shape().ok_or_else(|| broken("shape"))?),
            _ => return Err(broken("unknown key")),
        }
        if rest.expect(",").is_none() && !rest.0.trim_start().starts_with('}') {
            return Err(broken("no end"));
        }
    }
    let (Some((dtype, order)), Some(fortran), Some(shape)) = (dtype, fortran, shape) else {
        return Err(broken("a key is missing"));
    };
    if !rest.0.trim().is_empty() {
        return Err(broken("text after its end"));
    }
    // With one long dimension both orders are the same.
    if fortran && shape.iter().filter(|&&dim| dim > 1).count() > 1 {
        let what = "it is in Fortran (column-major) order; save it with numpy.ascontiguousarray(x)";
        return Err(Fault::Unsupported(what.into()));
    }
    Ok(Header { dtype, order, shape })
}

fn structured() -> Fault {
    Fault::Unsupported("it holds structures; save one plain array a file".into())
}

fn element(descr: &str) -> Result<(DType, ByteOrder), Fault> {
    let (order, code) = match descr.split_at_checked(1) {
        Some(("<" | "|" | "=", code)) => (ByteOrder::Little, code),
        Some((">", code)) => (ByteOrder::Big, code),
        _ => (ByteOrder::Little, descr),
    };
    let dtype = CODES.iter().find(|(known, _)| *known == code).map(|(_, dtype)| *dtype);
    let known = || {
        Fault::Unsupported(format!(
            "its elements are of type `{descr}`, which no model takes; convert it with x.astype"
        ))
    };
    Ok((dtype.ok_or_else(known)?, order))
}

fn descr(dtype: DType) -> String {
    let code = CODES.iter().find(|(_, known)| *known == dtype).map_or("", |(code, _)| code);
    format!("{}{code}", if dtype.size() == 1 { '|' } else { '<' })
}

const CODES: [(&str, DType); 12] = [
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("f2", DType::F16),
    ("i1", DType::I8),
    ("u1", DType::U8),
    ("i2", DType::I16),
    ("u2", DType::U16),
    ("i4", DType::I32),
    ("u4", DType::U32),
    ("i8", DType::I64),
    ("u8", DType::U64),
    ("b1", DType::Bool),
];

/// What is left of the header. Every step skips white space first and consumes only what it takes.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn expect(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = text.get(1..)?.split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.expect("True") {
            Some(()) => Some(true),
            None => self.expect("False").map(|()| false),
        }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        self.expect("(")?;
        let (dims, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let dims = dims.trim().trim_end_matches(',');
        let dims: Option<Vec<usize>> = match dims {
            "" => Some(Vec::new()),
            dims => dims.split(',').map(|dim| dim.trim().parse().ok()).collect(),
        };
        dims.filter(|dims| dims.len() <= MAX_DIMENSIONS)
    }
}
