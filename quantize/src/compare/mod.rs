//! Two forms of one model side by side: how far each tensor of one is from the other's.
//!
//! Tensors are the same where they have the same name. In a quantized model what counts is what others read of a
//! tensor, its dequantized values.

mod pairs;
mod sums;

use crate::judge::{Power, Score, agree, mean_db, middle, worst_db};
use crate::onnx;
use crate::onnx::proto::ModelProto;
use crate::pool::Pool;
use pairs::{Pair, Span, pairs};
use sums::Sums;

use crate::{Engine, Progress, QuantizeError, Runner};

/// How far a tensor is from the reference.
#[derive(Clone, Debug)]
pub struct LayerError {
    /// The tensor's name.
    pub tensor: String,
    /// The node that makes it in the reference, and its operator.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Ratio of the reference's power to that of the difference, in dB.
    pub sqnr_db: f64,
    /// The largest difference, infinite where one has NaN or an infinity that the other has not; none where channels are
    /// [scaled](LayerError::scaled).
    pub max_abs: Option<f32>,
    /// Share of the reference's values, by the channels' factors, that lie outside what the quantized tensor can hold.
    pub saturation: f64,
    /// Cosine of the angle between both, taken as vectors; NaN where the largest difference is infinite.
    pub cosine: f64,
    /// Whether the model has the tensor's channels by factors larger or smaller, as channels evened out are. They
    /// are then compared less their factors, each the one of least squares on what is not cut off.
    pub scaled: bool,
}

/// Two models compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Tensors that both have, in the reference's order, outputs among them. Those are compared as they are.
    pub layers: Vec<LayerError>,
    /// Tensors that have one name in both and different shapes, and outputs that are not float32.
    pub unlike: Vec<String>,
    /// The outputs together, those that are not float32 aside: the mean of their relative errors. Nothing is looked through.
    pub output: Score,
    /// The largest difference of an output, infinite as that of a [tensor](LayerError::max_abs) is.
    pub output_max_abs: f32,
    /// Samples that were run.
    pub samples: usize,
}

