//! Makes the protocol's code from `proto/` of the workspace with a compiler that is itself Rust: no `protoc` is needed.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;

/// What clients compile and reflection serves.
const PROTOCOL: [&str; 17] = [
    "concord/v1/indicator.proto",
    "concord/v1/verdict.proto",
    "concord/v1/comparison.proto",
    "concord/v1/feedback.proto",
    "concord/v1/error.proto",
    "concord/v1/source.proto",
    "concord/v1/enrichment_service.proto",
    "concord/v1/source_service.proto",
    "concord/v1/policy.proto",
    "concord/v1/policy_service.proto",
    "concord/v1/verdict_service.proto",
    "concord/v1/submission.proto",
    "concord/v1/submission_service.proto",
    "concord/v1/history.proto",
    "concord/v1/engines.proto",
    "concord/v1/history_threshold.proto",
    "concord/v1/history_service.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo names the folder for generated code in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(PROTOCOL, ["../../proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("concord.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // A kept verdict travels as the bytes it was encoded to once (see `pb.rs`).
        .extern_path(".concord.v1.EnrichResponse", "crate::pb::EnrichResponse")
        .compile_fds(descriptors)?;
    Ok(())
}
