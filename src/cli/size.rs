//! Sizes in bytes, as people write and read them.

/// Bytes of `8388608`, `8MiB` or `8MB`.
pub fn parse(text: &str) -> Result<u64, String> {
    tractlet_io::size(text).ok_or_else(|| {
        format!("`{text}` is not a size; expected a whole number of bytes, or one with a unit: 8MiB, 8MB, 512KiB")
    })
}

/// Three or more digits, in KiB below 1 MiB and in MiB above.
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// As [`human`], without digits that are zero: what an axis is marked with.
pub fn round(bytes: u64) -> String {
    let human = human(bytes);
    match human.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => human,
    }
}

/// As [`human`], with every byte: what a limit is held against.
pub fn exact(bytes: u64) -> String {
    if bytes < 1024 { human(bytes) } else { format!("{} ({bytes} B)", human(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        assert_eq!([human(1000), human(2048), human(3 << 20)], ["1000 B", "2.0 KiB", "3.00 MiB"]);
        assert_eq!([round(0), round(800), round(2048), round(3 << 19)], ["0 B", "800 B", "2 KiB", "1.5 MiB"]);
        assert_eq!([exact(1000), exact(2048)], ["1000 B", "2.0 KiB (2048 B)"]);
    }
}
