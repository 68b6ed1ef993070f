//! A message that holds one window: raw samples, numbers as text, or JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::SourceOptions;
use super::binary::Field;
use super::csv::Separator;
use super::malformed::Reason;
use super::open::{is_rate, lines, native, rate};
use super::spec::{Format, SampleType};
use crate::sensor::recipe::Input;
use crate::sensor::unit::Line;

/// The most bytes of what a sender calls its message.
pub const MAX_ID_BYTES: usize = 256;

/// How a broker's message is read: what a sender may hold its own messages against.
///
/// ```
/// use tractlet::sensor::{Payload, Recipe, SourceOptions};
///
/// let input = Recipe::open("models/har_cnn1d")?.input;
/// let mut window = vec![0.0; input.windowing.length * input.channels.len()];
/// let payload = Payload::new(&SourceOptions { format: Some("json".parse()?), ..SourceOptions::default() }, &input)?;
/// let id = payload.decode(format!("{{\"id\": 7, \"values\": {window:?}}}").as_bytes(), &mut window);
/// assert_eq!(id, Ok(Some("7".to_owned())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Payload {
    form: Form,
    /// From what is sent to what the model takes, for each channel.
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
enum Form {
    Raw(SampleType),
    Text,
    Json,
}

impl Payload {
    /// For windows that `input` takes.
    ///
    /// # Errors
    /// Where an option makes no sense of a message.
    pub fn new(options: &SourceOptions, input: &Input) -> Result<Payload, String> {
        if options.columns.is_some() || options.time.is_some() || options.channels.is_some() {
            return Err("a message is a whole window: it has no --columns, --time or --channels".into());
        }
        let native = native(options.format.unwrap_or(Format::Csv), options, input);
        if let (Some(found), Some(expected)) = (rate(&native, options, input)?, input.rate_hz)
            && !is_rate(found, expected)
        {
            let what = "a message is a window at the model's rate; resample before it is sent";
            return Err(format!("it has {found} frames a second, the model takes {expected}: {what}"));
        }
        let form = match options.format.unwrap_or(Format::Csv) {
            Format::Raw(sample) => Form::Raw(sample),
            Format::Csv => Form::Text,
            Format::Json => Form::Json,
            Format::Npy | Format::Wav => return Err("a message is csv, json or raw samples; see --format".into()),
        };
        Ok(Payload { form, lines: lines(&native, options, input)? })
    }

    /// Writes a window and gives its id, if there is one in it.
    ///
    /// # Errors
    /// Where it is not exactly a window of finite numbers.
    pub fn decode(&self, bytes: &[u8], window: &mut [f32]) -> Result<Option<String>, Reason> {
        let mut filler = Filler { lines: &self.lines, expected: window.len(), found: 0, window, fault: None };
        let id = match self.form {
            Form::Raw(sample) => raw(sample, bytes, &mut filler).map(|()| None),
            Form::Text => text(bytes, &mut filler).map(|()| None),
            Form::Json => json(bytes, &mut filler),
        }?;
        match filler.found == filler.expected {
            true => Ok(id),
            false => Err(Reason::Values { found: filler.found, expected: filler.expected }),
        }
    }
}

fn raw(sample: SampleType, bytes: &[u8], filler: &mut Filler<'_>) -> Result<(), Reason> {
    let expected = filler.expected * sample.bytes;
    if bytes.len() != expected {
        return Err(Reason::Bytes { found: bytes.len(), expected });
    }
    let field = Field::of(sample, 0);
    bytes.chunks_exact(sample.bytes).try_for_each(|bytes| filler.push(field.number(bytes).unwrap_or(f64::NAN)))
}

/// Numbers between commas, semicolons, tabs, spaces and line ends, as many on a line as there are.
fn text(bytes: &[u8], filler: &mut Filler<'_>) -> Result<(), Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotANumber { field: 1 })?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        for field in Separator::of(line).split(line) {
            let number = field.parse().map_err(|_| Reason::NotANumber { field: filler.found + 1 })?;
            filler.push(number)?;
        }
    }
    Ok(())
}

