//! Stored tensors out of a model into a file beside it: a protobuf message cannot hold more than 2 GB.

use prost::Message;

use super::proto::{ModelProto, StringStringEntryProto, TensorProto, data_type};
use super::{EXTERNAL, decode};
use crate::QuantizeError;

/// Tensors of fewer bytes stay in the model.
const LEAST: usize = 1024;
/// Where tensors begin, so that they can be mapped: the page of common systems, as ONNX advises.
const PAGE: usize = 4096;

/// A model whose stored tensors lie in another file, with that file's bytes; `file` is its name, beside the model.
///
/// # Errors
/// The bytes are not an ONNX model.
pub fn externalize(model: &[u8], file: &str) -> Result<(Vec<u8>, Vec<u8>), QuantizeError> {
    let mut model = decode(model)?;
    let data = take_out(&mut model, file);
    Ok((model.encode_to_vec(), data))
}

fn take_out(model: &mut ModelProto, file: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for tensor in &mut model.graph_mut().initializer {
        in_bytes(tensor);
        let Some(raw) = tensor.raw_data.take_if(|raw| raw.len() >= LEAST) else { continue };
        data.resize(data.len().next_multiple_of(PAGE), 0);
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.external_data = vec![
            entry("location", file.into()),
            entry("offset", data.len().to_string()),
            entry("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(EXTERNAL);
        data.extend(raw);
    }
    data
}

/// Elements that are numbers of the message become bytes: of the types that large tensors have.
fn in_bytes(tensor: &mut TensorProto) {
    if tensor.data_type == Some(data_type::FLOAT) && !tensor.float_data.is_empty() {
        tensor.raw_data = Some(tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect());
    }
    if tensor.data_type == Some(data_type::INT64) && !tensor.int64_data.is_empty() {
        tensor.raw_data = Some(tensor.int64_data.drain(..).flat_map(i64::to_le_bytes).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::GraphProto;
    use crate::onnx::{f32s, floats, i64s, take_in};

    #[test]
    fn what_is_taken_out_comes_in_again() {
        let values: Vec<f32> = (0..1500).map(|i| i as f32).collect();
        let numbers = TensorProto { raw_data: None, float_data: values.clone(), ..f32s("numbers", &[1500], &[]) };
        let initializer = vec![i64s("few", &[1], &[7]), f32s("w", &[1500], &values), numbers];
        let graph = GraphProto { initializer, ..GraphProto::default() };
        let whole = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let (small, data) = externalize(&whole.encode_to_vec(), "w.data").unwrap();
        // Each begins at a page, and the little one stayed.
        assert!(small.len() < 400 && data.len() == 8192 + 6000, "{} {}", small.len(), data.len());
        let mut model = decode(&small).unwrap();
        let range = |tensor: &TensorProto| {
            let number = |i: usize| tensor.external_data[i].value.as_ref().unwrap().parse::<usize>().unwrap();
            data[number(1)..number(1) + number(2)].to_vec()
        };
        let parts: Vec<_> = model.graph_mut().initializer.iter().skip(1).map(range).collect();
        take_in(&mut model, &|name| Ok(parts[usize::from(name == "numbers")].clone())).unwrap();
        let read = model.graph_mut().initializer.iter().skip(1).map(|tensor| floats(tensor).unwrap());
        assert!(read.into_iter().all(|read| read == values));
    }
}
