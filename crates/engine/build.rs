//! Generates the messages of the store from their descriptors (`crates/descriptors`).

use std::error::Error;
use std::fs;

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let kept = "../../proto/concord/store/v1/descriptors.binpb";
    println!("cargo:rerun-if-changed={kept}");
    tonic_prost_build::configure().compile_fds(FileDescriptorSet::decode(&*fs::read(kept)?)?)?;
    Ok(())
}
