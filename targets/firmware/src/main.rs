//! Runs one plan on one input without an operating system, and tells the host over semihosting what came out, what the
//! arena takes and how deep the stack went.
//!
//! The plan lies in flash and is run there; of RAM it takes its arena, its input and its outputs.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use tractlet_core::plan::{DType, Plan};

mod stack;

/// At the alignment of plans and arenas.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static PLAN: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("FIRMWARE_PLAN")));
static INPUT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("FIRMWARE_INPUT")));

/// As `tractlet compile` stated it; a plan that takes more is refused when it is run.
const ARENA_BYTES: usize = bytes(env!("FIRMWARE_ARENA"));
/// The outputs of the shipped models are smaller.
const OUTPUT_BYTES: usize = 4096;

const fn bytes(digits: &str) -> usize {
    let (mut number, mut at) = (0, 0);
    while at < digits.len() {
        number = 10 * number + (digits.as_bytes()[at] - b'0') as usize;
        at += 1;
    }
    number
}

#[entry]
fn main() -> ! {
    let status = match run() {
        Ok(()) => debug::EXIT_SUCCESS,
        Err(why) => {
            hprintln!("error: {}", why);
            debug::EXIT_FAILURE
        }
    };
    debug::exit(status);
    unreachable!()
}

fn run() -> Result<(), &'static str> {
    let plan = Plan::parse(&PLAN.0).map_err(|error| {
        hprintln!("{}", error);
        "the plan was refused"
    })?;
    let output = plan.outputs().next().ok_or("the plan has no output")?;
    let output_bytes = output.byte_len();
    // Once, and for good: main is not entered again.
    let arena = cortex_m::singleton!(: Aligned<[u8; ARENA_BYTES]> = Aligned([0; ARENA_BYTES])).ok_or("taken")?;
    let room = cortex_m::singleton!(: Aligned<[u8; OUTPUT_BYTES]> = Aligned([0; OUTPUT_BYTES])).ok_or("taken")?;
    let room = room.0.get_mut(..output_bytes).ok_or("the output is larger than its room")?;
    stack::paint();
    let done = plan.run(&mut arena.0, &[&INPUT.0], &mut [&mut *room]);
    let stack_bytes = stack::deepest();
    done.map_err(|error| {
        hprintln!("{}", error);
        "the plan failed"
    })?;
    hprintln!("arena_bytes {}", plan.arena_bytes());
    hprintln!("plan_bytes {}", plan.as_bytes().len());
    hprintln!("stack_bytes {}", stack_bytes);
    for element in room.chunks_exact(output.dtype.size_bytes()) {
        match (output.dtype, element) {
            (DType::F32, &[a, b, c, d]) => hprintln!("output {:08x}", u32::from_le_bytes([a, b, c, d])),
            (_, bytes) => hprintln!("output {:02x}", bytes[0]),
        }
    }
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("error: {}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
