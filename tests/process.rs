//! What happens to whole processes: what they cannot do any more within the sandbox, how they end without memory, and what files
//! they leave behind where they are ended. It has a main function of its own, since a test's thread is not the process's first,
//! and starts itself for each thing that is tried.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};
use tractlet::footprint::{CountingAllocator, fail_request, heap, proc, when_exhausted};
use tractlet::sandbox::{Confined, Sandbox, SandboxError};
use tractlet::{CompileOptions, DType, EngineChoice, Model, ModelFile, OpenOptions, SessionOptions, compile, npy};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const TRY: &str = "TRACTLET_SANDBOX_TRY";
const TRIES: [&str; 4] = ["strict", "paths", "network", "threads"];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(TRY) {
        match name.as_str() {
            "strict" => nothing_but_what_is_open(),
            "paths" => only_the_paths_that_were_named(),
            "network" => the_network_where_it_is_needed(),
            "threads" => not_with_other_threads(),
            "named" => without_files_that_have_no_name(),
            nth => {
                let (file, nth) = nth.split_once(' ').unwrap();
                load_while_a_request_fails(file, nth.parse().unwrap());
            }
        }
        return ExitCode::SUCCESS;
    }
    for name in TRIES {
        let status = Command::new(std::env::current_exe().unwrap()).env(TRY, name).status().unwrap();
        println!("sandbox {name}: {status}");
        if !status.success() {
            return ExitCode::FAILURE;
        }
    }
    every_request_of_a_load_may_fail();
    what_others_ask_for_may_fail();
    nothing_is_left_of_a_file_that_was_not_finished();
    a_folder_that_cannot_be_brought_to_disk_is_refused_before_the_work();
    ExitCode::SUCCESS
}

fn enter(sandbox: &Sandbox) -> Confined {
    let confined = sandbox.enter().unwrap();
    println!("{confined:?}");
    // Every Linux that this is built on has seccomp; not every one is started with Landlock.
    assert!(confined.calls);
    confined
}

