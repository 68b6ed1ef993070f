//! The program brings its own start, in the place of the C library's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-nostartfiles");
}
