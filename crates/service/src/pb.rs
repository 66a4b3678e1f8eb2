//! The protocol's types and services, generated from `proto/`. Only the edge (`convert`, `rpc`, `server`, `cli`, `demo`)
//! knows them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;

#[allow(clippy::all, reason = "generated code")]
mod generated {
    tonic::include_proto!("concord.v1");
}

pub use generated::*;

/// The descriptors of the protocol, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("../../../proto/concord/v1/descriptors.binpb");

/// The same for messages whose type is known only at run time.
pub static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());

/// Path of every method of the protocol: `/concord.v1.EnrichmentService/Enrich`.
pub static METHOD_PATHS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let services =
        descriptors.file.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    let paths = services.flat_map(|(package, service)| {
        service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
    });
    paths.collect()
});

/// `concord.v1.EnrichResponse`, with verdict and receipt as their encoded bytes.
///
/// On the wire a message field and a bytes field are the same, so that a verdict that was encoded once is sent again
/// without being decoded or encoded, and most of its receipt as well.
#[derive(Clone, PartialEq, Message)]
pub struct EnrichResponse {
    /// The encoded [`Verdict`].
    #[prost(bytes = "bytes", tag = "1")]
    pub verdict: Bytes,
    /// The encoded [`Receipt`]: what differs from call to call.
    #[prost(bytes = "bytes", tag = "2")]
    pub receipt: Bytes,
    /// Related indicators, where the request asks for them.
    #[prost(message, optional, tag = "3")]
    pub graph: Option<RelationGraph>,
    /// What other policies make of the same outcomes, where the request asks for it.
    #[prost(message, repeated, tag = "4")]
    pub comparisons: Vec<PolicyComparison>,
}

impl EnrichResponse {
    /// The verdict, decoded.
    ///
    /// # Errors
    /// When the bytes are no verdict.
    pub fn decode_verdict(&self) -> Result<Verdict, prost::DecodeError> {
        Verdict::decode(self.verdict.clone())
    }

    /// The receipt, decoded.
    ///
    /// # Errors
    /// When the bytes are no receipt.
    pub fn decode_receipt(&self) -> Result<Receipt, prost::DecodeError> {
        Receipt::decode(self.receipt.clone())
    }
}
