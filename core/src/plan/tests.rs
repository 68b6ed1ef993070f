//! Damaged and hostile plans.

use std::vec::Vec;

use super::builder::seal;
use super::*;
use crate::exec::fixtures::{self, dynamic, hopping, mixed, network, room};
use crate::kernels::ConvKernel;
use crate::kernels::conv::Form;
use crate::kernels::conv_f32;
use crate::shape::{ConvShape, Window};

/// Miri takes minutes for what is done in a second: it has a few bytes, of few values.
const DAMAGED_EVERY: usize = if cfg!(miri) { 397 } else { 1 };
const MOST_VALUES: usize = if cfg!(miri) { 2 } else { 8 };
const FEW: usize = if cfg!(miri) { 0 } else { 1_000 };

/// Sets each byte of a plan in turn to several values and runs what is still accepted. `repair`
/// makes up for the damage: nothing, or a new checksum.
fn flip_every_byte(pristine: &Plan<AlignedBytes>, repair: impl Fn(&mut [u8])) -> (usize, usize) {
    let mut bytes = AlignedBytes::from(pristine.as_bytes());
    let (mut refused, mut accepted) = (0, 0);
    for at in (0..bytes.len()).step_by(DAMAGED_EVERY) {
        let original = bytes[at];
        let values = [original ^ 1, original ^ 0x80, original.wrapping_add(1), 0, 1, 0x7f, 0x80, 0xff];
        for value in values.into_iter().take(MOST_VALUES).filter(|&value| value != original) {
            bytes[at] = value;
            repair(&mut bytes);
            match Plan::parse(&bytes[..]) {
                Err(_) => refused += 1,
                Ok(plan) => {
                    accepted += 1;
                    // A size in the header may have grown; what must not happen is a panic.
                    assert!(plan.arena_bytes() <= i32::MAX as usize);
                    assert_eq!(plan.inputs().count(), pristine.inputs().count());
                    assert_eq!(plan.outputs().count(), pristine.outputs().count());
                    assert_eq!(plan.ops().count(), pristine.ops().count());
                    let ports = plan.inputs().chain(plan.outputs());
                    if ports.map(|port| port.byte_len()).sum::<usize>() + plan.arena_bytes() <= 1 << 20 {
                        let (mut memory, mut outputs) = room(&plan);
                        let inputs: Vec<AlignedBytes> =
                            plan.inputs().map(|port| AlignedBytes::zeroed(port.byte_len())).collect();
                        plan.run(&mut memory, &inputs, &mut outputs).expect("a verified plan runs");
                    }
                }
            }
        }
        bytes[at] = original;
    }
    (refused, accepted)
}

#[test]
fn an_input_is_quantized_if_it_is_read_and_nothing_else_reads_it() {
    let mut builder = PlanBuilder::new(Isa::Generic);
    for name in ["quantized", "both", "unread"] {
        builder.input(name, DType::F32, &[4]).unwrap();
    }
    for input in 0..2 {
        let (input, output) = (Operand::input(input, 16), Operand::output(input, 4));
        builder.op("q", Quantize { input, output, channels: 1, pixels: 4, scale: 0.5, zero_point: 0 });
        builder.output("q", DType::I8, &[4]).unwrap();
    }
    let (input, output) = (Operand::input(1, 16), Operand::output(2, 16));
    builder.op("f", UnaryF32 { input, output, function: Unary::Clamp, alpha: 0.0, beta: 1.0 });
    builder.output("f", DType::F32, &[4]).unwrap();
    let plan = builder.finish().unwrap();
    assert_eq!([0, 1, 2].map(|input| plan.quantizes(input)), [true, false, false]);
}

#[test]
fn every_damaged_byte_is_noticed() {
    let (refused, accepted) = flip_every_byte(&network(Isa::Generic), |_| ());
    assert_eq!(accepted, 0);
    assert!(refused > 10 * FEW);
}

/// A multiplication alone carries a flipped top bit along, for a second one to undo.
#[test]
fn two_flipped_top_bits_are_noticed() {
    let mut bytes = AlignedBytes::from(network(Isa::Generic).as_bytes());
    bytes[HEADER_BYTES + 7] ^= 0x80;
    bytes[HEADER_BYTES + 15] ^= 0x80;
    assert_eq!(Plan::parse(bytes).unwrap_err(), PlanError::Checksum);
}

