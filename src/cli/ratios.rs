//! A report of `bench` held against an earlier one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::output;

/// An earlier report, as far as it is compared.
pub struct Earlier {
    path: PathBuf,
    report: Report,
}

#[derive(Deserialize)]
struct Report {
    #[serde(flatten)]
    setting: Setting,
    median_us: f64,
    #[serde(default)]
    ops: Option<Vec<Op>>,
}

/// What has to be the same for a ratio to be of the program or of the machine. Reports of earlier versions state less.
#[derive(Deserialize)]
pub struct Setting {
    pub model: Option<String>,
    pub model_sha256: Option<String>,
    pub engine: String,
    pub provider: Option<String>,
    pub threads: Option<u32>,
    pub batch: Option<usize>,
    pub hop: Option<usize>,
}

#[derive(Deserialize)]
struct Op {
    name: String,
    kind: String,
    median_us: f64,
}

/// Ratios of medians, this report's to the earlier one's: below 1 is faster now.
#[derive(Debug, PartialEq, Serialize)]
pub struct Comparison {
    #[serde(serialize_with = "output::path_text")]
    file: PathBuf,
    /// The engine that the earlier report is of.
    earlier_engine: String,
    earlier_median_us: f64,
    median_ratio: f64,
    /// In what else the two are not alike.
    differences: Vec<Difference>,
    /// Where both have a profile: this report's steps in their order, then those that only the earlier has.
    ops: Option<Vec<OpRatio>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    what: &'static str,
    now: Option<String>,
    earlier: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct OpRatio {
    name: String,
    kind: String,
    now_us: Option<f64>,
    earlier_us: Option<f64>,
    /// Null where only one report has the step, or the clock saw no time pass.
    ratio: Option<f64>,
}

/// A profile of a thousand steps is a fifth of a megabyte.
const MOST_BYTES: u64 = 64 << 20;

impl Earlier {
    pub fn read(path: &Path) -> Result<Earlier, Failure> {
        let fault = |why: String| Failure::Because(format!("{}: {why}", path.display()));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
        let bytes = read.map_err(|error| fault(format!("cannot read the report to compare with: {error}")))?;
        if bytes as u64 > MOST_BYTES {
            return Err(fault(format!("more than {MOST_BYTES} bytes, which no report of `tractlet bench` has")));
        }
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| fault(format!("not a report of `tractlet bench --json`: {error}")))?;
        if !(report.median_us > 0.0 && report.median_us.is_finite()) {
            return Err(fault(format!("its `median_us` is {}, to which nothing has a ratio", report.median_us)));
        }
        if let Some(op) = report.ops.iter().flatten().find(|op| op.median_us < 0.0) {
            return Err(fault(format!("`median_us` of its step `{}` is {}", op.name, op.median_us)));
        }
        Ok(Earlier { path: path.to_owned(), report })
    }

    /// `ops` are name, kind and median of the steps now, if they were timed.
    pub fn compare<'a>(
        self,
        now: &Setting,
        median_us: f64,
        ops: Option<impl Iterator<Item = (&'a str, &'a str, f64)>>,
    ) -> Comparison {
        let Report { setting, median_us: earlier_median_us, ops: earlier_ops } = self.report;
        Comparison {
            file: self.path,
            differences: now.differences(&setting),
            earlier_engine: setting.engine,
            earlier_median_us,
            median_ratio: median_us / earlier_median_us,
            ops: ops.zip(earlier_ops).map(|(now, earlier)| by_step(now, earlier)),
        }
    }
}

impl Setting {
    fn differences(&self, earlier: &Setting) -> Vec<Difference> {
        let model = (self.model_sha256 != earlier.model_sha256).then(|| Difference {
            what: "model",
            now: self.model(),
            earlier: earlier.model(),
        });
        let rest = self.rest().into_iter().zip(earlier.rest()).filter(|(now, earlier)| now != earlier);
        let rest = rest.map(|((what, now), (_, earlier))| Difference { what, now, earlier });
        model.into_iter().chain(rest).collect()
    }

