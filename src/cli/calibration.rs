//! Sessions as the quantizer asks for them: a model over the samples of .npy files.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tractlet::{DType, EngineChoice, Model, ModelError, ModelFile, Session, SessionOptions, TensorSpec};
use tractlet_quantize::{Engine, EngineError, Progress, QuantizeError};

use super::failure::Failure;
use super::runner::{Runner, Source};
use super::samples::Samples;
use super::set::SetArgs;
use super::{files, output, parse_dim};

/// What a command takes that makes another model of one, by samples of its input.
#[derive(Args)]
pub struct RemakeArgs {
    /// The float model, an .onnx file
    pub model: PathBuf,
    /// .npy file with samples for an input, or a folder of them; NAME may be left out where there is one input. Or one .npz
    /// file, as numpy.savez writes it, with an array for each input by its name
    #[arg(long, value_name = "[NAME=]X.npy", required = true)]
    pub calibration: Vec<PathBuf>,
    /// Write the model that is made to this file
    #[arg(long, short, value_name = "OUT.onnx")]
    pub output: PathBuf,
    /// Write the stored tensors to this file beside the model, and not into it
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    external_data: Option<String>,
    /// Engine that runs the float model and what becomes of it
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = str::parse::<EngineChoice>)]
    engine: EngineChoice,
    /// Size of a dimension that the model leaves open, by its name or, without one, as INPUT:AXIS; repeatable. An open batch is 1
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, usize)>,
    #[command(flatten)]
    set: SetArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Threads [default: the number of cores]. The result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    #[cfg(feature = "ort")]
    #[command(flatten)]
    ort: super::ort::OrtArgs,
}

/// What a protobuf message may hold.
const MODEL_BYTES: u64 = i32::MAX as u64;

/// ONNX looks for external data in the model's own folder.
fn file_name(text: &str) -> Result<String, String> {
    let is_name = !text.contains('/') && !matches!(text, "" | "." | "..");
    is_name.then(|| text.to_owned()).ok_or_else(|| "expected a name without a folder: it lies beside the model".into())
}

impl RemakeArgs {
    /// Does `work` on the model's bytes, and writes the model in what it gives. `overwriting` says what is refused where
    /// the output is the model itself.
    pub fn remake<T: Send>(
        &self,
        overwriting: &str,
        work: impl FnOnce(&[u8], &Sessions<'_>, &Bar) -> Result<T, QuantizeError> + Send,
        made: impl Fn(&T) -> &[u8],
    ) -> Result<T, Failure> {
        files::expect_file(&self.output)?;
        if files::same(&self.model, &self.output) {
            return Err(format!("{}: {overwriting}; give -o another name", self.output.display()).into());
        }
        let model = self.open()?;
        if model.whole_bytes() > MODEL_BYTES {
            let what = "bytes with its external data, above the 2 GB that can be worked on";
            return Err(format!("{}: it has {} {what}", self.model.display(), model.whole_bytes()).into());
        }
        let options = SessionOptions::default().engine(self.engine);
        #[cfg(feature = "ort")]
        let options = options.ort(self.ort.options(&[self.engine])?);
        let engine = Sessions::new(&model, (options, &self.dim), "calibration", &self.calibration)?;
        if engine.reads(&self.output) || self.set.files().any(|file| files::same(file, &self.output)) {
            let what =
                "the model's tensors, the samples or an input's value lie in this file, which would be overwritten";
            return Err(format!("{}: {what}; give -o another name", self.output.display()).into());
        }
        // Before minutes of work.
        self.external_data.as_ref().map(|name| self.external(name)).transpose()?;
        output::expect_writable(&self.output)?;
        let bar = Bar::new();
        let done = in_threads(self.threads, || work(model.file(), &engine, &bar));
        bar.clear();
        let done = done?.map_err(|error| match error {
            // It names its file.
            QuantizeError::Engine(error) => error.to_string(),
            error => format!("{}: {error}", self.model.display()),
        })?;
        // What is written is what was found to be sound.
        Model::from_bytes(&self.output, made(&done))?;
        self.write(made(&done))?;
        Ok(done)
    }

    fn open(&self) -> Result<Model, Failure> {
        match ModelFile::open(&self.model, &self.set.options()?)? {
            ModelFile::Model(model) => Ok(model),
            ModelFile::Plan(plan) => {
                let (path, name) = (plan.path().display(), plan.model_name());
                Err(format!("{path}: a plan has no float weights; give the model that it was made of, {name}").into())
            }
            #[cfg(feature = "torch")]
            ModelFile::Torch(file) => Err(super::torch::not_taken(&file)),
        }
    }

    /// Refuses a file for external data that is there: it may be another model's, the source's own among them, and two
    /// files cannot be replaced at once.
    fn external(&self, name: &str) -> Result<PathBuf, Failure> {
        if self.output.is_symlink() {
            // Found through the link or through the file, never both.
            let what = "it is a symbolic link, and external data lies beside the file itself; give -o that file";
            return Err(format!("{}: {what}", self.output.display()).into());
        }
        let path = self.output.with_file_name(name);
        if path == self.output || path.exists() || path.is_symlink() {
            return Err(format!("{}: it is there already; give --external-data another name", path.display()).into());
        }
        Ok(path)
    }

    fn write(&self, model: &[u8]) -> Result<(), Failure> {
        let Some(name) = &self.external_data else { return output::file(&self.output, model) };
        let path = self.external(name)?;
        let split = tractlet_quantize::externalize(model, name);
        let (model, data) = split.map_err(|error| format!("{}: {error}", self.output.display()))?;
        output::pair((&path, &data), (&self.output, &model))
    }
}

/// Opens variants of a model on the same samples.
pub struct Sessions<'a> {
    model: &'a Model,
    options: SessionOptions,
    /// By input of the model.
    files: Vec<(TensorSpec, Samples)>,
}

