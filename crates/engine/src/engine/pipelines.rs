//! The pipelines of all sources in the registry. A pipeline is rebuilt only when the settings of its source change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use secrecy::ExposeSecret;
use strum::VariantArray;
use tokio_util::task::TaskTracker;

use super::EnrichRequest;
use super::withhold::CurrentRules;
use crate::clock::Clock;
use crate::fetch::{
    AccountState, Fetched, ListPipeline, ListReader, PipelineParts, Receipt, RemotePipeline, SourceCache,
    SourceCounters, SourceGuards, SourcePipeline, TransportFactory, UnitAcquirer, outcome,
};
use crate::finding::{Family, OutcomeBody, SourceError};
use crate::indicator::hex;
use crate::settings::{Registry, ResolvedSource};
use crate::source::{
    CallerBudgets, EgressRules, Lookup, OptionValue, QuotaPer, QuotaWindow, Source, SourceSettings, TransportKind,
};
use crate::store::Store;
use crate::sync::lock;
use crate::verdict::PendingSource;

/// The parts that all pipelines share.
pub(super) struct SharedParts {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache: SourceCache,
    pub(super) transports: Arc<TransportFactory>,
    pub(super) tracker: TaskTracker,
    /// The rules for every enrichment. Those for addresses and files are the ones at the start; whether the stricter ones apply is
    /// decided for each source.
    pub(super) rules: Arc<CurrentRules>,
}

/// One source and its pipeline.
#[derive(Clone)]
pub(super) struct SourceEntry {
    pub(super) source: Arc<ResolvedSource>,
    pub(super) family: Family,
    /// The pipeline, or why the settings cannot be used.
    pub(super) pipeline: Result<SourcePipeline, SourceError>,
    pub(super) counters: Arc<SourceCounters>,
    /// Circuit breaker, concurrency limit and retry budget.
    pub(super) guards: Arc<SourceGuards>,
}

impl SourceEntry {
    pub(super) fn name(&self) -> &str {
        &self.source.settings.name
    }

    /// Whether the source may name relations of the request's indicator that are wanted.
    pub(super) fn leads_on(&self, request: &EnrichRequest) -> bool {
        self.source.source.leads_on(request.indicator.indicator_type(), &request.relations.names)
    }

    /// The look-up in the form in which this source distinguishes look-ups.
    pub(super) fn normalize(&self, lookup: &Lookup) -> Lookup {
        self.source.source.normalize(lookup)
    }

    /// Whether a look-up discloses the indicator to a remote source.
    pub(super) fn is_remote(&self) -> bool {
        self.source.kind.about().transport.is_remote()
    }

    /// This source while its answer is awaited.
    pub(super) fn pending(&self) -> PendingSource {
        PendingSource {
            name: self.name().to_owned(),
            reliability: self.source.settings.reliability,
            greatest_strength: self.source.kind.about().greatest_strength,
            family: self.family.clone(),
        }
    }

    /// An outcome of this source that did not come from its pipeline.
    pub(super) fn outcome_without_call(&self, body: OutcomeBody, time: SystemTime) -> Fetched {
        Fetched { outcome: outcome(&self.source.settings, &self.family, body, time), receipt: Receipt::default() }
    }
}

/// All sources in one state of the registry, in order of name.
pub(super) struct Generation {
    /// Number of the state, so that verdicts of different states do not share a key.
    pub(super) number: u64,
    snapshot: Arc<Vec<Arc<ResolvedSource>>>,
    pub(super) entries: Vec<SourceEntry>,
}

impl Generation {
    /// The entry of the source of this name.
    pub(super) fn find(&self, name: &str) -> Option<&SourceEntry> {
        let position = self.entries.binary_search_by(|entry| entry.name().cmp(name)).ok()?;
        self.entries.get(position)
    }
}

/// The pipelines of all sources.
pub(super) struct SourcePipelines {
    parts: SharedParts,
    acquirer: Arc<UnitAcquirer>,
    current: ArcSwap<Generation>,
    /// The counters of each source by name. The lock is held while a new generation is built.
    counters: Mutex<BTreeMap<String, Arc<SourceCounters>>>,
    /// The state of each account that has a pipeline.
    accounts: Mutex<BTreeMap<String, Arc<AccountState>>>,
}

