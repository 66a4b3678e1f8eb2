//! Picks the transport of a source by its kind.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Transport;
use super::dns::DnsTransport;
use super::http::HttpTransport;
use super::list::ListTransport;
use crate::clock::Clock;
use crate::finding::SourceError;
use crate::source::{EgressRules, Source, SourceSettings, TransportKind};

/// The transport of a source with these settings. Opens no connection yet. A list is loaded in tasks of `tracker`, so that
/// no look-up has to drive it.
///
/// # Errors
/// When the settings cannot be used: an address that may not be reached, authorities that are no certificates.
pub fn transport_for(
    source: Arc<dyn Source>,
    settings: Arc<SourceSettings>,
    rules: EgressRules,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
) -> Result<Arc<dyn Transport>, SourceError> {
    Ok(match source.about().transport {
        TransportKind::Http => Arc::new(HttpTransport::new(&settings, rules, clock)?),
        TransportKind::Dns => Arc::new(DnsTransport::new(&settings, rules, clock)),
        TransportKind::List => Arc::new(ListTransport::new(source, settings, rules, clock, tracker)?),
    })
}
