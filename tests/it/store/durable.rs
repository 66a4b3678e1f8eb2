//! What only the durable store promises.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use concord::finding::Disposition;
use concord::indicator::{Form, Indicator};
use concord::source::{QuotaLimits, QuotaPer};
use concord::store::{
    self, DisclosureFilter, Durability, PageLimit, Sealer, SourceRow, Store, StoreError, StoreErrorKind, Swap,
    VerdictFilter,
};
use rusqlite::Connection;
use secrecy::{ExposeSecret, SecretString};

use super::samples::{acquire, answer, at, disclosure, granted, ids, record, row, take, unit};

pub fn open(folder: &Path) -> Arc<dyn Store> {
    store::open(&folder.join("concord.db"), Durability::Normal).expect("opens")
}

fn refusal(folder: &Path) -> StoreError {
    store::open(&folder.join("concord.db"), Durability::Normal).err().expect("refused")
}

/// What a process killed now would leave behind: the files as they stand, without any orderly end.
fn killed_now(folder: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().expect("a folder");
    for name in ["concord.db", "concord.db-wal"] {
        fs::copy(folder.join(name), left.path().join(name)).expect("copied");
    }
    left
}

#[tokio::test]
async fn acknowledged_writes_survive_a_killed_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let stored = record("v1", "192.0.2.1", Disposition::Malicious, 0.0);
    store.append(stored.clone().into()).await.expect("stored");
    granted(&*store, &[(QuotaPer::Minute, 2), (QuotaPer::Month, 2)], 0.0).await;
    granted(&*store, &[], 0.5).await;
    assert!(store.give_back(unit("account", 0.5), &QuotaLimits::default()).await.expect("given back").is_some());
    store.record_disclosure(disclosure("d1", "192.0.2.1", "x", 1.0)).await.expect("stored");
    assert_eq!(store.put_source_row(row(1, "{}"), 0).await, Ok(Swap::Done));

    let left = killed_now(folder.path());
    let again = open(left.path());
    assert_eq!(again.verdict("v1").await.expect("read"), Some(stored));
    assert_eq!(granted(&*again, &[(QuotaPer::Minute, 2), (QuotaPer::Month, 2)], 1.0).await, [2, 2]);
    assert_eq!(
        again.disclosures(DisclosureFilter::default(), PageLimit::rows(9), None).await.expect("list").rows.len(),
        1
    );
    assert_eq!(again.source_rows().await, Ok(vec![row(1, "{}")]));
}

#[tokio::test]
async fn a_closed_store_opens_again_with_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.keep_answers(vec![answer("f00d", b"body", 0.0)]).await.expect("stored");
    store.close().await.expect("closed");
    let again = open(folder.path());
    assert_eq!(again.answer("f00d").await.expect("read"), Some(answer("f00d", b"body", 0.0)));
}

#[tokio::test]
async fn a_backup_of_a_running_store_is_complete_and_overwrites_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let stored = record("v1", "192.0.2.1", Disposition::Malicious, 0.0);
    store.append(stored.clone().into()).await.expect("stored");
    let target = tempfile::tempdir().expect("a folder");
    let copy = target.path().join("concord.db");
    let beside = store::open_read_only(&folder.path().join("concord.db")).expect("opens beside the holder");
    beside.backup(&copy).await.expect("copied");
    store.append(record("v2", "192.0.2.1", Disposition::Benign, 1.0).into()).await.expect("goes on");
    let refused = beside.backup(&copy).await;
    assert!(refused.is_err(), "a backup is not overwritten");
    let restored = open(target.path());
    assert_eq!(
        restored.verdicts(VerdictFilter::default(), PageLimit::rows(9), None).await.expect("list").rows,
        [stored]
    );
    let nowhere = target.path().join("none.db");
    assert!(store::open_read_only(&folder.path().join("missing.db")).is_err());
    beside.close().await.expect("closed");
    assert!(beside.backup(&nowhere).await.is_err());
    assert!(!nowhere.exists(), "a failed backup leaves nothing");
}

#[tokio::test]
async fn a_credential_never_stands_in_clear_in_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = "correct-horse-battery-staple";
    let sealer = Sealer::from_key_file(&folder.path().join("key")).expect("a sealer");
    let sealed = sealer.seal("alpha", &SecretString::from(secret)).expect("sealed");
    let store = open(folder.path());
    let row = SourceRow { credential: Some(sealed), ..row(1, "{\"note\":\"in the clear\"}") };
    assert_eq!(store.put_source_row(row, 0).await, Ok(Swap::Done));
    let bytes: Vec<u8> = ["concord.db", "concord.db-wal"]
        .iter()
        .flat_map(|name| fs::read(folder.path().join(name)).expect("a file"))
        .collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("in the clear"), "the row is in these files");
    assert!(!holds(secret));
    let rows = store.source_rows().await.expect("rows");
    let kept = rows[0].credential.as_deref().expect("a credential");
    assert_eq!(sealer.open("alpha", kept).expect("opens").expose_secret(), secret);
    assert!(!format!("{rows:?}").contains(&format!("{kept:?}")), "not even sealed is it shown");
}

