//! What was written (file, environment, flags, API) becomes what is meant.
//!
//! Read `load.rs` first: with `document.rs`, which parses the file into `raw.rs`, it makes the [`Config`]; `tls.rs`,
//! `submissions.rs` and `never_send.rs` (with `url_rule.rs`) are parts of it, `render.rs` prints it. One layer of a source's settings is a
//! `patch.rs`, written as `form.rs` says. `policies/` holds the policies in effect. `registry.rs` holds the sources in effect (`resolved.rs`): `resolver.rs` lays what the
//! API set (`api_override.rs`), as far as it may (`api_policy.rs`), over what is declared, and `build.rs` makes the source.
//! The only room that reads the environment and the configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use strum::{IntoStaticStr, VariantArray};

use crate::error::Violation;
use crate::source::{CallerBudgets, EgressRules, EnvironmentProxies, Kind};
use crate::store::{Durability, Retention};
use crate::verdict::Policy;

mod api_override;
mod api_policy;
mod build;
mod caller_budget;
mod credential;
mod document;
mod form;
mod load;
mod name;
mod never_send;
mod never_send_rules;
mod options;
mod patch;
mod policies;
mod raw;
mod registry;
mod reload;
mod render;
mod resolved;
mod resolver;
mod submissions;
mod tls;
mod url_rule;

pub use form::{Clearable, Syntax};
pub use load::{LoadInput, data_directory, load, process_environment};
pub use never_send::NeverSend;
pub use never_send_rules::{NeverSendOrigin, NeverSendRule, NeverSendRules};
pub use options::nearest;
pub use patch::{SOURCE_FIELDS, SourceField, SourcePatch};
pub use policies::{
    FieldValue, FlatTable, PolicyChange, PolicyField, PolicyFields, PolicyOrigin, PolicyRegistry, ResolvedPolicy, Unit,
    fields, flatten, in_order, is_optional_table,
};
pub use registry::Registry;
pub use reload::ConfigReader;
pub use resolved::{Change, ResolvedSource, State};
pub use submissions::{SourceSubmissions, SubmissionRules};
pub use tls::TlsConfig;

/// Hint of a first start with nothing declared.
pub const NO_SOURCE_HINT: &str = "no source is configured, so nobody is asked: set VIRUSTOTAL_API_KEY in the environment, \
     declare [sources.NAME] in the configuration file, or run `concord source set NAME --kind KIND`; \
     `concord source kinds` lists the kinds";

/// Everything that a server needs to know, with nothing optional that is needed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether it may listen beyond loopback without TLS and tokens.
    pub insecure_listen: bool,
    /// Certificates, if it speaks TLS.
    pub tls: Option<TlsConfig>,
    /// Who may call; empty: everybody who can connect.
    pub tokens: Vec<Token>,
    /// Origins of browsers that may call.
    pub cors_origins: Vec<String>,
    /// Names by which it may be called where it has no tokens, beside addresses, localhost and the machine's own name; lower
    /// case.
    pub host_names: Vec<String>,
    /// Directory for everything that is stored.
    pub data_directory: PathBuf,
    /// Logs.
    pub log: LogSettings,
    /// Time for a request whose caller sets no deadline.
    pub default_deadline: Duration,
    /// The policy that judges where the request names none.
    pub default_policy: String,
    /// Limits of the server.
    pub limits: Limits,
    /// Indicators and hosts that are never disclosed outside.
    pub never_send: NeverSend,
    /// Suffixes of internal names beside the usual ones.
    pub internal_suffixes: Vec<String>,
    /// Folders from which a list may be read that is set over the API; whole paths.
    pub list_folders: Vec<PathBuf>,
    /// Networks that sources may stand in although they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// The proxies that the environment names, for sources that are to use them.
    pub proxies: Arc<EnvironmentProxies>,
    /// What pruning keeps.
    pub retention: Retention,
    /// What the store survives.
    pub durability: Durability,
    /// Key that credentials are encrypted with, in base64; `None`: a file beside the store.
    pub key: Option<SecretString>,
    /// The rules for submissions.
    pub submissions: SubmissionRules,
    /// Quota units that callers may spend in a day.
    pub caller_budgets: CallerBudgets,
    /// Sources that the file and the environment declare, in order of name.
    pub sources: Vec<Declared>,
    /// Policies that the file declares, in order of name.
    pub policies: Vec<DeclaredPolicy>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Files that its sources name and that were read with it: credentials and certificates.
    pub named_files: Vec<PathBuf>,
}

impl Config {
    /// The egress rules, strict for what was set over the API.
    pub fn egress(&self, from_api: bool) -> EgressRules {
        EgressRules {
            from_api,
            redirected: false,
            proxy_from_api: from_api,
            allowed_networks: self.allowed_networks.clone(),
            list_folders: self.list_folders.clone(),
            proxies: self.proxies.clone(),
        }
    }

