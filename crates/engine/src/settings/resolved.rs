//! What the registry hands out and takes: a source as it is in effect, and the request to change one.

use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;

use super::{Origin, SourcePatch};
use crate::finding::Family;
use crate::source::{Kind, Source, SourceSettings};

/// Whether a source can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is asked.
    Active,
    /// It is switched off.
    Disabled,
    /// This is missing.
    NotConfigured(String),
}

/// A source as it is in effect.
#[derive(Clone)]
pub struct ResolvedSource {
    /// Its settings.
    pub settings: Arc<SourceSettings>,
    /// Its kind.
    pub kind: Arc<dyn Kind>,
    /// The source that its kind built from the settings.
    pub source: Arc<dyn Source>,
    /// Where it is declared; `None`: over the API.
    pub origin: Option<Origin>,
    /// The fields in which the API wins over the declaration.
    pub patched: Vec<String>,
    /// Changes with every change.
    pub etag: String,
    /// Whether it can be asked.
    pub state: State,
    /// Whether an address or file in its settings was given over the API, so that the strict egress rules hold.
    pub from_api: bool,
    /// Whether its proxy was given over the API.
    pub proxy_from_api: bool,
}

impl ResolvedSource {
    /// Which sources count as one opinion with it.
    pub fn family(&self) -> Family {
        self.source.family(self.settings.family.as_deref())
    }
}

impl fmt::Debug for ResolvedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedSource")
            .field("settings", &self.settings)
            .field("origin", &self.origin)
            .field("patched", &self.patched)
            .field("etag", &self.etag)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A request to create or change a source.
#[derive(Clone, Default)]
pub struct Change {
    /// Its name, without `sources/`.
    pub name: String,
    /// The fields to write.
    pub patch: SourcePatch,
    /// The credential to set; `None` with `credential` in the mask: to remove.
    pub credential: Option<SecretString>,
    /// Paths to write; `None`: every field that is set.
    pub mask: Option<Vec<String>>,
    /// Paths to take back to what file or environment declares.
    pub reset: Vec<String>,
    /// Whether a source that does not exist is created.
    pub allow_missing: bool,
    /// The etag that the caller saw; empty: whatever it is.
    pub etag: String,
}

impl Change {
    /// Whether a credential comes along that takes effect: one that the mask leaves out, or that is taken back, does not.
    pub(super) fn brings_credential(&self) -> bool {
        let named = |paths: &[String]| paths.iter().any(|path| path == "credential");
        self.credential.is_some() && self.mask.as_deref().is_none_or(named) && !named(&self.reset)
    }
}
