//! Users and passwords in addresses, kept out of what clap says of a command line.

/// `text` without the logins that are in `words`.
pub fn masked(text: String, words: &[String]) -> String {
    words.iter().filter_map(|word| login(word)).fold(text, |text, login| text.replace(login, ":***@"))
}

/// Ends the process as clap does.
pub fn exit(error: &clap::Error) -> ! {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if !error.use_stderr() || words.iter().all(|word| login(word).is_none()) {
        error.exit();
    }
    // Where stderr is gone there is nobody to tell.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), masked(error.to_string(), &words).as_bytes());
    std::process::exit(error.exit_code());
}

/// From the scheme's colon to the last @, however wrong the address is otherwise.
fn login(word: &str) -> Option<&str> {
    let start = word.find("://").or_else(|| word.find("mqtt:").map(|at| at + "mqtt".len()))?;
    word.get(start..=word.rfind('@')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_login_is_left_in_what_is_said_of_an_address() {
        for (word, shown) in [
            ("mqtt://ann:p@ss@h:x/a", "mqtt:***@h:x/a"),
            ("--sink=MQTTS://ann:p/s@h/a", "--sink=MQTTS:***@h/a"),
            ("mqtt:ann:p@h", "mqtt:***@h"),
            ("mqtt://h/a", "mqtt://h/a"),
            ("ann@h", "ann@h"),
        ] {
            let told = masked(format!("invalid value '{word}' for"), &[word.to_owned()]);
            assert_eq!(told, format!("invalid value '{shown}' for"));
        }
    }
}
