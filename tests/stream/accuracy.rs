//! A stream is as right as `eval`, from sound, from motion and from features of machines, and its front end is the reference's.

use std::fs;

use tempfile::TempDir;
use tractlet::sensor::{Arithmetic, DecisionRule, FrontendKind, SourceOptions};
use tractlet::{Model, Session, SessionOptions};
use tractlet_core::signal::fixed::{self, Fixed};
use tractlet_core::signal::spectral::Spectral;
use tractlet_core::signal::{channel, stats};

use super::common::{self, Array, pack};
use super::{recipe, said};

#[test]
fn mfcc_is_the_front_end_that_the_model_was_trained_with() {
    let Some(pack) = pack() else { return };
    let FrontendKind::Spectral { shape, peak_scaled: true, .. } = recipe("kws_dscnn").frontend else { panic!("mfcc") };
    let mut mfcc = Spectral::new(shape).unwrap();
    let in_integers: Fixed<256, 400> = Fixed::new(shape).unwrap();
    let audio = Array::read(pack.join("data/kws_audio_pcm16.npy")).numbers();
    let expected = Array::read(pack.join("data/kws_audio_mfcc.npy")).numbers();
    let (mut worst, mut worst_in_integers) = (0f64, 0f64);
    for (clip, expected) in audio.chunks(16000).zip(expected.chunks(490)) {
        let samples: Vec<f32> = clip.iter().map(|s| (s / 32768.0) as f32).collect();
        let mut features = vec![0f32; 490];
        let gain = stats::peak(channel(&samples, 1, 0)).recip();
        mfcc.run(&samples, 1, 0, gain, &mut features);
        let expected: Vec<f32> = expected.iter().map(|&value| value as f32).collect();
        let error = |features: &[f32]| common::farthest(features, &expected);
        worst = worst.max(error(&features));
        let samples: Vec<i16> = clip.iter().map(|&sample| sample as i16).collect();
        let (mut work, mut integers) = ([[0; 2]; 256], vec![0; 490]);
        let unit = fixed::peak(samples.iter().copied()).unwrap();
        in_integers.run(&samples, 1, 0, unit, &mut work, &mut integers);
        features.iter_mut().zip(&integers).for_each(|(place, &feature)| *place = fixed::value(feature));
        worst_in_integers = worst_in_integers.max(error(&features));
    }
    println!("36 clips, max abs error {worst:.2e}, in integers {worst_in_integers:.2e}");
    assert!(worst < 1e-3 && worst_in_integers < 1e-3, "{worst}, {worst_in_integers}");
}

#[test]
fn keywords_from_audio_are_those_from_the_reference_features() {
    let Some(pack) = pack() else { return };
    let mut recipe = recipe("kws_dscnn");
    recipe.input.windowing.hop = 16000;
    let audio = Array::read(pack.join("data/kws_audio_pcm16.npy"));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clips.s16");
    fs::write(&file, &audio.bytes).unwrap();
    let format = Some("s16le".parse().unwrap());
    let source = SourceOptions { format, scale: vec![1.0 / 32768.0], ..SourceOptions::default() };
    let (said, in_integers) = {
        let (floats, _) = said(&recipe, &file, source.clone());
        let FrontendKind::Spectral { arithmetic, .. } = &mut recipe.frontend else { panic!("mfcc") };
        *arithmetic = Arithmetic::Fixed;
        (floats, said(&recipe, &file, source).0)
    };

    let mut session = Session::new(&Model::open(&recipe.model).unwrap(), SessionOptions::default()).unwrap();
    let scores = common::run_samples(&mut session, &Array::read(pack.join("data/kws_audio_mfcc.npy")).floats());
    let best = |scores: &[f32]| (0..12).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    let reference: Vec<&str> = scores.chunks(12).map(|scores| recipe.labels[best(scores)].as_str()).collect();
    let words: Vec<&str> = said.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, reference);
    assert!(in_integers.iter().map(|(word, _)| word).eq(&words), "{in_integers:?}");
    let apart = said.iter().zip(&in_integers).map(|((_, a), (_, b))| (a - b).abs()).fold(0.0, f32::max);
    println!("scores of fixed-point features differ by {apart:.4} at most");
    let truth = Array::read(pack.join("data/kws_audio_y.npy")).numbers();
    let right = words.iter().zip(truth).filter(|(word, class)| **word == recipe.labels[*class as usize]).count();
    println!("{right} of {} clips", words.len());
    assert!(right >= 31, "{right}");
}

