//! What may not be said over the API, whoever says it: addresses and files beyond what the configuration allows,
//! credentials by reference, a kept credential for another address.

use std::path::Path;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use url::Url;

use crate::error::Error;
use crate::error::Reason;
use crate::error::Violation;
use crate::source::About;
use crate::source::EgressRules;
use crate::source::OptionType;
use crate::source::OptionValue;
use crate::source::SourceSettings;

use super::Configured;
use super::SourcePatch;
use super::patch;

/// Why a source is not asked whose declared credential an address set over the API would receive.
pub(super) const CREDENTIAL_ELSEWHERE: &str = "its credential was declared for another address, proxy, authority or option than the API has set: send the credential \
     along over the API, or reset those fields";

/// What the configuration lets callers name.
pub(super) struct Guard {
    pub(super) list_folders: Vec<PathBuf>,
    pub(super) allowed_networks: Vec<IpNet>,
}

impl Guard {
    /// Everything that the API said of a source, the credential that comes along included.
    pub(super) fn check_api(
        &self,
        credential: Option<&SecretString>,
        said: &SourcePatch,
        configured: &Configured,
    ) -> Result<(), Error> {
        let mut mistakes = Vec::new();
        if let Some(Err(message)) = credential.map(check_credential) {
            mistakes.push(Violation::invalid("source.credential", message));
        }
        let mut forbid = |field: String, checked: Result<(), String>| {
            mistakes.extend(checked.err().map(|why| Violation::new(field, Reason::EgressForbidden, why)));
        };
        forbid("source.base_url".into(), self.check_address(said.base_url.as_deref().unwrap_or_default()));
        forbid("source.proxy".into(), self.check_address(said.proxy.as_deref().unwrap_or_default()));
        let specs = &configured.kind.about().options;
        for spec in specs.iter().filter(|spec| said.options.contains_key(&spec.name)) {
            let Some(OptionValue::Text(text)) = configured.settings.options.get(&spec.name) else { continue };
            forbid(format!("source.options.{}", spec.name), self.check_option(&spec.value_type, text));
        }
        if mistakes.is_empty() { Ok(()) } else { Err(Error::Invalid(mistakes)) }
    }

    fn check_option(&self, value_type: &OptionType, text: &str) -> Result<(), String> {
        match value_type {
            OptionType::Address => self.check_address(text),
            OptionType::Resolver => self.rules().check_resolver(text),
            OptionType::Path => self.check_path(Path::new(text)),
            OptionType::Integer { .. }
            | OptionType::Number { .. }
            | OptionType::Flag
            | OptionType::Text
            | OptionType::Choice(_)
            | OptionType::TextList
            | OptionType::TextTable
            | OptionType::Span => Ok(()),
        }
    }

    /// An address that does not parse was refused before; an empty one is none.
    fn check_address(&self, text: &str) -> Result<(), String> {
        Url::parse(text.trim()).map_or(Ok(()), |url| self.rules().check_url(&url))
    }

    fn rules(&self) -> EgressRules {
        EgressRules { from_api: true, allowed_networks: self.allowed_networks.clone() }
    }

    /// A file that a caller names must stand under a folder that the configuration names, links followed. A file that is
    /// missing is answered like one elsewhere, so that the answer does not tell what the server's disk holds.
    fn check_path(&self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().ok();
        let inside =
            |folder: &PathBuf| real.as_ref().zip(folder.canonicalize().ok()).is_some_and(|(a, b)| a.starts_with(b));
        if path.is_absolute() && self.list_folders.iter().any(inside) {
            return Ok(());
        }
        Err("over the API only a file may be named, by its whole path, that exists under a folder of list_folders"
            .into())
    }
}

fn check_credential(credential: &SecretString) -> Result<(), &'static str> {
    let text = credential.expose_secret().trim();
    if text.starts_with("env:") || text.starts_with("file:") {
        return Err(
            "over the API a credential is the value itself; env: and file: are read from the configuration file only",
        );
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be one line of text and not empty");
    }
    Ok(())
}

/// Whether this path of a source decides which address is reached, so that the strict egress rules hold.
pub(super) fn is_address(about: &About, path: &str) -> bool {
    let option = path.strip_prefix("options.");
    let leads = |value_type: &OptionType| matches!(value_type, OptionType::Address | OptionType::Resolver);
    matches!(path, "base_url" | "proxy")
        || option.is_some_and(|name| about.options.iter().any(|spec| spec.name == name && leads(&spec.value_type)))
}

/// A credential given over the API before goes only where the one in effect went. `before` is unset where nothing usable
/// was in effect.
pub(super) fn check_kept_credential(before: Option<&SourceSettings>, after: &Configured) -> Result<(), Error> {
    let place = |settings| patch::destination(after.kind.about(), settings);
    let same = before.is_some_and(|before| place(before) == place(&after.settings));
    if same { Ok(()) } else { Err(credential_required(&after.settings.name)) }
}

/// The refusal to join a kept credential to another address.
pub(super) fn credential_required(name: &str) -> Error {
    Error::NotReady {
        reason: Reason::CredentialRequired,
        subject: format!("sources/{name}"),
        message:
            "the kept credential was given for another address, proxy, authority or option: send the credential along \
                  in the same request"
                .into(),
    }
}
