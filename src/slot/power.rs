//! Power cuts between any two operations on a disk, and what may be left of those that were not synced.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use minisign::KeyPair;

use super::disk::{Disk, Lock};
use super::manifest::{MANIFEST, Manifest, SIGNATURE};
use super::{Other, SlotErrorKind, Slots, State};

const DIR: &str = "/slots";

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Folder,
    File(usize),
}

/// What was done, in order.
#[derive(Clone)]
enum Step {
    /// Names that a folder gains, loses or gives to others, all at once.
    Names(PathBuf, Vec<(PathBuf, Option<Node>)>),
    Contents(usize, Vec<u8>),
    SyncFolder(PathBuf),
    SyncFile(usize),
}

#[derive(Clone, Default)]
struct Files {
    names: BTreeMap<PathBuf, Node>,
    contents: BTreeMap<usize, Vec<u8>>,
}

/// A disk that knows every step that was taken since it was made.
#[derive(Clone, Default)]
struct Record {
    now: Files,
    first: Files,
    steps: Vec<Step>,
    uses: Arc<()>,
    /// It takes nothing, for now.
    full: bool,
}

#[derive(Clone, Default)]
struct Simulated(Arc<RwLock<Record>>);

#[derive(Debug)]
struct Unlocked;
impl Lock for Unlocked {}
impl Lock for Arc<()> {}

impl Files {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Names(_, changes) => {
                for (path, node) in changes {
                    match node {
                        Some(node) => self.names.insert(path.clone(), *node),
                        None => self.names.remove(path),
                    };
                }
            }
            Step::Contents(file, bytes) => drop(self.contents.insert(*file, bytes.clone())),
            Step::SyncFolder(_) | Step::SyncFile(_) => {}
        }
    }

    /// The number of a file that has no name and no contents.
    fn unused(&self) -> usize {
        let named = self.names.values().map(|node| if let Node::File(file) = node { *file } else { 0 });
        named.chain(self.contents.keys().copied()).max().map_or(0, |last| last + 1)
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Folder) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Simulated {
    fn of(files: Files) -> Simulated {
        Simulated(Arc::new(RwLock::new(Record { now: files.clone(), first: files, ..Record::default() })))
    }

    fn take(&self, step: Step) {
        let mut record = self.0.write().unwrap();
        record.now.apply(&step);
        record.steps.push(step);
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        self.write(Path::new(path), &mut &*bytes).unwrap();
    }

    /// Every state that a power cut right behind the first `cut` steps may leave: of what was not synced, names in any
    /// selection, contents none, half or whole.
    fn after_power_cut(&self, cut: usize, mut each: impl FnMut(Files)) {
        let record = self.0.read().unwrap();
        let (mut safe, mut open) = (record.first.clone(), Vec::new());
        for step in &record.steps[..cut] {
            let is_synced = |other: &Step| match (step, other) {
                (Step::SyncFolder(folder), Step::Names(parent, _)) => folder == parent,
                (Step::SyncFile(synced), Step::Contents(file, _)) => synced == file,
                _ => false,
            };
            match step {
                Step::Names(..) | Step::Contents(..) => open.push(step.clone()),
                Step::SyncFolder(_) | Step::SyncFile(_) => {
                    open.iter().filter(|other| is_synced(other)).for_each(|other| safe.apply(other));
                    open.retain(|other| !is_synced(other));
                }
            }
        }
        let ways: Vec<usize> = open.iter().map(|step| if matches!(step, Step::Names(..)) { 2 } else { 3 }).collect();
        for mut choice in 0..ways.iter().product() {
            let mut files = safe.clone();
            for (step, ways) in open.iter().zip(&ways) {
                match (step, choice % ways) {
                    (_, 0) => {}
                    (Step::Contents(file, bytes), 1) => {
                        files.apply(&Step::Contents(*file, bytes[..bytes.len() / 2].to_vec()));
                    }
                    _ => files.apply(step),
                }
                choice /= ways;
            }
            each(files);
        }
    }
}

