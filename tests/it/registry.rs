//! The sources in effect: layers, etags, what the API may not say, and where a stored credential may go.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose;
use concord::error::{Error, Reason};
use concord::finding::Reliability;
use concord::indicator::Tlp;
use concord::settings::{
    Change, Clearable, Config, Environment, Flags, LoadInput, Registry, ResolvedSource, SourcePatch, State, load,
};
use concord::source::{About, BuildError, Kind, Source, SourceView};
use concord::sources;
use concord::store::{Memory, Sealer, SourceRow, SourceStore};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

fn config(text: &str, keys: &[(&str, &str)]) -> Config {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, text).unwrap();
    let environment: Environment = keys.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    load(LoadInput { file: Some(file), environment, flags: Flags::default(), kinds: sources::all() }).unwrap()
}

/// A key of its own for each letter.
fn sealer(letter: u8) -> Arc<Sealer> {
    let key = general_purpose::STANDARD.encode([letter; 32]);
    Arc::new(Sealer::from_base64(&key.into()).unwrap())
}

async fn open(store: &Arc<Memory>, config: &Config, key: u8) -> Registry {
    let store: Arc<dyn SourceStore> = store.clone();
    Registry::open(config, sources::all(), store, sealer(key)).await.unwrap()
}

async fn fresh(text: &str) -> Registry {
    open(&Arc::new(Memory::default()), &config(text, &[]), b'k').await
}

fn secret(text: &str) -> Option<SecretString> {
    Some(SecretString::from(text))
}

fn virustotal(name: &str) -> Change {
    let patch = SourcePatch { kind: Some("virustotal".into()), ..SourcePatch::default() };
    Change { name: name.into(), patch, allow_missing: true, ..Change::default() }
}

fn at(name: &str, base_url: &str) -> Change {
    let mut change = virustotal(name);
    change.patch.base_url = Some(base_url.parse().unwrap());
    change
}

fn credential(one: &ResolvedSource) -> Option<&str> {
    one.settings.credential.as_ref().map(ExposeSecret::expose_secret)
}

fn fields(error: Error) -> Vec<(String, Reason)> {
    match error {
        Error::Invalid(violations) => violations.into_iter().map(|one| (one.field, one.reason)).collect(),
        other => panic!("{other}"),
    }
}

const FILE: &str = "[sources.vt]\nkind = \"virustotal\"\ncredential = \"declared\"\nreliability = \"B\"\n";

#[tokio::test]
async fn a_change_wins_field_by_field_outlives_the_process_and_a_reset_takes_it_back() {
    let store = Arc::new(Memory::default());
    let config = config(FILE, &[]);
    let registry = open(&store, &config, b'k').await;
    let mut change = virustotal("vt");
    change.patch.timeout = Some(Duration::from_secs(3));
    let changed = registry.configure(change).await.unwrap();
    assert_eq!((changed.patched.as_slice(), changed.settings.reliability.as_str()), (&["timeout".to_owned()][..], "B"));
    let again = open(&store, &config, b'k').await;
    assert_eq!(again.get("vt").unwrap().settings.timeout.as_secs(), 3);
    let reset = Change { name: "vt".into(), reset: vec!["timeout".into()], ..Change::default() };
    let back = again.configure(reset).await.unwrap();
    assert!(back.patched.is_empty());
    assert_ne!(back.settings.timeout.as_secs(), 3);
}

#[tokio::test]
async fn a_reset_of_an_option_that_does_not_exist_is_refused_with_the_one_that_was_meant() {
    let registry = fresh(FILE).await;
    let reset = |path: &str| Change { name: "vt".into(), reset: vec![path.into()], ..Change::default() };
    let error = registry.configure(reset("options.malicous_threshold_ip")).await.unwrap_err();
    assert!(error.to_string().contains("did you mean options.malicious_threshold_ip?"), "{error}");
    assert_eq!(fields(error), [("reset_mask".to_owned(), Reason::MaskInvalid)]);
    assert_eq!(registry.get("vt").unwrap().etag, "r0");
    registry.configure(reset("options.malicious_threshold_ip")).await.unwrap();
}

