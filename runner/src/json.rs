//! One JSON object, written field by field.

use alloc::string::String;
use core::fmt::{Display, Write};

#[derive(Default)]
pub struct Json(String);

impl Json {
    /// A field of the object that is open: `key: value`, the value being JSON already.
    pub fn field(&mut self, key: &str, value: impl Display) -> &mut Json {
        self.item(format_args!("\"{key}\":{value}"))
    }

    pub fn string(&mut self, key: &str, value: &str) -> &mut Json {
        let value = quoted(value);
        self.field(key, value)
    }

    /// A number; null where JSON has none.
    pub fn number(&mut self, key: &str, value: f64) -> &mut Json {
        if value.is_finite() { self.field(key, value) } else { self.field(key, "null") }
    }

    /// An element of the list that is open.
    pub fn item(&mut self, value: impl Display) -> &mut Json {
        if !matches!(self.0.chars().next_back(), None | Some('{' | '[')) {
            self.0.push(',');
        }
        // A String takes everything.
        let _ = write!(self.0, "{value}");
        self
    }

    pub fn open(&mut self, bracket: char) -> &mut Json {
        self.item(bracket)
    }

    /// Opens the value of a field.
    pub fn open_field(&mut self, key: &str, bracket: char) -> &mut Json {
        self.field(key, bracket)
    }

    pub fn close(&mut self, bracket: char) -> &mut Json {
        self.0.push(bracket);
        self
    }

    /// The object, with a line end.
    pub fn line(mut self) -> String {
        self.0.push('\n');
        self.0
    }
}

pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)),
            c => write!(quoted, "{c}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_and_nowhere_else() {
        let mut json = Json::default();
        json.open('{').string("a", "x\"\n").open_field("b", '[').open('{').field("c", 1).close('}').item(2).close(']');
        json.number("d", f64::NAN).number("e", 0.5).open_field("f", '[').close(']').close('}');
        assert_eq!(json.line(), "{\"a\":\"x\\\"\\u000a\",\"b\":[{\"c\":1},2],\"d\":null,\"e\":0.5,\"f\":[]}\n");
    }
}
