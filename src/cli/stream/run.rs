//! From arguments to a stream that runs, to its end.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tractlet::footprint::share_one_heap;
use tractlet::sensor::{
    Control, Counters, Metrics, Notifier, SinkSpec, Source, Stream, StreamError, StreamOptions, Summary,
};

use super::{Status, StreamArgs};
use crate::cli::apart;
use crate::cli::confine::confine;
use crate::cli::failure::Failure;
use crate::cli::in_use::{InUse, Reloads};
use crate::cli::output;
use crate::cli::reload::{Loading, one_at_a_time};
use crate::cli::usage;

pub fn stream(args: &StreamArgs) -> Result<(), Failure> {
    if args.model.json && args.sink.iter().any(SinkSpec::is_stdout) {
        usage("stream", "--json prints the summary alone to standard output: give sinks a file, or leave --json out");
    }
    if let Err(what) = args.fits_itself() {
        usage("stream", &what);
    }
    share_one_heap();
    let control = Control::default();
    listen(&control, [])?;
    let metrics = args.metrics.as_ref().map(|address| {
        let bound = Metrics::bind(address).and_then(|metrics| Ok((metrics.address()?, metrics)));
        bound.map_err(|error| format!("--metrics {address}: cannot listen there: {error}"))
    });
    let metrics = metrics.transpose()?;
    let mut notifier = Notifier::from_env().map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
    let mut status = Status::new(args.writes_to_stdout());
    let mut progress = |counters: &Counters| {
        if let Some(notifier) = &mut notifier {
            notifier.progress(counters.windows());
        }
        status.show([counters].into_iter());
    };
    let mut served = Ok(());
    // A thread is confined if it starts after that.
    let may_begin = || {
        if let Some((address, metrics)) = metrics {
            served = metrics.serve(&control, vec![(None, control.counters.clone())]);
            log::info!("metrics at http://{address}/metrics");
        }
        served.is_ok()
    };
    let Ran { summary, ended } = run(args, &control, &mut progress, may_begin);
    served.map_err(|error| format!("--metrics: no thread for it: {error}"))?;
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    // Whatever else listens to the stream ends with it.
    control.stop.store(true, Relaxed);
    if let Some(summary) = summary.as_ref().filter(|summary| summary.windows == 0 && ended.is_ok()) {
        log::warn!("no window was full when the source ended, after {} frames", summary.read);
    }
    if let (true, Some(summary)) = (args.model.json, summary) {
        output::json(&summary)?;
    }
    ended
}

/// What came of a stream.
pub struct Ran {
    /// None where it did not come to reading, or its model or a sink failed.
    pub summary: Option<Box<Summary>>,
    pub ended: Result<(), Failure>,
}

/// Makes a stream ready and, if `may_begin` says so, runs it to its end.
pub fn run(
    args: &StreamArgs,
    control: &Control,
    progress: &mut dyn FnMut(&Counters),
    may_begin: impl FnOnce() -> bool,
) -> Ran {
    let (in_use, model) = match args.model.begin_use() {
        Ok((in_use, model)) => (Mutex::new(in_use), model),
        Err(failure) => return Ran { summary: None, ended: Err(failure) },
    };
    let ran = ran(args, &model, &in_use, control, progress, may_begin);
    let Ran { summary, ended } = match ran {
        Ok(Some(Ok(summary))) => Ran { summary: Some(Box::new(summary)), ended: Ok(()) },
        Ok(Some(Err(StreamError::Source { fault, summary }))) => {
            Ran { summary: Some(summary), ended: Err(Failure::Because(fault.to_string())) }
        }
        Ok(Some(Err(error))) => Ran { summary: None, ended: Err(args.because(error)) },
        Ok(None) => Ran { summary: None, ended: Ok(()) },
        Err(failure) => Ran { summary: None, ended: Err(failure) },
    };
    Ran { summary, ended: in_use.into_inner().unwrap_or_else(PoisonError::into_inner).end(false, ended) }
}