/// Compares a model with a reference, on the samples that both engines have. With `one_at_a_time` a pair of
/// tensors is in memory at once, at the price of a run for each.
///
/// # Errors
/// A model cannot be read, the outputs differ in number or shape, none is float32, or an engine fails.
pub fn compare(
    (reference, reference_engine): (&[u8], &dyn Engine),
    (model, engine): (&[u8], &dyn Engine),
    one_at_a_time: bool,
    progress: &dyn Progress,
) -> Result<Comparison, QuantizeError> {
    let load = |bytes: &[u8], engine: &dyn Engine| {
        let mut model = onnx::decode(bytes)?;
        onnx::take_in(&mut model, &|tensor| engine.stored(tensor))?;
        Ok::<_, QuantizeError>(model)
    };
    let (reference, model) = (load(reference, reference_engine)?, load(model, engine)?);
    let samples: Vec<usize> = (0..reference_engine.samples().min(engine.samples())).collect();
    if samples.is_empty() {
        return Err(QuantizeError::NoSamples);
    }
    let pairs = pairs(&reference, &model);
    let outputs = (output_names(&reference), output_names(&model));
    if outputs.0.len() != outputs.1.len() {
        let what =
            format!("the models have {} and {} outputs; they cannot be compared", outputs.0.len(), outputs.1.len());
        return Err(QuantizeError::Mismatch(what));
    }
    // One value parts two answers where a Sigmoid makes it in the reference.
    let middles: Vec<_> = outputs.0.iter().map(|name| middle(&reference, name)).collect();
    let batch = if one_at_a_time { 1 } else { pairs.len().max(1) };
    progress.begin("compare", samples.len() * (pairs.len().div_ceil(batch) + 1));
    let run = |left: &[String], right: &[String], ranges: &[Option<Span>]| {
        let pools = (Pool::open(reference_engine, &reference, left)?, Pool::open(engine, &model, right)?);
        let shapes = (pools.0.shapes()?, pools.1.shapes()?);
        let channels = shapes.0.iter().map(|shape| if shape.len() > 1 { shape[1] } else { 1 });
        let mut sums: Vec<Sums> = channels.map(Sums::new).collect();
        for (index, sums) in sums.iter_mut().enumerate() {
            sums.comparable = shapes.0[index] == shapes.1[index];
        }
        let mut agreeing = Some(0);
        for sample in &samples {
            let all = |pool: &Pool<'_>, count: usize| {
                pool.each(&[*sample], |runner, _| Ok((0..count).map(|i| runner.output(i).to_vec()).collect::<Vec<_>>()))
            };
            let (a, b) = (all(&pools.0, left.len())?, all(&pools.1, right.len())?);
            let mut decided = false;
            for (index, (a, b)) in a.iter().flatten().zip(b.iter().flatten()).enumerate() {
                if sums[index].comparable {
                    sums[index].add(a, b, ranges[index]);
                }
                // The first that is float32: no other is given.
                if !decided && !a.is_empty() && !b.is_empty() {
                    decided = true;
                    // Of tensors within nobody asks.
                    let same = agree(a, b, middles.get(index).copied().flatten());
                    agreeing = agreeing.zip(same).map(|(count, same)| count + usize::from(same));
                }
            }
            progress.advance(1);
        }
        Ok::<_, QuantizeError>((sums, agreeing))
    };
    let (mut layers, mut unlike) = (Vec::new(), Vec::new());
    for batch in pairs.chunks(batch) {
        let names = |of: fn(&Pair) -> &String| batch.iter().map(|pair| of(pair).clone()).collect::<Vec<_>>();
        let ranges: Vec<_> = batch.iter().map(|pair| pair.range).collect();
        let (sums, _) = run(&names(|pair| &pair.tensor), &names(|pair| &pair.seen), &ranges)?;
        for (pair, sums) in batch.iter().zip(sums) {
            // Indices and shapes are not compared; what only shares a name is not either, and is said.
            match (sums.comparable, sums.count) {
                (true, 0) => {}
                (true, _) => layers.push((pair.index, sums.layer(pair))),
                (false, _) => unlike.push(pair.tensor.clone()),
            }
        }
    }
    let ranges: Vec<_> = pairs::outputs(&reference, &model).into_iter().map(|pair| pair.range).collect();
    let (sums, agreeing) = run(&outputs.0, &outputs.1, &ranges)?;
    if let Some(index) = sums.iter().position(|sums| !sums.comparable) {
        let what = "is of another shape in the other model; it cannot be compared";
        return Err(QuantizeError::Mismatch(format!("output `{}` {what}", outputs.0[index])));
    }
    if sums.iter().all(|sums| sums.count == 0) {
        return Err(QuantizeError::Mismatch("no output is float32 in both models; there is nothing to compare".into()));
    }
    let whole = Comparison::of_outputs(&sums, agreeing, samples.len());
    for (pair, sums) in pairs::outputs(&reference, &model).iter().zip(sums) {
        match sums.count {
            0 => unlike.push(pair.tensor.clone()),
            _ => layers.push((pair.index, sums.layer(pair))),
        }
    }
    layers.sort_by_key(|(index, _)| *index);
    let layers = layers.into_iter().map(|(_, layer)| layer).collect();
    Ok(Comparison { layers, unlike, ..whole })
}

/// Compares the outputs alone, one by one in their order: of models whose tensors within have no names, or that are no
/// ONNX models at all. Both run the same samples.
///
/// # Errors
/// The outputs differ in number or shape, are not float32, or a runner fails.
pub fn compare_outputs(
    reference: &mut dyn Runner,
    model: &mut dyn Runner,
    samples: usize,
    progress: &dyn Progress,
) -> Result<Comparison, QuantizeError> {
    if samples == 0 {
        return Err(QuantizeError::NoSamples);
    }
    let shapes = reference.shapes().to_vec();
    if shapes != model.shapes() {
        let what = format!("the outputs are of shapes {shapes:?} and {:?}; they cannot be compared", model.shapes());
        return Err(QuantizeError::Mismatch(what));
    }
    let mut sums: Vec<Sums> = shapes.iter().map(|_| Sums::new(1)).collect();
    let mut agreeing = Some(0);
    progress.begin("compare", samples);
    for sample in 0..samples {
        reference.run(sample, &[])?;
        model.run(sample, &[])?;
        for (index, sums) in sums.iter_mut().enumerate() {
            let (a, b) = (reference.output(index), model.output(index));
            let expected: usize = shapes[index].iter().product();
            if [a.len(), b.len()] != [expected; 2] {
                return Err(QuantizeError::Mismatch(format!("output {index} (from 0) is not float32 in both models")));
            }
            sums.add(a, b, None);
            if index == 0 {
                // What makes a single value is not known.
                agreeing = agreeing.zip(agree(a, b, None)).map(|(count, same)| count + usize::from(same));
            }
        }
        progress.advance(1);
    }
    Ok(Comparison::of_outputs(&sums, agreeing, samples))
}