/// An array of numbers, or of frames, which are arrays of them; or an object that has such a one as `values` and may have an `id`.
fn json(bytes: &[u8], filler: &mut Filler<'_>) -> Result<Option<String>, Reason> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Whole(filler).deserialize(&mut deserializer);
    match read.and_then(|id| deserializer.end().map(|()| id)) {
        Ok(id) => Ok(id),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            Err(filler.fault.take().unwrap_or(Reason::NotJson { line, column }))
        }
    }
}

/// Where numbers go, in the order in which they come.
struct Filler<'a> {
    lines: &'a [Line],
    window: &'a mut [f32],
    expected: usize,
    found: usize,
    /// What was wrong, where a parser's own error cannot say it.
    fault: Option<Reason>,
}

impl Filler<'_> {
    fn push(&mut self, number: f64) -> Result<(), Reason> {
        let channel = self.found % self.lines.len().max(1);
        let value = self.lines.get(channel).map_or(number, |line| line.at(number)) as f32;
        if !value.is_finite() {
            return Err(Reason::NotFinite { field: self.found + 1 });
        }
        if let Some(place) = self.window.get_mut(self.found) {
            *place = value;
        }
        self.found += 1;
        Ok(())
    }
}

/// The message.
struct Whole<'a, 'f>(&'a mut Filler<'f>);

impl<'de> DeserializeSeed<'de> for Whole<'_, '_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_, '_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or an object with `values`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<String>, A::Error> {
        Numbers { filler: self.0, depth: 0 }.visit_seq(seq).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let (mut id, mut has_values) = (None, false);
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match &*key {
                "id" if id.is_none() => id = Some(map.next_value_seed(Id)?),
                "values" if !has_values => {
                    has_values = true;
                    map.next_value_seed(Numbers { filler: self.0, depth: 0 })?;
                }
                "id" | "values" => return Err(A::Error::custom("twice")),
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        match id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
            true => Err(fault(self.0, Reason::Id)),
            false => Ok(id),
        }
    }
}

/// The array of a window at depth 0; in it either numbers, or frames with a number for each channel at depth 1.
struct Numbers<'a, 'f> {
    filler: &'a mut Filler<'f>,
    depth: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Number,
    Array,
}