#[test]
fn a_plan_for_another_cpu_is_read_and_not_run() {
    let foreign = Isa::ALL.into_iter().find(|isa| !isa.is_available()).unwrap();
    let plan = network(foreign);
    assert!(!plan.runs_here());
    assert!(matches!(Plan::parse(plan.as_bytes()).unwrap_err(), PlanError::Isa(_)));
    let inputs = [AlignedBytes::zeroed(plan.inputs().next().unwrap().byte_len())];
    let (mut memory, mut outputs) = room(&plan);
    assert_eq!(plan.run(&mut memory, &inputs, &mut outputs), Err(crate::exec::RunError::Isa(foreign)));
}

/// Plans lie in files: weights that are packed otherwise, and kernels that work in more, need another [`VERSION`]. If this
/// fails and the change was meant, raise it, and write down what is so now.
#[test]
#[cfg_attr(miri, ignore = "packing is plain code, and for every CPU takes minutes")]
fn kernels_pack_and_work_as_this_version_says() {
    let one = |size: usize, kernel: usize, in_c: usize, out_c: usize, groups: usize| {
        let pad = kernel / 2;
        let window =
            Window { pad_top: pad, pad_left: pad, ..fixtures::window((size, size), in_c, (size, size), kernel) };
        ConvShape { window, out_c, groups }
    };
    let line = Window { kernel_h: 1, in_h: 1, out_h: 1, pad_top: 0, ..one(20, 5, 18, 12, 1).window };
    let pairs = Window { stride_w: 2, out_w: 10, ..line };
    let shapes = [
        one(1, 1, 75, 21, 1),
        one(8, 3, 16, 24, 1),
        one(9, 5, 3, 8, 1),
        one(8, 3, 40, 40, 40),
        one(6, 3, 12, 8, 4),
        ConvShape { window: line, out_c: 12, groups: 1 },
        ConvShape { window: line, out_c: 18, groups: 18 },
        ConvShape { window: Window { in_c: 4, ..pairs }, out_c: 4, groups: 4 },
    ];
    let packed = Isa::ALL.map(|isa| {
        let mut builder = PlanBuilder::new(isa);
        for (seed, shape) in (1..).zip(&shapes) {
            let taps = shape.window.kernel_h * shape.window.kernel_w * shape.window.in_c / shape.groups;
            let weights = fixtures::noise(seed, taps * shape.out_c);
            builder.conv_weights(ConvKernel::of(shape, Form::Fast), shape, &weights);
            builder.conv_weights(ConvKernel::of(shape, Form::Compact), shape, &weights);
            builder.data_of(conv_f32::order(shape).flatten().map(|index| index as u32));
        }
        let unused = Fill { output: Operand::output(0, 1), element_bytes: 1, bits: 0 };
        builder.output("y", DType::I8, &[1]).unwrap().op("fill", unused);
        let scratch = |shape: &ConvShape| {
            [Form::Fast, Form::Compact].map(|form| ConvKernel::of(shape, form).scratch_len(isa, shape))
        };
        let scratch: Vec<u8> = shapes.iter().flat_map(scratch).flat_map(|len| (len as u64).to_le_bytes()).collect();
        [checksum(builder.finish().unwrap().data()), checksum(&scratch)]
    });
    // In the order of `Isa::ALL`.
    const EXPECTED: [[u64; 2]; 8] = [
        [0xb562_da4d_bc30_1498, 0xf310_4d40_f0ed_4473],
        [0x8768_a82a_e23d_7398, 0x88cf_4b0c_edef_2a1c],
        [0x385c_7c36_aed9_6180, 0x138f_85d1_6020_763f],
        [0x009c_c120_0080_2059, 0x4afd_ded1_264d_a6a4],
        [0x6455_855d_5b63_0cc7, 0x9471_b3f7_73ad_e98d],
        [0xd850_a928_b724_89bb, 0x4462_260e_b74d_1ac7],
        [0x8f3d_5e71_f10a_5feb, 0x1c17_52e3_ccaa_de05],
        [0xf79a_dea1_81f0_2316, 0x1c17_52e3_ccaa_de05],
    ];
    assert_eq!((VERSION, packed), (12, EXPECTED), "{packed:#x?}");
}

