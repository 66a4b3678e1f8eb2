//! What the inspection finds, and that it ends for any bytes.

use std::io::Cursor;
use std::sync::Arc;

use concord::store::HoldReasonCode;
use concord::submission::{Inspection, Limits, Patterns, inspect_file};

use super::samples::{gzip, mail, pdf, private_key, tar, word, zip};

fn patterns() -> Arc<Patterns> {
    Arc::new(Patterns::new(&["Project Falcon".into()], &["corp.example.com".into()]).unwrap())
}

fn inspect_with(content: &[u8], limits: Limits) -> Inspection {
    inspect_file(&mut Cursor::new(content), "sample", &patterns(), limits).unwrap()
}

fn inspect(content: &[u8]) -> Inspection {
    inspect_with(content, Limits::default())
}

fn found(content: &[u8]) -> Vec<(HoldReasonCode, String)> {
    let mut found: Vec<_> = inspect(content).reasons.into_iter().map(|reason| (reason.code, reason.place)).collect();
    found.sort();
    found.dedup();
    found
}

fn codes(content: &[u8]) -> Vec<HoldReasonCode> {
    let mut codes: Vec<_> = found(content).into_iter().map(|(code, _)| code).collect();
    codes.dedup();
    codes
}

#[test]
fn clean_content_of_every_type_is_clear_and_its_type_is_recognised_by_content() {
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"plain words".to_vec(), "text/plain"),
        (vec![0, 159, 146, 150, 0, 1, 2, 3], "application/octet-stream"),
        (zip(&[("a.txt", b"words")]), "application/zip"),
        (gzip(b"words"), "application/gzip"),
        (tar(&[("a.txt", b"words")]), "application/x-tar"),
        (pdf(&["words"], ""), "application/pdf"),
        (word(&["words"], &[]), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"MZ\x90\x00\x03 program".to_vec(), "application/vnd.microsoft.portable-executable"),
        (b"\x89PNG\r\n\x1a\n and pixels".to_vec(), "image/png"),
    ];
    for (content, media_type) in cases {
        let inspection = inspect(&content);
        assert_eq!(inspection.media_type, media_type);
        assert_eq!(inspection.reasons, [], "{media_type}");
    }
}

#[test]
fn a_labelled_office_document_is_held_with_the_name_of_its_label() {
    let label = "MSIP_Label_4a5b6c7d-1234-5678-9abc-def012345678_Name";
    let inspection = inspect(&word(&["words"], &[(label, "Highly Confidential")]));
    let named = inspection.reasons.iter().find(|reason| reason.detail == "the sensitivity label Highly Confidential");
    assert_eq!(named.map(|reason| reason.place.as_str()), Some("sample/docProps/custom.xml"), "{inspection:?}");
    let info =
        b"<clbl:labelList xmlns:clbl=\"c\"><clbl:label id=\"{4a5b}\" enabled=\"1\" removed=\"0\"/></clbl:labelList>";
    assert_eq!(codes(&zip(&[("docMetadata/LabelInfo.xml", info)])), [HoldReasonCode::SensitivityLabel]);
}

#[test]
fn a_marking_is_found_although_the_document_splits_it() {
    assert_eq!(codes(&word(&["TLP", ":AM", "BER"], &[])), [HoldReasonCode::Marking]);
    assert_eq!(codes(&word(&["Project ", "Fal", "con"], &[])), [HoldReasonCode::SensitiveWord]);
    assert_eq!(codes(&pdf(&["TLP", ":RE", "D"], "")), [HoldReasonCode::Marking]);
    assert_eq!(
        codes(&pdf(&["words"], "/MSIP_Label_4a5b6c7d-1234-5678-9abc-def012345678_Enabled (true)")),
        [HoldReasonCode::SensitivityLabel]
    );
    assert_eq!(codes(b"STRENG VERTRAULICH"), [HoldReasonCode::Marking]);
    assert_eq!(codes(b"TLP:CLEAR"), []);
}

#[test]
fn text_in_utf_16_is_read_like_any_other() {
    let wide: Vec<u8> = "notes on Project Falcon".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(codes(&wide), [HoldReasonCode::SensitiveWord]);
}

#[test]
fn an_email_is_held_and_so_is_what_it_carries() {
    let message = mail("see attachment", &zip(&[("id_rsa", &private_key())]));
    assert_eq!(
        found(&message),
        [(HoldReasonCode::Email, "sample".to_owned()), (HoldReasonCode::PrivateKey, "sample/a.bin/id_rsa".to_owned()),]
    );
    let outlook: Vec<u8> = [
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(),
        "__substg1.0_0037001F".encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ]
    .concat();
    assert_eq!(codes(&outlook), [HoldReasonCode::Email]);
}

