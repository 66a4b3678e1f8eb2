//! Reads file, environment and flags, in this order, into a [`Config`], and lists every violation at once.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use strum::VariantArray;
use tracing_subscriber::EnvFilter;

use super::name::check_name;
use super::patch::SourceInFile;
use super::policies::read_declared;
use super::raw::Raw;
use super::{
    Clearable, Config, ConfigErrors, Declared, DeclaredPolicy, Environment, Flags, Limits, LogSettings, NeverSend,
    Origin, SourcePatch, SubmissionRules, TlsConfig, Token, build, caller_budget, credential, document, find_kind,
    nearest,
};
use crate::error::{Violation, merge_new, parse_enum};
use crate::source::{CallerBudgets, EnvironmentProxies, Kind, Proxy, parse_duration};
use crate::store::{Retention, Sealer};

/// Callers that no token names: the socket's, and everybody where there are no tokens.
const RESERVED_CALLERS: [&str; 2] = ["local", "anonymous"];
const DAY: u64 = 86_400;
const MIN_RETENTION: Duration = Duration::from_secs(3600);
/// Less would not hold the history of a day.
const MIN_STORE_BYTES: u64 = 16 * 1024 * 1024;
const MIN_DEADLINE: Duration = Duration::from_millis(100);
const CLIENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// More requests or connections than any machine serves at once.
const MAX_LIMIT: usize = 1_000_000;
/// A batch of a thousand indicators fits into the least.
const MESSAGE_BYTES: RangeInclusive<usize> = 65_536..=67_108_864;
/// SHA-256 of nothing: what `sha256sum` says when the token's variable was empty.
const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Where settings come from.
pub struct LoadInput<'a> {
    /// The file named by the user; `None`: the usual places, where a file may be missing.
    pub file: Option<PathBuf>,
    /// The environment, as [`process_environment`] reads it.
    pub environment: Environment,
    /// What the command line sets.
    pub flags: Flags,
    /// Every kind.
    pub kinds: &'a [Arc<dyn Kind>],
}

/// The environment of this process; what is not UTF-8 is left out.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads everything that was written into what is meant.
///
/// # Errors
/// A file that does not parse stops with line and column; past that, every violation is listed with its path.
pub fn load(input: LoadInput<'_>) -> Result<Config, ConfigErrors> {
    let file = input.file.clone().or_else(|| usual_file(&input.environment));
    let fail = |violations| ConfigErrors { file: file.clone(), violations };
    let text = match &file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| fail(vec![Violation::invalid("", error.to_string())]))?
        }
        None => String::new(),
    };
    let (raw, mut violations) = document::read(&text).map_err(fail)?;
    let mut loader = Loader { input: &input, file: file.clone(), named_files: Vec::new(), violations: Vec::new() };
    let config = loader.config(raw);
    merge_new(&mut violations, loader.violations);
    if violations.is_empty() { Ok(config) } else { Err(fail(violations)) }
}

/// The data directory, read leniently: the rest of the configuration may be invalid and secrets missing, since callers
/// only locate a running server.
pub fn data_directory(input: &LoadInput<'_>) -> Option<PathBuf> {
    let file = input.file.clone().or_else(|| usual_file(&input.environment));
    let text = file.map_or(Some(String::new()), |path| std::fs::read_to_string(path).ok())?;
    // A mistyped or misspelt setting may have been meant as this one.
    let (raw, violations) = document::read(&text).ok()?;
    violations.is_empty().then(|| chosen_directory(input, raw.data_directory))
}

/// The data directory that is written last: file, environment, flag.
fn chosen_directory(input: &LoadInput<'_>, in_file: Option<String>) -> PathBuf {
    let written = input.environment.get("CONCORD_DATA_DIRECTORY").map(PathBuf::from);
    let written = input.flags.data_directory.clone().or(written).or(in_file.map(PathBuf::from));
    written.unwrap_or_else(|| usual_directory(&input.environment))
}

