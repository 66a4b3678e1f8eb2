//! The way to each source as the registry has it now; rebuilt only for sources whose settings changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use secrecy::ExposeSecret;
use strum::VariantArray;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::fetch::{Parts, SourceCache, SourceStack, Suspension, Tally, Transport, transport_for};
use crate::finding::{Family, SourceError};
use crate::indicator::hex;
use crate::settings::{Registry, ResolvedSource};
use crate::source::{EgressRules, QuotaPer, QuotaWindow, Source, SourceSettings};
use crate::store::Store;

/// What every stack is made of.
pub(super) struct PipelineParts {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache: SourceCache,
    pub(super) tracker: TaskTracker,
    /// The rules for addresses and files; each source says for itself whether the strict ones hold.
    pub(super) egress: EgressRules,
}

/// One source and the way to it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) configured: ResolvedSource,
    pub(super) family: Family,
    /// The way to it, or why its settings cannot be used.
    pub(super) stack: Result<Arc<SourceStack>, SourceError>,
    pub(super) tally: Arc<Tally>,
}

/// All sources, in order of name, as of one state of the registry.
pub(super) struct Generation {
    /// Counts states, so that what was judged under another is told apart.
    pub(super) number: u64,
    snapshot: Arc<Vec<ResolvedSource>>,
    pub(super) entries: Vec<Entry>,
}

/// The ways to all sources.
pub(super) struct SourcePipelines {
    parts: PipelineParts,
    current: ArcSwap<Generation>,
    /// Held while a new state is built; what each source cost, by name.
    tallies: Mutex<BTreeMap<String, Arc<Tally>>>,
    /// Until when accounts are left alone, for those on which there is a stack.
    suspensions: Mutex<BTreeMap<String, Suspension>>,
}

impl SourcePipelines {
    pub(super) fn new(parts: PipelineParts) -> Self {
        let nothing = Generation { number: 0, snapshot: Arc::new(Vec::new()), entries: Vec::new() };
        Self {
            parts,
            current: ArcSwap::from_pointee(nothing),
            tallies: Mutex::default(),
            suspensions: Mutex::default(),
        }
    }

    /// The sources as the registry has them now.
    pub(super) fn current(&self) -> Arc<Generation> {
        let snapshot = self.parts.registry.snapshot();
        let current = self.current.load_full();
        if Arc::ptr_eq(&current.snapshot, &snapshot) {
            return current;
        }
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        let snapshot = self.parts.registry.snapshot();
        if Arc::ptr_eq(&current.snapshot, &snapshot) {
            return current;
        }
        let mut tally = |source: &ResolvedSource| {
            let name = source.settings.name.as_str();
            tallies.entry(name.to_owned()).or_insert_with(|| Arc::new(Tally::of(name))).clone()
        };
        let entries = snapshot.iter().map(|source| self.entry(&current, source, tally(source))).collect();
        let next = Arc::new(Generation { number: current.number + 1, snapshot, entries });
        self.current.store(next.clone());
        next
    }

    /// Lets the ways to all sources go, with what they have under way for nobody: a list that is being loaded.
    pub(super) fn release(&self) {
        let current = self.current.load_full();
        let (number, snapshot) = (current.number + 1, current.snapshot.clone());
        self.current.store(Arc::new(Generation { number, snapshot, entries: Vec::new() }));
    }

    /// The way to the source with exactly these settings, if it is one of those in effect.
    pub(super) fn of(&self, settings: &Arc<SourceSettings>) -> Option<Arc<SourceStack>> {
        let current = self.current();
        let entry = current.entries.iter().find(|entry| Arc::ptr_eq(&entry.configured.settings, settings))?;
        entry.stack.as_ref().ok().cloned()
    }

    fn suspension(&self, account: &str) -> Suspension {
        let mut suspensions = self.suspensions.lock().unwrap_or_else(PoisonError::into_inner);
        suspensions.retain(|_, one| Arc::strong_count(one) > 1);
        suspensions.entry(account.to_owned()).or_default().clone()
    }

