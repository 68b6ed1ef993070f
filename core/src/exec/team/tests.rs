//! Parts against wholes, bit for bit.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

use proptest::prelude::*;

use super::Team;
use crate::exec::RunError;
use crate::exec::fixtures::*;
use crate::exec::memory::Memory;
use crate::isa::Isa;
use crate::kernels::ConvKernel;
use crate::kernels::conv::Form;
use crate::kernels::pool::tests::any_window;
use crate::plan::{AlignedBytes, ConvS8, DType, Op, Operand, Plan, PlanBuilder};
use crate::shape::{ConvShape, Requantize, Window};

/// So many threads, which live for a step: the simplest team there can be. Counts what they were given.
struct Scoped(usize, AtomicUsize);

impl Team for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn each<T: Send>(&mut self, tasks: &mut [T], work: impl Fn(&mut T) + Sync) {
        let (work, Scoped(_, ran)) = (&work, &*self);
        std::thread::scope(|scope| {
            tasks.iter_mut().for_each(|task| {
                drop(scope.spawn(move || {
                    ran.fetch_add(1, Relaxed);
                    work(task);
                }))
            })
        });
    }
}

/// What a plan answers if each of its steps is cut into as many parts as can be, `most` at most.
fn in_parts(plan: &Plan<AlignedBytes>, inputs: &[AlignedBytes], most: usize) -> Vec<AlignedBytes> {
    let isa = plan.isa();
    let (mut arena, mut outputs) = room(plan);
    let mut memory = Memory::Whole { arena: &mut arena, data: plan.data(), inputs, outputs: &mut outputs };
    for (name, op) in plan.ops() {
        let parts = op.most_parts(isa).min(most);
        let mut scratch = AlignedBytes::zeroed(super::scratch_bytes(&op, isa, parts));
        let done = super::run(&op, isa, parts, &mut (), &mut memory, &mut scratch);
        assert!(done.is_ok(), "{name} in {parts} parts on {isa}");
    }
    outputs
}

#[test]
fn parts_of_every_op_give_the_bits_of_the_whole() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for plan in [network(isa), mixed(isa), dynamic(isa)] {
            let noise = |(seed, len): (usize, usize)| noise(seed as u32, len / 4).into_iter().map(f32::from).collect();
            let images = plan.inputs().map(|port| port.byte_len()).enumerate().map(noise);
            let inputs: Vec<AlignedBytes> =
                images.map(|image: Vec<f32>| AlignedBytes::from(bytemuck::cast_slice::<f32, u8>(&image))).collect();
            let (mut memory, mut whole) = room(&plan);
            plan.run(&mut memory, &inputs, &mut whole).unwrap();
            for most in 2..if cfg!(miri) { 3 } else { 5 } {
                let cut = in_parts(&plan, &inputs, most);
                assert!(whole.iter().zip(&cut).all(|(whole, cut)| **whole == **cut), "{most} parts on {isa}");
            }
        }
    }
}

fn weights_of(shape: &ConvShape, seed: u32) -> Vec<i8> {
    let w = &shape.window;
    noise(seed, w.kernel_h * w.kernel_w * w.in_c / shape.groups * shape.out_c)
}

fn packed(isa: Isa, shape: &ConvShape, form: Form, seed: u32) -> Vec<u8> {
    let kernel = ConvKernel::of(shape, form);
    let mut packed = std::vec![0; kernel.max_packed_len(isa, shape)];
    let len = kernel.pack(isa, shape, &weights_of(shape, seed), &mut packed);
    packed.truncate(len);
    packed
}

/// A convolution of an input to an output, on noise.
fn convolution(isa: Isa, shape: ConvShape, form: Form, seed: u32) -> Plan<AlignedBytes> {
    convolution_of(1, isa, shape, form, seed)
}