#[tokio::test]
async fn an_old_etag_changes_nothing() {
    let registry = fresh(FILE).await;
    let before = registry.get("vt").unwrap();
    let mut change = virustotal("vt");
    change.patch.enabled = Some(false);
    change.etag = before.etag.clone();
    let after = registry.configure(change.clone()).await.unwrap();
    assert_eq!(after.state, State::Disabled);
    change.patch.enabled = Some(true);
    assert_eq!(registry.configure(change).await.unwrap_err().reason(), Reason::EtagMismatch);
    assert_eq!(registry.get("vt").unwrap().state, State::Disabled);
}

#[tokio::test]
async fn a_change_that_conflicts_with_another_writer_is_refused_once_and_then_seen() {
    let store = Arc::new(Memory::default());
    let registry = open(&store, &config(FILE, &[]), b'k').await;
    let document = "{\"timeout\":\"7s\"}".to_owned();
    let row = SourceRow { name: "vt".into(), revision: 1, document, credential: None };
    store.put_source_row(row, 0).await.unwrap();
    let mut change = virustotal("vt");
    change.patch.tier = Some("premium".into());
    assert_eq!(registry.configure(change.clone()).await.unwrap_err().reason(), Reason::EtagMismatch);
    let both = registry.configure(change).await.unwrap();
    assert_eq!((both.settings.timeout.as_secs(), both.settings.tier.as_str()), (7, "premium"));
}

#[tokio::test]
async fn a_change_that_is_only_validated_is_not_stored() {
    let registry = fresh(FILE).await;
    let mut change = virustotal("vt");
    change.patch.timeout = Some(Duration::from_secs(3));
    assert_eq!(registry.effective(&change).await.unwrap().settings.timeout.as_secs(), 3);
    assert_ne!(registry.get("vt").unwrap().settings.timeout.as_secs(), 3);
}

#[tokio::test]
async fn a_declared_source_is_not_deleted_and_the_place_is_named() {
    let registry = open(&Arc::new(Memory::default()), &config("", &[("VIRUSTOTAL_API_KEY", "a")]), b'k').await;
    let refused = registry.delete("virustotal", "", false, false).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DeclaredElsewhere);
    assert!(refused.to_string().contains("VIRUSTOTAL_API_KEY"), "{refused}");
}

#[tokio::test]
async fn a_source_of_the_api_is_deleted_for_good() {
    let store = Arc::new(Memory::default());
    let registry = open(&store, &config("", &[]), b'k').await;
    registry.configure(Change { credential: secret("x"), ..virustotal("mine") }).await.unwrap();
    registry.delete("mine", "", false, false).await.unwrap();
    assert_eq!(registry.get("mine").unwrap_err().reason(), Reason::SourceNotFound);
    assert!(registry.delete("mine", "", true, false).await.is_ok());
    assert!(open(&store, &config("", &[]), b'k').await.snapshot().is_empty());
}

#[tokio::test]
async fn a_missing_source_is_made_only_where_that_is_allowed() {
    let registry = fresh("").await;
    let change = Change { allow_missing: false, ..virustotal("vt") };
    assert_eq!(registry.configure(change).await.unwrap_err().reason(), Reason::SourceNotFound);
    let made = registry.configure(virustotal("vt")).await.unwrap();
    assert!(matches!(made.state, State::NotConfigured(_)), "{:?}", made.state);
    assert_eq!(made.origin, None);
}

#[tokio::test]
async fn a_stored_credential_of_the_api_goes_nowhere_else() {
    let registry = fresh("").await;
    registry.configure(Change { credential: secret("given"), ..virustotal("vt") }).await.unwrap();
    let elsewhere = at("vt", "https://elsewhere.example.com/");
    let proxied = Change {
        patch: SourcePatch {
            proxy: Some(Clearable::Set("https://proxy.example.com/".parse().unwrap())),
            ..Default::default()
        },
        ..virustotal("vt")
    };
    let pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let trusted = Change {
        patch: SourcePatch { ca_pem: Some(Clearable::Set(pem.into())), ..Default::default() },
        ..virustotal("vt")
    };
    for change in [elsewhere.clone(), proxied, trusted] {
        let patch = change.patch.clone();
        assert_eq!(registry.effective(&change).await.unwrap_err().reason(), Reason::CredentialRequired, "{patch:?}");
        assert_eq!(registry.configure(change).await.unwrap_err().reason(), Reason::CredentialRequired, "{patch:?}");
    }
    let along = Change { credential: secret("other"), ..elsewhere };
    assert_eq!(credential(&registry.configure(along).await.unwrap()), Some("other"));
    let back = Change { name: "vt".into(), reset: vec!["base_url".into()], ..Change::default() };
    assert_eq!(registry.configure(back).await.unwrap_err().reason(), Reason::CredentialRequired);
}

