//! Plans in files: what they answer, what they refuse, and that no damage gets past the door.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Array, json, repository, tractlet};
use tempfile::TempDir;
use tractlet::{
    CompileOptions, EngineChoice, Isa, Limits, Model, ModelFile, OpenOptions, PlanCache, PlanFile, PlanFileError,
    PlanFileErrorKind as Kind, Session, SessionOptions, compile,
};
use tractlet_core::plan::VERSION;

const SHIPPED: [&str; 5] = ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"];
const KWS: &str = "models/kws_dscnn/int8.onnx";
const SAMPLES: &str = "models/kws_dscnn/samples.npy";

fn model(path: &str) -> Model {
    Model::open(repository().join(path)).unwrap()
}

fn generic() -> CompileOptions {
    CompileOptions::default().isa(Isa::Generic)
}

/// The plan of a model in a folder of the test.
fn store(folder: &TempDir, path: &str, options: &CompileOptions) -> PathBuf {
    let target = folder.path().join("x.plan");
    compile(&model(path), options).unwrap().write(&target).unwrap();
    target
}

fn first_output(session: &mut Session, samples: &[f32]) -> Vec<u32> {
    let mut output = vec![0f32; session.outputs()[0].shape.iter().product()];
    session.run(&[samples.into()], &mut [output.as_mut_slice().into()]).unwrap();
    output.into_iter().map(f32::to_bits).collect()
}

fn refusal(result: Result<impl Sized, PlanFileError>) -> (Kind, String) {
    let Err(error) = result else { panic!("it was taken") };
    (error.kind(), error.to_string())
}

#[test]
fn a_stored_plan_is_the_model_in_every_respect() {
    for (name, file) in SHIPPED.into_iter().flat_map(|name| [(name, "int8.onnx"), (name, "f32.onnx")]) {
        let folder = TempDir::new().unwrap();
        let path = format!("models/{name}/{file}");
        let plan = PlanFile::open(store(&folder, &path, &CompileOptions::default())).unwrap();
        let mut stored = plan.session(SessionOptions::default()).unwrap();
        let mut direct = Session::new(&model(&path), SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
        assert_eq!((stored.inputs(), stored.outputs()), (direct.inputs(), direct.outputs()), "{path}");
        assert_eq!((stored.steps(), stored.arena()), (direct.steps(), direct.arena()), "{path}");
        let (here, there) = (stored.memory().unwrap(), direct.memory().unwrap());
        // The model's name is in the file alone.
        let names = here.weights_bytes - there.weights_bytes;
        assert!(names <= 64 && here.total_bytes - names == there.total_bytes, "{path}: {here:?} {there:?}");
        assert_eq!((here.arena_bytes, here.scratch_bytes), (there.arena_bytes, there.scratch_bytes), "{path}");
        assert_eq!(here.arena_lower_bound_bytes, there.arena_lower_bound_bytes, "{path}");
        assert_eq!(plan.memory(), here, "{path}");
        assert_eq!((plan.model_name(), plan.model_digest()), (file, model(&path).digest()));

        let samples = Array::read(repository().join(format!("models/{name}/samples.npy"))).floats();
        let elements: usize = stored.inputs()[0].shape.iter().product();
        for sample in samples.chunks(elements) {
            assert_eq!(first_output(&mut stored, sample), first_output(&mut direct, sample), "{path}");
        }
        let odd = vec![f32::NAN; elements];
        let run = |session: &mut Session| {
            let mut output = vec![0f32; session.outputs()[0].shape.iter().product()];
            session.run(&[odd.as_slice().into()], &mut [output.as_mut_slice().into()]).map_err(|e| e.to_string())
        };
        assert_eq!(run(&mut stored), run(&mut direct), "{path}");
    }
}

#[test]
fn every_damaged_byte_of_a_plan_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder, "tests/golden/ops/relu_alone/model.onnx", &generic());
    let pristine = fs::read(&path).unwrap();
    for at in 0..pristine.len() {
        for damage in [0x01, 0x80, 0xff] {
            let mut bytes = pristine.clone();
            bytes[at] ^= damage;
            fs::write(&path, &bytes).unwrap();
            let (kind, text) = refusal(PlanFile::open(&path));
            assert!(matches!(kind, Kind::Damaged | Kind::Version | Kind::Isa), "byte {at}: {kind:?} {text}");
            // What does not begin as a plan may be something else, which should not be written over.
            let what =
                if at < 8 { "make one: tractlet compile" } else { "make it anew: tractlet compile MODEL.onnx -o " };
            assert!(text.starts_with(path.to_str().unwrap()) && text.contains(what), "{text}");
        }
    }
    for len in (0..pristine.len()).step_by(7) {
        fs::write(&path, &pristine[..len]).unwrap();
        assert_eq!(refusal(PlanFile::open(&path)).0, Kind::Damaged, "{len} bytes");
    }
}

