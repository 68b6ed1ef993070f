//! What ONNX Runtime ran, where, and for how long: the profile that a session writes.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::DType;

/// A node of the graph as ONNX Runtime runs it, after its own fusions.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub name: String,
    pub op: String,
    /// ONNX Runtime's name for it.
    pub provider: String,
    /// Type of its first output.
    pub dtype: &'static str,
    /// On the host: a GPU works on behind it.
    pub nanos: u64,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "cat")]
    category: String,
    name: String,
    /// Microseconds.
    #[serde(default, rename = "dur")]
    duration: u64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    op_name: Option<String>,
    provider: Option<String>,
    /// For each output a type, and the shape by it.
    output_type_shape: Vec<HashMap<String, IgnoredAny>>,
}

/// The runs of a profile, each with its nodes in the order in which they ran.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<Event>>, String> {
    let text = std::fs::read(path).map_err(|error| format!("ONNX Runtime's profile {}: {error}", path.display()))?;
    runs(&text)
}

fn runs(text: &[u8]) -> Result<Vec<Vec<Event>>, String> {
    let records: Vec<Record> =
        serde_json::from_slice(text).map_err(|error| format!("ONNX Runtime's profile is not as expected: {error}"))?;
    let (mut runs, mut current) = (Vec::new(), Vec::new());
    for record in records {
        match (record.category.as_str(), record.name.as_str()) {
            ("Session", "model_run") => runs.push(std::mem::take(&mut current)),
            ("Node", _) => current.extend(event(&record)),
            _ => {}
        }
    }
    Ok(runs)
}

/// Of several records of a node, the one for its kernel.
fn event(record: &Record) -> Option<Event> {
    let name = record.name.strip_suffix("_kernel_time")?;
    let Arguments { op_name, provider, output_type_shape } = &record.args;
    let output = output_type_shape.first().and_then(|output| output.keys().next());
    Some(Event {
        name: name.to_owned(),
        op: op_name.clone()?,
        provider: provider.clone()?,
        dtype: output.map_or("unknown", |name| dtype(name)),
        nanos: record.duration * 1000,
    })
}

/// This library's name for a type by ONNX Runtime's.
fn dtype(name: &str) -> &'static str {
    let dtype = match name {
        "float" => DType::F32,
        "double" => DType::F64,
        "float16" => DType::F16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "int16" => DType::I16,
        "uint16" => DType::U16,
        "int32" => DType::I32,
        "uint32" => DType::U32,
        "int64" => DType::I64,
        "uint64" => DType::U64,
        "bool" => DType::Bool,
        _ => return "unknown",
    };
    dtype.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ONNX Runtime 1.32 writes it, less what is not read.
    const PROFILE: &str = r#"[
        {"cat": "Session", "dur": 450, "ph": "X", "name": "model_loading_array", "args": {}},
        {"cat": "Node", "dur": 3, "name": "conv_kernel_time", "args": {"op_name": "QLinearConv",
            "provider": "CPUExecutionProvider", "output_type_shape": [{"uint8": [1, 8]}]}},
        {"cat": "Node", "dur": 1, "name": "conv_fence_after", "args": {"op_name": "QLinearConv"}},
        {"cat": "Session", "dur": 9, "name": "SequentialExecutor::Execute", "args": {}},
        {"cat": "Session", "dur": 10, "name": "model_run", "args": {}},
        {"cat": "Node", "dur": 4, "name": "softmax_kernel_time", "args": {"op_name": "Softmax",
            "provider": "CUDAExecutionProvider", "output_type_shape": [{"float": [1, 8]}]}},
        {"cat": "Session", "dur": 10, "name": "model_run", "args": {}}
    ]"#;

    #[test]
    fn nodes_are_those_of_their_run() {
        let runs = runs(PROFILE.as_bytes()).unwrap();
        let event = |name: &str, op: &str, provider: &str, dtype, nanos| Event {
            name: name.into(),
            op: op.into(),
            provider: provider.into(),
            dtype,
            nanos,
        };
        let first = event("conv", "QLinearConv", "CPUExecutionProvider", DType::U8.name(), 3000);
        let second = event("softmax", "Softmax", "CUDAExecutionProvider", DType::F32.name(), 4000);
        assert_eq!(runs, [vec![first], vec![second]]);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        assert!(super::runs(b"[{\"cat\": 1}]").unwrap_err().contains("not as expected"));
    }
}
