//! Every operator that plans have, in its variants, against ONNX Runtime on tiny models
//! (tests/golden/ops).

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::onnx::{Attribute, Graph, Tensor};
use common::{Array, distance, engines, repository, run_samples};
use serde::Deserialize;
use tractlet::{DType, EngineChoice, Model, ModelError, RunErrorKind, Session, SessionOptions, TensorMut, TensorRef};
use tractlet_core::isa::Isa;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// The quantization step of each output; null for floats.
    steps: Vec<Option<f64>>,
    /// Whether a plan takes it.
    plan: bool,
    /// Whether all that is computed is computed in int8.
    #[serde(default)]
    int8: bool,
    /// Why tract does not run it, where it does not.
    without_tract: Option<String>,
}

#[cfg(feature = "tract")]
#[test]
fn tract_agrees_with_onnx_runtime() {
    check_all(|case| {
        if case.without_tract.is_some() {
            return Ok(());
        }
        case.against_golden("tract", &case.run(EngineChoice::Tract).map_err(|e| e.to_string())?)
    });
}

/// Names of nodes and of tensors are two kinds of names.
#[test]
fn a_node_may_be_named_as_a_tensor_is() {
    let mut graph = Graph::new(1, 13);
    let x = graph.input(&[4]);
    let two = graph.floats(&[1], &[2.0]);
    let double = graph.op("Mul", &[&x.name, &two], &[], x.clone());
    let y = graph.op("Add", &[&double.name, &double.name], &[], x.clone());
    graph.show(&y);
    graph.output();
    let bytes = graph.model(false);
    // A node's name is its third field, here as long as the others are.
    let renamed = |node: &str, name: &str| {
        let (from, to) = ([&[0x1a, 2], node.as_bytes()].concat(), [&[0x1a, 2], name.as_bytes()].concat());
        let at = bytes.windows(4).position(|window| window == from).unwrap();
        [&bytes[..at], &to, &bytes[at + 4..]].concat()
    };
    for tensor in [&two, &x.name, &y.name] {
        let model = Model::from_bytes("renamed.onnx", &renamed(&double.name, tensor)).unwrap();
        for engine in engines() {
            let mut session = Session::new(&model, SessionOptions::default().engine(engine)).unwrap();
            assert_eq!(run_samples(&mut session, &[1.0, -2.0, 0.5, 0.0]), [4.0, -8.0, 2.0, 0.0], "{tensor} {engine:?}");
        }
    }
}

#[test]
fn plans_agree_with_onnx_runtime_and_tract() {
    check_all(|case| {
        if !case.plan {
            return Ok(());
        }
        let got = case.run(EngineChoice::Plan).map_err(|e| e.to_string())?;
        case.against_golden("plan", &got)?;
        if !EngineChoice::Tract.is_built() || case.without_tract.is_some() {
            return Ok(());
        }
        case.compare("plan and tract", &got, &case.run(EngineChoice::Tract).map_err(|e| e.to_string())?)
    });
}

#[test]
fn what_no_plan_takes_is_refused_by_name_and_left_to_tract() {
    check_all(|case| {
        if case.plan {
            return Ok(());
        }
        let refusal = match case.session(EngineChoice::Plan) {
            Ok(_) => return Err("a plan takes it".into()),
            Err(refusal) => refusal.to_string(),
        };
        let session = match case.session(EngineChoice::Auto) {
            Ok(session) => session,
            Err(_) if case.without_tract.is_some() => return Ok(()),
            Err(error) if !EngineChoice::Tract.is_built() => {
                let named = error.to_string().contains("node `") && error.to_string().contains("no tract engine");
                return if named { Ok(()) } else { Err(error.to_string()) };
            }
            Err(error) => return Err(error.to_string()),
        };
        let named = session.nodes().iter().any(|node| refusal.contains(&format!("node `{}` ({})", node.name, node.op)));
        if named { Ok(()) } else { Err(format!("names no node: {refusal}")) }
    });
}

