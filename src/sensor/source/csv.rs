//! Text: a frame a line, fields between commas, semicolons, tabs or spaces.
//!
//! The first line may name the columns. Lines that begin with `#` and empty lines say nothing.

use super::batch::Batch;
use super::malformed::{Malformed, Reason};
use super::spec::{Column, TimeColumn};
use super::{BUFFER_BYTES, Decoded};

pub struct Csv {
    wanted: Wanted,
    layout: Option<Layout>,
    /// The rest of a line that is too long is passed over.
    passing_over: bool,
    /// Lines so far.
    line: u64,
    /// A frame in the making.
    row: Vec<f64>,
}

/// Which columns are asked for.
pub struct Wanted {
    pub columns: Option<Vec<Column>>,
    pub time: Option<TimeColumn>,
    /// Names of the model's channels.
    pub channels: Vec<String>,
}

/// What the first line told.
struct Layout {
    separator: Separator,
    /// What each column is.
    roles: Vec<Role>,
    time_ns: f64,
    header: bool,
}

#[derive(Clone, Copy)]
enum Role {
    Ignored,
    Channel(usize),
    Time,
}

#[derive(Clone, Copy)]
enum Separator {
    Char(char),
    Space,
}

impl Csv {
    pub fn new(wanted: Wanted) -> Csv {
        let row = vec![0.0; wanted.channels.len()];
        Csv { wanted, layout: None, passing_over: false, line: 0, row }
    }

    /// The file begins again: if its first line named columns, it is no frame this time either.
    pub fn rewind(&mut self) {
        self.layout = None;
        self.passing_over = false;
    }

    /// Decodes one line. `last` says that nothing follows `bytes`; in a recording the last line needs no line feed,
    /// elsewhere what lacks it was cut off.
    pub fn decode(&mut self, bytes: &[u8], last: bool, recorded: bool, batch: &mut Batch) -> Decoded {
        let feed = bytes.iter().position(|&byte| byte == b'\n');
        let (line, used) = match feed {
            Some(at) => (bytes.get(..at).unwrap_or_default(), at + 1),
            None if last || bytes.len() >= BUFFER_BYTES => (bytes, bytes.len()),
            None => return Decoded::More,
        };
        if feed.is_none() && !last {
            // Its number is told once; the rest of it is passed over.
            let first = !std::mem::replace(&mut self.passing_over, true);
            return if first { self.fault(used, Reason::TooLong) } else { Decoded::Nothing(used) };
        }
        if std::mem::take(&mut self.passing_over) {
            return Decoded::Nothing(used);
        }
        let text = match std::str::from_utf8(line) {
            // A byte order mark says nothing about the first column's name.
            Ok(text) => text.trim_start_matches('\u{feff}').trim(),
            Err(_) => return self.fault(used, Reason::NotANumber { field: 1 }),
        };
        if text.is_empty() || text.starts_with('#') {
            self.line += 1;
            return Decoded::Nothing(used);
        }
        if feed.is_none() && !recorded {
            return self.fault(used, Reason::Incomplete { bytes: line.len(), expected: 0 });
        }
        if self.layout.is_none() {
            match Layout::of(text, &self.wanted) {
                Ok(layout) => {
                    let header = layout.header;
                    self.layout = Some(layout);
                    if header {
                        self.line += 1;
                        return Decoded::Nothing(used);
                    }
                }
                Err(what) if recorded => return Decoded::Unfit(format!("line {}: {what}", self.line + 1)),
                // A port is opened in the midst of a line as often as not.
                Err(_) => {
                    let (found, expected) = (Separator::of(text).split(text).count(), self.wanted.channels.len());
                    return self.fault(used, Reason::Fields { found, expected });
                }
            }
        }
        match self.frame(text, batch) {
            Ok(()) => {
                self.line += 1;
                Decoded::Frame(used)
            }
            Err(reason) => self.fault(used, reason),
        }
    }

