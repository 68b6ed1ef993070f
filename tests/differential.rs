//! Random graphs, each on the plan engine and on tract: docs/differential.md says what is held.
//!
//! `TRACTLET_GRAPHS=100000` takes as many in place of some, from `TRACTLET_SEED` on; `TRACTLET_GRAPHS_TO=FOLDER` writes them
//! with what the plan engine answers, for tests/parity/differential.py. What is wrong lies in target/differential.
#![cfg(feature = "tract")]

#[path = "differential/floats.rs"]
mod floats;
#[path = "differential/quantized.rs"]
mod quantized;

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread::{available_parallelism, scope};

use common::onnx::{Graph, Tensor};
use common::{Array, repository};
use tractlet::{DType, EngineChoice, Model, Session, SessionOptions, TensorMut, TensorRef};

#[test]
fn random_graphs_answer_on_the_plan_engine_as_on_tract() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")),
        Err(_) => default,
    };
    let (first, graphs) = (number("TRACTLET_SEED", 0), number("TRACTLET_GRAPHS", 300));
    let to = std::env::var_os("TRACTLET_GRAPHS_TO").map(PathBuf::from);
    let threads = available_parallelism().map_or(1, |n| n.get() as u64);
    let of = |thread: u64| {
        let mut log = to.as_deref().map(|folder| Log::create(folder, thread));
        let mut tally = Tally::default();
        (first + thread..first + graphs).step_by(threads as usize).for_each(|seed| tally.judge(seed, log.as_mut()));
        tally
    };
    let tally = scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).fold(Tally::default(), Tally::with)
    });
    println!("{graphs} graphs from seed {first} on: {tally}");
    println!("{}", tally.wrong.join("\n"));
    // Where they are written down, ONNX Runtime decides who is wrong.
    assert!(tally.wrong.is_empty() || to.is_some(), "{} are wrong", tally.wrong.len());
    assert!(tally.compared * 10 >= graphs * 8, "{} of {graphs} graphs were compared: {tally}", tally.compared);
    assert!(tally.one_step_off * 1000 <= tally.integers, "too many integers are one step off: {tally}");
}

#[derive(Default)]
struct Tally {
    compared: u64,
    integers: u64,
    one_step_off: u64,
    /// Why graphs were not compared.
    refused: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Tally {
    fn with(mut self, other: Tally) -> Tally {
        self.compared += other.compared;
        self.integers += other.integers;
        self.one_step_off += other.one_step_off;
        other.refused.into_iter().for_each(|(why, count)| *self.refused.entry(why).or_default() += count);
        self.wrong.extend(other.wrong);
        self
    }

    fn judge(&mut self, seed: u64, log: Option<&mut Log>) {
        let is_quantized = seed.is_multiple_of(2);
        let mut graph = Graph::new(seed, if is_quantized { 17 } else { 18 });
        if is_quantized {
            quantized::build(&mut graph)
        } else {
            floats::build(&mut graph)
        }
        let shown = match answers(&graph, true, EngineChoice::Plan) {
            Ok(shown) => shown,
            Err(why) => return self.refuse("plan", &why),
        };
        if let Some(log) = log {
            log.add(seed, &graph, &shown);
        }
        if let Err(what) = self.compare(&graph, &shown) {
            let folder = repository().join("target/differential");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{seed}.onnx")), graph.model(true)).unwrap();
            self.wrong.push(format!("seed {seed}: {what}"));
        }
    }

    fn refuse(&mut self, engine: &str, why: &str) {
        // Without the names of nodes.
        let parts = why.split('`').enumerate().filter(|(part, _)| part % 2 == 0);
        let why = parts.map(|(_, text)| text).collect::<String>();
        *self.refused.entry(format!("{engine}: {}", why.chars().take(120).collect::<String>())).or_default() += 1;
    }

    fn compare(&mut self, graph: &Graph, shown: &[Array]) -> Result<(), String> {
        let alone = answers(graph, false, EngineChoice::Plan)?;
        for (output, array) in graph.outputs(false).into_iter().zip(&alone) {
            let (_, same) =
                graph.outputs(true).into_iter().zip(shown).find(|(shown, _)| shown.name == output.name).unwrap();
            if same.bytes != array.bytes {
                return Err(format!("{} differs where no other tensor is shown", output.name));
            }
        }
        let expected = match answers(graph, true, EngineChoice::Tract) {
            Ok(expected) => expected,
            Err(why) => {
                self.refuse("tract", &why);
                return Ok(());
            }
        };
        self.compared += 1;
        let mut off = 0u128;
        for (index, (tensor, (got, want))) in
            graph.outputs(true).into_iter().zip(shown.iter().zip(&expected)).enumerate()
        {
            if (got.dtype, &got.shape) != (want.dtype, &want.shape) {
                return Err(format!("{}: {:?} for {:?}", tensor.name, got.shape, want.shape));
            }
            // What is computed from values that differ may differ by more.
            if tensor.from & off != 0 {
                off |= 1 << index;
                continue;
            }
            let apart = farthest(tensor, &got.numbers(), &want.numbers())?;
            if tensor.dtype != DType::F32 {
                self.integers += got.bytes.len() as u64;
                self.one_step_off += apart;
                off |= u128::from(apart > 0) << index;
            }
        }
        Ok(())
    }
}

/// How many integers are a step apart; an error if some are farther, or floats than 1e-4 of the largest.
fn farthest(tensor: &Tensor, got: &[f64], want: &[f64]) -> Result<u64, String> {
    let largest = want.iter().filter(|value| value.is_finite()).fold(1.0, |most: f64, value| most.max(value.abs()));
    let most = if tensor.dtype == DType::F32 { 1e-4 * largest } else { 1.0 };
    let mut off = 0;
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got == want || got.is_nan() && want.is_nan();
        let near = (got - want).abs() <= most;
        if !same && !near {
            return Err(format!("{}[{at}] is {got}, and {want} on tract", tensor.name));
        }
        off += u64::from(!same);
    }
    Ok(off)
}

