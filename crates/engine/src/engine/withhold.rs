//! The rules by which an indicator is withheld from a source, in the order in which they are reported.
//!
//! A look-up in a list discloses nothing, so only its `max_tlp` applies.

use std::iter;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;

use super::Rules;
use crate::finding::{NotAsked, NotAskedReason};
use crate::indicator::{Host, Indicator, SpecialAddress, Tlp, addresses, is_internal_name};
use crate::settings::{NeverSend, ResolvedSource, State};

/// Indicators of which it is remembered what the rules say.
const REMEMBERED: usize = 256;

/// The rules as they are now.
pub(super) struct CurrentRules {
    rules: ArcSwap<Rules>,
    /// What they say of the newest indicators: for each source that is asked, the rules are applied several times, and a URL has
    /// to be taken apart for it.
    checked: Cache<Indicator, Checked>,
}

/// What rules say of an indicator. It holds as long as no others have taken their place.
#[derive(Clone)]
struct Checked {
    rules: Weak<Rules>,
    never_send: Weak<NeverSend>,
    reason: Option<NotAsked>,
}

impl CurrentRules {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: ArcSwap::from_pointee(rules), checked: Cache::new(REMEMBERED) }
    }

    pub(super) fn load(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    pub(super) fn store(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Why the indicator must not be sent to any remote source.
    pub(super) fn external_reason(&self, indicator: &Indicator) -> Option<NotAsked> {
        let rules = self.load();
        let never_send = rules.never_send.effective();
        // A weak reference keeps the address from being used again, so that no later rules can be taken for these.
        let is_of_now = |checked: &Checked| {
            checked.rules.as_ptr() == Arc::as_ptr(&rules) && checked.never_send.as_ptr() == Arc::as_ptr(&never_send)
        };
        if let Some(checked) = self.checked.get(indicator).filter(is_of_now) {
            return checked.reason;
        }
        let reason = external_reason(&rules, &never_send, indicator);
        // A password is not kept longer than needed.
        if reason.as_ref().is_none_or(|not_asked| not_asked.reason != NotAskedReason::UrlCredentials) {
            let (rules, never_send) = (Arc::downgrade(&rules), Arc::downgrade(&never_send));
            self.checked.insert(indicator.clone(), Checked { rules, never_send, reason: reason.clone() });
        }
        reason
    }
}

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
    rules: &CurrentRules,
    source: &ResolvedSource,
    indicator: &Indicator,
    tlp: Tlp,
) -> Option<NotAsked> {
    if source.kind.about().transport.is_remote()
        && let Some(not_asked) = rules.external_reason(indicator)
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
fn external_reason(rules: &Rules, never_send: &NeverSend, indicator: &Indicator) -> Option<NotAsked> {
    let within = indicator.urls_within();
    iter::once(indicator).chain(&within).find_map(|disclosed| private_reason(rules, never_send, disclosed))
}

fn private_reason(rules: &Rules, never_send: &NeverSend, disclosed: &Indicator) -> Option<NotAsked> {
    if disclosed.has_url_credentials() {
        let detail = "the URL carries a user or password; send it without to have it looked up";
        return Some(NotAsked::new(NotAskedReason::UrlCredentials, detail));
    }
    let host = disclosed.host();
    let internal = host.as_ref().and_then(|host| internal(rules, host));
    internal.or_else(|| {
        let rule = never_send.names(disclosed)?;
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::settings::{Environment, Flags, LoadInput, NeverSendRules, load};
    use crate::sources;
    use crate::store::Memory;

    #[tokio::test]
    async fn what_is_remembered_of_an_indicator_ends_with_the_rules() {
        let (environment, flags) = (Environment::new(), Flags::default());
        let config = load(LoadInput { file: None, environment, flags, kinds: sources::all() }).unwrap();
        let never_send = Arc::new(NeverSendRules::open(&config, Arc::new(Memory::new())).await.unwrap());
        let rules = |internal_suffixes| Rules {
            never_send: never_send.clone(),
            internal_suffixes,
            egress: config.egress(false),
            default_deadline: Duration::from_secs(5),
            caller_budgets: config.caller_budgets.clone(),
        };
        let (current, url) = (CurrentRules::new(rules(Vec::new())), "https://host.example.net/a");
        let indicator = Indicator::parse(url).unwrap().indicator;
        let reasons = || [(); 2].map(|()| current.external_reason(&indicator).map(|not_asked| not_asked.reason));
        assert_eq!(reasons(), [None; 2]);
        let (rule, caller) = ("example.net", "analyst".to_owned());
        let made = never_send.create(rule, String::new(), caller, UNIX_EPOCH, false).await.unwrap();
        assert_eq!(reasons(), [Some(NotAskedReason::NeverSend); 2], "a rule was made");
        never_send.delete(&made.id, "analyst", false).await.unwrap();
        assert_eq!(reasons(), [None; 2], "it was deleted");
        current.store(rules(vec!["example.net".to_owned()]));
        assert_eq!(reasons(), [Some(NotAskedReason::InternalName); 2], "other settings were loaded");
        current.store(rules(Vec::new()));
        assert_eq!(reasons(), [None; 2]);
        let known = current.checked.len();
        let within = Indicator::parse("https://host.example.net/?to=https://user:secret@host.example.org").unwrap();
        let reason = current.external_reason(&within.indicator).map(|not_asked| not_asked.reason);
        assert_eq!(
            (reason, current.checked.len()),
            (Some(NotAskedReason::UrlCredentials), known),
            "no password is kept"
        );
    }
}
