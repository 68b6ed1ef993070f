//! Text: a frame a line, fields between commas, semicolons, tabs or spaces, in quotes or not; a separator at a line's end
//! begins no field.
//!
//! The first line may name the columns: by the model's names of channels or those of --columns, or else with no number in it.
//! Where a model names its channels and a header does not, position says nothing of which is which. Of a live source a header
//! has to name what is asked for: who opens a port finds half a
//! line there as often as a header. Half a line of numbers looks like a whole one, so the first of a port is never taken for
//! one. Lines that begin with `#` and empty lines say nothing.

use super::batch::Batch;
use super::malformed::{Malformed, NOT_TEXT, Reason};
use super::spec::{Column, TimeColumn};
use super::{BUFFER_BYTES, Decoded};

pub struct Csv {
    wanted: Wanted,
    layout: Option<Layout>,
    /// The rest of a line that is too long is passed over.
    passing_over: bool,
    /// It was opened where a line may have begun before.
    in_midst: bool,
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
    /// They are the recipe's own, which a header has to have.
    pub named: bool,
}

/// A first line that does not give what is asked for.
#[derive(Debug, PartialEq)]
struct Misfit {
    what: String,
    /// It names some of the model's channels, or as many others: by chance half a line does neither.
    is_header: bool,
}

impl From<String> for Misfit {
    fn from(what: String) -> Misfit {
        Misfit { what, is_header: false }
    }
}

/// What the first line told.
struct Layout {
    separator: Separator,
    /// What each column is.
    roles: Vec<Role>,
    time_ns: f64,
    /// The line has names in it.
    header: bool,
    /// And numbers: by position it is a broken frame.
    mixed: bool,
    /// Columns were found by those names.
    by_name: bool,
}

#[derive(Clone, Copy)]
enum Role {
    Ignored,
    Channel(usize),
    Time,
}

#[derive(Clone, Copy)]
pub enum Separator {
    Char(char),
    Space,
}

impl Csv {
    pub fn new(wanted: Wanted) -> Csv {
        let row = vec![0.0; wanted.channels.len()];
        Csv { wanted, layout: None, passing_over: false, in_midst: false, line: 0, row }
    }

    /// One whose first line may lack its beginning.
    pub fn begun_in_midst(self) -> Csv {
        Csv { in_midst: true, ..self }
    }

    /// The file begins again: if its first line named columns, it is no frame this time either.
    pub fn rewind(&mut self) {
        self.layout = None;
        self.passing_over = false;
    }

    /// Decodes one line. `last` says that nothing follows `bytes`; in a recording the last line needs no line feed,
    /// elsewhere what lacks it was cut off.
    pub fn decode(&mut self, bytes: &[u8], last: bool, recorded: bool, batch: &mut Batch) -> Decoded {
        let decoded = self.decode_line(bytes, last, recorded, batch);
        let is_unsound = matches!(decoded, Decoded::Unfit(_) | Decoded::Malformed(..));
        let line = end_of_line(bytes, last, recorded).and_then(|(end, _)| bytes.get(..end)).unwrap_or(bytes);
        if !is_unsound || !has_controls(line) {
            return decoded;
        }
        match decoded {
            // A recording that begins so has nothing else behind it.
            Decoded::Malformed(..) if recorded && self.layout.is_none() => {
                Decoded::Unfit(format!("line {}: {NOT_TEXT}", self.line))
            }
            Decoded::Malformed(used, Malformed { what, number, .. }) => {
                Decoded::Malformed(used, Malformed { what, number, reason: Reason::NotText })
            }
            _ => Decoded::Unfit(format!("line {}: {NOT_TEXT}", self.line + 1)),
        }
    }