#[test]
fn a_file_that_is_rewritten_while_it_is_open_changes_no_answer() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder, KWS, &CompileOptions::default());
    let plan = PlanFile::open(&path).unwrap();
    let mut session = plan.session(SessionOptions::default()).unwrap();
    let samples = Array::read(repository().join(SAMPLES)).floats();
    let before = first_output(&mut session, &samples[..490]);
    fs::write(&path, vec![0x55; 100_000]).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(!plan.is_mapped_directly());
    assert_eq!(first_output(&mut session, &samples[..490]), before);
    assert_eq!(first_output(&mut plan.session(SessionOptions::default()).unwrap(), &samples[..490]), before);
}

#[test]
fn another_cpu_version_or_model_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let foreign = if cfg!(target_arch = "x86_64") { Isa::Neon } else { Isa::Avx2 };
    let path = store(&folder, KWS, &CompileOptions::default().isa(foreign));
    let plan = PlanFile::open(&path).unwrap();
    let (kind, text) = refusal(plan.session(SessionOptions::default()));
    assert_eq!(kind, Kind::Isa);
    assert!(text.contains(&format!("is for the instruction set {foreign}, this CPU has generic")), "{text}");
    // It may be a board's, and no advice writes another over it.
    let beside = "compile one for this CPU under another name: tractlet compile int8.onnx -o OTHER.plan";
    assert!(text.starts_with(&path.display().to_string()) && text.ends_with(beside), "{text}");
    assert_eq!(text.matches(path.to_str().unwrap()).count(), 1, "{text}");

    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    fs::write(&path, &bytes).unwrap();
    let (kind, text) = refusal(PlanFile::open(&path));
    assert_eq!(kind, Kind::Version);
    let versions = format!("plan version 3, this build runs version {VERSION}; make it anew");
    assert!(text.contains(&versions), "{text}");

    let plan = PlanFile::open(store(&folder, KWS, &generic())).unwrap();
    plan.expect_model(&model(KWS)).unwrap();
    let other = model("models/kws_dscnn/f32.onnx");
    let (kind, text) = refusal(plan.expect_model(&other));
    assert_eq!(kind, Kind::Stale);
    assert!(text.contains(&plan.model_digest()) && text.contains(&other.digest()), "{text}");

    let (kind, text) = refusal(plan.session(SessionOptions::default().bind("batch", 1)));
    assert!(kind == Kind::Options && text.contains("has no open dimension `batch`"), "{text}");
    if EngineChoice::Tract.is_built() {
        let (kind, text) = refusal(plan.session(SessionOptions::default().engine(EngineChoice::Tract)));
        assert!(kind == Kind::Options && text.contains("give tract the model: int8.onnx"), "{text}");
    }
}

#[test]
fn what_a_plan_asks_for_is_held_against_limits() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder, KWS, &generic());
    for (limits, part) in [
        (Limits { arena_bytes: 100, ..Limits::default() }, "the plan's arena, in bytes: "),
        (Limits { tensor_bytes: 100, ..Limits::default() }, "tensor `input`, in bytes: 1960 is above the limit of 100"),
        (Limits { items: 1, ..Limits::default() }, "the plan's inputs and outputs: 2 is above the limit of 1"),
        (Limits { file_bytes: 100, ..Limits::default() }, "size of the file, in bytes"),
    ] {
        let options = OpenOptions { limits, ..OpenOptions::default() };
        let (kind, text) = refusal(PlanFile::open_with(&path, &options));
        assert!(kind == Kind::Limit && text.contains(part), "{text}");
    }
}

