//! How credentials are sealed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose;
use concord::store::Sealer;
use secrecy::{ExposeSecret, SecretString};

fn sealer(byte: u8) -> Sealer {
    Sealer::from_base64(&general_purpose::STANDARD.encode([byte; 32]).into()).expect("a key")
}

fn secret() -> SecretString {
    SecretString::from("s3cret-credential")
}

#[test]
fn a_sealed_credential_opens_only_for_its_source() {
    let sealed = sealer(1).seal("alpha", &secret()).expect("sealed");
    assert_eq!(sealer(1).open("alpha", &sealed).expect("opens").expose_secret(), "s3cret-credential");
    assert!(sealer(1).open("beta", &sealed).is_err(), "another source");
    assert!(sealer(2).open("alpha", &sealed).is_err(), "another key");
}

#[test]
fn every_damaged_byte_is_noticed() {
    let sealed = sealer(1).seal("alpha", &secret()).expect("sealed");
    for place in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[place] ^= 1;
        assert!(sealer(1).open("alpha", &damaged).is_err(), "byte {place}");
        assert!(sealer(1).open("alpha", &sealed[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn sealing_the_same_credential_twice_gives_different_results() {
    assert_ne!(sealer(1).seal("a", &secret()).expect("sealed"), sealer(1).seal("a", &secret()).expect("sealed"));
}

#[test]
fn errors_and_debug_show_no_secret() {
    let wrong = SecretString::from("not*base64*at*all");
    let error = Sealer::from_base64(&wrong).expect_err("refused");
    assert!(!error.detail.contains("not*"), "{error}");
    let short = Sealer::from_base64(&SecretString::from("c2hvcnQ=")).expect_err("refused");
    assert!(short.detail.contains("32 bytes, not 5"), "{short}");
    assert_eq!(format!("{:?}", sealer(7)), "Sealer(***)");
}

#[test]
fn both_alphabets_of_base64_give_the_same_key() {
    let bytes = [0xfb_u8; 32];
    let standard = Sealer::from_base64(&general_purpose::STANDARD.encode(bytes).into()).expect("standard");
    let for_urls = Sealer::from_base64(&general_purpose::URL_SAFE_NO_PAD.encode(bytes).into()).expect("url");
    let sealed = standard.seal("a", &secret()).expect("sealed");
    assert_eq!(for_urls.open("a", &sealed).expect("opens").expose_secret(), "s3cret-credential");
}

#[test]
fn a_key_file_is_created_once_and_then_reused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let sealed = Sealer::from_key_file(&path).expect("made").seal("a", &secret()).expect("sealed");
    assert_eq!(fs::read(&path).expect("key").len(), 32);
    assert!(Sealer::from_key_file(&path).expect("kept").open("a", &sealed).is_ok());
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "no draft is left behind");
}

#[test]
fn a_key_file_open_to_others_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    Sealer::from_key_file(&path).expect("made");
    assert_eq!(fs::metadata(&path).expect("key").permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let error = Sealer::from_key_file(&path).expect_err("refused");
    assert!(error.detail.contains("chmod 600"), "{error}");
}

#[test]
fn a_key_file_of_another_length_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    Sealer::from_key_file(&path).expect("made");
    fs::write(&path, b"short").expect("written");
    assert!(Sealer::from_key_file(&path).expect_err("refused").detail.contains("not 5"));
}
