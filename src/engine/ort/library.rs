//! Where the shared library of ONNX Runtime is, and what it needs for a GPU.
//!
//! A process loads one library of it, at the first session that asks. Python's onnxruntime packages hold the same
//! library as any other build, so an environment that has one is as good a place as /usr/lib.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::logging::LogLevel;
use ort::util::preload_dylib;

use super::probe::{self, Unfit};

/// Names the library, or the folder that it is in. Nowhere else is looked then.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// What the dynamic loader is asked for: it knows LD_LIBRARY_PATH and its own cache.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];
const FOLDERS: [&str; 3] = ["/usr/local/lib", "/usr/lib", "/opt/onnxruntime/lib"];
/// CUDA's libraries, each after those that it needs.
const CUDA: [&str; 17] = [
    "libcudart",
    "libnvJitLink",
    "libnvrtc",
    "libcublasLt",
    "libcublas",
    "libcurand",
    "libcufft",
    "libcudnn",
    "libcudnn_graph",
    "libcudnn_ops",
    "libcudnn_heuristic",
    "libcudnn_cnn",
    "libcudnn_adv",
    "libcudnn_engines_precompiled",
    "libcudnn_engines_runtime_compiled",
    "libnvinfer",
    "libnvonnxparser",
];

/// The library that this process uses, or why `ort` did not take what was found: it is not asked again.
static LOADED: Mutex<Option<Result<PathBuf, String>>> = Mutex::new(None);

/// Loads the library unless that was done, and says where it was found.
pub(super) fn load() -> Result<PathBuf, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &*loaded {
        return known.clone();
    }
    let mut tried = Vec::new();
    for candidate in candidates()? {
        match probe::load(&candidate) {
            Ok(()) => {
                // `ort` would look for a bare name beside the binary first.
                let path = if candidate.is_relative() { mapped().unwrap_or(candidate) } else { candidate };
                let taken = ort::init_from(&path).map_err(|error| error.to_string()).map(|environment| {
                    environment.with_telemetry(false).with_logger(Arc::new(log)).commit();
                    log::info!("ONNX Runtime: {}", path.display());
                    path
                });
                return loaded.insert(taken).clone();
            }
            // The loader's own search finding nothing is no news.
            Err(Unfit::Load(error)) if candidate.is_relative() && is_absent(&error, &candidate) => {}
            Err(unfit) => tried.push(format!("{} {unfit}", candidate.display())),
        }
    }
    let tried = if tried.is_empty() { "none was found".to_owned() } else { tried.join("; ") };
    let (major, least) = (1, ort::MINOR_VERSION);
    Err(format!(
        "engine ort needs the shared library of ONNX Runtime {major}.{least} or later: {tried}. Install one \
         (`pip install onnxruntime`, or onnxruntime-gpu for CUDA, into the active Python environment; or a release \
         archive) or name it: {VARIABLE}=/path/to/libonnxruntime.so"
    ))
}

/// Whether the loader found no such library, rather than one that it could not load.
fn is_absent(error: &libloading::Error, name: &Path) -> bool {
    let error = error.to_string();
    error.contains("No such file") && error.contains(&format!("{}:", name.display()))
}

/// Where the library that was just loaded lies.
fn mapped() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| Some(Path::new(line.get(line.find('/')?..)?)));
    let is_it =
        |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"));
    paths.into_iter().find(is_it).map(Path::to_owned)
}

/// What it says goes where this library's own words go. Its warnings are about choices that it made by itself, such as
/// running shape arithmetic on the CPU.
fn log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    let level = match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Warn,
        LogLevel::Warning => log::Level::Info,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Verbose => log::Level::Trace,
    };
    log::log!(level, "ONNX Runtime: {message} ({place})");
}