fn above(path: &Path) -> PathBuf {
    path.parent().unwrap().to_owned()
}

impl Disk for Simulated {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let now = &self.0.read().unwrap().now;
        // A name may be on disk before any of the contents.
        Ok(Box::new(Cursor::new(now.contents.get(&now.file(path)?).cloned().unwrap_or_default())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = &self.0.read().unwrap().now.names;
        let inside = names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn write(&self, path: &Path, contents: &mut dyn Read) -> io::Result<()> {
        if self.0.read().unwrap().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes)?;
        let found = self.0.read().unwrap().now.file(path);
        let file = match found {
            Ok(file) => file,
            Err(_) => {
                let file = self.0.read().unwrap().now.unused();
                self.take(Step::Names(above(path), vec![(path.to_owned(), Some(Node::File(file)))]));
                file
            }
        };
        self.take(Step::Contents(file, bytes));
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let node = self.0.read().unwrap().now.names.get(path).copied();
        self.take(match node {
            Some(Node::File(file)) => Step::SyncFile(file),
            _ => Step::SyncFolder(path.to_owned()),
        });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.0.read().unwrap().now.file(from)?;
        self.take(Step::Names(above(to), vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(file)))]));
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if !self.0.read().unwrap().now.names.contains_key(path) {
            self.take(Step::Names(above(path), vec![(path.to_owned(), Some(Node::Folder))]));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.read().unwrap().now.file(path)?;
        self.take(Step::Names(above(path), vec![(path.to_owned(), None)]));
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(Unlocked))
    }

    fn use_of(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(Arc::clone(&self.0.read().unwrap().uses)))
    }

    fn is_in_use(&self, _: &Path) -> io::Result<bool> {
        Ok(Arc::strong_count(&self.0.read().unwrap().uses) > 1)
    }
}

/// A signed package of one file below `/v<version>`.
fn package(disk: &Simulated, keys: &KeyPair, version: u64) -> PathBuf {
    let folder = format!("/v{version}");
    let model = format!("model {version}");
    disk.create_folder(Path::new(&folder)).unwrap();
    disk.put(&format!("{folder}/m.onnx"), model.as_bytes());
    let digest = super::package::sha256(model.as_bytes()).unwrap();
    let manifest = Manifest::new("walk".into(), version, "m.onnx".into(), [("m.onnx".to_owned(), digest)].into());
    let signature = minisign::sign(Some(&keys.pk), &keys.sk, manifest.text().as_bytes(), None, None).unwrap();
    disk.put(&format!("{folder}/{MANIFEST}"), manifest.text().as_bytes());
    disk.put(&format!("{folder}/{SIGNATURE}"), signature.into_string().as_bytes());
    folder.into()
}

fn open(disk: &Simulated) -> Slots {
    Slots::on(Box::new(disk.clone()), Path::new(DIR)).unwrap()
}

/// A use that went well.
fn confirm(slots: &Slots) {
    slots.confirm(&mut slots.begin(&|_| Ok(())).unwrap()).unwrap();
}

/// The version that runs.
fn active(disk: &Simulated) -> u64 {
    open(disk).begin(&|_| Ok(())).unwrap().package().manifest().version
}

/// Slots with versions 1 and 2 behind them, 2 active and confirmed, and version 3 at hand.
fn prepared() -> Simulated {
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    let disk = Simulated::default();
    let packages: Vec<PathBuf> = (1..=4).map(|version| package(&disk, &keys, version)).collect();
    let slots =
        Slots::create_on(Box::new(disk.clone()), Path::new(DIR), &keys.pk.to_base64(), None, &packages[0], &|_| Ok(()))
            .unwrap();
    for package in &packages[..2] {
        slots.install(package, &|_| Ok(())).unwrap();
        slots.activate(&|_| Ok(())).unwrap();
        confirm(&slots);
    }
    let files = disk.0.read().unwrap().now.clone();
    Simulated::of(files)
}

