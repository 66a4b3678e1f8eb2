//! Which proto files the other crates generate their code from, and where their descriptors are kept.
//!
//! The descriptors stand beside the proto files, so that a build need not build a compiler of them first
//! (`docs/decisions/0030-descriptors-in-the-tree.md`). A test compiles the files, without `protoc`, and compares; `UPDATE_GOLDEN=1 cargo
//! test -p concord-descriptors` writes the descriptors anew. This crate needs none of the others, so that this works also where they do
//! not compile.

use std::path::{Path, PathBuf};

/// Proto files whose descriptors are kept in one file.
#[derive(Debug)]
pub struct DescriptorSet {
    /// File below `proto/` that holds the descriptors, a `google.protobuf.FileDescriptorSet` with comments.
    pub file: &'static str,
    /// Proto files below `proto/`.
    pub sources: &'static [&'static str],
}

/// What clients compile and reflection serves.
pub const PROTOCOL: DescriptorSet = DescriptorSet {
    file: "concord/v1/descriptors.binpb",
    sources: &[
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
    ],
};

/// How the store writes its rows; never served.
pub const STORE: DescriptorSet = DescriptorSet {
    file: "concord/store/v1/descriptors.binpb",
    sources: &["concord/store/v1/verdict.proto", "concord/store/v1/submission.proto"],
};

impl DescriptorSet {
    /// Where the descriptors are kept.
    pub fn path(&self) -> PathBuf {
        proto().join(self.file)
    }
}

/// The folder of the proto files.
pub fn proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}
