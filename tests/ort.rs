//! Engine `ort`, on the shared library of ONNX Runtime that is found on this machine. Where there is none every test
//! says that it was skipped, or fails if `TRACTLET_TEST_ORT` is `required`; `make test-ort` sees to one.

mod common;

use std::process::Output;

use common::{Array, command, json, pack, repository, run_samples, skipped, tractlet};
use serde_json::Value;
use tractlet::{EngineChoice, Model, OrtOptions, Provider, Session, SessionOptions};

const SHIPPED: [&str; 5] = ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"];
const KWS: &str = "models/kws_dscnn/int8.onnx";
const SAMPLES: &str = "models/kws_dscnn/samples.npy";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Whether there is a library to test with.
fn there_is_a_library() -> bool {
    let output = tractlet(&["run", KWS, "--input", SAMPLES, "--engine", "ort"]);
    if output.status.success() {
        return true;
    }
    let why = text(&output.stderr);
    assert!(why.contains("needs the shared library of ONNX Runtime"), "{why}");
    assert!(std::env::var_os("TRACTLET_TEST_ORT").is_none_or(|value| value != "required"), "{why}");
    skipped(&why);
    false
}

fn session(model: &Model, options: OrtOptions) -> Session {
    Session::new(model, SessionOptions::default().engine(EngineChoice::Ort).ort(options)).unwrap()
}

/// On the CPU, without sums that saturate.
fn exact() -> OrtOptions {
    OrtOptions { provider: Some(Provider::Cpu), exact: true, ..OrtOptions::default() }
}

/// As far apart as fused and plain execution of one file may be: see tests/golden/pack/README.md.
fn assert_close(name: &str, got: &[f32], golden: &[f32], mean: f32) {
    assert_eq!(got.len(), golden.len(), "{name}");
    let scale = golden.iter().fold(1f32, |max, value| max.max(value.abs()));
    let apart = got.iter().zip(golden).map(|(a, b)| (a - b).abs()).sum::<f32>() / got.len() as f32;
    assert!(apart <= mean * scale, "{name}: {apart} apart on the mean, at values up to {scale}");
}

#[test]
fn shipped_models_answer_as_their_golden_outputs() {
    if !there_is_a_library() {
        return;
    }
    for name in SHIPPED {
        let folder = repository().join("models").join(name);
        for (file, golden, mean) in [("f32.onnx", "golden_f32.npy", 1e-6), ("int8.onnx", "golden_int8.npy", 0.004)] {
            let mut session = session(&Model::open(folder.join(file)).unwrap(), exact());
            let got = run_samples(&mut session, &Array::read(folder.join("samples.npy")).floats());
            assert_close(&format!("{name}/{file}"), &got, &Array::read(folder.join(golden)).floats(), mean);
        }
    }
}

#[test]
fn every_model_of_the_pack_runs_as_its_golden_outputs() {
    let Some(pack) = pack() else { return };
    if !there_is_a_library() {
        return;
    }
    let goldens = repository().join("tests/golden/pack");
    let index: Vec<Value> = serde_json::from_slice(&std::fs::read(goldens.join("index.json")).unwrap()).unwrap();
    for golden in &index {
        let field = |name: &str| golden[name].as_str().unwrap();
        let origin = if golden["input"]["origin"] == "pack" { pack.clone() } else { repository() };
        let input = Array::read(origin.join(golden["input"]["file"].as_str().unwrap())).floats();
        let name = field("onnx");
        // Its exact kernels take no QGemm; QOperator files are computed in integers anyway.
        let options = OrtOptions { exact: name.contains("_qdq"), ..exact() };
        let mut session = session(&Model::open(pack.join("models").join(name)).unwrap(), options);
        let got = run_samples(&mut session, &input);
        assert_close(name, &got, &Array::read(goldens.join(field("output"))).floats(), 0.02);
    }
    assert!(index.len() >= 40);
}

