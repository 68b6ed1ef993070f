//! Memory over the time of one load and inference, stacked by kind: what of the process is resident, and below that,
//! on an axis of its own, what the model asked for.

use std::time::Duration;

use tractlet::footprint::{Sample, Timeline};

use super::panel::{Panel, decimal, round_tick};
use super::{AXIS, END, INK, MARK, MARK_TEXT, SOFT, bytes_tick, escaped, line, page, rect, text};
use crate::cli::size;

/// In pixels, each plot without its margins.
const WIDTH: f64 = 700.0;
const WHOLE_HEIGHT: f64 = 170.0;
const MODEL_HEIGHT: f64 = 250.0;
const LEFT: f64 = 92.0;
/// Where the keys stand.
const RIGHT: f64 = 270.0;
const TOP: f64 = 130.0;
const BETWEEN: f64 = 34.0;
const BOTTOM: f64 = 56.0;

const FILES: (&str, &str) = ("program and mapped files", "#b4bcc6");
const REST: (&str, &str) = ("stacks, spare heap, program's data", "#8fc1e3");
const SNAPSHOT: (&str, &str) = ("copy of the model's file", "#e0a13c");
const HEAP: (&str, &str) = ("heap that is held", "#3b7bb3");

pub struct Memory<'a> {
    pub title: String,
    pub facts: String,
    pub timeline: &'a Timeline,
    /// The most that was ever resident, as the kernel counts it.
    pub peak_bytes: u64,
    /// What the plan states in all.
    pub stated_bytes: Option<u64>,
    /// What may be resident, by which name.
    pub budget: Option<(String, u64)>,
}

/// Kinds of memory in a panel, one upon the other: each with its name and colour, and how much it is from when on.
struct Stack {
    panel: Panel,
    what: &'static str,
    at: Vec<f64>,
    kinds: Vec<((&'static str, &'static str), Vec<u64>)>,
}

