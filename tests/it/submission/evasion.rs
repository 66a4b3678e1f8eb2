//! Content that hides from the inspection, or that would make it take long: found, or held as unreadable.

use std::io::Cursor;
use std::sync::Arc;

use concord::store::{HoldReason, HoldReasonCode};
use concord::submission::{Limits, Patterns, inspect_file};

use super::samples::{gzip, mail, pdf, private_key, tar, word, zip};

fn inspect(content: &[u8]) -> Vec<HoldReason> {
    let words = ["R&D Plan".to_owned(), "Müller".to_owned()];
    let patterns = Arc::new(Patterns::new(&words, &[]).unwrap());
    inspect_file(&mut Cursor::new(content), "sample", &patterns, Limits::default()).unwrap().reasons
}

fn codes(content: &[u8]) -> Vec<HoldReasonCode> {
    let mut codes: Vec<_> = inspect(content).into_iter().map(|reason| reason.code).collect();
    codes.sort();
    codes.dedup();
    codes
}

/// A document with this stream under this dictionary.
fn pdf_with(dictionary: &str, stream: &[u8]) -> Vec<u8> {
    let head = format!("%PDF-1.7\n3 0 obj\n<< {dictionary} >>\nstream\n");
    [head.as_bytes(), stream, b"\nendstream\nendobj\ntrailer\n<< >>\nstartxref\n0\n%%EOF\n"].concat()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn many_attributes_of_one_element_take_linear_time() {
    let attributes: String = (0..300_000).map(|number| format!(" a{number}=\"\"")).collect();
    let part = format!("<clbl:labelList><clbl:label{attributes}/></clbl:labelList>");
    assert_eq!(codes(&zip(&[("docMetadata/LabelInfo.xml", part.as_bytes())])), [HoldReasonCode::SensitivityLabel]);
}

#[test]
fn a_directory_of_an_archive_that_is_too_large_for_memory_is_held() {
    let comment = vec![b'c'; 65_535];
    let mut directory = Vec::new();
    for _ in 0..200 {
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&[0; 24]);
        directory.extend_from_slice(&[1, 0, 0, 0, 0xff, 0xff]);
        directory.extend_from_slice(&[0; 12]);
        directory.push(b'a');
        directory.extend_from_slice(&comment);
    }
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    let end = [b"PK\x05\x06\0\0\0\0\xc8\0\xc8\0".as_slice(), &size, &4_u32.to_le_bytes(), &[0; 2]].concat();
    let archive = [b"PK\x03\x04".as_slice(), &directory, &end].concat();
    let reasons = inspect(&archive);
    assert_eq!(reasons[0].code, HoldReasonCode::Unreadable, "{reasons:?}");
    assert_eq!(reasons.len(), 1, "its members were not listed: {reasons:?}");
}

#[test]
fn streams_of_a_pdf_that_are_not_unpacked_are_held_but_for_pictures() {
    let text = zlib(b"BT (words) Tj ET");
    assert_eq!(codes(&pdf_with("/Filter /FlateDecode", &text)), []);
    assert_eq!(codes(&pdf_with("/Filter [/DCTDecode]", b"\xff\xd8 pixels")), []);
    assert_eq!(codes(&pdf_with("/Type /XRef /DecodeParms << /Predictor 12 >> /Filter /FlateDecode", &text)), []);
    let held = [
        ("/Filter /ASCII85Decode", b"87cUR".to_vec()),
        ("/Filter [/ASCIIHexDecode /FlateDecode]", b"00>".to_vec()),
        ("/Filter /LZWDecode", vec![1, 2, 3]),
        ("/Filter /Made#55pDecode", vec![1, 2, 3]),
        ("/Filter 5 0 R", text.clone()),
        ("/DecodeParms << /Predictor 12 >> /Filter /FlateDecode", text.clone()),
        ("/Filter /FlateDecode", b"no zlib".to_vec()),
    ];
    for (dictionary, stream) in held {
        assert_eq!(codes(&pdf_with(dictionary, &stream)), [HoldReasonCode::Unreadable], "{dictionary}");
    }
}