#[tokio::test]
async fn a_credential_that_the_mask_leaves_out_does_not_count_as_sent_along() {
    let registry = fresh("").await;
    registry.configure(Change { credential: secret("given"), ..virustotal("vt") }).await.unwrap();
    let elsewhere = at("vt", "https://elsewhere.example.com/");
    let masked = Change { credential: secret("bait"), mask: Some(vec!["base_url".into()]), ..elsewhere };
    assert_eq!(registry.configure(masked).await.unwrap_err().reason(), Reason::CredentialRequired);
}

#[tokio::test]
async fn a_reset_credential_does_not_bring_the_declared_one_to_another_address() {
    let registry = fresh(FILE).await;
    let mine = Change { credential: secret("bait"), ..at("vt", "https://elsewhere.example.com/") };
    registry.configure(mine.clone()).await.unwrap();
    let reset = Change { name: "vt".into(), reset: vec!["credential".into()], ..Change::default() };
    assert_eq!(registry.configure(reset.clone()).await.unwrap_err().reason(), Reason::CredentialRequired);
    let removed = Change { name: "vt".into(), mask: Some(vec!["credential".into()]), ..Change::default() };
    assert_eq!(registry.configure(removed).await.unwrap_err().reason(), Reason::CredentialRequired);
    let both_ways = Change { reset: vec!["credential".into()], ..mine };
    assert_eq!(registry.configure(both_ways).await.unwrap_err().reason(), Reason::CredentialRequired);
    let all_back = Change { reset: vec!["credential".into(), "base_url".into()], ..reset };
    assert_eq!(credential(&registry.configure(all_back).await.unwrap()), Some("declared"));
}

#[tokio::test]
async fn a_credential_declared_after_the_address_was_set_over_the_api_is_not_sent_there() {
    let store = Arc::new(Memory::default());
    let without = config("[sources.virustotal]\nkind = \"virustotal\"\n", &[]);
    let elsewhere = at("virustotal", "https://elsewhere.example.com/");
    open(&store, &without, b'k').await.configure(elsewhere).await.unwrap();
    let with = config("", &[("VIRUSTOTAL_API_KEY", "later")]);
    let registry = open(&store, &with, b'k').await;
    let one = registry.get("virustotal").unwrap();
    assert_eq!(credential(&one), None);
    assert!(matches!(one.state, State::NotConfigured(_)), "{:?}", one.state);
    let reset = Change { name: "virustotal".into(), reset: vec!["base_url".into()], ..Change::default() };
    let back = registry.configure(reset).await.unwrap();
    assert_eq!((credential(&back), &back.state), (Some("later"), &State::Active));
}

#[tokio::test]
async fn a_stored_credential_does_not_follow_a_declaration_that_names_another_address_by_now() {
    let store = Arc::new(Memory::default());
    let given = Change { credential: secret("given"), ..virustotal("vt") };
    let first = config("[sources.vt]\nkind = \"virustotal\"\n", &[]);
    open(&store, &first, b'k').await.configure(given.clone()).await.unwrap();
    assert_eq!(credential(&open(&store, &first, b'k').await.get("vt").unwrap()), Some("given"));
    let moved = config("[sources.vt]\nkind = \"virustotal\"\nbase_url = \"https://mirror.example.com/\"\n", &[]);
    let registry = open(&store, &moved, b'k').await;
    let one = registry.get("vt").unwrap();
    assert_eq!(credential(&one), None);
    let State::NotConfigured(why) = &one.state else { panic!("{:?}", one.state) };
    assert!(why.contains("given for another address"), "{why}");
    let mut letter = virustotal("vt");
    letter.patch.reliability = Some(Reliability::D);
    assert_eq!(credential(&registry.effective(&letter).await.unwrap()), None);
    let changed = registry.configure(letter).await.unwrap();
    assert_eq!((credential(&changed), changed.settings.reliability.as_str()), (None, "D"));
    assert_eq!(credential(&registry.configure(given).await.unwrap()), Some("given"));
    // And back: what was given for the mirror does not go to the usual address.
    assert_eq!(credential(&open(&store, &first, b'k').await.get("vt").unwrap()), None);
}