impl Memory<'_> {
    pub fn svg(&self) -> String {
        let height = TOP + WHOLE_HEIGHT + BETWEEN + MODEL_HEIGHT + BOTTOM;
        let mut svg = page((LEFT + WIDTH + RIGHT, height), LEFT, &self.title, &self.facts);
        let budget = self.budget.as_ref().map_or(0, |(_, bytes)| *bytes);
        let mut whole = self.whole();
        whole.scale(self.peak_bytes.max(budget));
        svg += &whole.svg();
        svg += &limit(&whole.panel, self.peak_bytes, &format!("peak {}", size::human(self.peak_bytes)));
        if let Some((name, bytes)) = &self.budget {
            svg += &limit(&whole.panel, *bytes, &format!("budget {name}"));
        }
        let mut model = self.model();
        model.scale(self.stated_bytes.unwrap_or(0));
        svg += &model.svg();
        if let Some(bytes) = self.stated_bytes {
            svg += &limit(&model.panel, bytes, &format!("the plan states {}", size::human(bytes)));
        }
        let tick = round_tick(model.panel.x.1, 8.0);
        svg += &model.panel.columns(tick, "milliseconds since the start of loading", |ms| decimal(ms, tick));
        svg + &self.phases(&whole.panel, model.panel.bottom()) + END
    }

    /// All that is resident, where it was looked at.
    fn whole(&self) -> Stack {
        let samples = &self.timeline.samples;
        let each = |bytes: fn(&Sample) -> u64| samples.iter().map(bytes).collect();
        Stack {
            panel: self.panel(TOP, WHOLE_HEIGHT),
            what: "resident, the whole process",
            at: samples.iter().map(|sample| millis(sample.at)).collect(),
            kinds: vec![
                (FILES, each(|sample| sample.resident.file_bytes)),
                (REST, each(|sample| sample.resident.anon_bytes - held(sample))),
                (SNAPSHOT, each(|sample| sample.resident.shmem_bytes)),
                (HEAP, each(held)),
            ],
        }
    }

    /// What was asked for since the start, at every change of the heap and wherever it was looked at.
    fn model(&self) -> Stack {
        let Timeline { samples, heap, .. } = self.timeline;
        let (first_heap, first_shmem) =
            (heap.first().map_or(0, |(_, bytes)| *bytes), samples.first().map_or(0, |s| s.resident.shmem_bytes));
        let mut at: Vec<_> = heap.iter().map(|(at, _)| *at).chain(samples.iter().map(|sample| sample.at)).collect();
        at.sort_unstable();
        let heap_at = |at| {
            let held = heap.get(heap.partition_point(|(since, _)| *since <= at).saturating_sub(1));
            held.map_or(0, |(_, bytes)| bytes.saturating_sub(first_heap)) as u64
        };
        let shmem_at = |at| {
            let last = samples.get(samples.partition_point(|sample| sample.at <= at).saturating_sub(1));
            last.map_or(0, |sample| sample.resident.shmem_bytes.saturating_sub(first_shmem))
        };
        Stack {
            panel: self.panel(TOP + WHOLE_HEIGHT + BETWEEN, MODEL_HEIGHT),
            what: "what the model asked for",
            kinds: vec![
                (SNAPSHOT, at.iter().map(|at| shmem_at(*at)).collect()),
                (HEAP, at.iter().map(|at| heap_at(*at)).collect()),
            ],
            at: at.into_iter().map(millis).collect(),
        }
    }

    fn panel(&self, top: f64, height: f64) -> Panel {
        let last = self.timeline.samples.last().map_or(0.0, |sample| millis(sample.at));
        Panel { left: LEFT, top, width: WIDTH, height, x: (0.0, last), y: (0.0, 1.0) }
    }

    /// A line where each phase begins, through both panels, with its name above; a row for each, since short ones lie
    /// side by side.
    fn phases(&self, panel: &Panel, bottom: f64) -> String {
        let phase = |(row, (at, name)): (usize, &(Duration, &str))| {
            let (x, y) = (panel.x(millis(*at)), TOP - 54.0 + 12.0 * row as f64);
            let near_the_end = x > panel.right() - 140.0;
            let (anchor, beside) = if near_the_end { ("end", x - 4.0) } else { ("start", x + 4.0) };
            line((x, y - 9.0), (x, bottom), &format!("{AXIS} stroke-dasharray=\"2 3\""))
                + &text(beside, y, &format!("text-anchor=\"{anchor}\" {SOFT}"), name)
        };
        self.timeline.phases.iter().enumerate().map(phase).collect()
    }
}

impl Stack {
    /// Makes room for all of it, and for `least`.
    fn scale(&mut self, least: u64) {
        let sum = |index: usize| self.kinds.iter().filter_map(|(_, bytes)| bytes.get(index)).sum::<u64>();
        let most = (0..self.at.len()).map(sum).max().unwrap_or(0).max(least).max(1);
        self.panel.y = (0.0, most as f64 * 1.05);
    }

    /// Areas from the bottom, and their keys beside the panel in the same order, each with the most that it had.
    fn svg(&self) -> String {
        let mut svg = self.panel.rows(bytes_tick(self.panel.y.1 as usize) as f64, self.what, |b| size::round(b as u64));
        let mut below = vec![0; self.at.len()];
        for (index, ((name, fill), bytes)) in self.kinds.iter().enumerate() {
            let above: Vec<u64> = below.iter().zip(bytes).map(|(below, bytes)| below + bytes).collect();
            let most = format!("at most {}", size::human(bytes.iter().copied().max().unwrap_or(0)));
            svg += &self.area(&below, &above, fill, &format!("{name}, {most}"));
            let row = (self.kinds.len() - 1 - index) as f64;
            let (x, y) = (self.panel.right() + 20.0, self.panel.top + 14.0 + 32.0 * row);
            svg += &rect((x, y - 9.0), (10.0, 10.0), &format!("fill=\"{fill}\""), name);
            svg += &text(x + 16.0, y, INK, name);
            svg += &text(x + 16.0, y + 13.0, SOFT, &most);
            below = above;
        }
        svg
    }

