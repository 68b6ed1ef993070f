//! The program in the field: packages signed and altered, trials, crashes, rollbacks; the sandbox in commands; disks
//! that fill up, memory that is not there, model files that change while they are read.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{command, json, limited, repository, tractlet};
use minisign::{KeyPair, SignatureBox};
use tempfile::TempDir;
use tractlet::{CompileOptions, EngineChoice, Model, ModelFile, OpenOptions, Session, SessionOptions, compile};

const KWS: &str = "models/kws_dscnn";
const SAMPLES: &str = "models/kws_dscnn/samples.npy";

/// A bench where packages are made, and a device.
struct Bench {
    folder: TempDir,
    keys: KeyPair,
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: TempDir::new().unwrap(), keys: KeyPair::generate_unencrypted_keypair().unwrap() };
        fs::write(bench.path("minisign.pub"), bench.keys.pk.to_box().unwrap().to_string()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn dir(&self) -> String {
        self.path("slots")
    }

    /// The keyword model under this version, signed; `options` go to `slot pack`.
    fn package(&self, version: u32, options: &[&str]) -> String {
        let folder = self.path(&format!("kws-{version}"));
        fs::create_dir(&folder).unwrap();
        for (name, from) in [("kws.onnx", "int8.onnx"), ("model.toml", "model.toml"), ("labels.txt", "labels.txt")] {
            fs::copy(repository().join(KWS).join(from), Path::new(&folder).join(name)).unwrap();
        }
        self.pack(&folder, version, options);
        folder
    }

    fn pack(&self, folder: &str, version: u32, options: &[&str]) {
        let version = version.to_string();
        let args = [&["slot", "pack", folder, "--name", "kws", "--version", &version], options].concat();
        let packed = tractlet(&args);
        assert!(packed.status.success(), "{}", text(&packed));
        self.sign(folder);
    }

    fn sign(&self, folder: &str) {
        let manifest = fs::read(Path::new(folder).join("manifest.toml")).unwrap();
        let signed: SignatureBox =
            minisign::sign(Some(&self.keys.pk), &self.keys.sk, &manifest[..], None, None).unwrap();
        fs::write(Path::new(folder).join("manifest.toml.minisig"), signed.into_string()).unwrap();
    }

    fn slot(&self, action: &str, more: &[&str]) -> Output {
        tractlet(&[&["slot", action, &self.dir()], more].concat())
    }

    /// The first installation, which says whose packages are taken.
    fn first(&self, package: &str) {
        let key = self.path("minisign.pub");
        let output = self.slot("install", &[package, "--key", &key, "--board", "pi4", "--activate"]);
        assert!(output.status.success(), "{}", text(&output));
    }

    fn status(&self) -> serde_json::Value {
        json(&["slot", "status", &self.dir()])
    }

    fn run(&self) -> Output {
        tractlet(&["run", &self.dir(), "--input", SAMPLES, "--top", "1"])
    }

    /// Everything in the folder of slots, to see that nothing changed.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for folder in ["", "a", "b"] {
            let Ok(entries) = fs::read_dir(Path::new(&self.dir()).join(folder)) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
                all.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
        all.sort();
        all
    }
}

#[test]
fn a_package_goes_from_bench_to_trial_to_use_and_back() {
    let bench = Bench::new();
    bench.first(&bench.package(1, &[]));
    assert_eq!(bench.status()["trial"], true);
    let ran = bench.run();
    assert!(ran.status.success(), "{}", text(&ran));
    assert_eq!((bench.status()["trial"].clone(), bench.status()["crashes"].clone()), (false.into(), 0.into()));
    // Whatever takes a MODEL takes the folder; looking is no use that counts.
    for command in ["inspect", "footprint"] {
        assert_eq!(json(&[command, &bench.dir()])["engine"], "plan");
    }

    assert!(bench.slot("install", &[&bench.package(2, &["--board", "pi4"])]).status.success());
    assert_eq!(bench.status()["other"]["holds"], "newer");
    assert!(bench.slot("activate", &[]).status.success());
    // A stream of more windows than a trial asks for is a use that went well.
    let words = repository().join(KWS).join("words.wav");
    let args = ["stream", &bench.dir(), "--source", words.to_str().unwrap(), "--repeat", "4", "--hop", "16000"];
    let streamed = tractlet(&args);
    assert!(streamed.status.success() && text(&streamed).contains("\"yes\""), "{}", text(&streamed));
    let status = bench.status();
    assert_eq!((&status["active"]["version"], &status["trial"]), (&2.into(), &false.into()));

    assert!(bench.slot("rollback", &[]).status.success());
    assert_eq!(bench.status()["active"]["version"], 1);
    for (action, told) in [("activate", "rolled back"), ("rollback", "no older package")] {
        let refused = bench.slot(action, &[]);
        assert!(refused.status.code() == Some(1) && text(&refused).contains(told), "{}", text(&refused));
    }
}

