//! What the kernel says about this process: /proc/self/status and /proc/self/smaps_rollup.

use std::fs;
use std::io;

/// Memory that is resident now, and the most since the process began or [`reset_peak`], in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All resident pages (VmRSS).
    pub rss_bytes: u64,
    /// The most of them at once (VmHWM).
    pub peak_bytes: u64,
    /// Heap, stacks and other private memory.
    pub anon_bytes: u64,
    /// The program, its libraries and mapped files.
    pub file_bytes: u64,
    /// Shared memory, the snapshot of a model included.
    pub shmem_bytes: u64,
}

/// Reads /proc/self/status.
///
/// # Errors
/// Where it cannot be read, or a field is missing.
pub fn resident() -> io::Result<Resident> {
    parse_status(&fs::read_to_string("/proc/self/status")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status lacks a Vm or Rss line"))
}

/// The process's share of its resident pages, each divided by the number of its users, in bytes.
/// `None` where the kernel has no smaps_rollup (before 4.14) or hides it.
pub fn pss_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/smaps_rollup").ok()?, "Pss")
}

/// Makes the resident peak start anew.
///
/// # Errors
/// Where the kernel does not let the process do so.
pub fn reset_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

fn parse_status(text: &str) -> Option<Resident> {
    Some(Resident {
        rss_bytes: field(text, "VmRSS")?,
        peak_bytes: field(text, "VmHWM")?,
        anon_bytes: field(text, "RssAnon")?,
        file_bytes: field(text, "RssFile")?,
        shmem_bytes: field(text, "RssShmem")?,
    })
}

/// Bytes of a line such as `VmRSS:      1234 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\ttractlet\nVmPeak:\t   12000 kB\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\n\
        RssAnon:\t    1024 kB\nRssFile:\t    3000 kB\nRssShmem:\t      72 kB\nThreads:\t1\n";

    #[test]
    fn status_is_read_in_bytes() {
        let read = parse_status(STATUS).unwrap();
        assert_eq!((read.rss_bytes, read.peak_bytes), (4096 * 1024, 5120 * 1024));
        assert_eq!((read.anon_bytes, read.file_bytes, read.shmem_bytes), (1024 * 1024, 3000 * 1024, 72 * 1024));
    }

    #[test]
    fn a_missing_or_odd_line_is_no_number() {
        assert_eq!(parse_status(&STATUS.replace("RssShmem", "Other")), None);
        assert_eq!(field("Pss:\t12 kB\nPss_Dirty: 3 kB\n", "Pss"), Some(12 * 1024));
        for odd in ["Pss: kB", "Pss: 12", "Pss: -1 kB", "Pss: 18446744073709551615 kB", "Pss 12 kB", ""] {
            assert_eq!(field(odd, "Pss"), None, "{odd:?}");
        }
    }

    #[test]
    fn this_process_is_resident() {
        let read = resident().unwrap();
        assert!(read.peak_bytes >= read.rss_bytes / 2 && read.rss_bytes > 0);
    }
}
