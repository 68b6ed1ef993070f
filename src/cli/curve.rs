//! A value along a network as an SVG image: a bar for each layer, in the network's order.

use std::fmt::Write;

use super::svg::escaped;

const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 130.0;
/// Of a bar with its gap, in pixels.
const STEP: f64 = 22.0;
const NARROWEST: f64 = 420.0;

/// Draws `points`, each with its name, over an axis that begins at 0.
pub fn svg(title: &str, unit: &str, points: &[(&str, f64)]) -> String {
    let most = points.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(1.0, f64::max);
    // To the next ten, so that the axis has whole numbers.
    let most = (most / 10.0).ceil() * 10.0;
    let width = (points.len() as f64 * STEP).max(NARROWEST);
    let (whole_width, whole_height) = (LEFT + width + RIGHT, TOP + HEIGHT + BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole_width:.0} {whole_height:.0}\" \
         width=\"{whole_width:.0}\" height=\"{whole_height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" \
         font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"46\" fill=\"#555\">{}</text>\n",
        escaped(title),
        escaped(unit)
    );
    let y = |value: f64| TOP + HEIGHT - HEIGHT * (value / most).clamp(0.0, 1.0);
    for tenth in 0..=(most / 10.0) as usize {
        let (value, at) = (tenth * 10, y(tenth as f64 * 10.0));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            LEFT + width,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (index, (name, value)) in points.iter().enumerate() {
        let (x, top) = (LEFT + index as f64 * STEP, y(*value));
        let (middle, foot) = (x + STEP / 2.0, TOP + HEIGHT + 12.0);
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#3b7bb3\">\
             <title>{name}: {value:.1}</title></rect>\n\
             <text x=\"{middle:.1}\" y=\"{foot:.1}\" text-anchor=\"end\" transform=\"rotate(-60 {middle:.1} {foot:.1})\">{name}</text>\n",
            x + 3.0,
            STEP - 6.0,
            TOP + HEIGHT - top,
            name = escaped(name),
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_layer_and_no_markup_from_names() {
        let svg = svg("a & b", "dB", &[("conv<1>", 31.0), ("fc", -5.0)]);
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("conv&lt;1&gt;: 31.0") && svg.contains("a &amp; b") && svg.contains(">40</text>"));
        assert!(!svg.contains("height=\"-"));
    }
}