fn is_denied<T>(result: io::Result<T>) -> bool {
    // EPERM by seccomp, EACCES by Landlock.
    result.err().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn no_way_out() {
    assert!(is_denied(Command::new("/bin/true").status()), "exec");
    assert!(is_denied(TcpStream::connect("127.0.0.1:9")), "connect");
    assert!(is_denied(TcpListener::bind("127.0.0.1:0")), "bind");
    assert!(is_denied(UnixStream::connect("/run/systemd/notify")), "connect to a path");
}

fn nothing_but_what_is_open() {
    let mut file = File::open("Cargo.toml").unwrap();
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (near, far) = UnixDatagram::pair().unwrap();
    enter(&Sandbox::default());
    let denied = || {
        assert!(is_denied(File::open("Cargo.toml")), "open");
        assert!(is_denied(fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/created"), "x")), "create");
        assert!(is_denied(fs::read_dir("/")), "list");
        assert!(is_denied(here.send_to(b"x", here.local_addr().unwrap())), "send to an address");
        no_way_out();
    };
    denied();
    thread::scope(|scope| scope.spawn(denied).join().unwrap());
    // What is open goes on, and so does memory.
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    file.rewind().unwrap();
    near.send(b"what is connected").unwrap();
    assert_eq!(far.recv(&mut [0; 32]).unwrap(), 17);
    assert!(text.contains("tractlet") && vec![1u8; 10 << 20].len() == 10 << 20);
}

fn only_the_paths_that_were_named() {
    let folder = tempfile::tempdir().unwrap();
    let (read, write) = (folder.path().join("read"), folder.path().join("write"));
    for folder in [&read, &write] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", write.join("link")).unwrap();
    let sandbox = Sandbox { read: vec![read.clone(), "/proc/self".into()], write: vec![write.clone()], network: false };
    let confined = enter(&sandbox);
    assert_eq!(fs::read(read.join("x")).unwrap(), b"x");
    fs::write(write.join("new"), "y").unwrap();
    fs::rename(write.join("new"), write.join("x")).unwrap();
    File::open(&write).unwrap().sync_all().unwrap();
    proc::kinds().unwrap();
    no_way_out();
    if confined.files {
        for outside in
            [write.join("link"), "/etc/passwd".into(), "/proc/self/root/etc/passwd".into(), "/proc/1/cmdline".into()]
        {
            assert!(is_denied(File::open(&outside)), "{}", outside.display());
        }
        assert!(is_denied(fs::write(read.join("x"), "y")), "write to what is to be read");
    } else {
        println!("skipped: this kernel has no Landlock, so paths are not confined");
    }
    fs::remove_file(write.join("link")).unwrap();
}

fn the_network_where_it_is_needed() {
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    enter(&Sandbox { network: true, ..Sandbox::default() });
    TcpStream::connect(there.local_addr().unwrap()).unwrap();
    TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(is_denied(File::open("Cargo.toml")) && is_denied(Command::new("/bin/true").status()));
}

fn not_with_other_threads() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || wait.recv());
    assert!(matches!(Sandbox::default().enter(), Err(SandboxError::Threads(2))));
    drop(go);
    let _ = other.join();
}

const MODEL: &str = "models/kws_dscnn/int8.onnx";
/// What the program's own message ends with, too.
const EXHAUSTED: i32 = 1;

fn load_while_a_request_fails(file: &str, nth: u64) {
    let before = heap();
    when_exhausted(|_| {
        // No memory to say it with.
        let _ = rustix::io::write(io::stderr(), b"no memory");
        signal_hook::low_level::exit(EXHAUSTED)
    });
    fail_request(nth);
    let opened = ModelFile::open(file, &OpenOptions::default()).unwrap();
    let mut session = opened.session(SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
    session.run(&[[0f32; 490].as_slice().into()], &mut [[0f32; 12].as_mut_slice().into()]).unwrap();
    println!("{}", heap().since(&before).allocations);
}

/// A model and its plan, loaded and run, with each request for heap failing in turn: the process ends as it was told to, by
/// no signal, and the next load succeeds. TRACTLET_EVERY_REQUEST=1 tries each, and not each of a stride.
fn every_request_of_a_load_may_fail() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("kws.plan");
    compile(&Model::open(MODEL).unwrap(), &CompileOptions::default()).unwrap().write(&plan).unwrap();
    for file in [MODEL, plan.to_str().unwrap()] {
        let load = |nth: u64| {
            let output =
                Command::new(std::env::current_exe().unwrap()).env(TRY, format!("{file} {nth}")).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
        };
        let (code, requests, _) = load(u64::MAX >> 1);
        assert_eq!(code, Some(0));
        let requests: u64 = requests.trim().parse().unwrap();
        let stride = if std::env::var_os("TRACTLET_EVERY_REQUEST").is_some() { 1 } else { requests / 50 + 1 };
        let tried = (1..=requests).step_by(stride as usize);
        let count = tried.clone().count();
        for nth in tried {
            let (code, told, error) = load(nth);
            assert_eq!(
                (code, told.as_str(), &error[..]),
                (Some(EXHAUSTED), "", &b"no memory"[..]),
                "{file}: request {nth}"
            );
        }
        assert_eq!(load(requests + 1000).0, Some(0));
        println!("{file}: {count} of {requests} requests failed, each an orderly end");
    }
}

const SAMPLES: &str = "models/kws_dscnn/samples.npy";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
    command.env_remove("TRACTLET_PLAN_CACHE").env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command
}

/// Each request of the start and of starting threads fails in turn, by a library that is preloaded: also what the standard library
/// and the C library ask for past the allocator. The program ends with a message and by no signal all the same.
fn what_others_ask_for_may_fail() {
    if !cfg!(target_env = "gnu") {
        println!("skipped: nothing is preloaded into a static program");
        return;
    }
    // `make asan` sets it.
    if std::env::var_os("ASAN_OPTIONS").is_some() {
        println!("skipped: AddressSanitizer has a malloc of its own, before all that is preloaded");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("no_memory.so");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(cc)
        .args(["-shared", "-fPIC", "tests/no_memory.c", "-ldl", "-o"])
        .arg(&library)
        .status()
        .expect("cc, which Rust links with");
    assert!(built.success());
    let (mut refused, mut past_the_allocator, mut before_main) = (0, 0, 0);
    for from in ["start", "thread"] {
        for nth in 1..=24 {
            let mut run = program();
            run.args(["run", MODEL, "--input", SAMPLES, "--threads", "3"]);
            run.env("LD_PRELOAD", &library).env("FAIL_FROM", from).env("FAIL_REQUEST", nth.to_string());
            let output = run.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => {}
                Some(EXHAUSTED) => {
                    refused += 1;
                    assert!(!said.is_empty(), "{from} {nth}");
                    past_the_allocator += u32::from(!said.starts_with("error: "));
                }
                // Rust's own start, before anything is in place.
                None if refused == 0 && before_main < 2 => before_main += 1,
                _ => panic!("{from} {nth}: {}, {said}", output.status),
            }
        }
    }
    println!("{refused} of 48 requests were an orderly end, {past_the_allocator} of them past the allocator");
    assert!(refused > 24 && past_the_allocator > 0);
}