#[test]
fn a_run_allocates_nothing() {
    if !there_is_a_library() {
        return;
    }
    for name in SHIPPED {
        let model = format!("models/{name}/int8.onnx");
        let report = json(&["bench", &model, "--engine", "ort", "--provider", "cpu", "--runs", "50", "--warmup", "3"]);
        assert_eq!(report["allocations_per_run"], 0.0, "{name}");
        assert_eq!((&report["engine"], &report["provider"]), (&"ort".into(), &"cpu".into()));
    }
}

#[test]
fn each_node_says_where_it_runs_and_how_long() {
    if !there_is_a_library() {
        return;
    }
    let report = json(&["inspect", KWS, "--engine", "ort", "--provider", "cpu"]);
    let nodes = report["nodes"].as_array().unwrap();
    assert!(nodes.len() > 5);
    assert!(nodes.iter().all(|node| node["provider"] == "CPUExecutionProvider" && node["engine"] == "ort"));
    assert!(nodes.iter().any(|node| node["op"] == "QLinearConv" && node["dtype"] == "uint8"), "{nodes:?}");
    let bench = json(&["bench", KWS, "--engine", "ort", "--provider", "cpu", "--runs", "5", "--profile"]);
    let ops = bench["ops"].as_array().unwrap();
    assert_eq!(ops.len(), nodes.len());
    assert!(ops.iter().any(|op| op["kind"] == "QLinearConv" && op["median_us"].as_f64().unwrap() > 0.0));
}

#[test]
fn the_provider_that_is_required_is_had_or_the_model_is_refused() {
    if !there_is_a_library() {
        return;
    }
    let run = |options: &[&str]| tractlet(&[&["run", KWS, "--input", SAMPLES, "--engine", "ort"], options].concat());
    assert!(run(&["--require", "cpu"]).status.success());
    let told = refused(&run(&["--require", "cpu", "--provider", "cuda"]));
    assert!(told.contains("cpu is required, and cuda is chosen"), "{told}");
    let cuda = run(&["--require", "cuda"]);
    if !cuda.status.success() {
        let told = refused(&cuda);
        assert!(told.contains("provider cuda") && told.contains(KWS), "{told}");
    }
}

#[test]
fn a_batch_scores_as_its_samples_do() {
    if !there_is_a_library() {
        return;
    }
    let eval = |batch: &str| {
        let golden = "models/ad_autoencoder/golden_f32.npy";
        let data = ["--inputs", "models/ad_autoencoder/samples.npy", "--labels", golden, "--metric", "mse"];
        let model =
            ["eval", "models/ad_autoencoder/f32.onnx", "--engine", "ort", "--provider", "cpu", "--batch", batch];
        json(&[&model[..], &data[..]].concat())
    };
    for batch in ["1", "3", "8", "20"] {
        let report = eval(batch);
        assert_eq!((&report["samples"], &report["batch"]), (&8.into(), &batch.parse::<u64>().unwrap().into()));
        assert!(report["value"].as_f64().unwrap() < 1e-8, "{report}");
    }
}

#[test]
fn two_engines_are_compared() {
    if !there_is_a_library() || !cfg!(feature = "quantize") {
        return;
    }
    let engines = ["--engine-a", "plan", "--engine-b", "ort", "--provider", "cpu"];
    let report = json(&[&["compare", KWS, KWS, "--inputs", SAMPLES], &engines[..]].concat());
    assert_eq!(report["output"]["top1_agreement"], 1.0);
    assert!(report["output"]["sqnr_db"].as_f64().unwrap() > 30.0, "{}", report["output"]);
}

#[test]
fn an_output_that_is_an_input_is_passed_on() {
    if !there_is_a_library() {
        return;
    }
    let model = Model::open("tests/golden/ort/passed_on.onnx").unwrap();
    let mut session = session(&model, exact());
    let (x, mut same, mut above) = ([-1f32, 2.0, -3.0, 4.0], [0f32; 4], [0f32; 4]);
    session.run(&[x.as_slice().into()], &mut [same.as_mut_slice().into(), above.as_mut_slice().into()]).unwrap();
    assert_eq!((same, above), (x, [0.0, 2.0, 0.0, 4.0]));
}

