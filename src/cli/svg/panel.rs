//! The rectangle of a plot, and the axes along it.

use super::{AXIS, GRID, INK, SOFT, line, text};

/// Where values lie in the image: `x` and `y` are the first and the last that there is room for.
pub struct Panel {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Panel {
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Values beyond the panel lie at its edge.
    pub fn x(&self, value: f64) -> f64 {
        self.left + self.width * share(self.x, value)
    }

    pub fn y(&self, value: f64) -> f64 {
        self.bottom() - self.height * share(self.y, value)
    }

    /// Lines across at every `tick`, with their values at the left, and upright beside them what they are.
    pub fn rows(&self, tick: f64, what: &str, label: impl Fn(f64) -> String) -> String {
        let (x, y) = (self.left - 68.0, self.top + self.height / 2.0);
        let upright = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\" {INK}");
        let mut svg = text(x, y, &upright, what);
        for value in ticks(self.y, tick) {
            let y = self.y(value);
            svg += &line((self.left, y), (self.right(), y), GRID);
            svg += &text(self.left - 8.0, y + 4.0, &format!("text-anchor=\"end\" {SOFT}"), &label(value));
        }
        svg
    }

    /// The axis below, with a mark at every `tick`; what it shows stands below its end where `what` is not empty.
    pub fn columns(&self, tick: f64, what: &str, label: impl Fn(f64) -> String) -> String {
        let bottom = self.bottom();
        let mut svg = line((self.left, bottom), (self.right(), bottom), AXIS);
        for value in ticks(self.x, tick) {
            let x = self.x(value);
            svg += &line((x, bottom), (x, bottom + 4.0), AXIS);
            svg += &text(x, bottom + 17.0, &format!("text-anchor=\"middle\" {SOFT}"), &label(value));
        }
        svg + &text(self.right(), bottom + 34.0, &format!("text-anchor=\"end\" {INK}"), what)
    }
}

fn share((first, last): (f64, f64), value: f64) -> f64 {
    // Of a panel without an extent, and of what is no number, the beginning.
    let share = (value - first) / (last - first);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// The multiples of `tick` from the first value to the last: few, whatever the numbers are.
fn ticks((first, last): (f64, f64), tick: f64) -> impl Iterator<Item = f64> {
    let from = (first / tick).ceil();
    let count = ((last / tick + 1e-9).floor() - from).clamp(0.0, 100.0) as u32;
    (0..=count).map(move |index| (from + f64::from(index)) * tick)
}

/// 1, 2 or 5 times a power of ten: the smallest of which at most `most` make `span`.
pub fn round_tick(span: f64, most: f64) -> f64 {
    let least = (span / most).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|tick| *tick >= least).unwrap_or(10.0 * power)
}

/// With as many decimals as multiples of `tick` have.
pub fn decimal(value: f64, tick: f64) -> String {
    let decimals = (-tick.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANEL: Panel = Panel { left: 50.0, top: 20.0, width: 100.0, height: 200.0, x: (10.0, 30.0), y: (0.0, 8.0) };

    #[test]
    fn values_lie_in_the_panel() {
        assert_eq!([PANEL.x(10.0), PANEL.x(20.0), PANEL.x(99.0), PANEL.x(f64::NAN)], [50.0, 100.0, 150.0, 50.0]);
        assert_eq!([PANEL.y(0.0), PANEL.y(8.0), PANEL.y(2.0)], [220.0, 20.0, 170.0]);
    }

    #[test]
    fn ticks_are_round_and_begin_in_the_panel() {
        assert_eq!(
            [(10.0, 5.0), (0.9, 8.0), (61.0, 6.0), (7e-4, 7.0)].map(|(span, most)| round_tick(span, most)),
            [2.0, 0.2, 20.0, 1e-4]
        );
        assert_eq!(ticks((11.0, 30.0), 5.0).collect::<Vec<_>>(), [15.0, 20.0, 25.0, 30.0]);
        assert_eq!(ticks((0.0, f64::INFINITY), 1.0).count(), 101);
        assert_eq!([decimal(0.3, 0.1), decimal(20.0, 5.0), decimal(0.25, 0.05)], ["0.3", "20", "0.25"]);
    }
}
