//! A model, its front end and its rule, put together and run on a source.

mod steady;
mod windows;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tractlet_core::ring::Overflow;

use super::counters::{Counters, Summary};
use super::decide::Decider;
use super::feed::Feed;
use super::frontend::Frontend;
use super::hops::Pieces;
use super::recipe::{FrontendKind, Recipe, RecipeError};
use super::sink::Sink;
use super::source::{Source, SourceError};
use crate::footprint::give_back_free;
use crate::{DType, HopReport, RunError, Session, TensorSpec};
use steady::{Steady, summary};
use windows::Running;

/// The most values that wait: 256 MiB of them.
const MAX_WAITING_VALUES: usize = 1 << 26;

/// How a stream is run.
pub struct StreamOptions<'a> {
    /// What becomes of frames when inference does not keep up.
    pub overflow: Overflow,
    /// Frames that may wait [default: two windows, and a hop or a third, whichever is shorter].
    pub capacity: Option<usize>,
    /// From the arrival of a window's last frame to its decision; later ones are counted.
    pub deadline: Option<Duration>,
    /// Makes the model anew, when [`Control::reload`] asks for it, on a thread of its own.
    pub reload: Option<Reload<'a>>,
    /// Is called at the start, after each window, and every 200 ms while there is none.
    pub progress: Option<OnProgress<'a>>,
}

/// Opens a model again, or says why it cannot.
pub type Reload<'a> = Box<dyn FnMut() -> Result<Session, String> + Send + 'a>;
/// Sees the counters now and then.
pub type OnProgress<'a> = Box<dyn FnMut(&Counters) + 'a>;

impl Default for StreamOptions<'_> {
    fn default() -> Self {
        StreamOptions { overflow: Overflow::Block, capacity: None, deadline: None, reload: None, progress: None }
    }
}

/// What steers a running stream from outside, signal handlers included.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Ends it: the window in flight is finished, and everything is written.
    pub stop: Arc<AtomicBool>,
    /// Asks for the model to be loaded anew.
    pub reload: Arc<AtomicBool>,
    /// What happened so far.
    pub counters: Arc<Counters>,
}

impl Control {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// A stream that cannot be set up, or that broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The recipe does not fit the model.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The source broke, or is not what it was said to be. What came before it was answered.
    #[error("{fault}")]
    Source {
        /// What happened to it.
        fault: SourceError,
        /// What was done until then.
        summary: Box<Summary>,
    },
    /// The model failed.
    #[error("window {window}: {fault}")]
    Run {
        /// Its number, from 0.
        window: u64,
        /// What happened.
        fault: RunError,
    },
    /// A sink refused what was written.
    #[error("cannot write decisions: {0}")]
    Sink(io::Error),
    /// The system has no thread to read the source on.
    #[error("no thread to read the source: {0}; see TasksMax= of systemd and ulimit -u and -v")]
    Thread(io::Error),
    /// Windows of messages would be lost that a broker keeps.
    #[error(
        "a broker keeps what is not acknowledged: StreamOptions::overflow has to be Overflow::Block, and nothing is lost here"
    )]
    Unacknowledged,
    /// The buffer is too small for a window, or larger than is reasonable.
    #[error("a buffer of {capacity} frames: expected {least} to {most}; see StreamOptions::capacity")]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// Frames of a window.
        least: usize,
        /// What fits the bound on memory.
        most: usize,
    },
}

