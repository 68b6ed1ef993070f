//! A model over a list of samples: one thread reads ahead, others run and score.
//!
//! Samples travel in chunks of whole batches, in a fixed number of buffers, so that memory does not depend on how long
//! the list is, and a session finds its next batch ready when it is done with one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::ProgressBar;
use tractlet::{RunError, Session, TensorMut, TensorRef};

use super::failure::Failure;
use super::runner::Buffer;
use super::samples::Samples;

/// Samples of a chunk at most, and their bytes about, where a batch is not larger.
const CHUNK_SAMPLES: usize = 64;
const CHUNK_BYTES: usize = 1 << 20;

/// What a sample is worth, from its number and the bytes of its input and output.
pub trait Score: Sync {
    fn score(&self, sample: usize, input: &[u8], output: &[u8]) -> Result<f64, Failure>;
}

/// Some samples, read.
struct Chunk {
    first: usize,
    count: usize,
    buffer: Buffer,
}

/// A failure, and the sample that it was at.
type At = (usize, Failure);

/// The score of each sample in order, whatever the number of sessions. Each has one input and one output, for `batch`
/// samples at once.
pub fn sweep(
    sessions: Vec<Session>,
    samples: &Samples,
    batch: usize,
    score: &impl Score,
    bar: &ProgressBar,
) -> Result<Vec<f64>, Failure> {
    let Some(spec) = sessions.first().and_then(|session| session.inputs().first()) else { return Ok(Vec::new()) };
    let sample_bytes = spec.byte_len() / batch;
    let batches = (CHUNK_BYTES / sample_bytes.max(1)).min(CHUNK_SAMPLES).div_ceil(batch).max(1);
    let chunk = batches * batch;
    let (full, chunks) = channel();
    let (free, buffers) = channel();
    for _ in 0..2 * sessions.len() + 1 {
        // The receiver is alive.
        let _ = free.send(Buffer::new(spec.dtype, chunk * sample_bytes));
    }
    let (stop, chunks) = (&AtomicBool::new(false), Mutex::new(chunks));
    let path = samples.path();
    let work = Work { path, batch, sample_bytes, chunks: &chunks, stop, score, bar };
    let (read, done) = thread::scope(|scope| {
        let run = |session| {
            let (work, free) = (&work, free.clone());
            thread::Builder::new().spawn_scoped(scope, move || work.run(session, &free))
        };
        // Where there is no thread to be had, those that there are find no sender any more, and end.
        let no_thread = |error| format!("no thread for a session: {error}; see --threads");
        let runners = sessions.into_iter().map(run).collect::<Result<Vec<_>, _>>().map_err(no_thread)?;
        // What is left of the senders is with the sessions: when they are gone nobody waits for a buffer.
        drop(free);
        let read = move || read(samples, chunk, sample_bytes, &buffers, &full, stop);
        let reader = thread::Builder::new().spawn_scoped(scope, read).map_err(no_thread)?;
        let joined = |result: thread::Result<_>| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let done: Vec<_> = runners.into_iter().map(|runner| joined(runner.join())).collect();
        Ok::<_, String>((reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), done))
    })?;
    let (mut scored, mut failed) = (Vec::new(), Vec::from_iter(read.err()));
    for (scores, failure) in done {
        scored.extend(scores);
        failed.extend(failure);
    }
    // Chunks are handed out in order: that of the first sample is among them, however threads took turns.
    if let Some((_, failure)) = failed.into_iter().min_by_key(|(sample, _)| *sample) {
        return Err(failure);
    }
    scored.sort_unstable_by_key(|(first, _)| *first);
    Ok(scored.into_iter().flat_map(|(_, scores)| scores).collect())
}

fn read(
    samples: &Samples,
    chunk: usize,
    sample_bytes: usize,
    buffers: &Receiver<Buffer>,
    full: &Sender<Chunk>,
    stop: &AtomicBool,
) -> Result<(), At> {
    for first in (0..samples.count()).step_by(chunk) {
        let Ok(mut buffer) = buffers.recv() else { return Ok(()) };
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let count = chunk.min(samples.count() - first);
        for (index, out) in buffer.bytes_mut().chunks_exact_mut(sample_bytes).take(count).enumerate() {
            samples.read(first + index, out).map_err(|failure| (first + index, failure))?;
        }
        if full.send(Chunk { first, count, buffer }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

struct Work<'a, S> {
    /// Of the samples.
    path: &'a Path,
    batch: usize,
    sample_bytes: usize,
    chunks: &'a Mutex<Receiver<Chunk>>,
    stop: &'a AtomicBool,
    score: &'a S,
    bar: &'a ProgressBar,
}

impl<S: Score> Work<'_, S> {
    /// Scores by the number of their first sample, and what ended the work early.
    fn run(&self, mut session: Session, free: &Sender<Buffer>) -> (Vec<(usize, Vec<f64>)>, Option<At>) {
        let mut scored = Vec::new();
        let mut output = session.outputs().first().map(|spec| Buffer::new(spec.dtype, spec.byte_len()));
        loop {
            // The lock is held to wait as well: whoever has it is next.
            let next = self.chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let (Ok(chunk), Some(output)) = (next, &mut output) else { return (scored, None) };
            match self.chunk(&chunk, &mut session, output) {
                Ok(scores) => scored.push((chunk.first, scores)),
                Err(failure) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return (scored, Some(failure));
                }
            }
            // Nobody is there to take it once all is read.
            let _ = free.send(chunk.buffer);
        }
    }

    fn chunk(&self, chunk: &Chunk, session: &mut Session, output: &mut Buffer) -> Result<Vec<f64>, At> {
        let mut scores = Vec::with_capacity(chunk.count);
        let batches = chunk.buffer.bytes().chunks_exact(self.batch * self.sample_bytes);
        for (index, batch) in batches.take(chunk.count.div_ceil(self.batch)).enumerate() {
            let first = index * self.batch;
            let count = self.batch.min(chunk.count - first);
            let input = TensorRef::from_bytes(chunk.buffer.dtype(), batch);
            let result = session.run(&[input], &mut [TensorMut::from_bytes(output.dtype(), output.bytes_mut())]);
            result.map_err(|error| self.told(chunk.first + first, error))?;
            let output_bytes = output.bytes().len() / self.batch;
            let pairs = batch.chunks_exact(self.sample_bytes).zip(output.bytes().chunks_exact(output_bytes.max(1)));
            for (index, (input, output)) in pairs.take(count).enumerate() {
                let sample = chunk.first + first + index;
                scores.push(self.score.score(sample, input, output).map_err(|failure| (sample, failure))?);
            }
            self.bar.inc(count as u64);
        }
        Ok(scores)
    }

    /// The sample of a batch that an error is about, as far as it says.
    fn told(&self, first: usize, error: RunError) -> At {
        let path = self.path.display();
        match error {
            RunError::NotANumber { name, index } => {
                let elements = self.sample_bytes / size_of::<f32>();
                let (sample, index) = (first + index / elements.max(1), index % elements.max(1));
                let error = RunError::NotANumber { name, index };
                (sample, format!("{path}: sample {sample} (from 0): {error}").into())
            }
            error if self.batch == 1 => (first, format!("{path}: sample {first} (from 0): {error}").into()),
            error => (first, format!("{path}: samples from {first} (from 0): {error}").into()),
        }
    }
}