#[tokio::test]
async fn a_declared_credential_does_not_go_to_a_source_of_another_kind_that_was_made_before() {
    let store = Arc::new(Memory::default());
    let nothing = config("", &[]);
    let patch = SourcePatch { kind: Some("urlhaus".into()), ..SourcePatch::default() };
    let made = Change { patch, ..virustotal("virustotal") };
    open(&store, &nothing, b'k').await.configure(made).await.unwrap();
    let declared = config("", &[("VIRUSTOTAL_API_KEY", "declared")]);
    let registry = open(&store, &declared, b'k').await;
    let one = registry.get("virustotal").unwrap();
    assert_eq!((credential(&one), one.settings.kind.as_str()), (None, "virustotal"));
    let State::NotConfigured(why) = &one.state else { panic!("{:?}", one.state) };
    assert!(why.contains("is virustotal where the source is declared, and urlhaus"), "{why}");
    let refused = registry.configure(virustotal("virustotal")).await.unwrap_err();
    assert_eq!(fields(refused)[0].0, "source.kind");
    registry.delete("virustotal", "", false, false).await.unwrap();
    let one = registry.get("virustotal").unwrap();
    assert_eq!((credential(&one), &one.state), (Some("declared"), &State::Active));
    let refused = registry.delete("virustotal", "", false, false).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DeclaredElsewhere);
}

#[tokio::test]
async fn a_patch_of_a_removed_declaration_does_not_apply_to_a_new_source_of_that_name() {
    let store = Arc::new(Memory::default());
    let mut loose = virustotal("vt");
    loose.patch.max_tlp = Some(Tlp::Red);
    loose.credential = secret("given");
    open(&store, &config(FILE, &[]), b'k').await.configure(loose).await.unwrap();
    let registry = open(&store, &config("", &[]), b'k').await;
    assert_eq!(registry.get("vt").unwrap_err().reason(), Reason::SourceNotFound);
    let missing = Change { allow_missing: false, ..virustotal("vt") };
    assert_eq!(registry.configure(missing).await.unwrap_err().reason(), Reason::SourceNotFound);
    let made = registry.configure(virustotal("vt")).await.unwrap();
    assert_eq!((made.settings.max_tlp, credential(&made)), (Tlp::Amber, None));
}

#[tokio::test]
async fn a_credential_over_the_api_is_a_value_and_never_a_reference() {
    let registry = fresh("").await;
    for text in ["env:HOME", "file:/etc/passwd", " file:/etc/passwd", "", "two\nlines"] {
        let refused = registry.configure(Change { credential: secret(text), ..virustotal("vt") }).await.unwrap_err();
        assert_eq!(fields(refused), [("source.credential".to_owned(), Reason::FieldInvalid)], "{text:?}");
    }
    assert!(registry.snapshot().is_empty());
}

#[tokio::test]
async fn addresses_over_the_api_are_https_and_public_unless_their_network_is_allowed() {
    let registry = fresh("allowed_networks = [\"10.1.0.0/16\"]\n").await;
    let egress = |field: &str| vec![(format!("source.{field}"), Reason::EgressForbidden)];
    for text in ["http://vt.example.com/", "https://127.0.0.1/", "https://10.2.0.1/", "https://169.254.169.254/"] {
        let refused = registry.configure(at("vt", text)).await.unwrap_err();
        assert_eq!(fields(refused), egress("base_url"), "{text}");
    }
    let allowed = registry.configure(at("vt", "http://10.1.0.1:8080/")).await.unwrap();
    assert!(allowed.from_api);
    let mut zone = virustotal("zone");
    zone.patch.kind = Some("dnsbl".into());
    zone.patch.options.insert("zone".into(), "bl.example.com".into());
    zone.patch.options.insert("resolver".into(), "127.0.0.1:5353".into());
    assert_eq!(fields(registry.configure(zone).await.unwrap_err()), egress("options.resolver"));
}

