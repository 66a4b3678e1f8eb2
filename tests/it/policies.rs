//! The policies in effect: what the file declares, what the API changes, and revisions that are never rewritten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use concord::clock::ManualClock;
use concord::error::{Error, Reason};
use concord::settings::{
    Config, Environment, FieldValue, Flags, LoadInput, PolicyChange, PolicyFields, PolicyOrigin, PolicyRegistry, load,
};
use concord::sources;
use concord::store::{BoxFuture, Memory, PolicyRow, PolicyStore, StoreError, Swap};
use concord::verdict::{Policy, Rule, RuleKind};
use tempfile::TempDir;

use crate::harness::start_time;

const STRICT: &str = "[policies.strict]\nsummary = \"S\"\nweighted.thresholds.malicious = 0.9\n";

fn config(text: &str) -> Config {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, text).unwrap();
    let input =
        LoadInput { file: Some(file), environment: Environment::new(), flags: Flags::default(), kinds: sources::all() };
    load(input).unwrap()
}

struct World {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(Memory::new()), clock: Arc::new(ManualClock::new(start_time())) }
    }

    /// As at a start of the server with this configuration.
    async fn open(&self, text: &str) -> PolicyRegistry {
        PolicyRegistry::open(&config(text), self.store.clone(), self.clock.clone()).await.unwrap()
    }
}

fn fields(entries: &[(&str, f64)]) -> PolicyFields {
    entries.iter().map(|(path, number)| ((*path).to_owned(), FieldValue::Number(*number))).collect()
}

fn make(name: &str, entries: &[(&str, f64)]) -> PolicyChange {
    PolicyChange { name: name.into(), fields: fields(entries), allow_missing: true, ..PolicyChange::default() }
}

fn malicious(policy: &Policy) -> f64 {
    let Rule::Weighted(rule) = &policy.rule else { panic!("{policy:?}") };
    rule.thresholds.malicious
}