impl Comparison {
    fn of_outputs(sums: &[Sums], agreeing: Option<usize>, samples: usize) -> Comparison {
        let output_max_abs = sums.iter().fold(0.0, |most, sums| sums.max_abs.max(most)) as f32;
        let power = |sums: &Sums| sums.total(|channel| channel.all).power(sums.max_abs);
        let powers: Vec<Power> = sums.iter().map(power).collect();
        let (sqnr_db, worst_db) = (mean_db(&powers), worst_db(&powers));
        let agreement = agreeing.map(|agreeing| agreeing as f64 / samples as f64);
        let output = Score { sqnr_db, worst_db, halves_db: [sqnr_db; 2], agreement };
        Comparison { layers: vec![], unlike: vec![], output, output_max_abs, samples }
    }
}

fn output_names(model: &ModelProto) -> Vec<String> {
    model.graph.iter().flat_map(|graph| graph.output_names()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from a table: a row a sample.
    struct Table(Vec<Vec<usize>>, Vec<[f32; 2]>, usize);

    impl Runner for Table {
        fn shapes(&self) -> &[Vec<usize>] {
            &self.0
        }

        fn run(&mut self, sample: usize, _: &[&[f32]]) -> Result<(), crate::EngineError> {
            self.2 = sample;
            Ok(())
        }

        fn output(&self, index: usize) -> &[f32] {
            if index == 0 { &self.1[self.2] } else { &[] }
        }
    }

    struct Silent;

    impl Progress for Silent {
        fn begin(&self, _: &str, _: usize) {}
        fn advance(&self, _: usize) {}
    }

    #[test]
    fn outputs_alone_are_compared_sample_by_sample() {
        let table = |shapes: &[&[usize]], rows: &[[f32; 2]]| {
            Table(shapes.iter().map(|shape| shape.to_vec()).collect(), rows.to_vec(), 0)
        };
        let mut reference = table(&[&[1, 2]], &[[3.0, 0.0], [0.0, 4.0]]);
        let mut model = table(&[&[1, 2]], &[[3.0, 0.5], [4.0, 0.0]]);
        let compared = compare_outputs(&mut reference, &mut model, 2, &Silent).unwrap();
        assert_eq!((compared.layers.len(), compared.samples, compared.output_max_abs), (0, 2, 4.0));
        assert_eq!(compared.output.agreement, Some(0.5));
        assert!((compared.output.sqnr_db - 10.0 * (25.0 / 32.25f64).log10()).abs() < 1e-9);

        let refused = |reference: &mut Table, model: &mut Table, samples| {
            compare_outputs(reference, model, samples, &Silent).unwrap_err()
        };
        let mut flat = table(&[&[2]], &[[0.0; 2]]);
        assert!(matches!(refused(&mut reference, &mut flat, 1), QuantizeError::Mismatch(_)), "another shape");
        let mut integers = table(&[&[1, 2], &[1]], &[[0.0; 2]]);
        let mut others = table(&[&[1, 2], &[1]], &[[0.0; 2]]);
        assert!(matches!(refused(&mut integers, &mut others, 1), QuantizeError::Mismatch(_)), "not float32");
        assert!(matches!(refused(&mut reference, &mut model, 0), QuantizeError::NoSamples));
    }
}