#[test]
fn what_is_not_as_it_was_signed_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    bench.first(&bench.package(2, &[]));
    assert!(bench.run().status.success());
    let before = bench.contents();
    let append = |folder: &str, file: &str| {
        let path = Path::new(folder).join(file);
        let bytes = [fs::read(&path).unwrap(), b"\n".to_vec()].concat();
        fs::write(path, bytes).unwrap();
    };
    let named = |version: u32, change: &dyn Fn(&str)| {
        let folder = bench.package(version, &["--board", "pi4"]);
        change(&folder);
        folder
    };
    let edit = |from: &'static str, to: &'static str| {
        move |folder: &str| {
            let path = Path::new(folder).join("manifest.toml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            fs::write(path, text.replacen(from, to, 1)).unwrap();
        }
    };
    let plan_of_another = |folder: &str| {
        let plan = Path::new(folder).join("kws.plan");
        let made = tractlet(&["compile", "models/har_cnn1d/int8.onnx", "-o", plan.to_str().unwrap()]);
        assert!(made.status.success());
        bench.pack(folder, 20, &[]);
    };
    let wrong_answer = |folder: &str| {
        fs::copy(repository().join(SAMPLES), Path::new(folder).join("x.npy")).unwrap();
        fs::copy(repository().join("models/kws_dscnn/golden_f32.npy"), Path::new(folder).join("y.npy")).unwrap();
        bench.pack(folder, 21, &["--golden-input", "x.npy", "--golden-output", "y.npy"]);
    };
    let over_budget = |folder: &str| {
        fs::write(Path::new(folder).join("budget.toml"), "arena_bytes = 1000\n").unwrap();
        bench.pack(folder, 22, &[]);
    };
    let stranger = |folder: &str| Bench { folder: TempDir::new().unwrap(), ..Bench::new() }.sign(folder);
    let unsigned = |folder: &str| fs::remove_file(Path::new(folder).join("manifest.toml.minisig")).unwrap();
    let resigned = |change: &dyn Fn(&str), folder: &str| {
        change(folder);
        bench.sign(folder);
    };
    for (package, told) in [
        (named(10, &unsigned), "there is no signature"),
        (named(11, &stranger), "not what the trusted key signed"),
        (named(12, &edit("version = 12", "version = 13")), "not what the trusted key signed"),
        (named(13, &|folder| append(folder, "kws.onnx")), "its SHA-256 is"),
        (named(14, &|folder| append(folder, "labels.txt")), "its SHA-256 is"),
        (named(15, &|folder| fs::remove_file(Path::new(folder).join("model.toml")).unwrap()), "cannot read it"),
        (named(1, &|_| ()), "version 1 is not above 2"),
        (named(16, &|folder| resigned(&edit("\"pi4\"", "\"pi5\""), folder)), "for the board pi5, and this is pi4"),
        (named(17, &|folder| resigned(&edit("\"kws\"", "\"walk\""), folder)), "a package of `walk`"),
        (named(20, &plan_of_another), "plan is stale"),
        (named(21, &wrong_answer), "is not that of"),
        (named(22, &over_budget), "over budget"),
    ] {
        let refused = bench.slot("install", &[&package]);
        assert_eq!(refused.status.code(), Some(1), "{package}");
        assert!(text(&refused).contains(told), "{package}: {}", text(&refused));
        assert_eq!(bench.contents(), before, "{package}");
    }
    let other_key = bench.slot("install", &[&bench.package(30, &[]), "--key", &Bench::new().path("minisign.pub")]);
    assert_eq!(other_key.status.code(), Some(1));
    // A link could lead anywhere.
    let linked = named(31, &|folder| {
        let model = Path::new(folder).join("kws.onnx");
        fs::remove_file(&model).unwrap();
        std::os::unix::fs::symlink(repository().join("models/kws_dscnn/int8.onnx"), model).unwrap();
    });
    assert_eq!(bench.slot("install", &[&linked]).status.code(), Some(1));
    assert_eq!(bench.contents(), before);
}

