//! PDF documents: their plain bytes, their compressed streams, and the text that these show. Text in fonts with a code of
//! their own is not recognised, nor are pictures. A stream that is written in any other way is a reason to hold.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Inspector;
use super::patterns::Scanner;
use crate::store::HoldReasonCode;

/// Most bytes in front of a stream in which its dictionary is looked for.
const DICTIONARY: usize = 64 * 1024;
/// Filters of pictures, which are not inspected.
const PICTURES: [&str; 4] = ["DCTDecode", "JPXDecode", "CCITTFaxDecode", "JBIG2Decode"];

impl Inspector {
    pub(super) fn pdf(&mut self, bytes: &[u8], place: &str) {
        let mut scanner = Scanner::new(&self.patterns.clone());
        scanner.add(bytes);
        scanner.add(b"\n");
        add_strings(&mut scanner, bytes);
        self.report(scanner, place);
        if find(bytes, b"/Encrypt").is_some() {
            self.hold(HoldReasonCode::Encrypted, place, "an encrypted document, which cannot be inspected");
            return;
        }
        if find(bytes, b"startxref").is_none() || find(bytes, b"%%EOF").is_none() {
            self.hold(HoldReasonCode::Unreadable, place, "a damaged or incomplete document");
        }
        let mut rest = bytes;
        while let Some(start) = find(rest, b"stream") {
            let (front, stream) = rest.split_at(start);
            let stream = stream.get(b"stream".len()..).unwrap_or_default();
            if front.ends_with(b"end") {
                rest = stream;
                continue;
            }
            let stream = stream.strip_prefix(b"\r\n").or_else(|| stream.strip_prefix(b"\n")).unwrap_or(stream);
            let (data, after) = stream.split_at(find(stream, b"endstream").unwrap_or(stream.len()));
            if self.limits.members == 0 || self.limits.unpacked_bytes == 0 {
                self.hold(HoldReasonCode::Limit, place, "too many streams: the rest was not inspected");
                return;
            }
            self.limits.members -= 1;
            self.pdf_stream(&Dictionary::read(front), data, place);
            rest = after;
        }
    }

    fn pdf_stream(&mut self, dictionary: &Dictionary, data: &[u8], place: &str) {
        if dictionary.filters.iter().any(|filter| PICTURES.contains(&filter.as_str())) {
            return;
        }
        if let Some(detail) = dictionary.unreadable {
            self.hold(HoldReasonCode::Unreadable, place, detail);
            return;
        }
        let mut unpacked = data.to_vec();
        for filter in &dictionary.filters {
            if !matches!(filter.as_str(), "FlateDecode" | "Fl") {
                let detail = format!("a stream with the filter {filter}, which is not unpacked");
                self.hold(HoldReasonCode::Unreadable, place, detail);
                return;
            }
            unpacked = self.inflate(&unpacked, place);
        }
        if !dictionary.filters.is_empty() {
            let mut scanner = Scanner::new(&self.patterns.clone());
            scanner.add(&unpacked);
            scanner.add(b"\n");
            add_strings(&mut scanner, &unpacked);
            self.report(scanner, place);
        }
        if dictionary.is_file {
            self.nested(&unpacked, &format!("{place}/embedded file"));
        }
    }

    fn inflate(&mut self, data: &[u8], place: &str) -> Vec<u8> {
        let allowed = (data.len() as u64).saturating_mul(self.limits.ratio).saturating_add(1 << 20);
        let allowed = allowed.min(self.limits.unpacked_bytes).min(self.limits.memory_bytes);
        let mut unpacked = Vec::new();
        let read = ZlibDecoder::new(data).take(allowed + 1).read_to_end(&mut unpacked);
        self.limits.unpacked_bytes = self.limits.unpacked_bytes.saturating_sub(unpacked.len() as u64);
        if unpacked.len() as u64 > allowed {
            self.hold(HoldReasonCode::Limit, place, "a stream unpacks to more than is inspected");
        } else if let Err(error) = read {
            self.hold(HoldReasonCode::Unreadable, place, format!("a stream cannot be unpacked: {error}"));
        }
        unpacked
    }
}