    fn decode_line(&mut self, bytes: &[u8], last: bool, recorded: bool, batch: &mut Batch) -> Decoded {
        let feed = end_of_line(bytes, last, recorded);
        let (line, used) = match feed {
            Some((end, used)) => (bytes.get(..end).unwrap_or_default(), used),
            None if last || bytes.len() >= BUFFER_BYTES => (bytes, bytes.len()),
            None => return Decoded::More,
        };
        if feed.is_none() && !last {
            // Its number is told once; the rest of it is passed over.
            let first = !std::mem::replace(&mut self.passing_over, true);
            return if first { self.fault(used, Reason::TooLong) } else { Decoded::Nothing(used) };
        }
        let in_midst = std::mem::take(&mut self.in_midst);
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
                Ok(layout) if layout.header && !layout.by_name && (layout.mixed || !recorded) => {
                    return self.fault(used, Reason::NotANumber { field: first_name(text) });
                }
                Ok(layout) if !layout.header && in_midst => return self.fault(used, Reason::Headless),
                Ok(layout) => {
                    let header = layout.header;
                    self.layout = Some(layout);
                    if header {
                        self.line += 1;
                        return Decoded::Nothing(used);
                    }
                }
                Err(Misfit { what, is_header }) if recorded || is_header => {
                    return Decoded::Unfit(format!("line {}: {what}", self.line + 1));
                }
                // A port is opened in the midst of a line as often as not.
                Err(_) => {
                    let found = Separator::of(text).split(text).count();
                    let expected = self.wanted.channels.len() + usize::from(self.wanted.time.is_some());
                    return self.fault(
                        used,
                        match found == expected {
                            true => Reason::NotANumber { field: first_name(text) },
                            false => Reason::Fields { found, expected },
                        },
                    );
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

    /// The source broke after so many bytes of a line.
    pub fn cut_off(&self, bytes: usize) -> Malformed {
        Malformed { what: "line", number: self.line + 1, reason: Reason::Incomplete { bytes, expected: 0 } }
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
                _ => time = Some(nanoseconds(number * layout.time_ns).ok_or(Reason::Time { field: index + 1 })?),
            }
        }
        let more = fields.count();
        found += more - usize::from(more == 1 && layout.separator.ends(text));
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
    pub fn of(text: &str) -> Separator {
        let found = [',', ';', '\t'].into_iter().find(|c| text.contains(outside_quotes(*c)));
        found.map_or(Separator::Space, Separator::Char)
    }

    pub fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let (by_char, by_space) = match self {
            Separator::Char(c) => (Some(text.split(outside_quotes(c)).map(bare)), None),
            Separator::Space => (None, Some(text.split_ascii_whitespace().map(bare))),
        };
        by_char.into_iter().flatten().chain(by_space.into_iter().flatten())
    }

    /// Whether a line ends with one, behind which nothing comes.
    fn ends(self, text: &str) -> bool {
        matches!(self, Separator::Char(c) if text.ends_with(c))
    }
}

/// Where a separator separates: within quotes, which open at the start of a field alone, it is part of one (RFC 4180).
fn outside_quotes(separator: char) -> impl FnMut(char) -> bool {
    enum At {
        Start,
        Bare,
        Quoted,
        /// Behind a quote in a field that one opened: its end, or the first of two that stand for one.
        Quote,
    }
    let mut at = At::Start;
    move |c| {
        let separates = c == separator && !matches!(at, At::Quoted);
        at = match at {
            _ if separates => At::Start,
            At::Start if c.is_whitespace() => At::Start,
            At::Start | At::Quote if c == '"' => At::Quoted,
            At::Quoted if c == '"' => At::Quote,
            At::Quoted => At::Quoted,
            At::Start | At::Bare | At::Quote => At::Bare,
        };
        separates
    }
}

/// A field without the space and the quotes around it.
fn bare(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).map_or(field, str::trim)
}

