//! NumPy's .npy files, read at any element and written whole or not at all.
//!
//! A [`Reader`] checks the header and the file's length once; from there on every element that
//! the shape states is there, and nothing larger than the caller's own buffer is allocated.
//!
//! ```
//! use tractlet::{DType, npy};
//!
//! let samples = npy::Reader::open("models/kws_dscnn/samples.npy")?;
//! assert_eq!((samples.dtype(), samples.shape()), (DType::F32, &[12, 1, 49, 10][..]));
//! let mut third = vec![0; 49 * 10 * 4];
//! samples.read(2 * 49 * 10, &mut third)?;
//! # Ok::<(), tractlet::npy::NpyError>(())
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use tractlet_io::npy::{self as header, ByteOrder, Header};

use crate::DType;
use crate::whole::{Finished, Unfinished};

/// A .npy file that cannot be read or written: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct NpyError {
    path: PathBuf,
    #[source]
    fault: Fault,
}

/// The kinds of [`NpyError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NpyErrorKind {
    /// The file cannot be opened, read or written.
    Io,
    /// The bytes are not a .npy file, or not all of one.
    Malformed,
    /// A legal file that is not read here: pickled objects, structures, Fortran order.
    Unsupported,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("not a readable .npy file: {0}")]
    Malformed(String),
    #[error("{0}")]
    Unsupported(String),
}

impl From<header::Fault> for Fault {
    fn from(fault: header::Fault) -> Fault {
        match fault {
            header::Fault::Malformed(what) => Fault::Malformed(what),
            header::Fault::Unsupported(what) => Fault::Unsupported(what),
        }
    }
}

impl NpyError {
    /// What is wrong, for who names the file itself.
    pub(crate) fn what(&self) -> String {
        self.fault.to_string()
    }

    fn new(path: &Path, fault: Fault) -> NpyError {
        NpyError { path: path.to_owned(), fault }
    }

    fn io(path: &Path, action: &'static str, source: io::Error) -> NpyError {
        NpyError::new(path, Fault::Io { action, source })
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> NpyErrorKind {
        match self.fault {
            Fault::Io { .. } => NpyErrorKind::Io,
            Fault::Malformed(_) => NpyErrorKind::Malformed,
            Fault::Unsupported(_) => NpyErrorKind::Unsupported,
        }
    }
}

/// An open .npy file whose header is sound and whose length is what the header states.
///
/// Reading takes `&self`: threads share one reader.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    header: Header,
    dtype: DType,
    data_start: u64,
    data_end: u64,
}

impl Reader {
    /// Opens a file and checks its header and length.
    ///
    /// # Errors
    /// Every fault of the file, with what to do about it; see [`NpyErrorKind`].
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, NpyError> {
        Reader::open_part(path.as_ref(), None)
    }

    /// The same of a .npy file that lies within another one, from its byte `start` on.
    ///
    /// # Errors
    /// As [`Reader::open`], and where the other file does not hold so much.
    pub fn open_within(path: impl AsRef<Path>, start: u64, bytes: u64) -> Result<Reader, NpyError> {
        Reader::open_part(path.as_ref(), Some((start, bytes)))
    }

