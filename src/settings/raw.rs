//! The configuration file as it is written. Nothing is judged here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::SourcePatch;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) listen: Option<String>,
    pub(super) insecure_listen: bool,
    pub(super) data_directory: Option<String>,
    pub(super) default_deadline: Option<String>,
    pub(super) default_policy: Option<String>,
    pub(super) durability: Option<String>,
    pub(super) cors_origins: Vec<String>,
    pub(super) never_send: Vec<String>,
    pub(super) internal_suffixes: Vec<String>,
    pub(super) list_folders: Vec<String>,
    pub(super) allowed_networks: Vec<String>,
    pub(super) tls: Option<RawTls>,
    /// Name of the caller to SHA-256 of its token.
    pub(super) tokens: BTreeMap<String, String>,
    pub(super) log: RawLog,
    pub(super) limits: RawLimits,
    pub(super) retention: RawRetention,
    pub(super) sources: BTreeMap<String, RawSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawTls {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawLimits {
    pub(super) max_in_flight: Option<usize>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_message_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRetention {
    pub(super) answers_age: Option<String>,
    pub(super) answers_bytes: Option<u64>,
    pub(super) verdicts_age: Option<String>,
    pub(super) disclosures_age: Option<String>,
}

/// A source in the file: what the API can patch too, and what only a file may say.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSource {
    pub(super) kind: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) reliability: Option<String>,
    /// A value, `env:NAME` or `file:PATH`.
    pub(super) credential: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) family: Option<String>,
    pub(super) tier: Option<String>,
    pub(super) quota: Option<BTreeMap<String, u64>>,
    pub(super) timeout: Option<String>,
    pub(super) finding_ttl: Option<String>,
    pub(super) no_record_ttl: Option<String>,
    pub(super) max_tlp: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) options: BTreeMap<String, serde_json::Value>,
}

impl RawSource {
    /// The part that can be laid in layers; `ca_pem` is what stands in `ca_file`.
    pub(super) fn patch(&self, ca_pem: Option<String>) -> SourcePatch {
        SourcePatch {
            kind: self.kind.clone(),
            enabled: self.enabled,
            reliability: self.reliability.clone(),
            base_url: self.base_url.clone(),
            family: self.family.clone(),
            tier: self.tier.clone(),
            quota: self.quota.clone(),
            timeout: self.timeout.clone(),
            finding_ttl: self.finding_ttl.clone(),
            no_record_ttl: self.no_record_ttl.clone(),
            max_tlp: self.max_tlp.clone(),
            proxy: self.proxy.clone(),
            ca_pem,
            options: self.options.clone(),
        }
    }
}

impl std::fmt::Debug for RawSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSource").field("kind", &self.kind).finish_non_exhaustive()
    }
}
