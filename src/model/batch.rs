//! A model for several samples at once, of one that was exported for one: the leading dimension of its inputs and
//! outputs is set anew in the file's bytes, and shape inference shows whether the graph follows.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::encode::{copy, put, put_int};
use super::error::Fault;
use super::graph::Dim;
use super::schema::{GRAPH, MODEL, SHAPE, TENSOR_TYPE, TYPE, VALUE_INFO};
use super::wire::{Chunk, Field, Fields, Schema};
use super::{Model, ModelError, ModelErrorKind, OpenOptions, Source};

/// The messages on the way from a model's graph to a dimension, each with the field that the next is in.
const TO_DIMENSION: [(&Schema, u32); 4] = [(&VALUE_INFO, 2), (&TYPE, 1), (&TENSOR_TYPE, 2), (&SHAPE, 1)];

impl Model {
    /// The model for `samples` samples at once: the leading dimension of its inputs and outputs, which has to be 1 or open,
    /// is that number. It is on the caller that the graph treats samples apart: shapes are checked, but a sum along the
    /// leading dimension keeps them.
    ///
    /// ```
    /// let model = tractlet::Model::open("models/kws_dscnn/int8.onnx")?.with_batch(8)?;
    /// assert_eq!(model.inputs()[0].shape(), Some(vec![8, 1, 49, 10]));
    /// # Ok::<(), tractlet::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// [`ModelErrorKind::Unsupported`](super::ModelErrorKind::Unsupported) where an input has no leading dimension of 1,
    /// or the shapes of the graph do not follow; and as [`Model::open`], since external data is opened anew.
    pub fn with_batch(&self, samples: usize) -> Result<Model, ModelError> {
        let refused = |what: String| self.error(Fault::unsupported(what));
        if self.inputs().is_empty() {
            return Err(refused("it has no input; a batch cannot be set".to_owned()));
        }
        let ends = self.inputs().iter().map(|input| ("input", input));
        for (role, end) in ends.chain(self.outputs().iter().map(|output| ("output", output))) {
            if !matches!(end.dims.first(), Some(Dim::Fixed(1) | Dim::Symbol(_))) {
                let what = format!("{role} `{}`: its leading dimension is no batch of 1", end.name);
                return Err(refused(format!("{what}; a batch cannot be set")));
            }
        }
        let source = self.rewritten(samples).and_then(|bytes| Source::of_bytes(&bytes));
        let source = source.map_err(|fault| self.error(fault))?;
        let options = OpenOptions { limits: self.limits.clone(), ..OpenOptions::default() };
        let follow = |error: ModelError| match error.kind() {
            ModelErrorKind::Graph | ModelErrorKind::Shape | ModelErrorKind::Unsupported => refused(format!(
                "the graph does not follow a batch of {samples}; export it with an open batch: {error}"
            )),
            _ => error,
        };
        let model = Model::from_source(self.path(), source, &options).map_err(follow)?;
        let shapes = model.shapes(&[]).map_err(follow)?;
        for output in self.outputs() {
            let inferred = shapes.info(&output.name);
            let leading = inferred.as_ref().and_then(|info| info.dims.first());
            if leading != Some(&Dim::Fixed(samples)) {
                let found = leading.map_or("an unknown size".to_owned(), Dim::to_string);
                let what = format!("output `{}` has {found} in place of a batch of {samples}", output.name);
                return Err(refused(format!("{what}; export the model with an open batch")));
            }
            let inferred = inferred.map_or_else(Vec::new, |info| info.dims);
            let mut others = output.dims.iter().zip(&inferred).enumerate().skip(1);
            if let Some((axis, (own, now))) = others.find(|(_, (own, now))| matches!(own, Dim::Fixed(_)) && own != now)
            {
                let what = format!("dimension {axis} of output `{}` becomes {now} in place of {own}", output.name);
                return Err(refused(format!("{what}: the graph does not treat samples apart; a batch cannot be set")));
            }
        }
        Ok(model)
    }

    fn rewritten(&self, samples: usize) -> Result<Vec<u8>, Fault> {
        let mut model = Vec::with_capacity(self.source.len() + 64);
        let mut fields = Fields::new(Chunk { bytes: &self.source, base: 0 }, &MODEL);
        while let Some(field) = fields.next_field()? {
            if field.number == 7 {
                put(&mut model, 7, &self.graph_with(field, samples)?)
            } else {
                copy(&mut model, &field)
            }
        }
        Ok(model)
    }

