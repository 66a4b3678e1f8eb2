//! What the sources cost and what was saved.

use std::time::SystemTime;

use super::Engine;
use crate::error::Error;
use crate::fetch::{CounterSnapshot, SourcePipeline};
use crate::finding::SourceError;
use crate::store::WindowUse;

/// What one source cost since the server started, and where its windows stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The source's name, without `sources/`.
    pub source: String,
    /// Its windows as they stand now.
    pub quota: Vec<WindowUse>,
    /// Until when it is not asked, since it said that its quota is used up.
    pub suspended_until: Option<SystemTime>,
    /// What it cost and what was saved.
    pub counters: CounterSnapshot,
}

impl Engine {
    /// Counts that a cached verdict answered for these sources, so that they were not asked.
    pub fn count_saved<'a>(&self, sources: impl Iterator<Item = &'a str>) {
        for source in sources {
            self.pipelines.counters(source).count_saved();
        }
    }

    /// The usage of these sources, or of all, in order of name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown source.
    pub async fn usage(&self, names: &[String]) -> Result<Vec<Usage>, Error> {
        let pipelines = self.pipelines.current();
        let mut usage = Vec::new();
        for entry in self.named(&pipelines.entries, names)? {
            let quota = match &entry.pipeline {
                Ok(pipeline) => pipeline.quota_usage().await,
                Err(_) => Vec::new(),
            };
            let suspended_until = entry.pipeline.as_ref().ok().and_then(SourcePipeline::suspended_until);
            let (source, counters) = (entry.name().to_owned(), entry.counters.snapshot());
            usage.push(Usage { source, quota, suspended_until, counters });
        }
        Ok(usage)
    }

    /// Why the source of this name is not asked because it refused the credential, if it is.
    pub fn credential_refusal(&self, name: &str) -> Option<SourceError> {
        let pipelines = self.pipelines.current();
        let entry = pipelines.entries.iter().find(|entry| entry.name() == name)?;
        entry.pipeline.as_ref().ok()?.credential_refusal()
    }

    /// Until when the source of this name is not asked, since it said that its quota is used up.
    pub fn suspended_until(&self, name: &str) -> Option<SystemTime> {
        let pipelines = self.pipelines.current();
        let entry = pipelines.entries.iter().find(|entry| entry.name() == name)?;
        entry.pipeline.as_ref().ok()?.suspended_until()
    }
}