#[test]
fn activities_from_raw_csv_are_as_right_as_those_of_eval() {
    let Some(pack) = pack() else { return };
    let mut recipe = recipe("har_cnn1d");
    recipe.input.windowing.hop = 128;
    let counts = Array::read(pack.join("data/har_test_public_x_i16.npy"));
    let truth = Array::read(pack.join("data/har_test_public_y.npy")).numbers();
    let (windows, counts) = (counts.shape[0], counts.numbers());
    let mut csv = String::from("t_ms,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n");
    let mut inputs = Vec::new();
    for (window, sample) in counts.chunks(6 * 128).enumerate() {
        for frame in 0..128 {
            csv += &format!("{}", (window * 128 + frame) * 20);
            (0..6).for_each(|channel| csv += &format!(",{}", sample[channel * 128 + frame]));
            csv += "\n";
        }
        let scale = |channel: usize| if channel < 3 { 1.0 / 720.0 } else { 0.0175 * std::f64::consts::PI / 180.0 };
        inputs.extend(sample.iter().enumerate().map(|(i, count)| (count * scale(i / 128)) as f32));
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("imu.csv");
    fs::write(&file, csv).unwrap();
    let units = ["g", "g", "g", "deg/s", "deg/s", "deg/s"].map(|unit| unit.parse().unwrap()).into();
    let scale = [1.0 / 720.0, 1.0 / 720.0, 1.0 / 720.0, 0.0175, 0.0175, 0.0175].into();
    let source = SourceOptions { units, scale, time: Some("t_ms:ms".parse().unwrap()), ..SourceOptions::default() };
    let (said, summary) = said(&recipe, &file, source);
    assert_eq!(summary.windows as usize, windows);

    let mut session = Session::new(&Model::open(&recipe.model).unwrap(), SessionOptions::default()).unwrap();
    let scores = common::run_samples(&mut session, &inputs);
    let best = |scores: &[f32]| (0..6).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    let evaluated = scores.chunks(6).zip(&truth).filter(|(scores, class)| best(scores) as f64 == **class).count();
    let streamed =
        said.iter().zip(&truth).filter(|((label, _), class)| *label == recipe.labels[**class as usize]).count();
    println!(
        "top1 {:.4} streamed, {:.4} evaluated",
        streamed as f64 / windows as f64,
        evaluated as f64 / windows as f64
    );
    assert_eq!(streamed, evaluated);
}

#[test]
fn anomaly_scores_of_clips_are_those_of_eval() {
    let Some(pack) = pack() else { return };
    let mut recipe = recipe("ad_autoencoder");
    // Scores window by window, which are averaged here as eval's --group does.
    let DecisionRule::Anomaly(rule) = &mut recipe.decision else { panic!("an anomaly") };
    rule.smooth = 1;
    let frames = Array::read(pack.join("data/ad_test_public_x_i16.npy"));
    let truth = Array::read(pack.join("data/ad_test_public_y.npy")).numbers();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clips.s16");
    fs::write(&file, &frames.bytes).unwrap();
    let format = Some("s16le".parse().unwrap());
    let (said, summary) =
        said(&recipe, &file, SourceOptions { format, scale: vec![1.0 / 256.0], ..SourceOptions::default() });
    assert_eq!(summary.windows, 124 * 200 - 4);
    // Windows from 196 to 199 of a clip reach into the next one.
    let clip = |clip: usize| said[clip * 200..][..196].iter().map(|(_, score)| f64::from(*score)).sum::<f64>() / 196.0;
    let scores: Vec<f64> = (0..124).map(clip).collect();
    let of = |class: f64| scores.iter().zip(&truth).filter(move |(_, y)| **y == class).map(|(score, _)| *score);
    let above = |anomalous: f64| of(0.0).filter(|normal| *normal < anomalous).count();
    let auc = of(1.0).map(above).sum::<usize>() as f64 / (of(0.0).count() * of(1.0).count()) as f64;
    println!("auc {auc:.4}");
    assert!((auc - 0.8942).abs() < 5e-4, "{auc}");
}
