//! The settings of one source as they are in effect, and what they are while its user says nothing.
//!
//! No reading of files or environment: `settings` fills these in. Never shows the credential.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::{About, CacheTtl, OptionValue, Proxy, QuotaWindow, QuotaZone};
use crate::finding::Reliability;
use crate::indicator::Tlp;

/// Percentage of each quota window that is reserved for interactive requests unless the user sets another.
const DEFAULT_QUOTA_RESERVE: u32 = 20;
/// Maximum of calls to a source at once unless the user sets another.
const DEFAULT_MAX_CONCURRENCY: u32 = 100;

/// The settings of one source as they are in effect: nothing optional that is needed, every option filled in.
#[derive(Clone)]
pub struct SourceSettings {
    /// Its name without `sources/`: lower-case letters, digits, `-`, `_`; at most 63 characters.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether it is asked at all.
    pub enabled: bool,
    /// How far its user trusts it.
    pub reliability: Reliability,
    /// The family its user declares, if any.
    pub family: Option<String>,
    /// Tier of service, one of its kind's.
    pub tier: String,
    /// The credential. `Debug` shows that there is one, never which.
    pub credential: Option<SecretString>,
    /// Where questions go.
    pub base_url: Option<Url>,
    /// Its quota; empty means none.
    pub quota: Vec<QuotaWindow>,
    /// Time zone in which the windows of its quota begin.
    pub quota_zone: QuotaZone,
    /// Percentage of each quota window that only interactive requests may spend, 0 to 100.
    pub quota_reserve: u32,
    /// Whether background requests are spread over the day.
    pub quota_pacing: bool,
    /// Maximum of calls to it at once, 1 to 1,000.
    pub max_concurrency: u32,
    /// Time for one attempt.
    pub timeout: Duration,
    /// How long answers are cached.
    pub cache_ttl: CacheTtl,
    /// Highest TLP that it may see.
    pub max_tlp: Tlp,
    /// Proxy for its HTTP requests; `None`: they leave directly.
    pub proxy: Option<Proxy>,
    /// PEM of the certificate authorities to trust for it in place of the system's.
    pub ca_pem: Option<String>,
    /// Every option of its kind, filled with the kind's default where the user said nothing. An option without a
    /// default that is not set is absent.
    pub options: BTreeMap<String, OptionValue>,
    /// Where the options that name a file lead, links followed, as it was when the settings were read; one that led
    /// nowhere is absent. Tells lists apart; what is read is looked for anew each time.
    pub real_files: BTreeMap<String, PathBuf>,
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSettings")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("enabled", &self.enabled)
            .field("reliability", &self.reliability)
            .field("tier", &self.tier)
            .field("credential", &self.credential.as_ref().map(|_| "***"))
            .field("base_url", &self.base_url.as_ref().map(Url::as_str))
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl SourceSettings {
    /// The settings of a source of this kind whose user says nothing but its name: every default of the kind, its
    /// first tier, no credential, enabled.
    pub fn from_defaults(about: &About, name: &str) -> Self {
        let tier = about.tiers.first();
        Self {
            name: name.to_owned(),
            kind: about.kind.clone(),
            enabled: true,
            reliability: about.reliability,
            family: None,
            tier: tier.map(|tier| tier.name.clone()).unwrap_or_default(),
            credential: None,
            base_url: about.base_url.clone(),
            quota: tier.map(|tier| tier.quota.clone()).unwrap_or_default(),
            quota_zone: QuotaZone::default(),
            quota_reserve: DEFAULT_QUOTA_RESERVE,
            quota_pacing: false,
            max_concurrency: DEFAULT_MAX_CONCURRENCY,
            timeout: about.timeout,
            cache_ttl: about.cache_ttl,
            max_tlp: about.max_tlp,
            proxy: None,
            ca_pem: None,
            options: default_options(about),
            real_files: BTreeMap::new(),
        }
    }
}

/// The options that have a default, with it.
fn default_options(about: &About) -> BTreeMap<String, OptionValue> {
    let with_default = about.options.iter().filter_map(|spec| Some((spec.name.clone(), spec.default.clone()?)));
    with_default.collect()
}
