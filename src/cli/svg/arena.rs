//! A plan's arena over its schedule as an SVG image: a rectangle for each block, from its first to
//! its last step and over the bytes that it takes, among them the scratch that steps work in.

use tractlet::{ArenaBlock, MemoryPlan, StepReport};

use super::{AXIS, CHARACTER_WIDTH, END, GRID, LINE_HEIGHT, MARK, MARK_TEXT, SOFT, bytes_tick, line, page, rect, text};
use crate::cli::size;

/// In pixels, the plot without its margins.
const PLOT_WIDTH: f64 = 1200.0;
const PLOT_HEIGHT: f64 = 480.0;
const STEP_WIDTH: std::ops::RangeInclusive<f64> = 9.0..=90.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 150.0;

/// Fill and border of tensors, in turn.
const TENSORS: [(&str, &str); 8] = [
    ("#cfe3f5", "#3b7bb3"),
    ("#fbdcc0", "#c56a1d"),
    ("#d3ebcf", "#479a3c"),
    ("#e4d7f0", "#7f55a8"),
    ("#f8d2d2", "#b84545"),
    ("#cdecea", "#2d8f89"),
    ("#f3ecc2", "#9c8618"),
    ("#e3dcd5", "#7d6650"),
];

/// Fill and border of scratch.
const SCRATCH: (&str, &str) = ("#b9b9b9", "#6f6f6f");

pub struct Arena<'a> {
    pub title: String,
    pub memory: MemoryPlan,
    pub steps: &'a [StepReport],
    pub blocks: &'a [ArenaBlock],
}

impl Arena<'_> {
    pub fn svg(&self) -> String {
        let (width, height) = (LEFT + self.plot_width() + RIGHT, TOP + PLOT_HEIGHT + BOTTOM);
        let MemoryPlan { arena_bytes, scratch_bytes, io_bytes, .. } = self.memory;
        let [arena, scratch, io] = [arena_bytes, scratch_bytes, io_bytes].map(|bytes| size::human(bytes as u64));
        let facts = format!(
            "arena {arena} and, for scratch, {scratch} more; {} steps; inputs and outputs, {io}, are the caller's",
            self.steps.len()
        );
        let mut svg = page((width, height), LEFT, &self.title, &facts) + &self.axes();
        let mut colours = TENSORS.into_iter().cycle();
        for block in self.blocks {
            let paint = if block.scratch { Some(SCRATCH) } else { colours.next() };
            svg += &self.block(block, paint.unwrap_or(SCRATCH));
        }
        svg += &self.lower_bound();
        svg + END
    }

    fn step_width(&self) -> f64 {
        (PLOT_WIDTH / self.steps.len().max(1) as f64).clamp(*STEP_WIDTH.start(), *STEP_WIDTH.end())
    }

    fn plot_width(&self) -> f64 {
        self.step_width() * self.steps.len().max(1) as f64
    }

    fn x(&self, step: usize) -> f64 {
        LEFT + step as f64 * self.step_width()
    }

    /// Byte 0 is at the bottom.
    fn y(&self, bytes: usize) -> f64 {
        let all = (self.memory.arena_bytes + self.memory.scratch_bytes).max(1);
        TOP + PLOT_HEIGHT * (1.0 - bytes as f64 / all as f64)
    }

    /// Bytes at the left, the steps' names below.
    fn axes(&self) -> String {
        let (right, bottom) = (LEFT + self.plot_width(), TOP + PLOT_HEIGHT);
        let mut svg = String::new();
        let all = self.memory.arena_bytes + self.memory.scratch_bytes;
        for bytes in (0..=all).step_by(bytes_tick(all)) {
            let y = self.y(bytes);
            svg += &line((LEFT, y), (right, y), GRID);
            svg += &text(LEFT - 8.0, y + 4.0, &format!("text-anchor=\"end\" {SOFT}"), &size::round(bytes as u64));
        }
        // Where steps are narrow, every second or third name.
        let every = (LINE_HEIGHT / self.step_width()).ceil().max(1.0) as usize;
        for (index, step) in self.steps.iter().enumerate() {
            let x = self.x(index);
            svg += &line((x, bottom), (x, bottom + 4.0), AXIS);
            if index % every == 0 {
                let (x, y) = (x + self.step_width() / 2.0 + 3.0, bottom + 12.0);
                let place = format!("text-anchor=\"end\" {SOFT} transform=\"rotate(-55 {x:.1} {y:.1})\"");
                svg += &text(x, y, &place, &shortened(&step.name, 25));
            }
        }
        svg + &line((LEFT, bottom), (right, bottom), AXIS)
    }

    fn block(&self, block: &ArenaBlock, (fill, stroke): (&str, &str)) -> String {
        let (x, right) = (self.x(block.first_step), self.x(block.last_step + 1));
        let (y, bottom) = (self.y(block.offset + block.bytes), self.y(block.offset));
        let names = block.names.join(" \u{2192} ");
        let names = if block.scratch { format!("scratch of {names}") } else { names };
        let human = size::human(block.bytes as u64);
        let (first, last) = (block.first_step + 1, block.last_step + 1);
        let tip = format!("{names}\n{} bytes at {}, steps {first} to {last}", block.bytes, block.offset);
        let paint = format!("fill=\"{fill}\" stroke=\"{stroke}\"");
        format!(
            "<g>{}{}</g>\n",
            rect((x, y), (right - x, bottom - y), &paint, &tip),
            label((x, y), (right - x, bottom - y), &names, &human)
        )
    }

    fn lower_bound(&self) -> String {
        let MemoryPlan { arena_bytes, scratch_bytes, arena_lower_bound_bytes, .. } = self.memory;
        let (y, right) = (self.y(arena_lower_bound_bytes), LEFT + self.plot_width());
        let what = if arena_lower_bound_bytes == arena_bytes + scratch_bytes {
            "the least that tensors and scratch can take"
        } else {
            "lower bound"
        };
        line((LEFT, y), (right, y), MARK)
            + &text(right - 6.0, y + 14.0, &format!("text-anchor=\"end\" {MARK_TEXT}"), what)
    }
}