impl Layout {
    /// Finds the columns by the first line, which is a header if a field of it is no number.
    fn of(text: &str, wanted: &Wanted) -> Result<Layout, Misfit> {
        let separator = Separator::of(text);
        let mut fields: Vec<&str> = separator.split(text).collect();
        if separator.ends(text) {
            fields.pop();
        }
        let names = fields.iter().filter(|field| field.parse::<f64>().is_err()).count();
        let (header, mixed) = (names > 0, (1..fields.len()).contains(&names));
        let there = || match header {
            true => format!("the columns are {}", fields.join(", ")),
            false => format!("there are {} columns, and no header", fields.len()),
        };
        // As it is written, or else whatever its case.
        let named = |name: &str| {
            let exact = fields.iter().position(|field| header && *field == name);
            let same = |field: &&str| header && field.to_lowercase() == name.to_lowercase();
            exact.or_else(|| fields.iter().position(same))
        };
        let find = |column: &Column| {
            let index = match column {
                Column::Number(number) => number.checked_sub(1).filter(|index| *index < fields.len()),
                Column::Name(name) => named(name),
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
        let (here, missing): (Vec<_>, Vec<_>) =
            wanted.channels.iter().map(String::as_str).partition(|name| named(name).is_some());
        let mut by_name = matches!(&wanted.time, Some(TimeColumn { column: Column::Name(_), .. }));
        let as_many = fields.len() - usize::from(wanted.time.is_some()) == wanted.channels.len();
        // A line with numbers in it is no header, but a frame that is broken.
        let names_others = wanted.named && header && !mixed;
        if let Some(columns) = &wanted.columns {
            for (channel, column) in columns.iter().enumerate() {
                assign(find(column)?, Role::Channel(channel))?;
                by_name |= matches!(column, Column::Name(_));
            }
        } else if missing.is_empty() {
            by_name = true;
            for (channel, name) in wanted.channels.iter().enumerate() {
                assign(find(&Column::Name(name.clone()))?, Role::Channel(channel))?;
            }
        } else if !here.is_empty() {
            let (here, missing) = (here.join(", "), missing.join(", "));
            let what = format!("the header names {here} and not {missing}: say which columns with --columns");
            return Err(Misfit { what, is_header: true });
        } else if as_many && !names_others {
            for (channel, role) in roles.iter_mut().filter(|role| matches!(role, Role::Ignored)).enumerate() {
                *role = Role::Channel(channel);
            }
        } else {
            let channels = wanted.channels.join(", ");
            let what = format!("the model takes {channels}; {}: say which with --columns", there());
            // As often it is what a device says when it starts.
            return Err(Misfit { what, is_header: false });
        }
        let time_ns = wanted.time.as_ref().map_or(0.0, |time| time.unit_ns);
        Ok(Layout { separator, roles, time_ns, header, mixed, by_name })
    }
}

/// A time as it is kept; none before 0, nor past 584 years.
fn nanoseconds(ns: f64) -> Option<u64> {
    (ns >= 0.0 && ns < 2f64.powi(64)).then_some(ns as u64)
}

/// Where a line ends, and where the next one begins: behind a line feed, or in a recording behind a carriage return, as old
/// spreadsheets write them, with one.
fn end_of_line(bytes: &[u8], last: bool, recorded: bool) -> Option<(usize, usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n' || recorded && byte == b'\r')?;
    match bytes.get(end..)? {
        [b'\r', b'\n', ..] => Some((end, end + 2)),
        // What comes next may be its line feed.
        [b'\r'] if !last => None,
        _ => Some((end, end + 1)),
    }
}

/// Bytes below a space that are no tab or carriage return stand in no text.
fn has_controls(line: &[u8]) -> bool {
    line.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\r'))
}

/// The first field that is no number, from 1.
fn first_name(text: &str) -> usize {
    let fields = Separator::of(text).split(text);
    fields.take_while(|field| field.parse::<f64>().is_ok()).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(columns: Option<Vec<Column>>) -> Wanted {
        Wanted { columns, time: None, channels: ["x", "y"].map(String::from).to_vec(), named: true }
    }

    fn first_line(text: &str, recorded: bool) -> Decoded {
        let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, recorded, false);
        Csv::new(wanted(None)).decode(text.as_bytes(), false, recorded, &mut batch)
    }

    #[test]
    fn a_header_that_names_some_channels_is_not_taken_by_position() {
        let layout = |text: &str| Layout::of(text, &wanted(None)).map(|layout| (layout.header, layout.by_name));
        assert_eq!(layout("x,y"), Ok((true, true)));
        assert_eq!(layout("1,2"), Ok((false, false)));
        let told = layout("y,z").unwrap_err();
        let what = "the header names y and not x: say which columns with --columns".to_owned();
        assert_eq!(told, Misfit { what, is_header: true });
        assert!(matches!(first_line("y,z\n", false), Decoded::Unfit(_)), "nor of a live source");
        let named = wanted(Some(vec![Column::Name("z".into()), Column::Name("y".into())]));
        assert!(Layout::of("y,z", &named).is_ok_and(|layout| layout.by_name));
    }

    #[test]
    fn a_header_that_names_no_channel_is_not_taken_by_position() {
        let told = "the model takes x, y; the columns are b, a: say which with --columns";
        let Decoded::Unfit(what) = first_line("b,a\n", true) else { panic!("it is a header") };
        assert_eq!(what, format!("line 1: {told}"));
        // A live source may say something when it starts, and frames come behind it.
        let banner = first_line("Sensor ready\n", false);
        assert!(matches!(banner, Decoded::Malformed(_, Malformed { reason: Reason::NotANumber { field: 1 }, .. })));
        // Nor where there is a column for the time.
        let time = Some(TimeColumn { column: Column::Name("t".into()), unit_ns: 1.0 });
        assert!(Layout::of("t,b,a", &Wanted { time, ..wanted(None) }).is_err());
        // Whoever counted its channels took them as they come, and so does who counts columns.
        assert!(Layout::of("b,a", &Wanted { named: false, ..wanted(None) }).is_ok_and(|layout| !layout.by_name));
        let by_number = wanted(Some(vec![Column::Number(2), Column::Number(1)]));
        assert!(Layout::of("b,a", &by_number).is_ok_and(|layout| !layout.by_name));
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, true, false);
        let mut csv = Csv::new(wanted(None));
        assert!(matches!(csv.decode(b"Y,X\n", false, true, &mut batch), Decoded::Nothing(4)));
        assert!(matches!(csv.decode(b"1,2\n", false, true, &mut batch), Decoded::Frame(4)));
        assert_eq!(batch.values(), [2.0, 1.0]);
        let both = Layout::of("X,x,y", &wanted(None)).unwrap();
        assert!(
            matches!(both.roles[..], [Role::Ignored, Role::Channel(0), Role::Channel(1)]),
            "as written comes first"
        );
    }

