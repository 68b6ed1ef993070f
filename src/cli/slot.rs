//! `tractlet slot`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use tractlet::slot::{Golden, Manifest, Other, Package, SlotName, Slots, digest};
use tractlet::{ModelFile, OpenOptions};

use super::failure::Failure;
use super::in_use::fit;
use super::output;

/// Take new models on a device: signed, tested, and back to the old one if they fail
///
/// DIR has two slots, of which one is active: run, stream, eval, bench, footprint and inspect take DIR for a MODEL. A package
/// is a folder with a model or a plan, what belongs to it, and a manifest signed by minisign. It goes into the other slot,
/// becomes active on trial, and stays so once a run or ten windows of a stream went well; after three starts that ended in a
/// crash, or where its self-test fails, the older one is active again. A power cut leaves the old one or the new.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SlotArgs {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples, on the machine where models are made, with minisign (Debian: apt-get install minisign):
  # Once: minisign.pub and a secret key.
  minisign -G
  tractlet slot pack kws-7 --name kws --version 7 --board pi4
  minisign -Sm kws-7/manifest.toml

On the device:
  # The first; later ones without --key and --board.
  tractlet slot install /var/lib/tractlet/kws kws-7 --key minisign.pub \\
    --board pi4
  tractlet slot activate /var/lib/tractlet/kws
  tractlet stream /var/lib/tractlet/kws --source serial:/dev/ttyUSB0
  tractlet slot status /var/lib/tractlet/kws
  tractlet slot rollback /var/lib/tractlet/kws

JSON of status: active.{slot, version, board, model, error}, other.{slot, holds, version, board, model, error}, \
newest, trial, crashes. A slot whose files are not what was signed has an error, and the rest of it is null.";

#[derive(Subcommand)]
enum Action {
    Pack(PackArgs),
    Install(InstallArgs),
    /// Make the package active that was installed, on trial
    Activate(FolderArgs),
    /// Make the package active again that was active before
    Rollback(FolderArgs),
    Status(StatusArgs),
}

#[derive(Args)]
struct FolderArgs {
    /// The folder of slots
    dir: PathBuf,
}

/// Write the manifest of a package, to be signed
///
/// Every file in FOLDER goes into it with its SHA-256: model, plan, model.toml, labels, budget.toml. The budget's limits on
/// a plan are held on the device; golden values are .npy files of samples in FOLDER, which the model has to answer so there.
#[derive(Args)]
struct PackArgs {
    /// The folder of the package
    folder: PathBuf,
    /// What the model is for; a folder of slots takes packages of one name
    #[arg(long)]
    name: String,
    /// Has to be above that of every package before
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    version: u64,
    /// The board that it is for [default: any]
    #[arg(long)]
    board: Option<String>,
    /// Which file is MODEL [default: the only .plan file, else the only .onnx file]
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// Samples of an input, one file each in the model's order
    #[arg(long, value_name = "X.npy", requires = "golden_output")]
    golden_input: Vec<String>,
    /// What the outputs have to be on them
    #[arg(long, value_name = "Y.npy", requires = "golden_input")]
    golden_output: Vec<String>,
    /// Most that a float of them may be off
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    tolerance: f64,
}

/// Take a package into the slot that is not active
///
/// It is refused, and nothing is changed, where it is unsigned or altered, not newer than every one before, for another
/// board or purpose, or where its model fails the self-test or its plan is over the budget.toml in it.
#[derive(Args)]
struct InstallArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// The folder of the package
    package: PathBuf,
    /// Whose packages are taken: minisign.pub; needed once, when DIR is made
    #[arg(long, value_name = "FILE.pub")]
    key: Option<PathBuf>,
    /// The board that DIR is on, for packages that are for one; said once, when DIR is made
    #[arg(long)]
    board: Option<String>,
    /// Also activate it
    #[arg(long)]
    activate: bool,
}

/// Say what is in the slots
#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub fn slot(args: &SlotArgs) -> Result<(), Failure> {
    match &args.action {
        Action::Pack(args) => pack(args),
        Action::Install(args) => install(args),
        Action::Activate(args) => told("active, on trial", &opened(&args.dir)?.activate(&fit)?),
        Action::Rollback(args) => told("active again", &opened(&args.dir)?.roll_back()?),
        Action::Status(args) => status(args),
    }
}

/// The slots in a folder that has them.
fn opened(dir: &Path) -> Result<Slots, Failure> {
    if Slots::is_at(dir) {
        return Ok(Slots::open(dir)?);
    }
    let missing = if dir.is_dir() { "no slots here: it has no slots.toml" } else { "there is no such folder" };
    let what = "`tractlet slot install DIR PACKAGE --key FILE.pub` makes slots and takes a first package";
    Err(format!("{}: {missing}; {what}", dir.display()).into())
}

fn told(what: &str, package: &Package) -> Result<(), Failure> {
    let Manifest { name, version, .. } = package.manifest();
    output::text(&format!("{}: {name}, version {version}: {what}", package.folder().display()))
}