#[test]
fn an_index_that_is_not_there_is_an_error_that_names_its_node() {
    let mut graph = Graph::new(1, 17);
    let x = graph.input(&[1]);
    let index = Tensor { dtype: DType::I64, ..x.clone() };
    let index = graph.op("Cast", &[&x.name], &[("to", Attribute::Int(7))], index);
    let table = graph.floats(&[3], &[1.0, 2.0, 4.0]);
    let found = graph.op("Gather", &[&table, &index.name], &[], x);
    graph.show(&found);
    let model = Model::from_bytes("gather.onnx", &graph.model(true)).unwrap();
    let mut session = Session::new(&model, SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
    let mut run = |index: f32| {
        let mut y = [0.0f32];
        session.run(&[TensorRef::from(&[index][..])], &mut [TensorMut::from(&mut y[..])]).map(|()| y[0])
    };
    assert_eq!([run(2.0).unwrap(), run(-3.0).unwrap()], [4.0, 1.0]);
    let error = run(3.0).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Data);
    let error = error.to_string();
    assert!(error.contains(&format!("`{}`", found.name)) && error.contains("outside"), "{error}");
    assert_eq!(run(1.0).unwrap(), 2.0);
}

/// A few stored numbers may ask for any work, which is done where the plan runs then.
#[test]
fn products_of_constants_that_take_too_long_are_no_work_of_a_load() {
    for (rows, computed) in [(8, false), (1 << 12, true)] {
        let mut graph = Graph::new(1, 17);
        let x = graph.input(&[256]);
        let ones = |count: usize| vec![1.0; count];
        let (a, b) = (graph.floats(&[rows, 512], &ones(rows * 512)), graph.floats(&[512, 256], &ones(512 * 256)));
        let product = Tensor { dims: vec![rows, 256], ..x.clone() };
        let product = graph.op("MatMul", &[&a, &b], &[], product);
        let sum = graph.op("Add", &[&x.name, &product.name], &[], product.clone());
        graph.show(&sum);
        let model = Model::from_bytes("product.onnx", &graph.model(true)).unwrap();
        let session = Session::new(&model, SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
        assert_eq!(session.steps().iter().any(|step| step.macs > 0), computed, "{rows}");
    }
}

#[test]
fn what_is_quantized_runs_in_int8() {
    check_all(|case| {
        if !case.int8 {
            return Ok(());
        }
        let session = case.session(EngineChoice::Plan).map_err(|e| e.to_string())?;
        // A scale may come from a Constant, and floats at the ends may be seen in another order.
        let is_aside = |op: &str| matches!(op, "Constant" | "Transpose");
        let floats = session.nodes().iter().filter(|node| node.dtype == "float32" && !is_aside(&node.op));
        let names: Vec<String> = floats.map(|node| format!("{} ({}) {}", node.name, node.op, node.dtype)).collect();
        if names.is_empty() { Ok(()) } else { Err(names.join(", ")) }
    });
}

/// Also where a node is no op of the plan: what only renames, what is folded, and whole numbers.
#[test]
fn no_node_is_told_to_be_int8_where_nothing_is_quantized() {
    check_all(|case| {
        if !case.plan {
            return Ok(());
        }
        let session = case.session(EngineChoice::Plan).map_err(|e| e.to_string())?;
        let is_byte = |dtype: &str| matches!(dtype, "int8" | "uint8");
        let ports = session.inputs().iter().chain(session.outputs());
        let quantizes = |op: &str| ["Quantize", "QLinear", "QGemm", "Integer"].iter().any(|part| op.contains(part));
        if ports.clone().any(|port| is_byte(port.dtype.name())) || session.nodes().iter().any(|n| quantizes(&n.op)) {
            return Ok(());
        }
        let bytes = session.nodes().iter().filter(|node| is_byte(node.dtype));
        let names: Vec<String> = bytes.map(|node| format!("{} ({}) {}", node.name, node.op, node.dtype)).collect();
        if names.is_empty() { Ok(()) } else { Err(names.join(", ")) }
    });
}

/// An instruction set is chosen for a whole process: each has its own.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect();
    check_all(|case| {
        if !case.plan {
            return Ok(());
        }
        // Only sums of floats are in an order that instruction sets choose.
        let session = case.session(EngineChoice::Plan).map_err(|e| e.to_string())?;
        let sums_floats = session.nodes().iter().any(|node| {
            node.dtype == "float32"
                && matches!(
                    node.op.as_str(),
                    "Attention" | "Conv" | "ConvTranspose" | "Einsum" | "Gemm" | "MatMul" | "LSTM" | "GRU" | "RNN"
                )
        });
        if sums_floats {
            return Ok(());
        }
        let reference = case.run_on(Isa::Generic)?;
        match isas.iter().find(|isa| case.run_on(**isa).as_ref() != Ok(&reference)) {
            Some(isa) => Err(format!("{isa} differs from generic")),
            None => Ok(()),
        }
    });
}

fn folder() -> PathBuf {
    repository().join("tests/golden/ops")
}