    /// Its name, and what tells it from others of that name.
    fn model(&self) -> Option<String> {
        let digest = self.model_sha256.as_ref()?;
        Some(format!("{} (SHA-256 {})", self.model.as_deref()?, digest.get(..12).unwrap_or(digest)))
    }

    fn rest(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("engine", Some(self.engine.clone())),
            ("provider", self.provider.clone()),
            ("threads", self.threads.map(|threads| threads.to_string())),
            ("batch", self.batch.map(|batch| batch.to_string())),
            ("hop", self.hop.map(|rows| rows.to_string())),
        ]
    }
}

/// Steps of the same name and kind belong together, the first to the first and so on: a node may be several.
fn by_step<'a>(now: impl Iterator<Item = (&'a str, &'a str, f64)>, earlier: Vec<Op>) -> Vec<OpRatio> {
    let mut places: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (index, op) in earlier.iter().enumerate().rev() {
        places.entry((op.name.clone(), op.kind.clone())).or_default().push(index);
    }
    let mut earlier: Vec<Option<Op>> = earlier.into_iter().map(Some).collect();
    let mut ratios = vec![];
    for (name, kind, now_us) in now {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        let place = places.get_mut(&(name.clone(), kind.clone())).and_then(Vec::pop);
        let found = place.and_then(|index| earlier.get_mut(index)?.take());
        let earlier_us = found.map(|op| op.median_us);
        let ratio = earlier_us.filter(|&us| us > 0.0).map(|us| now_us / us);
        ratios.push(OpRatio { name, kind, now_us: Some(now_us), earlier_us, ratio });
    }
    let gone =
        |op: Op| OpRatio { name: op.name, kind: op.kind, now_us: None, earlier_us: Some(op.median_us), ratio: None };
    ratios.extend(earlier.into_iter().flatten().map(gone));
    ratios
}