/// The same of several images.
fn convolution_of(images: usize, isa: Isa, shape: ConvShape, form: Form, seed: u32) -> Plan<AlignedBytes> {
    let builder = &mut PlanBuilder::new(isa);
    let (w, out_c) = (shape.window, shape.out_c);
    let image = [images, w.in_h, w.in_w, w.in_c];
    let features = [images, w.out_h, w.out_w, out_c];
    let [input, output] = [image, features].map(|dims| dims.iter().product());
    let weights = weights_of(&shape, seed);
    let mut op = conv(
        builder,
        shape,
        (Operand::input(0, input), 3),
        (Operand::output(0, output), Requantize { zero_point: -1, min: -128, max: 127 }),
        (&weights, &biases(seed ^ 1, out_c)),
        &std::vec![0.002; out_c],
    );
    if form == Form::Compact {
        op.compact = true;
        op.weights = builder.conv_weights(op.kernel(), &shape, &weights);
    }
    builder.input("image", DType::I8, &image).unwrap().output("features", DType::I8, &features).unwrap();
    builder.op("conv", Op::from(op).with_scratch_at(isa, 0));
    builder.clone().finish().unwrap()
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "it packs for every CPU again and again, and takes minutes")]
    fn parts_of_a_convolution_give_the_bits_of_the_whole(
        mut window in any_window(2),
        kind in 0usize..6,
        channels in 1usize..40,
        images in 1usize..4,
        most in 2usize..6,
        compact: bool,
        seed: u32,
    ) {
        // Dense, dense and pointwise, depthwise, of five along a line either way, and groups.
        let shape = match kind {
            0 => ConvShape { window, out_c: channels, groups: 1 },
            1 => {
                let Window { in_h, in_w, in_c, .. } = window;
                window = crate::exec::fixtures::window((in_h, in_w), in_c, (in_h, in_w), 1);
                ConvShape { window, out_c: channels, groups: 1 }
            }
            2 => ConvShape { window, out_c: window.in_c, groups: window.in_c },
            3 | 4 => {
                let Window { in_h, in_w, in_c, .. } = window;
                window = crate::exec::fixtures::window((in_h + 4, in_w + 4), in_c, (in_h + 4, in_w + 4), 1);
                if kind == 3 {
                    (window.kernel_w, window.out_w) = (5, in_w);
                } else {
                    (window.kernel_h, window.out_h) = (5, in_h);
                }
                ConvShape { window, out_c: channels, groups: 1 }
            }
            _ => {
                window.in_c = window.in_c.next_multiple_of(2);
                ConvShape { window, out_c: channels * 2, groups: 2 }
            }
        };
        let form = if compact && shape.groups == 1 { Form::Compact } else { Form::Fast };
        for isa in Isa::ALL {
            let plan = convolution_of(images, isa, shape, form, seed);
            // On any machine: a part's weights are packed as those of the whole.
            let op = plan.ops().next().unwrap().1;
            let parts = op.most_parts(isa).min(most);
            for part in (0..parts).filter(|_| parts > 1).map(|index| op.part(isa, index, parts)) {
                let Op::ConvS8(ConvS8 { shape: part, .. }) = part else { unreachable!() };
                prop_assert_eq!(
                    packed(isa, &part, form, seed),
                    packed(isa, &shape, form, seed),
                    "{} of {:?}",
                    isa,
                    shape
                );
            }
            if !isa.is_available() {
                continue;
            }
            let input = noise(seed ^ 2, plan.inputs().next().unwrap().byte_len());
            let inputs = [AlignedBytes::from(bytemuck::cast_slice::<i8, u8>(&input))];
            let (mut memory, mut whole) = room(&plan);
            plan.run(&mut memory, &inputs, &mut whole).unwrap();
            let cut = in_parts(&plan, &inputs, most);
            prop_assert_eq!(&*whole[0], &*cut[0], "{} parts on {}: {:?}", most, isa, shape);
            let plan = convolution(isa, shape, form, seed);
            let (mut memory, mut alone) = room(&plan);
            for (image, features) in inputs[0].chunks(inputs[0].len() / images).zip(whole[0].chunks(alone[0].len())) {
                plan.run(&mut memory, &[AlignedBytes::from(image)], &mut alone).unwrap();
                prop_assert_eq!(&*alone[0], features, "of {} on {}: {:?}", images, isa, shape);
            }
        }
    }
}

