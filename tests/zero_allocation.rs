//! After a session is made, a run on the plan engine allocates nothing.

mod common;

use common::{Array, repository};
use tractlet::footprint::{CountingAllocator, heap};
use tractlet::{EngineChoice, Model, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_thousand_runs_allocate_nothing() {
    for name in ["ad_autoencoder", "har_cnn1d", "ic_resnet8", "kws_dscnn", "sww_conv1d"] {
        for file in ["int8.onnx", "f32.onnx"] {
            let folder = repository().join("models").join(name);
            let model = Model::open(folder.join(file)).unwrap();
            let mut session = Session::new(&model, SessionOptions::default().engine(EngineChoice::Plan)).unwrap();
            let samples = Array::read(folder.join("samples.npy")).floats();
            let input: usize = session.inputs()[0].shape.iter().product();
            let mut output = vec![0f32; session.outputs()[0].shape.iter().product()];
            let before = heap();
            for run in 0..1000 {
                let sample = samples.chunks(input).nth(run % (samples.len() / input)).unwrap();
                session.run(&[sample.into()], &mut [output.as_mut_slice().into()]).unwrap();
            }
            assert_eq!(heap().since(&before).allocations, 0, "{name}/{file}");
        }
    }
}