impl Comparison {
    pub fn text(&self) -> String {
        let Comparison { file, earlier_engine, earlier_median_us, median_ratio, differences, ops } = self;
        let mut text = format!(
            "median {median_ratio:.3} times that of {}, {earlier_median_us:.1} us on {earlier_engine}\n",
            file.display()
        );
        for Difference { what, now, earlier } in differences {
            let [now, earlier] = [now, earlier].map(|value| value.as_deref().unwrap_or("not stated"));
            text += &format!("note: not alike: {what} {now}, in the earlier report {earlier}\n");
        }
        match ops {
            None => text += "no steps compared: that takes --profile now and in the earlier report\n",
            Some(ops) => {
                let figure = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{us:.1}"));
                let row = |op: &OpRatio| {
                    let ratio = op.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
                    vec![op.name.clone(), op.kind.clone(), figure(op.now_us), figure(op.earlier_us), ratio]
                };
                let header = ["step", "kind", "now us", "earlier us", "ratio"];
                text += &format!("\n{}", output::table(&header, 2, ops.iter().map(row)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(text: &str) -> Result<Earlier, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Earlier::read(file.path()).map_err(|failure| match failure {
            Failure::Because(why) if why.starts_with(&file.path().display().to_string()) => why,
            _ => panic!("the error does not name the file"),
        })
    }

    fn setting() -> Setting {
        Setting {
            model: Some("a.onnx".to_owned()),
            model_sha256: Some("0123456789abcdef".to_owned()),
            engine: "plan".to_owned(),
            provider: None,
            threads: Some(1),
            batch: Some(1),
            hop: None,
        }
    }

    #[test]
    fn what_is_not_alike_is_said() {
        let none: Option<std::iter::Empty<(&str, &str, f64)>> = None;
        let report = r#"{"model": "b.onnx", "model_sha256": "0123456789abcdef", "engine": "plan", "threads": 1, "batch": 1,
            "median_us": 50.0}"#;
        let comparison = earlier(report).unwrap().compare(&setting(), 25.0, none.clone());
        assert_eq!(comparison.differences, [], "a model is what is in it");
        let report = r#"{"model": "a.onnx", "model_sha256": "ff", "engine": "ort", "provider": "cuda", "threads": 4, "batch": 8,
            "hop": 16, "median_us": 50.0}"#;
        let comparison = earlier(report).unwrap().compare(&setting(), 25.0, none.clone());
        let what: Vec<_> = comparison.differences.iter().map(|difference| difference.what).collect();
        assert_eq!(what, ["model", "engine", "provider", "threads", "batch", "hop"]);
        let text = comparison.text();
        for line in [
            "model a.onnx (SHA-256 0123456789ab), in the earlier report a.onnx (SHA-256 ff)\n",
            "threads 1, in the earlier report 4\n",
            "hop not stated, in the earlier report 16\n",
        ] {
            assert!(text.contains(&format!("note: not alike: {line}")), "{text}");
        }
        let comparison = earlier(r#"{"engine": "plan", "median_us": 50.0}"#).unwrap().compare(&setting(), 25.0, none);
        assert!(comparison.text().contains("not alike: threads 1, in the earlier report not stated"));
    }

    #[test]
    fn steps_are_matched_by_name_kind_and_turn() {
        let report = r#"{"engine": "plan", "median_us": 50.0, "ops": [
            {"name": "a", "kind": "ConvS8", "median_us": 10.0}, {"name": "a", "kind": "ConvS8", "median_us": 20.0},
            {"name": "b", "kind": "Copy", "median_us": 0.0}, {"name": "gone", "kind": "Copy", "median_us": 3.0}]}"#;
        let now = [("a", "ConvS8", 5.0), ("b", "Copy", 1.0), ("a", "ConvS8", 30.0), ("b", "ConvS8", 4.0)];
        let comparison = earlier(report).unwrap().compare(&setting(), 40.0, Some(now.into_iter()));
        assert_eq!(comparison.median_ratio, 0.8);
        let found: Vec<_> = comparison.ops.iter().flatten().map(|op| (op.name.as_str(), op.ratio)).collect();
        assert_eq!(found, [("a", Some(0.5)), ("b", None), ("a", Some(1.5)), ("b", None), ("gone", None)]);
        assert!(comparison.text().contains("median 0.800 times that of"), "{}", comparison.text());
    }

    #[test]
    fn without_both_profiles_only_the_whole_is_compared() {
        let none: Option<std::iter::Empty<(&str, &str, f64)>> = None;
        let report = r#"{"engine": "tract", "median_us": 50.0, "ops": []}"#;
        assert_eq!(earlier(report).unwrap().compare(&setting(), 25.0, none).ops, None);
        let report = r#"{"engine": "tract", "median_us": 50.0}"#;
        let comparison = earlier(report).unwrap().compare(&setting(), 25.0, Some([("a", "b", 1.0)].into_iter()));
        assert_eq!((comparison.median_ratio, comparison.ops), (0.5, None));
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_fault() {
        for (text, part) in [
            ("", "not a report of `tractlet bench --json`: EOF"),
            (r#"{"engine": "plan"}"#, "missing field `median_us`"),
            (r#"{"median_us": 5}"#, "missing field `engine`"),
            (r#"{"engine": "plan", "median_us": null}"#, "invalid type: null"),
            (r#"{"engine": "plan", "median_us": 0}"#, "its `median_us` is 0"),
            (r#"{"engine": "plan", "median_us": 1, "ops": [{"name": "a"}]}"#, "missing field `kind`"),
            (
                r#"{"engine": "plan", "median_us": 1, "ops": [{"name": "a", "kind": "b", "median_us": -1}]}"#,
                "`a` is -1",
            ),
        ] {
            let why = earlier(text).err().unwrap();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
