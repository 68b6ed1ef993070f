//! The built binary, as a script sees it: exit codes, messages, JSON, files.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use common::{Array, command, json, repository, tractlet};
use serde_json::Value;
use tempfile::TempDir;
use tractlet::{DType, EngineChoice, npy};

const KWS: &str = "models/kws_dscnn/int8.onnx";
const SAMPLES: &str = "models/kws_dscnn/samples.npy";
const LABELS: &str = "models/kws_dscnn/labels.txt";
const AD: &str = "models/ad_autoencoder/f32.onnx";
const AD_SAMPLES: &str = "models/ad_autoencoder/samples.npy";
/// The engine `tract`, and the other where the build has none.
const REFERENCE: &str = if EngineChoice::Tract.is_built() { "tract" } else { "plan" };

fn has_keys(value: &Value, keys: &[&str]) {
    keys.iter().for_each(|key| assert!(value.get(key).is_some(), "no `{key}` in {value}"));
}

/// A .npy file in a folder of the test; gives back its path.
fn save(folder: &TempDir, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    let mut writer = npy::Writer::create(&path, dtype, shape).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap().publish().unwrap();
    path.to_str().unwrap().to_owned()
}

fn floats(count: usize, value: f32) -> Vec<u8> {
    value.to_le_bytes().repeat(count)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Each block of README.md that begins with a command of ours, against what it prints; `...` stands for any lines.
#[test]
fn the_transcripts_of_the_readme_are_what_is_printed() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink(repository().join("models"), folder.path().join("models")).unwrap();
    let transcripts = readme.split("```\n").skip(1).step_by(2).filter_map(|block| block.strip_prefix("$ tractlet "));
    let mut seen = 0;
    for (line, expected) in transcripts.filter_map(|block| block.split_once('\n')) {
        if line.starts_with("quantize") && !cfg!(feature = "quantize") {
            continue;
        }
        let output = command(&line.split(' ').collect::<Vec<_>>()).current_dir(&folder).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut rest = printed.as_str();
        for part in expected.split("...\n") {
            let at = rest.find(part).unwrap_or_else(|| panic!("`{line}` prints\n{printed}\nand README.md has\n{part}"));
            assert!(at == 0 || !expected.starts_with(part), "`{line}` begins otherwise:\n{printed}");
            rest = &rest[at + part.len()..];
        }
        assert_eq!(rest, "", "`{line}` prints more than README.md has");
        seen += 1;
    }
    assert!(seen >= 2, "README.md has no transcripts");
}

#[test]
fn run_writes_what_the_reference_answers() {
    for model in ["kws_dscnn", "har_cnn1d", "ic_resnet8"] {
        let folder = TempDir::new().unwrap();
        let written = folder.path().join("y.npy");
        let (path, samples) = (format!("models/{model}/f32.onnx"), format!("models/{model}/samples.npy"));
        let report =
            json(&["run", &path, "--input", &samples, "--output", written.to_str().unwrap(), "--engine", REFERENCE]);
        let golden = Array::read(repository().join(format!("models/{model}/golden_f32.npy")));
        let got = Array::read(&written);
        assert_eq!(got.shape, golden.shape);
        assert!(got.floats().iter().zip(golden.floats()).all(|(a, b)| (a - b).abs() < 1e-4), "{model}");

        let output = &report["outputs"][0];
        has_keys(output, &["name", "dtype"]);
        assert_eq!(output["shape"], serde_json::json!(golden.shape));
        let values: Vec<f32> =
            output["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        assert_eq!(values, got.floats(), "JSON is complete and exact");
        assert_eq!(report["engine"], REFERENCE);
    }
}

#[test]
fn run_takes_one_sample_and_lists_with_and_without_batch() {
    let folder = TempDir::new().unwrap();
    for (shape, samples) in [(&[1, 1, 49, 10][..], 1), (&[2, 1, 49, 10], 2), (&[2, 1, 1, 49, 10], 2)] {
        let input = save(&folder, "x.npy", DType::F32, shape, &floats(samples * 490, 0.5));
        let report = json(&["run", KWS, "--input", &format!("input={input}")]);
        assert_eq!(report["samples"], samples);
        assert_eq!(report["outputs"][0]["shape"], serde_json::json!([samples, 12]));
    }
}

#[test]
fn run_names_the_words() {
    let report = json(&["run", KWS, "--input", SAMPLES, "--labels", LABELS, "--top", "2"]);
    let expected = fs::read_to_string(repository().join("models/kws_dscnn/expected.txt")).unwrap();
    let found: Vec<&str> =
        report["top"].as_array().unwrap().iter().map(|top| top[0]["label"].as_str().unwrap()).collect();
    assert_eq!(found, expected.lines().collect::<Vec<_>>());
    assert_eq!(report["top"][0].as_array().unwrap().len(), 2);
    let text = tractlet(&["run", KWS, "--input", SAMPLES, "--labels", LABELS]);
    assert!(String::from_utf8(text.stdout).unwrap().starts_with(" 0  down "));
}

#[test]
fn eval_gives_the_same_value_on_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    let classes: Vec<u8> =
        (0..12i64).map(|class| if class == 3 { 4 } else { class }).flat_map(i64::to_le_bytes).collect();
    let classes = save(&folder, "y.npy", DType::I64, &[12], &classes);
    let top1 = json(&["eval", KWS, "--inputs", SAMPLES, "--labels", &classes]);
    has_keys(&top1, &["engine", "samples", "metric"]);
    assert_eq!(top1["value"], 11.0 / 12.0);

    let golden = "models/ad_autoencoder/golden_f32.npy";
    let mse = |threads| {
        json(&["eval", AD, "--inputs", AD_SAMPLES, "--labels", golden, "--metric", "mse", "--threads", threads])
    };
    assert!(mse("1")["value"].as_f64().unwrap() < 1e-6);
    assert_eq!(mse("1")["value"], mse("3")["value"]);
    let together = json(&["eval", AD, "--inputs", AD_SAMPLES, "--labels", golden, "--metric", "mse", "--batch", "3"]);
    assert!(together["value"].as_f64().unwrap() < 1e-6, "{together}");
}

