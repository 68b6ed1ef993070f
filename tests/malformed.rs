//! Malformed models (tests/malformed): each is refused with a typed error that names the spot,
//! within 64 MB, and without a panic, not even one that is caught.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tractlet::footprint::{CountingAllocator, heap, reset_heap_peak};
use tractlet::{EngineChoice, Model, ModelError, ModelErrorKind, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const HEAP_LIMIT: usize = 64 << 20;

/// The panics and the heap peak of one attempt are seen process-wide: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());
static PANICS: AtomicUsize = AtomicUsize::new(0);

struct Attempt {
    result: Result<(), ModelError>,
    panics: usize,
    heap_bytes: usize,
}

fn attempt(path: &Path) -> Attempt {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        eprintln!("{info}");
    }));
    let panics = PANICS.load(Ordering::Relaxed);
    let live = heap().live_bytes;
    reset_heap_peak();
    let result = Model::open(path).and_then(|model| {
        let session = |engine| Session::new(&model, SessionOptions::default().engine(engine)).map(|_| ());
        // A model that either engine takes is taken; what plans do not, the checks may have left to tract.
        let planned = session(EngineChoice::Plan);
        let other = EngineChoice::Tract.is_built().then(|| session(EngineChoice::Tract));
        if planned.is_ok() { planned } else { other.unwrap_or(planned) }
    });
    let heap_bytes = heap().peak_bytes.saturating_sub(live);
    Attempt { result, panics: PANICS.load(Ordering::Relaxed) - panics, heap_bytes }
}

/// Rows of a list: the file, and the columns behind it.
fn list(name: &str) -> Vec<(PathBuf, Vec<String>)> {
    let folder = common::repository().join("tests/malformed");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let rows = text.lines().skip(1).filter(|line| !line.is_empty()).map(|line| {
        let (file, rest) = line.split_once(',').unwrap();
        (folder.join(file), rest.split(',').map(str::to_owned).collect())
    });
    rows.collect()
}

fn kind_name(kind: ModelErrorKind) -> &'static str {
    match kind {
        ModelErrorKind::Io => "io",
        ModelErrorKind::Malformed => "malformed",
        ModelErrorKind::Limit => "limit",
        ModelErrorKind::Graph => "graph",
        ModelErrorKind::Tensor => "tensor",
        ModelErrorKind::Attribute => "attribute",
        ModelErrorKind::Shape => "shape",
        ModelErrorKind::External => "external",
        ModelErrorKind::Unsupported => "unsupported",
        _ => "another",
    }
}

#[test]
fn malformed_models_are_refused_by_name() {
    let _alone = ALONE.lock();
    let mut wrong = vec![];
    let cases = list("expected.csv");
    assert!(cases.len() >= 700);
    for (path, columns) in &cases {
        let file = path.file_name().unwrap().to_string_lossy();
        let Attempt { result, panics, heap_bytes } = attempt(path);
        let (kinds, mentions) = (&columns[0], &columns[1]);
        match result {
            Ok(()) => wrong.push(format!("{file}: accepted; expected {kinds}")),
            Err(error) => {
                let kind = kind_name(error.kind());
                if !kinds.split('|').any(|k| k == kind) {
                    wrong.push(format!("{file}: {kind}, expected {kinds}: {error}"));
                } else if !error.to_string().replace(&*file, "").contains(mentions.as_str()) {
                    wrong.push(format!("{file}: does not mention {mentions}: {error}"));
                }
            }
        }
        if panics > 0 || heap_bytes > HEAP_LIMIT {
            wrong.push(format!("{file}: {panics} panics, heap peak of {heap_bytes} bytes"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn odd_but_legal_models_do_no_harm() {
    let _alone = ALONE.lock();
    for (path, _) in list("lenient.csv") {
        let Attempt { panics, heap_bytes, .. } = attempt(&path);
        assert!(panics == 0 && heap_bytes <= HEAP_LIMIT, "{}: {panics} panics, {heap_bytes} bytes", path.display());
    }
}

#[test]
fn the_undamaged_models_load() {
    let _alone = ALONE.lock();
    let mut refused = vec![];
    for (path, columns) in list("valid.csv") {
        if let Err(error) = attempt(&path).result {
            // Legal ONNX beyond what tractlet takes is refused as such, never as damaged.
            if error.kind() != ModelErrorKind::Unsupported {
                refused.push(format!("{columns:?}: {error}"));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// A protobuf field of bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Numbers that come one by one are legal, two bytes for a byte of data; no more may be kept of each.
#[test]
fn a_tensor_with_a_field_for_each_element_takes_its_own_size() {
    let _alone = ALONE.lock();
    let elements: usize = 4 << 20;
    let key = |number: u64, value: u64| [varint(number << 3), varint(value)].concat();
    let numbers = key(5, 1).repeat(elements);
    let weights = [key(1, elements as u64), key(2, 3), field(8, b"w"), numbers].concat();
    let vector = [key(1, 1), field(2, &field(1, &key(1, 1)))].concat();
    let declared = |name: &[u8]| [field(1, name), field(2, &field(1, &vector))].concat();
    let relu = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    let graph = [field(1, &relu), field(5, &weights), field(11, &declared(b"x")), field(12, &declared(b"y"))].concat();
    let model = [key(1, 8), field(7, &graph), field(8, &key(2, 13))].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one_by_one.onnx");
    std::fs::write(&path, &model).unwrap();
    drop((weights, graph, model));

    let Attempt { result, panics, heap_bytes } = attempt(&path);
    assert!(result.is_ok() && panics == 0, "{result:?}");
    assert!(heap_bytes < 4 * elements, "heap peak of {heap_bytes} bytes for {elements} elements of one byte");
}
