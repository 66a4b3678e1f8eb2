//! Documents, messages and archives, built here.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The first line of a private key, in two parts, so that this file holds none.
pub fn private_key() -> Vec<u8> {
    ["-----BEGIN RSA ", "PRIVATE KEY-----\nMIIEow\n-----END RSA ", "PRIVATE KEY-----\n"].concat().into_bytes()
}

pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

const TYPES: &[u8] =
    b"<?xml version=\"1.0\"?><Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>";
const RELATIONS: &[u8] = b"<?xml version=\"1.0\"?><Relationships/>";

/// A Word document with this text, each piece in a run of its own, and these custom properties.
pub fn word(pieces: &[&str], properties: &[(&str, &str)]) -> Vec<u8> {
    let runs: String = pieces.iter().map(|piece| format!("<w:r><w:t>{piece}</w:t></w:r>")).collect();
    let body =
        format!("<?xml version=\"1.0\"?><w:document xmlns:w=\"w\"><w:body><w:p>{runs}</w:p></w:body></w:document>");
    let property = |(name, value): &(&str, &str)| {
        format!("<property fmtid=\"{{D5CDD505}}\" pid=\"2\" name=\"{name}\"><vt:lpwstr>{value}</vt:lpwstr></property>")
    };
    let properties: String = properties.iter().map(property).collect();
    let custom = format!("<?xml version=\"1.0\"?><Properties xmlns:vt=\"vt\">{properties}</Properties>");
    // In the order in which Word writes them, by which the type is recognised.
    zip(&[
        ("[Content_Types].xml", TYPES),
        ("_rels/.rels", RELATIONS),
        ("word/document.xml", body.as_bytes()),
        ("word/_rels/document.xml.rels", RELATIONS),
        ("docProps/custom.xml", custom.as_bytes()),
    ])
}

/// A PDF that shows this text in pieces, as typesetting with kerning does, in a compressed stream.
pub fn pdf(pieces: &[&str], info: &str) -> Vec<u8> {
    let shown: String = pieces.iter().map(|piece| format!("({piece}) -120 ")).collect();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(format!("BT /F1 12 Tf 72 720 Td [{shown}] TJ ET").as_bytes()).unwrap();
    let stream = encoder.finish().unwrap();
    let head = format!(
        "%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n2 0 obj\n<< {info} >>\nendobj\n3 0 obj\n<< /Length {} /Filter \
         /FlateDecode >>\nstream\n",
        stream.len()
    );
    let tail = b"\nendstream\nendobj\ntrailer\n<< /Root 1 0 R /Info 2 0 R >>\nstartxref\n0\n%%EOF\n";
    [head.as_bytes(), &stream, tail].concat()
}

/// A message with this text and an attachment.
pub fn mail(text: &str, attachment: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let attached = base64::engine::general_purpose::STANDARD.encode(attachment);
    format!(
        "From: alice@example.org\r\nTo: bob@example.org\r\nSubject: hello\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--b\r\n\
         Content-Type: application/octet-stream; name=\"a.bin\"\r\nContent-Disposition: attachment; filename=\"a.bin\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{attached}\r\n--b--\r\n"
    )
    .into_bytes()
}