/// Cuts the power at every point of `work`, and says how many states were looked at and which versions ran in them.
fn cut(from: &Simulated, work: impl Fn(&Slots)) -> (usize, Vec<u64>) {
    work(&open(from));
    let steps = from.0.read().unwrap().steps.len();
    let (mut states, mut versions) = (0, Vec::new());
    for cut in 0..=steps {
        from.after_power_cut(cut, |files| {
            let left = Simulated::of(files);
            states += 1;
            versions.push(active(&left));
            // And it goes on from there, whatever lies about.
            let slots = open(&left);
            let state = slots.state().unwrap();
            let newest = state.newest;
            if state.trial && state.other == Other::Older {
                confirm(&slots);
            }
            slots.install(Path::new(&format!("/v{}", newest + 1)), &|_| Ok(())).unwrap();
            slots.activate(&|_| Ok(())).unwrap();
            assert_eq!(active(&left), newest + 1);
        });
    }
    let last = *versions.last().unwrap();
    versions.sort_unstable();
    versions.dedup();
    assert!(versions.contains(&last));
    println!("{steps} steps, {states} states, versions {versions:?}");
    (states, versions)
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_at_every_step() {
    let installing = prepared();
    let (states, versions) = cut(&installing, |slots| drop(slots.install(Path::new("/v3"), &|_| Ok(())).unwrap()));
    assert!(states > 200, "{states}");
    assert_eq!(versions, [2]);

    let installed = Simulated::of(installing.0.read().unwrap().now.clone());
    let (_, versions) = cut(&installed, |slots| drop(slots.activate(&|_| Ok(())).unwrap()));
    assert_eq!(versions, [2, 3]);

    let activated = Simulated::of(installed.0.read().unwrap().now.clone());
    let (_, versions) = cut(&activated, |slots| drop(slots.roll_back().unwrap()));
    assert_eq!(versions, [2, 3]);

    let trial = Simulated::of(installed.0.read().unwrap().now.clone());
    let (_, versions) = cut(&trial, confirm);
    assert_eq!(versions, [3]);
}

#[test]
fn a_disk_that_syncs_no_contents_is_noticed() {
    // The proof that the simulation can fail: without the sync of contents there are states with half a file.
    let disk = prepared();
    open(&disk).install(Path::new("/v3"), &|_| Ok(())).unwrap();
    open(&disk).activate(&|_| Ok(())).unwrap();
    disk.0.write().unwrap().steps.retain(|step| !matches!(step, Step::SyncFile(_)));
    let (mut torn, steps) = (0, disk.0.read().unwrap().steps.len());
    disk.after_power_cut(steps, |files| torn += usize::from(open(&Simulated::of(files)).active().is_err()));
    assert!(torn > 0);
}

#[test]
fn crashes_on_trial_bring_the_older_package_back() {
    let disk = prepared();
    let slots = open(&disk);
    slots.install(Path::new("/v3"), &|_| Ok(())).unwrap();
    slots.activate(&|_| Ok(())).unwrap();
    assert_eq!(slots.install(Path::new("/v4"), &|_| Ok(())).unwrap_err().kind(), SlotErrorKind::Nothing);
    // An orderly end is no crash.
    slots.excuse(&mut slots.begin(&|_| Ok(())).unwrap()).unwrap();
    let versions: Vec<u64> = (0..5).map(|_| active(&disk)).collect();
    assert_eq!(versions, [3, 3, 3, 2, 2]);
    assert_eq!(slots.activate(&|_| Ok(())).unwrap_err().kind(), SlotErrorKind::Nothing);
    assert_eq!(slots.install(Path::new("/v3"), &|_| Ok(())).unwrap_err().kind(), SlotErrorKind::Version);
    slots.install(Path::new("/v4"), &|_| Ok(())).unwrap();
    slots.activate(&|_| Ok(())).unwrap();
    let unfit = |package: &super::Package| if package.manifest().version == 4 { Err("no".to_owned()) } else { Ok(()) };
    assert_eq!(slots.begin(&unfit).unwrap().package().manifest().version, 2);
    assert_eq!(
        slots.state().unwrap(),
        State { other: Other::Withdrawn, trial: false, crashes: 0, ..slots.state().unwrap() }
    );
}

#[test]
fn what_a_full_disk_did_not_take_is_told_again() {
    let disk = prepared();
    let slots = open(&disk);
    slots.install(Path::new("/v3"), &|_| Ok(())).unwrap();
    slots.activate(&|_| Ok(())).unwrap();
    let mut start = slots.begin(&|_| Ok(())).unwrap();
    disk.0.write().unwrap().full = true;
    assert_eq!(slots.confirm(&mut start).unwrap_err().kind(), SlotErrorKind::Io);
    assert!(start.is_on_trial());
    disk.0.write().unwrap().full = false;
    slots.excuse(&mut start).unwrap();
    let state = slots.state().unwrap();
    assert!(state.trial && state.crashes == 0 && !start.is_on_trial(), "{state:?}");
}

#[test]
fn starts_that_go_on_are_no_crashes() {
    let disk = prepared();
    let slots = open(&disk);
    slots.install(Path::new("/v3"), &|_| Ok(())).unwrap();
    slots.activate(&|_| Ok(())).unwrap();
    let begun = || slots.begin(&|_| Ok(())).unwrap();
    let mut going_on: Vec<_> = (0..5).map(|_| begun()).collect();
    assert!(going_on.iter().all(|start| start.package().manifest().version == 3));
    // Three of them crash; while another goes on it may yet prove the package.
    going_on.truncate(2);
    assert_eq!(begun().package().manifest().version, 3);
    going_on.iter_mut().for_each(|start| slots.excuse(start).unwrap());
    drop(going_on);
    assert_eq!(begun().package().manifest().version, 2);
}

#[test]
fn a_first_package_that_is_refused_leaves_no_folder() {
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    let disk = Simulated::default();
    let first = package(&disk, &keys, 1);
    let create = |board, check: super::Check<'_>| {
        let key = keys.pk.to_base64();
        Slots::create_on(Box::new(disk.clone()), Path::new(DIR), &key, board, &first, check).map(drop)
    };
    let kind = |refused: super::Result<()>| refused.unwrap_err().kind();
    assert_eq!(kind(create(None, &|_| Err("no".to_owned()))), SlotErrorKind::Unfit);
    assert_eq!(kind(create(Some("pi4\"\nkey = \"x"), &|_| Ok(()))), SlotErrorKind::Format);
    assert!(!disk.0.read().unwrap().now.names.keys().any(|path| path.starts_with(DIR)));
    create(Some("pi4"), &|_| Ok(())).unwrap();
    assert!(open(&disk).trusts(None, Some("pi4")));
}

#[test]
fn a_slot_that_loses_a_file_is_given_up_for_the_older_one() {
    let disk = prepared();
    let of_two = if active(&disk) == 2 { "b" } else { "a" };
    disk.remove(Path::new(&format!("{DIR}/{of_two}/m.onnx"))).unwrap();
    assert_eq!((active(&disk), active(&disk)), (1, 1));
}

#[test]
fn a_slot_that_decays_is_not_used() {
    let disk = prepared();
    let of_two = if active(&disk) == 2 { "b" } else { "a" };
    disk.put(&format!("{DIR}/{of_two}/m.onnx"), b"model 3");
    assert_eq!(open(&disk).active().unwrap_err().kind(), SlotErrorKind::Altered);
    // The older one takes over, and stays.
    assert_eq!((active(&disk), active(&disk)), (1, 1));
    // A file more than was signed could be read by a model.
    disk.put(&format!("{DIR}/a/labels.txt"), b"x");
    assert_eq!(open(&disk).active().unwrap_err().kind(), SlotErrorKind::Altered);
}