#[test]
fn options_that_cannot_be_heeded_are_refused() {
    let refused_with = |options: &[&str], words: &str| {
        let output = tractlet(&[&["run", KWS, "--input", SAMPLES, "--engine", "ort"], options].concat());
        let told = refused(&output);
        assert!(told.contains(words), "{told}");
    };
    refused_with(&["--provider", "cpu", "--device-id", "1"], "are for a GPU");
    refused_with(&["--provider", "cuda", "--tensorrt-int8"], "are for --provider tensorrt");
}

#[test]
fn external_data_comes_along() {
    if !there_is_a_library() {
        return;
    }
    // A file that states 44 bytes of external data where 48 are meant, made whole.
    let malformed = repository().join("tests/malformed");
    let mut bytes = std::fs::read(malformed.join("external_length_too_short.onnx")).unwrap();
    let at = bytes.windows(10).position(|window| window == b"length\x12\x0244").unwrap();
    bytes[at + 9] = b'8';
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
    std::fs::copy(malformed.join("external.bin"), folder.path().join("external.bin")).unwrap();
    let model = Model::open(folder.path().join("model.onnx")).unwrap();
    let input: Vec<f32> = (0..model.inputs()[0].shape().unwrap().iter().product()).map(|at| at as f32 - 1.5).collect();
    let by_plan = run_samples(&mut Session::new(&model, SessionOptions::default()).unwrap(), &input);
    assert_close("external data", &run_samples(&mut session(&model, exact()), &input), &by_plan, 1e-6);
}

#[test]
fn weights_that_may_saturate_are_told_of_and_portable_ones_are_not() {
    let Some(pack) = pack().filter(|_| cfg!(target_arch = "x86_64") && there_is_a_library()) else { return };
    let full_range = pack.join("models/kws_dscnn_int8_qdq_minmax.onnx");
    let warned = |model: &str, more: &[&str]| {
        let args = [&["run", model, "--input", SAMPLES, "--engine", "ort", "--provider", "cpu"], more].concat();
        text(&tractlet(&args).stderr)
    };
    let has_vnni = std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("vnni");
    let told = warned(full_range.to_str().unwrap(), &[]);
    assert_eq!(told.contains("--exact") && told.contains("quantized layers"), !has_vnni, "{told}");
    assert_eq!(warned(full_range.to_str().unwrap(), &["--exact"]), "");
    assert_eq!(warned(KWS, &[]), "");
}

#[test]
fn what_is_no_library_is_named_with_what_to_do() {
    let run = |library: &str| {
        let output = command(&["run", KWS, "--input", SAMPLES, "--engine", "ort"])
            .env("ORT_DYLIB_PATH", library)
            .output()
            .unwrap();
        refused(&output)
    };
    let told = run("no/such/libonnxruntime.so");
    assert!(told.contains("ORT_DYLIB_PATH=no/such/libonnxruntime.so: there is no such file"), "{told}");
    let told = run("models");
    assert!(told.contains("this folder has no libonnxruntime.so"), "{told}");
    let told = run(KWS);
    assert!(told.contains("cannot be loaded") && told.contains("pip install onnxruntime"), "{told}");
    assert!(told.contains("1.18 or later"), "{told}");
}

#[test]
fn its_options_are_refused_with_other_engines() {
    let output = tractlet(&["run", KWS, "--input", SAMPLES, "--provider", "cuda"]);
    let told = refused(&output);
    assert!(told.contains("--provider is for the engine ort"), "{told}");
    let output = tractlet(&["run", KWS, "--input", SAMPLES, "--engine", "ort", "--provider", "tpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cpu, cuda, tensorrt"));
}