/// Runs the program named by its arguments on a kernel that, as it seems to it, has no O_TMPFILE.
fn without_files_that_have_no_name() {
    const O_TMPFILE: u64 = 0o20_000_000;
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let asks = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(O_TMPFILE), O_TMPFILE).unwrap();
    let rules = [(i64::from(linux_raw_sys::general::__NR_openat), vec![SeccompRule::new(vec![asks]).unwrap()])];
    let not_here = SeccompAction::Errno(rustix::io::Errno::OPNOTSUPP.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules.into(), SeccompAction::Allow, not_here, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let error = program().args(args).env_remove(TRY).exec();
    panic!("{error}");
}

/// A run that takes long enough to be ended in the middle, begun, and with its output open.
struct Begun {
    child: Child,
    folder: tempfile::TempDir,
}

impl Begun {
    fn new(has_unnamed: bool) -> Begun {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("x.npy");
        let mut writer = npy::Writer::create(&input, DType::F32, &[20_000, 1, 49, 10]).unwrap();
        writer.write(&vec![0; 20_000 * 490 * 4]).unwrap();
        writer.finish().unwrap().publish().unwrap();
        let mut run = if has_unnamed { program() } else { Command::new(std::env::current_exe().unwrap()) };
        run.env(TRY, "named")
            .args(["run", MODEL, "--output"])
            .arg(folder.path().join("y.npy"))
            .arg("--input")
            .arg(input);
        let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Begun { child, folder };
        let patience = Instant::now() + Duration::from_secs(60);
        while begun.written().is_none() {
            assert!(Instant::now() < patience, "no output was opened");
            thread::sleep(Duration::from_millis(2));
        }
        begun
    }

    /// The file that is being written, as /proc shows it.
    fn written(&self) -> Option<PathBuf> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok()?;
        let mut files = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        files.find(|file| file.parent() == Some(self.folder.path()) && !file.ends_with("x.npy"))
    }

    /// What is in the folder beside the input.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "x.npy").collect()
    }

    fn send(&self, signal: i32) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

/// Whether whoever started this test had it ignore a signal, and so every program that it starts.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
}

fn nothing_is_left_of_a_file_that_was_not_finished() {
    let folder = File::open(std::env::temp_dir()).unwrap();
    match rustix::fs::openat(&folder, c".", OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR) {
        Ok(_) => {
            let mut begun = Begun::new(true);
            begun.send(SIGKILL);
            assert_eq!(begun.child.wait().unwrap().signal(), Some(SIGKILL));
            assert_eq!(begun.names(), [""; 0], "a file without a name");
        }
        Err(error) => println!("skipped: no file without a name in the folder of temporary ones: {error}"),
    }
    if !matches!(std::env::consts::ARCH, "x86_64" | "aarch64") {
        println!("skipped: seccompiler knows no {}", std::env::consts::ARCH);
        return;
    }
    for signal in [SIGINT, SIGTERM] {
        // As in the background of a shell, and the program leaves it at that.
        if is_ignored(signal) {
            println!("skipped: signal {signal} is ignored here");
            continue;
        }
        let mut begun = Begun::new(false);
        assert!(matches!(&begun.names()[..], [name] if name.ends_with(".part")), "{:?}", begun.names());
        begun.send(signal);
        assert_eq!(begun.child.wait().unwrap().signal(), Some(signal), "as if nobody had listened");
        assert_eq!(begun.names(), [""; 0], "a file with a name, signal {signal}");
    }
}

/// A folder that may be written to and not be read cannot be synced.
fn a_folder_that_cannot_be_brought_to_disk_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = 65534;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    mode(&closed, 0o333);
    let as_nobody = |mut command: Command| {
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(nobody).gid(nobody);
        }
        command
    };
    let mut look = as_nobody(Command::new("test"));
    if !look.args(["-x", env!("CARGO_BIN_EXE_tractlet"), "-a", "-r", MODEL]).status().unwrap().success() {
        println!("skipped: whoever may not do everything does not reach the program");
        return;
    }
    let mut run = as_nobody(program());
    let output = run.args(["run", MODEL, "--input", SAMPLES, "--output"]).arg(closed.join("y.npy")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be opened, which bringing a name to disk takes: Permission denied"), "{said}");
    mode(&closed, 0o755);
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}
