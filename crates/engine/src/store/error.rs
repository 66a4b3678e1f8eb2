//! Errors of the store.

use std::fmt;

use super::id::new_incident;
use crate::error::Error;

/// An error of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The kind of error.
    pub kind: StoreErrorKind,
    /// What failed, for the operator. Never holds a secret.
    pub detail: String,
}

/// The kinds of errors that a store can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Another process holds a lock.
    Busy,
    /// The store cannot be reached: an I/O failure, a lost connection, or it is closed.
    Unavailable,
    /// The disk is full.
    Full,
    /// The file of the store was moved, deleted or replaced.
    Gone,
    /// The stored data cannot be read: it is damaged, or of a newer version.
    Corrupt,
    /// A rule of the store or a wrong setting forbids it.
    Rejected,
}

impl StoreError {
    /// An error of this kind. `detail` must not contain a secret.
    pub fn new(kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The store cannot be reached.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, detail)
    }

    /// The stored data cannot be read.
    pub fn corrupt(detail: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, detail)
    }

    /// A rule or setting forbids it.
    pub fn rejected(detail: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Rejected, detail)
    }

    /// Whether the same call may succeed later without any intervention. That includes a full disk, since pruning frees
    /// space.
    pub fn is_transient(&self) -> bool {
        match self.kind {
            StoreErrorKind::Busy | StoreErrorKind::Unavailable | StoreErrorKind::Full | StoreErrorKind::Gone => true,
            StoreErrorKind::Corrupt | StoreErrorKind::Rejected => false,
        }
    }
}

/// The cause is logged for the operator instead of being shown to callers.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::error!(%error, "the store failed");
            return Self::Unavailable { message: "the store cannot be reached".into(), retry_after: None };
        }
        let incident = new_incident();
        tracing::error!(incident, %error, "the store failed");
        Self::Internal { incident }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: {}", self.detail)
    }
}

impl std::error::Error for StoreError {}
