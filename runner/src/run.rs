//! `tractlet-plan run`.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ffi::CStr;

use tractlet_core::plan::{DType, Port};
use tractlet_io::Assigned;
use tractlet_io::npy::without_batch;

use crate::args::{Args, path};
use crate::failure::Failure;
use crate::json::{Json, quoted};
use crate::npy::{Samples, Writer, publish};
use crate::os;
use crate::out::Out;
use crate::session::Session;

const MOST_LABELS_BYTES: u64 = 1 << 20;
/// Values that a line of text shows of an output.
const SHOWN: usize = 8;

pub fn run(args: &Args<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut session = Session::open_whole(args.plan)?;
    let inputs = open_inputs(&args.inputs, &session)?;
    let samples = inputs.first().map_or(1, |file| file.count);
    let ranking = Ranking::new(args, &session)?;
    let outputs: Vec<Port<'_>> = session.plan().outputs().collect();
    let mut writers = Vec::new();
    let files = assigned("output", &args.outputs, &outputs)?;
    expect_apart(&files, args, &inputs)?;
    for (index, file) in &files {
        if let Some(port) = outputs.get(*index) {
            writers.push((*index, Writer::create(file, port, samples)?));
        }
    }
    let output_count = outputs.len();
    let mut results: Vec<Vec<u8>> = (0..output_count).map(|_| Vec::new()).collect();
    let mut tops = Vec::new();
    let rows = args.outputs.is_empty() || ranking.is_some();
    let width = (samples - 1).to_string().len();
    for sample in 0..samples {
        for (file, buffer) in inputs.iter().zip(&mut session.inputs) {
            file.read(sample, buffer)?;
        }
        session.check_inputs().map_err(|(input, why)| {
            let path = inputs.get(input).map_or_else(String::new, |file| os::shown(&file.path));
            format!("{path}: sample {sample} (from 0): {why}")
        })?;
        session.run(&mut ())?;
        for (index, writer) in &writers {
            writer.write(session.outputs.get(*index).map_or(&[], |bytes| bytes))?;
        }
        let top = ranking.as_ref().map(|ranking| ranking.top(&session));
        if args.json {
            results.iter_mut().zip(&session.outputs).for_each(|(all, bytes)| all.extend_from_slice(bytes));
            tops.extend(top);
        } else if rows {
            let cells = match top {
                Some(scores) => {
                    ranking.iter().flat_map(|ranking| scores.iter().map(|score| ranking.cell(score))).collect()
                }
                None => values_text(&session),
            };
            out.text(&format!("{sample:>width$}{cells}\n"))?;
        }
    }
    // All on disk before the first takes its name.
    writers.iter().try_for_each(|(_, writer)| writer.finish())?;
    publish(writers.into_iter().map(|(_, writer)| writer).collect())?;
    if args.json {
        return out.text(&json(&session, samples, &results, ranking.as_ref().map(|ranking| (ranking, &tops))));
    }
    files.iter().try_for_each(|(_, file)| out.text(&format!("wrote {}\n", os::shown(file))))
}

/// Refuses to write over what is read, or over another output.
fn expect_apart(outputs: &[(usize, CString)], args: &Args<'_>, inputs: &[Samples]) -> Result<(), Failure> {
    let inputs = inputs.iter().map(|file| file.path.as_c_str());
    let read = inputs.chain(args.labels.as_deref()).chain([args.plan]);
    for (nth, (_, target)) in outputs.iter().enumerate() {
        let is_it = |other: &CStr| os::same(other, target);
        let file = os::shown(target);
        if read.clone().any(is_it) {
            return Err(format!("{file}: an output would overwrite what is read; give it another name").into());
        }
        if outputs.iter().take(nth).any(|(_, other)| is_it(other)) {
            return Err(format!("{file}: output {nth} would overwrite another; give each its own file").into());
        }
    }
    Ok(())
}

