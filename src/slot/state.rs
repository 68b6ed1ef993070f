//! `state.toml`: which slot is active, and what the other holds. The one file whose exchange is a decision.

use serde::{Deserialize, Serialize};

/// One of the two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotName {
    /// The folder `a`.
    A,
    /// The folder `b`.
    B,
}

impl SlotName {
    /// Its folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            SlotName::A => "a",
            SlotName::B => "b",
        }
    }
}

/// What the slot holds that is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Other {
    /// Nothing that may be used.
    Nothing,
    /// A package that was installed and waits to be activated.
    Newer,
    /// The package that was active before.
    Older,
    /// A package that was rolled back; it is not activated again.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub active: Option<SlotName>,
    pub other: Other,
    /// The highest version that was ever installed.
    pub newest: u64,
    /// Active, and not yet known to work.
    pub trial: bool,
    /// Starts on trial of which no end is known.
    pub crashes: u32,
}

impl State {
    /// Before anything was installed.
    pub const EMPTY: State = State { active: None, other: Other::Nothing, newest: 0, trial: false, crashes: 0 };

    pub fn parse(text: &[u8]) -> Result<State, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no UTF-8 text".to_owned())?;
        crate::from_toml(text)
    }

    pub fn text(&self) -> String {
        let State { active, other, newest, trial, crashes } = self;
        let active = active.map_or(String::new(), |slot| format!("active = \"{}\"\n", slot.as_str()));
        let other = match other {
            Other::Nothing => "nothing",
            Other::Newer => "newer",
            Other::Older => "older",
            Other::Withdrawn => "withdrawn",
        };
        format!(
            "# Which slot is active. tractlet slot writes this file.\n{active}other = \"{other}\"\nnewest = {newest}\n\
             trial = {trial}\ncrashes = {crashes}\n"
        )
    }

    /// The slot that is not active, and the next to be filled.
    pub fn other_slot(&self) -> SlotName {
        match self.active {
            Some(SlotName::A) => SlotName::B,
            Some(SlotName::B) | None => SlotName::A,
        }
    }

    /// The newer package takes over, on trial.
    pub fn activated(&self) -> State {
        let other = if self.active.is_some() { Other::Older } else { Other::Nothing };
        State { active: Some(self.other_slot()), other, trial: true, crashes: 0, newest: self.newest }
    }

    /// The older package takes over again, and the one that was active is not activated any more.
    pub fn rolled_back(&self) -> State {
        let active = Some(self.other_slot());
        State { active, other: Other::Withdrawn, trial: false, crashes: 0, newest: self.newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let installed = State { other: Other::Newer, newest: 7, ..State::EMPTY };
        let active = installed.activated();
        let next = State { other: Other::Newer, newest: 8, trial: false, crashes: 2, ..active.clone() }.activated();
        for state in [State::EMPTY, installed, active, next.clone(), next.rolled_back()] {
            assert_eq!(State::parse(state.text().as_bytes()), Ok(state));
        }
        assert_eq!((next.active, next.rolled_back().active), (Some(SlotName::B), Some(SlotName::A)));
    }
}
