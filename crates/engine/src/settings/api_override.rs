//! What the API set on each source, as it is stored: the patch in clear, the credential sealed.

use aws_lc_rs::digest;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::SourcePatch;
use crate::error::Error;
use crate::indicator::hex;
use crate::store::{Sealer, SourceRow};

/// What the API set on one source.
#[derive(Clone, Default)]
pub(super) struct ApiOverride {
    pub(super) revision: u64,
    pub(super) patch: SourcePatch,
    pub(super) credential: Option<SecretString>,
    /// Where the credential may go, as [`credential_scope`](super::build::credential_scope) states it; empty without one.
    pub(super) credential_for: String,
    /// Why the stored row, or part of it, cannot be used.
    pub(super) unreadable: Option<Unreadable>,
}

/// Why a stored row cannot be used.
#[derive(Clone)]
pub(super) enum Unreadable {
    /// Its document is none of ours; what it restricted is not known.
    Document(String),
    /// Its credential was sealed with another key.
    Credential,
}

impl ApiOverride {
    /// Whether it patches a declaration: a source made over the API names its kind.
    pub(super) fn is_patch(&self) -> bool {
        self.patch.kind.is_none() && self.unreadable.is_none()
    }

    /// The row to store under this name.
    pub(super) fn to_row(&self, name: &str, sealer: &Sealer) -> Result<SourceRow, Error> {
        let document = Document { patch: self.patch.clone(), credential_for: self.credential_for.clone() };
        Ok(SourceRow {
            name: name.to_owned(),
            revision: self.revision,
            document: serde_json::to_string(&document).map_err(|error| unwritten(&error))?,
            credential: self.credential.as_ref().map(|secret| sealer.seal(name, secret)).transpose()?,
        })
    }
}

/// The part of a row that is stored in clear.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(flatten)]
    patch: SourcePatch,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    credential_for: String,
}

impl Unreadable {
    /// The reason and what to do.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Document(why) => {
                format!("the stored settings cannot be read ({why}): set them again, every field that matters")
            }
            Self::Credential => {
                "the stored credential cannot be decrypted with this key: give it again, or reset it".into()
            }
        }
    }
}

/// Changes with every change; the same for what was never patched.
pub(super) fn etag_of(row: Option<&ApiOverride>) -> String {
    let Some(row) = row else { return "r0".into() };
    // Revisions restart at 1 after re-creation, so the etag includes a hash of the patch.
    let patch = serde_json::to_string(&row.patch).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, patch.as_bytes());
    format!("r{}-{:.8}", row.revision, hex(hash.as_ref()))
}

/// Reads a row. An unreadable row is remembered as such: a restriction in it must not be lifted silently, and its
/// revision is needed to overwrite it.
pub(super) fn read_row(row: &SourceRow, sealer: &Sealer) -> ApiOverride {
    let mut read = ApiOverride { revision: row.revision, ..ApiOverride::default() };
    match serde_json::from_str(&row.document) {
        Ok(Document { patch, credential_for }) => {
            read.patch = patch;
            read.credential_for = credential_for;
        }
        Err(error) => {
            // The kind alone keeps the source in the lists, where its state says what is wrong.
            let document = serde_json::from_str::<serde_json::Value>(&row.document).unwrap_or_default();
            read.patch.kind = document.get("kind").and_then(|kind| kind.as_str()).map(str::to_owned);
            read.unreadable = Some(Unreadable::Document(error.to_string()));
        }
    }
    match row.credential.as_ref().map(|sealed| sealer.open(&row.name, sealed)) {
        Some(Ok(credential)) => read.credential = Some(credential),
        Some(Err(_)) => read.unreadable = read.unreadable.or(Some(Unreadable::Credential)),
        None => {}
    }
    if let Some(unreadable) = &read.unreadable {
        warn!(source = row.name, why = unreadable.message(), "the stored settings of a source cannot be used");
    }
    read
}

fn unwritten(error: &serde_json::Error) -> Error {
    warn!(%error, "the settings of a source could not be written");
    Error::Unavailable { message: "the settings could not be stored".into(), retry_after: None }
}
