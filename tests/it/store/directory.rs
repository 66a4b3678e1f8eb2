//! Who may use the data directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use concord::store::DataDirectory;

#[test]
fn a_second_holder_is_refused_with_the_path_of_the_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep").join("data");
    let first = DataDirectory::open(&path).expect("opens");
    let error = DataDirectory::open(&path).expect_err("held");
    assert!(error.detail.contains(&first.socket_path().display().to_string()), "{error}");
    assert!(error.detail.contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    DataDirectory::open(&path).expect("free again");
}

#[test]
fn reading_the_lock_status_creates_nothing_and_locks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data");
    assert!(!DataDirectory::lock_status(&path).expect("a status").is_held());
    assert!(!path.exists());
    let holder = DataDirectory::open(&path).expect("opens");
    let status = DataDirectory::lock_status(&path).expect("a status");
    assert!(status.is_held());
    assert_eq!(status.socket_path(), holder.socket_path());
    assert_eq!(status.database_path(), holder.database_path());
    drop(holder);
    assert!(!DataDirectory::lock_status(&path).expect("a status").is_held());
}

#[test]
fn a_new_directory_is_private_and_a_shared_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data");
    drop(DataDirectory::open(&path).expect("opens"));
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
    assert!(DataDirectory::open(&path).expect_err("refused").detail.contains("chmod 700"));
}