#[test]
fn a_private_key_is_found_in_an_archive_within_archives() {
    let inner = zip(&[("keys/id_rsa", &private_key())]);
    let packed = [zip(&[("inner.zip", &inner)]), gzip(&tar(&[("inner.zip", &inner)])), tar(&[("inner.zip", &inner)])];
    for outer in packed {
        let found = found(&outer);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, HoldReasonCode::PrivateKey);
        assert!(found[0].1.ends_with("inner.zip/keys/id_rsa"), "{found:?}");
    }
}

#[test]
fn credentials_and_own_names_are_found_and_never_repeated() {
    let secrets = [
        ["AKIA", "IOSFODNN7EXAMPLE"].concat(),
        ["ghp_", "0123456789abcdefghijABCDEFGHIJ012345"].concat(),
        ["xoxb-", "1234567890-abcdefghij"].concat(),
        ["https://user:", "s3cretpass@host.example.org/"].concat(),
    ];
    for secret in secrets {
        let inspection = inspect(format!("text before {secret} and behind").as_bytes());
        let found: Vec<_> = inspection.reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(found, [HoldReasonCode::Credential], "{secret}");
        assert!(!format!("{inspection:?}").contains(&secret));
    }
    assert_eq!(codes(b"connects to build.CORP.example.com"), [HoldReasonCode::OwnName]);
    let name = inspect_file(&mut Cursor::new(b"x"), "Project Falcon.txt", &patterns(), Limits::default()).unwrap();
    assert_eq!(name.reasons.len(), 1, "its name is inspected too");
}

#[test]
fn a_match_across_the_pieces_of_a_long_stream_is_found() {
    for place in [65_530, 65_536, 131_065, 200_000] {
        let mut content = vec![b'.'; 300_000];
        content[place..place + 14].copy_from_slice(b"project falcon");
        assert_eq!(codes(&content), [HoldReasonCode::SensitiveWord], "{place}");
    }
}

#[test]
fn what_cannot_be_read_is_held() {
    let whole = zip(&[("a.txt", &[b'a'; 5000])]);
    let mut encrypted = whole.clone();
    // The flags of the local header and of the directory entry.
    let entry = encrypted.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    encrypted[6] |= 1;
    encrypted[entry + 8] |= 1;
    let zip64 = [b"PK\x03\x04".as_slice(), b"PK\x06\x07", &[0; 16], b"PK\x05\x06", &[0; 18]].concat();
    let damaged_part = zip(&[("word/document.xml", b"<w:p><w:t>words</w:p>")]);
    let encrypted_pdf = pdf(&["words"], "/Encrypt 5 0 R");
    let protected: Vec<u8> = [
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(),
        "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ]
    .concat();
    let cases: Vec<(&str, Vec<u8>, HoldReasonCode)> = vec![
        ("cut zip", whole[..whole.len() - 30].to_vec(), HoldReasonCode::Unreadable),
        ("zip64", zip64, HoldReasonCode::Unreadable),
        ("encrypted member", encrypted, HoldReasonCode::Encrypted),
        ("7z", b"7z\xBC\xAF\x27\x1C rest".to_vec(), HoldReasonCode::Unreadable),
        ("rar", b"Rar!\x1A\x07\x00".to_vec(), HoldReasonCode::Unreadable),
        ("cut gzip", gzip(&[7; 5000])[..20].to_vec(), HoldReasonCode::Unreadable),
        ("damaged XML", damaged_part, HoldReasonCode::Unreadable),
        ("cut PDF", pdf(&["words"], "")[..120].to_vec(), HoldReasonCode::Unreadable),
        ("encrypted PDF", encrypted_pdf, HoldReasonCode::Encrypted),
        ("encrypted document", protected, HoldReasonCode::Encrypted),
    ];
    for (name, content, code) in cases {
        assert_eq!(codes(&content), [code], "{name}");
    }
}

#[test]
fn bombs_are_held_and_cost_little() {
    let zeros = vec![0; 20 << 20];
    let bomb = zip(&[("zeros", &zeros)]);
    assert_eq!(codes(&bomb), [HoldReasonCode::Limit], "by its ratio");
    assert_eq!(codes(&gzip(&zeros)), [HoldReasonCode::Limit]);
    let mut nested = zip(&[("a", b"x")]);
    for _ in 0..6 {
        nested = zip(&[("a.zip", &nested)]);
    }
    assert_eq!(codes(&nested), [HoldReasonCode::Limit], "by its depth");
    let many: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    let few = Limits { members: 10, ..Limits::default() };
    for archive in [zip(&many), tar(&many)] {
        let inspection = inspect_with(&archive, few);
        assert!(inspection.reasons.iter().any(|reason| reason.code == HoldReasonCode::Limit), "{inspection:?}");
    }
}
