//! What the kernel says about this process, in /proc/self: status, smaps, smaps_rollup and stat.

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

/// Resident pages counted one by one, where the kernel adds up those of [`resident`] now and then only: all, and of
/// those the private ones of heap, stacks and their like, in bytes.
/// `None` where the kernel has no smaps_rollup (before 4.14) or hides it.
pub fn exact_bytes() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    field(&text, "Rss").zip(field(&text, "Anonymous"))
}

/// Page faults of the whole process since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Pages that were in memory already, or had only to be made.
    pub minor: u64,
    /// Pages that had to be read from a disk.
    pub major: u64,
}

impl Faults {
    /// Those since then.
    pub fn since(self, before: Faults) -> Faults {
        Faults { minor: self.minor.saturating_sub(before.minor), major: self.major.saturating_sub(before.major) }
    }
}

/// Reads /proc/self/stat.
///
/// # Errors
/// Where it cannot be read, or has no such numbers.
pub fn faults() -> io::Result<Faults> {
    parse_stat(&fs::read_to_string("/proc/self/stat")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has no page faults"))
}

/// Addresses that the main thread's stack takes (VmStk), in bytes. They only grow, but begin at what
/// the kernel sets aside, 132 KiB on most: so it is the most that was used only where it is more.
pub fn stack_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmStk")
}

/// Pages of the main thread's stack that were ever touched and are still held, in bytes: its
/// high-water mark in pages, since the kernel takes none of them back unless they are swapped out, and
/// those count too. `None` where smaps is hidden.
pub fn stack_touched_bytes() -> Option<u64> {
    parse_stack(&fs::read_to_string("/proc/self/smaps").ok()?)
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

/// The fields 10 and 12; the second is the program's name in brackets, in which anything may stand.
fn parse_stat(text: &str) -> Option<Faults> {
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let minor = fields.nth(10 - 3)?.parse().ok()?;
    let major = fields.nth(1)?.parse().ok()?;
    Some(Faults { minor, major })
}

fn parse_stack(smaps: &str) -> Option<u64> {
    let (_, stack) = smaps.split_once("[stack]\n")?;
    // Keys begin with a capital, the next mapping with its address in small hexadecimal digits.
    let lines: Vec<&str> =
        stack.lines().take_while(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    let block = lines.join("\n");
    Some(field(&block, "Rss")?.saturating_add(field(&block, "Swap").unwrap_or(0)))
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
    fn faults_are_read_behind_any_name() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 1234 8 56 10 11";
        assert_eq!(parse_stat(stat), Some(Faults { minor: 1234, major: 56 }));
        for odd in ["", "7 (a", "7 (a) R 1 2 3 4 5 6 1234 8", "7 (a) R 1 2 3 4 5 6 x 8 56"] {
            assert_eq!(parse_stat(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn the_stack_is_one_mapping_of_many() {
        let smaps = "7f00-7f01 rw-p 0 00:00 0 [heap]\nRss: 900 kB\nSwap: 9 kB\n7f02-7f03 rw-p 0 00:00 0  [stack]\n\
            Size: 132 kB\nRss: 40 kB\nSwap: 8 kB\nVmFlags: rd wr\n7f04-7f05 r--p 0 00:00 0 [vvar]\nRss: 7 kB\n";
        assert_eq!(parse_stack(smaps), Some(48 << 10));
        assert_eq!(parse_stack(&smaps.replace("Swap: 8 kB\n", "")), Some(40 << 10));
        assert_eq!(parse_stack(&smaps.replace("[stack]", "[other]")), None);
    }

    #[test]
    fn touched_pages_fault() {
        let before = faults().unwrap();
        let pages = std::hint::black_box(vec![1u8; 8 << 20]);
        assert!(faults().unwrap().minor > before.minor, "{}", pages.len());
    }

    #[test]
    fn this_process_is_resident() {
        let read = resident().unwrap();
        assert!(read.peak_bytes >= read.rss_bytes / 2 && read.rss_bytes > 0);
    }
}