#[tokio::test]
async fn the_files_are_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.append(record("v1", "192.0.2.1", Disposition::Malicious, 0.0).into()).await.expect("stored");
    store.backup(&folder.path().join("copy.db")).await.expect("copied");
    for entry in fs::read_dir(folder.path()).expect("folder") {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    drop(open(folder.path()));
    let connection = Connection::open(&path).expect("connects");
    connection.pragma_update(None, "user_version", 999).expect("set");
    let error = refusal(folder.path());
    assert!(error.detail.contains("newer version"), "{error}");
}

#[test]
fn a_file_that_is_not_a_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    fs::write(&path, "not a database, but long enough to be looked at as if it were one".repeat(20)).expect("written");
    let error = refusal(folder.path());
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(error.detail.contains(path.to_str().expect("a path")), "{error}");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    let connection = Connection::open(&path).expect("opens");
    connection.execute_batch("CREATE TABLE verdicts (id TEXT); PRAGMA user_version = 1").expect("made");
    drop(connection);
    let before = fs::read(&path).expect("a file");
    let error = refusal(folder.path());
    assert!(error.detail.contains("not written by this program"), "{error}");
    assert!(store::open_read_only(&path).is_err());
    assert_eq!(fs::read(&path).expect("a file"), before);
}

#[test]
fn an_empty_file_is_not_used_as_a_new_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("concord.db");
    fs::write(&path, "").expect("written");
    let error = refusal(folder.path());
    assert_eq!(error.kind, StoreErrorKind::Rejected);
    for part in [path.to_str().expect("a path"), "is empty", "restore a backup", "move the file away"] {
        assert!(error.detail.contains(part), "{error}");
    }
    assert!(store::open_read_only(&path).is_err());
    assert_eq!(fs::read(&path).expect("a file"), b"", "it is left alone");
}

#[tokio::test]
async fn a_log_without_its_database_is_not_used_as_a_new_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.append(record("v1", "192.0.2.1", Disposition::Malicious, 0.0).into()).await.expect("stored");
    fs::remove_file(folder.path().join("concord.db")).expect("removed");
    let error = refusal(folder.path());
    assert!(error.detail.contains("concord.db-wal holds changes of a database that is gone"), "{error}");
    assert!(!folder.path().join("concord.db").exists());
}

#[tokio::test]
async fn a_file_of_another_program_beside_a_log_is_refused_and_both_are_left_alone() {
    let foreign_folder = tempfile::tempdir().expect("a folder");
    let foreign = foreign_folder.path().join("foreign.db");
    let other = Connection::open(&foreign).expect("opens");
    other.execute_batch("CREATE TABLE other (a); INSERT INTO other VALUES (1);").expect("made");
    for content in [Vec::new(), b"plain text".to_vec(), fs::read(&foreign).expect("its bytes")] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        store.append(record("v1", "192.0.2.1", Disposition::Malicious, 0.0).into()).await.expect("stored");
        let left = killed_now(folder.path());
        let (path, log) = (left.path().join("concord.db"), left.path().join("concord.db-wal"));
        fs::write(&path, &content).expect("replaced");
        let before = fs::read(&log).expect("a log");
        let error = refusal(left.path());
        let named = format!("database {}: was not written by this program, and {}", path.display(), log.display());
        assert!(
            error.detail.starts_with(&named) && error.detail.contains("put the database of that log back"),
            "{error}"
        );
        assert!(store::open_read_only(&path).is_err());
        assert_eq!((fs::read(&path).expect("a file"), fs::read(&log).expect("a log")), (content, before));
    }
}

#[tokio::test]
async fn a_first_start_leaves_nothing_but_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    // As a start that was killed leaves it.
    fs::write(folder.path().join(format!("concord.db.new-{}", std::process::id())), "half").expect("written");
    open(folder.path()).close().await.expect("closed");
    let names = fs::read_dir(folder.path()).expect("folder").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = names.collect();
    names.retain(|name| !["concord.db-wal", "concord.db-shm"].iter().any(|log| name == log));
    names.sort();
    assert_eq!(names, ["concord.db", "concord.db.reserve"]);
}

#[tokio::test]
async fn no_file_of_the_store_holds_the_password_of_a_url() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut secret = record("v1", "192.0.2.1", Disposition::Malicious, 0.0);
    secret.verdict.indicator =
        Indicator::from_normal(Form::Url, "https://alice:s3cret@example.com/in-the-clear").expect("a URL");
    store.append(secret.into()).await.expect("stored");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    let bytes = [read("concord.db"), read("concord.db-wal")].concat();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("in-the-clear"), "the row is in these files");
    assert!(!holds("s3cret") && !holds("alice"));
}

