//! `model.toml`: parsed, set up with a model that it may fit, and run on a few windows where it does.

use std::path::Path;
use std::sync::LazyLock;

use tractlet::sensor::{Control, Recipe, Source, SourceOptions, SourceSpec, Stream, StreamOptions};
use tractlet::{EngineChoice, Model, Session, SessionOptions};

use super::files;
use crate::memory_file::in_file;

/// A model of four floats in and four out.
const MODEL: &[u8] = include_bytes!("../../../tests/malformed/valid_relu.onnx");

/// Parses a recipe and makes a stream by it.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A recipe may name a file of labels. None is to be found by chance: the folder is not there, and without a slash
    // there is no other.
    if text.contains('/') {
        return;
    }
    if let Ok(recipe) = Recipe::parse(Path::new("/nowhere/model.toml"), text) {
        // Tables and windows of the largest recipe take seconds to set up; they are within bounds that it states.
        if recipe.input.windowing.length.saturating_mul(recipe.input.channels.len()) < 1 << 16
            && let Ok(stream) = Stream::new(&recipe, session(), StreamOptions::default())
        {
            cut(&recipe, stream);
        }
    }
}

/// Frames for three windows, and no more: of long windows a frame apart, thousands would take seconds, as the recipe asks.
fn cut(recipe: &Recipe, stream: Stream<'_>) {
    let windowing = &recipe.input.windowing;
    let bytes = (windowing.length + 2 * windowing.hop) * recipe.input.channels.len();
    in_file(&vec![1; bytes], |path| {
        let options = SourceOptions { format: "u8".parse().ok(), ..SourceOptions::default() };
        let source = Source::open(&SourceSpec::File(path.to_owned()), options, &recipe.input).expect("raw samples");
        if let Ok(summary) = stream.run(source, &mut [], &Control::default()) {
            assert!(summary.adds_up() && summary.windows > 0, "{summary:?}");
        }
    });
}

/// A session of its own for each stream, which keeps it; the model is the same.
pub(super) fn session() -> Session {
    static OPENED: LazyLock<Model> = LazyLock::new(|| Model::from_bytes("relu", MODEL).expect("the undamaged model"));
    Session::new(&OPENED, SessionOptions::default().engine(EngineChoice::Plan)).expect("the undamaged model")
}

/// The shipped recipes without their comments, and small ones of every front end and rule.
pub fn seeds() -> Vec<Vec<u8>> {
    let shipped = files("models", &|name| name == "model.toml", 1 << 12);
    let mut seeds: Vec<Vec<u8>> = shipped.iter().map(|text| without_comments(text)).collect();
    seeds.extend(SMALL.iter().map(|text| text.as_bytes().to_vec()));
    seeds
}

fn without_comments(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.flatten().copied().filter(|&byte| byte != b'/').collect()
}

const SMALL: [&str; 6] = [
    "model = \"m\"\n[input]\nrate_hz = 100\nchannels = [\"a\", \"b\"]\nunits = [\"g\", \"m_s2\"]\nwindow = 2\nhop = 1\n[frontend]\nkind = \"samples\"\nlayout = \"time-first\"\nnormalize = \"standard\"\nmean = [0.5, 1]\ndeviation = [1, 2e3]\n",
    "model = \"m\"\nlabels = [\"a\", \"b\", \"c\", \"d\"]\n[input]\nchannels = 4\nwindow = 1\n[frontend]\nkind = \"rms\"\n[decision]\nkind = \"classes\"\nsoftmax = true\nsmooth = 3\nthreshold = 0.5\nrelease = 0.25\ndebounce = 2\nignore = [\"a\"]\ntop = 2\nemit = \"change\"\n",
    "model = \"m\"\n[input]\nrate_hz = 16\nchannels = 1\nwindow = 16\noverlap = 0.5\n[frontend]\nkind = \"spectrum\"\nframe = 8\nhop = 8\nfft = 8\ntaper = \"hann\"\nmagnitude = \"power\"\nlog = \"natural\"\nlog_offset = 1e-6\n[decision]\nkind = \"anomaly\"\nsmooth = 2\nfactor = 3\nwarmup = 4\nrate = 0.1\n",
    "model = \"m\"\n[input]\nrate_hz = 16000\nchannels = 1\nwindow = 512\n[frontend]\nkind = \"log-mel\"\nframe = 256\nhop = 256\nfft = 256\nbands = 2\nlow_hz = 20\nhigh_hz = 8000\nlog_offset = 0.001\n[decision]\nkind = \"anomaly\"\nthreshold = 2.5\n",
    "model = \"m\"\n[input]\nrate_hz = 16000\nchannels = 1\nwindow = 512\n[frontend]\nkind = \"mfcc\"\nframe = 256\nhop = 256\nfft = 256\nbands = 8\nlow_hz = 20\nhigh_hz = 8000\nlog_offset = 0.001\ncoefficients = 2\nscale = \"peak\"\n",
    "model = \"m\"\n[input]\nchannels = 2\nwindow = 2\n[frontend]\nkind = \"samples\"\nlayout = \"channels-first\"\nnormalize = \"z-score\"\n",
];