#[tokio::test]
async fn a_file_is_named_over_the_api_only_below_the_folders_of_the_configuration() {
    let folder = TempDir::new().unwrap();
    let lists = folder.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(lists.join("ours.txt"), "192.0.2.1\n").unwrap();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    let registry = fresh(&format!("list_folders = [{:?}]\n", lists.display().to_string())).await;
    let list = |path: &Path| {
        let mut change = virustotal("ours");
        change.patch.kind = Some("list".into());
        change.patch.options.insert("path".into(), path.display().to_string().into());
        change.patch.options.insert("claim".into(), "malicious".into());
        change
    };
    let outside =
        [folder.path().join("secret"), lists.join("../secret"), folder.path().join("missing"), lists.join("missing")];
    let mut messages = Vec::new();
    for path in outside {
        let refused = registry.configure(list(&path)).await.unwrap_err();
        messages.push(refused.to_string());
        assert_eq!(
            fields(refused),
            [("source.options.path".to_owned(), Reason::EgressForbidden)],
            "{}",
            path.display()
        );
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "the answers differ between files: {messages:?}");
    registry.configure(list(&lists.join("ours.txt"))).await.unwrap();
    // A relative path means another file wherever the server starts.
    let here = std::env::current_dir().unwrap();
    let registry = fresh(&format!("list_folders = [{:?}]\n", here.display().to_string())).await;
    assert!(here.join("Cargo.toml").is_file());
    let relative = registry.configure(list(Path::new("Cargo.toml"))).await.unwrap_err();
    assert_eq!(fields(relative), [("source.options.path".to_owned(), Reason::EgressForbidden)]);
}

#[tokio::test]
async fn a_zone_whose_key_stands_in_its_name_is_asked_with_the_declared_key() {
    let zone = "[sources.zen]\nkind = \"dnsbl\"\noptions.zone = \"{credential}.zen.dq.spamhaus.net\"\n";
    let declared = fresh(&format!("{zone}credential = \"abcdefghijklmnopqrstuvwxyz\"\n")).await;
    assert_eq!(declared.get("zen").unwrap().state, State::Active);
    let without = fresh(zone).await.get("zen").unwrap().state;
    assert!(matches!(&without, State::NotConfigured(why) if why.contains("needs a key")), "{without:?}");
}

#[tokio::test]
async fn errors_of_form_and_forbidden_addresses_are_reported_together() {
    let registry = fresh("").await;
    let mut change = at("vt", "http://127.0.0.1/");
    change.patch.timeout = Some(Duration::from_secs(999 * 3_600));
    let named: Vec<_> = fields(registry.configure(change).await.unwrap_err());
    assert_eq!(
        named,
        [("source.timeout".to_owned(), Reason::FieldInvalid), ("source.base_url".to_owned(), Reason::EgressForbidden)]
    );
}

#[cfg(unix)]
#[tokio::test]
async fn one_file_under_two_names_is_one_opinion() {
    let folder = TempDir::new().unwrap();
    let (one, other, copy) = (folder.path().join("list"), folder.path().join("a/../link"), folder.path().join("copy"));
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(&one, "192.0.2.1\n").unwrap();
    std::fs::write(&copy, "192.0.2.1\n").unwrap();
    std::os::unix::fs::symlink(&one, folder.path().join("link")).unwrap();
    let source = |name: &str, path: &Path| {
        format!("[sources.{name}]\nkind = \"list\"\noptions.path = {:?}\n", path.display().to_string())
    };
    let text = source("one", &one) + &source("other", &other) + &source("copy", &copy);
    let registry = fresh(&text).await;
    let family = |name: &str| registry.get(name).unwrap().family().name;
    assert_eq!(family("one"), family("other"));
    assert_ne!(family("one"), family("copy"));
}