#[tokio::test]
async fn a_store_whose_file_is_moved_takes_no_quota_and_goes_on_once_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let windows = [(QuotaPer::Minute, 5)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
    let (path, elsewhere) = (folder.path().join("concord.db"), folder.path().join("moved.db"));
    fs::rename(&path, &elsewhere).expect("moved");
    assert_eq!(store.check().expect_err("gone").kind, StoreErrorKind::Gone);
    let refused = take(&*store, acquire("account", &windows, 1.0)).await.expect_err("nothing is recorded");
    assert_eq!(refused.kind, StoreErrorKind::Gone);
    fs::rename(&elsewhere, &path).expect("moved back");
    assert_eq!(store.check(), Ok(()));
    assert_eq!(granted(&*store, &windows, 2.0).await, [2], "what was refused was not counted");
}

#[tokio::test]
async fn a_store_whose_file_is_overwritten_takes_no_quota() {
    let foreign_folder = tempfile::tempdir().expect("a folder");
    let foreign = foreign_folder.path().join("foreign.db");
    let other = Connection::open(&foreign).expect("opens");
    other.execute_batch("CREATE TABLE other (a); INSERT INTO other VALUES (1);").expect("made");
    for content in [Vec::new(), b"SQLite format 3".to_vec(), fs::read(&foreign).expect("its bytes")] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let windows = [(QuotaPer::Minute, 5)];
        assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
        fs::write(folder.path().join("concord.db"), &content).expect("written into the same file");
        assert_eq!(store.check().expect_err("overwritten").kind, StoreErrorKind::Gone);
        let refused = take(&*store, acquire("account", &windows, 1.0)).await.expect_err("nothing is recorded");
        assert_eq!(refused.kind, StoreErrorKind::Gone);
    }
}

#[tokio::test]
async fn a_store_whose_log_is_deleted_takes_no_quota_and_loses_nothing_when_it_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let windows = [(QuotaPer::Day, 5)];
    assert_eq!(granted(&*store, &windows, 0.0).await, [1]);
    fs::remove_file(folder.path().join("concord.db-wal")).expect("removed");
    assert_eq!(store.check().expect_err("gone").kind, StoreErrorKind::Gone);
    let refused = take(&*store, acquire("account", &windows, 1.0)).await.expect_err("nothing is recorded");
    assert_eq!(refused.kind, StoreErrorKind::Gone);
    store.close().await.expect("closes");
    drop(store);
    assert_eq!(granted(&*open(folder.path()), &windows, 2.0).await, [2], "what was recorded before is there");
}

#[tokio::test]
async fn a_store_opened_for_reading_refuses_to_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let holder = open(folder.path());
    let stored = record("v1", "192.0.2.1", Disposition::Malicious, 0.0);
    holder.append(stored.clone().into()).await.expect("stored");
    let store = store::open_read_only(&folder.path().join("concord.db")).expect("opens");
    let refused = store.append(record("v2", "192.0.2.1", Disposition::Benign, 1.0).into()).await.expect_err("refused");
    assert_eq!(refused.kind, StoreErrorKind::Rejected);
    assert_eq!(store.verdict("v1").await, Ok(Some(stored)));
}

#[tokio::test]
async fn one_row_that_cannot_be_read_hides_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for (id, seconds) in [("v0", 0.0), ("v1", 1.0), ("v2", 2.0)] {
        store.append(record(id, "192.0.2.1", Disposition::Malicious, seconds).into()).await.expect("stored");
    }
    let connection = Connection::open(folder.path().join("concord.db")).expect("connects");
    let damaged = connection.execute("UPDATE verdicts SET body = x'00' WHERE id = 'v1'", []).expect("written");
    assert_eq!(damaged, 1);
    let listed = store.verdicts(VerdictFilter::default(), PageLimit::rows(2), None).await.expect("list").rows;
    assert_eq!(ids(&listed), ["v2", "v0"], "a page is full although a row is left out");
    assert_eq!(store.verdict("v1").await.expect_err("damaged").kind, StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn pruning_in_small_steps_removes_all_that_is_too_old_or_too_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let answers = (0..900_u32).map(|number| answer(&number.to_string(), &[7], f64::from(number))).collect();
    store.keep_answers(answers).await.expect("stored");
    assert_eq!(store.prune_answers(at(450.0), u64::MAX).await, Ok(450));
    assert_eq!(store.answer("449").await, Ok(None));
    assert!(store.answer("450").await.expect("read").is_some());
    assert_eq!(store.prune_answers(at(450.0), 0).await, Ok(450));
    assert_eq!(store.answer("899").await, Ok(None));
}
