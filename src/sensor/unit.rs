//! Units of channels, and the way from one to another.

use std::str::FromStr;

/// A unit that channels can have.
///
/// ```
/// use tractlet::sensor::Unit;
/// let (counted, taken): (Unit, Unit) = ("m/s^2".parse()?, "g".parse()?);
/// let line = counted.to(taken).ok_or("not the same quantity")?;
/// assert!((line.at(9.80665) - 1.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit(&'static Entry);

#[derive(Debug, PartialEq)]
struct Entry {
    name: &'static str,
    quantity: Quantity,
    /// One of it, in the quantity's first unit.
    factor: f64,
    /// Its zero, in the quantity's first unit.
    zero: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantity {
    Acceleration,
    Rotation,
    Field,
    Temperature,
    Pressure,
    Voltage,
    Current,
    Plain,
}

const TABLE: [Entry; 24] = {
    use Quantity::*;
    const fn unit(name: &'static str, quantity: Quantity, factor: f64) -> Entry {
        Entry { name, quantity, factor, zero: 0.0 }
    }
    [
        unit("m/s^2", Acceleration, 1.0),
        unit("g", Acceleration, 9.80665),
        unit("mg", Acceleration, 9.80665e-3),
        unit("rad/s", Rotation, 1.0),
        unit("deg/s", Rotation, std::f64::consts::PI / 180.0),
        unit("mdeg/s", Rotation, std::f64::consts::PI / 180_000.0),
        unit("T", Field, 1.0),
        unit("uT", Field, 1e-6),
        unit("G", Field, 1e-4),
        unit("K", Temperature, 1.0),
        Entry { name: "degC", quantity: Temperature, factor: 1.0, zero: 273.15 },
        Entry { name: "mdegC", quantity: Temperature, factor: 1e-3, zero: 273.15 },
        unit("Pa", Pressure, 1.0),
        unit("hPa", Pressure, 100.0),
        unit("kPa", Pressure, 1000.0),
        unit("V", Voltage, 1.0),
        unit("mV", Voltage, 1e-3),
        unit("uV", Voltage, 1e-6),
        unit("A", Current, 1.0),
        unit("mA", Current, 1e-3),
        unit("1", Plain, 1.0),
        unit("%", Plain, 0.01),
        unit("full-scale", Plain, 1.0),
        unit("dB", Plain, 1.0),
    ]
};

impl Unit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether it is that of sound, from -1 to 1.
    pub(super) fn is_full_scale(self) -> bool {
        self.0.name == "full-scale"
    }

    /// The line from values in this unit to values in `other`; none where they measure different things.
    pub fn to(self, other: Unit) -> Option<Line> {
        (self.0.quantity == other.0.quantity)
            .then(|| Line { gain: self.0.factor / other.0.factor, bias: (self.0.zero - other.0.zero) / other.0.factor })
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Unit, String> {
        TABLE.iter().find(|entry| entry.name == text).map(Unit).ok_or_else(|| {
            let names: Vec<&str> = TABLE.iter().map(|entry| entry.name).collect();
            format!("`{text}` is not a unit that is known; expected one of {}", names.join(", "))
        })
    }
}

/// `gain * x + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// What a value is multiplied with.
    pub gain: f64,
    /// What is added then.
    pub bias: f64,
}

impl Line {
    /// Leaves a value as it is.
    pub const IDENTITY: Line = Line { gain: 1.0, bias: 0.0 };

    /// Multiplies.
    pub fn scale(gain: f64) -> Line {
        Line { gain, bias: 0.0 }
    }

    /// Its value at `x`.
    pub fn at(self, x: f64) -> f64 {
        x.mul_add(self.gain, self.bias)
    }

    /// This first, and `next` on what it gives.
    pub fn then(self, next: Line) -> Line {
        Line { gain: self.gain * next.gain, bias: self.bias * next.gain + next.bias }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_within_their_quantity_alone() {
        let unit = |name: &str| name.parse::<Unit>().unwrap();
        assert!((unit("mdegC").to(unit("K")).unwrap().at(25_000.0) - 298.15).abs() < 1e-9);
        assert!((unit("deg/s").to(unit("rad/s")).unwrap().at(180.0) - std::f64::consts::PI).abs() < 1e-12);
        assert!(unit("g").to(unit("rad/s")).is_none());
        assert!("furlong".parse::<Unit>().unwrap_err().contains("m/s^2"));
    }
}
