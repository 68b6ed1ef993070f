//! TorchScript files, on a build with the feature `torch`: `make test-torch`. What is in `tests/golden/torch/` is
//! said there.

mod common;

use std::fs;

use common::{Array, json as json_of, repository, skipped, tractlet};
use serde_json::{Value, json};
use tempfile::TempDir;
use tractlet::{
    DType, EngineChoice, EngineName, Model, ModelErrorKind, ModelFile, OpenError, OpenOptions, RunError, Session,
    SessionOptions, TorchDevice, TorchErrorKind, TorchFile, TorchOptions, npy,
};

const KWS: &str = "tests/golden/torch/kws_dscnn.pt";
const KWS_ONNX: &str = "models/kws_dscnn/f32.onnx";
const SAMPLES: &str = "models/kws_dscnn/samples.npy";
const SHAPE: &str = "1x1x49x10";

/// What a command says that fails, on one line.
fn refusal(args: &[&str]) -> String {
    let output = tractlet(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{args:?}: {stderr}");
    stderr
}

fn save(folder: &TempDir, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    let mut writer = npy::Writer::create(&path, dtype, shape).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap().publish().unwrap();
    path.to_str().unwrap().to_owned()
}

fn golden(name: &str) -> TorchFile {
    TorchFile::open(repository().join("tests/golden/torch").join(name)).unwrap()
}

/// A session whose one input is a row of this many floats.
fn row(name: &str, length: usize) -> Session {
    golden(name).session(&TorchOptions::default().input(DType::F32, &[1, length])).unwrap()
}

#[test]
fn run_answers_as_pytorch_does() {
    let folder = TempDir::new().unwrap();
    let written = folder.path().join("y.npy");
    let report = json_of(&["run", KWS, "--input", SAMPLES, "--output", written.to_str().unwrap(), "--top", "1"]);
    assert_eq!((&report["engine"], &report["samples"]), (&json!("torch"), &json!(12)));
    let (got, wanted) = (Array::read(&written), Array::read(repository().join("tests/golden/torch/kws_dscnn_out.npy")));
    assert_eq!(got.shape, wanted.shape);
    assert!(got.floats().iter().zip(wanted.floats()).all(|(a, b)| (a - b).abs() <= 1e-6));
    let words: Vec<&Value> = report["top"].as_array().unwrap().iter().map(|top| &top[0]["index"]).collect();
    assert_eq!(words, (0..12).map(|class| json!(class)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn eval_counts_on_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    // The twelve samples are one of each class in their order; of these labels the last is wrong.
    let labels: Vec<u8> = (0..12).map(|class| if class == 11 { 0 } else { class }).collect();
    let labels = save(&folder, "labels.npy", DType::U8, &[12], &labels);
    for threads in ["1", "3"] {
        let report = json_of(&["eval", KWS, "--inputs", SAMPLES, "--labels", &labels, "--threads", threads]);
        assert_eq!((&report["engine"], &report["samples"]), (&json!("torch"), &json!(12)));
        assert!((report["value"].as_f64().unwrap() - 11.0 / 12.0).abs() < 1e-9);
    }
}

#[test]
fn compare_holds_it_against_the_onnx_model() {
    for (reference, model) in [(KWS, KWS_ONNX), (KWS_ONNX, KWS), (KWS, KWS)] {
        let report = json_of(&["compare", reference, model, "--inputs", SAMPLES]);
        assert_eq!((&report["layers"], &report["samples"]), (&json!([]), &json!(12)));
        let output = &report["output"];
        assert_eq!(output["top1_agreement"], 1.0, "{reference} {model}");
        assert!(output["sqnr_db"].as_f64().unwrap() > 100.0, "{reference} {model}: {output}");
        assert!(output["max_abs"].as_f64().unwrap() < 1e-5, "{reference} {model}: {output}");
    }
    let int8 = json_of(&["compare", KWS, "models/kws_dscnn/int8.onnx", "--inputs", SAMPLES]);
    let sqnr_db = int8["output"]["sqnr_db"].as_f64().unwrap();
    assert!((10.0..60.0).contains(&sqnr_db), "quantization is seen: {sqnr_db}");
    let text = tractlet(&["compare", KWS, KWS_ONNX, "--inputs", SAMPLES]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("the models have no tensor in common but their outputs\n"), "{text}");
}

#[test]
fn compare_takes_a_plan_beside_it() {
    let folder = TempDir::new().unwrap();
    let plan = folder.path().join("kws.plan");
    let plan = plan.to_str().unwrap();
    assert!(tractlet(&["compile", KWS_ONNX, "-o", plan]).status.success());
    assert_eq!(json_of(&["compare", KWS, plan, "--inputs", SAMPLES])["output"]["top1_agreement"], 1.0);
    let told = refusal(&["compare", KWS_ONNX, plan, "--inputs", SAMPLES]);
    assert!(told.contains("name the model, f32.onnx"), "{told}");
}

#[test]
fn bench_counts_no_allocations_that_it_cannot_see() {
    let bench = ["bench", KWS, "--shape", SHAPE, "--runs", "3", "--warmup", "1"];
    let report = json_of(&[&bench[..], &["--threads", "2"]].concat());
    assert_eq!((&report["engine"], &report["threads"], &report["runs"]), (&json!("torch"), &json!(2), &json!(3)));
    assert!(report["allocations_per_run"].is_null() && report["bytes_allocated_per_run"].is_null());
    let text = String::from_utf8(tractlet(&bench).stdout).unwrap();
    assert!(text.contains("heap   not counted: the torch engine allocates by itself"), "{text}");
    assert!(refusal(&[&bench[..], &["--profile"]].concat()).contains("has no profile"));
}

#[test]
fn inspect_shows_what_there_is_to_see() {
    let report = json_of(&["inspect", KWS, "--shape", SHAPE]);
    assert_eq!(report["engine"], "torch");
    assert_eq!(report["inputs"], json!([{"name": "input_0", "dtype": "float32", "shape": [1, 1, 49, 10]}]));
    assert_eq!(report["outputs"], json!([{"name": "output_0", "dtype": "float32", "shape": [1, 12]}]));
    // 10 x 4, then four times 3 x 3 a channel and 1 x 1, then 12 classes; a bias each.
    let parameters = 64 * 40 + 64 + 4 * (64 * 9 + 64 + 64 * 64 + 64) + 12 * 64 + 12;
    assert_eq!(report["torch"]["parameters"], parameters);
    assert_eq!(report["nodes"], json!([]));
    let frozen = json_of(&["inspect", "tests/golden/torch/frozen.pt", "--shape", "1x2"]);
    assert_eq!(frozen["torch"]["parameters"], 0, "a frozen module has constants");
    assert!(tractlet(&["inspect", KWS, "--shape", SHAPE]).status.success());
}

#[test]
fn inputs_go_by_position_and_outputs_of_a_dict_by_name() {
    let folder = TempDir::new().unwrap();
    let x: Vec<u8> = [1f32, 5.0, 2.0, -1.0, -2.0, -3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = save(&folder, "x.npy", DType::F32, &[2, 3], &x);
    let index = save(&folder, "index.npy", DType::I64, &[2], &[1i64, 0].map(i64::to_le_bytes).concat());
    let (x, index) = (format!("input_0={x}"), format!("input_1={index}"));
    // In whatever order they are given.
    for inputs in [[&x, &index], [&index, &x]] {
        let report = json_of(&["run", "tests/golden/torch/named.pt", "--input", inputs[0], "--input", inputs[1]]);
        let outputs = report["outputs"].as_array().unwrap();
        let of = |name: &str| outputs.iter().find(|output| output["name"] == name).unwrap();
        assert_eq!(of("picked")["values"], json!([5.0, -1.0]));
        assert_eq!(of("sum")["values"], json!([8.0, -6.0]));
        assert_eq!((&of("largest")["values"], &of("largest")["dtype"]), (&json!([1, 0]), &json!("int64")));
    }
}

#[test]
fn a_tuple_is_as_many_outputs() {
    let mut session = row("pair.pt", 2);
    let outputs: Vec<_> = session.outputs().iter().map(|spec| (spec.name.as_str(), spec.dtype)).collect();
    assert_eq!(outputs, [("output_0", DType::F32), ("output_1", DType::Bool)]);
    let (mut sum, mut positive) = ([0f32; 2], [9u8; 2]);
    let positive_out = tractlet::TensorMut::from_bytes(DType::Bool, &mut positive);
    session.run(&[[-1f32, 2.0].as_slice().into()], &mut [sum.as_mut_slice().into(), positive_out]).unwrap();
    assert_eq!((sum, positive), ([0.0, 3.0], [0, 1]));
}

#[test]
fn sessions_share_no_state() {
    let file = golden("counter.pt");
    let options = TorchOptions::default().input(DType::F32, &[1, 1]);
    let (mut one, mut other) = (file.session(&options).unwrap(), file.session(&options).unwrap());
    let count = |session: &mut Session| {
        let mut runs = [0f32];
        session.run(&[[0f32].as_slice().into()], &mut [runs.as_mut_slice().into()]).unwrap();
        runs[0]
    };
    // The run on zeros was the first.
    assert_eq!([count(&mut one), count(&mut one), count(&mut other)], [2.0, 3.0, 2.0]);
}

#[test]
fn a_run_that_fails_is_an_error_and_the_session_goes_on() {
    let mut session = row("moody.pt", 4);
    let mut run = |input: [f32; 4]| {
        let mut output = [9f32; 4];
        session.run(&[input.as_slice().into()], &mut [output.as_mut_slice().into()]).map(|()| output)
    };
    for _ in 0..3 {
        let raised = run([0.0, -1.0, 0.0, 0.0]).unwrap_err();
        assert!(
            matches!(&raised, RunError::Engine { engine: EngineName::Torch, node, what }
            if node == "forward" && what == "a negative value"),
            "{raised}"
        );
        let grown = run([1.0, 1.0, 0.0, 0.0]).unwrap_err().to_string();
        assert!(grown.contains("gave `output_0` float32 [2], and `output_0` float32 [1, 4] when"), "{grown}");
        assert_eq!(run([0.0; 4]).unwrap(), [0.0; 4]);
    }
}

#[test]
fn what_no_session_can_have_is_refused_when_it_is_made() {
    let one = TorchOptions::default().input(DType::F32, &[1, 4]);
    let two = one.clone().input(DType::F32, &[1, 4]);
    let wrong = TorchOptions::default().input(DType::F32, &[1, 1, 49]);
    let huge = TorchOptions::default().input(DType::F32, &[usize::MAX, 2]);
    let unsigned = TorchOptions::default().input(DType::U32, &[1, 4]);
    for (name, options, kind, told) in [
        ("half.pt", &one, TorchErrorKind::Forward, "elements of type Half"),
        ("number.pt", &one, TorchErrorKind::Forward, "forward returns no tensor"),
        ("named.pt", &one, TorchErrorKind::Forward, "missing value for argument 'index'"),
        ("pair.pt", &two, TorchErrorKind::Forward, "Declaration: forward("),
        ("kws_dscnn.pt", &wrong, TorchErrorKind::Forward, "of `input_0` float32 [1, 1, 49]: "),
        ("pair.pt", &huge, TorchErrorKind::Limit, "input `input_0`, in bytes"),
        ("pair.pt", &unsigned, TorchErrorKind::Options, "takes no uint32"),
        ("pair.pt", &one.clone().threads(1 << 20), TorchErrorKind::Options, "expected at most 1024"),
        ("pair.pt", &TorchOptions::default(), TorchErrorKind::Options, "--shape 1x3x32x32"),
    ] {
        let error = golden(name).session(options).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(name) && text.contains(told) && !text.contains('\n'), "{text}");
        assert!(!text.contains("Exception raised from"), "{text}");
    }
}

#[test]
fn files_that_are_no_torchscript_are_refused() {
    let folder = TempDir::new().unwrap();
    let open = |path: &std::path::Path| TorchFile::open(path).unwrap_err();
    for name in ["checkpoint.pt", "exported.pt2"] {
        let error = open(&repository().join("tests/golden/torch").join(name));
        assert_eq!(error.kind(), TorchErrorKind::Malformed, "{error}");
    }
    assert_eq!(open(&repository().join(KWS_ONNX)).kind(), TorchErrorKind::Malformed);
    assert_eq!(open(&folder.path().join("nothing.pt")).kind(), TorchErrorKind::Io);
    // Recognised, and then not what libtorch can read.
    let mut damaged = fs::read(repository().join("tests/golden/torch/pair.pt")).unwrap();
    let at = damaged.windows(8).position(|eight| eight == b"data.pkl").unwrap() + 64;
    damaged[at..at + 16].fill(0xFF);
    let path = folder.path().join("damaged.pt");
    fs::write(&path, damaged).unwrap();
    let error =
        TorchFile::open(&path).unwrap().session(&TorchOptions::default().input(DType::F32, &[1])).err().unwrap();
    assert_eq!(error.kind(), TorchErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("libtorch cannot load it: "), "{error}");
}

#[test]
fn content_tells_what_a_file_is_and_not_its_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    fs::copy(repository().join(KWS), &path).unwrap();
    assert!(matches!(ModelFile::open(&path, &OpenOptions::default()).unwrap(), ModelFile::Torch(_)));
    assert_eq!(Model::open(&path).unwrap_err().kind(), ModelErrorKind::Malformed);
    // Nor does a cache for plans keep it from being one.
    let kept = folder.path().join("plans");
    let report = json_of(&["run", path.to_str().unwrap(), "--input", SAMPLES, "--plan-cache", kept.to_str().unwrap()]);
    assert_eq!(report["engine"], "torch");
    assert!(!kept.exists());
}

#[test]
fn engines_take_their_own_files() {
    let file = ModelFile::open(repository().join(KWS), &OpenOptions::default()).unwrap();
    let torch = TorchOptions::default().input(DType::F32, &[1, 1, 49, 10]);
    for engine in [EngineChoice::Auto, EngineChoice::Torch] {
        let session = file.session(SessionOptions::default().engine(engine).torch(torch.clone())).unwrap();
        assert_eq!(session.engine(), EngineName::Torch);
    }
    for engine in [EngineChoice::Plan, EngineChoice::Tract] {
        let error = file.session(SessionOptions::default().engine(engine).torch(torch.clone())).err().unwrap();
        assert!(matches!(&error, OpenError::Torch(e) if e.kind() == TorchErrorKind::Options), "{error}");
    }
    let bound = file.session(SessionOptions::default().torch(torch.clone()).bind("batch", 1)).err().unwrap();
    assert!(bound.to_string().contains("no open dimension `batch`"), "{bound}");
    let onnx = Model::open(repository().join(KWS_ONNX)).unwrap();
    let error = Session::new(&onnx, SessionOptions::default().engine(EngineChoice::Torch)).err().unwrap();
    assert!(error.to_string().contains("the engine torch runs TorchScript files"), "{error}");
}

#[test]
fn commands_that_have_no_use_for_it_say_so() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for args in [
        &["compile", KWS, "-o", out][..],
        &["footprint", KWS],
        &["footprint", KWS, "--budget", "8MiB"],
        &["quantize", KWS, "--calibration", SAMPLES, "-o", out],
        &["prune", KWS, "--calibration", SAMPLES, "--ratio", "0.3", "-o", out],
    ] {
        let told = refusal(args);
        assert!(told.contains("this is a TorchScript file") && told.contains("torch.onnx.export"), "{told}");
    }
    assert!(!fs::exists(out).unwrap());
}

#[test]
fn options_of_torchscript_files_are_not_passed_over() {
    for flag in [["--shape", SHAPE], ["--device", "cpu"]] {
        for args in [&["bench", KWS_ONNX][..], &["run", KWS_ONNX, "--input", SAMPLES], &["inspect", KWS_ONNX]] {
            let told = refusal(&[args, &flag].concat());
            assert!(told.contains(&format!("{} is for a TorchScript file", flag[0])), "{told}");
        }
    }
    let told = refusal(&["compare", KWS, KWS_ONNX, "--inputs", SAMPLES, "--shape", "2x1x49x10"]);
    assert!(told.contains("[2, 1, 49, 10]"), "{told}");
    assert!(refusal(&["bench", KWS]).contains("give each one's shape"));
    assert!(refusal(&["compare", KWS, KWS_ONNX, "--inputs", SAMPLES, "--svg", "x.svg"]).contains("--svg"));
    let wrong = tractlet(&["bench", KWS, "--shape", SHAPE, "--device", "gpu"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// On a machine without CUDA it is refused; on one with it, `scripts/torch_cuda.sh` holds it to more.
#[test]
fn cuda_answers_or_is_refused_and_never_falls_back() {
    let options = TorchOptions::default().input(DType::F32, &[1, 1, 49, 10]);
    let file = golden("kws_dscnn.pt");
    let session = |device| file.session(&options.clone().device(TorchDevice::Cuda(device)));
    let absent = session(255).err().unwrap();
    assert_eq!(absent.kind(), TorchErrorKind::Device, "{absent}");
    match session(0) {
        Ok(session) => assert_eq!(session.outputs()[0].shape, [1, 12]),
        Err(error) => {
            assert_eq!(error.kind(), TorchErrorKind::Device, "{error}");
            skipped(&error.to_string());
        }
    }
}