/// The last pixel of a row is a column, too; what it is a part of is not, and strides of its own down that.
#[test]
fn a_part_of_one_pixel_is_packed_as_the_row() {
    let row = Window { stride_h: 2, ..window((1, 2), 2, (1, 2), 1) };
    let shape = ConvShape { window: row, out_c: 2, groups: 2 };
    for isa in Isa::ALL {
        let op = convolution(isa, shape, Form::Fast, 0).ops().next().unwrap().1;
        let Op::ConvS8(ConvS8 { shape: part, .. }) = op.part(isa, 0, 2) else { unreachable!() };
        assert_eq!(packed(isa, &part, Form::Fast, 0), packed(isa, &shape, Form::Fast, 0), "{isa}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "what is worth it takes minutes")]
fn a_step_that_is_worth_it_is_run_by_the_team() {
    let same =
        |size: usize, in_c: usize| Window { pad_top: 1, pad_left: 1, ..window((size, size), in_c, (size, size), 3) };
    let shape = ConvShape { window: same(24, 16), out_c: 32, groups: 1 };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let plan = convolution(isa, shape, Form::Fast, 5);
        let inputs = [AlignedBytes::zeroed(24 * 24 * 16)];
        let (mut memory, mut whole) = room(&plan);
        plan.run(&mut memory, &inputs, &mut whole).unwrap();
        for threads in [2, 3, 16] {
            let needed = plan.memory_bytes(threads);
            let (mut memory, mut outputs) = (AlignedBytes::zeroed(needed), room(&plan).1);
            let mut team = Scoped(threads, AtomicUsize::new(0));
            plan.run_on(&mut team, &mut memory, &inputs, &mut outputs, &mut ()).unwrap();
            assert!(team.1.into_inner() >= 2, "{threads} threads on {isa} were given nothing");
            assert_eq!(*outputs[0], *whole[0], "{threads} threads on {isa}");
            if needed > plan.arena_bytes() {
                let given = needed - 64;
                let mut team = Scoped(threads, AtomicUsize::new(0));
                let refused = plan.run_on(&mut team, &mut memory[..given], &inputs, &mut outputs, &mut ());
                assert_eq!(refused, Err(RunError::TooSmall { needed, given }));
            }
        }
    }
    assert_eq!(network(Isa::Generic).memory_bytes(16), network(Isa::Generic).arena_bytes(), "too small to be cut");
}

/// A convolution of 1 to 1 channel over an image, whose kernel has one pixel.
fn pointwise(size: (usize, usize)) -> ConvShape {
    ConvShape { window: window(size, 1, size, 1), out_c: 1, groups: 1 }
}

#[test]
#[cfg_attr(miri, ignore = "a million pixels take minutes")]
fn pixels_that_are_more_than_a_row_can_have_are_cut_as_an_image() {
    for isa in Isa::ALL {
        let op = convolution(isa, pointwise((1025, 1024)), Form::Fast, 7).ops().next().unwrap().1;
        let parts = op.most_parts(isa).min(4);
        for part in (0..parts).filter(|_| parts > 1).map(|index| op.part(isa, index, parts)) {
            assert!(part.scratch_bytes(isa) <= op.scratch().len.max(1 << 20), "{isa}");
        }
    }
    let plan = convolution(Isa::detect(), pointwise((1025, 1024)), Form::Fast, 7);
    let inputs = [AlignedBytes::from(bytemuck::cast_slice::<i8, u8>(&noise(3, 1025 * 1024)))];
    let (mut memory, mut whole) = room(&plan);
    plan.run(&mut memory, &inputs, &mut whole).unwrap();
    assert!(*whole[0] == *in_parts(&plan, &inputs, 4)[0]);
}

#[test]
fn a_kernel_that_does_nothing_is_an_error() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let plan = convolution(isa, pointwise((4, 4)), Form::Fast, 7);
        let (mut arena, mut outputs) = room(&plan);
        let inputs = [AlignedBytes::zeroed(16)];
        let mut memory = Memory::Whole { arena: &mut arena, data: plan.data(), inputs: &inputs, outputs: &mut outputs };
        let Some((_, Op::ConvS8(mut op))) = plan.ops().next() else { unreachable!() };
        op.weights.len -= 1;
        assert_eq!(Op::from(op).run(isa, &mut memory), None, "{isa}");
    }
}

#[test]
fn shapes_beyond_reason_ask_for_more_than_there_can_be() {
    let mut shape = pointwise((4, 4));
    shape.window.kernel_w = usize::MAX;
    let sizes = Isa::ALL.map(|isa| ConvKernel::of(&shape, Form::Fast).scratch_len(isa, &shape));
    assert!(sizes.iter().all(|size| *size == usize::MAX));
}
