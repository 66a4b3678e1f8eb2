//! What this and every later version must still read: a stored verdict and a whole database, as files that never change.
//!
//! A version that writes another form adds its own files: `UPDATE_GOLDEN=1` writes those that are missing.

use std::fs;
use std::path::{Path, PathBuf};

use concord::finding::Disposition;
use concord::source::QuotaPer;
use concord::store::{self, DisclosureFilter, Durability, PageLimit, Swap, VerdictFilter, VerdictRecord};
use concord::verdict::{Analysis, RuleKind};
use rusqlite::Connection;
use tokio::sync::Mutex;

use super::samples::{answer, at, disclosure, granted, record, row, windows_of};

const DATABASE: &str = "database-v1.db";
const VERDICT: &str = "verdict-v1.binpb.zst";
const WINDOWS: [(QuotaPer, u64); 3] = [(QuotaPer::Minute, 9), (QuotaPer::Day, 9), (QuotaPer::Month, 9)];

/// The second form adds what would change the verdict, how evidence came to its term, and what analysts say.
const VERDICT_2: &str = "verdict-v2.binpb.zst";

fn stored_verdict_2() -> VerdictRecord {
    record("v1", "192.0.2.1", Disposition::Malicious, 0.123_456_789)
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

async fn write_fixtures(folder: &Path) {
    let scratch = tempfile::tempdir().expect("a folder");
    let database = scratch.path().join("concord.db");
    let store = store::open(&database, Durability::Normal).expect("opens");
    store.append(stored_verdict_2().into()).await.expect("stored");
    store.close().await.expect("closed");
    fs::write(folder.join(VERDICT_2), body(&database)).expect("written");
    if folder.join(DATABASE).exists() {
        return;
    }
    let database = folder.join(DATABASE);
    let store = store::open(&database, Durability::Normal).expect("opens");
    store.append(stored_verdict().into()).await.expect("stored");
    store.keep_answer(answer("f00d", b"body", 1.25)).await.expect("stored");
    assert_eq!(store.put_source_row(row(1, "{}"), 0).await, Ok(Swap::Done));
    granted(&*store, &WINDOWS, 0.0).await;
    store.record_disclosure(disclosure("d1", "192.0.2.1", "x", 1.0)).await.expect("stored");
    store.close().await.expect("closed");
    fs::write(folder.join(VERDICT), body(&database)).expect("written");
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
}
