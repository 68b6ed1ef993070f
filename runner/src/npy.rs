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

/// A file of outputs in the making: it takes its name in [`Writer::publish`], and goes without.
pub struct Writer {
    target: CString,
    temp: CString,
    file: OwnedFd,
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
        // As any new file: the umask decides. What takes the place of another has its permissions.
        let (temp, file) =
            beside(target, mode.unwrap_or(Mode::from_raw_mode(0o666))).map_err(|error| refused(&os::reason(error)))?;
        let writer = Writer { target: target.into(), temp, file };
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

    /// Gives it its name, in place of what stood there.
    pub fn publish(self) -> Result<(), String> {
        rustix::fs::renameat(CWD, self.temp.as_c_str(), CWD, self.target.as_c_str())
            .map_err(|error| self.refused(error))?;
        // The name is on disk once its folder is.
        let (folder, _) = os::folder_and_name(&self.target);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let folder =
            rustix::fs::openat(CWD, folder.as_c_str(), flags, Mode::empty()).map_err(|error| self.refused(error))?;
        rustix::fs::fsync(&folder).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: Errno) -> String {
        format!("{}: cannot write it: {}", os::shown(&self.target), os::reason(error))
    }
}

impl Drop for Writer {
    /// Where it has its name there is nothing left to remove.
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(CWD, self.temp.as_c_str(), AtFlags::empty());
    }
}

/// A new file beside another.
fn beside(target: &CStr, mode: Mode) -> Result<(CString, OwnedFd), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let (folder, _) = os::folder_and_name(target);
    let mut seed = os::nanoseconds();
    loop {
        let name = format!("/.tractlet-{seed:x}.part");
        let temp = CString::new([folder.to_bytes(), name.as_bytes()].concat()).map_err(|_| Errno::INVAL)?;
        match rustix::fs::openat(CWD, temp.as_c_str(), flags, mode) {
            Ok(file) => return Ok((temp, file)),
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
