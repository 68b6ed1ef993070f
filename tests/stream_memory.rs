//! A stream that runs for long allocates nothing and grows by nothing: alone in its process, whose heap is counted.

mod common;

use std::fs;

use common::repository;
use tempfile::TempDir;
use tractlet::footprint::proc::exact_bytes;
use tractlet::footprint::{CountingAllocator, heap};
use tractlet::sensor::{Control, Recipe, SinkOptions, Source, SourceOptions, Stream, StreamOptions};
use tractlet::{Model, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_long_replay_allocates_nothing_and_loses_nothing() {
    [None, Some(100.0)].into_iter().for_each(replay);
}

/// At the model's rate, or at twice that.
fn replay(rate_hz: Option<f64>) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("walk.f32");
    let value = |frame: usize, channel: usize| ((frame * (channel + 3)) as f32 * 0.11).sin() * 0.4;
    let bytes: Vec<u8> = (0..64 * 1000).flat_map(|t| (0..6).flat_map(move |c| value(t, c).to_le_bytes())).collect();
    fs::write(&file, bytes).unwrap();
    // As many windows as TRACTLET_STREAM_WINDOWS says; enough to see a leak of a byte a window where it says nothing.
    let windows: u64 = std::env::var("TRACTLET_STREAM_WINDOWS").map_or(5_000, |windows| windows.parse().unwrap());
    let options = SourceOptions {
        format: Some("f32le".parse().unwrap()),
        repeat: Some(windows.div_ceil(rate_hz.map_or(1000, |_| 500)) + 1),
        rate_hz,
        ..SourceOptions::default()
    };
    let recipe = Recipe::open(repository().join("models/har_cnn1d")).unwrap();
    // As `tractlet stream` runs it: by what is new of each window.
    let hop = recipe.by_hops(SessionOptions::default());
    let session = Session::new(&Model::open(&recipe.model).unwrap(), hop).unwrap();
    assert!(session.hop().is_some());
    let source = Source::open(&file.to_str().unwrap().parse().unwrap(), options, &recipe.input).unwrap();
    let sink = format!("json:{}", folder.path().join("decisions.json").display());
    let mut sinks = [sink
        .parse::<tractlet::sensor::SinkSpec>()
        .unwrap()
        .open(&SinkOptions::default(), &Control::default())
        .unwrap()];
    // Resident pages, those of the program included, and the heap, when everything has been used once and near the end.
    let (mut early, mut late) = (None, None);
    let progress = |counters: &tractlet::sensor::Counters| match counters.windows() {
        2_000 if early.is_none() => early = Some((exact_bytes().map(|(all, _)| all), heap())),
        now if now == windows && late.is_none() => {
            let heap = heap();
            late = Some((exact_bytes().map(|(all, _)| all), heap));
        }
        _ => {}
    };
    let options = StreamOptions { progress: Some(Box::new(progress)), ..StreamOptions::default() };
    let summary = Stream::new(&recipe, session, options).unwrap().run(source, &mut sinks, &Control::default()).unwrap();
    let ((early_bytes, early), (late_bytes, late)) = (early.unwrap(), late.unwrap());
    println!("{summary:?}");
    assert!(summary.windows >= windows && summary.adds_up());
    assert_eq!((summary.dropped, summary.malformed, summary.remainder), (0, 0, 0));
    assert_eq!(late.since(&early).allocations, 0);
    assert_eq!(early_bytes, late_bytes, "resident");
    assert_eq!(summary.steady_growth_bytes, Some(0));
}
