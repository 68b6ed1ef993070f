//! Where the linker finds the memory map, and how large the plan's arena is.

use std::{env, fs};

fn main() {
    println!("cargo:rustc-link-search={}", env::var("CARGO_MANIFEST_DIR").unwrap());
    for argument in ["-Tlink.x", "--nmagic"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for variable in ["FIRMWARE_PLAN", "FIRMWARE_INPUT"] {
        println!("cargo:rerun-if-env-changed={variable}");
        let path =
            env::var(variable).unwrap_or_else(|_| panic!("{variable} names no file; see targets/test-firmware.sh"));
        println!("cargo:rerun-if-changed={path}");
        fs::metadata(&path).unwrap_or_else(|error| panic!("{variable}: {path}: {error}"));
    }
    println!("cargo:rerun-if-env-changed=FIRMWARE_ARENA");
    println!("cargo:rerun-if-changed=memory.x");
}
