//! Every shipped model against golden outputs of ONNX Runtime (`models/make.py`), and the
//! benchmark pack's quantized models against theirs (`tests/golden/pack/make.py`) where it is.

mod common;

use common::{Array, pack, repository, run_samples};
use serde::Deserialize;
use tractlet::{EngineChoice, Model, Session, SessionOptions};

const SHIPPED: [&str; 5] = ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"];

fn session(path: impl AsRef<std::path::Path>, engine: EngineChoice) -> Session {
    let model = Model::open(path).unwrap();
    Session::new(&model, SessionOptions::default().engine(engine)).unwrap()
}

#[test]
fn shipped_float_models_agree_with_onnx_runtime() {
    for name in SHIPPED {
        let folder = repository().join("models").join(name);
        let mut session = session(folder.join("f32.onnx"), EngineChoice::Tract);
        let got = run_samples(&mut session, &Array::read(folder.join("samples.npy")).floats());
        let golden = Array::read(folder.join("golden_f32.npy")).floats();
        let scale = golden.iter().fold(1f32, |max, v| max.max(v.abs()));
        let worst = got.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert_eq!(got.len(), golden.len(), "{name}");
        assert!(worst <= 1e-5 * scale, "{name}: {worst} at values up to {scale}");
    }
}

#[test]
fn shipped_int8_models_agree_with_onnx_runtime_to_one_step() {
    for name in SHIPPED {
        let folder = repository().join("models").join(name);
        let mut session = session(folder.join("int8.onnx"), EngineChoice::Tract);
        let got = run_samples(&mut session, &Array::read(folder.join("samples.npy")).floats());
        let golden = Array::read(folder.join("golden_int8.npy")).floats();
        assert_steps(name, &got, &golden, step(&golden));
    }
}

#[derive(Deserialize)]
struct Golden {
    onnx: String,
    input: Input,
    output: String,
    scale: f32,
}

#[derive(Deserialize)]
struct Input {
    origin: String,
    file: String,
}

#[test]
fn quantized_models_of_the_pack_agree_with_onnx_runtime_to_one_step() {
    let Some(pack) = pack() else {
        eprintln!("skipped: no benchmark pack (set TRACTLET_PACK)");
        return;
    };
    let goldens = repository().join("tests/golden/pack");
    let index: Vec<Golden> = serde_json::from_slice(&std::fs::read(goldens.join("index.json")).unwrap()).unwrap();
    assert!(index.len() >= 40);
    for golden in index {
        let origin = if golden.input.origin == "pack" { pack.clone() } else { repository() };
        let inputs = origin.join(&golden.input.file);
        let mut session = session(pack.join("models").join(&golden.onnx), EngineChoice::Tract);
        let got = run_samples(&mut session, &Array::read(inputs).floats());
        let expected = Array::read(goldens.join(&golden.output)).floats();
        // Two float executions of the same QDQ file drift apart (tests/golden/pack/README.md), and
        // the drift differs from CPU to CPU; the class that wins does not.
        let drifts = golden.onnx.contains("_qdq") && ["ic_", "vww_"].iter().any(|p| golden.onnx.starts_with(p));
        if drifts {
            assert_near(&golden.onnx, &got, &expected);
        } else if golden.onnx.contains("qopstd") && !golden.onnx.starts_with("ad_") {
            // The last quantized tensor lies before a float softmax, whose slope is at most 1/4.
            assert_steps(&golden.onnx, &got, &expected, golden.scale);
        } else {
            assert_steps(&golden.onnx, &got, &expected, golden.scale);
        }
    }
}

/// The distance of neighbouring values of a dequantized tensor.
fn step(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 1e-6).fold(f32::INFINITY, f32::min)
}

fn assert_steps(name: &str, got: &[f32], golden: &[f32], step: f32) {
    assert_eq!(got.len(), golden.len(), "{name}");
    let apart: Vec<f32> = got.iter().zip(golden).map(|(a, b)| ((a - b) / step).abs()).collect();
    let beyond = apart.iter().filter(|steps| **steps > 1.01).count();
    let worst = apart.iter().copied().fold(0f32, f32::max);
    assert!(beyond * 1000 <= got.len(), "{name}: {beyond} of {} beyond one step, at most {worst} steps", got.len());
}

fn assert_near(name: &str, got: &[f32], golden: &[f32]) {
    assert_eq!(got.len(), golden.len(), "{name}");
    let mean = got.iter().zip(golden).map(|(a, b)| (a - b).abs()).sum::<f32>() / got.len() as f32;
    assert!(mean < 0.02, "{name}: mean difference {mean}");
}