#[test]
fn a_package_that_crashes_is_rolled_back_by_itself() {
    let bench = Bench::new();
    bench.first(&bench.package(1, &[]));
    assert!(bench.run().status.success());
    assert!(bench.slot("install", &[&bench.package(2, &[]), "--activate"]).status.success());
    // An error that is no crash does not count.
    assert_eq!(tractlet(&["run", &bench.dir(), "--input", "missing.npy"]).status.code(), Some(1));
    assert_eq!(bench.status()["crashes"], 0);
    for crashes in 1..=3 {
        let mut stream = command(&["stream", &bench.dir(), "--source", "-", "--format", "s16le"]);
        let mut child = stream.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while bench.status()["crashes"] != crashes {
            assert!(Instant::now() < patience);
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ran = bench.run();
    assert!(ran.status.success() && text(&ran).contains("rolled back to version 1"), "{}", text(&ran));
    let status = bench.status();
    assert_eq!((&status["active"]["version"], &status["other"]["holds"]), (&1.into(), &"withdrawn".into()));
}

#[test]
fn few_windows_and_an_exchange_that_was_refused_leave_a_trial_open() {
    let bench = Bench::new();
    bench.first(&bench.package(1, &[]));
    let on_trial = |version: u32| {
        let status = bench.status();
        assert_eq!(
            (&status["active"]["version"], &status["trial"], &status["crashes"]),
            (&version.into(), &true.into(), &0.into())
        );
    };
    // Four windows where ten are asked for.
    let few = tractlet(&["stream", &bench.dir(), "--source", "models/kws_dscnn/words.wav", "--hop", "16000"]);
    assert!(few.status.success(), "{}", text(&few));
    on_trial(1);
    assert!(bench.run().status.success());

    let mut stream = command(&["stream", &bench.dir(), "--source", "-", "--format", "s16le", "--hop", "16000"]);
    let mut child = stream.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut sound, mut lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut window = || {
        sound.write_all(&[0; 32000]).unwrap();
        lines.next().unwrap().unwrap()
    };
    window();
    let other = bench.package(2, &[]);
    let recipe = Path::new(&other).join("model.toml");
    fs::write(&recipe, fs::read_to_string(&recipe).unwrap() + "emit = \"change\"\n").unwrap();
    bench.pack(&other, 2, &[]);
    assert!(bench.slot("install", &[&other, "--activate"]).status.success());
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    // The window in flight when it is looked at, and one behind that.
    window();
    window();
    drop(sound);
    let last: serde_json::Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((&last["summary"]["reloads"], &last["summary"]["reloads_refused"]), (&0.into(), &1.into()), "{last}");
    on_trial(2);
}

#[test]
fn a_signature_by_minisign_itself_is_taken() {
    // Made by minisign 0.11 with a key of its own: tests/golden/slots/README.md.
    let golden = repository().join("tests/golden/slots");
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("slots");
    let install = |package: &str| {
        let (package, key) = (golden.join(package), golden.join("minisign.pub"));
        let args =
            ["slot", "install", dir.to_str().unwrap(), package.to_str().unwrap(), "--key", key.to_str().unwrap()];
        tractlet(&args)
    };
    assert_eq!(install("altered").status.code(), Some(1));
    assert!(!dir.exists(), "nothing is made for a package that is refused");
    let installed = install("signed");
    assert!(installed.status.success(), "{}", text(&installed));
}

#[test]
fn commands_answer_alike_within_the_sandbox() {
    let folder = TempDir::new().unwrap();
    let output = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |more: &[&str]| {
        let args = [&["run", "models/kws_dscnn/int8.onnx", "--input", SAMPLES], more].concat();
        let ran = tractlet(&args);
        assert!(ran.status.success(), "{}", text(&ran));
    };
    let (free, confined) = (output("free.npy"), output("confined.npy"));
    run(&["--output", &free]);
    run(&["--output", &confined, "--sandbox", "--max-rss", "200MiB"]);
    assert_eq!(fs::read(&free).unwrap(), fs::read(&confined).unwrap());

    // A slot on trial is confirmed from within, and the stream has a thread for its metrics.
    let bench = Bench::new();
    bench.first(&bench.package(1, &[]));
    let args = ["stream", &bench.dir(), "--source", "models/kws_dscnn/words.wav", "--repeat", "4", "--hop", "16000"];
    let stream = |more: &[&str]| {
        let streamed = tractlet(&[&args[..], &["--sink", "csv:-"], more].concat());
        assert!(streamed.status.success(), "{}", text(&streamed));
        let lines = String::from_utf8(streamed.stdout).unwrap();
        // But for latency, which is the last field, and the summary.
        lines.lines().map(|line| line.rsplit_once(',').map_or("", |(kept, _)| kept).to_owned()).collect::<Vec<_>>()
    };
    let confined = stream(&["--sandbox", "--metrics", "127.0.0.1:0"]);
    assert_eq!(bench.status()["trial"], false);
    assert!(confined.len() >= 16);
    assert_eq!(confined, stream(&[]));
}

#[test]
fn what_a_sandbox_would_break_is_refused_before_it() {
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:localhost:{}", there.local_addr().unwrap().port());
    let refused = tractlet(&["stream", "models/har_cnn1d", "--sandbox", "--reconnect", "1", "--source", &source]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("give the address in numbers"), "{}", text(&refused));

    let words = "models/kws_dscnn/words.wav";
    let threads = tractlet(&["stream", KWS, "--sandbox", "--threads", "2", "--source", words]);
    assert_eq!(threads.status.code(), Some(2));
    assert!(text(&threads).contains("leave --threads at 1"), "{}", text(&threads));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("streams.toml");
    let arguments = format!("[\"{KWS}\", \"--source\", \"{words}\", \"--sink\", \"json:x\", \"--sandbox\"]");
    fs::write(&file, format!("[[stream]]\nname = \"a\"\narguments = {arguments}\n")).unwrap();
    let several = tractlet(&["streams", file.to_str().unwrap()]);
    assert_eq!(several.status.code(), Some(1));
    assert!(text(&several).contains("--sandbox confines a process"), "{}", text(&several));
}

#[test]
fn a_disk_that_fills_up_anywhere_leaves_a_whole_file_or_none() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("y.npy");
    let args = ["run", "models/ad_autoencoder/f32.onnx", "--input", "models/ad_autoencoder/samples.npy", "--output"];
    let args = [&args[..], &[target.to_str().unwrap()]].concat();
    let whole = {
        assert!(tractlet(&args).status.success());
        fs::read(&target).unwrap()
    };
    fs::remove_file(&target).unwrap();
    let (mut refused, mut written) = (0, 0);
    // From nothing at all to more than the model's copy, in blocks of 512 bytes.
    for blocks in [0, 1, 2, 3, 5, 10, 20, 50, 100, 1000, 2000, 3000, 4000] {
        let output = limited(&format!("-f {blocks}"), &args);
        match output.status.code() {
            Some(0) => {
                written += 1;
                assert_eq!(fs::read(&target).unwrap(), whole);
                fs::remove_file(&target).unwrap();
            }
            Some(1) => {
                refused += 1;
                assert!(text(&output).contains("File too large"), "{blocks}: {}", text(&output));
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{blocks}");
            }
            other => panic!("{blocks}: {other:?}, {}", text(&output)),
        }
    }
    assert!(refused >= 5 && written >= 1, "{refused} {written}");
    // A plan has an answer of its own to write.
    let full = tractlet(&["compile", "models/kws_dscnn/int8.onnx", "-o", "/dev/full"]);
    assert_eq!(full.status.code(), Some(1));
}

#[test]
fn memory_that_is_not_there_is_an_error_with_a_message() {
    let (mut refused, mut ran) = (0, 0);
    // What relocating a program takes for a moment is more, in an unoptimised one that has tract, than the plan engine wants of
    // a small model.
    let engine = if cfg!(feature = "tract") { "tract" } else { "plan" };
    for limit in (1024..=4096).step_by(64).map(|kib| format!("-d {kib}")) {
        // With less not even a program that does nothing starts.
        if limited(&limit, &["--version"]).status.code() != Some(0) {
            continue;
        }
        let output = limited(&limit, &["footprint", "models/ad_autoencoder/f32.onnx", "--engine", engine]);
        match output.status.code() {
            Some(0) => ran += 1,
            Some(1) => {
                refused += 1;
                assert!(text(&output).contains("error: "), "{limit}: {}", text(&output));
            }
            other => panic!("{limit}: {other:?}: {}", text(&output)),
        }
    }
    assert!(refused >= 1 && ran >= 1, "{refused} {ran}");
}

/// What a model answers on a fixed input.
fn answer(path: &Path) -> Result<Vec<f32>, String> {
    let file = ModelFile::open(path, &OpenOptions::default()).map_err(|error| error.to_string())?;
    let options = SessionOptions::default().engine(EngineChoice::Plan);
    let mut session = file.session(options).map_err(|error| error.to_string())?;
    let (input, mut scores) = (vec![0.25f32; 490], vec![0f32; 12]);
    session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()]).map_err(|error| error.to_string())?;
    Ok(scores)
}