fn refused(error: Error) -> Vec<String> {
    let Error::Invalid(violations) = error else { panic!("{error}") };
    violations.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_declared_policy_keeps_its_revision_until_its_content_changes() {
    let world = World::new();
    let revision = async |text: &str| {
        world.clock.advance(Duration::from_secs(60));
        let strict = world.open(text).await.get(Some("strict")).unwrap();
        assert!(matches!(&strict.origin, PolicyOrigin::File(file) if file.ends_with("concord.toml")));
        (strict.policy.revision, malicious(&strict.policy), strict.create_time.unwrap())
    };
    let first = revision(STRICT).await;
    assert_eq!((first.0, first.1), (1, 0.9));
    let same = format!("# the same\n{}base = \"weighted\"\n", STRICT.replace("0.9", "0.90"));
    assert_eq!(revision(&same).await, first);
    let second = revision(&STRICT.replace("0.9", "0.95")).await;
    assert_eq!((second.0, second.1), (2, 0.95));
    assert!(second.2 > first.2);
    assert_eq!(revision(STRICT).await.0, 3, "a revision is never taken up again");
    let old = world.open(STRICT).await.revision("strict", 2).await.unwrap();
    assert_eq!((old.policy.revision, malicious(&old.policy)), (2, 0.95));
}

#[tokio::test]
async fn a_policy_that_the_file_no_longer_declares_is_not_in_effect_and_its_revisions_stay() {
    let world = World::new();
    world.open(STRICT).await;
    let without = world.open("").await;
    assert!(matches!(without.get(Some("strict")), Err(Error::NotFound { reason: Reason::PolicyNotFound, .. })));
    assert_eq!(malicious(&without.revision("strict", 1).await.unwrap().policy), 0.9);
    let made = without.configure(&make("strict", &[])).await.unwrap();
    assert_eq!((made.policy.revision, &made.origin), (2, &PolicyOrigin::Api));
}

#[tokio::test]
async fn every_change_makes_the_next_revision_and_what_changes_nothing_makes_none() {
    let world = World::new();
    let policies = world.open("").await;
    let first = policies.configure(&make("mine", &[("weighted.thresholds.malicious", 0.9)])).await.unwrap();
    assert_eq!((first.policy.revision, first.policy.summary.as_str()), (1, ""));
    assert_eq!(policies.configure(&make("mine", &[("weighted.thresholds.malicious", 0.9)])).await.unwrap(), first);
    let change = PolicyChange { etag: first.etag.clone(), ..make("mine", &[("minimum_coverage", 0.5)]) };
    let second = policies.configure(&change).await.unwrap();
    assert_eq!((second.policy.revision, second.policy.minimum_coverage), (2, 0.5));
    assert_eq!(malicious(&second.policy), 0.9, "what is not named stays");
    assert!(matches!(policies.configure(&change).await, Err(Error::Conflict { .. })));
    policies.delete("mine", &second.etag, false, false).await.unwrap();
    assert!(policies.get(Some("mine")).is_err());
    let third = policies.configure(&make("mine", &[("weighted.thresholds.malicious", 0.9)])).await.unwrap();
    assert_eq!((third.policy.revision, third.policy.minimum_coverage), (3, 0.0), "nothing of a deleted policy is left");

    let policies = world.open("").await;
    assert_eq!(policies.get(Some("mine")).unwrap(), third);
    for revision in [1, 2, 3] {
        assert_eq!(policies.revision("mine", revision).await.unwrap().policy.revision, revision);
    }
    assert!(policies.revision("mine", 4).await.unwrap_err().to_string().contains("its revision now is 3"));
}

#[tokio::test]
async fn a_new_policy_starts_from_its_base_and_else_from_the_built_in_one_of_its_rule() {
    let policies = World::new().open(STRICT).await;
    let from =
        |name: &str, base: Option<&str>, rule| PolicyChange { base: base.map(str::to_owned), rule, ..make(name, &[]) };
    let strict = policies.configure(&from("a", Some("strict"), None)).await.unwrap();
    assert_eq!((malicious(&strict.policy), strict.policy.summary.as_str()), (0.9, ""));
    let mean = policies.configure(&from("b", None, Some(RuleKind::Mean))).await.unwrap();
    assert_eq!(mean.policy.rule.kind(), RuleKind::Mean);
    for (change, text) in [
        (
            from("c", Some("strict"), Some(RuleKind::Mean)),
            "policy.mean: the policy's rule is weighted; base has another rule",
        ),
        (from("a", None, Some(RuleKind::Mean)), "policy.mean: the policy's rule is weighted; a policy keeps its rule"),
        (from("a", Some("strict"), None), "base: is only for a policy that does not exist yet"),
        (from("c", Some("stric"), None), "base: policies/stric not found: did you mean policies/strict?"),
        (from("No", None, None), "policy.name: a policy's name is 1 to 63"),
    ] {
        let refused = refused(policies.configure(&change).await.unwrap_err());
        assert!(refused.len() == 1 && refused[0].starts_with(text), "{refused:?}");
    }
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_with_every_field() {
    let policies = World::new().open("").await;
    let numbers = [
        ("weighted.thresholds.malicious", 0.2),
        ("weighted.family_correlation", -0.1),
        ("weighted.letters.b.if_benign.benign", 0.5),
        ("weighted.url.decay.half_life.half_live", 3.0),
        ("minimum_coverage", f64::NAN),
    ];
    let refused = refused(policies.configure(&make("mine", &numbers)).await.unwrap_err());
    let fields: Vec<_> = refused.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "policy.weighted.url.decay.half_life.half_live",
            "policy.minimum_coverage",
            "policy.weighted.letters.b.if_benign",
            "policy.weighted.family_correlation",
            "policy.weighted.thresholds",
        ]
    );
    assert!(policies.get(Some("mine")).is_err(), "nothing was made");
}

