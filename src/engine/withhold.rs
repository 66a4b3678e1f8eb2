//! The rules by which an indicator is withheld from a source, in the order in which they are reported.
//!
//! These functions are pure. A look-up in a list discloses nothing, so only its `max_tlp` applies.

use std::iter;

use super::Rules;
use crate::finding::{NotAsked, NotAskedReason};
use crate::indicator::{Host, Indicator, SpecialAddress, Tlp, addresses, is_internal_name};
use crate::settings::{ResolvedSource, State};

/// Why the source cannot be asked about this indicator by anybody: its kind does not support it, or it is disabled or
/// not configured.
pub(super) fn unsupported_reason(source: &ResolvedSource, indicator: &Indicator) -> Option<NotAsked> {
    let about = source.kind.about();
    if !source.source.supports(indicator.form()) {
        let detail = format!("{} does not look up {}", about.title, indicator.form().as_str());
        return Some(NotAsked::new(NotAskedReason::TypeUnsupported, detail));
    }
    match &source.state {
        State::Active => None,
        State::Disabled => Some(NotAsked::new(NotAskedReason::Disabled, "switched off in its settings")),
        State::NotConfigured(missing) => Some(NotAsked::new(NotAskedReason::NotConfigured, missing.clone())),
    }
}

/// Why the indicator must not be disclosed to this source, if a rule forbids it.
pub(super) fn withhold_reason(
    rules: &Rules,
    source: &ResolvedSource,
    indicator: &Indicator,
    tlp: Tlp,
) -> Option<NotAsked> {
    if source.kind.about().transport.is_remote()
        && let Some(not_asked) = external_reason(rules, indicator)
    {
        return Some(not_asked);
    }
    let highest = source.settings.max_tlp;
    (tlp > highest).then(|| {
        let detail = format!("TLP:{tlp} is above TLP:{highest}, the highest that this source may see");
        NotAsked::new(NotAskedReason::Tlp, detail)
    })
}

/// Why the indicator must not be sent to any remote source. A URL also discloses the URLs contained in it.
pub(super) fn external_reason(rules: &Rules, indicator: &Indicator) -> Option<NotAsked> {
    let within = indicator.urls_within();
    iter::once(indicator).chain(&within).find_map(|disclosed| private_reason(rules, disclosed))
}

fn private_reason(rules: &Rules, disclosed: &Indicator) -> Option<NotAsked> {
    if disclosed.has_url_credentials() {
        let detail = "the URL carries a user or password; send it without to have it looked up";
        return Some(NotAsked::new(NotAskedReason::UrlCredentials, detail));
    }
    let host = disclosed.host();
    let internal = host.as_ref().and_then(|host| internal(rules, host));
    internal.or_else(|| {
        let rule = rules.never_send.effective().names(disclosed)?;
        Some(NotAsked::new(NotAskedReason::NeverSend, format!("never-send rule {rule}")))
    })
}

/// Why a host reveals an internal network: by an address in it, or by its name.
fn internal(rules: &Rules, host: &Host) -> Option<NotAsked> {
    let address = addresses(host).into_iter().find_map(|ip| Some((ip, SpecialAddress::internal(ip)?)));
    if let Some((ip, special)) = address {
        let detail = format!("{ip} is {}: never disclosed outside", special.as_str());
        return Some(NotAsked::new(NotAskedReason::PrivateAddress, detail));
    }
    match host {
        Host::Name(name) if is_internal_name(name, &rules.internal_suffixes) => {
            let detail = format!("{name} is an internal name: never disclosed outside");
            Some(NotAsked::new(NotAskedReason::InternalName, detail))
        }
        Host::Name(_) | Host::Ip(_) => None,
    }
}