/// Names and size inside a rectangle, as far as they fit; upright in one that is narrow and high.
fn label((x, y): (f64, f64), (width, height): (f64, f64), names: &str, human: &str) -> String {
    let upright = width < 56.0 && height > width;
    let (along, across) = if upright { (height, width) } else { (width, height) };
    let fits = ((along - 8.0) / CHARACTER_WIDTH).max(0.0) as usize;
    let lines: Vec<String> = match (across / LINE_HEIGHT) as usize {
        _ if fits < 4 => vec![],
        0 => vec![],
        1 => {
            let both = format!("{names}, {human}");
            vec![if both.chars().count() <= fits { both } else { shortened(names, fits) }]
        }
        _ => vec![shortened(names, fits), shortened(human, fits)],
    };
    let (x, y) = (x + width / 2.0, y + height / 2.0);
    let turned = if upright { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
    let first = y + 4.0 - LINE_HEIGHT / 2.0 * (lines.len() as f64 - 1.0);
    // On the block's own colour, which is the same on a dark page.
    let place = format!("text-anchor=\"middle\" fill=\"#222\" pointer-events=\"none\"{turned}");
    lines.iter().enumerate().map(|(index, line)| text(x, first + LINE_HEIGHT * index as f64, &place, line)).collect()
}

/// The end is what tells names of one network apart.
fn shortened(name: &str, most: usize) -> String {
    match name.chars().count().checked_sub(most) {
        None | Some(0) => name.to_owned(),
        Some(surplus) => std::iter::once('\u{2026}').chain(name.chars().skip(surplus + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing<'a>(steps: &'a [StepReport], blocks: &'a [ArenaBlock]) -> Arena<'a> {
        let memory = MemoryPlan {
            weights_bytes: 0,
            arena_bytes: 2048,
            scratch_bytes: 64,
            state_bytes: 0,
            io_bytes: 0,
            total_bytes: 2112,
            arena_lower_bound_bytes: 2048,
        };
        Arena { title: "a<b".into(), memory, steps, blocks }
    }

    fn step(name: &str, scratch_bytes: usize) -> StepReport {
        let (kind, dtype) = ("ConvS8", "int8");
        StepReport { name: name.into(), kind, dtype, macs: 0, read_bytes: 0, written_bytes: 0, scratch_bytes }
    }

    #[test]
    fn every_block_and_every_scratch_is_a_rectangle_with_its_name() {
        let steps = [step("one", 0), step("two & \"three\"", 64), step("\u{1b}[2J", 0)];
        let block = |names: &[&str], offset, first_step, last_step| ArenaBlock {
            scratch: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            offset,
            bytes: 1024,
            first_step,
            last_step,
        };
        let tensors = [block(&["one", "<script>"], 0, 0, 1), block(&["two & \"three\""], 1024, 1, 2)];
        let scratch = ArenaBlock { scratch: true, bytes: 64, ..block(&["two & \"three\""], 2048, 1, 1) };
        let blocks = [&tensors[..], &[scratch]].concat();
        let svg = drawing(&steps, &blocks).svg();
        // The background and three blocks, of which one has the colour of scratch.
        assert_eq!((svg.matches("<rect").count(), svg.matches(SCRATCH.0).count()), (4, 1));
        assert!(svg.contains("<title>one \u{2192} &lt;script&gt;\n1024 bytes at 0, steps 1 to 2</title>"), "{svg}");
        assert!(
            svg.contains("<title>scratch of two &amp; &quot;three&quot;\n64 bytes at 2048, steps 2 to 2</title>"),
            "{svg}"
        );
        assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && svg.contains("a&lt;b"));
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn names_are_cut_at_their_start() {
        assert_eq!(shortened("block_1/conv", 12), "block_1/conv");
        assert_eq!(shortened("block_1/conv", 6), "\u{2026}/conv");
    }
}
