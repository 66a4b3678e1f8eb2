//! The `concord` program: everything is in the library, `cli` reads the arguments.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The first byte of a huge page makes two MiB resident, several times for each thread that begins to work. Where the system
    // cannot turn them off, only that memory is lost.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    concord::cli::main()
}