#[test]
fn a_folder_of_plans_serves_the_second_start() {
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("kept/plans");
    let (cache, options) = (PlanCache::new(&kept), OpenOptions::default());
    let open = |path: &str| cache.open(repository().join(path), &[], &options).unwrap();
    let files = || fs::read_dir(&kept).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    let samples = Array::read(repository().join(SAMPLES)).floats();
    let answer =
        |file: &ModelFile| first_output(&mut file.session(SessionOptions::default()).unwrap(), &samples[..490]);

    let first = open(KWS);
    let [stored] = files().try_into().unwrap();
    let written = fs::metadata(&stored).unwrap().modified().unwrap();
    let second = open(KWS);
    assert!(matches!((&first, &second), (ModelFile::Plan(_), ModelFile::Plan(_))));
    assert_eq!(fs::metadata(&stored).unwrap().modified().unwrap(), written, "it is not written again");
    assert_eq!(answer(&first), answer(&second));
    // Another model is another plan; what is damaged is made anew.
    open("models/har_cnn1d/int8.onnx");
    assert_eq!(files().len(), 2);
    fs::write(&stored, b"TRACTLET and then nothing").unwrap();
    assert_eq!(answer(&open(KWS)), answer(&first));
    assert!(PlanFile::open(&stored).is_ok());
    // Nor is it enough that some plan lies under the name.
    compile(&model("models/har_cnn1d/int8.onnx"), &CompileOptions::default()).unwrap().write(&stored).unwrap();
    assert_eq!(answer(&open(KWS)), answer(&first));
}

#[test]
fn a_cache_that_cannot_be_written_costs_the_plan_and_not_the_run() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let opened = PlanCache::new(file.join("plans")).open(repository().join(KWS), &[], &OpenOptions::default()).unwrap();
    assert!(matches!(opened, ModelFile::Model(_)));
}

fn failure(args: &[&str], code: i32) -> String {
    let output = tractlet(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty() && !stderr.contains("should not"), "{args:?}: {stderr}");
    stderr
}