fn check_all(check: impl Fn(&Case) -> Result<(), String>) {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() >= 160);
    let failures: Vec<String> =
        cases.iter().filter_map(|case| check(case).err().map(|what| format!("{}: {what}", case.name))).collect();
    assert!(failures.is_empty(), "{} of {} cases\n{}", failures.len(), cases.len(), failures.join("\n"));
}

impl Case {
    fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        folder().join(&self.name).join(file)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        (0..).map(|i| self.path(format!("input_{i}.npy"))).take_while(|path| path.exists()).collect()
    }

    fn golden(&self) -> Vec<Array> {
        (0..self.steps.len()).map(|i| Array::read(self.path(format!("output_{i}.npy")))).collect()
    }

    fn session(&self, engine: EngineChoice) -> Result<Session, ModelError> {
        Session::new(&Model::open(self.path("model.onnx"))?, SessionOptions::default().engine(engine))
    }

    /// What the engine answers, in arrays of the session's own types and shapes.
    fn run(&self, engine: EngineChoice) -> Result<Vec<Array>, Box<dyn std::error::Error>> {
        let mut session = self.session(engine)?;
        let room = |spec: &tractlet::TensorSpec| Array {
            dtype: spec.dtype,
            shape: spec.shape.clone(),
            bytes: vec![0; spec.byte_len()],
        };
        let mut results: Vec<Array> = session.outputs().iter().map(room).collect();
        let inputs: Vec<Array> = self.inputs().iter().map(Array::read).collect();
        let inputs: Vec<TensorRef<'_>> = inputs.iter().map(|a| TensorRef::from_bytes(a.dtype, &a.bytes)).collect();
        // Twice: a run must not depend on what the one before it left behind.
        for _ in 0..2 {
            let mut outputs: Vec<TensorMut<'_>> =
                results.iter_mut().map(|a| TensorMut::from_bytes(a.dtype, &mut a.bytes)).collect();
            session.run(&inputs, &mut outputs)?;
        }
        Ok(results)
    }

    /// What the built binary prints as outputs; numbers are printed exactly.
    fn run_on(&self, isa: Isa) -> Result<serde_json::Value, String> {
        let session = self.session(EngineChoice::Plan).map_err(|e| e.to_string())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tractlet"));
        command.args(["run", "--json", "--engine", "plan"]).arg(self.path("model.onnx"));
        for (spec, path) in session.inputs().iter().zip(self.inputs()) {
            command.arg("--input").arg(format!("{}={}", spec.name, path.display()));
        }
        let output = command.env("TRACTLET_ISA", isa.name()).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
        Ok(report["outputs"].clone())
    }

    fn against_golden(&self, engine: &str, got: &[Array]) -> Result<(), String> {
        self.compare(&format!("{engine} and golden"), got, &self.golden())
    }

    fn compare(&self, what: &str, got: &[Array], expected: &[Array]) -> Result<(), String> {
        if got.len() != expected.len() || expected.len() != self.steps.len() {
            return Err(format!("{what}: {} outputs, not {}", got.len(), self.steps.len()));
        }
        for (index, ((a, b), step)) in got.iter().zip(expected).zip(&self.steps).enumerate() {
            if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
                return Err(format!(
                    "{what}, output {index}: {} {:?}, not {} {:?}",
                    a.dtype, a.shape, b.dtype, b.shape
                ));
            }
            let (a, b) = (a.numbers(), b.numbers());
            let apart = a.iter().zip(&b).map(|(a, b)| distance(*a, *b));
            match step {
                Some(step) => within_steps(&apart.map(|d| d / step).collect::<Vec<_>>()),
                None => within_float(apart.fold(0.0, f64::max), &b),
            }
            .map_err(|how| format!("{what}, output {index}: {how}"))?;
        }
        Ok(())
    }
}

/// No element is more than two steps away, and 99.5 % are at most one.
fn within_steps(apart: &[f64]) -> Result<(), String> {
    let beyond = apart.iter().filter(|steps| **steps > 1.01).count();
    let worst = apart.iter().copied().fold(0.0, f64::max);
    if worst <= 2.01 && beyond * 200 <= apart.len() {
        return Ok(());
    }
    Err(format!("{beyond} of {} beyond one step, at most {worst:.2} steps", apart.len()))
}

/// Within 1e-4 of the largest value.
fn within_float(worst: f64, expected: &[f64]) -> Result<(), String> {
    let scale = expected.iter().filter(|v| v.is_finite()).fold(0.0, |max: f64, v| max.max(v.abs()));
    if worst <= 1e-4 * scale { Ok(()) } else { Err(format!("{worst} apart at values up to {scale}")) }
}