#[tokio::test]
async fn a_list_over_the_api_is_not_configured_once_its_folder_is_taken_out_of_the_configuration() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ours.txt");
    std::fs::write(&file, "192.0.2.1\n").unwrap();
    let store = Arc::new(Memory::default());
    let named = config(&format!("list_folders = [{:?}]\n", folder.path().display().to_string()), &[]);
    let mut change = virustotal("ours");
    change.patch.kind = Some("list".into());
    change.patch.options.insert("path".into(), file.display().to_string().into());
    assert!(open(&store, &named, b'k').await.configure(change).await.unwrap().from_api);
    let with = open(&store, &named, b'k').await.get("ours").unwrap();
    assert_eq!(with.state, State::Active);
    let without = open(&store, &config("", &[]), b'k').await.get("ours").unwrap();
    assert!(matches!(&without.state, State::NotConfigured(why) if why.contains("list_folders")), "{:?}", without.state);
    // What was set before must not stand in the way of switching it off.
    let closed = open(&store, &config("", &[]), b'k').await;
    let mut off = Change { name: "ours".into(), ..Change::default() };
    off.patch.enabled = Some(false);
    assert_eq!(closed.configure(off.clone()).await.unwrap().state, State::Disabled);
    off.patch.enabled = Some(true);
    closed.configure(off).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let missing = open(&store, &named, b'k').await.get("ours").unwrap();
    assert_eq!(missing.state, State::Active, "a file that is missing may come back");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_out_of_a_listed_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let lists = folder.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), lists.join("link")).unwrap();
    let registry = fresh(&format!("list_folders = [{:?}]\n", lists.display().to_string())).await;
    let mut change = virustotal("ours");
    change.patch.kind = Some("list".into());
    change.patch.options.insert("path".into(), lists.join("link").display().to_string().into());
    assert_eq!(registry.configure(change).await.unwrap_err().reason(), Reason::EgressForbidden);
}

#[tokio::test]
async fn every_wrong_field_is_named_by_its_path_in_the_request() {
    let registry = fresh("").await;
    let mut change = virustotal("vt");
    change.patch.family = Some(Clearable::Set("f".repeat(64)));
    change.patch.timeout = Some(Duration::ZERO);
    change.patch.options.insert("malicious_threshold_ip".into(), 0.into());
    let named: Vec<_> =
        fields(registry.configure(change).await.unwrap_err()).into_iter().map(|(field, _)| field).collect();
    assert_eq!(named, ["source.timeout", "source.family", "source.options.malicious_threshold_ip"]);
    let masked = Change { mask: Some(vec!["colour".into(), "options.colour".into()]), ..virustotal("vt") };
    let mask = ("update_mask".to_owned(), Reason::MaskInvalid);
    assert_eq!(fields(registry.configure(masked).await.unwrap_err()), [mask.clone(), mask]);
    let other =
        Change { patch: SourcePatch { kind: Some("nothing".into()), ..Default::default() }, ..virustotal("vt") };
    assert_eq!(fields(registry.configure(other).await.unwrap_err()), [("source.kind".to_owned(), Reason::KindUnknown)]);
}

#[tokio::test]
async fn a_threshold_that_could_never_be_reached_is_refused_whichever_of_the_two_is_set() {
    let registry = fresh("").await;
    let mut change = virustotal("reports");
    change.patch.kind = Some("abuseipdb".into());
    for (option, value) in [("suspicious_threshold", 76), ("malicious_threshold", 24)] {
        change.patch.options = [(option.to_owned(), value.into())].into();
        let refused = registry.configure(change.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("would never be reached"), "{refused}");
        assert_eq!(fields(refused), [("source.options.suspicious_threshold".to_owned(), Reason::FieldInvalid)]);
    }
    change.patch.options =
        [("suspicious_threshold".to_owned(), 80.into()), ("malicious_threshold".to_owned(), 80.into())].into();
    registry.configure(change).await.unwrap();
}

