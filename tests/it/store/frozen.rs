//! What this and every later version must still read: a stored verdict and a whole database, as files that never change.
//!
//! A version that writes another form adds its own files: `UPDATE_GOLDEN=1` writes those that are missing.

use std::fs;
use std::path::{Path, PathBuf};

use concord::finding::Disposition;
use concord::source::QuotaPer;
use concord::store::{
    self, Acquire, Acquired, CachedRow, DisclosureFilter, Durability, FeedbackFilter, PageLimit, PolicyRow, Swap,
    VerdictFilter, VerdictRecord,
};
use concord::verdict::{Analysis, Feedback, Retraction, RuleKind};
use rusqlite::Connection;
use tokio::sync::Mutex;

use super::feedback::{feedback, retraction};
use super::policies::policy_row;
use super::samples::{acquire, answer, at, disclosure, record, row, windows_of};

const DATABASE: &str = "database-v1.db";
const VERDICT: &str = "verdict-v1.binpb.zst";
const WINDOWS: [(QuotaPer, u64); 3] = [(QuotaPer::Minute, 9), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];

/// The second form adds what would change the verdict, how evidence came to its term, and what analysts say.
const VERDICT_2: &str = "verdict-v2.binpb.zst";
/// The third form adds the caller beside the author of what analysts say.
const VERDICT_3: &str = "verdict-v3.binpb.zst";
/// The fourth form adds what the outcomes cost.
const VERDICT_4: &str = "verdict-v4.binpb.zst";
/// Adds what analysts said, and policies.
const DATABASE_2: &str = "database-v2.db";
/// Adds cached answers, calls by quarters of an hour, and other indexes.
const DATABASE_3: &str = "database-v3.db";

fn stored_verdict_4() -> VerdictRecord {
    record("v1", "192.0.2.1", Disposition::Malicious, 0.123_456_789)
}

fn stored_verdict_3() -> VerdictRecord {
    VerdictRecord { units: None, ..stored_verdict_4() }
}

fn stored_verdict_2() -> VerdictRecord {
    let mut record = stored_verdict_3();
    let verdict = &mut record.verdict;
    verdict.pin.iter_mut().chain(&mut verdict.feedback).for_each(|word| word.caller.clear());
    record
}

fn cached_row() -> CachedRow {
    CachedRow { key: [7; 16], time: at(1.0), expire_time: at(9.0), body: b"cached".as_slice().into() }
}

fn stored_policies() -> [PolicyRow; 3] {
    [policy_row("strict", 1, 1, Some("{1}")), policy_row("strict", 2, 2, Some("{2}")), policy_row("strict", 3, 2, None)]
}

fn stored_verdict() -> VerdictRecord {
    let mut record = stored_verdict_2();
    let verdict = &mut record.verdict;
    verdict.lacks_coverage = false;
    verdict.mean = None;
    verdict.pin = None;
    verdict.feedback.clear();
    verdict.sources_disposition = verdict.disposition;
    verdict.analysis = Analysis::default();
    verdict.policy.rule = RuleKind::Weighted;
    verdict.contributions.iter_mut().for_each(|contribution| contribution.weighing = None);
    record
}

async fn fixture(name: &str) -> PathBuf {
    static WRITING: Mutex<()> = Mutex::const_new(());
    let _guard = WRITING.lock().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store");
    if !folder.join(name).exists() {
        assert!(std::env::var_os("UPDATE_GOLDEN").is_some(), "{name} is missing");
        write_fixtures(&folder).await;
    }
    folder.join(name)
}

/// Files of earlier forms cannot be written any more.
async fn write_fixtures(folder: &Path) {
    let scratch = tempfile::tempdir().expect("a folder");
    let database = scratch.path().join("concord.db");
    let store = store::open(&database, Durability::Normal).expect("opens");
    store.append(stored_verdict_4().into()).await.expect("stored");
    store.record_feedback(feedback("f1", "192.0.2.1", 1.0, Some(9.0))).await.expect("stored");
    store.record_feedback(feedback("f2", "192.0.2.1", 2.0, None)).await.expect("stored");
    store.retract_feedback("f2", retraction("a mistake", 3.0)).await.expect("stored");
    for row in stored_policies() {
        assert_eq!(store.append_policy_change(row).await, Ok(Swap::Done));
    }
    store.keep_answers(vec![answer("f00d", b"body", 1.25)]).await.expect("stored");
    store.put_cached(vec![cached_row()]).await.expect("stored");
    let take =
        Acquire { disclosures: vec![disclosure("d1", "192.0.2.1", "x", 1.0)], ..acquire("account", &WINDOWS, 1.0) };
    assert!(matches!(store.acquire(vec![take]).await.expect("recorded")[..], [Acquired::Granted(_)]));
    store.close().await.expect("closed");
    if !folder.join(VERDICT_4).exists() {
        fs::write(folder.join(VERDICT_4), body(&database)).expect("written");
    }
    if !folder.join(DATABASE_3).exists() {
        fs::copy(&database, folder.join(DATABASE_3)).expect("copied");
    }
}