/// The likeliest first.
fn candidates() -> Result<Vec<PathBuf>, String> {
    if let Some(named) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        if named.is_dir() {
            let found = in_folder(&named);
            return found
                .map(|path| vec![path])
                .ok_or_else(|| format!("{VARIABLE}={}: this folder has no libonnxruntime.so", named.display()));
        }
        if !named.is_file() {
            return Err(format!("{VARIABLE}={}: there is no such file", named.display()));
        }
        // An absolute path: a relative one would be looked for beside the binary.
        return std::path::absolute(&named).map(|path| vec![path]).map_err(|error| format!("{VARIABLE}: {error}"));
    }
    let beside = env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_owned));
    let beside = beside.iter().flat_map(|folder| [folder.clone(), folder.join("lib"), folder.join("../lib")]);
    let usual = FOLDERS.into_iter().map(PathBuf::from).chain([PathBuf::from(format!("/usr/lib/{}", triple()))]);
    let python = site_packages().into_iter().map(|site| site.join("onnxruntime/capi"));
    let found = |folders: Vec<PathBuf>| folders.into_iter().filter_map(|folder| in_folder(&folder)).collect::<Vec<_>>();
    let mut all = found(beside.collect());
    all.extend(NAMES.map(PathBuf::from));
    all.extend(found(usual.chain(python).collect()));
    Ok(all)
}

/// Debian's name for the folder of this machine's libraries.
fn triple() -> String {
    format!("{}-linux-gnu", env::consts::ARCH)
}

/// The library in a folder: by its plain name, or the newest of those that have their version in it.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join("libonnxruntime.so");
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix("libonnxruntime.so.")?;
        let version: Vec<u32> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        Some((version, path))
    });
    versioned.max().map(|(_, path)| path)
}

/// Where Python packages are: the active environment's, the user's, the system's.
fn site_packages() -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(|name| env::var_os(name).map(PathBuf::from));
    let user = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local"));
    let system = [PathBuf::from("/usr/local"), PathBuf::from("/usr")];
    let mut sites = Vec::new();
    for lib in active.chain(user).chain(system).map(|prefix| prefix.join("lib")) {
        let pythons = fs::read_dir(&lib).into_iter().flatten().filter_map(|entry| {
            let path = entry.ok()?.path();
            path.file_name()?.to_str()?.starts_with("python3").then_some(path)
        });
        let mut pythons: Vec<PathBuf> = pythons.collect();
        pythons.sort();
        sites.extend(pythons.iter().rev().flat_map(|p| [p.join("site-packages"), p.join("dist-packages")]));
    }
    sites.retain(|site| site.is_dir());
    sites
}

/// Loads CUDA's libraries out of the Python environment that has them, where there is one: the loader would not look
/// there. Where there is none they are where the loader does look, or the provider will name the one that is missing.
pub(super) fn preload_cuda(library: &Path) {
    // An onnxruntime package is beside the nvidia packages that were installed for it.
    let own = library.ancestors().nth(3).map(Path::to_owned);
    let Some(nvidia) = own.into_iter().chain(site_packages()).map(|site| site.join("nvidia")).find(|n| n.is_dir())
    else {
        return;
    };
    let folders = fs::read_dir(nvidia).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("lib")));
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let files: Vec<PathBuf> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for stem in CUDA {
        let is_it = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.strip_prefix(stem)).is_some_and(|rest| rest.starts_with(".so"))
        };
        for path in files.iter().filter(is_it) {
            match preload_dylib(path) {
                Ok(()) => log::debug!("loaded {}", path.display()),
                Err(error) => log::debug!("{}: {error}", path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_in_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), b"").unwrap();
        assert_eq!(in_folder(folder.path()), None);
        ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.18.1", "libonnxruntime_providers_shared.so"]
            .iter()
            .for_each(|name| put(name));
        ["libonnxruntime.so.old", "libonnxruntime.so."].iter().for_each(|name| put(name));
        assert_eq!(in_folder(folder.path()), Some(folder.path().join("libonnxruntime.so.1.18.1")));
        put("libonnxruntime.so");
        assert_eq!(in_folder(folder.path()), Some(folder.path().join("libonnxruntime.so")));
    }
}