#[tokio::test]
async fn only_what_the_api_made_can_be_changed_or_deleted_over_it_and_not_the_default() {
    let world = World::new();
    let policies = world.open(STRICT).await;
    for (name, part) in [("weighted", "is built in"), ("strict", "concord.toml")] {
        let refusals = [
            policies.configure(&make(name, &[("minimum_coverage", 0.5)])).await.map(drop),
            policies.delete(name, "", false, true).await,
        ];
        for refusal in refusals {
            let error = refusal.unwrap_err();
            assert_eq!(error.reason(), Reason::DeclaredElsewhere, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    policies.configure(&make("mine", &[])).await.unwrap();
    let policies = world.open("default_policy = \"mine\"").await;
    assert_eq!(policies.get(None).unwrap().policy.name, "mine");
    assert_eq!(policies.delete("mine", "", false, false).await.unwrap_err().reason(), Reason::InUse);
    policies.configure(&make("other", &[])).await.unwrap();
    policies.delete("other", "", false, true).await.unwrap();
    policies.delete("other", "", false, false).await.unwrap();
    assert!(matches!(policies.delete("other", "", false, false).await, Err(Error::NotFound { .. })));
    policies.delete("other", "", true, false).await.unwrap();
}

#[tokio::test]
async fn a_stored_policy_that_cannot_be_read_is_not_in_effect() {
    let world = World::new();
    let row = PolicyRow {
        name: "later".into(),
        change: 1,
        revision: 1,
        time: start_time(),
        from_file: false,
        document: Some("{\"rule\":\"oracle\",\"fields\":{}}".into()),
    };
    world.store.append_policy_change(row).await.unwrap();
    let policies = world.open("").await;
    assert!(matches!(policies.get(Some("later")), Err(Error::NotFound { .. })));
    let unreadable = policies.revision("later", 1).await.unwrap_err();
    assert!(unreadable.to_string().contains("\"oracle\" is no rule"), "{unreadable}");
    assert_eq!(policies.configure(&make("later", &[])).await.unwrap().policy.revision, 2);
}

/// A store that takes so many more changes of policies.
struct FullStore {
    store: Memory,
    left: AtomicUsize,
}

impl PolicyStore for FullStore {
    fn last_policy_changes(&self) -> BoxFuture<'_, Vec<PolicyRow>> {
        self.store.last_policy_changes()
    }

    fn policy_revision<'a>(&'a self, name: &'a str, revision: u32) -> BoxFuture<'a, Option<PolicyRow>> {
        self.store.policy_revision(name, revision)
    }

    fn append_policy_change(&self, row: PolicyRow) -> BoxFuture<'_, Swap> {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => self.store.append_policy_change(row),
            Err(_) => Box::pin(std::future::ready(Err(StoreError::unavailable("full")))),
        }
    }

    fn prune_policies(&self, before: SystemTime, keep: u32) -> BoxFuture<'_, u64> {
        self.store.prune_policies(before, keep)
    }
}

#[tokio::test]
async fn a_reload_that_fails_in_between_changes_nothing_and_succeeds_as_a_whole_later() {
    let store = Arc::new(FullStore { store: Memory::new(), left: AtomicUsize::new(2) });
    let clock = Arc::new(ManualClock::new(start_time()));
    let text = |malicious: f64| {
        ["early", "late"]
            .map(|name| format!("[policies.{name}]\nweighted.thresholds.malicious = {malicious}\n"))
            .concat()
    };
    let registry = PolicyRegistry::open(&config(&text(0.8)), store.clone(), clock).await.unwrap();
    let in_effect = || ["early", "late"].map(|name| malicious(&registry.get(Some(name)).unwrap().policy));
    store.left.store(1, Ordering::Relaxed);
    registry.reload(&config(&text(0.9))).await.unwrap_err();
    assert_eq!(in_effect(), [0.8, 0.8]);
    // A change over the API does not bring the first part into effect, either.
    store.left.store(9, Ordering::Relaxed);
    registry.configure(&make("mine", &[("weighted.thresholds.malicious", 0.7)])).await.unwrap();
    assert_eq!(in_effect(), [0.8, 0.8]);
    registry.reload(&config(&text(0.9))).await.unwrap();
    assert_eq!(in_effect(), [0.9, 0.9]);
    assert_eq!(registry.get(Some("early")).unwrap().policy.revision, 2, "its first part was stored already");
}