fn body(database: &Path) -> Vec<u8> {
    let connection = Connection::open(database).expect("connects");
    connection.query_row("SELECT body FROM verdicts", [], |row| row.get(0)).expect("a body")
}

#[tokio::test]
async fn a_database_of_the_first_version_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    fs::copy(fixture(DATABASE).await, &path).expect("copied");
    let store = store::open(&path, Durability::Normal).expect("opens");
    assert_eq!(
        store.verdicts(VerdictFilter::default(), PageLimit::rows(9), None).await.map(|listed| listed.rows),
        Ok(vec![stored_verdict()])
    );
    assert_eq!(store.answer("f00d").await, Ok(Some(answer("f00d", b"body", 1.25))));
    assert_eq!(store.source_rows().await, Ok(vec![row(1, "{}")]));
    let uses = store.usage("account", &windows_of(&WINDOWS), at(1.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
    let week = windows_of(&[(QuotaPer::Week, 9)]);
    assert_eq!(
        store.usage("account", &week, at(1.0)).await.expect("usage")[0].used,
        1,
        "its first version knew no weeks"
    );
    let disclosures = store.disclosures(DisclosureFilter::default(), PageLimit::rows(9), None).await;
    let disclosures = disclosures.map(|listed| listed.rows);
    assert_eq!(disclosures, Ok(vec![disclosure("d1", "192.0.2.1", "x", 1.0)]));
}

#[tokio::test]
async fn a_database_with_feedback_and_policies_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    fs::copy(fixture(DATABASE_2).await, &path).expect("copied");
    let store = store::open(&path, Durability::Normal).expect("opens");
    assert_eq!(store.verdict("v1").await, Ok(Some(stored_verdict_3())));
    let active = feedback("f1", "192.0.2.1", 1.0, Some(9.0));
    let ended = feedback("f2", "192.0.2.1", 2.0, None);
    // It was written before the caller of a retraction was recorded.
    let nameless = Retraction { caller: String::new(), ..retraction("a mistake", 3.0) };
    let retracted = Feedback { retraction: Some(nameless), ..ended };
    let listed = store.list_feedback(FeedbackFilter::default(), PageLimit::rows(9), None).await;
    assert_eq!(listed.map(|listed| listed.rows), Ok(vec![retracted, active]));
    let [first, second, deleted] = stored_policies();
    assert_eq!(store.policy_revision("strict", 1).await, Ok(Some(first)));
    assert_eq!(store.policy_revision("strict", 2).await, Ok(Some(second)));
    assert_eq!(store.last_policy_changes().await, Ok(vec![deleted]));
}

#[tokio::test]
async fn a_database_with_cached_answers_and_calls_by_quarters_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    fs::copy(fixture(DATABASE_3).await, &path).expect("copied");
    let store = store::open(&path, Durability::Normal).expect("opens");
    let malicious = VerdictFilter { disposition: Some(Disposition::Malicious), ..VerdictFilter::default() };
    let listed = store.verdicts(malicious, PageLimit::rows(9), None).await.map(|listed| listed.rows);
    assert_eq!(listed, Ok(vec![stored_verdict_3()]));
    assert_eq!(store.answer("f00d").await, Ok(Some(answer("f00d", b"body", 1.25))));
    assert_eq!(store.cached(cached_row().key).await, Ok(Some(cached_row().body)));
    let uses = store.usage("account", &windows_of(&WINDOWS), at(1.0)).await.expect("usage");
    assert_eq!(uses.iter().map(|window| window.used).collect::<Vec<_>>(), [1, 1, 1]);
    let from_x = DisclosureFilter { source: Some("x".into()), ..DisclosureFilter::default() };
    let disclosures = store.disclosures(from_x, PageLimit::rows(9), None).await.map(|listed| listed.rows);
    assert_eq!(disclosures, Ok(vec![disclosure("d1", "192.0.2.1", "x", 1.0)]));
}

async fn check_verdict(name: &str, expected: VerdictRecord) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    let store = store::open(&path, Durability::Normal).expect("opens");
    let other = record("v1", "192.0.2.1", Disposition::Unknown, 0.123_456_789);
    store.append(other.into()).await.expect("stored");
    let frozen = fs::read(fixture(name).await).expect("a fixture");
    Connection::open(&path).expect("connects").execute("UPDATE verdicts SET body = ?1", [frozen]).expect("written");
    assert_eq!(store.verdict("v1").await, Ok(Some(expected)), "{name}");
}

#[tokio::test]
async fn a_verdict_of_every_version_is_read() {
    check_verdict(VERDICT, stored_verdict()).await;
    check_verdict(VERDICT_2, stored_verdict_2()).await;
    check_verdict(VERDICT_3, stored_verdict_3()).await;
    check_verdict(VERDICT_4, stored_verdict_4()).await;
}
