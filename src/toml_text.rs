//! TOML out of files, with faults that fit in a line.

use serde::de::DeserializeOwned;

/// Takes `text` for a `T`; of what is wrong with it, the line, a sentence and the key.
///
/// # Errors
/// Where it is no TOML, or none that a `T` can be made of.
///
/// ```
/// let values: Result<std::collections::BTreeMap<String, u64>, String> = tractlet::from_toml("a = 1\nb = -1\n");
/// let why = values.unwrap_err();
/// assert!(why.starts_with("line 2: ") && why.ends_with(", in `b`"));
/// ```
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let what = in_words(&error.message().replace('\n', ", "));
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return what };
        let (line, start) = (before.split('\n').count(), before.rfind('\n').map_or(0, |at| at + 1));
        // The key alone: a value may be an address with a password.
        let key = text.get(start..).and_then(|rest| rest.lines().next()?.split_once('=')).map(|(key, _)| key.trim());
        match key.filter(|key| !key.is_empty() && !what.contains(&format!("`{key}`"))) {
            Some(key) => format!("line {line}: {what}, in `{key}`"),
            None => format!("line {line}: {what}"),
        }
    })
}

/// Types as who writes TOML calls them.
fn in_words(what: &str) -> String {
    let Some((found, expected)) = what.rsplit_once("expected ") else { return what.to_owned() };
    let expected = match expected {
        "usize" | "u64" => "a whole number from 0",
        "u32" => "a whole number from 0 to 4294967295",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        name if name.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found}expected {expected}")
}
