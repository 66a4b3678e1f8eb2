//! A file on its way to a source.

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::stream::BoxStream;

/// A file to be uploaded. Its bytes are read by the transport alone, in pieces.
#[derive(Clone)]
pub struct FileBody {
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// Where the bytes come from.
    pub content: Arc<dyn FileContent>,
}

/// The bytes of a file.
pub trait FileContent: Send + Sync + 'static {
    /// The bytes from the beginning, in pieces.
    fn pieces(&self) -> BoxStream<'static, io::Result<Vec<u8>>>;
}

impl PartialEq for FileBody {
    fn eq(&self, other: &Self) -> bool {
        (&self.sha256, self.size) == (&other.sha256, other.size)
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").field("sha256", &self.sha256).field("size", &self.size).finish_non_exhaustive()
    }
}