    #[test]
    fn fields_in_quotes_and_a_separator_at_the_end_are_read_as_others_write_them() {
        let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, true, false);
        let mut csv = Csv::new(wanted(None));
        let lines = ["\"note, of a \"\"walk\"\"\",\"x\",y,", "\"a,b;c\",1,\"2\",", "\"d\",3,4", "5\" pipe,5,6"];
        for line in lines {
            let told = csv.decode(format!("{line}\n").as_bytes(), false, true, &mut batch);
            assert!(matches!(told, Decoded::Nothing(_) | Decoded::Frame(_)), "{line}");
        }
        assert_eq!(batch.values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // One field too many, one that is missing, and a quote without its other.
        for line in ["a,1,2,3", "a,1,", "\"a,1,2"] {
            let told = csv.decode(format!("{line}\n").as_bytes(), false, true, &mut batch);
            assert!(matches!(told, Decoded::Malformed(..)), "{line}");
        }
    }

    #[test]
    fn raw_samples_are_told_from_text() {
        let decode = |[first, second]: [&[u8]; 2], recorded| {
            let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, recorded, false);
            let mut csv = Csv::new(wanted(None));
            csv.decode(first, false, recorded, &mut batch);
            csv.decode(second, false, recorded, &mut batch)
        };
        // Of a recording they are all that there is; a port may be opened amid noise.
        for sound in [b"\x01\0\xff\xff\n".as_slice(), b"\0\n", b"p\x02\n"] {
            let Decoded::Unfit(what) = decode([b"\xff\xff\n", sound], true) else { panic!("{sound:?}") };
            assert_eq!(what, format!("line 2: {NOT_TEXT}"), "{sound:?}");
            let told = decode([b"\xff\xff\n", sound], false);
            assert!(matches!(told, Decoded::Malformed(_, Malformed { reason: Reason::NotText, .. })), "{sound:?}");
        }
        // A block that was lost in a card's last hour is a line that does not count.
        let told = decode([b"x,y\n", b"\0\0\0\0\n"], true);
        assert!(matches!(told, Decoded::Malformed(_, Malformed { reason: Reason::NotText, number: 2, .. })));
        assert!(matches!(decode([b"x,y\r\n", b"1\t,2\r\n"], true), Decoded::Frame(_)));
    }

    #[test]
    fn lines_of_a_recording_end_by_carriage_returns_as_well() {
        for text in ["x,y\r1,2\r\r3,4", "x,y\r\n1,2\r\n\r\n3,4\r\n", "x,y\n1,2\r\n\n3,4\r"] {
            let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, true, false);
            let (mut csv, mut bytes) = (Csv::new(wanted(None)), text.as_bytes());
            while !bytes.is_empty() {
                let (Decoded::Nothing(used) | Decoded::Frame(used)) = csv.decode(bytes, true, true, &mut batch) else {
                    panic!("{text:?}");
                };
                bytes = &bytes[used..];
            }
            assert_eq!((batch.values(), csv.line), ([1.0, 2.0, 3.0, 4.0].as_slice(), 4), "{text:?}");
        }
        // Half of an end is none.
        let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, true, false);
        let mut csv = Csv::new(wanted(None));
        assert!(matches!(csv.decode(b"x,y\r", false, true, &mut batch), Decoded::More));
        assert!(matches!(csv.decode(b"x,y\r\n", false, true, &mut batch), Decoded::Nothing(5)));
    }

    #[test]
    fn half_a_line_of_a_port_is_no_header_and_nor_is_a_broken_frame_of_a_recording() {
        for (text, field) in [("0.1#0.2,3\n", 1), ("0.125,oops\n", 2)] {
            for recorded in [false, true] {
                let told = first_line(text, recorded);
                let Decoded::Malformed(_, Malformed { reason: Reason::NotANumber { field: found }, .. }) = told else {
                    panic!("{text}");
                };
                assert_eq!(found, field, "{text}");
            }
        }
        let told = first_line("oops\n", false);
        assert!(matches!(
            told,
            Decoded::Malformed(_, Malformed { reason: Reason::Fields { found: 1, expected: 2 }, .. })
        ));
        assert!(matches!(first_line("y,x\n", false), Decoded::Nothing(4)));
    }

    #[test]
    fn half_a_line_of_numbers_says_nothing_of_those_behind_it() {
        let mut batch = Batch::new(vec![crate::sensor::unit::Line::IDENTITY; 2], None, false, false);
        let by_number = Some(vec![Column::Number(1), Column::Number(2)]);
        // Of "12.52,3,4": two columns where there are three, and 2.52 for 12.52.
        for first in ["2.52,3\n", "2.52,3,4\n"] {
            let mut csv = Csv::new(wanted(by_number.clone())).begun_in_midst();
            let told = csv.decode(first.as_bytes(), false, false, &mut batch);
            assert!(matches!(told, Decoded::Malformed(_, Malformed { reason: Reason::Headless, .. })));
            assert!(matches!(csv.decode(b"12.5,3,4\n", false, false, &mut batch), Decoded::Frame(9)));
        }
        assert_eq!(batch.values(), [12.5, 3.0, 12.5, 3.0]);
        let mut csv = Csv::new(wanted(None)).begun_in_midst();
        assert!(matches!(csv.decode(b"x,y\n", false, false, &mut batch), Decoded::Nothing(4)), "a header is whole");
    }
}
