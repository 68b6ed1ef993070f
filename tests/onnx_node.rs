//! The onnx package's own node tests of the quantization operators (tests/golden/onnx_node), most of
//! which are a model's whole content and so for the engine `tract` alone.
#![cfg(feature = "tract")]

mod common;

use common::{Array, repository};
use serde::Deserialize;
use tractlet::{EngineChoice, Model, Session, SessionOptions, TensorMut, TensorRef};

#[derive(Deserialize)]
struct Case {
    name: String,
    inputs: Vec<serde_json::Value>,
    outputs: Vec<serde_json::Value>,
    tolerance: Tolerance,
}

#[derive(Deserialize)]
struct Tolerance {
    rtol: f64,
    atol: f64,
}

#[test]
fn quantization_operators_pass_the_onnx_node_tests() {
    let folder = repository().join("tests/golden/onnx_node");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let mut failures = vec![];
    for case in &cases {
        if let Err(error) = check(&folder.join(&case.name), case) {
            failures.push(format!("{}: {error}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(cases.len(), 29);
}

fn check(folder: &std::path::Path, case: &Case) -> Result<(), String> {
    let model = Model::open(folder.join("model.onnx")).map_err(|e| e.to_string())?;
    let options = SessionOptions::default().engine(EngineChoice::Tract);
    let mut session = Session::new(&model, options).map_err(|e| e.to_string())?;
    let inputs: Vec<Array> =
        (0..case.inputs.len()).map(|i| Array::read(folder.join(format!("input_{i}.npy")))).collect();
    let golden: Vec<Array> =
        (0..case.outputs.len()).map(|i| Array::read(folder.join(format!("output_{i}.npy")))).collect();
    let mut results: Vec<Array> = golden.iter().map(|g| Array { bytes: vec![0; g.bytes.len()], ..g.clone() }).collect();
    let inputs: Vec<TensorRef<'_>> = inputs.iter().map(|a| TensorRef::from_bytes(a.dtype, &a.bytes)).collect();
    let mut outputs: Vec<TensorMut<'_>> =
        results.iter_mut().map(|a| TensorMut::from_bytes(a.dtype, &mut a.bytes)).collect();
    session.run(&inputs, &mut outputs).map_err(|e| e.to_string())?;
    for (got, golden) in results.iter().zip(&golden) {
        for (index, (a, b)) in got.numbers().iter().zip(golden.numbers()).enumerate() {
            if (a - b).abs() > case.tolerance.atol + case.tolerance.rtol * b.abs() {
                return Err(format!("element {index} is {a}, not {b}"));
            }
        }
    }
    Ok(())
}
