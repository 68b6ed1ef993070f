//! How streams go, for who looks at the terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use tractlet::sensor::Counters;

/// A line on a terminal that says how it goes, where nothing else is written there.
pub struct Status {
    shown: Option<Instant>,
}

impl Status {
    pub fn new(decisions_on_stdout: bool) -> Status {
        let is_free = io::stderr().is_terminal() && !(decisions_on_stdout && io::stdout().is_terminal());
        Status { shown: is_free.then(Instant::now) }
    }

    /// What all of them did together.
    pub fn show<'a>(&mut self, counters: impl Iterator<Item = &'a Counters> + Clone) {
        if self.shown.is_some_and(|shown| shown.elapsed() >= Duration::from_secs(1)) {
            self.shown = Some(Instant::now());
            let sum = |of: fn(&Counters) -> u64| counters.clone().map(of).sum::<u64>();
            let (windows, dropped) = (sum(Counters::windows), sum(Counters::dropped));
            let (malformed, late) = (sum(Counters::malformed), sum(Counters::deadline_missed));
            // Nobody is harmed where it cannot be seen.
            let line =
                format_args!("\r{windows} windows, {dropped} frames dropped, {malformed} malformed, {late} late \r");
            let _ = io::stderr().write_fmt(line);
        }
    }
}