    /// The settings in which `next` differs from this and that a running server does not change.
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let key = |config: &Self| config.key.as_ref().map(|key| key.expose_secret().to_owned());
        let differs = [
            ("listen", self.listen != next.listen),
            ("insecure_listen", self.insecure_listen != next.insecure_listen),
            ("tls", self.tls != next.tls),
            ("tokens (the first, or none any more)", self.tokens.is_empty() != next.tokens.is_empty()),
            ("cors_origins", self.cors_origins != next.cors_origins),
            ("host_names", self.host_names != next.host_names),
            ("data_directory", self.data_directory != next.data_directory),
            ("log", self.log != next.log),
            ("default_deadline", self.default_deadline != next.default_deadline),
            ("limits", self.limits != next.limits),
            ("list_folders", self.list_folders != next.list_folders),
            ("allowed_networks", self.allowed_networks != next.allowed_networks),
            ("retention", self.retention != next.retention),
            ("durability", self.durability != next.durability),
            ("key", key(self) != key(next)),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// This configuration with those settings of `next` that a running server changes.
    #[must_use]
    pub fn reloaded(&self, next: Self) -> Self {
        let tokens = if self.tokens.is_empty() == next.tokens.is_empty() { next.tokens } else { self.tokens.clone() };
        Self {
            tokens,
            default_policy: next.default_policy,
            never_send: next.never_send,
            internal_suffixes: next.internal_suffixes,
            sources: next.sources,
            policies: next.policies,
            caller_budgets: next.caller_budgets,
            ..self.clone()
        }
    }

    /// The declared sources that cannot be asked as they are, each with what is missing. A file that does not exist counts,
    /// although a running server reads it once it appears.
    pub fn unready(&self, kinds: &[Arc<dyn Kind>]) -> Vec<(String, String)> {
        let missing = |declared: &Declared| {
            let kind = find_kind(kinds, declared.patch.kind.as_ref())?;
            let credential = declared.credential.clone();
            let built = build::build(kind, &declared.name, &declared.patch, credential).ok()?;
            let missing = built.missing.or_else(|| build::unreadable(&built.settings));
            Some((declared.name.clone(), missing?))
        };
        self.sources.iter().filter_map(missing).collect()
    }

    /// The warning that nothing declares the default policy.
    pub fn policy_warning(&self) -> Option<String> {
        let name = &self.default_policy;
        let is_declared = self.policies.iter().any(|declared| declared.policy.name == *name);
        let is_known = is_declared || Policy::built_in().iter().any(|policy| policy.name == *name);
        (!is_known).then(|| {
            format!("default_policy: {name} is neither built in nor declared here: the server starts only if it was made over the API")
        })
    }

    /// What in the settings of each declared source is probably not meant so.
    pub fn warnings(&self, kinds: &[Arc<dyn Kind>]) -> Vec<(String, String)> {
        let mut warnings = Vec::new();
        for declared in &self.sources {
            let Some(kind) = find_kind(kinds, declared.patch.kind.as_ref()) else { continue };
            let credential = declared.credential.clone();
            let Ok(built) = build::build(kind, &declared.name, &declared.patch, credential) else { continue };
            warnings.extend(built.source.warnings().into_iter().map(|warning| (declared.name.clone(), warning)));
        }
        warnings
    }
}

fn find_kind<'a>(kinds: &'a [Arc<dyn Kind>], name: Option<&String>) -> Option<&'a Arc<dyn Kind>> {
    kinds.iter().find(|kind| Some(&kind.about().kind) == name)
}

/// A policy that the configuration file declares.
#[derive(Clone, Debug)]
pub struct DeclaredPolicy {
    /// The policy, checked; its revision is known once it is compared with what is stored.
    pub policy: Policy,
    /// The file.
    pub file: PathBuf,
}

/// A source as the file or the environment declares it.
#[derive(Clone)]
pub struct Declared {
    /// Its name, without `sources/`.
    pub name: String,
    /// What is written about it.
    pub patch: SourcePatch,
    /// The file that its `ca_pem` was read from.
    pub ca_file: Option<String>,
    /// Its credential, read from where the file says.
    pub credential: Option<SecretString>,
    /// Where it is declared.
    pub origin: Origin,
}

impl Declared {
    fn is_same(&self, other: &Self) -> bool {
        let credential = |declared: &Self| declared.credential.as_ref().map(|key| key.expose_secret().to_owned());
        (&self.patch, &self.ca_file, &self.origin) == (&other.patch, &other.ca_file, &other.origin)
            && credential(self) == credential(other)
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("name", &self.name)
            .field("patch", &self.patch)
            .field("credential", &self.credential.as_ref().map(|_| "***"))
            .field("origin", &self.origin)
            .finish()
    }
}

/// Where a source is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// By this environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment(variable) => f.write_str(variable),
        }
    }
}

/// Who may call: a name, and the SHA-256 of the token that shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The caller's name.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Limits of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at once; more are refused.
    pub max_in_flight: usize,
    /// Connections over the network at the same time whose callers have shown a credential; for a further one, that of the
    /// caller with most is closed which is idle for longest.
    pub max_connections: usize,
    /// Connections at the same time whose callers have shown none; half of them from one address.
    pub max_connections_without_credential: usize,
    /// After how long without a call such a connection is closed.
    pub credential_timeout: Duration,
    /// Calls under way on one connection; a client waits with further ones.
    pub max_calls_per_connection: u32,
    /// Health watches at the same time; more are refused.
    pub max_health_watches: usize,
    /// After how long a part of an answer that its client does not read ends the answer and its connection.
    pub send_timeout: Duration,
    /// Largest request message in bytes.
    pub max_message_bytes: usize,
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Pretty,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How they look.
    pub format: LogFormat,
    /// What is logged, as `tracing` filters are written: `info`, `concord=debug`.
    pub filter: String,
}

/// What the command line sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--insecure-listen`.
    pub insecure_listen: bool,
    /// `--data-directory`.
    pub data_directory: Option<PathBuf>,
    /// Whether a server is to listen with it: then its certificates are looked at too.
    pub listens: bool,
}

/// Every violation in the configuration at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, if one was read.
    pub file: Option<PathBuf>,
    /// The violations, each with the path of its setting.
    pub violations: Vec<Violation>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "the configuration ({}) cannot be used:", file.display())?,
            None => write!(f, "the configuration cannot be used:")?,
        }
        self.violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// The environment, as one reading of it.
pub type Environment = BTreeMap<String, String>;