/// Does to a file what a careless update may, over and over, until `done`.
fn attack(path: &Path, contents: [&[u8]; 2], in_place: bool, done: &AtomicBool) {
    for step in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let bytes = contents[step % 2];
        match step % 5 {
            0 if in_place => {
                let file = fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
                let pieces = bytes.chunks(1000).enumerate();
                pieces.for_each(|(piece, bytes)| file.write_all_at(bytes, 1000 * piece as u64).unwrap());
            }
            1 => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            2 => fs::write(path, bytes).unwrap(),
            3 => drop(fs::remove_file(path)),
            _ => {
                let fresh = path.with_extension("fresh");
                fs::write(&fresh, bytes).unwrap();
                fs::rename(&fresh, path).unwrap();
            }
        }
        thread::sleep(Duration::from_micros(300));
    }
}

/// Each load gives an error or the answer of one of the two; and what was loaded before knows nothing of it. 200 loads and
/// as many runs, or as many as TRACTLET_ATTACKED_RUNS says.
fn withstands(path: &Path, contents: [&[u8]; 2], in_place: bool) {
    let runs: usize = std::env::var("TRACTLET_ATTACKED_RUNS").map_or(200, |runs| runs.parse().unwrap());
    let known = contents.map(|bytes| {
        fs::write(path, bytes).unwrap();
        answer(path).unwrap()
    });
    assert_ne!(known[0], known[1]);
    let options = SessionOptions::default().engine(EngineChoice::Plan);
    let mut session = ModelFile::open(path, &OpenOptions::default()).unwrap().session(options).unwrap();
    let done = AtomicBool::new(false);
    let (mut refused, mut answered, mut wrong) = (0, [0, 0], 0);
    thread::scope(|scope| {
        scope.spawn(|| attack(path, contents, in_place, &done));
        for _ in 0..runs {
            match answer(path).map(|scores| known.iter().position(|known| *known == scores)) {
                Err(_) => refused += 1,
                Ok(Some(which)) => answered[which] += 1,
                Ok(None) => wrong += 1,
            }
            let (input, mut scores) = (vec![0.25f32; 490], vec![0f32; 12]);
            session.run(&[input.as_slice().into()], &mut [scores.as_mut_slice().into()]).unwrap();
            wrong += usize::from(scores != known[1]);
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{}: {runs} loads: {refused} refused, {answered:?} answered, {wrong} wrong", path.display());
    assert_eq!(wrong, 0, "answers of neither");
    // How many are refused is a matter of who comes first.
    assert!(answered.iter().sum::<usize>() > 0);
}

#[test]
fn a_model_file_that_changes_meanwhile_never_gives_an_answer_of_neither() {
    let folder = TempDir::new().unwrap();
    let one = fs::read(repository().join(KWS).join("int8.onnx")).unwrap();
    // The same model with other weights: a byte in each stretch of 512 that leaves it a model.
    let mut other = one.clone();
    let mut changed = 0;
    for at in (0..other.len()).step_by(512) {
        other[at] ^= 1;
        let options = SessionOptions::default().engine(EngineChoice::Plan);
        match Model::from_bytes("model.onnx", &other).and_then(|model| Session::new(&model, options)) {
            Ok(_) => changed += 1,
            Err(_) => other[at] ^= 1,
        }
    }
    assert!(changed > 20, "{changed}");
    // Written into where it stands, a model has no checksum that could tell; a plan has.
    withstands(&folder.path().join("model.onnx"), [&one, &other], false);
    let plans = [&one, &other].map(|bytes| {
        let model = Model::from_bytes("model.onnx", bytes).unwrap();
        compile(&model, &CompileOptions::default()).unwrap().as_bytes().to_vec()
    });
    withstands(&folder.path().join("model.plan"), [&plans[0], &plans[1]], true);
}
