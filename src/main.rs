//! The `tractlet` command. See `tractlet --help`, and the library for everything it does.

mod cli;

use tractlet::footprint::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> std::process::ExitCode {
    cli::main()
}
