#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

const GOOD: &str = r#"
model = "m.onnx"
labels = ["a", "b"]
[input]
rate_hz = 100
channels = ["x", "y"]
units = ["g", "g"]
window = 64
overlap = 0.75
[frontend]
kind = "samples"
layout = "channels-first"
normalize = "z-score"
[decision]
kind = "classes"
threshold = 0.8
release = 0.5
ignore = ["b"]
"#;

fn fault(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Recipe::parse(Path::new("dir/model.toml"), &GOOD.replace(from, to)).unwrap_err().to_string()
}

#[test]
fn a_recipe_is_read_whole() {
    let recipe = Recipe::parse(Path::new("dir/model.toml"), GOOD).unwrap();
    assert_eq!(recipe.model, Path::new("dir/m.onnx"));
    assert_eq!((recipe.input.windowing.length, recipe.input.windowing.hop), (64, 16));
    let DecisionRule::Classes(rule) = recipe.decision else { panic!("classes") };
    assert_eq!((rule.release, rule.ignore), (0.5, vec![1]));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (from, to, expected) in [
        ("[\"a\", \"b\"]", "[\"a\", \"\\u001b[2J\"]", "`labels`: number 2, \"\\u{1b}[2J\", has a control character"),
        ("window = 64", "windw = 64", "dir/model.toml: line 8: unknown field `windw`"),
        ("window = 64", "window = 0", "`input.window` is 0 frames; expected 1 to"),
        ("window = 64", "window = 99999999999", "`input.window` is 99999999999 frames"),
        ("overlap = 0.75", "overlap = 1.0", "`input.overlap` is 1"),
        ("overlap = 0.75", "overlap = 0.5\nhop = 3", "give one"),
        ("overlap = 0.75", "hop = 0", "`input.hop` is 0 frames; expected 1 to 4294967295"),
        ("overlap = 0.75", "hop = 4294967296", "`input.hop` is 4294967296 frames"),
        ("rate_hz = 100", "rate_hz = -1", "`input.rate_hz` is -1"),
        ("rate_hz = 100", "rate_hz = 1e-20", "`input.rate_hz` is 1e-20; expected 1e-6 to 1e9"),
        ("rate_hz = 100", "rate_hz = nan", "`input.rate_hz` is NaN"),
        ("\"g\", \"g\"", "\"g\"", "1 units for 2 channels"),
        ("\"g\", \"g\"", "\"g\", \"stone\"", "`input.units`: `stone`"),
        ("\"x\", \"y\"", "\"x\", \"x\"", "`x` twice"),
        ("\"z-score\"", "\"zscore\"", "unknown variant `zscore`"),
        ("\"z-score\"", "\"standard\"\nmean = [1, 2]", "`frontend.deviation` has 0 values"),
        ("\"z-score\"", "\"standard\"\nmean = [1, 2]\ndeviation = [1, 0]", "`frontend.deviation` holds 0e0"),
        ("\"z-score\"", "\"standard\"\nmean = [1, 2]\ndeviation = [1, 1e-39]", "deviations above 3e-39"),
        ("release = 0.5", "release = 0.9", "`decision.release` is 0.9"),
        ("ignore = [\"b\"]", "ignore = [\"c\"]", "`c`, which is no label; they are a, b"),
        ("kind = \"classes\"", "kind = \"anomaly\"", "line 18: unknown field `ignore`"),
        ("kind = \"classes\"", "kind = \"class\"", "line 15: unknown variant `class`, expected `classes` or `anomaly`"),
        (
            "threshold = 0.8",
            "smooth = \"3\"",
            "line 16: invalid type: string \"3\", expected a whole number from 0, in `smooth`",
        ),
        (
            "threshold = 0.8",
            "threshold = \"x\"",
            "line 16: invalid type: string \"x\", expected a number, in `threshold`",
        ),
        ("ignore = [\"b\"]", "ignore = \"b\"", "line 18: invalid type: string \"b\", expected a list, in `ignore`"),
        ("normalize = \"z-score\"", "mean = \"x\"", "line 13: invalid type: string \"x\", expected a list, in `mean`"),
        ("layout = \"channels-first\"\n", "", "line 10: missing field `layout`"),
        ("kind = \"samples\"\n", "", "line 10: missing field `kind`"),
        (
            "window = 64",
            "window = 6.5",
            "line 8: invalid type: floating point `6.5`, expected a whole number from 0, in `window`",
        ),
    ] {
        let told = fault(from, to);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn what_a_stream_was_set_up_with_is_told_from_what_it_was_not() {
    // Without a rate there is no number that differs from itself.
    let spectrum = GOOD.replace("rate_hz = 100\n", "").replace(
        "kind = \"samples\"\nlayout = \"channels-first\"\nnormalize = \"z-score\"",
        "kind = \"spectrum\"\nframe = 32\nhop = 16\nfft = 32",
    );
    let parse = |text: &str| Recipe::parse(Path::new("model.toml"), text).unwrap();
    for (from, to, part) in [
        ("m.onnx", "n.onnx", None),
        ("overlap = 0.75", "overlap = 0.5", Some("input")),
        ("hop = 16", "hop = 8", Some("frontend")),
        ("[\"a\", \"b\"]", "[\"b\", \"a\"]", Some("labels")),
        ("threshold = 0.8", "threshold = 0.7", Some("decision")),
    ] {
        assert!(spectrum.contains(from), "{from}");
        assert_eq!(parse(&spectrum).differs_in(&parse(&spectrum.replace(from, to))), part, "{to}");
    }
}

#[test]
fn a_front_end_that_does_not_fit_is_named() {
    let mfcc = "kind = \"mfcc\"\nframe = 32\nhop = 16\nfft = 32\nbands = 8\nlow_hz = 1\nhigh_hz = 50\nlog_offset = 1e-6\ncoefficients = 4";
    let samples = "kind = \"samples\"\nlayout = \"channels-first\"\nnormalize = \"z-score\"";
    let parse = |mfcc: &str| Recipe::parse(Path::new("model.toml"), &GOOD.replace(samples, mfcc));
    assert!(parse(mfcc).is_ok());
    for (from, to, expected) in [
        ("fft = 32", "fft = 33", "`frontend.fft` has to be a power of two"),
        ("frame = 32", "frame = 80", "`frontend.frame` has to be from 1 to `fft`"),
        ("high_hz = 50", "high_hz = 51", "`frontend.high_hz` has to be at most half of `rate_hz`"),
        ("coefficients = 4", "coefficients = 9", "`frontend.coefficients`"),
        ("fft = 32", "fft = 128\ntaper = \"flat\"", "unknown variant `flat`"),
        ("fft = 32", "fft = 33\narithmetic = \"fixed\"", "`frontend.fft` has to be a power of two"),
        ("fft = 32", "fft = 32\narithmetic = \"integer\"", "unknown variant `integer`"),
    ] {
        let told = parse(&mfcc.replace(from, to)).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn every_key_is_in_the_table_of_the_models() {
    let readme = include_str!("../../../models/README.md");
    let table = readme.split("## model.toml").nth(1).unwrap().split("\n## ").next().unwrap();
    let keys = |text: &str| {
        let told = Recipe::parse(Path::new("model.toml"), text).unwrap_err().to_string();
        let (_, keys) = told.split_once("unknown field `x`, expected ").unwrap_or_else(|| panic!("{told}"));
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = keys("x = 1");
    all.extend(keys("[input]\nx = 1"));
    let input = "model = \"m\"\n[input]\nchannels = 1\nwindow = 1\n";
    for kind in ["samples", "rms", "spectrum", "log-mel", "mfcc"] {
        all.extend(keys(&format!("{input}[frontend]\nkind = \"{kind}\"\nx = 1")));
    }
    for kind in ["classes", "anomaly"] {
        all.extend(keys(&format!("{input}[frontend]\nkind = \"rms\"\n[decision]\nkind = \"{kind}\"\nx = 1")));
    }
    assert!(all.len() > 50, "{all:?}");
    for key in all {
        let is_there =
            ["", "input.", "frontend.", "decision."].iter().any(|of| table.contains(&format!("`{of}{key}`")));
        assert!(is_there || ["input", "frontend", "decision"].contains(&key.as_str()), "`{key}`");
    }
}

#[test]
fn labels_that_are_not_there_are_told_as_such() {
    let told = fault("[\"a\", \"b\"]", "\"nope.txt\"");
    assert!(told.starts_with("dir/nope.txt: cannot open it: No such file"), "{told}");
    assert!(told.ends_with("; `labels` of dir/model.toml names it"), "{told}");
}

#[test]
fn a_pipe_is_no_recipe() {
    let folder = tempfile::TempDir::new().unwrap();
    let pipe = folder.path().join("model.toml");
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
    for path in [pipe.as_path(), folder.path()] {
        let told = read(path, "").unwrap_err().to_string();
        assert!(told.contains("it is no regular file"), "{told}");
    }
}
