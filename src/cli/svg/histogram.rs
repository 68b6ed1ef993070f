//! How long runs took: a bar for each span of time, as high as there were runs that took as long.

use super::panel::{Panel, decimal, round_tick};
use super::{END, INK, LINE_HEIGHT, MARK, MARK_TEXT, line, page, rect, text};

/// In pixels, the plot without its margins.
const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 116.0;
const BOTTOM: f64 = 56.0;
const FEWEST_BARS: f64 = 8.0;
const MOST_BARS: f64 = 60.0;

pub struct Histogram<'a> {
    pub title: String,
    pub facts: String,
    /// In ascending order.
    pub nanos: &'a [u64],
    /// Figures to mark, with their names, in ascending order.
    pub marks: &'a [(&'static str, f64)],
}

impl Histogram<'_> {
    pub fn svg(&self) -> String {
        let Bars { width_us, first_us, counts, beyond } = Bars::of(self.nanos);
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        let panel = Panel {
            left: LEFT,
            top: TOP,
            width: WIDTH,
            height: HEIGHT,
            x: (first_us, first_us + width_us * counts.len() as f64),
            y: (0.0, f64::from(most) * 1.04),
        };
        let mut svg = page((LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM), LEFT, &self.title, &self.facts);
        svg += &panel.rows(round_tick(f64::from(most), 8.0).max(1.0), "runs", |runs| format!("{runs:.0}"));
        for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let from = first_us + width_us * index as f64;
            let (x, y) = (panel.x(from), panel.y(f64::from(*count)));
            let size = ((panel.x(from + width_us) - x - 1.0).max(0.5), panel.bottom() - y);
            let tip = format!("{from:.3} to {:.3} us: {count} runs", from + width_us);
            svg += &rect((x + 0.5, y), size, "fill=\"#3b7bb3\"", &tip);
        }
        let tick = round_tick(panel.x.1 - panel.x.0, 9.0);
        svg += &panel.columns(tick, "time of one inference, microseconds", |us| decimal(us, tick));
        let (shown, further): (Vec<_>, Vec<_>) = self.marks.iter().partition(|(_, us)| *us <= panel.x.1);
        for (row, (name, us)) in shown.iter().enumerate() {
            svg += &mark(&panel, row, name, *us);
        }
        let mut further: Vec<String> = further.iter().map(|(name, us)| format!("{name} {us:.1} us")).collect();
        if beyond > 0 {
            let percent = 100.0 * beyond as f64 / self.nanos.len() as f64;
            let last = self.nanos.last().copied().unwrap_or(0) as f64 / 1e3;
            further.insert(0, format!("runs beyond: {beyond} ({percent:.1} %)"));
            further.push(format!("max {last:.1} us"));
        }
        for (row, what) in further.iter().enumerate() {
            let y = TOP + 14.0 + LINE_HEIGHT * row as f64;
            svg += &text(panel.right() - 4.0, y, &format!("text-anchor=\"end\" {INK}"), what);
        }
        svg + END
    }
}

/// A line with its name above the plot, each a row lower than the one before: they may lie side by side.
fn mark(panel: &Panel, row: usize, name: &str, us: f64) -> String {
    let (x, y) = (panel.x(us), TOP - 38.0 + LINE_HEIGHT * row as f64);
    let near_the_end = x > panel.right() - 120.0;
    let (anchor, at) = if near_the_end { ("end", x - 5.0) } else { ("start", x + 5.0) };
    let place = format!("text-anchor=\"{anchor}\" {MARK_TEXT}");
    line((x, y - 9.0), (x, panel.bottom()), MARK) + &text(at, y, &place, &format!("{name} {us:.1} us"))
}

/// Runs by how long they took.
struct Bars {
    width_us: f64,
    first_us: f64,
    counts: Vec<u32>,
    /// Runs that took longer than the last bar reaches.
    beyond: usize,
}

impl Bars {
    /// Of equal width by Freedman and Diaconis's rule. Runs that were interrupted would leave no room for all the
    /// others: where the slowest tenth is far away the bars end, and what is beyond is counted apart.
    fn of(nanos: &[u64]) -> Bars {
        let at = |part: f64| {
            let index = (nanos.len().saturating_sub(1) as f64 * part).round() as usize;
            nanos.get(index).map_or(0.0, |nanos| *nanos as f64 / 1e3)
        };
        let (first, last) = (at(0.0), at(1.0));
        let reach = ((at(0.99) - first) * 1.5).min((at(0.9) - first) * 4.0).max(1e-3);
        let span = reach.min(last - first).max(1e-3);
        let rule = 2.0 * (at(0.75) - at(0.25)) / (nanos.len().max(1) as f64).cbrt();
        let width_us = round_tick(rule.clamp(span / MOST_BARS, span / FEWEST_BARS), 1.0);
        let first_us = (first / width_us).floor() * width_us;
        let count = ((first + span - first_us) / width_us).floor() as usize + 1;
        let mut bars = Bars { width_us, first_us, counts: vec![0; count], beyond: 0 };
        for nanos in nanos {
            let index = ((*nanos as f64 / 1e3 - first_us) / width_us).max(0.0) as usize;
            match bars.counts.get_mut(index) {
                Some(count) => *count = count.saturating_add(1),
                None => bars.beyond += 1,
            }
        }
        let last = bars.counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        bars.counts.truncate(last + 1);
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_one_bar_or_beyond_all() {
        let spread: Vec<u64> = (0..1000).map(|run| 50_000 + run * 7).collect();
        let interrupted = [&spread[..], &[5_000_000, 6_000_000]].concat();
        for (nanos, expected) in
            [(&spread[..], 0), (&interrupted, 2), (&[8000], 0), (&[8000, 8000], 0), (&[0, u64::MAX], 0)]
        {
            let bars = Bars::of(nanos);
            assert_eq!(bars.beyond, expected, "{} runs", nanos.len());
            assert_eq!(bars.counts.iter().map(|count| *count as usize).sum::<usize>() + bars.beyond, nanos.len());
            assert!(bars.counts.len() as f64 <= MOST_BARS + 2.0, "{} bars", bars.counts.len());
        }
        assert!(Bars::of(&spread).counts.len() as f64 >= FEWEST_BARS / 2.0);
    }

    #[test]
    fn bars_and_marks_are_drawn_where_they_belong() {
        let nanos: Vec<u64> = (0..1000).map(|run| 50_000 + run * 10).chain([9_000_000]).collect();
        let marks = [("median", 55.0), ("p99", 59.9), ("p999", 9000.0)];
        let svg = Histogram { title: "a<b".into(), facts: "1001 runs".into(), nanos: &nanos, marks: &marks }.svg();
        assert!(
            svg.contains("a&lt;b") && svg.contains("runs beyond: 1 (0.1 %)") && svg.contains(">max 9000.0 us<"),
            "{svg}"
        );
        assert!(svg.contains(">median 55.0 us<") && svg.contains(">p99 59.9 us<") && svg.contains(">p999 9000.0 us<"));
        assert!(svg.matches("<rect x=").count() >= 8 && !svg.contains("NaN"), "{svg}");
    }
}
