//! The configuration file as it is written. Nothing is judged here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::patch::SourceInFile;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) listen: Option<String>,
    pub(super) insecure_listen: bool,
    pub(super) data_directory: Option<String>,
    pub(super) default_deadline: Option<String>,
    pub(super) default_policy: Option<String>,
    pub(super) durability: Option<String>,
    pub(super) cors_origins: Vec<String>,
    pub(super) host_names: Vec<String>,
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
    pub(super) submissions: RawSubmissions,
    pub(super) caller_budget: RawCallerBudget,
    pub(super) sources: BTreeMap<String, SourceInFile>,
    /// Their values have one path each, so that they are not read here.
    pub(super) policies: BTreeMap<String, toml::Table>,
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
    pub(super) max_connections_without_credential: Option<usize>,
    pub(super) credential_timeout: Option<String>,
    pub(super) max_calls_per_connection: Option<u32>,
    pub(super) max_health_watches: Option<usize>,
    pub(super) send_timeout: Option<String>,
    pub(super) max_message_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRetention {
    pub(super) answers_age: Option<String>,
    pub(super) answers_bytes: Option<u64>,
    pub(super) verdicts_age: Option<String>,
    pub(super) disclosures_age: Option<String>,
    pub(super) store_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawCallerBudget {
    pub(super) units_per_day: Option<u64>,
    /// Units by name of the caller.
    pub(super) callers: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSubmissions {
    pub(super) submitters: Option<Vec<String>>,
    pub(super) approvers: Option<Vec<String>>,
    pub(super) max_file_bytes: Option<u64>,
    pub(super) spool_bytes: Option<u64>,
    pub(super) expiry: Option<String>,
    pub(super) sensitive_words: Vec<String>,
    pub(super) own_names: Vec<String>,
    pub(super) sources: BTreeMap<String, RawSubmissionSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSubmissionSource {
    pub(super) enabled: bool,
    pub(super) max_tlp: Option<String>,
    pub(super) private_enabled: bool,
    pub(super) private_max_tlp: Option<String>,
}
