//! What is new of a window is enough: answers are those of whole windows, behind gaps and drops as well.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tractlet::sensor::{
    Arithmetic, Decision, DecisionRule, FrontendKind, Overflow, Recipe, Sink, SourceOptions, Stream, StreamOptions,
    Summary, Verdict,
};
use tractlet::{Model, Session, SessionOptions};

use super::common::{self, Array, repository};
use super::{Slow, raw, recipe, run_on, said, said_on, walk};

/// The same windows whole and hop by hop: what was said of each, and what a run took.
fn both_ways(recipe: &Recipe, file: &Path, source: &SourceOptions) -> [(Vec<(String, f32)>, u64); 2] {
    let hop = recipe.by_hops(SessionOptions::default());
    [SessionOptions::default(), hop].map(|session| {
        let (said, summary) = said_on(recipe, session, file, source.clone());
        assert_eq!(summary.whole_windows, None);
        (said, summary.macs_per_hop.unwrap())
    })
}

#[test]
fn what_is_new_of_each_window_is_enough_for_the_same_decisions() {
    let folder = TempDir::new().unwrap();
    let mut har = recipe("har_cnn1d");
    let file = walk(&folder, 1000);
    // Three readings of the file: no window goes on from the one before where two of them meet.
    let source = SourceOptions { repeat: Some(3), ..raw() };
    for hop in [4, 10, 64, 100] {
        har.input.windowing.hop = hop;
        let [(whole, all), (hops, new)] = both_ways(&har, &file, &source);
        assert_eq!(whole, hops, "hops of {hop}");
        assert!(whole.len() > 20 && new < all, "{} windows, {new} of {all}", whole.len());
    }
}

#[test]
fn a_spectrum_in_floats_or_in_fixed_point_is_made_hop_by_hop() {
    let mut kws = recipe("kws_dscnn");
    // Two rows of features a hop.
    kws.input.windowing.hop = 640;
    let mut said = |model: &str, made_in: Arithmetic| {
        kws.model = repository().join("models/kws_dscnn").join(model);
        let FrontendKind::Spectral { peak_scaled, arithmetic, .. } = &mut kws.frontend else { panic!("mfcc") };
        (*peak_scaled, *arithmetic) = (false, made_in);
        let [(whole, all), (hops, new)] =
            both_ways(&kws, &repository().join("models/kws_dscnn/words.wav"), &SourceOptions::default());
        assert_eq!(whole, hops, "{model}, {made_in:?}");
        assert!(whole.len() == 76 && new < all, "{} windows, {new} of {all}", whole.len());
        whole
    };
    said("int8.onnx", Arithmetic::Float);
    said("int8.onnx", Arithmetic::Fixed);
    // Features that are a little apart may be the same once they are quantized.
    let [floats, fixed] = [Arithmetic::Float, Arithmetic::Fixed].map(|made_in| said("f32.onnx", made_in));
    assert_ne!(floats, fixed, "both were made in the same way");
}

/// Keeps where each window began, in seconds, and its score.
#[derive(Default)]
struct Placed(std::sync::Arc<std::sync::Mutex<Vec<(f64, f32)>>>);

impl Sink for Placed {
    fn decision(&mut self, decision: &Decision<'_>) -> io::Result<()> {
        let (Verdict::Class { score, .. } | Verdict::Anomaly { score, .. }) = decision.verdict;
        self.0.lock().unwrap().push((decision.from_s, score));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn windows_that_were_dropped_leave_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let har = recipe("har_cnn1d");
    let file = walk(&folder, 64 * 200);
    let values: Vec<f32> =
        fs::read(&file).unwrap().chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect();
    let mut whole = Session::new(&Model::open(&har.model).unwrap(), SessionOptions::default()).unwrap();
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let placed = Placed::default();
        let windows = placed.0.clone();
        let options = StreamOptions { overflow, ..StreamOptions::default() };
        let session = har.by_hops(SessionOptions::default());
        let mut sinks: [Box<dyn Sink>; 2] = [Box::new(placed), Box::new(Slow(Duration::from_millis(1)))];
        let summary = run_on(&har, session, &file, raw(), options, &mut sinks).unwrap();
        assert!(summary.adds_up() && summary.dropped > 0, "{summary:?}");
        for &(from_s, score) in windows.lock().unwrap().iter() {
            let frame = (from_s * 50.0).round() as usize;
            let input: Vec<f32> =
                (0..6).flat_map(|c| (0..128).map(move |t| (c, frame + t))).map(|(c, t)| values[6 * t + c]).collect();
            let scores = common::run_samples(&mut whole, &input);
            assert_eq!(scores.into_iter().fold(0.0, f32::max), score, "{overflow:?}: from {from_s} s");
        }
    }
}

#[test]
fn a_session_of_other_hops_is_refused_and_reasons_for_whole_windows_are_told() {
    let har = recipe("har_cnn1d");
    let refused = |rows: usize| {
        let session = Session::new(&Model::open(&har.model).unwrap(), SessionOptions::default().hop(rows)).unwrap();
        Stream::new(&har, session, StreamOptions::default()).err().map(|error| error.to_string())
    };
    assert_eq!(refused(64), None);
    let text = refused(32).unwrap();
    assert!(text.contains("hops of 32 of 128 rows") && text.contains("give 64 of 128"), "{text}");
    let words = repository().join("models/kws_dscnn/words.wav");
    let (_, summary) = said(&recipe("kws_dscnn"), &words, SourceOptions::default());
    assert!(summary.whole_windows.unwrap().contains("`frontend.scale` = \"peak\""));
}

#[test]
fn the_wake_word_is_told_from_frames_of_features_hop_by_hop() {
    let mut recipe = recipe("sww_conv1d");
    let DecisionRule::Classes(rule) = &mut recipe.decision else { panic!("classes") };
    rule.smooth = 1;
    let folder = repository().join("models/sww_conv1d");
    let samples = Array::read(folder.join("samples.npy")).floats();
    // From [bands, time] of six samples to frames, one sample behind the other.
    let frames = samples.chunks(40 * 30).flat_map(|sample| (0..30 * 40).map(|at| sample[at % 40 * 30 + at / 40]));
    let file = TempDir::new().unwrap();
    let path = file.path().join("features.f32");
    fs::write(&path, frames.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let [(whole, all), (by_hops, macs)] = both_ways(&recipe, &path, &raw());
    assert!(by_hops == whole && macs * 10 < all, "{macs} of {all}");
    let truth = fs::read_to_string(folder.join("expected.txt")).unwrap();
    let said: Vec<&str> = by_hops.iter().step_by(30).map(|(label, _)| label.as_str()).collect();
    assert_eq!(said, truth.lines().collect::<Vec<_>>());
}