fn ran(
    args: &StreamArgs,
    model: &Path,
    in_use: &Mutex<InUse>,
    control: &Control,
    progress: &mut dyn FnMut(&Counters),
    may_begin: impl FnOnce() -> bool,
) -> Result<Option<Result<Summary, StreamError>>, Failure> {
    let recipe = args.recipe(model)?;
    let by_hops = !args.whole_windows && recipe.hop_rows().is_ok();
    let load = |model: &Path| {
        // The plans that are kept of models take whole windows.
        let file = if by_hops { args.model.open_itself_at(model) } else { args.model.open_at(model) }?;
        apart::from_model(args.model.read(&file), &args.sink)?;
        let with = |options| if by_hops { recipe.by_hops(options) } else { options };
        args.model.session_on(&args.threads, &file, model, with)
    };
    let (session, loading) = Loading::measured(&recipe.model, || load(&recipe.model))?;
    if args.whole_windows && session.hop().is_some() {
        let plan = recipe.model.display();
        return Err(format!("{plan}: a plan that runs hop by hop; leave --whole-windows out, or name its model").into());
    }
    let engine = session.engine();
    let options = StreamOptions {
        overflow: args.overflow(),
        capacity: args.buffer.map(|frames| frames as usize),
        deadline: args.deadline.map(|ms| Duration::from_millis(ms.into())),
        reload: Some(Box::new(|| {
            let again = || {
                let _alone = one_at_a_time();
                loading.may_happen_again(&recipe.model)?;
                let model = locked(in_use).again(model, reloads(&control.counters))?;
                let fresh = args.recipe(&model)?;
                if let Some(part) = recipe.differs_in(&fresh) {
                    let what = "is not what the stream was started with; start it anew";
                    return Err(format!("{}: `{part}` {what}", fresh.path.display()).into());
                }
                loading.may_happen_again(&fresh.model)?;
                load(&fresh.model)
            };
            again().map_err(|failure| match failure {
                Failure::Because(why) => why,
                Failure::Closed => "standard output was closed".to_owned(),
            })
        })),
        progress: Some(Box::new(|counters| {
            locked(in_use).progress(counters.windows(), reloads(counters));
            progress(counters);
        })),
    };
    let stream = Stream::new(&recipe, session, options).map_err(|error| args.because(error))?;
    let source = Source::open(&args.source(), args.source_options(control), &recipe.input);
    let source = source.map_err(|error| Failure::Because(error.to_string()))?;
    let mut sinks = args.sinks(control)?;
    if args.sandbox {
        confine(&args.needs(&recipe, &locked(in_use)), engine)?;
    }
    Ok(may_begin().then(|| stream.run(source, &mut sinks, control)))
}

/// The loop and the thread that loads a model anew, of which one waits for the other, tell it how the use goes.
fn locked(in_use: &Mutex<InUse>) -> MutexGuard<'_, InUse> {
    in_use.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reloads(counters: &Counters) -> Reloads {
    Reloads { made: counters.reloads(), refused: counters.reloads_refused() }
}

impl StreamArgs {
    /// Whoever read standard output has seen enough; other sinks lack what would have come.
    fn because(&self, error: StreamError) -> Failure {
        match error {
            StreamError::Sink(error)
                if error.kind() == io::ErrorKind::BrokenPipe && self.sink.iter().all(SinkSpec::is_stdout) =>
            {
                Failure::Closed
            }
            // The library names its own options.
            StreamError::Capacity { capacity, least, most } => {
                format!("--buffer {capacity}: expected {least} to {most} frames").into()
            }
            StreamError::Unacknowledged => {
                "a broker keeps what is not acknowledged: give --overflow block, and nothing is lost here".into()
            }
            error => Failure::Because(error.to_string()),
        }
    }
}

/// Signals become flags, which streams look at; a second one of those that end them ends the process at once.
pub fn listen<'a>(control: &'a Control, others: impl IntoIterator<Item = &'a Control>) -> Result<(), Failure> {
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&control.stop))?;
    }
    for control in std::iter::once(control).chain(others) {
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&control.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&control.reload))?;
    }
    Ok(())
}