impl SourcePipelines {
    pub(super) fn new(parts: SharedParts) -> Self {
        let empty = Generation { number: 0, snapshot: Arc::new(Vec::new()), entries: Vec::new() };
        let acquirer = UnitAcquirer::new(parts.store.clone(), parts.clock.clone(), parts.tracker.clone());
        let current = ArcSwap::from_pointee(empty);
        Self { parts, acquirer, current, counters: Mutex::default(), accounts: Mutex::default() }
    }

    /// Applies these budgets of callers from the next unit on.
    pub(super) fn set_budgets(&self, budgets: CallerBudgets) {
        self.acquirer.set_budgets(budgets);
    }

    /// Does `work`, which asks sources.
    pub(super) fn announce<F: Future + Unpin>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.acquirer.announce(work)
    }

    /// The quota units that this caller may spend in a day; `None`: no limit.
    pub(super) fn caller_limit(&self, caller: &str) -> Option<u64> {
        self.acquirer.budgets().limit(caller)
    }

    /// The pipelines for the current state of the registry.
    pub(super) fn current(&self) -> Arc<Generation> {
        let up_to_date = || {
            let (current, snapshot) = (self.current.load_full(), self.parts.registry.snapshot());
            if Arc::ptr_eq(&current.snapshot, &snapshot) { Ok(current) } else { Err((current, snapshot)) }
        };
        if let Ok(current) = up_to_date() {
            return current;
        }
        let mut counters = lock(&self.counters);
        let (current, snapshot) = match up_to_date() {
            Ok(current) => return current,
            Err(outdated) => outdated,
        };
        let entries = snapshot.iter().map(|source| {
            let name = source.settings.name.as_str();
            let counters = counters.entry(name.to_owned()).or_insert_with(|| Arc::new(SourceCounters::new(name)));
            self.entry(&current, source, counters.clone())
        });
        let entries = entries.collect();
        let next = Arc::new(Generation { number: current.number + 1, snapshot, entries });
        self.current.store(next.clone());
        next
    }

    /// The sources as of the last use, without building pipelines.
    pub(super) fn latest(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Drops all pipelines, which cancels loads of lists.
    pub(super) fn release(&self) {
        let current = self.current.load_full();
        let (number, snapshot) = (current.number + 1, current.snapshot.clone());
        self.current.store(Arc::new(Generation { number, snapshot, entries: Vec::new() }));
    }

    /// The current pipeline with exactly these settings, if there is one.
    pub(super) fn find(&self, settings: &Arc<SourceSettings>) -> Option<SourcePipeline> {
        let current = self.current();
        let entry = current.find(&settings.name).filter(|entry| Arc::ptr_eq(&entry.source.settings, settings))?;
        entry.pipeline.as_ref().ok().cloned()
    }

    /// The counters of the source of this name; those of an unsaved source if the name is not known.
    pub(super) fn counters(&self, name: &str) -> Arc<SourceCounters> {
        lock(&self.counters).get(name).cloned().unwrap_or_default()
    }

    /// The quota windows of the account of these settings: for each period, the lowest limit of all sources that share
    /// it.
    pub(super) fn strictest(&self, settings: &SourceSettings, source: &dyn Source) -> Vec<QuotaWindow> {
        let account = account(settings, source);
        let current = self.current();
        let sources = current.entries.iter().map(|entry| &entry.source);
        let sharing = sources.filter(|other| self::account(&other.settings, other.source.as_ref()) == account);
        let saved: Vec<_> = sharing.map(|source| &*source.settings).collect();
        let all = if saved.is_empty() { vec![settings] } else { saved };
        let least = |per: &QuotaPer| {
            let windows = all.iter().flat_map(|settings| &settings.quota).filter(|window| window.per == *per);
            windows.min_by_key(|window| window.limit).copied()
        };
        QuotaPer::VARIANTS.iter().filter_map(least).collect()
    }

    fn entry(&self, before: &Generation, source: &Arc<ResolvedSource>, counters: Arc<SourceCounters>) -> SourceEntry {
        let family = source.family();
        let known = before.find(&source.settings.name);
        let unchanged = known.filter(|entry| Arc::ptr_eq(&entry.source.settings, &source.settings));
        let is_alike = known.is_some_and(|entry| asks_alike(&entry.source, source));
        let guards = known.filter(|_| is_alike).map(|entry| entry.guards.clone());
        let guards = guards.unwrap_or_else(|| Arc::new(SourceGuards::new(&source.settings)));
        guards.apply(&source.settings);
        let pipeline = match unchanged {
            Some(entry) => entry.pipeline.clone(),
            None => {
                let list = known.and_then(|known| same_list_content(known, source));
                let account = account(&source.settings, source.source.as_ref());
                if let Some(known) = known {
                    let (state, before) = (self.account_state(&account), &known.source);
                    // Another plan of the service, or another way to it. What a source said of its account holds otherwise.
                    if !is_alike || before.settings.quota != source.settings.quota {
                        state.lift();
                    } else if before.etag != source.etag {
                        // The key may have been unblocked, and this is how its user says so.
                        state.forget_credential_refusal();
                    }
                }
                self.acquirer.reopen(&account);
                self.build_on(source, family.clone(), counters.clone(), guards.clone(), list)
            }
        };
        SourceEntry { source: source.clone(), family, pipeline, counters, guards }
    }

    /// Builds a pipeline with these settings, which need not be saved. With `guards` its calls count for the source that they
    /// guard.
    pub(super) fn build(
        &self,
        source: &ResolvedSource,
        guards: Option<Arc<SourceGuards>>,
    ) -> Result<SourcePipeline, SourceError> {
        let guards = guards.unwrap_or_else(|| Arc::new(SourceGuards::new(&source.settings)));
        self.build_on(source, source.family(), self.counters(&source.settings.name), guards, None)
    }

    /// The guards of the saved source with exactly these settings, if there is one.
    pub(super) fn guards(&self, settings: &Arc<SourceSettings>) -> Option<Arc<SourceGuards>> {
        let current = self.current();
        let entry = current.find(&settings.name).filter(|entry| Arc::ptr_eq(&entry.source.settings, settings))?;
        Some(entry.guards.clone())
    }

    fn build_on(
        &self,
        source: &ResolvedSource,
        family: Family,
        counters: Arc<SourceCounters>,
        guards: Arc<SourceGuards>,
        list: Option<Arc<ListReader>>,
    ) -> Result<SourcePipeline, SourceError> {
        let parts = &self.parts;
        let (built, settings, clock) = (source.source.clone(), source.settings.clone(), parts.clock.clone());
        let (from_api, proxy_from_api) = (source.from_api, source.proxy_from_api);
        let rules = EgressRules { from_api, proxy_from_api, ..parts.rules.load().egress.clone() };
        let current = parts.rules.clone();
        match built.about().transport {
            transport @ (TransportKind::Http | TransportKind::Dns) => {
                let account = account(&settings, built.as_ref());
                let account_state = self.account_state(&account);
                Ok(SourcePipeline::Remote(Arc::new(RemotePipeline::new(PipelineParts {
                    transport: (parts.transports)(transport, &settings, rules, clock.clone())?,
                    withhold: Arc::new(move |indicator| current.external_reason(indicator)),
                    source: built,
                    settings,
                    family,
                    account_state,
                    guards,
                    account,
                    ledger: parts.store.clone(),
                    acquirer: self.acquirer.clone(),
                    clock,
                    cache: parts.cache.clone(),
                    tracker: parts.tracker.clone(),
                    counters,
                }))))
            }
            TransportKind::List => {
                let load = || {
                    let tracker = parts.tracker.clone();
                    ListReader::new(built.clone(), settings.clone(), rules, clock.clone(), tracker).map(Arc::new)
                };
                let list = list.map_or_else(load, Ok)?;
                let pipeline = ListPipeline::new(built, settings, family, list, clock, counters);
                Ok(SourcePipeline::List(Arc::new(pipeline)))
            }
        }
    }

    fn account_state(&self, account: &str) -> Arc<AccountState> {
        let mut accounts = lock(&self.accounts);
        accounts.retain(|_, state| Arc::strong_count(state) > 1);
        accounts.entry(account.to_owned()).or_default().clone()
    }
}

