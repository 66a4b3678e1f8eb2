//! Part of layer 7: records each disclosure before the indicator is sent.

use std::sync::Arc;

use super::attempt::AttemptError;
use super::waiters::{DisclosureEntry, Waiters};
use crate::clock::Clock;
use crate::source::Question;
use crate::store::{Disclosure, Ledger, StoreError, new_id};

/// Records what is disclosed to one source.
#[derive(Clone)]
pub(super) struct DisclosureLog {
    pub(super) source: String,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
}

impl DisclosureLog {
    /// Records one entry for each caller who joined since the unit was acquired, before the first call to `host` is
    /// made.
    pub(super) async fn record_waiting(
        &self,
        waiters: &Waiters,
        first: &DisclosureEntry,
        host: &str,
    ) -> Result<(), AttemptError> {
        while let Some(entry) = waiters.take_unrecorded(first, host) {
            if let Err(error) = self.record(&entry, host).await {
                waiters.unmark_recorded(&entry);
                return Err(AttemptError::ledger_unreachable(&self.source, &error));
            }
        }
        Ok(())
    }

    /// Records the disclosure for a caller who joined after it happened. Since it cannot be undone, a failure does not
    /// stop the look-up.
    pub(super) async fn record_late(&self, entry: &DisclosureEntry, host: &str) {
        if let Err(error) = self.record(entry, host).await {
            tracing::error!(source = self.source, caller = entry.caller, %error, "a disclosure could not be recorded");
        }
    }

    /// The record that must be stored before the indicator is sent to `host`.
    pub(super) fn disclosure(&self, entry: &DisclosureEntry, host: &str) -> Disclosure {
        let now = self.clock.now();
        Disclosure {
            id: new_id(now),
            time: now,
            indicator: entry.indicator.clone(),
            source: self.source.clone(),
            to: host.to_owned(),
            caller: entry.caller.clone(),
            tlp: entry.tlp,
            submission: entry.submission.clone(),
        }
    }

    async fn record(&self, entry: &DisclosureEntry, host: &str) -> Result<(), StoreError> {
        self.ledger.record_disclosure(self.disclosure(entry, host)).await
    }
}

/// The recipient of a disclosure: the host of a URL, the zone of a DNS name.
pub(super) fn host_of(question: &Question) -> &str {
    match question {
        Question::Http(http) => http.url.host_str().unwrap_or_default(),
        Question::Dns(dns) => &dns.zone,
        Question::List(_) => "",
    }
}