    /// What the source of this name cost so far; a name that is not known yet begins at nothing.
    pub(super) fn tally(&self, name: &str) -> Arc<Tally> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(name).cloned().unwrap_or_default()
    }

    /// The windows that hold for the account of these settings: the least limit that any source on it has.
    pub(super) fn strictest(&self, settings: &SourceSettings, source: &dyn Source) -> Vec<QuotaWindow> {
        let account = account(settings, source);
        let current = self.current();
        let sharing = current.entries.iter().map(|entry| &entry.configured);
        let sharing = sharing.filter(|other| self::account(&other.settings, other.source.as_ref()) == account);
        let saved: Vec<_> = sharing.map(|other| &*other.settings).collect();
        let all = if saved.is_empty() { vec![settings] } else { saved };
        let least = |per: QuotaPer| {
            let windows = all.iter().flat_map(|one| &one.quota).filter(|window| window.per == per);
            windows.min_by_key(|window| window.limit).copied()
        };
        QuotaPer::VARIANTS.iter().copied().filter_map(least).collect()
    }

    fn entry(&self, before: &Generation, source: &ResolvedSource, tally: Arc<Tally>) -> Entry {
        let same = |entry: &&Entry| Arc::ptr_eq(&entry.configured.settings, &source.settings);
        let kept = before.entries.iter().find(same).map(|entry| entry.stack.clone());
        let family = source.family();
        let stack = kept.unwrap_or_else(|| {
            let transport = same_list_content(before, source).map_or_else(|| self.transport(source), Ok)?;
            Ok(self.over(source, family.clone(), tally.clone(), transport))
        });
        Entry { configured: source.clone(), family, stack, tally }
    }

    /// The way to a source with these settings, saved or not.
    pub(super) fn build(
        &self,
        source: &ResolvedSource,
        family: Family,
        tally: Arc<Tally>,
    ) -> Result<Arc<SourceStack>, SourceError> {
        Ok(self.over(source, family, tally, self.transport(source)?))
    }

    fn transport(&self, source: &ResolvedSource) -> Result<Arc<dyn Transport>, SourceError> {
        let parts = &self.parts;
        let (from_api, proxy_from_api) = (source.from_api, source.proxy_from_api);
        let rules = EgressRules { from_api, proxy_from_api, ..parts.egress.clone() };
        let (kind, clock, tracker) = (source.source.clone(), parts.clock.clone(), parts.tracker.clone());
        transport_for(kind, source.settings.clone(), rules, clock, tracker)
    }

    fn over(
        &self,
        source: &ResolvedSource,
        family: Family,
        tally: Arc<Tally>,
        transport: Arc<dyn Transport>,
    ) -> Arc<SourceStack> {
        let parts = &self.parts;
        let account = account(&source.settings, source.source.as_ref());
        Arc::new(SourceStack::new(Parts {
            source: source.source.clone(),
            settings: source.settings.clone(),
            family,
            suspended: self.suspension(&account),
            account,
            transport,
            ledger: parts.store.clone(),
            answers: parts.store.clone(),
            clock: parts.clock.clone(),
            cache: parts.cache.clone(),
            tracker: parts.tracker.clone(),
            tally,
        }))
    }
}

/// The transport of a list that was loaded for the same source before, where the change does not concern what is loaded: a
/// letter that changes must not cost the good copy.
fn same_list_content(before: &Generation, source: &ResolvedSource) -> Option<Arc<dyn Transport>> {
    let (now, key) = (&source.settings, source.source.list_content_key());
    let same = |old: &&Entry| {
        let (old, settings) = (&old.configured, &old.configured.settings);
        let credential =
            |settings: &SourceSettings| settings.credential.as_ref().map(|it| it.expose_secret().to_owned());
        source.source.list_location().is_some()
            && (&settings.name, &settings.kind) == (&now.name, &now.kind)
            && (old.from_api, old.proxy_from_api) == (source.from_api, source.proxy_from_api)
            && (&settings.proxy, &settings.ca_pem) == (&now.proxy, &now.ca_pem)
            && old.source.list_content_key() == key
            && credential(settings) == credential(now)
    };
    let stack = before.entries.iter().find(same)?.stack.as_ref().ok()?;
    Some(stack.transport().clone())
}

/// Whose quota: sources with the same credential of a kind share it, in a form that does not show the credential.
fn account(settings: &SourceSettings, source: &dyn Source) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"concord quota account\0");
    context.update(settings.kind.as_bytes());
    context.update(b"\0");
    match &settings.credential {
        Some(credential) => context.update(credential.expose_secret().as_bytes()),
        // Without a credential a service counts by who calls, whatever the source is called here.
        None => match &settings.base_url {
            Some(url) => context.update(url.as_str().as_bytes()),
            None => context.update(source.independence_key().as_bytes()),
        },
    }
    format!("{}:{:.32}", settings.kind, hex(context.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{OptionValue, SourceView};
    use crate::sources;

    fn of(kind: &str, change: impl FnOnce(&mut SourceSettings)) -> String {
        let kind = sources::find(kind).unwrap();
        let mut settings = SourceSettings::from_defaults(kind.about(), "any");
        change(&mut settings);
        account(&settings, kind.build(&SourceView::new(&settings)).unwrap().as_ref())
    }

    #[test]
    fn sources_without_a_credential_share_the_account_of_the_service_that_they_ask() {
        let plain = of("hashlookup", |_| {});
        assert_eq!(plain, of("hashlookup", |settings| settings.name = "another".into()));
        let elsewhere = |settings: &mut SourceSettings| settings.base_url = "https://example.com/".parse().ok();
        assert_ne!(plain, of("hashlookup", elsewhere));
        let zone = |name: &str| {
            of("dnsbl", |settings| drop(settings.options.insert("zone".into(), OptionValue::Text(name.into()))))
        };
        assert_eq!(zone("bl.example.com"), zone("BL.example.com."));
        assert_ne!(zone("bl.example.com"), zone("other.example.com"));
    }

    #[test]
    fn an_account_is_told_by_its_credential_and_does_not_show_it() {
        let with = |key: &str| of("virustotal", |settings| settings.credential = Some(key.to_owned().into()));
        assert_eq!(with("k1"), with("k1"));
        assert_ne!(with("k1"), with("k2"));
        assert!(!with("secret").contains("secret"));
    }
}
