//! What the kernel says about this process, in /proc/self: status, smaps, smaps_rollup and stat.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

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

/// Resident pages by what is in them, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Heap, stacks and other private memory.
    pub anon_bytes: u64,
    /// The program, its libraries and mapped files.
    pub file_bytes: u64,
    /// Shared memory, the snapshot of a model included.
    pub shmem_bytes: u64,
}

impl Kinds {
    /// All of them.
    pub fn all_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.file_bytes).saturating_add(self.shmem_bytes)
    }
}

/// Resident pages by what is in them, now.
///
/// # Errors
/// Where /proc cannot be read.
pub fn kinds() -> io::Result<Kinds> {
    read_kinds(&open_kinds()?)
}

/// What [`open_kinds`] opened, read anew and without an allocation.
pub(super) fn read_kinds(file: &File) -> io::Result<Kinds> {
    // The longest of what /proc has is some 1500 bytes.
    let mut text = [0; 4096];
    let length = file.read_at(&mut text, 0)?;
    let kinds = text.get(..length).and_then(parse_kinds);
    kinds.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self lacks a size"))
}

/// The file that [`parse_kinds`] reads, to be read from its start time and again: smaps_rollup, which is exact, where
/// it tells kinds apart (from 5.4), and status otherwise.
pub(super) fn open_kinds() -> io::Result<File> {
    if fs::read("/proc/self/smaps_rollup").is_ok_and(|text| parse_kinds(&text).is_some()) {
        return File::open("/proc/self/smaps_rollup");
    }
    File::open("/proc/self/status")
}

fn parse_kinds(text: &[u8]) -> Option<Kinds> {
    let text = str::from_utf8(text).ok()?;
    if let Some(read) = parse_status(text) {
        let Resident { anon_bytes, file_bytes, shmem_bytes, .. } = read;
        return Some(Kinds { anon_bytes, file_bytes, shmem_bytes });
    }
    let (all, anon_bytes) = field(text, "Rss").zip(field(text, "Anonymous"))?;
    // A snapshot has no other user, so that its share is all of it.
    let shmem_bytes = field(text, "Pss_Shmem")?;
    Some(Kinds { anon_bytes, file_bytes: all.saturating_sub(anon_bytes).saturating_sub(shmem_bytes), shmem_bytes })
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
    fn kinds_are_told_apart_by_either_file() {
        let rollup = "5581-7ffd ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss: 300 kB\nPss_Anon: 90 kB\n\
            Pss_Shmem: 60 kB\nAnonymous: 100 kB\n";
        let kinds = |anon: u64, file: u64, shmem: u64| Kinds {
            anon_bytes: anon << 10,
            file_bytes: file << 10,
            shmem_bytes: shmem << 10,
        };
        assert_eq!(parse_kinds(rollup.as_bytes()), Some(kinds(100, 740, 60)));
        assert_eq!(parse_kinds(STATUS.as_bytes()), Some(kinds(1024, 3000, 72)));
        assert_eq!(parse_kinds(rollup.replace("Pss_Shmem", "Pss_Other").as_bytes()), None);
        assert_eq!(kinds(1, 2, 3).all_bytes(), 6 << 10);
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