#[test]
fn eval_ranks_anomalies_by_group() {
    let folder = TempDir::new().unwrap();
    // The same window, calm and with a growing disturbance: later groups are reconstructed worse.
    let window = Array::read(repository().join(AD_SAMPLES)).floats()[..640].to_vec();
    let samples: Vec<u8> = (0..8)
        .flat_map(|sample| {
            window.iter().enumerate().map(move |(i, x)| x + if i % 2 == 0 { 10.0 * sample as f32 } else { 0.0 })
        })
        .flat_map(f32::to_le_bytes)
        .collect();
    let samples = save(&folder, "x.npy", DType::F32, &[8, 640], &samples);
    for (labels, auc) in [([0, 0, 1, 1], 1.0), ([1, 0, 0, 1], 0.5), ([1, 1, 0, 0], 0.0)] {
        let labels = save(&folder, "y.npy", DType::U8, &[4], &labels);
        let report = json(&["eval", AD, "--inputs", &samples, "--labels", &labels, "--metric", "auc", "--group", "2"]);
        assert_eq!(report["value"], auc);
    }
}

#[test]
fn the_other_commands_report_what_scripts_rely_on() {
    let inspect = json(&["inspect", KWS]);
    has_keys(&inspect, &["engine", "int8_ratio", "model"]);
    assert_eq!(inspect["inputs"][0], serde_json::json!({"name": "input", "dtype": "float32", "shape": [1, 1, 49, 10]}));
    assert_eq!(inspect["outputs"][0]["shape"], serde_json::json!([1, 12]));
    has_keys(&inspect["nodes"][0], &["name", "op", "dtype", "engine"]);
    has_keys(&inspect["steps"][0], &["name", "kind", "dtype", "macs", "read_bytes", "written_bytes", "scratch_bytes"]);
    // 125 x 64 outputs: a first layer of 40 taps, four of 9 and four of 64, and 64 x 12 to end with.
    let macs: u64 = inspect["steps"].as_array().unwrap().iter().map(|step| step["macs"].as_u64().unwrap()).sum();
    assert_eq!(macs, 2_656_768);
    has_keys(&inspect["arena"][0], &["scratch", "names", "offset", "bytes", "first_step", "last_step"]);
    if EngineChoice::Tract.is_built() {
        assert_eq!(json(&["inspect", KWS, "--engine", "tract"])["steps"], serde_json::json!([]));
    }
    let normalized = "tests/golden/ops/layer_norm_quantized/model.onnx";
    let why = "there is no op on integers for it";
    let nodes = &json(&["inspect", normalized, "--engine", "plan"])["nodes"];
    assert!(nodes.as_array().unwrap().iter().any(|node| node["why_float"] == why), "{nodes}");
    let text = tractlet(&["inspect", normalized, "--engine", "plan"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains(&format!("Quantized, but in float:\n  ln9 (LayerNormalization): {why}\n")), "{text}");
    let sums = fs::read_to_string(repository().join("models/SHA256SUMS")).unwrap();
    assert!(sums.contains(inspect["model"]["sha256"].as_str().unwrap()));

    let bench = json(&["bench", KWS, "--runs", "5", "--warmup", "1", "--profile", "--engine", REFERENCE]);
    assert_eq!((&bench["runs"], &bench["warmup"]), (&5.into(), &1.into()));
    assert!(bench["median_us"].as_f64() > Some(0.0) && bench["p99_us"].as_f64() >= bench["median_us"].as_f64());
    assert_eq!(bench["allocations_per_run"].as_f64() > Some(0.0), REFERENCE == "tract", "tract allocates");
    has_keys(&bench["ops"][0], &["name", "kind", "dtype", "median_us"]);
    has_keys(&bench, &["min_us", "p90_us", "max_us", "jitter_us", "bytes_allocated_per_run", "input"]);
    assert!(bench["throughput_per_s"].as_f64() > Some(0.0));
    has_keys(&bench["cpu"], &["model", "governor", "frequency_mhz", "temperature_celsius", "note"]);
    assert_eq!(bench["ops"][0]["macs"].is_null(), REFERENCE == "tract", "tract does not count them");
    assert!(bench["ops"][0]["gmac_per_s"].is_null());

    let planned = json(&["bench", KWS, "--runs", "5", "--engine", "plan", "--profile"]);
    assert!(planned["ops"].as_array().unwrap().iter().any(|op| op["gmac_per_s"].as_f64() > Some(0.0)));
    assert_eq!((&planned["engine"], &planned["allocations_per_run"]), (&"plan".into(), &0.0.into()));

    let footprint = json(&["footprint", KWS, "--budget", "4GiB", "--engine", REFERENCE]);
    assert_eq!(footprint["predicted"].is_null(), REFERENCE == "tract");
    for key in ["load_peak_bytes", "run_peak_bytes", "rss_bytes", "rss_anon_bytes", "rss_file_bytes", "heap_peak_bytes"]
    {
        assert!(footprint["measured"][key].as_u64() > Some(0), "{key}");
    }
    assert_eq!(footprint["budget"]["fits"], true);
}

#[test]
fn bench_compares_with_an_earlier_report() {
    let folder = TempDir::new().unwrap();
    let earlier = folder.path().join("earlier.json");
    let bench = ["bench", KWS, "--runs", "5", "--warmup", "1", "--engine", "plan", "--profile"];
    let report = json(&bench);
    assert!(report.get("comparison").is_none());
    fs::write(&earlier, report.to_string()).unwrap();
    let compare = [&bench[..], &["--compare", earlier.to_str().unwrap()]].concat();
    let now = json(&compare);
    let comparison = &now["comparison"];
    let ratio = now["median_us"].as_f64().unwrap() / report["median_us"].as_f64().unwrap();
    assert!((comparison["median_ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{comparison}");
    assert_eq!(comparison["earlier_engine"], "plan");
    assert_eq!((&comparison["differences"], &now["model"]), (&serde_json::json!([]), &KWS.into()));
    let threads = json(&[&compare[..], &["--threads", "2"]].concat());
    let threads = &threads["comparison"]["differences"];
    assert_eq!(threads, &serde_json::json!([{"what": "threads", "now": "2", "earlier": "1"}]));
    // A batch is of the same model.
    let batch = |size| json(&["bench", AD, "--engine", "plan", "--runs", "1", "--warmup", "1", "--batch", size]);
    assert_eq!(batch("1")["model_sha256"], batch("2")["model_sha256"]);
    let steps = comparison["ops"].as_array().unwrap();
    assert_eq!(steps.len(), report["ops"].as_array().unwrap().len());
    for (step, earlier) in steps.iter().zip(report["ops"].as_array().unwrap()) {
        assert_eq!((&step["name"], &step["earlier_us"]), (&earlier["name"], &earlier["median_us"]));
    }
    let text = String::from_utf8(tractlet(&compare).stdout).unwrap();
    assert!(text.contains("times that of") && text.contains("earlier us"), "{text}");
    assert!(json(&[&bench[..8], &compare[9..]].concat())["comparison"]["ops"].is_null());
}

#[test]
fn targets_lists_the_boards() {
    let report = json(&["targets"]);
    let boards = report["boards"].as_array().unwrap();
    let board = boards.iter().find(|board| board["board"] == "pi4").unwrap();
    has_keys(board, &["name", "triple", "soc", "core", "cores", "features", "libc", "qemu_cpu"]);
    assert_eq!((&board["ram_bytes"], &board["budget_bytes"]), (&(1u64 << 30).into(), &(64u64 << 20).into()));
    let text = tractlet(&["targets"]);
    assert_eq!(String::from_utf8(text.stdout).unwrap().lines().count(), boards.len() + 1);
}

/// Its path has what clears a screen, and a byte that is no text.
#[test]
fn a_path_of_any_bytes_is_told_of_and_steers_no_terminal() {
    let folder = TempDir::new().unwrap();
    let [model, plan] =
        [&b"\xff\x1b[2J.onnx"[..], b"\xff.plan"].map(|name| folder.path().join(OsStr::from_bytes(name)));
    fs::copy(repository().join(KWS), &model).unwrap();
    let mut command = command(&["compile", "--json", "-o"]);
    let output = command.arg(&plan).arg(&model).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["model"].as_str().unwrap().ends_with("\u{fffd}\u{1b}[2J.onnx"), "{report}");
    for what in ["inspect", "bench"] {
        let mut command = common::command(&[what, "--json"]);
        let output = command.arg(&model).env("RUST_LOG", "info").output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        has_keys(&report, &["engine"]);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("[2J.onnx: ") && !log.contains('\u{1b}'), "{log:?}");
    }
}

#[test]
fn faults_end_in_an_error_that_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, dtype, shape: &[usize], bytes: &[u8]| save(&folder, name, dtype, shape, bytes);
    let shape = file("shape.npy", DType::F32, &[3, 5], &floats(15, 0.0));
    let double = file("double.npy", DType::F64, &[1, 49, 10], &[0; 490 * 8]);
    let empty = file("empty.npy", DType::F32, &[0, 1, 49, 10], &[]);
    let nan = [floats(490 + 7, 0.0), floats(1, f32::NAN), floats(482, 0.0)].concat();
    let nan = file("nan.npy", DType::F32, &[2, 1, 49, 10], &nan);
    let few = file("few.npy", DType::U8, &[11], &[0; 11]);
    let wide = file("wide.npy", DType::U8, &[12], &[0, 1, 2, 12, 0, 0, 0, 0, 0, 0, 0, 0]);
    let normal = file("normal.npy", DType::U8, &[8], &[0; 8]);
    fs::write(folder.path().join("m.onnx"), "no model").unwrap();
    let pack = folder.path().to_str().unwrap();
    let eval = |labels: &'static str, metric: &'static str| {
        ["eval", AD, "--inputs", AD_SAMPLES, "--labels", labels, "--metric", metric]
    };
    let auc = eval("", "auc").map(|arg| if arg.is_empty() { normal.as_str() } else { arg });
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "models/none.onnx", "--input", SAMPLES], 1, "models/none.onnx: cannot open it: No such file"),
        (&["run", "models", "--input", SAMPLES], 1, "models: cannot read it as a model: it is a directory"),
        (&["run", "Cargo.toml", "--input", SAMPLES], 1, "Cargo.toml: not a readable ONNX model"),
        (&["run", KWS, "--input", "models/none.npy"], 1, "models/none.npy: cannot open it"),
        (&["run", KWS, "--input", "Cargo.toml"], 1, "Cargo.toml: not a readable .npy file"),
        (&["run", KWS, "--input", &shape], 1, "expected [1, 1, 49, 10] for one sample, or [n, 1, 49, 10]"),
        (
            &["run", KWS, "--input", &double],
            1,
            "holds float64, input `input` takes float32; convert it: x.astype('float32')",
        ),
        (&["run", KWS, "--input", &nan], 1, "nan.npy: sample 1 (from 0): input `input` holds NaN at element 7"),
        (&["run", KWS, "--input", &empty], 1, "[0, 1, 49, 10] holds no sample"),
        (&["run", KWS, "--input", "x=a.npy"], 1, "the model has no input `x`; it has `input`"),
        (&["run", KWS, "--input", SAMPLES, "--output", "no/such/y.npy"], 1, "no/such/y.npy: cannot write it"),
        (&["run", KWS, "--input", SAMPLES, "--output", "-"], 1, "-: this goes to a file, not to standard output"),
        (&["compile", KWS, "-o", "-"], 1, "-: this goes to a file, not to standard output"),
        (
            &["slot", "pack", pack, "--name", "x", "--version", "1", "--model", "m.onnx"],
            1,
            "m.onnx: not a readable ONNX",
        ),
        (&["run", KWS, "--input", SAMPLES, "--output", "/dev/null"], 1, "is not a regular file"),
        (&["run", KWS, "--input", SAMPLES, "--labels", "rustfmt.toml"], 1, "2 labels, output `output` has 12 elements"),
        (
            &["slot", "status", "models"],
            1,
            "models: no slots here: it has no slots.toml; `tractlet slot install DIR PACKAGE --key",
        ),
        (&["slot", "activate", "models/none"], 1, "models/none: there is no such folder; `tractlet slot install DIR"),
        (&["run", KWS, "--input", SAMPLES, "--top", "-1"], 2, "-1 is not in 1..="),
        (&["run", KWS, "--input", SAMPLES, "--engine", "abacus"], 2, "there is no engine `abacus`"),
        (&["run", KWS, "--input", SAMPLES, "--dim", "batch"], 2, "expected NAME=SIZE"),
        (&["run", KWS], 2, "--input"),
        (&["eval", KWS, "--inputs", SAMPLES, "--labels", &few], 1, "11 labels for 12 samples; expected 12"),
        (&["eval", KWS, "--inputs", SAMPLES, "--labels", &wide], 1, "label 3 (from 0) is 12; expected 0 to 11"),
        (&["eval", KWS, "--inputs", SAMPLES, "--labels", SAMPLES], 1, "labels are one-dimensional"),
        (&["eval", KWS, "--inputs", SAMPLES, "--labels", &few, "--metric", "auc"], 1, "must be as long"),
        (&[auc.as_slice(), &["--group", "3"]].concat(), 1, "8 samples do not make whole groups of 3"),
        (&auc, 1, "all labels are of one class"),
        (
            &[
                "eval",
                "tests/golden/ort/centred.onnx",
                "--batch",
                "4",
                "--inputs",
                AD_SAMPLES,
                "--labels",
                AD_SAMPLES,
                "--metric",
                "mse",
            ],
            1,
            "sample 0 (from 0) is answered otherwise in a batch with others than alone",
        ),
        (&["bench", KWS, "--engine", "tract", "--threads", "4"], 1, "on one thread; leave the option out"),
        (&["bench", KWS, "--threads", "17"], 1, "plan engine: 17 is above the limit of 16"),
        (&["footprint", KWS, "--svg", "none/x.svg"], 1, "none/x.svg: cannot write it: there is no folder none"),
        (&["bench", KWS, "--svg", "none/x.svg"], 1, "none/x.svg: cannot write it: there is no folder none"),
        (&["bench", KWS, "--compare", "none.json"], 1, "none.json: cannot read the report to compare with: No such"),
        (&["bench", KWS, "--compare", "Cargo.toml"], 1, "Cargo.toml: not a report of `tractlet bench --json`"),
        (&["footprint", KWS, "--budget", "1MiB"], 1, "over budget: the peak of"),
        (&["footprint", KWS, "--budget", "lots"], 2, "expected a whole number of bytes"),
        (&["inspect"], 2, "<MODEL>"),
        (
            &["eval", "no.onnx", "--inputs", "x", "--labels", "y", "--group", "2"],
            2,
            "--group is for --metric auc, not top1",
        ),
        (&["run", "no.onnx", "--input", "x", "--sandbox", "--threads", "2"], 2, "leave --threads at 1"),
    ];
    for (args, code, part) in cases.iter().filter(|(args, ..)| cfg!(feature = "tract") || !args.contains(&"tract")) {
        let output = tractlet(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[cfg(not(feature = "tract"))]
#[test]
fn a_build_without_tract_says_so() {
    let output = tractlet(&["run", KWS, "--input", SAMPLES, "--engine", "tract"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("this build has no tract engine: built without the feature `tract`"), "{stderr}");
    assert_eq!(json(&["run", KWS, "--input", SAMPLES])["engine"], "plan");
}

#[test]
fn bench_and_footprint_draw_what_they_measured() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("out.svg");
    let path = target.to_str().unwrap();
    let report = json(&["bench", KWS, "--runs", "50", "--svg", path]);
    let svg = fs::read_to_string(&target).unwrap();
    assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n") && svg.contains("50 runs on one thread"));
    let max = format!("max {:.1} us", report["max_us"].as_f64().unwrap());
    assert!(svg.contains(&max) && svg.contains(">median "), "{max}: {svg}");

    let report = json(&["footprint", KWS, "--engine", "plan", "--svg", path, "--budget", "1GiB"]);
    let svg = fs::read_to_string(&target).unwrap();
    let stated = report["predicted"]["total_bytes"].as_f64().unwrap() / 1024.0;
    for part in [&format!("the plan states {stated:.1} KiB"), ">budget 1024.00 MiB<", ">first run<", "<polygon"] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    // Nothing is left over, and nothing is written over what is no file.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for command in ["bench", "footprint"] {
        let output = tractlet(&[command, KWS, "--svg", "/dev/null"]);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && why.contains("/dev/null: cannot write it"), "{command}: {why}");
    }
}