#[test]
fn a_hostile_plan_is_refused_or_runs_within_bounds() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for plan in [network(isa), mixed(isa), hopping(isa), dynamic(isa)] {
            let (refused, accepted) = flip_every_byte(&plan, seal);
            assert!(refused > FEW && accepted > FEW, "{refused} refused, {accepted} accepted");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let plan = network(Isa::Generic);
    let mut bytes = AlignedBytes::from(plan.as_bytes());
    for len in (0..bytes.len()).step_by(if cfg!(miri) { 499 } else { 1 }) {
        assert!(Plan::parse(&bytes[..len]).is_err());
        if len >= HEADER_BYTES {
            seal(&mut bytes[..len]);
            assert!(Plan::parse(&bytes[..len]).is_err());
        }
    }
}

#[test]
fn a_plan_reads_back_as_it_was_built() {
    let plan = network(Isa::detect());
    let parsed = Plan::parse(plan.as_bytes()).unwrap();
    assert_eq!(parsed.isa(), Isa::detect());
    let image = parsed.inputs().next().unwrap();
    assert_eq!((image.name, image.dtype, image.shape()), ("image", DType::F32, &[1, 3, 6, 5][..]));
    let names: Vec<&str> = parsed.outputs().map(|port| port.name).collect();
    assert_eq!(names, ["probabilities", "framed"]);
    let ops: Vec<(&str, &str)> = parsed.ops().map(|(name, op)| (name, op.kind())).collect();
    assert_eq!(ops[..3], [("quantize", "Quantize"), ("conv", "ConvS8"), ("depthwise", "ConvS8")]);
}

/// One f32 op from the arena, where another one fills 16 bytes, to an output of as many.
fn clamp(change: impl Fn(&mut UnaryF32)) -> Result<Plan<AlignedBytes>, BuildError> {
    let input = Operand::arena(0, 16);
    let mut op = UnaryF32 { input, output: Operand::arena(64, 16), function: Unary::Clamp, alpha: 0.0, beta: 6.0 };
    change(&mut op);
    let mut builder = PlanBuilder::new(Isa::Generic);
    builder.input("x", DType::F32, &[4])?.input("b", DType::I8, &[16])?.output("y", DType::F32, &[4])?;
    builder.op("fill", Fill { output: input, element_bytes: 4, bits: 0 });
    builder.op("clamp", op);
    builder.op("fill", Fill { output: Operand::output(0, 16), element_bytes: 4, bits: 0 });
    builder.finish()
}

#[test]
fn errors_name_the_op_and_the_field() {
    let refused = |change: fn(&mut UnaryF32)| match clamp(change) {
        Err(BuildError::Invalid(PlanError::Op { index: 1, kind: "UnaryF32", fault })) => fault,
        other => panic!("{other:?}"),
    };
    assert!(clamp(|_| ()).is_ok());
    assert!(clamp(|op| op.output = op.input).is_ok());
    assert!(clamp(|op| op.input = Operand::input(0, 16)).is_ok());
    assert!(clamp(|op| op.output = Operand::output(0, 16)).is_ok());
    assert_eq!(refused(|op| op.output.offset = 4), FieldFault::new("input", Fault::Overlap));
    assert_eq!(refused(|op| op.output.offset = 66), FieldFault::new("output", Fault::Unaligned));
    assert_eq!(refused(|op| op.input.offset = 16), FieldFault::new("input", Fault::Unwritten));
    assert_eq!(refused(|op| op.alpha = 7.0), FieldFault::new("alpha", Fault::OutOfRange));
    assert_eq!(refused(|op| op.beta = f32::NAN), FieldFault::new("beta", Fault::NotFinite));
    assert_eq!(refused(|op| op.output.len = 12), FieldFault::new("output", Fault::Length { expected: 16, found: 12 }));
    let error = clamp(|op| op.alpha = 7.0).unwrap_err();
    assert_eq!(std::format!("{error}"), "plan op 1 UnaryF32: alpha: out of range");
}

#[test]
fn an_op_stays_within_the_slices_of_the_caller() {
    let refused = |change: fn(&mut UnaryF32)| match clamp(change) {
        Err(BuildError::Invalid(PlanError::Op { index: 1, fault, .. })) => fault,
        other => panic!("{other:?}"),
    };
    // In place on an input, which would write to it.
    assert_eq!(refused(|op| op.output = Operand::input(0, 16)), FieldFault::new("output", Fault::ReadOnly));
    assert_eq!(refused(|op| op.output.section = Section::Data), FieldFault::new("output", Fault::ReadOnly));
    assert_eq!(refused(|op| op.input = Operand::input(2, 16)), FieldFault::new("input", Fault::OutOfBounds));
    assert_eq!(refused(|op| op.output = Operand::output(1, 16)), FieldFault::new("output", Fault::OutOfBounds));
    assert_eq!(refused(|op| op.input = Operand::input(0, 20)), FieldFault::new("input", Fault::OutOfBounds));
    // Bytes of the caller's may start anywhere.
    assert_eq!(refused(|op| op.input = Operand::input(1, 16)), FieldFault::new("input", Fault::Unaligned));
    assert_eq!(refused(|op| op.input = Operand::output(0, 16)), FieldFault::new("input", Fault::Unwritten));
    // Both borrowed from one slice of the caller's.
    let halves = |op: &mut UnaryF32| {
        op.input = Operand::output(0, 8);
        op.output = Operand { offset: 8, ..op.input };
    };
    assert_eq!(refused(halves), FieldFault::new("input", Fault::Overlap));
}

