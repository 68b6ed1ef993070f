//! Every shipped model against golden outputs of ONNX Runtime (`models/make.py`), and the
//! benchmark pack's quantized models against theirs (`tests/golden/pack/make.py`) where it is.

mod common;

use common::{Array, distance, engines, farthest, pack, repository, run_samples};
use serde::Deserialize;
use tractlet::{EngineChoice, Model, Session, SessionOptions};

const SHIPPED: [&str; 5] = ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"];

fn session(path: impl AsRef<std::path::Path>, engine: EngineChoice) -> Session {
    let model = Model::open(path).unwrap();
    Session::new(&model, SessionOptions::default().engine(engine)).unwrap()
}

#[test]
fn shipped_float_models_agree_with_onnx_runtime() {
    for (name, engine) in SHIPPED.iter().flat_map(|name| engines().map(move |engine| (name, engine))) {
        let folder = repository().join("models").join(name);
        let mut session = session(folder.join("f32.onnx"), engine);
        let got = run_samples(&mut session, &Array::read(folder.join("samples.npy")).floats());
        let golden = Array::read(folder.join("golden_f32.npy")).floats();
        let scale = golden.iter().fold(1f32, |max, v| max.max(v.abs()));
        let worst = farthest(&got, &golden);
        assert!(worst <= 1e-5 * f64::from(scale), "{name}: {worst} at values up to {scale}");
    }
}

#[test]
fn shipped_int8_models_agree_with_onnx_runtime_to_one_step() {
    for (name, engine) in SHIPPED.iter().flat_map(|name| engines().map(move |engine| (name, engine))) {
        let folder = repository().join("models").join(name);
        let mut session = session(folder.join("int8.onnx"), engine);
        let got = run_samples(&mut session, &Array::read(folder.join("samples.npy")).floats());
        let golden = Array::read(folder.join("golden_int8.npy")).floats();
        if drifts(name) { assert_near(name, &got, &golden) } else { assert_steps(name, &got, &golden, step(&golden)) }
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
    let Some(pack) = pack() else { return };
    let goldens = repository().join("tests/golden/pack");
    let index: Vec<Golden> = serde_json::from_slice(&std::fs::read(goldens.join("index.json")).unwrap()).unwrap();
    assert!(index.len() >= 40);
    for (golden, engine) in index.iter().flat_map(|golden| engines().map(move |engine| (golden, engine))) {
        let origin = if golden.input.origin == "pack" { pack.clone() } else { repository() };
        let mut session = session(pack.join("models").join(&golden.onnx), engine);
        let got = run_samples(&mut session, &Array::read(origin.join(&golden.input.file)).floats());
        let expected = Array::read(goldens.join(&golden.output)).floats();
        let name = format!("{} on {engine:?}", golden.onnx);
        if golden.onnx.contains("_qop") {
            // All accumulate in integers and round alike: equal but for the float end of `qopstd`.
            let worst = farthest(&got, &expected);
            assert!(worst <= 1e-4, "{name}: {worst}");
        } else if golden.onnx.contains("_qdq") && drifts(&golden.onnx) {
            assert_near(&name, &got, &expected);
        } else {
            assert_steps(&name, &got, &expected, golden.scale);
        }
    }
}

/// Two executions of the same QDQ file, in float or fused into integers, drift apart where a sum
/// falls beside a rounding boundary (tests/golden/pack/README.md). In the deep networks the drift
/// passes one step; the class that wins stays.
fn drifts(name: &str) -> bool {
    name.starts_with("ic_") || name.starts_with("vww_")
}

#[test]
fn plans_lower_every_node_of_the_shipped_models_to_integers() {
    for name in SHIPPED {
        let session = session(repository().join("models").join(name).join("int8.onnx"), EngineChoice::Plan);
        assert_eq!(tractlet::int8_ratio(session.nodes()), Some(1.0), "{name}");
    }
}

#[test]
fn no_node_of_a_shipped_float_model_is_told_to_be_int8() {
    for name in SHIPPED {
        let session = session(repository().join("models").join(name).join("f32.onnx"), EngineChoice::Plan);
        let odd: Vec<_> = session.nodes().iter().filter(|node| node.dtype != "float32").collect();
        assert!(odd.iter().all(|node| node.dtype == "int64" && !node.computes), "{name}: {odd:?}");
    }
}

#[test]
fn arenas_are_close_to_their_lower_bound() {
    for (name, file) in SHIPPED.iter().flat_map(|name| ["f32.onnx", "int8.onnx"].map(|file| (name, file))) {
        let session = session(repository().join("models").join(name).join(file), EngineChoice::Plan);
        let memory = session.memory().unwrap();
        // Alignment of every block to 64 bytes aside.
        let allowed = memory.arena_lower_bound_bytes * 105 / 100 + 64 * 4;
        assert!(memory.arena_bytes + memory.scratch_bytes <= allowed, "{name}/{file}: {memory:?}");
    }
}

/// Bytes of the activations that TensorFlow Lite Micro plans for the same networks: core/benches/memory.md.
const TFLM_HEAD_BYTES: [(&str, usize); 4] =
    [("ad_autoencoder", 768), ("ic_resnet8", 49_152), ("kws_dscnn", 16_000), ("sww_conv1d", 6_656)];

#[test]
fn arenas_are_no_larger_than_those_of_tensorflow_lite_micro() {
    for (name, head_bytes) in TFLM_HEAD_BYTES {
        let session = session(repository().join("models").join(name).join("int8.onnx"), EngineChoice::Plan);
        let memory = session.memory().unwrap();
        assert!(memory.arena_bytes <= head_bytes, "{name}: {memory:?}");
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
    let apart = |(a, b): (&f32, &f32)| distance(f64::from(*a), f64::from(*b)) / f64::from(step);
    let apart: Vec<f64> = got.iter().zip(golden).map(apart).collect();
    let beyond = apart.iter().filter(|steps| **steps > 1.01).count();
    let worst = apart.iter().copied().fold(0.0, f64::max);
    assert!(beyond * 1000 <= got.len(), "{name}: {beyond} of {} beyond one step, at most {worst} steps", got.len());
}

fn assert_near(name: &str, got: &[f32], golden: &[f32]) {
    assert_eq!(got.len(), golden.len(), "{name}");
    let mean = got.iter().zip(golden).map(|(a, b)| (a - b).abs()).sum::<f32>() / got.len() as f32;
    assert!(mean < 0.02, "{name}: mean difference {mean}");
}
