//! `[input]`: channels, rate and windows.

use serde::Deserialize;
use tractlet_core::ring::Windowing;

use crate::sensor::unit::Unit;

/// Frames a second that have a period, and one that a clock can count.
pub const RATES_HZ: std::ops::RangeInclusive<f64> = 1e-6..=1e9;
/// The most channels of a frame.
pub const MAX_CHANNELS: usize = 1024;
/// The most values of a window: 64 MiB of them.
const MAX_WINDOW_VALUES: usize = 1 << 24;

/// What comes from the sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Frames a second; none where frames come when they come.
    pub rate_hz: Option<f64>,
    /// At least one.
    pub channels: Vec<Channel>,
    /// The channels' names are the recipe's, and a header has to have them; else they are c0, c1, … by position.
    pub named: bool,
    /// How windows are cut.
    pub windowing: Windowing,
}

/// A channel as the model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, as in the header of a CSV file.
    pub name: String,
    /// What its values are in.
    pub unit: Option<Unit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    rate_hz: Option<f64>,
    channels: Channels,
    #[serde(default)]
    units: Vec<String>,
    window: usize,
    hop: Option<usize>,
    overlap: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of names, or a number of channels")]
enum Channels {
    Names(Vec<String>),
    Count(usize),
}

impl InputFile {
    pub fn check(self) -> Result<Input, String> {
        if let Some(rate) = self.rate_hz.filter(|rate| !RATES_HZ.contains(rate)) {
            return Err(format!("`input.rate_hz` is {rate:?}; expected 1e-6 to 1e9"));
        }
        let named = matches!(self.channels, Channels::Names(_));
        let names = match self.channels {
            Channels::Names(names) => names,
            Channels::Count(count) if count <= MAX_CHANNELS => (0..count).map(|c| format!("c{c}")).collect(),
            Channels::Count(count) => return Err(too_many(count)),
        };
        if names.is_empty() || names.len() > MAX_CHANNELS {
            return Err(too_many(names.len()));
        }
        if let Some(twice) =
            names.iter().enumerate().find(|(index, name)| names.iter().take(*index).any(|n| n == *name))
        {
            return Err(format!("`input.channels` has `{}` twice", twice.1));
        }
        let units = self.units.iter().map(|unit| unit.parse()).collect::<Result<Vec<Unit>, _>>();
        let units = units.map_err(|error| format!("`input.units`: {error}"))?;
        if !units.is_empty() && units.len() != names.len() {
            return Err(format!("`input.units` has {} units for {} channels", units.len(), names.len()));
        }
        if self.window == 0 || self.window > MAX_WINDOW_VALUES / names.len() {
            let most = MAX_WINDOW_VALUES / names.len();
            return Err(format!("`input.window` is {} frames; expected 1 to {most}", self.window));
        }
        let hop = hop(self.window, self.hop, self.overlap).map_err(|error| format!("`input.{error}"))?;
        let unit = |index: usize| units.get(index).copied();
        let channels = names.into_iter().enumerate().map(|(index, name)| Channel { name, unit: unit(index) });
        let windowing = Windowing { length: self.window, hop };
        Ok(Input { rate_hz: self.rate_hz, channels: channels.collect(), named, windowing })
    }
}

fn too_many(count: usize) -> String {
    format!("`input.channels` has {count} channels; expected 1 to {MAX_CHANNELS}")
}

/// Frames from window to window: given, or as the part that two share; none of both is no overlap.
fn hop(window: usize, hop: Option<usize>, overlap: Option<f64>) -> Result<usize, String> {
    match (hop, overlap) {
        (None, None) => Ok(window),
        (Some(hop), None) if hop == 0 || u32::try_from(hop).is_err() => {
            Err(format!("hop` is {hop} frames; expected 1 to {}", u32::MAX))
        }
        (Some(hop), None) => Ok(hop),
        (None, Some(overlap)) if (0.0..1.0).contains(&overlap) => {
            Ok(((window as f64 * (1.0 - overlap)).round() as usize).max(1))
        }
        (None, Some(overlap)) => Err(format!("overlap` is {overlap}; expected 0 or more, and less than 1")),
        (Some(_), Some(_)) => Err("hop` and `input.overlap` say the same; give one".into()),
    }
}
