//! Features of a second of sound on a Cortex-M3, which has no FPU, and what they take. They are in fixed point, and no function that
//! computes with floats is linked; with the feature `float` they are in floats, to compare.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use front::{FEATURES, SAMPLES};

#[path = "../../../../core/examples/mfcc/front.rs"]
#[cfg_attr(feature = "float", allow(dead_code, reason = "tables of integers"))]
mod front;
#[path = "../stack.rs"]
mod stack;

/// A second of 16-bit samples, in flash.
static SOUND: [i16; SAMPLES] = {
    let bytes: &[u8; 2 * SAMPLES] = include_bytes!(env!("FIRMWARE_INPUT"));
    let mut samples = [0; SAMPLES];
    let mut at = 0;
    while at < SAMPLES {
        samples[at] = i16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        at += 1;
    }
    samples
};

/// Of the board's 25 MHz clock, while QEMU counts an instruction as a nanosecond.
const INSTRUCTIONS_OF_TICK: u32 = 40;

#[entry]
fn main() -> ! {
    let mut clock = cortex_m::Peripherals::take().unwrap().SYST;
    clock.set_clock_source(SystClkSource::Core);
    clock.set_reload(0x00ff_ffff);
    clock.clear_current();
    clock.enable_counter();
    let room = cortex_m::singleton!(: [i32; FEATURES] = [0; FEATURES]).unwrap();
    stack::paint();
    let ticks = features(room, || cortex_m::peripheral::SYST::get_current());
    let stack_bytes = stack::deepest();
    hprintln!("instructions {}", ticks * INSTRUCTIONS_OF_TICK);
    hprintln!("stack_bytes {}", stack_bytes);
    room.iter().for_each(|feature| hprintln!("feature {:08x}", feature));
    debug::exit(debug::EXIT_SUCCESS);
    unreachable!()
}

/// Fills `out`, and gives how far a clock that counts down went meanwhile.
#[cfg(not(feature = "float"))]
fn features(out: &mut [i32], clock: fn() -> u32) -> u32 {
    use tractlet_core::signal::fixed::{FULL_SCALE, peak};

    let work = cortex_m::singleton!(: [[i32; 2]; 256] = [[0; 2]; 256]).unwrap();
    let began = clock();
    let unit = peak(SOUND.iter().copied()).unwrap_or(FULL_SCALE);
    front::MFCC.run(&SOUND, 1, 0, unit, work, out);
    began - clock()
}

#[cfg(feature = "float")]
fn features(out: &mut [i32], clock: fn() -> u32) -> u32 {
    use tractlet_core::signal::{channel, spectral::Spectral, stats};

    let samples = cortex_m::singleton!(: [f32; SAMPLES] = [0.0; SAMPLES]).unwrap();
    let features = cortex_m::singleton!(: [f32; FEATURES] = [0.0; FEATURES]).unwrap();
    let Ok(mut mfcc) = Spectral::new(front::SHAPE) else { panic!("the shape does not fit") };
    let began = clock();
    samples.iter_mut().zip(&SOUND).for_each(|(place, &sample)| *place = f32::from(sample) / 32768.0);
    let gain = stats::peak(channel(samples, 1, 0)).recip();
    mfcc.run(samples, 1, 0, gain, features);
    let ended = clock();
    out.iter_mut().zip(features).for_each(|(place, feature)| *place = (*feature * 65536.0) as i32);
    began - ended
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("error: {}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