/// Adds what `--dim` says.
pub fn bind(options: SessionOptions, (name, size): &(String, usize)) -> SessionOptions {
    options.bind(name, *size)
}

impl<'a> Sessions<'a> {
    /// `arguments` are the `[NAME=]X.npy` of `--flag`; dimensions that the model leaves open have the sizes in `dims`.
    pub fn new(
        model: &'a Model,
        (options, dims): (SessionOptions, &[(String, usize)]),
        flag: &str,
        arguments: &[PathBuf],
    ) -> Result<Sessions<'a>, Failure> {
        let session = Session::new(model, dims.iter().fold(options.clone(), bind))?;
        let files = Samples::open_all(flag, arguments, session.inputs())?;
        let files = session.inputs().iter().cloned().zip(files).collect();
        Ok(Sessions { model, options, files })
    }

    /// Whether a file is the model, or one that tensors of it or samples lie in.
    pub fn reads(&self, path: &Path) -> bool {
        files::same(self.model.path(), path)
            || self.model.external_paths().any(|file| files::same(&file, path))
            || self.files.iter().any(|(_, samples)| samples.reads(path))
    }
}

impl Engine for Sessions<'_> {
    fn samples(&self) -> usize {
        self.files.first().map_or(0, |(_, samples)| samples.count())
    }

    fn stored(&self, tensor: &str) -> Result<Vec<u8>, EngineError> {
        let bytes = self.model.stored(tensor).map_err(|error| EngineError(error.to_string()))?;
        Ok(bytes.unwrap_or_default().to_vec())
    }

    fn shape(&self, input: &str) -> Option<&[usize]> {
        self.files.iter().find(|(spec, _)| spec.name == input).map(|(spec, _)| spec.shape.as_slice())
    }

    fn open(&self, model: &[u8]) -> Result<Box<dyn tractlet_quantize::Runner>, EngineError> {
        let fault = |error: ModelError| EngineError(error.to_string());
        let model = Model::from_bytes(self.model.path(), model).map_err(fault)?;
        let session = Session::new(&model, self.options.clone()).map_err(fault)?;
        let file =
            |name: &str| self.files.iter().find(|(spec, _)| spec.name == name).map(|(_, samples)| samples.shared());
        let files = session.inputs().iter().map(|spec| file(&spec.name)).collect();
        Ok(Box::new(Run::of(session, files)))
    }
}

/// A session with the files that it reads.
pub struct Run {
    runner: Runner,
    /// By input; none where its elements are given.
    files: Vec<Option<Samples>>,
    shapes: Vec<Vec<usize>>,
}

impl Run {
    /// `files` are one for each input, in the session's order.
    #[cfg(feature = "torch")]
    pub fn new(session: Session, files: Vec<Samples>) -> Run {
        Run::of(session, files.into_iter().map(Some).collect())
    }

    fn of(session: Session, files: Vec<Option<Samples>>) -> Run {
        let shapes = session.outputs().iter().map(|spec| spec.shape.clone()).collect();
        Run { runner: Runner::new(session), files, shapes }
    }
}

impl tractlet_quantize::Runner for Run {
    fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    fn run(&mut self, sample: usize, given: &[&[f32]]) -> Result<(), EngineError> {
        let mut given = given.iter();
        let mut sources = Vec::with_capacity(self.files.len());
        for file in &self.files {
            sources.push(match (file, given.as_slice()) {
                (Some(file), _) => Source::File(file),
                (None, [values, ..]) => {
                    given.next();
                    Source::Values(values)
                }
                (None, []) => return Err(EngineError("an input within the model is not given".into())),
            });
        }
        self.runner.run_from(&sources, sample).map_err(words)
    }

    fn output(&self, index: usize) -> &[f32] {
        let is_float = self.runner.session().outputs().get(index).is_some_and(|spec| spec.dtype == DType::F32);
        let bytes = if is_float { self.runner.output(index) } else { &[] };
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }
}

fn words(failure: Failure) -> EngineError {
    EngineError(match failure {
        Failure::Because(reason) => reason,
        Failure::Closed => "standard output was closed".into(),
    })
}

/// Runs with this number of threads, or as many as there are cores.
pub fn in_threads<T: Send>(threads: Option<u32>, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let Some(threads) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build();
    Ok(pool.map_err(|error| format!("cannot start {threads} threads: {error}"))?.install(work))
}

/// Drawn where stderr is a terminal, and nowhere else.
pub struct Bar(ProgressBar);

impl Bar {
    /// Not yet drawn.
    pub fn new() -> Bar {
        let style = ProgressStyle::with_template("{msg:24} {bar:40} {pos}/{len}, {eta} left");
        Bar(ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total: usize) {
        self.0.reset();
        self.0.set_length(total as u64);
        self.0.set_message(what.to_owned());
    }

    fn advance(&self, done: usize) {
        self.0.inc(done as u64);
    }
}