#[test]
fn every_command_takes_a_plan_for_a_model() {
    let folder = TempDir::new().unwrap();
    // By its content, whatever its name says.
    let plan = folder.path().join("kws.onnx");
    let plan = plan.to_str().unwrap();
    let made = json(&["compile", KWS, "-o", plan]);
    for key in ["weights_bytes", "arena_bytes", "isa", "model_sha256", "total_bytes", "file_bytes"] {
        assert!(!made[key].is_null(), "{key}: {made}");
    }
    let outputs = |model: &str| json(&["run", model, "--input", SAMPLES])["outputs"].take();
    assert_eq!(outputs(plan), outputs(KWS));
    assert_eq!(json(&["run", plan, "--input", SAMPLES, "--from", KWS])["engine"], "plan");

    let bench = json(&["bench", plan, "--runs", "10", "--profile"]);
    assert_eq!((&bench["engine"], &bench["allocations_per_run"]), (&"plan".into(), &0.0.into()));
    assert_eq!(bench["ops"][1]["name"], "conv_0");
    let footprint = json(&["footprint", plan, "--budget", "4GiB"]);
    assert_eq!(footprint["predicted"]["total_bytes"], made["total_bytes"]);
    assert!(failure_of_budget(plan).contains("over budget: the plan's total of"));
    let inspect = json(&["inspect", plan]);
    assert_eq!((&inspect["plan"]["model_name"], &inspect["plan"]["isa"]), (&"int8.onnx".into(), &made["isa"]));
    assert_eq!(inspect["plan"]["model_sha256"], made["model_sha256"]);
    assert!(inspect["model"].is_null() && !inspect["arena"].as_array().unwrap().is_empty());
    let labels = folder.path().join("labels.npy");
    let mut writer = tractlet::npy::Writer::create(&labels, tractlet::DType::I64, &[12]).unwrap();
    writer.write(&(0..12i64).flat_map(i64::to_le_bytes).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap().publish().unwrap();
    let eval = ["eval", plan, "--inputs", SAMPLES, "--labels", labels.to_str().unwrap()];
    assert_eq!(json(&eval)["value"], 1.0);
}

fn failure_of_budget(plan: &str) -> String {
    let output = tractlet(&["footprint", plan, "--budget", "4KiB"]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_compiled_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("x.plan");
    let target = target.to_str().unwrap();
    let why = failure(&["compile", "README.md", "-o", target], 1);
    assert!(why.contains("README.md: not a readable ONNX model"), "{why}");
    assert!(failure(&["compile", KWS, "-o", target, "--isa", "sse9"], 2).contains("neondotprod"));
    assert!(failure(&["compile", KWS, "-o", target, "--board", "pi6"], 2).contains("there are: pi-zero-2w"));
    assert!(failure(&["compile", KWS, "-o", target, "--board", "pi4", "--isa", "neon"], 2).contains("cannot be used"));
    assert!(failure(&["compile", KWS], 2).contains("--output"));
    assert!(
        failure(&["compile", KWS, "-o", "no/such/folder/x.plan"], 1).contains("no/such/folder/x.plan: cannot write")
    );
    assert!(!Path::new(target).exists());
    // A plan is no model, and a model is not overwritten by its plan.
    assert!(tractlet(&["compile", KWS, "-o", target, "--isa", "generic"]).status.success());
    assert!(failure(&["compile", target, "-o", target], 1).contains("it is a plan already"));
    let copy = folder.path().join("copy.onnx");
    fs::copy(repository().join(KWS), &copy).unwrap();
    let copy = copy.to_str().unwrap();
    assert!(failure(&["compile", copy, "-o", copy], 1).contains("would overwrite what is read"));
    assert_eq!(fs::read(copy).unwrap(), fs::read(repository().join(KWS)).unwrap());
    assert!(failure(&["run", KWS, "--input", SAMPLES, "--from", KWS], 1).contains("--from is for a .plan file"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_plan_does_not_overwrite_the_weights_beside_its_model() {
    let folder = TempDir::new().unwrap();
    let copy = |name: &str| {
        let to = folder.path().join(name);
        fs::copy(repository().join("tests/malformed").join(name), &to).unwrap();
        to.to_str().unwrap().to_owned()
    };
    let [model, weights] = ["valid_external.onnx", "external.bin"].map(copy);
    let before = fs::read(&weights).unwrap();
    assert!(failure(&["compile", &model, "-o", &weights], 1).contains("would overwrite what is read"));
    assert_eq!(fs::read(&weights).unwrap(), before);
    let plan = folder.path().join("x.plan");
    assert!(tractlet(&["compile", &model, "-o", plan.to_str().unwrap()]).status.success());
}

#[test]
fn a_kept_plan_answers_as_its_model() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().to_str().unwrap();
    let outputs = |args: &[&str]| json(&[&["run", KWS, "--input", SAMPLES], args].concat())["outputs"].take();
    let cached = ["--plan-cache", cache];
    assert_eq!(outputs(&cached), outputs(&[]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(outputs(&cached), outputs(&[]));
    // `inspect` shows the model's nodes all the same.
    assert!(json(&["inspect", KWS, "--plan-cache", cache])["model"]["opset"].is_u64());
}

/// Samples of `[1, channels, rows, ...]`, one behind the other along time.
struct Series {
    samples: Vec<f32>,
    channels: usize,
    rows: usize,
    /// Values of a row of one channel.
    width: usize,
}

impl Series {
    fn of(name: &str, shape: &[usize]) -> Series {
        let samples = Array::read(repository().join(format!("models/{name}/samples.npy"))).floats();
        Series { samples, channels: shape[1], rows: shape[2], width: shape[3..].iter().product() }
    }

    fn len(&self) -> usize {
        self.samples.len() / (self.channels * self.width)
    }

    fn value(&self, channel: usize, row: usize, at: usize) -> f32 {
        let (sample, row) = (row / self.rows, row % self.rows);
        self.samples[((sample * self.channels + channel) * self.rows + row) * self.width + at]
    }

    /// Rows to `end`; zeros where they would lie before the first.
    fn cut(&self, rows: usize, end: usize) -> Vec<f32> {
        let value = |channel, back: usize, at| end.checked_sub(back).map_or(0.0, |row| self.value(channel, row, at));
        let places = (0..self.channels).flat_map(|c| (1..=rows).rev().map(move |back| (c, back)));
        places
            .flat_map(|(c, back)| (0..self.width).map(move |at| (c, back, at)))
            .map(|(c, b, at)| value(c, b, at))
            .collect()
    }
}

#[test]
fn shipped_models_answer_hop_by_hop_as_for_whole_windows() {
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect();
    let cases = [("sww_conv1d", [1, 4, 15]), ("har_cnn1d", [4, 10, 64]), ("kws_dscnn", [2, 6, 24])];
    for (name, hops) in cases {
        for (file, isa) in
            ["int8.onnx", "f32.onnx"].into_iter().flat_map(|file| isas.iter().map(move |&isa| (file, isa)))
        {
            let model = model(&format!("models/{name}/{file}"));
            let options = CompileOptions::default().isa(isa);
            let mut whole = compile(&model, &options).unwrap().session().unwrap();
            let series = Series::of(name, &whole.inputs()[0].shape);
            for rows in hops {
                let mut session = compile(&model, &options.clone().hop(rows)).unwrap().session().unwrap();
                let hop = session.hop().unwrap().clone();
                assert_eq!((hop.axis, hop.rows, hop.window_rows), (2, rows, series.rows));
                let [all, new] = [&whole, &session].map(|s| s.steps().iter().map(|step| step.macs).sum::<u64>());
                assert!(new < all && Some(all) == hop.window_macs, "{name} {rows}: {new} of {all}");
                let ends = (series.rows..=series.len()).step_by(rows).take(12);
                for (index, end) in ends.enumerate() {
                    let runs = if index == 0 { hop.runs } else { 1 };
                    let mut answer = vec![];
                    for back in (0..runs).rev() {
                        answer = first_output(&mut session, &series.cut(rows, end - back * rows));
                    }
                    let expected = first_output(&mut whole, &series.cut(series.rows, end));
                    assert_eq!(answer, expected, "{name}/{file} on {isa}, hops of {rows}, to row {end}");
                }
            }
        }
    }
}

#[test]
fn a_plan_that_runs_hop_by_hop_is_stored_with_how_it_does() {
    let folder = TempDir::new().unwrap();
    let sww = "models/sww_conv1d/int8.onnx";
    let plan = PlanFile::open(store(&folder, sww, &CompileOptions::default().hop(3))).unwrap();
    let direct = Session::new(&model(sww), SessionOptions::default().hop(3)).unwrap();
    let stored = plan.session(SessionOptions::default()).unwrap();
    let (here, there) = (stored.hop().unwrap(), direct.hop().unwrap());
    assert_eq!((here.axis, here.rows, here.window_rows, here.runs), (2, 3, 30, 10));
    assert_eq!(
        (here.axis, here.rows, here.window_rows, here.runs),
        (there.axis, there.rows, there.window_rows, there.runs)
    );
    assert_eq!((stored.steps(), stored.arena()), (direct.steps(), direct.arena()));
    let kept = stored.memory().unwrap().state_bytes;
    assert!(kept > 0 && kept == direct.memory().unwrap().state_bytes);
    let (kind, text) = refusal(plan.session(SessionOptions::default().hop(5)));
    assert_eq!(kind, Kind::Options);
    assert!(text.contains("by hops of 3 rows, not of 5") && text.ends_with(" --hop 5"), "{text}");

    // One for whole windows says that it takes them, and so does another engine.
    let plan = PlanFile::open(store(&folder, sww, &CompileOptions::default())).unwrap();
    let session = plan.session(SessionOptions::default().hop(3)).unwrap();
    assert!(session.hop().is_none() && session.whole_windows().unwrap().contains("--hop"));
    if EngineChoice::Tract.is_built() {
        let options = SessionOptions::default().engine(EngineChoice::Tract).hop(3);
        assert_eq!(Session::new(&model(sww), options).unwrap().whole_windows(), Some("the engine tract does"));
    }
    // What no plan can do is an error where nothing else was asked for.
    let error = compile(&model("models/ad_autoencoder/int8.onnx"), &CompileOptions::default().hop(5)).err().unwrap();
    assert!(error.to_string().contains("cannot run hop by hop: step `"), "{error}");
}