#[tokio::test]
async fn a_credential_of_another_key_leaves_its_source_not_configured_and_is_not_lost_unasked() {
    let store = Arc::new(Memory::default());
    let config = config(FILE, &[]);
    let made = Change { credential: secret("given"), ..virustotal("vt") };
    open(&store, &config, b'k').await.configure(made).await.unwrap();
    let registry = open(&store, &config, b'a').await;
    let one = registry.get("vt").unwrap();
    assert!(matches!(&one.state, State::NotConfigured(why) if why.contains("decrypted")), "{:?}", one.state);
    assert_eq!(credential(&one), None);
    let mut change = virustotal("vt");
    change.patch.timeout = Some(Duration::from_secs(3));
    assert_eq!(registry.configure(change).await.unwrap_err().reason(), Reason::CredentialRequired);
    assert_eq!(credential(&open(&store, &config, b'k').await.get("vt").unwrap()), Some("given"));
    let again = Change { credential: secret("again"), ..virustotal("vt") };
    assert_eq!(registry.configure(again).await.unwrap().state, State::Active);
}

#[tokio::test]
async fn settings_that_cannot_be_read_do_not_lift_what_they_restricted() {
    for document in ["{\"max_tlp\":\"PURPLE\"}", "no json"] {
        let store = Arc::new(Memory::default());
        let row = SourceRow { name: "vt".into(), revision: 4, document: document.into(), credential: None };
        store.put_source_row(row, 0).await.unwrap();
        let registry = open(&store, &config(FILE, &[]), b'k').await;
        let one = registry.get("vt").unwrap();
        assert!(matches!(one.state, State::NotConfigured(_)), "{document}: {:?}", one.state);
        let mut change = virustotal("vt");
        change.patch.max_tlp = Some(Tlp::Green);
        let mended = registry.configure(change).await.unwrap();
        assert_eq!((mended.state, mended.settings.max_tlp.as_str()), (State::Active, "GREEN"), "{document}");
    }
}

#[tokio::test]
async fn a_source_of_the_api_whose_settings_cannot_be_read_is_still_listed_with_the_reason() {
    let store = Arc::new(Memory::new());
    let document = "{\"kind\":\"virustotal\",\"max_tlp\":\"PURPLE\"}".to_owned();
    let row = SourceRow { name: "mine".into(), revision: 1, document, credential: None };
    store.put_source_row(row, 0).await.unwrap();
    let registry = open(&store, &config("", &[]), b'k').await;
    let source = registry.get("mine").unwrap();
    let State::NotConfigured(reason) = &source.state else { panic!("{:?}", source.state) };
    assert!(reason.contains("cannot be read"), "{reason}");
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest_or_with_how_to_get_a_source() {
    let message = fresh(FILE).await.get("vtt").unwrap_err().to_string();
    assert!(message.contains("did you mean sources/vt?"), "{message}");
    let message = fresh("").await.get("vt").unwrap_err().to_string();
    assert!(message.contains("VIRUSTOTAL_API_KEY"), "{message}");
}

/// Builds lists, and counts how often.
struct CountingKind {
    list: Arc<dyn Kind>,
    built: Arc<AtomicUsize>,
}

impl Kind for CountingKind {
    fn about(&self) -> &About {
        self.list.about()
    }

    fn build(&self, view: &SourceView<'_>) -> Result<Arc<dyn Source>, BuildError> {
        self.built.fetch_add(1, Ordering::Relaxed);
        self.list.build(view)
    }
}

#[tokio::test]
async fn a_change_builds_the_source_that_it_changes_and_no_other() {
    let list =
        |number: usize| format!("[sources.list-{number}]\nkind = \"list\"\noptions.path = \"/lists/{number}\"\n");
    let config = config(&(0..20).map(list).collect::<String>(), &[]);
    let built = Arc::new(AtomicUsize::new(0));
    let kind = CountingKind { list: sources::find("list").unwrap(), built: built.clone() };
    let store: Arc<dyn SourceStore> = Arc::new(Memory::default());
    let registry = Registry::open(&config, &[Arc::new(kind)], store, sealer(b'k')).await.unwrap();
    assert_eq!(built.swap(0, Ordering::Relaxed), 20);
    let before = registry.snapshot();
    let mut letter = Change { name: "list-7".into(), ..Change::default() };
    letter.patch.reliability = Some(Reliability::D);
    registry.configure(letter).await.unwrap();
    assert_eq!(built.load(Ordering::Relaxed), 1);
    let after = registry.snapshot();
    let same = before.iter().zip(after.iter()).filter(|(old, new)| Arc::ptr_eq(&old.settings, &new.settings));
    assert_eq!((after.len(), same.count()), (20, 19));
}
