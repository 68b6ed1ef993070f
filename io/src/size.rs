/// Bytes of a size as people write it: `8388608`, `8MiB` or `8 MB`. `None` for anything else, 0 and what no u64 holds.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in
            [("8388608", 8 << 20), ("8MiB", 8 << 20), ("8 MB", 8_000_000), ("1kB", 1000), ("2GiB", 2 << 30)]
        {
            assert_eq!(size(text), Some(bytes));
        }
        for odd in ["", "MiB", "8mib", "-1", "1.5MiB", "0", "99999999999GiB", "board.toml"] {
            assert_eq!(size(odd), None, "{odd:?}");
        }
    }
}
