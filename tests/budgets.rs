//! `tractlet footprint`: what it measures, and the budgets that it holds, those of the shipped models among them.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::onnx::{Attribute, Graph, Tensor};
use serde_json::Value;
use tempfile::TempDir;
use tractlet::{DType, npy};
use tractlet_core::isa::Isa;

const KWS: &str = "models/kws_dscnn/int8.onnx";

/// With the same plan on every machine.
fn footprint(arguments: &[&str]) -> Output {
    footprint_on(Isa::Generic, arguments)
}

fn footprint_on(isa: Isa, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG").env("TRACTLET_ISA", isa.name());
    command.arg("footprint").args(arguments).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn bytes(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number of bytes"))
}

/// A budget.toml in a folder of the test.
fn budget(folder: &TempDir, text: &str) -> String {
    let path = folder.path().join("budget.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A plan that grows past its budget has to be looked at, and one that shrinks gets a smaller budget.
#[test]
fn the_plans_of_the_shipped_models_are_near_their_budgets() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut seen = 0;
    for folder in fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let (model, file) = (folder.join("int8.onnx"), folder.join("budget.toml"));
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; make budgets", file.display()));
        let limits: toml::Table = text.parse().unwrap();
        let output = footprint(&[model.to_str().unwrap(), "--engine", "plan", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report = report(&output);
        for part in ["total_bytes", "weights_bytes", "arena_bytes", "scratch_bytes"] {
            let limit = limits.get(part).and_then(toml::Value::as_integer);
            let limit = u64::try_from(limit.unwrap_or_else(|| panic!("{}: no {part}", file.display()))).unwrap();
            let planned = bytes(&report["predicted"][part]);
            let what = format!("{}: {part} is {limit}, and the plan has {planned}", file.display());
            assert!(planned * 100 <= limit * 103, "{what}: more than 3 % over; if that has to be: make budgets");
            assert!(planned * 100 >= limit * 80, "{what}: more than 20 % under; well done: make budgets");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} models");
}

/// Whatever weights become, and that is up to four times as large.
#[test]
fn a_large_model_takes_at_most_three_times_its_file_to_load() {
    let folder = TempDir::new().unwrap();
    let convolutions = folder.path().join("convolutions.onnx");
    fs::write(&convolutions, convolutions_of_3x3(8, 128)).unwrap();
    for (model, isas) in
        [(convolutions.to_str().unwrap(), Isa::ALL.as_slice()), ("models/ad_autoencoder/f32.onnx", &[Isa::Generic])]
    {
        for isa in isas.iter().filter(|isa| isa.is_available()) {
            let output = footprint_on(*isa, &[model, "--engine", "plan", "--json"]);
            assert!(output.status.success(), "{}", stderr(&output));
            let peak = bytes(&report(&output)["measured"]["load_heap_peak_bytes"]);
            let file = fs::metadata(Path::new(env!("CARGO_MANIFEST_DIR")).join(model)).unwrap().len();
            assert!(file > 1_000_000 && peak <= 3 * file, "{model} on {isa}: {peak} bytes of heap for {file}");
        }
    }
}

#[test]
fn what_a_model_stores_and_does_not_read_is_not_held() {
    let mut g = Graph::new(1, 13);
    let x = g.input(&[1, 512]);
    let [weights, unread] = [1.0, 2.0].map(|value| vec![value; 512 * 512]);
    let weights = g.floats(&[512, 512], &weights);
    g.floats(&[512, 512], &unread);
    let y = g.op("MatMul", &[&x.name, &weights], &[], x.clone());
    g.show(&y);
    g.output();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("product.onnx");
    fs::write(&path, g.model(false)).unwrap();
    let output = footprint(&[path.to_str().unwrap(), "--engine", "plan", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (report, plan) = (report(&output), 512 * 512 * 4);
    let [live, peak] = ["heap_live_bytes", "load_heap_peak_bytes"].map(|key| bytes(&report["measured"][key]));
    // The weights once, and what is small; while it loads they may be there once more.
    assert!((plan..plan * 11 / 10).contains(&live) && peak < plan * 23 / 10, "{live} {peak}");
}

#[test]
fn a_layer_beyond_what_kernels_count_to_is_refused_by_name() {
    let mut g = Graph::new(1, 13);
    let x = g.input(&[1, 1, 1, (1 << 20) + 1]);
    let (scale, zero) = (g.floats(&[], &[0.1]), g.constant(DType::I8, &[], &[0]));
    let integers = g.op("QuantizeLinear", &[&x.name, &scale, &zero], &[], Tensor { dtype: DType::I8, ..x.clone() });
    let real = g.op("DequantizeLinear", &[&integers.name, &scale, &zero], &[], x.clone());
    let stored = g.constant(DType::I8, &[1, 1, 1, 1], &[7]);
    let weights = g.op("DequantizeLinear", &[&stored, &scale, &zero], &[], x.clone());
    let y = g.op("Conv", &[&real.name, &weights.name], &[], x.clone());
    let last = g.op("QuantizeLinear", &[&y.name, &scale, &zero], &[], Tensor { dtype: DType::I8, ..x.clone() });
    g.show(&last);
    g.output();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("line.onnx");
    fs::write(&path, g.model(false)).unwrap();
    let output = footprint(&[path.to_str().unwrap(), "--engine", "plan"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("beyond what kernels count to"), "{}", stderr(&output));
}

/// Quantized layers on small images, whose weights are most of the file.
fn convolutions_of_3x3(layers: usize, channels: usize) -> Vec<u8> {
    let mut g = Graph::new(1, 13);
    let mut x = g.input(&[1, channels, 4, 4]);
    for layer in 0..=layers {
        let (scale, zero) = (g.floats(&[], &[0.1]), g.constant(DType::I8, &[], &[0]));
        let integers = g.op("QuantizeLinear", &[&x.name, &scale, &zero], &[], Tensor { dtype: DType::I8, ..x.clone() });
        let real = g.op("DequantizeLinear", &[&integers.name, &scale, &zero], &[], x.clone());
        if layer == layers {
            g.show(&integers);
            g.output();
            break;
        }
        let dims = [channels, channels, 3, 3];
        let values: Vec<u8> = (0..dims.iter().product()).map(|_| g.random.below(256) as u8).collect();
        let stored = g.constant(DType::I8, &dims, &values);
        let weights = g.op("DequantizeLinear", &[&stored, &scale, &zero], &[], x.clone());
        let pads = [("pads", Attribute::Ints(vec![1; 4]))];
        x = g.op("Conv", &[&real.name, &weights.name], &pads, x.clone());
    }
    g.model(false)
}

#[test]
fn loading_and_running_are_measured_apart() {
    let output = footprint(&[KWS, "--engine", "plan", "--json"]);
    assert_eq!(stderr(&output), "");
    let report = report(&output);
    let measured = &report["measured"];
    // Loading touches fresh pages; and what is loaded is still held while it runs.
    for key in ["load_heap_peak_bytes", "run_heap_peak_bytes", "load_minor_faults", "load_allocations", "stack_bytes"] {
        assert!(bytes(&measured[key]) > 0, "{key}: {measured}");
    }
    for key in ["load_major_faults", "run_minor_faults", "run_major_faults"] {
        assert!(measured[key].is_u64(), "{key}: {measured}");
    }
    let peaks = ["load_heap_peak_bytes", "run_heap_peak_bytes"].map(|key| bytes(&measured[key]));
    assert_eq!(bytes(&measured["heap_peak_bytes"]), peaks[0].max(peaks[1]));
    assert!(bytes(&measured["stack_touched_bytes"]) <= bytes(&measured["stack_bytes"]), "{measured}");
    let on_disk = |path: &str| fs::metadata(path).unwrap().len();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(KWS);
    assert_eq!(bytes(&report["binary_bytes"]), on_disk(env!("CARGO_BIN_EXE_tractlet")));
    assert_eq!(bytes(&report["model_bytes"]), on_disk(model.to_str().unwrap()));
    let text = String::from_utf8(footprint(&[KWS]).stdout).unwrap();
    for part in ["\npredicted\n", "loading\n", "\nrunning, 5 times\n", "page faults", "stack, main thread", "program  "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_plan_over_budget_is_not_run() {
    let folder = TempDir::new().unwrap();
    let limits = budget(&folder, "arena_bytes = 1000\nweights_bytes = 1000000000\npeak_bytes = 1\n");
    let output = footprint(&[KWS, "--engine", "plan", "--budget", &limits, "--json"]);
    let (why, report) = (stderr(&output), report(&output));
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(report["measured"].is_null() && report["budget"]["peak_bytes"].is_null(), "{report}");
    assert_eq!(report["budget"]["fits"], false);
    // Those on the plan alone: nothing was measured.
    let held: Vec<_> = report["budget"]["limits"].as_array().unwrap().iter().map(|held| &held["fits"]).collect();
    assert_eq!(held, [true, false]);
    let arena = bytes(&report["predicted"]["arena_bytes"]);
    assert!(why.contains(&format!("({arena} B) is above 1000 B (largest parts: output of `")), "{why}");
    assert!(why.ends_with("it was not run\n"), "{why}");
    let total = stderr(&footprint(&[KWS, "--engine", "plan", "--budget", "4KiB"]));
    assert!(total.contains("the plan's total of") && total.contains("largest parts: weights and ops"), "{total}");
}

#[test]
fn what_was_measured_is_held_against_a_file_and_a_board() {
    let folder = TempDir::new().unwrap();
    let limits = budget(&folder, "total_bytes = 1000000000\nheap_peak_bytes = 2000\n");
    let output = footprint(&[KWS, "--budget", &limits]);
    let why = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("the heap's peak of") && why.contains("is above 2.0 KiB (2000 B) (largest parts: "), "{why}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("heap_peak_bytes  over") && text.contains("total_bytes      fits"), "{text}");
    let report = report(&footprint(&[KWS, "--budget", "pi4", "--json"]));
    assert_eq!((&report["budget"]["source"], &report["budget"]["bytes"]), (&"pi4".into(), &(64u64 << 20).into()));
    assert_eq!(report["budget"]["limits"][1]["part"], "peak_bytes");
    assert_eq!(report["budget"]["limits"][1]["bytes"], report["budget"]["peak_bytes"]);
}

#[test]
fn a_budget_that_is_none_is_refused() {
    let folder = TempDir::new().unwrap();
    let odd = budget(&folder, "arena_byts = 5\n");
    for (argument, code, part) in [
        (odd.as_str(), 1, "budget.toml: not a budget: "),
        ("none.toml", 1, "none.toml: cannot read the budget: No such file"),
        ("pi44", 2, "or a board: pi-zero-2w"),
        ("8mib", 2, "expected a whole number of bytes"),
    ] {
        let output = footprint(&[KWS, "--budget", argument]);
        assert_eq!(output.status.code(), Some(code), "{argument}");
        assert!(stderr(&output).contains(part) && output.stdout.is_empty(), "{}", stderr(&output));
    }
    if cfg!(feature = "tract") {
        let output = footprint(&[KWS, "--engine", "tract", "--budget", &budget(&folder, "arena_bytes = 5\n")]);
        assert!(stderr(&output).contains("`arena_bytes` limits what a plan states, and the tract engine states"));
    }
}

/// Exit code, message and JSON of a command under a cap.
fn capped(args: &[&str], cap: u64) -> (Option<i32>, String, Value) {
    let cap = cap.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tractlet"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .args(["--max-rss", &cap, "--json"])
        .output()
        .unwrap();
    (output.status.code(), stderr(&output), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// From the program alone to more than is needed: each cap is held, or the command says why not, and what was refused
/// is named. No signal ends it.
fn ladder(args: &[&str]) -> Vec<String> {
    let (_, _, report) = capped(args, 1 << 40);
    let peak = bytes(&report["measured"]["run_peak_bytes"]).max(bytes(&report["measured"]["load_peak_bytes"]));
    let heap = bytes(&report["measured"]["heap_peak_bytes"]);
    // Of an unoptimised program some megabytes come into memory between one look at what is resident and the next.
    let (lowest, highest) = (peak.saturating_sub(3 * heap + (8 << 20)), peak + (2 << 20));
    let (caps, mut refused) = ((lowest..=highest).step_by(256 << 10), vec![]);
    for cap in caps.clone() {
        let (code, why, report) = capped(args, cap);
        match code {
            Some(0) => {
                let peaks = ["run_peak_bytes", "load_peak_bytes"].map(|key| bytes(&report["measured"][key]));
                assert!(peaks.iter().all(|peak| *peak <= cap), "{cap}: {peaks:?}");
            }
            Some(1) => {
                assert!(why.contains("--max-rss") || why.contains("and the cap of"), "{cap}: {why}");
                assert!(why.starts_with("error: ") && why.lines().count() == 1, "{cap}: {why}");
                refused.push(why);
            }
            other => panic!("{cap}: {other:?}: {why}"),
        }
    }
    assert!(!refused.is_empty() && refused.len() < caps.count(), "{refused:?}");
    refused
}

#[test]
fn a_cap_is_held_or_what_passes_it_is_named() {
    let refused = ladder(&["footprint", "models/ad_autoencoder/f32.onnx", "--engine", "plan"]).join("");
    assert!(refused.contains("a copy of the file: 1066") && refused.contains("of heap: heap and copies"), "{refused}");
    if cfg!(feature = "tract") {
        ladder(&["footprint", "models/ad_autoencoder/f32.onnx", "--engine", "tract"]);
    }
}

#[test]
fn a_run_beneath_its_cap_answers_as_without_and_above_it_not_at_all() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("y.npy");
    let run = ["run", KWS, "--input", "models/kws_dscnn/samples.npy", "--output", target.to_str().unwrap()];
    let (code, why, answers) = capped(&run, 1 << 30);
    assert_eq!((code, why.as_str()), (Some(0), ""));
    assert_eq!(answers, capped(&run, 1 << 40).2);
    fs::remove_file(&target).unwrap();
    let (code, why, _) = capped(&run, 64 << 10);
    assert_eq!(code, Some(1));
    assert!(why.contains("before anything was loaded: ") && why.contains("above --max-rss 64.0 KiB"), "{why}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_its_cap_ends_leaves_no_file_behind() {
    let (folder, inputs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (target, input) = (folder.path().join("y.npy"), inputs.path().join("x.npy"));
    let samples = 2000;
    let mut writer = npy::Writer::create(&input, DType::F32, &[samples, 640]).unwrap();
    (0..samples).for_each(|_| writer.write(&[0; 640 * 4]).unwrap());
    writer.finish().unwrap().publish().unwrap();
    let [target, input] = [&target, &input].map(|path| path.to_str().unwrap());
    // With --json all that was answered is kept until the end: that passes a cap while the file is being written.
    let args = ["run", "models/ad_autoencoder/f32.onnx", "--engine", "plan", "--input", input, "--output", target];
    // What was written whole before the cap was met may stay.
    let unfinished =
        || fs::read_dir(folder.path()).unwrap().filter(|file| file.as_ref().unwrap().file_name() != "y.npy").count();
    let mut ended = 0;
    for mib in (12..200).step_by(4) {
        let (code, why, _) = capped(&args, mib << 20);
        if code == Some(0) {
            break;
        }
        assert_eq!((code, unfinished()), (Some(1), 0), "{mib} MiB: {why}");
        ended += usize::from(why.contains("running ") && why.contains("of heap: heap and copies"));
    }
    assert!(ended > 0);
}
