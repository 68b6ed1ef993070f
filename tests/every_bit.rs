//! Every prefix and every flipped bit of small models and plans: each is refused, or gives an answer, without a
//! panic and within bounds.
//!
//! `TRACTLET_EVERY_BIT=1` takes all small models instead of ten of them.

mod common;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::repository;
use rustix::fs::{MemfdFlags, memfd_create};
use tractlet::footprint::{CountingAllocator, heap, reset_heap_peak};
use tractlet::{
    CompileOptions, DType, EngineChoice, Isa, Limits, Model, ModelFile, OpenOptions, Session, SessionOptions,
    TensorMut, TensorRef, compile,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A flipped bit may make a tensor large and leave the model legal: what may be asked for, and what that takes.
const TENSOR_BYTES: u64 = 1 << 20;
const HEAP_LIMIT: usize = 16 << 20;
/// Beyond this a legal model would keep the test busy; it is not run.
const MAX_MACS: u64 = 10_000_000;

/// The panics and the heap peak are seen process-wide: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// What became of the inputs so far.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    answered: usize,
    too_large_to_run: usize,
}

impl Tally {
    fn all(&self) -> usize {
        self.refused + self.answered + self.too_large_to_run
    }

    /// Opens bytes as a file and runs what it is; `what` names the damage.
    fn take(&mut self, file: &MemoryFile, bytes: &[u8], what: &dyn Fn() -> String) {
        let file = file.holding(bytes);
        let panics = PANICS.load(Ordering::Relaxed);
        let live = heap().live_bytes;
        reset_heap_peak();
        match session(file).map(|mut session| infer(&mut session)) {
            None => self.refused += 1,
            Some(true) => self.answered += 1,
            Some(false) => self.too_large_to_run += 1,
        }
        assert_eq!(PANICS.load(Ordering::Relaxed), panics, "{}: it panicked", what());
        let bytes = heap().peak_bytes.saturating_sub(live);
        assert!(bytes <= HEAP_LIMIT, "{}: {bytes} bytes of heap", what());
    }
}

/// A file that no disk has to take thousands of times.
struct MemoryFile {
    file: File,
    path: PathBuf,
}

impl MemoryFile {
    fn new() -> MemoryFile {
        let file = File::from(memfd_create("damaged", MemfdFlags::CLOEXEC).unwrap());
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        MemoryFile { file, path }
    }

    fn holding(&self, bytes: &[u8]) -> &Path {
        self.file.set_len(bytes.len() as u64).unwrap();
        self.file.write_all_at(bytes, 0).unwrap();
        &self.path
    }
}

fn session(file: &Path) -> Option<Session> {
    let limits =
        Limits { tensor_bytes: TENSOR_BYTES, folded_bytes: TENSOR_BYTES, arena_bytes: 4 << 20, ..Limits::default() };
    let opened = ModelFile::open(file, &OpenOptions { limits, ..OpenOptions::default() }).ok()?;
    opened.session(SessionOptions::default().engine(EngineChoice::Plan)).ok()
}

/// Runs once; whether it was small enough. An error of the run is an answer.
fn infer(session: &mut Session) -> bool {
    if session.steps().iter().map(|step| step.macs).fold(0, u64::saturating_add) > MAX_MACS {
        return false;
    }
    let room = |bytes: usize| vec![0u64; bytes.div_ceil(8)];
    let (given, taken) = (session.inputs().to_vec(), session.outputs().to_vec());
    let mut blocks: Vec<Vec<u64>> = given.iter().map(|spec| room(spec.byte_len())).collect();
    for (spec, block) in given.iter().zip(&mut blocks) {
        // 1.5 and -1.5 by turns, or bytes of all sorts.
        let pattern = if spec.dtype == DType::F32 { 0xbfc0_0000_3fc0_0000 } else { 0x8001_7fff_fe02_c33c };
        block.fill(pattern);
    }
    let mut rooms: Vec<Vec<u64>> = taken.iter().map(|spec| room(spec.byte_len())).collect();
    let inputs: Vec<_> = given
        .iter()
        .zip(&blocks)
        .map(|(spec, block)| TensorRef::from_bytes(spec.dtype, &bytemuck::cast_slice(block)[..spec.byte_len()]))
        .collect();
    let mut outputs: Vec<_> = taken
        .iter()
        .zip(&mut rooms)
        .map(|(spec, block)| TensorMut::from_bytes(spec.dtype, &mut bytemuck::cast_slice_mut(block)[..spec.byte_len()]))
        .collect();
    let _ = session.run(&inputs, &mut outputs);
    true
}