/// The list that is already loaded for the source, if the change of settings does not affect its content. A change of,
/// say, the reliability must not discard a good copy.
fn same_list_content(before: &SourceEntry, source: &ResolvedSource) -> Option<Arc<ListReader>> {
    let SourcePipeline::List(pipeline) = before.pipeline.as_ref().ok()? else { return None };
    let (old, new) = (&before.source.settings, &source.settings);
    let credential = |settings: &SourceSettings| settings.credential.as_ref().map(|key| key.expose_secret().to_owned());
    let same = (&old.kind, &old.proxy, &old.ca_pem) == (&new.kind, &new.proxy, &new.ca_pem)
        && (before.source.from_api, before.source.proxy_from_api) == (source.from_api, source.proxy_from_api)
        && before.source.source.list_content_key() == source.source.list_content_key()
        && credential(old) == credential(new);
    same.then(|| pipeline.list().clone())
}

/// Whether a change of settings leaves where and how the source is asked as it was, so that what was learned about it holds.
fn asks_alike(before: &ResolvedSource, after: &ResolvedSource) -> bool {
    fn address(settings: &SourceSettings) -> impl PartialEq {
        let credential = settings.credential.as_ref().map(|key| key.expose_secret().to_owned());
        let resolvers = settings.options.values().filter(|value| matches!(value, OptionValue::Resolver(_)));
        let resolvers: Vec<_> = resolvers.cloned().collect();
        let service = (settings.kind.clone(), settings.base_url.clone(), settings.tier.clone(), resolvers);
        (service, credential, settings.proxy.clone(), settings.ca_pem.clone(), settings.timeout)
    }
    address(&before.settings) == address(&after.settings)
        && before.source.independence_key() == after.source.independence_key()
}