fn answers(graph: &Graph, all: bool, engine: EngineChoice) -> Result<Vec<Array>, String> {
    let model = Model::from_bytes("random.onnx", &graph.model(all)).map_err(|e| e.to_string())?;
    let mut session = Session::new(&model, SessionOptions::default().engine(engine)).map_err(|e| e.to_string())?;
    let room = |spec: &tractlet::TensorSpec| Array {
        dtype: spec.dtype,
        shape: spec.shape.clone(),
        bytes: vec![0; spec.byte_len()],
    };
    let mut results: Vec<Array> = session.outputs().iter().map(room).collect();
    let inputs: Vec<_> = graph.inputs().iter().map(|(port, bytes)| TensorRef::from_bytes(port.dtype, bytes)).collect();
    let mut outputs: Vec<_> = results.iter_mut().map(|a| TensorMut::from_bytes(a.dtype, &mut a.bytes)).collect();
    session.run(&inputs, &mut outputs).map_err(|e| e.to_string())?;
    Ok(results)
}

/// Graphs for another judge: their bytes in one file, and a line of JSON for each in another.
struct Log {
    bytes: BufWriter<File>,
    lines: BufWriter<File>,
    len: usize,
}

impl Log {
    fn create(folder: &Path, thread: u64) -> Log {
        let file = |kind: &str| BufWriter::new(File::create(folder.join(format!("{thread}.{kind}"))).unwrap());
        Log { bytes: file("bin"), lines: file("jsonl"), len: 0 }
    }

    fn add(&mut self, seed: u64, graph: &Graph, answers: &[Array]) {
        let model = self.put(&graph.model(true));
        let inputs = graph.inputs().iter().map(|(port, bytes)| self.port(port, bytes)).collect::<Vec<_>>();
        let outputs = graph.outputs(true).into_iter().zip(answers);
        let outputs = outputs.map(|(port, array)| self.port(port, &array.bytes)).collect::<Vec<_>>();
        let line = serde_json::json!({ "seed": seed, "model": model, "inputs": inputs, "outputs": outputs });
        writeln!(self.lines, "{line}").unwrap();
    }

    fn port(&mut self, port: &Tensor, bytes: &[u8]) -> serde_json::Value {
        let from: Vec<usize> = (0..128).filter(|bit| port.from >> bit & 1 == 1).collect();
        let dtype = port.dtype.to_string();
        serde_json::json!({ "name": port.name, "dtype": dtype, "dims": port.dims, "from": from, "at": self.put(bytes) })
    }

    fn put(&mut self, bytes: &[u8]) -> [usize; 2] {
        self.bytes.write_all(bytes).unwrap();
        self.len += bytes.len();
        [self.len - bytes.len(), bytes.len()]
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { compared, integers, one_step_off, refused, wrong } = self;
        write!(f, "{compared} compared, {} wrong, {one_step_off} of {integers} integers one step off", wrong.len())?;
        refused.iter().try_for_each(|(why, count)| write!(f, "\n{count} not compared, {why}"))
    }
}