/// A model, its front end and its rule, ready for a source.
pub struct Stream<'a> {
    session: Session,
    frontend: Frontend,
    decider: Decider,
    feed: Feed,
    options: StreamOptions<'a>,
    pieces: Pieces,
    /// Why the model takes whole windows, where it could not be given less.
    whole_windows: Option<String>,
    /// A window, and before it zeros where its first piece begins earlier.
    window: Vec<f32>,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl<'a> Stream<'a> {
    /// Puts together what the recipe says, and runs the model once.
    ///
    /// # Errors
    /// Where the recipe does not fit the model; the message names the field.
    pub fn new(recipe: &Recipe, session: Session, options: StreamOptions<'a>) -> Result<Stream<'a>, StreamError> {
        let unfit = |what: String| StreamError::Recipe(RecipeError::new(&recipe.path, what));
        let (taken, given) = ends(&session).map_err(unfit)?;
        expect_shape(recipe, taken, session.hop()).map_err(unfit)?;
        let pieces = Pieces::new(recipe, taken, session.hop()).map_err(unfit)?;
        let frontend = Frontend::new(&recipe.frontend, &recipe.input, pieces.frames);
        let frontend = frontend.map_err(|error| unfit(error.to_string()))?;
        let (input, output) = (frontend.elements(), elements(given));
        let decider = Decider::new(recipe, input, output).map_err(unfit)?;
        let (windowing, channels) = (recipe.input.windowing, recipe.input.channels.len());
        let (least, most) = (windowing.length, MAX_WAITING_VALUES / channels);
        // What lies between two windows need not wait.
        let usual = || (2 * windowing.length + windowing.hop.min(windowing.length)).min(most);
        let capacity = options.capacity.unwrap_or_else(usual);
        let feed = Feed::new(capacity.min(most), channels, windowing, options.overflow).filter(|_| capacity <= most);
        let Some(feed) = feed else { return Err(StreamError::Capacity { capacity, least, most }) };
        let window = vec![0.0; pieces.memory_len()];
        let refused = session.whole_windows().map(str::to_owned).or_else(|| recipe.hop_rows().err());
        let whole_windows = refused.filter(|_| session.hop().is_none());
        if let Some(why) = &whole_windows {
            log::info!("whole windows: {why}");
        }
        let mut stream = Stream {
            session,
            frontend,
            decider,
            feed,
            options,
            pieces,
            whole_windows,
            window,
            input: vec![0.0; input],
            output: vec![0.0; output],
        };
        test(&mut stream.session, &stream.input, &mut stream.output).map_err(unfit)?;
        // What loading the model took beyond what it is.
        give_back_free();
        Ok(stream)
    }

    /// Reads `source` to its end, or until `control` stops it.
    ///
    /// # Errors
    /// Where the source, the model or a sink fails. What had been decided has been written.
    pub fn run(
        mut self,
        mut source: Source,
        sinks: &mut [Box<dyn Sink>],
        control: &Control,
    ) -> Result<Summary, StreamError> {
        if source.has_messages() && self.options.overflow != Overflow::Block {
            return Err(StreamError::Unacknowledged);
        }
        let started = Instant::now();
        let feed = self.feed;
        let mut steady = Steady::default();
        let this = Running {
            session: &mut self.session,
            frontend: &mut self.frontend,
            decider: &mut self.decider,
            options: &mut self.options,
            pieces: self.pieces,
            ran: false,
            window: &mut self.window,
            input: &mut self.input,
            output: &mut self.output,
            feed: &feed,
            control,
            receipts: Vec::new(),
            flushed_ns: 0,
        };
        let looped = thread::scope(|scope| {
            let reader = || feed.pump(&mut source, control, &control.counters);
            let reader = thread::Builder::new().name("reader".into()).spawn_scoped(scope, reader);
            let looped = reader.map_err(StreamError::Thread).and_then(|_| this.windows(sinks, &mut steady));
            // Whatever ended the loop ends the reader too.
            if looped.is_err() {
                control.stop.store(true, Relaxed);
            }
            feed.wake();
            looped
        });
        let ending = feed.ending();
        control.counters.tallied(ending.tally);
        let summary = summary(&self.session, control, started, &steady, ending.first_malformed);
        let resampled_from_hz = source.resampled_from_hz();
        let summary = Summary { whole_windows: self.whole_windows, resampled_from_hz, ..summary };
        // One that fails takes nothing from the others.
        let closing = sinks.iter_mut().map(|sink| sink.summary(&summary).and_then(|()| sink.flush()));
        let closed = closing.fold(Ok(()), Result::and).map_err(StreamError::Sink);
        source.close();
        looped.and(closed)?;
        match ending.fault {
            None => Ok(summary),
            Some(fault) => Err(StreamError::Source { fault, summary: Box::new(summary) }),
        }
    }
}

/// A model's only input and only output.
fn ends(session: &Session) -> Result<(&TensorSpec, &TensorSpec), String> {
    let ([input], [output]) = (session.inputs(), session.outputs()) else {
        let (inputs, outputs) = (session.inputs().len(), session.outputs().len());
        return Err(format!(
            "the model has {inputs} inputs and {outputs} outputs; a stream takes models with one of each"
        ));
    };
    match [input, output].into_iter().find(|end| end.dtype != DType::F32) {
        None => Ok((input, output)),
        Some(end) => Err(format!(
            "`{}` of the model is {}; a stream takes models with float32 at both ends",
            end.name, end.dtype
        )),
    }
}

/// Whether the front end gives what the model takes of a window. As many elements in another order would be taken for what
/// they are not.
fn expect_shape(recipe: &Recipe, taken: &TensorSpec, hop: Option<&HopReport>) -> Result<(), String> {
    let mut expected = taken.shape.clone();
    if let Some(hop) = hop {
        expected.iter_mut().skip(hop.axis).take(1).for_each(|rows| *rows = hop.window_rows);
    }
    let found = recipe.frontend.shape(recipe.input.channels.len(), recipe.input.windowing.length);
    let without_ones = |shape: &[usize]| shape.iter().copied().filter(|dim| *dim != 1).collect::<Vec<_>>();
    let (takes, gives) = (without_ones(&expected), without_ones(&found));
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    // A plain list says nothing of its order.
    if takes == gives || (takes.len() < 2 && elements(&takes) == elements(&gives)) {
        return Ok(());
    }
    let keys = match recipe.frontend {
        FrontendKind::Samples { .. } => "`frontend.layout`, `input.channels` and `input.window`",
        _ => "`input.channels`, `input.window` and the fields of `frontend`",
    };
    Err(format!("`frontend` gives {found:?}, input `{}` of the model is {expected:?}; see {keys}", taken.name))
}

/// An inference that has to give numbers.
fn test(session: &mut Session, input: &[f32], output: &mut [f32]) -> Result<(), String> {
    session
        .run(&[input.into()], &mut [(&mut *output).into()])
        .map_err(|error| format!("a test run failed: {error}"))?;
    match output.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(format!("a test run gave {:?} at element {index}", output.get(index))),
    }
}

fn elements(spec: &TensorSpec) -> usize {
    spec.shape.iter().product()
}