    /// Shapes between inputs and outputs, which are hints, are left out: they would be wrong.
    fn graph_with(&self, graph: Field<'_>, samples: usize) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::with_capacity(self.source.len() + 64);
        let mut fields = graph.fields(&GRAPH)?;
        while let Some(field) = fields.next_field()? {
            match field.number {
                11 if !self.is_input(&field)? => copy(&mut out, &field),
                11 | 12 => put(&mut out, field.number, &leading(field, &TO_DIMENSION, samples)?),
                13 => {}
                _ => copy(&mut out, &field),
            }
        }
        Ok(out)
    }

    /// Old files list stored tensors as inputs too.
    fn is_input(&self, value_info: &Field<'_>) -> Result<bool, Fault> {
        let mut fields = value_info.fields(&VALUE_INFO)?;
        while let Some(field) = fields.next_field()? {
            if field.number == 1 {
                let name = field.chunk()?.bytes;
                return Ok(self.inputs().iter().any(|input| input.name.as_bytes() == name));
            }
        }
        Ok(false)
    }
}

/// The message in `field` with the first dimension on the way of `path` set.
fn leading(field: Field<'_>, path: &[(&'static Schema, u32)], samples: usize) -> Result<Vec<u8>, Fault> {
    let Some(((schema, next), rest)) = path.split_first() else {
        let mut dimension = Vec::new();
        put_int(&mut dimension, 1, samples as u64);
        return Ok(dimension);
    };
    let (mut out, mut done) = (Vec::new(), false);
    let mut fields = field.fields(schema)?;
    while let Some(inner) = fields.next_field()? {
        if inner.number == *next && !done {
            put(&mut out, inner.number, &leading(inner, rest, samples)?);
            done = true;
        } else {
            copy(&mut out, &inner);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Session, SessionOptions};

    #[test]
    fn a_batch_answers_as_its_samples_do() {
        for path in ["kws_dscnn/int8.onnx", "har_cnn1d/f32.onnx", "ad_autoencoder/int8.onnx", "ad_autoencoder/f32.onnx"]
        {
            let model = Model::open(format!("models/{path}")).unwrap();
            let session = |model: &Model| Session::new(model, SessionOptions::default()).unwrap();
            let mut one = session(&model);
            let mut three = session(&model.with_batch(3).unwrap());
            let lengths = |session: &Session| (session.inputs()[0].byte_len() / 4, session.outputs()[0].byte_len() / 4);
            let (ins, outs) = lengths(&one);
            assert_eq!(lengths(&three), (3 * ins, 3 * outs));
            let input: Vec<f32> = (0..3 * ins).map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let mut together = vec![0f32; 3 * outs];
            three.run(&[input.as_slice().into()], &mut [together.as_mut_slice().into()]).unwrap();
            for (sample, batched) in input.chunks(ins).zip(together.chunks(outs)) {
                let mut alone = vec![0f32; outs];
                one.run(&[sample.into()], &mut [alone.as_mut_slice().into()]).unwrap();
                // Rows of a product are added up in another order than one.
                let largest = alone.iter().fold(1f32, |max, value| max.max(value.abs()));
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * largest;
                assert!(alone.iter().zip(batched).all(near), "{path}: {alone:?} alone, {batched:?} in a batch");
            }
        }
    }

    #[test]
    fn a_graph_that_does_not_follow_is_refused() {
        let refused = |bytes: &[u8], samples| {
            Model::from_bytes("x.onnx", bytes).unwrap().with_batch(samples).unwrap_err().to_string()
        };
        let bytes = std::fs::read("models/kws_dscnn/int8.onnx").unwrap();
        // Reshape's [-1, 64] becomes [1, 64].
        let shape: Vec<u8> = [-1i64, 64].iter().flat_map(|size| size.to_le_bytes()).collect();
        let at = bytes.windows(16).position(|bytes| bytes == shape).unwrap();
        let mut fixed = bytes.clone();
        fixed[at..at + 8].copy_from_slice(&1i64.to_le_bytes());
        assert!(Model::from_bytes("x.onnx", &fixed).is_ok());
        let told = refused(&fixed, 4);
        assert!(told.contains("batch of 4") && told.contains("open batch"), "{told}");
        // Sizes at which they would pass for a batch.
        for (file, samples) in [("averaged", 12), ("sequence_first", 6)] {
            let model = Model::open(format!("tests/golden/ort/{file}.onnx")).unwrap();
            let told = model.with_batch(samples).unwrap_err().to_string();
            assert!(told.contains("output `y`: its leading dimension is no batch of 1"), "{told}");
        }
        let told = Model::open("tests/golden/ort/pairs.onnx").unwrap().with_batch(3).unwrap_err().to_string();
        assert!(told.contains("dimension 1 of output `y` becomes 3 in place of 1"), "{told}");
        let twice = Model::from_bytes("x.onnx", &bytes).unwrap().with_batch(2).unwrap().with_batch(2);
        assert!(twice.unwrap_err().to_string().contains("no batch of 1"));
    }
}
