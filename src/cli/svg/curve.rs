//! A value along a network as an SVG image: a bar for each layer, in the network's order.

use super::{END, GRID, INK, SOFT, line, page, rect, text};

const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 130.0;
/// Of a bar with its gap, in pixels.
const STEP: f64 = 22.0;
const NARROWEST: f64 = 420.0;

/// Draws `points`, each with its name, over an axis that begins at 0.
pub fn curve(title: &str, unit: &str, points: &[(&str, f64)]) -> String {
    let most = points.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(1.0, f64::max);
    // To the next ten, so that the axis has whole numbers.
    let most = (most / 10.0).ceil() * 10.0;
    let width = (points.len() as f64 * STEP).max(NARROWEST);
    let mut svg = page((LEFT + width + RIGHT, TOP + HEIGHT + BOTTOM), LEFT, title, unit);
    let y = |value: f64| TOP + HEIGHT - HEIGHT * (value / most).clamp(0.0, 1.0);
    for tenth in 0..=(most / 10.0) as usize {
        let (value, at) = (tenth * 10, y(tenth as f64 * 10.0));
        svg += &line((LEFT, at), (LEFT + width, at), GRID);
        svg += &text(LEFT - 8.0, at + 4.0, &format!("text-anchor=\"end\" {SOFT}"), &value.to_string());
    }
    for (index, (name, value)) in points.iter().enumerate() {
        let (x, top) = (LEFT + index as f64 * STEP, y(*value));
        let (middle, foot) = (x + STEP / 2.0, TOP + HEIGHT + 12.0);
        let (corner, size) = ((x + 3.0, top), (STEP - 6.0, TOP + HEIGHT - top));
        svg += &rect(corner, size, "fill=\"#3b7bb3\"", &format!("{name}: {value:.1}"));
        let place = format!("text-anchor=\"end\" {INK} transform=\"rotate(-60 {middle:.1} {foot:.1})\"");
        svg += &text(middle, foot, &place, name);
    }
    svg + END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_layer_and_no_markup_from_names() {
        let svg = curve("a & b", "dB", &[("conv<1>", 31.0), ("fc", -5.0)]);
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("conv&lt;1&gt;: 31.0") && svg.contains("a &amp; b") && svg.contains(">40</text>"));
        assert!(!svg.contains("height=\"-"));
    }
}
