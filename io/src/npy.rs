//! The header of a .npy file: a Python dictionary of three known keys, written as text.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The first bytes of every .npy file.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes up to the length of the header and that length, at most.
pub const PREFIX_BYTES: usize = 12;
/// As many every file has.
pub const LEAST_PREFIX_BYTES: usize = 10;

/// numpy itself writes a few hundred bytes at most for plain arrays.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// numpy's own limit is 64.
const MAX_DIMENSIONS: usize = 32;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The element type as it is written: `<f4`.
    pub descr: String,
    /// Order of the bytes of an element.
    pub order: ByteOrder,
    /// Dimensions, row-major.
    pub shape: Vec<usize>,
}

/// Order of the bytes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest first.
    Little,
    /// The highest first.
    Big,
}

/// Why a header is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not one.
    Malformed(String),
    /// It is one, of what is not read here.
    Unsupported(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(what) => write!(f, "not a readable .npy file: {what}"),
            Fault::Unsupported(what) => f.write_str(what),
        }
    }
}

impl Header {
    /// The element type without its byte order: `f4`.
    pub fn code(&self) -> &str {
        split(&self.descr).0
    }

    /// Bytes of data that a file must hold whose elements have `element_bytes`; `None` above what a number
    /// can say.
    pub fn data_bytes(&self, element_bytes: usize) -> Option<u64> {
        self.shape.iter().try_fold(element_bytes as u64, |bytes, &dim| bytes.checked_mul(dim as u64))
    }
}

/// A tensor's shape without its leading dimension, where that is 1: its batch.
pub fn without_batch(tensor: &[usize]) -> &[usize] {
    match tensor {
        [1, inner @ ..] => inner,
        shape => shape,
    }
}

/// How many samples of a tensor of shape `tensor` an array of shape `array` holds: one, or a list of them
/// with or without the tensor's batch. `None` if it is neither.
///
/// ```
/// use tractlet_io::npy::count_samples;
/// let tensor = [1, 49, 10];
/// assert_eq!(count_samples(&[1, 49, 10], &tensor), Some(1));
/// assert_eq!(count_samples(&[5, 49, 10], &tensor), Some(5));
/// assert_eq!(count_samples(&[5, 1, 49, 10], &tensor), Some(5));
/// assert_eq!(count_samples(&[5, 490], &tensor), None);
/// assert_eq!(count_samples(&[], &[]), Some(1));
/// ```
pub fn count_samples(array: &[usize], tensor: &[usize]) -> Option<usize> {
    if array == tensor {
        return Some(1);
    }
    let (&count, rest) = array.split_first()?;
    (rest == tensor || rest == without_batch(tensor)).then_some(count)
}

/// Where the text of a header lies, from the first bytes of a file: its start, and its length. A file that has
/// [`LEAST_PREFIX_BYTES`] may end after them; zeros stand for what it lacks.
///
/// # Errors
/// Where they are not those of a .npy file, or claim more than a header has.
pub fn locate(prefix: &[u8; PREFIX_BYTES]) -> Result<(usize, usize), Fault> {
    let [magic @ .., major, _minor, a, b, c, d] = prefix;
    if magic != MAGIC {
        return Err(Fault::Malformed("it does not begin as one; write it with numpy.save".into()));
    }
    let (start, len) = match major {
        1 => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        2 | 3 => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        other => return Err(Fault::Unsupported(format!(".npy format version {other}; versions 1 to 3 are read"))),
    };
    if len > MAX_HEADER_BYTES {
        return Err(Fault::Malformed(format!("its header claims {len} bytes, above the limit of {MAX_HEADER_BYTES}")));
    }
    Ok((start, len))
}

/// The file up to its first element, padded so that the data is 64-byte aligned. `descr` is the element type
/// with its byte order: `<f4`.
pub fn encode(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let dims = if shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padded = (MAGIC.len() + 4 + text.len() + 1).next_multiple_of(64) - MAGIC.len() - 4 - 1;
    let text = format!("{text:padded$}\n");
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Reads the text of a header.
///
/// # Errors
/// Where it is not what numpy writes for one plain array, or in Fortran order.
pub fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let broken = |what: &str| Fault::Malformed(format!("its header is not what numpy writes ({what})"));
    let text = core::str::from_utf8(bytes).map_err(|_| broken("not text"))?;
    let mut rest = Cursor(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    rest.expect("{").ok_or_else(|| broken("no dictionary"))?;
    while rest.expect("}").is_none() {
        let key = rest.quoted().ok_or_else(|| broken("a key is missing"))?;
        rest.expect(":").ok_or_else(|| broken("a value is missing"))?;
        match key {
            "descr" => descr = Some(rest.quoted().ok_or_else(structured)?),
            "fortran_order" => fortran = Some(rest.boolean().ok_or_else(|| broken("fortran_order"))?),
            "shape" => shape = Some(rest.shape().ok_or_else(|| broken("shape"))?),
            _ => return Err(broken("unknown key")),
        }
        if rest.expect(",").is_none() && !rest.0.trim_start().starts_with('}') {
            return Err(broken("no end"));
        }
    }
    let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
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
    Ok(Header { descr: descr.into(), order: split(descr).1, shape })
}

fn structured() -> Fault {
    Fault::Unsupported("it holds structures; save one plain array a file".into())
}

fn split(descr: &str) -> (&str, ByteOrder) {
    match descr.split_at_checked(1) {
        Some(("<" | "|" | "=", code)) => (code, ByteOrder::Little),
        Some((">", code)) => (code, ByteOrder::Big),
        _ => (descr, ByteOrder::Little),
    }
}

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
