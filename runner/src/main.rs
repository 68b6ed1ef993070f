//! How `tractlet-plan` starts: everything that it does is in the library.

#![no_std]
#![no_main]

extern crate alloc;

mod bare;