fn count_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        eprintln!("{info}");
    }));
}

fn everything() -> bool {
    std::env::var_os("TRACTLET_EVERY_BIT").is_some()
}

/// The smallest undamaged models; all of them where everything was asked for.
fn models() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("tests/malformed")).unwrap().map(|entry| entry.unwrap().path());
    let valid = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("valid_") && name.ends_with(".onnx")
    };
    let mut models: Vec<(u64, PathBuf)> =
        entries.filter(valid).map(|path| (path.metadata().unwrap().len(), path)).collect();
    models.sort();
    models.truncate(if everything() { usize::MAX } else { 10 });
    assert!(models.len() >= 10);
    models.into_iter().map(|(_, path)| path).collect()
}

/// Plans of the operators' smallest models, the smallest of them; many more where everything was asked for.
fn plans() -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(repository().join("tests/golden/ops")).unwrap().map(|entry| entry.unwrap().path());
    let models = entries.map(|folder| folder.join("model.onnx")).filter(|model| model.is_file());
    let mut models: Vec<(u64, PathBuf)> = models.map(|model| (model.metadata().unwrap().len(), model)).collect();
    models.sort();
    models.truncate(if everything() { usize::MAX } else { 20 });
    let plan = |(_, model): (u64, PathBuf)| {
        let plan = compile(&Model::open(&model).unwrap(), &CompileOptions::default().isa(Isa::Generic)).ok()?;
        Some((model, plan.as_bytes().to_vec()))
    };
    let mut plans: Vec<_> = models.into_iter().filter_map(plan).collect();
    plans.sort_by(|(a, x), (b, y)| (x.len(), a).cmp(&(y.len(), b)));
    plans.truncate(if everything() { 40 } else { 3 });
    assert!(plans.len() >= 3);
    plans
}

/// Each bit in turn.
fn flips(pristine: &[u8], mut take: impl FnMut(&[u8], &dyn Fn() -> String)) {
    let mut bytes = pristine.to_vec();
    for bit in 0..pristine.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        take(&bytes, &|| format!("bit {} of byte {}", bit % 8, bit / 8));
        bytes[bit / 8] = pristine[bit / 8];
    }
}

#[test]
fn every_prefix_and_bit_of_small_models_is_refused_or_answered() {
    let _alone = ALONE.lock();
    let file = MemoryFile::new();
    count_panics();
    let (mut prefixes, mut bits) = (Tally::default(), Tally::default());
    for model in models() {
        let pristine = fs::read(&model).unwrap();
        for len in 0..pristine.len() {
            prefixes.take(&file, &pristine[..len], &|| format!("{}: {len} bytes", model.display()));
        }
        flips(&pristine, |bytes, what| bits.take(&file, bytes, &|| format!("{}: {}", model.display(), what())));
    }
    println!("models: {} prefixes: {prefixes:?}; {} bits: {bits:?}", prefixes.all(), bits.all());
    assert!(prefixes.all() >= 1_000 && bits.all() >= 8_000);
    // A bit of a name or of a weight leaves a model that is another and sound.
    assert!(bits.answered > 100 && bits.refused > 1_000, "{bits:?}");
}

#[test]
fn every_prefix_and_bit_of_small_plans_is_refused() {
    let _alone = ALONE.lock();
    let file = MemoryFile::new();
    count_panics();
    let (mut prefixes, mut bits) = (Tally::default(), Tally::default());
    for (model, pristine) in plans() {
        for len in 0..pristine.len() {
            prefixes.take(&file, &pristine[..len], &|| format!("{}: {len} bytes", model.display()));
        }
        flips(&pristine, |bytes, what| bits.take(&file, bytes, &|| format!("{}: {}", model.display(), what())));
    }
    println!("plans: {} prefixes: {prefixes:?}; {} bits: {bits:?}", prefixes.all(), bits.all());
    assert!(prefixes.all() >= 500 && bits.all() >= 5_000);
    assert_eq!((prefixes.refused, bits.refused), (prefixes.all(), bits.all()), "{prefixes:?} {bits:?}");
}
