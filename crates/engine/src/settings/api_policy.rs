//! What nobody may set over the API: addresses and files beyond what the configuration allows, credentials by
//! reference, a stored credential for another target.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Clearable, SourcePatch, build, credential};
use crate::error::{Error, Reason, Violation};
use crate::source::{About, EgressRules, OptionSpec, OptionValue, SourceSettings};

/// Reason for disabling a source whose declared credential would go to a target set over the API.
pub(super) const DECLARED_FOR_OTHER_TARGET: &str = "its credential was declared for another address, proxy, authority or option than the API has set: send the credential \
     along over the API, or reset those fields";
/// Reason for disabling a source whose stored credential is bound to a different target.
pub(super) const STORED_FOR_OTHER_TARGET: &str = "its stored credential was given for another address, proxy, authority or option than it has by now: send the \
     credential along over the API, or reset it";

/// What the configuration lets callers name: the strict rules.
pub(super) struct ApiPolicy(pub(super) EgressRules);

impl ApiPolicy {
    /// What is wrong with the patch and the credential that comes with it. Unchanged fields were checked when they were
    /// set, and are checked again when they are used: they must not block another change.
    pub(super) fn check_api(
        &self,
        credential: Option<&SecretString>,
        before: &SourcePatch,
        now: &SourcePatch,
        options: &[OptionSpec],
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(Err(message)) = credential.map(check_api_credential) {
            violations.push(Violation::invalid("source.credential", message));
        }
        let mut forbid = |field: String, checked: Result<(), String>| {
            violations.extend(checked.err().map(|why| Violation::new(field, Reason::EgressForbidden, why)));
        };
        if let Some(url) = now.base_url.as_ref().filter(|_| now.base_url != before.base_url) {
            forbid("source.base_url".into(), self.0.check_url(url));
        }
        if let Some(Clearable::Set(proxy)) = now.proxy.as_ref().filter(|_| now.proxy != before.proxy) {
            forbid("source.proxy".into(), self.0.check_proxy(proxy));
        }
        for spec in options {
            let value = now.options.get(&spec.name).filter(|value| before.options.get(&spec.name) != Some(*value));
            let Some(Ok(value)) = value.map(|value| spec.parse(value)) else { continue };
            forbid(format!("source.options.{}", spec.name), self.check_option(&value));
        }
        violations
    }

    fn check_option(&self, value: &OptionValue) -> Result<(), String> {
        match value {
            OptionValue::Path(path) => self.check_path(path),
            other => build::check_egress(&self.0, other),
        }
    }

    /// Why a file set over the API before may not be read now: the configuration may name other folders since. A
    /// missing file may reappear; the loader reports it.
    pub(super) fn forbidden_file(&self, now: &SourcePatch, settings: &SourceSettings) -> Option<String> {
        settings.options.iter().filter(|(name, _)| now.options.contains_key(*name)).find_map(|(name, value)| {
            let OptionValue::Path(path) = value else { return None };
            // A missing file is checked by its written path.
            let refused = match path.canonicalize() {
                Ok(real) => self.0.check_file(Some(&real), &self.folders()),
                Err(_) => self.0.check_file(Some(path), &self.0.list_folders),
            };
            let refused = refused.err()?;
            Some(format!("options.{name}: {refused}"))
        })
    }

    /// A relative path would name another file under another working directory.
    fn check_path(&self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().ok().filter(|real| path.is_absolute() && real.is_file());
        self.0.check_file(real.as_deref(), &self.folders())
    }

    /// The folders of the configuration, links followed, as they lead now.
    fn folders(&self) -> Vec<PathBuf> {
        self.0.list_folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect()
    }
}

fn check_api_credential(credential: &SecretString) -> Result<(), &'static str> {
    let text = credential.expose_secret().trim();
    if text.starts_with("env:") || text.starts_with("file:") {
        return Err(
            "over the API a credential is the value itself; env: and file: are read from the configuration file only",
        );
    }
    credential::check(text)
}

/// Whether this path of a source decides which address is reached or which file read, so that the strict rules hold. The
/// proxy is judged by itself.
pub(super) fn is_address(about: &About, path: &str) -> bool {
    let location = |name: &str| about.options.iter().any(|spec| spec.name == name && spec.value_type.is_location());
    path == "base_url" || path.strip_prefix("options.").is_some_and(location)
}

/// The refusal to send a stored credential to another target.
pub(super) fn credential_required(name: &str) -> Error {
    Error::NotReady {
        reason: Reason::CredentialRequired,
        subject: format!("sources/{name}"),
        message:
            "the stored credential was given for another address, proxy, authority or option: send the credential along \
                  in the same request"
                .into(),
    }
}