#[test]
fn nothing_is_written_over_what_is_read() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (model, samples, labels, report, budget) = (at("m.onnx"), at("x.npy"), at("l.txt"), at("r.json"), at("b.toml"));
    for (from, to) in [(KWS, &model), (SAMPLES, &samples), (LABELS, &labels)] {
        fs::copy(repository().join(from), to).unwrap();
    }
    fs::write(&report, r#"{"engine": "plan", "median_us": 5.0}"#).unwrap();
    fs::write(&budget, "peak_bytes = 1000000000\n").unwrap();
    let before: Vec<_> = [&model, &samples, &labels, &report, &budget].map(|path| fs::read(path).unwrap()).into();
    for arguments in [
        &["bench", &model, "--svg", &model, "--runs", "1"][..],
        &["bench", &model, "--svg", &report, "--compare", &report, "--runs", "1"],
        &["footprint", &model, "--svg", &model],
        &["footprint", &model, "--svg", &budget, "--budget", &budget],
        &["inspect", &model, "--svg", &model],
        &["run", &model, "--input", &samples, "--output", &model],
        &["run", &model, "--input", &samples, "--output", &samples],
        &["run", &model, "--input", &samples, "--labels", &labels, "--output", &labels],
    ] {
        let output = tractlet(arguments);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {why}");
        assert!(why.contains("would overwrite what is read; give it another name"), "{arguments:?}: {why}");
    }
    let after: Vec<_> = [&model, &samples, &labels, &report, &budget].map(|path| fs::read(path).unwrap()).into();
    assert_eq!(before, after);
}