fn usual_file(environment: &Environment) -> Option<PathBuf> {
    let own = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.or_else(|| environment.get("HOME").map(|home| Path::new(home).join(".config")));
    let places = own.into_iter().chain([PathBuf::from("/etc")]);
    places.map(|folder| folder.join("concord/concord.toml")).find(|path| path.is_file())
}

struct Loader<'a> {
    input: &'a LoadInput<'a>,
    file: Option<PathBuf>,
    named_files: Vec<PathBuf>,
    violations: Vec<Violation>,
}

impl Loader<'_> {
    fn config(&mut self, raw: Raw) -> Config {
        let environment = &self.input.environment;
        let flags = &self.input.flags;
        let listen = environment.get("CONCORD_LISTEN").cloned().or(raw.listen);
        let listen = flags.listen.or_else(|| {
            listen.and_then(|text| self.read(&text, "listen", "an address with a port, as 127.0.0.1:7700"))
        });
        let insecure_listen = flags.insecure_listen || raw.insecure_listen;
        let tls = raw.tls.and_then(|tls| self.tls(tls));
        let tokens = self.tokens(&raw.tokens);
        let mut config = Config {
            listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7700))),
            insecure_listen,
            tls,
            tokens,
            cors_origins: self.origins(raw.cors_origins),
            host_names: self.names(&raw.host_names, "host_names", "a host name, as concord.example.com"),
            data_directory: chosen_directory(self.input, raw.data_directory),
            log: self.log(raw.log),
            default_deadline: self.deadline(raw.default_deadline.as_deref()),
            default_policy: self.default_policy(raw.default_policy, raw.policies.keys().cloned()),
            policies: self.policies(&raw.policies),
            limits: self.limits(&raw.limits),
            never_send: NeverSend::parse(&raw.never_send).unwrap_or_else(|violations| {
                self.violations.extend(violations);
                NeverSend::default()
            }),
            internal_suffixes: self.names(
                &raw.internal_suffixes,
                "internal_suffixes",
                "a suffix of names, as example.corp",
            ),
            list_folders: self.folders(&raw.list_folders),
            allowed_networks: self.networks(&raw.allowed_networks),
            proxies: Arc::new(EnvironmentProxies::new(|name| environment.get(name).map(String::as_str))),
            retention: self.retention(&raw.retention),
            durability: self.choice(raw.durability.as_deref(), "durability"),
            key: environment.get("CONCORD_KEY").cloned().map(SecretString::from),
            submissions: SubmissionRules::default(),
            caller_budgets: CallerBudgets::default(),
            sources: Vec::new(),
            file: self.file.clone(),
            named_files: Vec::new(),
        };
        config.submissions = SubmissionRules::read(raw.submissions, &config.tokens, &mut self.violations);
        let is_token = |name: &str| config.tokens.iter().any(|token| token.name == name);
        let is_caller =
            |name: &str| RESERVED_CALLERS.contains(&name) || name.starts_with("certificate:") || is_token(name);
        config.caller_budgets = caller_budget::read(raw.caller_budget, is_caller, &mut self.violations);
        if config.data_directory.as_os_str().is_empty() {
            self.refuse("data_directory", "is empty; name a folder by its path");
        }
        if let Some(Err(error)) = config.key.as_ref().map(Sealer::from_base64) {
            self.refuse("CONCORD_KEY", error.to_string());
        }
        self.check_exposure(&config);
        config.sources = self.sources(raw.sources);
        config.named_files = std::mem::take(&mut self.named_files);
        self.environment_proxies(&config);
        config
    }

    fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.violations.push(Violation::invalid(field, message));
    }

    fn read<T: std::str::FromStr>(&mut self, text: &str, field: &str, what: &str) -> Option<T> {
        let read = text.trim().parse().ok();
        if read.is_none() {
            self.refuse(field, format!("{text:?} is not {what}"));
        }
        read
    }

    fn duration(&mut self, text: Option<&str>, field: &str, default: Duration) -> Duration {
        match text.map(parse_duration) {
            Some(Ok(duration)) => duration,
            Some(Err(message)) => {
                self.refuse(field, message);
                default
            }
            None => default,
        }
    }

    fn deadline(&mut self, text: Option<&str>) -> Duration {
        let deadline = self.duration(text, "default_deadline", Duration::from_secs(10));
        if deadline < MIN_DEADLINE || deadline > MAX_DEADLINE {
            self.refuse("default_deadline", "must be from 100ms to 10m");
        }
        deadline
    }

    /// How long a client that does not act is waited for.
    fn client_timeout(&mut self, text: Option<&str>, field: &str) -> Duration {
        let timeout = self.duration(text, field, Duration::from_secs(10));
        if !CLIENT_TIMEOUT.contains(&timeout) {
            self.refuse(field, "must be from 100ms to 10m");
        }
        timeout
    }

    fn limits(&mut self, raw: &super::raw::RawLimits) -> Limits {
        let limits = Limits {
            max_in_flight: raw.max_in_flight.unwrap_or(1024),
            max_connections: raw.max_connections.unwrap_or(1024),
            max_connections_without_credential: raw.max_connections_without_credential.unwrap_or(128),
            credential_timeout: self.client_timeout(raw.credential_timeout.as_deref(), "limits.credential_timeout"),
            max_calls_per_connection: raw.max_calls_per_connection.unwrap_or(512),
            max_health_watches: raw.max_health_watches.unwrap_or(256),
            send_timeout: self.client_timeout(raw.send_timeout.as_deref(), "limits.send_timeout"),
            max_message_bytes: raw.max_message_bytes.unwrap_or(4 * 1024 * 1024),
        };
        let limited = [
            ("max_in_flight", limits.max_in_flight),
            ("max_connections", limits.max_connections),
            ("max_connections_without_credential", limits.max_connections_without_credential),
            ("max_calls_per_connection", usize::try_from(limits.max_calls_per_connection).unwrap_or(usize::MAX)),
            ("max_health_watches", limits.max_health_watches),
        ];
        for (name, limit) in limited {
            if !(1..=MAX_LIMIT).contains(&limit) {
                self.refuse(&format!("limits.{name}"), format!("must be from 1 to {MAX_LIMIT}"));
            }
        }
        if !MESSAGE_BYTES.contains(&limits.max_message_bytes) {
            let (least, most) = (MESSAGE_BYTES.start(), MESSAGE_BYTES.end());
            self.refuse("limits.max_message_bytes", format!("must be from {least} to {most}"));
        }
        limits
    }

    fn tls(&mut self, tls: super::raw::RawTls) -> Option<TlsConfig> {
        let given = |path: Option<String>| path.map(PathBuf::from).unwrap_or_default();
        for (name, path) in [("certificate", &tls.certificate), ("key", &tls.key)] {
            if path.is_none() {
                let message = "TLS needs both certificate and key, each the path of a PEM file";
                self.refuse(&format!("tls.{name}"), message);
            }
        }
        let client_ca = tls.client_ca.map(PathBuf::from);
        let tls = TlsConfig { certificate: given(tls.certificate), key: given(tls.key), client_ca };
        if self.input.flags.listens {
            merge_new(&mut self.violations, tls.check());
        }
        Some(tls)
    }

    fn tokens(&mut self, raw: &std::collections::BTreeMap<String, String>) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (name, text) in raw {
            if check_name("caller", name).is_err() || RESERVED_CALLERS.contains(&name.as_str()) {
                let message =
                    "a caller's name is 1 to 63 lower-case letters, digits, - or _, and neither local nor anonymous";
                self.refuse(&format!("tokens.{name}"), message);
            }
            match read_sha256(text) {
                Some(sha256) if Some(sha256) == read_sha256(HASH_OF_NOTHING) => {
                    let message = format!("{HASH_OF_NOTHING} is the SHA-256 of nothing: hash the token itself");
                    self.refuse(&format!("tokens.{name}"), message);
                }
                Some(sha256) if tokens.iter().any(|token: &Token| token.sha256 == sha256) => {
                    self.refuse(&format!("tokens.{name}"), "is the token of another caller too: give each its own");
                }
                Some(sha256) => tokens.push(Token { name: name.clone(), sha256 }),
                None => self.refuse(
                    &format!("tokens.{name}"),
                    "must be the SHA-256 of the token in 64 hexadecimal digits: printf %s TOKEN | sha256sum",
                ),
            }
        }
        tokens
    }

    fn log(&mut self, raw: super::raw::RawLog) -> LogSettings {
        let environment = &self.input.environment;
        let format = environment.get("CONCORD_LOG_FORMAT").cloned().or(raw.format);
        let format = self.choice(format.as_deref(), "log.format");
        let filter = environment.get("CONCORD_LOG").cloned().or(raw.filter).unwrap_or_else(|| "info".into());
        if let Err(error) = EnvFilter::try_new(&filter) {
            self.refuse("log.filter", format!("{filter:?} is no filter ({error}); write info, or concord=debug,warn"));
        }
        LogSettings { format, filter }
    }

    fn policies(&mut self, raw: &std::collections::BTreeMap<String, toml::Table>) -> Vec<DeclaredPolicy> {
        let mut declared = Vec::new();
        for (name, table) in raw {
            match read_declared(name, table) {
                Ok(policy) => declared.push(DeclaredPolicy { policy, file: self.file.clone().unwrap_or_default() }),
                Err(violations) => {
                    let path = format!("policies.{name}");
                    self.violations.extend(violations.into_iter().map(|violation| violation.nested_in(&path)));
                }
            }
        }
        declared
    }

    /// The name of the default policy. One that is neither built in nor declared may have been made over the API, which
    /// only a start finds out.
    fn default_policy(&mut self, name: Option<String>, declared: impl Iterator<Item = String>) -> String {
        let Some(name) = name else { return "weighted".into() };
        let name = name.trim_start_matches("policies/").to_owned();
        let own = crate::verdict::Policy::built_in().into_iter().map(|policy| policy.name);
        let known: Vec<_> = own.chain(declared).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        if let Err(message) = check_name("policy", &name) {
            self.refuse("default_policy", message);
        } else if !known.contains(&name.as_str())
            && let Some(near) = nearest(&name, &known)
        {
            self.refuse("default_policy", format!("{name:?} is no policy; did you mean {near}?"));
        }
        name
    }

    fn origins(&mut self, raw: Vec<String>) -> Vec<String> {
        for (place, origin) in raw.iter().enumerate() {
            let same = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !same {
                let message = format!("{origin:?} is no origin; write scheme and host, as https://soc.example.com");
                self.refuse(&format!("cors_origins[{place}]"), message);
            }
        }
        raw
    }

    /// Names in lower case, without dots around them.
    fn names(&mut self, raw: &[String], field: &str, what: &str) -> Vec<String> {
        let plain = |name: &String| name.trim().trim_matches('.').to_lowercase();
        for (place, name) in raw.iter().enumerate() {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !plain(name).split('.').all(|label| !label.is_empty() && label.bytes().all(allowed)) {
                self.refuse(&format!("{field}[{place}]"), format!("{name:?} is not {what}"));
            }
        }
        raw.iter().map(plain).collect()
    }

    fn folders(&mut self, raw: &[String]) -> Vec<PathBuf> {
        for (place, _) in raw.iter().enumerate().filter(|(_, folder)| folder.trim().is_empty()) {
            self.refuse(&format!("list_folders[{place}]"), "is empty; name a folder by its path");
        }
        raw.iter().map(|folder| whole_folder(folder)).collect()
    }

    fn networks(&mut self, raw: &[String]) -> Vec<IpNet> {
        let read = |(place, text): (usize, &String)| {
            self.read(text, &format!("allowed_networks[{place}]"), "a network, as 10.1.0.0/16")
        };
        raw.iter().enumerate().filter_map(read).collect()
    }

    fn retention(&mut self, raw: &super::raw::RawRetention) -> Retention {
        let days = |days| Duration::from_secs(days * DAY);
        let retention = Retention {
            answers_age: self.duration(raw.answers_age.as_deref(), "retention.answers_age", days(30)),
            answers_bytes: raw.answers_bytes.unwrap_or(1 << 30),
            verdicts_age: self.duration(raw.verdicts_age.as_deref(), "retention.verdicts_age", days(365)),
            disclosures_age: self.duration(raw.disclosures_age.as_deref(), "retention.disclosures_age", days(365)),
            store_bytes: raw.store_bytes.unwrap_or(8 << 30),
        };
        if retention.store_bytes < MIN_STORE_BYTES {
            self.refuse("retention.store_bytes", format!("must be at least {MIN_STORE_BYTES} (16 MiB)"));
        }
        let Retention { answers_age, verdicts_age, disclosures_age, .. } = retention;
        let ages = [("answers", answers_age), ("verdicts", verdicts_age), ("disclosures", disclosures_age)];
        for (what, _) in ages.into_iter().filter(|(_, age)| *age < MIN_RETENTION) {
            let message = "must be at least 1h, or stored data could not be looked at";
            self.refuse(&format!("retention.{what}_age"), message);
        }
        retention
    }

    /// The variant whose word is written; the default where there is none.
    fn choice<T: VariantArray + Copy + Default + Into<&'static str>>(&mut self, text: Option<&str>, field: &str) -> T {
        let Some(text) = text else { return T::default() };
        parse_enum(text, "choice").unwrap_or_else(|_| {
            let words: Vec<&str> = T::VARIANTS.iter().map(|variant| (*variant).into()).collect();
            self.refuse(field, format!("{text:?} is not allowed; use {}", words.join(" or ")));
            T::default()
        })
    }

    /// Beyond loopback only with TLS and tokens: a look-up service that anybody can call spends money and discloses
    /// secrets.
    fn check_exposure(&mut self, config: &Config) {
        let guarded = config.tls.is_some() && !config.tokens.is_empty();
        if !config.listen.ip().is_loopback() && !guarded && !config.insecure_listen {
            self.refuse(
                "listen",
                format!(
                    "{} is reachable from other machines: set [tls] and [tokens], or start with --insecure-listen \
                     where something in front has both",
                    config.listen
                ),
            );
        }
    }

    fn sources(&mut self, raw: std::collections::BTreeMap<String, SourceInFile>) -> Vec<Declared> {
        let mut declared: Vec<_> = raw.into_iter().map(|(name, source)| self.source(name, source)).collect();
        for kind in self.input.kinds {
            let kind = kind.about();
            let Some(variable) = &kind.credential_env else { continue };
            let kind = kind.kind.as_str();
            let value =
                self.input.environment.get(variable).map(|value| value.trim()).filter(|value| !value.is_empty());
            let Some(value) = value else { continue };
            if let Err(message) = credential::check(value) {
                self.refuse(variable, message);
            }
            let credential = SecretString::from(value.to_owned());
            let of_kind = |source: &Declared| source.patch.kind.as_deref() == Some(kind);
            if declared.iter().any(|source| of_kind(source) && has_credential(source, value)) {
                // The file gives this very credential to a source already: a second one would spend it twice.
                continue;
            }
            match declared.iter_mut().find(|source| source.name == kind) {
                Some(source) if of_kind(source) => source.credential = source.credential.take().or(Some(credential)),
                Some(source) if source.patch.kind.is_none() => {}
                Some(source) => {
                    let path = format!("sources.{}", source.name);
                    let message = format!("{variable} in the environment makes a source of this name: give it another");
                    self.refuse(&path, message);
                }
                None => declared.push(Declared {
                    name: kind.to_owned(),
                    patch: SourcePatch { kind: Some(kind.to_owned()), ..SourcePatch::default() },
                    ca_file: None,
                    credential: Some(credential),
                    origin: Origin::Environment(variable.clone()),
                }),
            }
        }
        declared.sort_by(|a, b| a.name.cmp(&b.name));
        declared
    }

    fn environment_proxies(&mut self, config: &Config) {
        let from_environment = |source: &&Declared| source.patch.proxy == Some(Clearable::Set(Proxy::Environment));
        for source in config.sources.iter().filter(from_environment) {
            if let Err(why) = config.egress(false).check_proxy(&Proxy::Environment) {
                self.refuse(&format!("sources.{}.proxy", source.name), why);
            }
        }
    }

    fn source(&mut self, name: String, mut raw: SourceInFile) -> Declared {
        let path = format!("sources.{name}");
        if let Err(violation) = check_name("source", &name) {
            self.violations.push(Violation::invalid(&path, violation));
        }
        let credential = self.credential(&path, raw.credential.as_deref());
        let ca_file = raw.ca_file.take();
        let ca_pem = ca_file.as_ref().and_then(|file| match self.read_named(file) {
            Ok(pem) => Some(pem),
            Err(error) => {
                self.refuse(&format!("{path}.ca_file"), format!("{file}: {error}"));
                None
            }
        });
        let mut patch = raw.into_patch();
        if patch.ca_pem.is_some() {
            self.refuse(&format!("{path}.ca_pem"), "no such setting; name a file with ca_file");
        }
        patch.ca_pem = ca_pem.map(|pem| if pem.trim().is_empty() { Clearable::Cleared } else { Clearable::Set(pem) });
        let kind = find_kind(self.input.kinds, patch.kind.as_ref());
        let violations = match kind {
            Some(kind) => build::build(kind, &name, &patch, credential.clone()).err(),
            None => Some(build::without_kind(&patch, self.input.kinds)),
        };
        self.violations.extend(violations.into_iter().flatten().map(|violation| violation.nested_in(&path)));
        let origin = Origin::File(self.file.clone().unwrap_or_default());
        Declared { name, patch, ca_file, credential, origin }
    }

    fn read_named(&mut self, file: &str) -> std::io::Result<String> {
        self.named_files.push(PathBuf::from(file));
        std::fs::read_to_string(file)
    }

    /// The credential from where the file says: `env:NAME`, `file:PATH`, or the value itself.
    fn credential(&mut self, path: &str, text: Option<&str>) -> Option<SecretString> {
        let field = format!("{path}.credential");
        let text = text?.trim();
        let value = if let Some(variable) = text.strip_prefix("env:") {
            match self.input.environment.get(variable) {
                Some(value) => value.clone(),
                None => {
                    self.refuse(&field, format!("the environment holds no {variable}"));
                    return None;
                }
            }
        } else if let Some(file) = text.strip_prefix("file:") {
            match self.read_named(file) {
                Ok(value) => value,
                Err(error) => {
                    self.refuse(&field, format!("{file}: {error}"));
                    return None;
                }
            }
        } else {
            text.to_owned()
        };
        let value = value.trim();
        if let Err(message) = credential::check(value) {
            self.refuse(&field, message);
            return None;
        }
        Some(SecretString::from(value.to_owned()))
    }
}

fn has_credential(source: &Declared, credential: &str) -> bool {
    source.credential.as_ref().is_some_and(|own| own.expose_secret() == credential)
}

/// A folder by its whole path: one that is relative is below the folder in which the server starts.
fn whole_folder(folder: &str) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder))
}

fn usual_directory(environment: &Environment) -> PathBuf {
    let own = environment.get("XDG_DATA_HOME").map(PathBuf::from);
    let own = own.or_else(|| environment.get("HOME").map(|home| Path::new(home).join(".local/share")));
    own.map_or_else(|| PathBuf::from("/var/lib/concord"), |folder| folder.join("concord"))
}

fn read_sha256(text: &str) -> Option<[u8; 32]> {
    let text = text.trim().strip_prefix("sha256:").unwrap_or(text.trim());
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}