/// Identifies the account whose quota is spent, without revealing the credential. Sources of one kind with the same
/// credential share an account if they ask the same address: what a mirror answers must not count for the real account.
fn account(settings: &SourceSettings, source: &dyn Source) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"concord quota account\0");
    context.update(settings.kind.as_bytes());
    context.update(b"\0");
    match &settings.credential {
        Some(credential) => {
            context.update(credential.expose_secret().as_bytes());
            let other = settings.base_url.as_ref().filter(|url| !source.about().is_own_address(Some(*url)));
            if let Some(url) = other {
                context.update(b"\0");
                context.update(url.as_str().trim_end_matches('/').as_bytes());
            }
        }
        // Without a credential, a service counts calls by client address, so all sources that ask it share an account.
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
    use crate::source::SourceView;
    use crate::sources;

    fn account_of(kind: &str, change: impl FnOnce(&mut SourceSettings)) -> String {
        let kind = sources::find(kind).unwrap();
        let mut settings = SourceSettings::from_defaults(kind.about(), "any");
        change(&mut settings);
        account(&settings, kind.build(&SourceView::new(&settings)).unwrap().as_ref())
    }

    #[test]
    fn sources_without_a_credential_share_an_account_if_they_ask_the_same_service() {
        let plain = account_of("hashlookup", |_| {});
        assert_eq!(plain, account_of("hashlookup", |settings| settings.name = "another".into()));
        let elsewhere = |settings: &mut SourceSettings| settings.base_url = "https://example.com/".parse().ok();
        assert_ne!(plain, account_of("hashlookup", elsewhere));
        let zone = |name: &str| {
            account_of("dnsbl", |settings| drop(settings.options.insert("zone".into(), OptionValue::Text(name.into()))))
        };
        assert_eq!(zone("bl.example.com"), zone("BL.example.com."));
        assert_ne!(zone("bl.example.com"), zone("other.example.com"));
    }

    #[test]
    fn an_account_is_identified_by_its_credential_without_revealing_it() {
        let with = |key: &str| account_of("virustotal", |settings| settings.credential = Some(key.to_owned().into()));
        assert_eq!(with("k1"), with("k1"));
        assert_ne!(with("k1"), with("k2"));
        assert!(!with("secret").contains("secret"));
    }

    #[test]
    fn a_key_at_a_mirror_is_another_account_than_the_same_key_at_the_source() {
        let at = |address: &str| {
            account_of("virustotal", |settings| {
                settings.credential = Some("k".to_owned().into());
                settings.base_url = address.parse().ok();
            })
        };
        let own = account_of("virustotal", |settings| settings.credential = Some("k".to_owned().into()));
        assert_eq!(at("https://www.virustotal.com/api/v3"), own);
        assert_ne!(at("https://mirror.example.com/api/v3"), own);
        assert_eq!(at("https://mirror.example.com/api/v3"), at("https://mirror.example.com/api/v3/"));
        assert_ne!(at("https://mirror.example.com/api/v3"), at("https://other.example.com/api/v3"));
    }
}