#[test]
fn inspect_draws_the_arena() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("arena.svg");
    let arguments = ["inspect", KWS, "--svg", target.to_str().unwrap()];
    let report = json(&arguments);
    let svg = fs::read_to_string(&target).unwrap();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
    // Every block of the arena is drawn under its names.
    let blocks = report["arena"].as_array().unwrap();
    assert!(blocks.len() > 10);
    for block in blocks {
        let name = block["names"][0].as_str().unwrap();
        let place = format!("{} bytes at {}, steps", block["bytes"], block["offset"]);
        assert!(svg.contains(name) && svg.contains(&place), "{block}");
    }
    if EngineChoice::Tract.is_built() {
        // Without a plan there is nothing to draw, and what stood there stays.
        let output = tractlet(&[&arguments[..], &["--engine", "tract"]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("no arena that could be drawn"));
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), svg);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let output = tractlet(&["inspect", KWS, "--svg", "/dev/null"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not a regular file"));
}

#[test]
fn a_failed_run_leaves_nothing_behind_and_nothing_changed() {
    let (inputs, outputs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let nan =
        save(&inputs, "nan.npy", DType::F32, &[2, 1, 49, 10], &[floats(490, 0.0), floats(490, f32::NAN)].concat());
    let target = outputs.path().join("y.npy");
    let args = ["run", KWS, "--input", &nan, "--output", target.to_str().unwrap()];
    assert_eq!(tractlet(&args).status.code(), Some(1));
    assert!(is_empty(outputs.path()));
    fs::write(&target, "kept").unwrap();
    assert_eq!(tractlet(&args).status.code(), Some(1));
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    assert_eq!(fs::read_dir(&outputs).unwrap().count(), 1);
}

#[test]
fn a_closed_stdout_is_no_error_and_costs_no_file() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("y.npy");
    let with_file = ["run", KWS, "--input", SAMPLES, "--top", "1", "--output", target.to_str().unwrap()];
    for args in [&["inspect", KWS][..], &["run", KWS, "--input", SAMPLES], &with_file] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
    assert_eq!(Array::read(&target).shape, [12, 12]);
    let full = fs::File::create("/dev/full").unwrap();
    let output = command(&["inspect", KWS]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output"));
}