    fn frame(&mut self, text: &str, batch: &mut Batch) -> Result<(), Reason> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let mut fields = layout.separator.split(text);
        let mut time = None;
        let mut found = 0;
        for (index, (role, field)) in layout.roles.iter().zip(&mut fields).enumerate() {
            found += 1;
            if matches!(role, Role::Ignored) {
                continue;
            }
            let number: f64 = field.parse().map_err(|_| Reason::NotANumber { field: index + 1 })?;
            if !number.is_finite() {
                return Err(Reason::NotFinite { field: index + 1 });
            }
            match role {
                Role::Channel(channel) => self.row.iter_mut().skip(*channel).take(1).for_each(|v| *v = number),
                // Below zero there is no time; past 584 years it stands still.
                _ => time = Some((number * layout.time_ns) as u64),
            }
        }
        found += fields.count();
        if found != layout.roles.len() {
            return Err(Reason::Fields { found, expected: layout.roles.len() });
        }
        batch.push(&self.row, time).map_err(|channel| Reason::NotFinite { field: channel + 1 })
    }

    fn fault(&mut self, used: usize, reason: Reason) -> Decoded {
        self.line += 1;
        Decoded::Malformed(used, Malformed { what: "line", number: self.line, reason })
    }
}

impl Separator {
    fn of(text: &str) -> Separator {
        [',', ';', '\t'].into_iter().find(|c| text.contains(*c)).map_or(Separator::Space, Separator::Char)
    }

    fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let (by_char, by_space) = match self {
            Separator::Char(c) => (Some(text.split(c).map(str::trim)), None),
            Separator::Space => (None, Some(text.split_ascii_whitespace())),
        };
        by_char.into_iter().flatten().chain(by_space.into_iter().flatten())
    }
}

impl Layout {
    /// Finds the columns by the first line, which is a header if a field of it is no number.
    fn of(text: &str, wanted: &Wanted) -> Result<Layout, String> {
        let separator = Separator::of(text);
        let fields: Vec<&str> = separator.split(text).map(|field| field.trim_matches('"')).collect();
        let header = fields.iter().any(|field| field.parse::<f64>().is_err());
        let there = || match header {
            true => format!("the columns are {}", fields.join(", ")),
            false => format!("there are {} columns, and no header", fields.len()),
        };
        let find = |column: &Column| {
            let index = match column {
                Column::Number(number) => number.checked_sub(1).filter(|index| *index < fields.len()),
                Column::Name(name) => fields.iter().position(|field| header && field == name),
            };
            index.ok_or_else(|| format!("no column {column}: {}", there()))
        };
        let mut roles = vec![Role::Ignored; fields.len()];
        let mut assign = |index: usize, role| match roles.get_mut(index) {
            Some(free @ Role::Ignored) => {
                *free = role;
                Ok(())
            }
            _ => Err(format!("column {} is asked for twice", index + 1)),
        };
        if let Some(time) = &wanted.time {
            assign(find(&time.column)?, Role::Time)?;
        }
        let named = || wanted.channels.iter().all(|name| fields.contains(&name.as_str()));
        let others = fields.len() - usize::from(wanted.time.is_some());
        if let Some(columns) = &wanted.columns {
            for (channel, column) in columns.iter().enumerate() {
                assign(find(column)?, Role::Channel(channel))?;
            }
        } else if header && named() {
            for (channel, name) in wanted.channels.iter().enumerate() {
                assign(find(&Column::Name(name.clone()))?, Role::Channel(channel))?;
            }
        } else if others == wanted.channels.len() {
            for (channel, role) in roles.iter_mut().filter(|role| matches!(role, Role::Ignored)).enumerate() {
                *role = Role::Channel(channel);
            }
        } else {
            let channels = wanted.channels.join(", ");
            return Err(format!("the model takes {channels}; {}: say which with --columns", there()));
        }
        Ok(Layout { separator, roles, time_ns: wanted.time.as_ref().map_or(0.0, |time| time.unit_ns), header })
    }
}