/// What stands in front of a stream.
struct Dictionary {
    /// How it is written, outermost first.
    filters: Vec<String>,
    /// Whether it is a file within the document.
    is_file: bool,
    /// Why its bytes do not show its text, if so.
    unreadable: Option<&'static str>,
}

impl Dictionary {
    /// Reads it at the end of these bytes, from where its object begins.
    fn read(front: &[u8]) -> Self {
        let near = front.get(front.len().saturating_sub(DICTIONARY)..).unwrap_or_default();
        let start = near.windows(4).rposition(|window| window == b" obj").unwrap_or_default();
        let names = names(near.get(start..).unwrap_or_default());
        let is_filter = |name: &&String| name.ends_with("Decode") || matches!(name.as_str(), "Fl" | "Crypt");
        // Names behind the key, up to one that is none of a filter.
        let filters = names.iter().skip_while(|name| *name != "Filter").skip(1).take_while(is_filter);
        let filters: Vec<String> = filters.cloned().collect();
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let unreadable = if has("Filter") && filters.is_empty() {
            Some("a stream that names its filter elsewhere")
        } else if has("Predictor") && !has("XRef") && !has("Image") {
            Some("a stream whose bytes are differences (Predictor)")
        } else {
            None
        };
        Self { filters, is_file: has("EmbeddedFile"), unreadable }
    }
}

/// All names, such as `/Filter`, without what hides their letters: `/Fl#61teDecode`.
fn names(bytes: &[u8]) -> Vec<String> {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"/<>[]()%{}\0".contains(byte);
    let parts = bytes.split(|byte| *byte == b'/').skip(1);
    parts
        .map(|part| {
            let name = part.split(is_end).next().unwrap_or_default();
            let mut plain = String::new();
            let mut name = name.iter();
            while let Some(byte) = name.next() {
                let hidden = name.as_slice().get(..2).filter(|_| *byte == b'#').and_then(hex_pair);
                if hidden.is_some() {
                    name = name.as_slice().get(2..).unwrap_or_default().iter();
                }
                plain.push(char::from(hidden.unwrap_or(*byte)));
            }
            plain
        })
        .collect()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(pair.first()?)? << 4 | value(pair.get(1)?)?)
}

/// Adds the texts of a content stream, `(...)` and `<...>`, without what stands between the pieces of one line.
fn add_strings(scanner: &mut Scanner, bytes: &[u8]) {
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' => {
                let mut depth = 1;
                let mut text = Vec::new();
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            let mut octal = None;
                            while let Some(digit) = bytes.next_if(|digit| {
                                octal.is_none_or(|(_, count)| count < 3) && (b'0'..=b'7').contains(digit)
                            }) {
                                let (value, count) = octal.unwrap_or((0_u8, 0));
                                octal = Some((value.wrapping_mul(8).wrapping_add(digit - b'0'), count + 1));
                            }
                            match octal {
                                Some((value, _)) => text.push(value),
                                None => text.extend(bytes.next().and_then(escaped)),
                            }
                        }
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => text.push(byte),
                    }
                    if depth == 0 {
                        break;
                    }
                }
                scanner.add(&text);
            }
            b'<' => {
                let mut digits = Vec::new();
                while let Some(digit) = bytes.next_if(u8::is_ascii_hexdigit) {
                    digits.push(digit);
                }
                scanner.add(&digits.chunks(2).filter_map(hex_pair).collect::<Vec<u8>>());
            }
            // Operators that begin a new line.
            b'T' => {
                if matches!(bytes.peek(), Some(b'd' | b'D' | b'*' | b'm')) {
                    scanner.add(b"\n");
                }
            }
            _ => {}
        }
    }
}

/// The character behind a backslash; `None` where it only continues the line.
fn escaped(byte: u8) -> Option<u8> {
    match byte {
        b'\r' | b'\n' => None,
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'b' | b'f' => Some(b' '),
        _ => Some(byte),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
