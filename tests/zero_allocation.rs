//! After a session is made, a run on the plan engine allocates nothing, on several threads neither.

mod common;

use std::sync::{Mutex, PoisonError};

use common::{Array, repository};
use tractlet::footprint::{CountingAllocator, heap};
use tractlet::{EngineChoice, Model, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const MODELS: [&str; 5] = ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"];

#[test]
fn a_thousand_runs_allocate_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    each_model(|model, samples, name| {
        let mut allocations = 0;
        answers(model, samples, 1, 1000, &mut allocations);
        assert_eq!(allocations, 0, "{name}");
    });
}

#[test]
fn on_more_threads_answers_are_the_same_and_nothing_is_allocated() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    each_model(|model, samples, name| {
        let mut allocations = 0;
        let expected = answers(model, samples, 1, 20, &mut allocations);
        for (threads, runs) in [(2, 200), (3, 20)] {
            let cut = answers(model, samples, threads, runs, &mut allocations);
            assert!(cut.iter().zip(&expected).all(|(cut, expected)| cut == expected), "{name} on {threads} threads");
        }
        assert_eq!(allocations, 0, "{name}");
    });
}

fn each_model(mut test: impl FnMut(&Model, &[f32], &str)) {
    for name in MODELS {
        for file in ["int8.onnx", "f32.onnx"] {
            let folder = repository().join("models").join(name);
            let samples = Array::read(folder.join("samples.npy")).floats();
            test(&Model::open(folder.join(file)).unwrap(), &samples, &format!("{name}/{file}"));
        }
    }
}

/// The bits of the first 20 answers of so many runs; adds up what the runs allocate.
fn answers(model: &Model, samples: &[f32], threads: usize, runs: usize, allocations: &mut u64) -> Vec<Vec<u32>> {
    let options = SessionOptions::default().engine(EngineChoice::Plan).threads(threads.try_into().unwrap());
    let mut session = Session::new(model, options).unwrap();
    let input: usize = session.inputs()[0].shape.iter().product();
    let mut output = vec![0f32; session.outputs()[0].shape.iter().product()];
    let mut answers = vec![];
    for run in 0..runs {
        let sample = samples.chunks(input).nth(run % (samples.len() / input)).unwrap();
        let before = heap();
        session.run(&[sample.into()], &mut [output.as_mut_slice().into()]).unwrap();
        *allocations += heap().since(&before).allocations;
        if run < 20 {
            answers.push(output.iter().map(|value| value.to_bits()).collect());
        }
    }
    answers
}
