//! Whether a shared library is an ONNX Runtime that can be used.
//!
//! `ort::init_from` may be asked once in a process: version 2.0.0-rc.13 takes a library that it refused for loaded. So
//! it is given what was looked at here.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;

use libloading::Library;
use ort::sys::OrtApiBase;

/// A library that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("cannot be loaded: {0}")]
    Load(#[from] libloading::Error),
    #[error("is another library: it has no OrtGetApiBase")]
    Foreign,
    #[error("is too old: version {0}")]
    Old(String),
}

/// Loads it, for good.
pub(super) fn load(path: &Path) -> Result<(), Unfit> {
    // SAFETY: loading runs the library's initialisers. It is a file that the user named or installed to be used so, and
    // ONNX Runtime's ask for nothing but being run once.
    let library = unsafe { Library::new(path) }?;
    // SAFETY: the type is that of the C interface, which has been the same in all releases.
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") };
    let base = base.map_err(|_| Unfit::Foreign)?;
    // SAFETY: it takes nothing and answers with a table that lives as long as the library.
    let base = unsafe { base().as_ref() }.ok_or(Unfit::Foreign)?;
    // SAFETY: an entry of that table, which answers with a C string of static lifetime.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (1, ort::MINOR_VERSION) {
        return Err(Unfit::Old(version));
    }
    // It is never unloaded: `ort` keeps pointers into it.
    std::mem::forget(library);
    Ok(())
}