impl<'de> DeserializeSeed<'de> for Numbers<'_, '_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_, '_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or of frames with a number for each channel")
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Shape, E> {
        if self.depth == 0 {
            return Err(E::invalid_type(Unexpected::Float(number), &self));
        }
        self.filler.push(number).map_err(|reason| fault(self.filler, reason))?;
        Ok(Shape::Number)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Shape, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Shape, E> {
        self.visit_f64(number as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let Numbers { filler, depth } = self;
        if depth > 1 {
            return Err(A::Error::custom("an array within a frame"));
        }
        let (before, expected) = (filler.found, filler.lines.len());
        let mut all = None;
        while let Some(shape) = seq.next_element_seed(Numbers { filler: &mut *filler, depth: depth + 1 })? {
            if *all.get_or_insert(shape) != shape {
                return Err(A::Error::custom("numbers beside frames"));
            }
        }
        let found = filler.found - before;
        match depth == 1 && found != expected {
            true => Err(fault(filler, Reason::Frame { found, expected })),
            false => Ok(Shape::Array),
        }
    }
}

/// Text or a whole number.
struct Id;

impl<'de> DeserializeSeed<'de> for Id {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Id {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number")
    }

    fn visit_str<E>(self, id: &str) -> Result<String, E> {
        Ok(id.to_owned())
    }

    fn visit_u64<E>(self, id: u64) -> Result<String, E> {
        Ok(id.to_string())
    }

    fn visit_i64<E>(self, id: i64) -> Result<String, E> {
        Ok(id.to_string())
    }
}

fn fault<E: serde::de::Error>(filler: &mut Filler<'_>, reason: Reason) -> E {
    filler.fault = Some(reason);
    E::custom("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::recipe::Channel;
    use tractlet_core::ring::Windowing;

    #[test]
    fn a_message_is_a_window_or_malformed() {
        let decode = |format: &str, bytes: &[u8]| {
            let channels = ["a", "b"].map(|name| Channel { name: name.into(), unit: None }).into();
            let input = Input { rate_hz: None, channels, named: true, windowing: Windowing { length: 2, hop: 2 } };
            let format = Some(format.parse().unwrap());
            let options = SourceOptions { format, scale: vec![1.0, 10.0], ..SourceOptions::default() };
            let mut window = [0.0; 4];
            let id = Payload::new(&options, &input).unwrap().decode(bytes, &mut window);
            id.map(|id| (id, window))
        };
        let whole = |id: Option<&str>| Ok((id.map(str::to_owned), [1.0, 20.0, 3.5, 40.0]));
        assert_eq!(decode("csv", b"1,2,3.5,4"), whole(None));
        assert_eq!(decode("csv", b"# a frame a line\n1;2\r\n\n 3.5 4 \n"), whole(None));
        assert_eq!(decode("json", b"[1,2,3.5,4]"), whole(None));
        assert_eq!(decode("json", b" [[1,2],[3.5,4]]"), whole(None));
        assert_eq!(decode("json", br#"{"at": [{}], "id": 17, "values": [1, 2, 3.5, 4]}"#), whole(Some("17")));
        assert_eq!(decode("json", br#"{"values": [[1, 2], [3.5, 4]], "id": "a\"b"}"#), whole(Some("a\"b")));
        let floats: Vec<u8> = [1f32, 2.0, 3.5, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(decode("f32le", &floats), whole(None));

        assert_eq!(decode("csv", b"1,2,3"), Err(Reason::Values { found: 3, expected: 4 }));
        assert_eq!(decode("csv", b"1,2,3,4,5"), Err(Reason::Values { found: 5, expected: 4 }));
        assert_eq!(decode("csv", b"1,2,,4"), Err(Reason::NotANumber { field: 3 }));
        assert_eq!(decode("csv", b"1,2,nan,4"), Err(Reason::NotFinite { field: 3 }));
        assert_eq!(decode("csv", b"1,2,\xff,4"), Err(Reason::NotANumber { field: 1 }));
        assert_eq!(decode("json", b"[1,2,1e400,4]"), Err(Reason::NotJson { line: 1, column: 10 }));
        assert_eq!(decode("json", b"[1,2,3.5,1e39]"), Err(Reason::NotFinite { field: 4 }));
        assert_eq!(decode("json", b"{}"), Err(Reason::Values { found: 0, expected: 4 }));
        for wrong in ["", "[", "7", "\"a\"", "[1,2,3.5,4] 5", "[1,2,3.5,\"4\"]", "{\"id\": 1.5, \"values\": [1,2,3,4]}"]
        {
            assert!(decode("json", wrong.as_bytes()).is_err(), "{wrong}");
        }
        for ragged in ["[[1,2],[3.5],[4]]", "[[1,2,3.5],[4]]", "[[1,2],[3.5,4],[]]", "[[1],[2],[3.5],[4]]"] {
            assert!(matches!(decode("json", ragged.as_bytes()), Err(Reason::Frame { expected: 2, .. })), "{ragged}");
        }
        for wrong in ["[1,2,[3.5,4]]", "[[1,2],3.5,4]", "[[[1,2],[3.5,4]]]", "[[[1],2],[3.5,4]]", "{\"values\": 1}"] {
            assert!(matches!(decode("json", wrong.as_bytes()), Err(Reason::NotJson { .. })), "{wrong}");
        }
        let twice = br#"{"values": [1, 2], "values": [3.5, 4]}"#;
        assert!(matches!(decode("json", twice), Err(Reason::NotJson { .. })));
        let long = format!("{{\"id\": \"{}\", \"values\": [1,2,3.5,4]}}", "a".repeat(MAX_ID_BYTES + 1));
        assert_eq!(decode("json", long.as_bytes()), Err(Reason::Id));
        let deep = "[".repeat(100_000);
        assert!(matches!(decode("json", deep.as_bytes()), Err(Reason::NotJson { .. })));
        assert_eq!(decode("f32le", &floats[1..]), Err(Reason::Bytes { found: 15, expected: 16 }));
        assert_eq!(decode("f32le", &[0xff; 16]), Err(Reason::NotFinite { field: 1 }));
    }
}
