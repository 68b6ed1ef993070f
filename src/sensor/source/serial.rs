//! Serial ports: 8 bits, no parity, one stop bit, no flow control, nothing translated.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{ControlModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

/// Opens a port, raw, at `baud` bits a second.
pub fn open(path: &Path, baud: u32) -> io::Result<File> {
    // NOCTTY: a hang-up of the sensor is no hang-up of the process. NONBLOCK: nor is carrier waited for.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let port = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = tcgetattr(&port).map_err(|error| match error {
        rustix::io::Errno::NOTTY => io::Error::new(io::ErrorKind::InvalidInput, "it is no serial port"),
        error => error.into(),
    })?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD | ControlModes::CS8;
    settings.control_modes &= !(ControlModes::PARENB | ControlModes::CSTOPB | ControlModes::CRTSCTS);
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings
        .set_speed(baud)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{baud} baud: {error}")))?;
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(File::from(port))
}
