//! Drawings as SVG images: what all of them are made of. Each is a file here, a page with its title, the facts
//! below it and the plot.
//!
//! Colours are attributes, as on paper; a style sheet has others for who reads on a dark screen.

mod arena;
#[cfg(feature = "quantize")]
mod curve;
mod histogram;
mod memory;
mod panel;

pub use arena::Arena;
#[cfg(feature = "quantize")]
pub use curve::curve;
pub use histogram::Histogram;
pub use memory::Memory;

/// Of the font, 11 pixels high.
const CHARACTER_WIDTH: f64 = 6.1;
const LINE_HEIGHT: f64 = 13.0;

const INK: &str = "class=\"ink\" fill=\"#222\"";
const SOFT: &str = "class=\"soft\" fill=\"#555\"";
const GRID: &str = "class=\"grid\" stroke=\"#e4e4e4\"";
const AXIS: &str = "class=\"axis\" stroke=\"#999\"";
/// A limit or a figure that is not the plot's own.
const MARK: &str = "class=\"mark\" stroke=\"#c22\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"";
/// Legible on whatever it lies.
const MARK_TEXT: &str = "class=\"mark-text\" fill=\"#c22\" stroke=\"#fff\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\"";

const DARK: &str = "<style>@media (prefers-color-scheme: dark) { .paper { fill: #14171c } .ink { fill: #e8eaed } \
    .soft { fill: #a8b0ba } .grid { stroke: #2c323b } .axis { stroke: #6b7480 } .mark { stroke: #ff7b72 } \
    .mark-text { fill: #ff7b72; stroke: #14171c } }</style>\n";

/// The beginning of an image: its background, the title, and what else is to be known.
fn page((width, height): (f64, f64), left: f64, title: &str, facts: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n{DARK}\
         <rect width=\"100%\" height=\"100%\" class=\"paper\" fill=\"#fff\"/>\n{}{}",
        text(left, 28.0, &format!("font-size=\"16\" font-weight=\"bold\" {INK}"), title),
        text(left, 48.0, &format!("font-size=\"12\" {SOFT}"), facts),
    )
}

const END: &str = "</svg>\n";

/// A rectangle that tells what it is to who points at it.
fn rect((x, y): (f64, f64), (width, height): (f64, f64), paint: &str, tip: &str) -> String {
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {paint}><title>{}</title></rect>\n",
        escaped(tip)
    )
}

fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64), paint: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {paint}/>\n")
}

fn text(x: f64, y: f64, attributes: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escaped(content))
}

/// A round number of bytes of which four to eight make `all`.
fn bytes_tick(all: usize) -> usize {
    let powers = std::iter::successors(Some(64usize), |tick| tick.checked_mul(2));
    powers.into_iter().find(|tick| all / tick <= 8).unwrap_or(usize::MAX)
}

/// Names come out of model files: none may end up as markup, nor make the file no XML at all.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!([0, 3200, 55_296, 1 << 20].map(bytes_tick), [64, 512, 8192, 1 << 17]);
    }

    #[test]
    fn no_name_becomes_markup() {
        assert_eq!(escaped("<a> & \"b\"\u{1b}"), "&lt;a&gt; &amp; &quot;b&quot;\u{fffd}");
    }
}