    fn open_part(path: &Path, part: Option<(u64, u64)>) -> Result<Reader, NpyError> {
        let io = |action| move |source| NpyError::io(path, action, source);
        // NONBLOCK: a FIFO in the place of a file must not hang the reader.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        let file = File::from(opened.map_err(io("open it"))?);
        let meta = file.metadata().map_err(io("look at it"))?;
        if !meta.is_file() {
            let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
            return Err(NpyError::io(path, "read it as .npy", io::Error::new(io::ErrorKind::InvalidInput, what)));
        }
        let (start, bytes) = part.unwrap_or((0, meta.len()));
        let end = start.checked_add(bytes).filter(|end| *end <= meta.len());
        let Some(end) = end else {
            let what = format!("it ends before the {bytes} bytes that should lie from byte {start} on");
            return Err(NpyError::new(path, Fault::Malformed(what)));
        };
        let text = read_header(&file, start, end).map_err(|fault| NpyError::new(path, fault))?;
        let header = header::parse(&text.header).map_err(|fault| NpyError::new(path, fault.into()))?;
        let dtype = element(&header).map_err(|fault| NpyError::new(path, fault))?;
        let (expected, found) = (header.data_bytes(dtype.size()), end.saturating_sub(text.data_start));
        if expected != Some(found) {
            let expected = expected.map_or("more than a file can hold".into(), |bytes| bytes.to_string());
            let shape = &header.shape;
            let what = format!("shape {shape:?} of {dtype} takes {expected} bytes of data, the file has {found}");
            return Err(NpyError::new(path, Fault::Malformed(what)));
        }
        Ok(Reader { path: path.to_owned(), file, header, dtype, data_start: text.data_start, data_end: end })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, row-major.
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// Fills `out` with little-endian elements, from the element of row-major index `first` on.
    ///
    /// # Errors
    /// [`NpyErrorKind::Io`] where the range goes past the last element or the file has shrunk.
    pub fn read(&self, first: usize, out: &mut [u8]) -> Result<(), NpyError> {
        let at = self.data_start.saturating_add((first as u64).saturating_mul(self.dtype().size() as u64));
        let read = match at.checked_add(out.len() as u64) {
            Some(end) if end <= self.data_end => self.file.read_exact_at(out, at),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        read.map_err(|source| NpyError::io(&self.path, "read its data", source))?;
        if self.header.order == ByteOrder::Big {
            out.chunks_exact_mut(self.dtype().size()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }
}

struct HeaderText {
    header: Vec<u8>,
    data_start: u64,
}

/// Of a .npy file from one byte of a file to another.
fn read_header(file: &File, from: u64, end: u64) -> Result<HeaderText, Fault> {
    let take = |bytes: &mut [u8], at: u64| {
        if from + at + bytes.len() as u64 > end {
            return Err(Fault::Malformed("it ends within its header".into()));
        }
        let at = from + at;
        file.read_exact_at(bytes, at).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Malformed("it ends within its header".into()),
            _ => Fault::Io { action: "read its header", source },
        })
    };
    let mut prefix = [0; header::PREFIX_BYTES];
    let (least, more) = prefix.split_at_mut(header::LEAST_PREFIX_BYTES);
    take(least, 0)?;
    // What is not there counts only where the version says that it should be, and is then missing below.
    let behind = from + least.len() as u64;
    file.read_at(more, behind).map_err(|source| Fault::Io { action: "read its header", source })?;
    let (start, len) = header::locate(&prefix)?;
    let mut header = vec![0; len];
    take(&mut header, start as u64)?;
    Ok(HeaderText { header, data_start: from + (start + len) as u64 })
}

/// The type of the elements, where it is one that tensors have.
fn element(header: &Header) -> Result<DType, Fault> {
    let known = CODES.iter().find(|(code, _)| *code == header.code()).map(|(_, dtype)| *dtype);
    known.ok_or_else(|| {
        let what =
            format!("its elements are of type `{}`, which no model takes; convert it with x.astype", header.descr);
        Fault::Unsupported(what)
    })
}

/// The type as a header names it.
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

/// A .npy file in the making. It takes its name in [`Written::publish`]; until then, and where
/// anything fails, whatever stood under that name stays as it is.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    file: Unfinished,
    /// Bytes of data that the shape still asks for.
    missing: u64,
}

/// A complete file on disk that has no name yet.
#[derive(Debug)]
pub struct Written {
    target: PathBuf,
    file: Finished,
}

impl Writer {
    /// Begins a file of this type and shape beside `target`.
    ///
    /// # Errors
    /// Where the folder cannot be written, or `target` is there and is not a regular file.
    pub fn create(target: impl AsRef<Path>, dtype: DType, shape: &[usize]) -> Result<Writer, NpyError> {
        let target = target.as_ref();
        let io = |source| NpyError::io(target, "write it", source);
        let mut file = Unfinished::create(target).map_err(io)?;
        file.write(&header::encode(&descr(dtype), shape)).map_err(io)?;
        let elements: usize = shape.iter().product();
        Ok(Writer { target: target.to_owned(), file, missing: (elements * dtype.size()) as u64 })
    }

    /// Appends little-endian elements.
    ///
    /// # Errors
    /// Where the disk refuses them, or they are more than the shape takes.
    pub fn write(&mut self, elements: &[u8]) -> Result<(), NpyError> {
        let written = match self.missing.checked_sub(elements.len() as u64) {
            Some(rest) => self.file.write(elements).map(|()| self.missing = rest),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "more elements than its shape takes")),
        };
        written.map_err(|source| NpyError::io(&self.target, "write it", source))
    }

    /// Brings the file to disk, still without its name.
    ///
    /// # Errors
    /// Where the disk refuses, or elements are missing.
    pub fn finish(self) -> Result<Written, NpyError> {
        let Writer { target, file, missing } = self;
        let io = |source| NpyError::io(&target, "write it", source);
        if missing > 0 {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "fewer elements than its shape takes")));
        }
        let file = file.finish().map_err(io)?;
        Ok(Written { target, file })
    }
}

impl Written {
    /// Gives the file its name, in place of what stood there.
    ///
    /// # Errors
    /// Where the name cannot be taken.
    pub fn publish(self) -> Result<(), NpyError> {
        Written::publish_all(vec![self])
    }

    /// Gives several files their names. They get them one after the other and not at one instant, once all is done that may
    /// be refused before.
    ///
    /// # Errors
    /// Where a name cannot be taken; those before it have been by then, which the message says.
    pub fn publish_all(mut files: Vec<Written>) -> Result<(), NpyError> {
        let count = files.len();
        for (step, act) in Finished::STEPS.iter().enumerate() {
            for (index, Written { target, file }) in files.iter_mut().enumerate() {
                act(file).map_err(|source| {
                    let source = match (step, index) {
                        (Finished::NAMING, 1..) => io::Error::new(
                            source.kind(),
                            format!("{source}; {index} of {count} files have their names"),
                        ),
                        _ => source,
                    };
                    NpyError::io(target, "put it in place", source)
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
