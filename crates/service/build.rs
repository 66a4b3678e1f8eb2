//! Generates the protocol's code from its descriptors (`crates/descriptors`).

use std::error::Error;
use std::fs;

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let kept = "../../proto/concord/v1/descriptors.binpb";
    println!("cargo:rerun-if-changed={kept}");
    tonic_prost_build::configure()
        // A kept verdict travels as the bytes it was encoded to once (see `pb.rs`).
        .extern_path(".concord.v1.EnrichResponse", "crate::pb::EnrichResponse")
        .compile_fds(FileDescriptorSet::decode(&*fs::read(kept)?)?)?;
    Ok(())
}
