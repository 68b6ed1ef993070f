//! MODEL where it is a folder of slots: the package in use, and what is told of how the use went.

use std::path::{Path, PathBuf};

use tractlet::slot::{Package, SlotError, Slots, Start};

use super::failure::Failure;
use super::{ModelArgs, budget, cap};

/// Windows that a model on trial has to answer.
const WINDOWS: u64 = 10;

/// Nothing, where MODEL is a file.
pub struct InUse(Option<Slot>);

struct Slot {
    slots: Slots,
    start: Start,
    /// Windows after which it counts as working.
    windows: u64,
    pending: Option<Pending>,
}

/// What a reload is to bring.
struct Pending {
    fresh: Start,
    /// How many were made and refused before it.
    before: Reloads,
}

/// How many times the model was exchanged, and was not fit to be.
#[derive(Clone, Copy)]
pub struct Reloads {
    pub made: u64,
    pub refused: u64,
}

impl ModelArgs {
    /// Looks up the active package, for a command that counts for nothing.
    pub fn resolve(&mut self) -> Result<(), Failure> {
        if Slots::is_at(&self.model) {
            cap::begin(self.max_rss)?;
            self.model = Slots::open(&self.model)?.active()?.model();
        }
        Ok(())
    }

    /// Looks up the active package, for a command whose use of it counts, and its model: [`InUse::end`] it.
    pub fn begin_use(&self) -> Result<(InUse, PathBuf), Failure> {
        if !Slots::is_at(&self.model) {
            return Ok((InUse(None), self.model.clone()));
        }
        cap::begin(self.max_rss)?;
        let slots = Slots::open(&self.model)?;
        let start = slots.begin(&fit)?;
        let model = start.package().model();
        Ok((InUse(Some(Slot { slots, start, windows: WINDOWS, pending: None })), model))
    }
}

impl InUse {
    /// What a use that ended says of the package: it works, if the use `proves` that by having succeeded. One that does not get
    /// here was a crash.
    pub fn end(mut self, proves: bool, done: Result<(), Failure>) -> Result<(), Failure> {
        let Some(slot) = &mut self.0 else { return done };
        let excused = slot.excuse_pending();
        let Slot { slots, start, .. } = slot;
        let told = if proves && done.is_ok() { slots.confirm(start) } else { slots.excuse(start) };
        done.and(excused.and(told).map_err(Failure::from))
    }

    /// What to exchange the model for that runs: what `model` names, as MODEL does, or what is active by now.
    pub fn again(&mut self, model: &Path, before: Reloads) -> Result<PathBuf, Failure> {
        let Some(slot) = &mut self.0 else { return Ok(model.to_owned()) };
        slot.excuse_pending()?;
        let mut fresh = slot.slots.begin(&fit)?;
        if fresh.package().beside() != slot.start.package().beside() {
            slot.slots.excuse(&mut fresh)?;
            let what = "its model.toml, or another file beside the model, is not the one that the stream was started with; \
                        start it anew";
            return Err(format!("{}: {what}", fresh.package().folder().display()).into());
        }
        let model = fresh.package().model();
        slot.pending = Some(Pending { fresh, before });
        Ok(model)
    }

    /// Where a stream has come to: enough windows, since the model took over, end a trial.
    pub fn progress(&mut self, windows: u64, reloads: Reloads) {
        let Some(slot) = &mut self.0 else { return };
        if let Some(Pending { fresh, .. }) = slot.pending.take_if(|pending| reloads.made > pending.before.made) {
            let mut before = std::mem::replace(&mut slot.start, fresh);
            slot.windows = windows + WINDOWS;
            if let Err(error) = slot.slots.excuse(&mut before) {
                log::warn!("{error}: the end of its use is not written down");
            }
        }
        // A start that came to nothing is no crash, and the stream may yet have one.
        if slot.pending.as_ref().is_some_and(|pending| reloads.refused > pending.before.refused)
            && let Err(error) = slot.excuse_pending()
        {
            log::warn!("{error}: the end of a start that was refused is not written down");
        }
        if windows >= slot.windows
            && let Err(error) = slot.slots.confirm(&mut slot.start)
        {
            // Tried again, and told, more and more seldom.
            slot.windows = windows.saturating_mul(2);
            log::warn!("{error}: the model works, and is on trial still; next try after {} windows", slot.windows);
        }
    }

    /// The folder of slots, which is written to.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_ref().and_then(|slot| slot.start.package().folder().parent())
    }
}

impl Slot {
    /// Strikes out a start that a refused reload has counted.
    fn excuse_pending(&mut self) -> Result<(), SlotError> {
        self.pending.take().map_or(Ok(()), |mut pending| self.slots.excuse(&mut pending.fresh))
    }
}

/// A package is used if its model answers as it should, and its plan is within its own budget.
pub fn fit(package: &Package) -> Result<(), String> {
    const BUDGET: &str = "budget.toml";
    let session = package.self_test()?;
    if !package.has(BUDGET) {
        return Ok(());
    }
    let held = budget::Budget::read(&budget::BudgetArg::File(package.file(BUDGET)))
        .and_then(|budget| budget.on_plan(session.memory().as_ref(), session.engine()));
    match held {
        Ok(held) => budget::excess(&held, &session, None).map_or(Ok(()), Err),
        Err(Failure::Because(why)) => Err(why),
        Err(Failure::Closed) => Err("its budget cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_a_refused_reload_counted_is_struck_out_at_once() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/slots");
        let key = std::fs::read_to_string(golden.join("minisign.pub")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let slots =
            Slots::create(&folder.path().join("slots"), &key, None, &golden.join("signed"), &|_| Ok(())).unwrap();
        slots.install(&golden.join("signed"), &|_| Ok(())).unwrap();
        slots.activate(&|_| Ok(())).unwrap();
        let start = slots.begin(&|_| Ok(())).unwrap();
        let model = start.package().model();
        let mut in_use = InUse(Some(Slot { slots, start, windows: WINDOWS, pending: None }));
        let crashes = |in_use: &InUse| in_use.0.as_ref().unwrap().slots.status().unwrap().crashes;
        let of = |made, refused| Reloads { made, refused };
        in_use.again(&model, of(1, 4)).unwrap();
        in_use.progress(0, of(1, 4));
        assert_eq!(crashes(&in_use), 2, "the one that runs, and the one that is to");
        in_use.progress(0, of(1, 5));
        assert_eq!(crashes(&in_use), 1);
        in_use.again(&model, of(1, 5)).unwrap();
        in_use.progress(0, of(2, 5));
        assert_eq!(crashes(&in_use), 1, "one took the place of the other");
    }
}