/// One product of a row of four values and a matrix, whose kernel works in 16 bytes. Scratch, input
/// and output lie at 0, 64 and 128 of the arena, which ends where the output does: at 192.
fn product(change: impl Fn(&mut MatMulF32)) -> Result<Plan<AlignedBytes>, BuildError> {
    let input = Operand::arena(64, 16);
    let mut builder = PlanBuilder::new(Isa::Generic);
    let mut op = MatMulF32 {
        a: input,
        b: builder.data(&[0.5f32; 16]).into(),
        output: Operand::arena(128, 16),
        count: 1,
        a_count: 1,
        b_count: 1,
        rows: 1,
        inner: 4,
        cols: 4,
        scratch: ArenaSpan { offset: 0, len: 16 },
    };
    change(&mut op);
    builder.output("y", DType::F32, &[4])?;
    builder.op("fill", Fill { output: input, element_bytes: 4, bits: 1f32.to_bits().into() });
    builder.op("product", op);
    builder.op("fill", Fill { output: Operand::output(0, 16), element_bytes: 4, bits: 0 });
    builder.finish()
}

#[test]
fn scratch_lies_in_the_arena_apart_from_tensors() {
    let refused = |change: fn(&mut MatMulF32)| match product(change) {
        Err(BuildError::Invalid(PlanError::Op { index: 1, kind: "MatMulF32", fault })) => {
            assert_eq!(fault.field, "scratch");
            fault.fault
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(product(|_| ()).unwrap().arena_bytes(), 192);
    // Before, between and behind the tensors, and where the output is the caller's.
    let orders: [fn(&mut MatMulF32); 5] = [
        |_| (),
        |op| (op.output.offset, op.scratch.offset) = (192, 128),
        |op| op.scratch.offset = 192,
        |op| op.output = Operand::output(0, 16),
        |op| (op.output, op.scratch.offset) = (Operand::output(0, 16), 128),
    ];
    for order in orders {
        let plan = product(order).unwrap();
        let (mut memory, mut outputs) = room(&plan);
        assert_eq!(plan.run(&mut memory, &[] as &[&[u8]], &mut outputs), Ok(()));
    }
    assert_eq!(refused(|op| op.scratch.offset = 4), Fault::Unaligned);
    assert_eq!(refused(|op| op.scratch.offset = 64), Fault::Overlap);
    assert_eq!(refused(|op| op.scratch.offset = 128), Fault::Overlap);
    assert_eq!(refused(|op| op.scratch.len = 12), Fault::Length { expected: 16, found: 12 });
    assert_eq!(refused(|op| op.scratch = ArenaSpan::default()), Fault::Length { expected: 16, found: 0 });
    // Behind the end of the arena, whose length in the header the builder would have raised.
    let mut bytes = AlignedBytes::from(product(|op| op.scratch.offset = 192).unwrap().as_bytes());
    let arena_bytes = bytes.chunks_exact(4).position(|word| word == 256u32.to_le_bytes()).unwrap();
    bytes[4 * arena_bytes..][..4].copy_from_slice(&192u32.to_le_bytes());
    seal(&mut bytes);
    let fault = FieldFault::new("scratch", Fault::OutOfBounds);
    assert_eq!(Plan::parse(bytes).unwrap_err(), PlanError::Op { index: 1, kind: "MatMulF32", fault });
}

#[test]
fn an_output_that_nothing_writes_is_refused() {
    let mut builder = PlanBuilder::new(Isa::Generic);
    builder.op("fill", Fill { output: Operand::output(0, 64), element_bytes: 1, bits: 0 });
    builder.output("y", DType::I8, &[65]).unwrap();
    let error = builder.finish().unwrap_err();
    let fault = FieldFault::new("dims", Fault::Unwritten);
    assert_eq!(error, BuildError::Invalid(PlanError::Output(0, fault)));
}

#[test]
fn another_version_isa_or_alignment_is_refused_by_name() {
    let plan = network(Isa::Generic);
    let altered = |change: fn(&mut [u8])| {
        let mut bytes = AlignedBytes::from(plan.as_bytes());
        change(&mut bytes);
        seal(&mut bytes);
        Plan::parse(bytes).unwrap_err()
    };
    assert_eq!(altered(|bytes| bytes[0] = b'X'), PlanError::NotAPlan);
    assert_eq!(altered(|bytes| bytes[8] += 1), PlanError::Version { found: VERSION + 1 });
    let error = altered(|bytes| bytes[24] = b'j');
    assert_eq!(std::format!("{error}"), "plan is for instruction set jeneric, which this CPU does not have");
    let mut shifted = AlignedBytes::zeroed(plan.as_bytes().len() + 1);
    shifted[1..].copy_from_slice(plan.as_bytes());
    assert_eq!(Plan::parse(&shifted[1..]).unwrap_err(), PlanError::Unaligned);
}

#[test]
#[cfg_attr(miri, ignore = "it is about what takes long")]
fn a_plan_that_takes_too_long_to_verify_is_refused() {
    let piece = |at: usize| Fill { output: Operand::arena(at, 1), element_bytes: 1, bits: 0 };
    let verified = |pieces: usize, reads: usize| {
        let mut builder = PlanBuilder::new(Isa::Generic);
        builder.output("y", DType::I8, &[pieces]).unwrap();
        let table = builder.data(&[0i8; 256]);
        for at in 0..pieces {
            builder.op("fill", piece(at));
        }
        let read = LutS8 { input: Operand::arena(0, pieces), output: Operand::output(0, pieces), table };
        for _ in 0..reads {
            builder.op("lut", read);
        }
        builder.finish().map(drop)
    };
    assert_eq!(verified(100, 100), Ok(()));
    let fault = FieldFault::new("input", Fault::TooManyWriters);
    // The fifth would go beyond 2^26 ops looked at.
    let refused = PlanError::Op { index: 4004, kind: "LutS8", fault };
    assert_eq!(verified(4000, 4000), Err(BuildError::Invalid(refused)));
}

#[test]
fn nothing_works_in_the_state() {
    let mut bytes = AlignedBytes::from(product(|_| ()).unwrap().as_bytes());
    let [state_bytes, window_rows] = [3, 1].map(|before_end| MAGIC.len() + 4 * (Header::WORDS - before_end));
    bytes[state_bytes..][..4].copy_from_slice(&64u32.to_le_bytes());
    bytes[window_rows..][..4].copy_from_slice(&1u32.to_le_bytes());
    seal(&mut bytes);
    let fault = FieldFault::new("scratch", Fault::Overlap);
    assert_eq!(Plan::parse(bytes).map(drop), Err(PlanError::Op { index: 1, kind: "MatMulF32", fault }));
}

#[test]
fn a_state_is_for_plans_that_run_hop_by_hop() {
    let altered = |word: usize, value: u32| {
        let mut bytes = AlignedBytes::from(hopping(Isa::Generic).as_bytes());
        bytes[MAGIC.len() + 4 * word..][..4].copy_from_slice(&value.to_le_bytes());
        seal(&mut bytes);
        Plan::parse(bytes).map(drop)
    };
    let [state_bytes, window_axis, window_rows] = [0, 1, 2].map(|field| Header::WORDS - 3 + field);
    let refused = |field, fault| Err(PlanError::Header(FieldFault::new(field, fault)));
    assert_eq!(altered(state_bytes, 64), Ok(()));
    // What the state would hold is read before it is written.
    let fault = FieldFault::new("output", Fault::Unwritten);
    assert_eq!(altered(state_bytes, 0), Err(PlanError::Op { index: 0, kind: "Shift", fault }));
    assert_eq!(altered(state_bytes, 8), refused("state_bytes", Fault::OutOfRange));
    assert_eq!(altered(state_bytes, 128), refused("state_bytes", Fault::OutOfRange));
    assert_eq!(altered(window_axis, 2), refused("window_axis", Fault::OutOfRange));
    assert_eq!(altered(window_rows, 1), refused("window_rows", Fault::OutOfRange));
    assert_eq!(altered(window_rows, 0), refused("state_bytes", Fault::OutOfRange));
}
