//! The onnx package's own node tests: those of quantization on the engine `tract`, one folder a case, and the small ones of
//! all operators that plans have, one archive (tests/golden/onnx_node).

mod common;

use common::{Array, repository};
use serde::Deserialize;
use tractlet::{DType, EngineChoice, Model, Session, SessionOptions, TensorMut, TensorRef};

/// |got - want| <= atol + rtol * |want|, and alike where not finite.
#[derive(Deserialize)]
struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Tolerance {
    fn compare(&self, got: &[f64], want: &[f64]) -> Result<(), String> {
        let close = |a: f64, b: f64| {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= self.atol + self.rtol * b.abs() && b.is_finite()
        };
        match got.iter().zip(want).position(|(a, b)| !close(*a, *b)) {
            Some(index) => Err(format!("element {index} is {}, not {}", got[index], want[index])),
            None => Ok(()),
        }
    }
}

/// Runs a model on the inputs, for outputs of the types and lengths of `like`.
fn run(model: &Model, engine: EngineChoice, inputs: &[Array], like: &[Array]) -> Result<Vec<Array>, String> {
    let options = SessionOptions::default().engine(engine);
    let mut session = Session::new(model, options).map_err(|e| e.to_string())?;
    let mut results: Vec<Array> = like.iter().map(|g| Array { bytes: vec![0; g.bytes.len()], ..g.clone() }).collect();
    let inputs: Vec<TensorRef<'_>> = inputs.iter().map(|a| TensorRef::from_bytes(a.dtype, &a.bytes)).collect();
    let mut outputs: Vec<TensorMut<'_>> =
        results.iter_mut().map(|a| TensorMut::from_bytes(a.dtype, &mut a.bytes)).collect();
    session.run(&inputs, &mut outputs).map_err(|e| e.to_string())?;
    Ok(results)
}

#[cfg(feature = "tract")]
#[test]
fn quantization_operators_pass_the_onnx_node_tests() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        inputs: Vec<serde_json::Value>,
        outputs: Vec<serde_json::Value>,
        tolerance: Tolerance,
    }
    let folder = repository().join("tests/golden/onnx_node");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let check = |case: &Case| {
        let folder = folder.join(&case.name);
        let model = Model::open(folder.join("model.onnx")).map_err(|e| e.to_string())?;
        let read = |role: &str, index| Array::read(folder.join(format!("{role}_{index}.npy")));
        let inputs: Vec<Array> = (0..case.inputs.len()).map(|i| read("input", i)).collect();
        let golden: Vec<Array> = (0..case.outputs.len()).map(|i| read("output", i)).collect();
        let results = run(&model, EngineChoice::Tract, &inputs, &golden)?;
        let mut pairs = results.iter().zip(&golden);
        pairs.try_for_each(|(got, golden)| case.tolerance.compare(&got.numbers(), &golden.numbers()))
    };
    let wrong = |case: &Case| check(case).err().map(|error| format!("{}: {error}", case.name));
    let failures: Vec<String> = cases.iter().filter_map(wrong).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(cases.len(), 29);
}

#[test]
fn plans_pass_the_small_onnx_node_tests() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        #[serde(flatten)]
        tolerance: Tolerance,
        model: (usize, usize),
        inputs: Vec<Stored>,
        outputs: Vec<Stored>,
    }
    #[derive(Deserialize)]
    struct Stored {
        dtype: String,
        at: (usize, usize),
    }
    let archive = std::fs::read(repository().join("tests/golden/onnx_node/plan.bin")).unwrap();
    let end = archive.iter().position(|byte| *byte == b'\n').unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&archive[..end]).unwrap();
    let bytes = |(start, len): (usize, usize)| &archive[end + 1 + start..][..len];
    let array = |stored: &Stored| {
        let dtypes = [DType::F32, DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool];
        let dtype = dtypes.into_iter().find(|dtype| dtype.name() == stored.dtype).unwrap();
        Array { dtype, shape: vec![], bytes: bytes(stored.at).to_vec() }
    };
    let check = |case: &Case| {
        let model = Model::from_bytes(&case.name, bytes(case.model)).map_err(|e| e.to_string())?;
        let inputs: Vec<Array> = case.inputs.iter().map(array).collect();
        let golden: Vec<Array> = case.outputs.iter().map(array).collect();
        let results = run(&model, EngineChoice::Plan, &inputs, &golden)?;
        let mut pairs = results.iter().zip(&golden);
        pairs.try_for_each(|(got, golden)| case.tolerance.compare(&got.numbers(), &golden.numbers()))
    };
    let wrong = |case: &Case| check(case).err().map(|error| format!("{}: {error}", case.name));
    let failures: Vec<String> = cases.iter().filter_map(wrong).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases.len() >= 300, "{} cases", cases.len());
}
