//! The program brings its own start, in the place of the C library's, and leaves out what would unwind its stack.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwind.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-nostartfiles");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
}
