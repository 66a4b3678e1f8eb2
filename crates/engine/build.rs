//! Makes the messages of the store from `proto/` of the workspace with a compiler that is itself Rust: no `protoc` is needed.

use std::error::Error;

/// How the store writes its rows; never served.
const STORE: [&str; 2] = ["concord/store/v1/verdict.proto", "concord/store/v1/submission.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto/concord/store");
    tonic_prost_build::configure().compile_fds(protox::compile(STORE, ["../../proto"])?)?;
    Ok(())
}