#[test]
fn a_pdf_hides_neither_names_nor_characters_nor_files() {
    let marked = zlib(b"BT (T\\114P\\072R) Tj (E\\\nD) Tj ET");
    assert_eq!(codes(&pdf_with("/Filter /Fl#61teDecode", &marked)), [HoldReasonCode::Marking]);
    assert_eq!(codes(&pdf_with("/Filter [/FlateDecode /FlateDecode]", &zlib(&marked))), [HoldReasonCode::Marking]);
    let file = zlib(&zip(&[("id_rsa", &private_key())]));
    let reasons = inspect(&pdf_with("/Type /EmbeddedFile /Filter /FlateDecode", &file));
    assert_eq!(reasons[0].code, HoldReasonCode::PrivateKey, "{reasons:?}");
    assert_eq!(reasons[0].place, "sample/embedded file/id_rsa");
}

#[test]
fn listed_words_are_found_however_they_are_written() {
    assert_eq!(codes(&word(&["R&amp;D ", "Pl&#97;n"], &[])), [HoldReasonCode::SensitiveWord]);
    let wide = |bytes: fn(u16) -> [u8; 2]| "an müller".encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let written = [
        "an Müller".as_bytes().to_vec(),
        "an MÜLLER".as_bytes().to_vec(),
        b"an M\xfcller".to_vec(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
    ];
    for text in written {
        assert_eq!(codes(&text), [HoldReasonCode::SensitiveWord], "{text:?}");
    }
}

#[test]
fn archives_that_are_not_unpacked_are_held_wherever_they_are() {
    let mut image = vec![0; 40_000];
    image[0x8001..0x8006].copy_from_slice(b"CD001");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("deb", b"!<arch>\ndebian-binary   1410122664".to_vec()),
        ("rpm", [b"\xed\xab\xee\xdb".as_slice(), &[0; 200]].concat()),
        ("cpio", [b"070701".as_slice(), &[b'0'; 200]].concat()),
        ("lzip", [b"LZIP".as_slice(), &[0; 200]].concat()),
        ("squashfs", [b"hsqs".as_slice(), &[0; 200]].concat()),
        ("image", image),
        ("program", [b"MZ".as_slice(), &[0; 100_000], b"7z\xBC\xAF\x27\x1C rest"].concat()),
    ];
    for (what, content) in cases {
        assert_eq!(codes(&content), [HoldReasonCode::Unreadable], "{what}");
    }
    let unpacks_itself = [b"MZ program".as_slice(), &zip(&[("id_rsa", &private_key())])].concat();
    assert_eq!(codes(&unpacks_itself), [HoldReasonCode::PrivateKey]);
    let manifest = b"<manifest:manifest><manifest:encryption-data/></manifest:manifest>";
    assert_eq!(codes(&zip(&[("META-INF/manifest.xml", manifest)])), [HoldReasonCode::Encrypted]);
}

#[test]
fn a_name_that_is_a_credential_is_not_repeated() {
    let token = ["ghp_", "0123456789abcdefghijABCDEFGHIJ012345"].concat();
    let name = format!("{token}.txt");
    let key = private_key();
    let message = String::from_utf8(mail("words", &key)).unwrap().replace("a.bin", &name);
    for content in [zip(&[(&name, &key)]), tar(&[(&name, &key)]), message.into_bytes()] {
        let reasons = inspect(&content);
        assert!(reasons.iter().any(|reason| reason.code == HoldReasonCode::Credential), "{reasons:?}");
        assert!(!format!("{reasons:?}").contains(&token), "{reasons:?}");
    }
}

#[test]
fn a_packed_tar_that_is_inspected_in_part_is_held() {
    let zeros = vec![0; 3 << 20];
    let many: Vec<(&str, &[u8])> = vec![("a", &zeros), ("b", &zeros), ("c", &zeros)];
    assert!(codes(&gzip(&tar(&many))).contains(&HoldReasonCode::Limit));
    assert_eq!(codes(&pdf(&["words"], "")), [], "and a whole document is clear");
}
