//! Office documents: the text of their XML parts, whose words may be spread over several elements, and the properties that
//! hold sensitivity labels. Also documents of the old format, of which only the plain bytes are scanned.

use std::io::{self, BufReader, Read};

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::patterns::Scanner;
use super::{Content, Format, HEAD, Inspector};
use crate::store::HoldReasonCode;

/// An XML part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The user's properties, with the labels.
    CustomProperties,
    /// The labels of newer documents.
    LabelInfo,
    /// The list of the parts of an OpenDocument file, which says how they are encrypted.
    Manifest,
    /// Any other.
    Xml,
}

impl Part {
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "docprops/custom.xml" => Some(Self::CustomProperties),
            "docmetadata/labelinfo.xml" => Some(Self::LabelInfo),
            "meta-inf/manifest.xml" => Some(Self::Manifest),
            _ if name.ends_with(".xml") || name.ends_with(".rels") => Some(Self::Xml),
            _ => None,
        }
    }
}

/// Elements after which a line ends, in Word, PowerPoint, Excel and OpenDocument.
const LINE_ENDS: [&[u8]; 7] = [b"w:p", b"a:p", b"si", b"row", b"text:p", b"text:h", b"property"];
/// The element of a manifest that says how a part is encrypted.
const ODF_ENCRYPTION: &[u8] = b"encryption-data";
/// Bytes of one event; a longer one is not read further.
const MAX_EVENT: usize = 1 << 20;

impl Inspector {
    /// Inspects a part of a document as bytes and as text.
    pub(super) fn office_part(&mut self, part: Part, unpacked: &mut dyn Read, packed: u64, place: &str) {
        let mut bytes = Vec::new();
        let allowed = packed.saturating_mul(self.limits.ratio).saturating_add(1 << 20);
        let allowed = allowed.min(self.limits.unpacked_bytes).min(self.limits.memory_bytes);
        let read = unpacked.take(allowed + 1).read_to_end(&mut bytes);
        self.limits.members = self.limits.members.saturating_sub(1);
        self.limits.unpacked_bytes = self.limits.unpacked_bytes.saturating_sub(bytes.len() as u64);
        if let Err(error) = read {
            self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}"));
        }
        if bytes.len() as u64 > allowed {
            self.hold(HoldReasonCode::Limit, place, "too large to be inspected whole");
        }
        // A file of this name may be something else.
        if Format::of(bytes.get(..HEAD).unwrap_or(&bytes)) != Format::Other {
            self.nested(&bytes, place);
            return;
        }
        let mut scanner = Scanner::new(&self.patterns.clone());
        scanner.add(&bytes);
        self.report(scanner, place);
        if part == Part::Manifest && bytes.windows(ODF_ENCRYPTION.len()).any(|bytes| bytes == ODF_ENCRYPTION) {
            self.hold(HoldReasonCode::Encrypted, place, "an encrypted document, which cannot be inspected");
        }
        if let Err(error) = self.xml(part, &bytes, place) {
            self.hold(HoldReasonCode::Unreadable, place, format!("damaged XML: {error}"));
        }
    }

    fn xml(&mut self, part: Part, bytes: &[u8], place: &str) -> Result<(), quick_xml::Error> {
        let text = decoded(bytes);
        let mut reader = Reader::from_str(&text);
        let mut scanner = Scanner::new(&self.patterns.clone());
        // The property that is being read, and its value.
        let mut property: Option<(String, String)> = None;
        loop {
            match reader.read_event()? {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) if part == Part::LabelInfo => self.label(&element, place),
                Event::Start(element) if element.name().as_ref() == b"property" => {
                    property = attribute(&element, b"name").map(|name| (name, String::new()));
                }
                Event::Text(written) => {
                    let written = written.decode().unwrap_or_default();
                    scanner.add(written.as_bytes().get(..MAX_EVENT).unwrap_or(written.as_bytes()));
                    if let Some((_, value)) = property.as_mut() {
                        value.push_str(&written);
                    }
                }
                Event::GeneralRef(reference) => {
                    let written = resolved(&reference);
                    scanner.add(written.as_bytes());
                    if let Some((_, value)) = property.as_mut() {
                        value.push_str(&written);
                    }
                }
                Event::CData(written) => scanner.add(&written),
                Event::End(element) if LINE_ENDS.contains(&element.name().as_ref()) => {
                    scanner.add(b"\n");
                    if let Some((name, value)) = property.take().filter(|_| part == Part::CustomProperties) {
                        self.property(&name, &value, place);
                    }
                }
                Event::Start(_)
                | Event::Empty(_)
                | Event::End(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
        self.report(scanner, place);
        Ok(())
    }

    /// A property such as `MSIP_Label_GUID_Name`, whose value is the name of the label.
    fn property(&mut self, name: &str, value: &str, place: &str) {
        if name.starts_with("MSIP_Label_") && name.ends_with("_Name") {
            self.hold(HoldReasonCode::SensitivityLabel, place, format!("the sensitivity label {}", value.trim()));
        }
    }

    /// An element `clbl:label`, which has the label's identifier.
    fn label(&mut self, element: &BytesStart<'_>, place: &str) {
        let is_removed = attribute(element, b"removed").is_some_and(|value| value == "1");
        if element.local_name().as_ref() == b"label" && !is_removed {
            let id = attribute(element, b"id").unwrap_or_default();
            self.hold(HoldReasonCode::SensitivityLabel, place, format!("the sensitivity label {id}"));
        }
    }

    /// A document of the old format, or an encrypted one of the new: its streams have names in UTF-16.
    pub(super) fn ole(&mut self, content: &mut dyn Content, place: &str) -> io::Result<()> {
        const NAMES: [(&str, HoldReasonCode, &str); 3] = [
            ("EncryptedPackage", HoldReasonCode::Encrypted, "an encrypted document, which cannot be inspected"),
            (
                "DRMEncryptedDataSpace",
                HoldReasonCode::Encrypted,
                "a document with rights management, which cannot be inspected",
            ),
            ("__substg1.0_", HoldReasonCode::Email, "an e-mail message of Outlook"),
        ];
        let wide = NAMES.map(|(name, code, detail)| {
            (name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), code, detail)
        });
        let mut reader = BufReader::new(content);
        let mut window = Vec::new();
        loop {
            let before = window.len();
            (&mut reader).take(64 * 1024).read_to_end(&mut window)?;
            if window.len() == before {
                return Ok(());
            }
            for (name, code, detail) in &wide {
                if window.windows(name.len()).any(|bytes| bytes == name.as_slice()) {
                    self.hold(*code, place, *detail);
                }
            }
            window.drain(..window.len().saturating_sub(64));
        }
    }
}

/// What a reference such as `&amp;` stands for. One to an entity of the document's own stands for a space.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = reference.decode().unwrap_or_default();
    resolve_predefined_entity(&name).unwrap_or(" ").to_owned()
}

fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    // Looking for attributes of the same name takes quadratic time.
    let attribute = element
        .attributes()
        .with_checks(false)
        .filter_map(Result::ok)
        .find(|attribute| attribute.key.as_ref() == name)?;
    Some(String::from_utf8_lossy(&attribute.value).into_owned())
}

/// The text of an XML file in UTF-8 or UTF-16.
fn decoded(bytes: &[u8]) -> String {
    crate::indicator::decode_text(bytes).into()
}
