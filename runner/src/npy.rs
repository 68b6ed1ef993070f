//! .npy files: samples of an input, and outputs.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use tractlet_core::plan::{DType, Port};
use tractlet_io::npy::{ByteOrder, PREFIX_BYTES, count_samples, encode, locate, parse, without_batch};
use tractlet_io::{give_name, unnamed};

use crate::os;

/// A file as a list of samples of one input.
pub struct Samples {
    pub path: CString,
    pub count: usize,
    file: OwnedFd,
    start: u64,
    order: ByteOrder,
    element_bytes: usize,
}

impl Samples {
    /// Opens a file whose type is the input's, and whose shape is the input's or a list of it.
    pub fn open(path: &CStr, port: &Port<'_>) -> Result<Samples, String> {
        let refused = |what: String| format!("{}: {what}", os::shown(path));
        let (file, len) = os::open(path)?;
        let mut prefix = [0; PREFIX_BYTES];
        let read = |bytes: &mut [u8], at| {
            os::read_at(&file, bytes, at).map_err(|why| refused(format!("cannot read its header: {why}")))
        };
        read(&mut prefix, 0)?;
        let (start, header_bytes) = locate(&prefix).map_err(|fault| refused(fault.to_string()))?;
        let mut header = vec![0; header_bytes];
        read(&mut header, start as u64)?;
        let header = parse(&header).map_err(|fault| refused(fault.to_string()))?;
        if header.code() != code(port.dtype) {
            let takes = port.dtype.name();
            let holds = format!("it holds `{}`, input `{}` takes {takes}", header.descr, port.name);
            return Err(refused(format!("{holds}; convert it: x.astype('{takes}')")));
        }
        let element_bytes = port.dtype.size_bytes();
        let start = (start + header_bytes) as u64;
        if header.data_bytes(element_bytes).and_then(|bytes| bytes.checked_add(start)) != Some(len) {
            return Err(refused(format!("shape {:?} does not fit its {len} bytes", header.shape)));
        }
        let count = count_samples(&header.shape, port.shape()).filter(|count| *count > 0).ok_or_else(|| {
            let found = format!("shape {:?} does not fit input `{}`", header.shape, port.name);
            refused(format!("{found}; expected {:?} for one sample, or a list of it", port.shape()))
        })?;
        Ok(Samples { path: path.into(), count, file, start, order: header.order, element_bytes })
    }

    /// Reads one sample into a buffer of its size.
    pub fn read(&self, sample: usize, out: &mut [u8]) -> Result<(), String> {
        let at = self.start + sample as u64 * out.len() as u64;
        os::read_at(&self.file, out, at)
            .map_err(|why| format!("{}: cannot read its data: {why}", os::shown(&self.path)))?;
        if self.order == ByteOrder::Big {
            out.chunks_exact_mut(self.element_bytes).for_each(<[u8]>::reverse);
        }
        Ok(())
    }
}

/// A file of outputs in the making: it takes its name in [`publish`], and goes without.
pub struct Writer {
    target: CString,
    /// Open, so that what cannot be brought to disk is not begun.
    folder: OwnedFd,
    file: OwnedFd,
    /// A name beside its own: from the beginning, where there are no files without one.
    temp: Option<CString>,
}

impl Writer {
    /// Begins a file of `samples` outputs beside `target`.
    pub fn create(target: &CStr, port: &Port<'_>, samples: usize) -> Result<Writer, String> {
        let refused = |what: &str| format!("{}: cannot write it: {what}", os::shown(target));
        let mode = match rustix::fs::statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                return Err(refused("it is there and is not a regular file"));
            }
            Ok(stat) => Some(Mode::from_raw_mode(stat.st_mode & 0o777)),
            Err(_) => None,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let folder = rustix::fs::openat(CWD, os::folder_and_name(target).0.as_c_str(), flags, Mode::empty())
            .map_err(|error| refused(&format!("its folder cannot be opened: {}", os::reason(error))))?;
        // As any new file: the umask decides. What takes the place of another has its permissions.
        let as_new = mode.unwrap_or(Mode::from_raw_mode(0o666));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let make = |name: &CStr| rustix::fs::openat(&folder, name, flags, as_new);
        let (file, temp) = match unnamed(&folder, as_new) {
            Some(file) => (file, None),
            None => {
                let (file, temp) = beside(make).map_err(|error| refused(&os::reason(error)))?;
                (file, Some(temp))
            }
        };
        let writer = Writer { target: target.into(), folder, file, temp };
        mode.map_or(Ok(()), |mode| rustix::fs::fchmod(&writer.file, mode)).map_err(|error| writer.refused(error))?;
        let shape: Vec<usize> = core::iter::once(samples).chain(without_batch(port.shape()).iter().copied()).collect();
        let order = if port.dtype.size_bytes() == 1 { '|' } else { '<' };
        writer.write(&encode(&format!("{order}{}", code(port.dtype)), &shape))?;
        Ok(writer)
    }

    pub fn write(&self, bytes: &[u8]) -> Result<(), String> {
        os::write_all(&self.file, bytes).map_err(|error| self.refused(error))
    }

    /// Brings it to disk, still without its name.
    pub fn finish(&self) -> Result<(), String> {
        rustix::fs::fsync(&self.file).map_err(|error| self.refused(error))
    }

    /// Has a name beside its own.
    fn stand_by(&mut self) -> Result<(), Errno> {
        if self.temp.is_none() {
            self.temp = Some(beside(|name| give_name(&self.file, &self.folder, name))?.1);
        }
        Ok(())
    }

    fn take_name(&mut self) -> Result<(), Errno> {
        let Some(temp) = &self.temp else { return Ok(()) };
        let (_, name) = os::folder_and_name(&self.target);
        rustix::fs::renameat(&self.folder, temp.as_c_str(), &self.folder, name)?;
        self.temp = None;
        Ok(())
    }

    /// The name is on disk once its folder is.
    fn settle(&mut self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.folder)
    }

    fn refused(&self, error: Errno) -> String {
        format!("{}: cannot write it: {}", os::shown(&self.target), os::reason(error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            let _ = rustix::fs::unlinkat(&self.folder, temp.as_c_str(), AtFlags::empty());
        }
    }
}

/// Gives files their names, in place of what stood there: one after the other, but all that may be refused before is done before
/// the first.
pub fn publish(mut writers: Vec<Writer>) -> Result<(), String> {
    for step in [Writer::stand_by, Writer::take_name, Writer::settle] {
        for writer in &mut writers {
            step(writer).map_err(|error| writer.refused(error))?;
        }
    }
    Ok(())
}

/// Has something made under a name that nothing has.
fn beside<T>(make: impl Fn(&CStr) -> Result<T, Errno>) -> Result<(T, CString), Errno> {
    let mut seed = os::nanoseconds();
    loop {
        let temp = CString::new(format!(".tractlet-{seed:x}.part")).map_err(|_| Errno::INVAL)?;
        match make(&temp) {
            Ok(made) => return Ok((made, temp)),
            Err(Errno::EXIST) => seed = seed.wrapping_add(1),
            Err(error) => return Err(error),
        }
    }
}

/// The type as .npy headers name it.
fn code(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f4",
        DType::I8 => "i1",
        DType::U8 => "u1",
        DType::Bool => "b1",
        DType::I32 => "i4",
        DType::I64 => "i8",
    }
}