    /// Between two rows of values, each of which holds until the next.
    fn area(&self, below: &[u64], above: &[u64], fill: &str, tip: &str) -> String {
        let edge = |values: &[u64]| {
            let mut points = Vec::with_capacity(2 * values.len());
            let mut before = None;
            for (at, bytes) in self.at.iter().zip(values) {
                let (x, y) = (self.panel.x(*at), self.panel.y(*bytes as f64));
                points.extend(before.map(|before| (x, before)));
                points.push((x, y));
                before = Some(y);
            }
            points
        };
        let mut points = edge(above);
        points.extend(edge(below).into_iter().rev());
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, tip) = (points.join(" "), escaped(tip));
        format!("<polygon points=\"{points}\" fill=\"{fill}\"><title>{tip}</title></polygon>\n")
    }
}

/// A line across, named at the panel's end.
fn limit(panel: &Panel, bytes: u64, what: &str) -> String {
    let y = panel.y(bytes as f64);
    line((panel.left, y), (panel.right(), y), MARK)
        + &text(panel.right() - 6.0, y - 4.0, &format!("text-anchor=\"end\" {MARK_TEXT}"), what)
}

/// Of the heap that is held what is resident: fresh pages that nobody touched are not.
fn held(sample: &Sample) -> u64 {
    sample.resident.anon_bytes.min(sample.heap_bytes as u64)
}

fn millis(at: Duration) -> f64 {
    at.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use tractlet::footprint::proc::Kinds;

    fn sample(micros: u64, [file, shmem, anon, heap]: [u64; 4]) -> Sample {
        let resident = Kinds { anon_bytes: anon << 10, file_bytes: file << 10, shmem_bytes: shmem << 10 };
        Sample { at: Duration::from_micros(micros), resident, heap_bytes: (heap << 10) as usize }
    }

    #[test]
    fn kinds_are_stacked_and_keyed_with_their_most() {
        let timeline = Timeline {
            samples: vec![
                sample(0, [6000, 0, 300, 100]),
                sample(500, [6100, 45, 600, 400]),
                sample(1000, [6200, 0, 500, 164]),
            ],
            heap: vec![
                (Duration::ZERO, 100 << 10),
                (Duration::from_micros(700), 450 << 10),
                (Duration::from_micros(701), 164 << 10),
            ],
            phases: vec![(Duration::ZERO, "open"), (Duration::from_micros(500), "plan")],
        };
        let budget = Some(("8.00 MiB".to_owned(), 8 << 20));
        let (title, facts) = ("a<b".to_owned(), "plan".to_owned());
        let memory =
            Memory { title, facts, timeline: &timeline, peak_bytes: 7 << 20, stated_bytes: Some(100 << 10), budget };
        let svg = memory.svg();
        // Four kinds of the process, two of them the model's.
        assert_eq!(svg.matches("<polygon").count(), 6);
        for part in ["peak 7.00 MiB", "budget 8.00 MiB", "the plan states 100.0 KiB", ">plan<", "a&lt;b"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(svg.contains(">open<") && !svg.contains("NaN"), "{svg}");
        // What was seen now and then, and what was between, less what had been there before.
        assert!(svg.contains("heap that is held, at most 400.0 KiB"), "{svg}");
        assert!(svg.contains("heap that is held, at most 350.0 KiB"), "{svg}");
    }

    #[test]
    fn heap_that_is_not_resident_is_none() {
        let fresh = sample(0, [0, 0, 100, 5000]);
        assert_eq!(held(&fresh), 100 << 10);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let timeline = Timeline::default();
        let (title, facts) = (String::new(), String::new());
        let memory = Memory { title, facts, timeline: &timeline, peak_bytes: 0, stated_bytes: None, budget: None };
        assert!(!memory.svg().contains("NaN"));
    }
}
