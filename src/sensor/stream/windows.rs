//! The loop: window, front end, model, decision, sinks.

use std::panic::resume_unwind;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tractlet_core::ring::Taken;

use super::steady::Steady;
use super::{Control, StreamError, StreamOptions, ends, test};
use crate::Session;
use crate::footprint::give_back_free;
use crate::sensor::counters::Counters;
use crate::sensor::decide::{Decider, Decision};
use crate::sensor::feed::{Feed, Next};
use crate::sensor::frontend::Frontend;
use crate::sensor::hops::Pieces;
use crate::sensor::mqtt::{Message, RECEIVE_MAXIMUM, Receipt};
use crate::sensor::recipe::Emit;
use crate::sensor::sink::Sink;

/// How long the loop waits before it looks at signals, and how long decisions may wait while it is busy.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the loop works with, while the ring is shared with the reader.
pub(super) struct Running<'r, 'a> {
    pub session: &'r mut Session,
    pub frontend: &'r mut Frontend,
    pub decider: &'r mut Decider,
    pub options: &'r mut StreamOptions<'a>,
    pub pieces: Pieces,
    /// Whether this model ran on the window before.
    pub ran: bool,
    pub window: &'r mut [f32],
    pub input: &'r mut [f32],
    pub output: &'r mut [f32],
    pub feed: &'r Feed,
    pub control: &'r Control,
    /// Of windows that were decided since the last flush.
    pub receipts: Vec<Receipt>,
    /// When a window was last followed by a flush, on the clock of arrivals.
    pub flushed_ns: u64,
}

impl Running<'_, '_> {
    pub fn windows(mut self, sinks: &mut [Box<dyn Sink>], steady: &mut Steady) -> Result<(), StreamError> {
        let counters = &*self.control.counters;
        // It is ready, even if nothing comes.
        self.progress(counters);
        while !self.control.is_stopped() {
            if self.control.reload.swap(false, Relaxed) {
                self.reload(counters);
            }
            // Who follows the output sees a decision before the loop goes to sleep on the next; where it never does, `window`
            // sees to it.
            let next = match self.feed.next(self.pieces.window(self.window), Duration::ZERO, counters) {
                Next::Nothing => {
                    self.flush(sinks, counters)?;
                    self.feed.next(self.pieces.window(self.window), PATIENCE, counters)
                }
                next => next,
            };
            match next {
                Next::Window(taken, message) => {
                    self.window(taken, message, sinks, counters)?;
                    steady.after(counters.windows());
                }
                Next::Nothing => {}
                Next::End => break,
            }
            self.progress(counters);
        }
        steady.end(counters.windows());
        self.flush(sinks, counters)
    }

    fn progress(&mut self, counters: &Counters) {
        if let Some(progress) = &mut self.options.progress {
            progress(counters);
        }
    }

    /// What was decided is out, as far as files go, and its messages need not be given out again.
    fn flush(&mut self, sinks: &mut [Box<dyn Sink>], counters: &Counters) -> Result<(), StreamError> {
        sinks.iter_mut().try_for_each(|sink| sink.flush()).map_err(StreamError::Sink)?;
        self.receipts.drain(..).for_each(Receipt::confirm);
        counters.undelivered.store(sinks.iter().map(|sink| sink.undelivered()).sum(), Relaxed);
        Ok(())
    }

    fn window(
        &mut self,
        taken: Taken,
        message: Option<Message>,
        sinks: &mut [Box<dyn Sink>],
        counters: &Counters,
    ) -> Result<(), StreamError> {
        let window = counters.windows();
        let goes_on = taken.goes_on && self.ran;
        for piece in self.pieces.runs(goes_on) {
            self.frontend.run(self.window.get(piece).unwrap_or_default(), self.input);
            self.session
                .run(&[(&*self.input).into()], &mut [(&mut *self.output).into()])
                .map_err(|fault| StreamError::Run { window, fault })?;
        }
        self.ran = true;
        let emit = self.decider.emit();
        let (verdict, changed) = self.decider.decide(self.input, self.output);
        let now_ns = self.feed.now_ns();
        let latency = Duration::from_nanos(now_ns.saturating_sub(taken.arrival_ns));
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        Counters::add(&counters.windows, 1);
        Counters::add(&counters.latency_us, latency_us);
        counters.latency_max_us.fetch_max(latency_us, Relaxed);
        if self.options.deadline.is_some_and(|deadline| latency > deadline) {
            Counters::add(&counters.deadline_missed, 1);
        }
        let seconds = |ns: u64| ns as f64 / 1e9;
        let (from_s, to_s) = (seconds(taken.first_ns), seconds(taken.last_ns));
        let decision = Decision { window, from_s, to_s, verdict, changed, latency_us, message: message.as_ref() };
        if changed || emit == Emit::Every {
            Counters::add(&counters.decisions, 1);
            sinks.iter_mut().try_for_each(|sink| sink.decision(&decision)).map_err(StreamError::Sink)?;
        }
        self.receipts.extend(message.and_then(|message| message.receipt));
        let is_due = Duration::from_nanos(now_ns.saturating_sub(self.flushed_ns)) >= PATIENCE;
        if is_due {
            self.flushed_ns = now_ns;
        }
        match is_due || self.receipts.len() >= usize::from(RECEIVE_MAXIMUM) {
            true => self.flush(sinks, counters),
            false => Ok(()),
        }
    }

    /// Loads the model anew; it takes over between two windows, and only if it is fit to.
    ///
    /// On a thread that ends with it. What a thread frees, its allocator may keep for the next that it asks for: on this one,
    /// which goes on, pieces of each model that ever ran would be left, and pages with them.
    fn reload(&mut self, counters: &Counters) {
        let Some(reload) = &mut self.options.reload else { return };
        let (session, input, output) = (&mut *self.session, &*self.input, &mut *self.output);
        let exchanged = thread::scope(|scope| {
            let exchange = || reload().and_then(|fresh| exchange(session, fresh, input, output));
            let loader = thread::Builder::new().name("loader".into()).spawn_scoped(scope, exchange);
            let loader = loader.map_err(|error| format!("no thread to load it: {error}"))?;
            loader.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        // What loading took, and the one of the two that is not needed any more.
        give_back_free();
        match exchanged {
            Ok(()) => {
                self.ran = false;
                Counters::add(&counters.reloads, 1);
                log::info!("the model was exchanged");
            }
            Err(why) => {
                Counters::add(&counters.reloads_refused, 1);
                log::warn!("the model was not exchanged, and the old one goes on: {why}");
            }
        }
    }
}

/// Puts `fresh` in the place of `session`, if it is fit to take over.
fn exchange(session: &mut Session, mut fresh: Session, input: &[f32], output: &mut [f32]) -> Result<(), String> {
    let (now, then) = (ends(session)?, ends(&fresh)?);
    if (&now.0.shape, &now.1.shape) != (&then.0.shape, &then.1.shape) {
        let (a, b) = ((&now.0.shape, &now.1.shape), (&then.0.shape, &then.1.shape));
        return Err(format!("it takes {:?} and gives {:?}, the one that runs {:?} and {:?}", b.0, b.1, a.0, a.1));
    }
    let hops = |session: &Session| session.hop().map(|hop| (hop.axis, hop.rows, hop.window_rows));
    if hops(session) != hops(&fresh) {
        return Err("it does not take the same part of a window".to_owned());
    }
    test(&mut fresh, input, output)?;
    *session = fresh;
    Ok(())
}