fn pack(args: &PackArgs) -> Result<(), Failure> {
    let folder = args.folder.display();
    let target = args.folder.join("manifest.toml");
    let mut files = BTreeMap::new();
    let entries = fs::read_dir(&args.folder).map_err(|error| format!("{folder}: cannot read it: {error}"))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !["manifest.toml", "manifest.toml.minisig"].contains(&name.as_str()) {
            files.insert(name, digest(&path)?);
        }
    }
    let only = |extension: &str| {
        let mut found = files.keys().filter(|name| Path::new(name).extension().is_some_and(|found| found == extension));
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    let model = args.model.clone().or_else(|| only("plan")).or_else(|| only("onnx"));
    let model =
        model.ok_or_else(|| format!("{folder}: it does not have one .plan or .onnx file; say which with --model"))?;
    // What cannot be opened is not worth a signature.
    ModelFile::open(args.folder.join(&model), &OpenOptions::default())?;
    let from = only("onnx").filter(|from| *from != model && model.ends_with(".plan"));
    let (inputs, outputs) = (args.golden_input.clone(), args.golden_output.clone());
    let golden = (!inputs.is_empty()).then_some(Golden { inputs, outputs, tolerance: args.tolerance });
    let mut manifest = Manifest::new(args.name.clone(), args.version, model, files);
    (manifest.board, manifest.from, manifest.golden) = (args.board.clone(), from, golden);
    manifest.check().map_err(|what| format!("{folder}: {what}"))?;
    output::file(&target, manifest.text())?;
    output::text(&format!("{}: written; now sign it: minisign -Sm {0}", target.display()))
}

fn install(args: &InstallArgs) -> Result<(), Failure> {
    let dir = &args.folder.dir;
    let key = args.key.as_ref().map(|path| {
        fs::read_to_string(path).map_err(|error| format!("{}: cannot read the key: {error}", path.display()))
    });
    let (key, board) = (key.transpose()?, args.board.as_deref());
    let slots = match (Slots::is_at(dir), &key) {
        (true, _) => Slots::open(dir)?,
        (false, Some(key)) => Slots::create(dir, key, board, &args.package, &fit)?,
        (false, None) => {
            return Err(format!("{}: no slots yet; --key says whose packages they take", dir.display()).into());
        }
    };
    if !slots.trusts(key.as_deref(), board) {
        let what = "its slots.toml has another key or board, which stay as they are; remove the folder to begin anew";
        return Err(format!("{}: {what}", dir.display()).into());
    }
    told("installed", &slots.install(&args.package, &fit)?)?;
    if args.activate { told("active, on trial", &slots.activate(&fit)?) } else { Ok(()) }
}

#[derive(Serialize)]
struct Report {
    active: Option<Held>,
    other: Held,
    newest: u64,
    trial: bool,
    crashes: u32,
}

#[derive(Serialize)]
struct Held {
    slot: SlotName,
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<Other>,
    version: Option<u64>,
    board: Option<String>,
    model: Option<PathBuf>,
    error: Option<String>,
}

impl Held {
    fn of(slot: SlotName, holds: Option<Other>, package: Option<Result<Package, String>>) -> Held {
        let (package, error) = match package {
            Some(Ok(package)) => (Some(package), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let manifest = package.as_ref().map(Package::manifest);
        let board = manifest.and_then(|manifest| manifest.board.clone());
        let (version, model) = (manifest.map(|manifest| manifest.version), package.as_ref().map(Package::model));
        Held { slot, holds, version, board, model, error }
    }

    fn row(&self, what: &str) -> Vec<String> {
        let version = self.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let board = self.board.clone().unwrap_or_else(|| "any".to_owned());
        let model = self.model.as_ref().map(|model| model.display().to_string());
        let model = model.or_else(|| self.error.clone()).unwrap_or_default();
        vec![self.slot.as_str().to_owned(), what.to_owned(), version, board, model]
    }
}

fn status(args: &StatusArgs) -> Result<(), Failure> {
    let status = opened(&args.folder.dir)?.status()?;
    let unwrapped = |package: Result<Package, _>| package.map_err(|error: tractlet::slot::SlotError| error.to_string());
    let active = status.active.map(|(slot, package)| Held::of(slot, None, Some(unwrapped(package))));
    let other = Held::of(status.other_slot, Some(status.other), status.in_other.map(unwrapped));
    let report = Report { active, other, newest: status.newest, trial: status.trial, crashes: status.crashes };
    if args.json {
        return output::json(&report);
    }
    let state = match (report.trial, report.crashes) {
        (false, _) => "active".to_owned(),
        (true, 0) => "on trial".to_owned(),
        (true, crashes) => format!("on trial, {crashes} open"),
    };
    let holds = match status.other {
        Other::Nothing => "empty",
        Other::Newer => "installed",
        Other::Older => "older",
        Other::Withdrawn => "withdrawn",
    };
    let rows = report.active.iter().map(|held| held.row(&state)).chain([report.other.row(holds)]);
    output::text(&output::table(&["slot", "", "version", "board", "model"], 5, rows))
}