/// A file for each input, in the plan's order.
fn open_inputs(arguments: &[&str], session: &Session) -> Result<Vec<Samples>, Failure> {
    let ports: Vec<Port<'_>> = session.plan().inputs().collect();
    let files = assigned("input", arguments, &ports)?;
    let mut inputs: Vec<Samples> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let Some((_, file)) = files.iter().find(|(at, _)| *at == index) else {
            let name = port.name;
            return Err(format!("input `{name}` has no file; give it one: --input {name}=X.npy").into());
        };
        let file = Samples::open(file, port)?;
        if let Some(first) = inputs.first().filter(|first| first.count != file.count) {
            let [a, b] = [first, &file].map(|file| format!("{} has {} samples", os::shown(&file.path), file.count));
            return Err(format!("{a}, {b}; they must be equal").into());
        }
        inputs.push(file);
    }
    Ok(inputs)
}

/// Which tensor each file is for.
fn assigned(role: &str, arguments: &[&str], ports: &[Port<'_>]) -> Result<Vec<(usize, CString)>, Failure> {
    let mut taken: Vec<(usize, CString)> = Vec::new();
    for argument in arguments {
        let find = |name: &str| ports.iter().position(|port| port.name == name);
        let assigned = match tractlet_io::assigned(argument, find) {
            Assigned::To(index, file) => Ok((index, file)),
            Assigned::Bare(file) if ports.len() == 1 => Ok((0, file)),
            Assigned::Bare(file) => {
                Err(format!("the plan has several {role}s; say which: --{role} NAME={file}, with NAME one of"))
            }
            Assigned::Unknown(name) => Err(format!("the plan has no {role} `{name}`; it has")),
        };
        let (index, file) = assigned.map_err(|what| {
            let names = ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
            format!("{what} {names}")
        })?;
        if taken.iter().any(|(other, _)| *other == index) {
            return Err(format!("{file}: that {role} already has a file").into());
        }
        taken.push((index, path(file)?));
    }
    Ok(taken)
}

/// The largest elements of the first output, with their labels.
pub struct Ranking {
    labels: Option<Vec<String>>,
    k: usize,
    width: usize,
}

pub type Score = (usize, f64);

impl Ranking {
    pub fn new(args: &Args<'_>, session: &Session) -> Result<Option<Ranking>, Failure> {
        let Some(port) = session.plan().outputs().next().filter(|_| args.labels.is_some() || args.top.is_some()) else {
            return Ok(None);
        };
        let labels: Option<Vec<String>> = match &args.labels {
            Some(path) => Some(os::text(path, MOST_LABELS_BYTES)?.lines().map(|line| line.trim().to_owned()).collect()),
            None => None,
        };
        let classes: usize = port.shape().iter().product();
        if let (Some(path), Some(labels)) = (&args.labels, labels.as_ref().filter(|labels| labels.len() != classes)) {
            let found = format!("{}: {} labels", os::shown(path), labels.len());
            return Err(
                format!("{found}, output `{}` has {classes} elements; expected one label a line", port.name).into()
            );
        }
        let width = labels.iter().flatten().map(|label| label.chars().count()).max().unwrap_or(4);
        Ok(Some(Ranking { labels, k: args.top.unwrap_or(3), width }))
    }

    pub fn top(&self, session: &Session) -> Vec<Score> {
        let Some((port, bytes)) = session.plan().outputs().zip(&session.outputs).next() else { return Vec::new() };
        let mut scores: Vec<Score> = elements(port.dtype, bytes).map(Element::score).enumerate().collect();
        // NaN is no score; of equal ones the first counts.
        let key = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
        scores.sort_by(|a, b| key(b.1).partial_cmp(&key(a.1)).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
        scores.truncate(self.k);
        scores
    }

    /// The elements of a list.
    pub fn json(&self, json: &mut Json, scores: &[Score]) {
        for (index, score) in scores {
            let label = self.label(*index).map_or_else(|| "null".to_owned(), quoted);
            json.open('{').field("index", index).field("label", label).number("score", *score).close('}');
        }
    }

    fn label(&self, index: usize) -> Option<&str> {
        self.labels.as_ref()?.get(index).map(String::as_str)
    }

    fn cell(&self, (index, score): &Score) -> String {
        let label = self.label(*index).map_or_else(|| index.to_string(), ToOwned::to_owned);
        format!("  {label:<width$} {score:>8.4}", width = self.width)
    }
}

/// An element, as exact as its type.
#[derive(Clone, Copy)]
enum Element {
    Float(f32),
    Whole(i64),
    Truth(bool),
}

impl Element {
    /// What ranks it: exact but for integers beyond 2^53.
    fn score(self) -> f64 {
        match self {
            Element::Float(value) => value.into(),
            Element::Whole(value) => value as f64,
            Element::Truth(value) => value.into(),
        }
    }
}

fn elements(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = Element> {
    bytes.chunks_exact(dtype.size_bytes()).map(move |element| match (dtype, element) {
        (DType::F32, &[a, b, c, d]) => Element::Float(f32::from_le_bytes([a, b, c, d])),
        (DType::I32, &[a, b, c, d]) => Element::Whole(i32::from_le_bytes([a, b, c, d]).into()),
        (DType::I64, bytes) => Element::Whole(bytes.try_into().map_or(0, i64::from_le_bytes)),
        (DType::I8, &[byte]) => Element::Whole(byte.cast_signed().into()),
        (DType::Bool, bytes) => Element::Truth(bytes != [0]),
        (_, bytes) => Element::Whole(bytes.first().copied().unwrap_or(0).into()),
    })
}

/// The field `values` of an output.
pub fn values(json: &mut Json, dtype: DType, bytes: &[u8]) {
    json.open_field("values", '[');
    for element in elements(dtype, bytes) {
        let _ = match element {
            Element::Float(value) if !value.is_finite() => json.item("null"),
            Element::Float(value) => json.item(value),
            Element::Whole(value) => json.item(value),
            Element::Truth(value) => json.item(value),
        };
    }
    json.close(']');
}

fn values_text(session: &Session) -> String {
    let ports = session.plan().outputs().zip(&session.outputs);
    ports.map(|(port, bytes)| format!("  {}{}", port.name, cells(port.dtype, bytes))).collect()
}

/// The first elements of an output, and how many follow.
fn cells(dtype: DType, bytes: &[u8]) -> String {
    let cell = |element| match element {
        Element::Float(value) => format!(" {value:>8.4}"),
        Element::Whole(value) => format!(" {value:>8}"),
        Element::Truth(value) => format!(" {:>8}", u8::from(value)),
    };
    let shown: String = elements(dtype, bytes).take(SHOWN).map(cell).collect();
    match elements(dtype, bytes).count().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}  and {more} more"),
    }
}

fn json(session: &Session, samples: usize, results: &[Vec<u8>], tops: Option<(&Ranking, &Vec<Vec<Score>>)>) -> String {
    let mut json = Json::default();
    json.open('{').string("engine", "plan").field("samples", samples).open_field("outputs", '[');
    for (port, bytes) in session.plan().outputs().zip(results) {
        json.open('{').string("name", port.name).open_field("shape", '[').item(samples);
        for dim in without_batch(port.shape()) {
            json.item(dim);
        }
        json.close(']').string("dtype", port.dtype.name());
        values(&mut json, port.dtype, bytes);
        json.close('}');
    }
    json.close(']');
    if let Some((ranking, tops)) = tops {
        json.open_field("top", '[');
        for scores in tops {
            json.open('[');
            ranking.json(&mut json, scores);
            json.close(']');
        }
        json.close(']');
    }
    json.close('}');
    json.line()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_told_as_they_are() {
        let bytes: Vec<u8> = [(1 << 53) + 1, i64::MIN].iter().flat_map(|value: &i64| value.to_le_bytes()).collect();
        let mut json = Json::default();
        json.open('{');
        values(&mut json, DType::I64, &bytes);
        json.close('}');
        assert_eq!(json.line(), "{\"values\":[9007199254740993,-9223372036854775808]}\n");
        assert_eq!(cells(DType::I64, &bytes), " 9007199254740993 -9223372036854775808");
        assert_eq!(cells(DType::I32, &7i32.to_le_bytes().repeat(9)), "        7".repeat(8) + "  and 1 more");
        assert_eq!(cells(DType::Bool, &[1, 0]), "        1        0");
        assert_eq!(cells(DType::F32, &1.5f32.to_le_bytes()), "   1.5000");
    }
}
