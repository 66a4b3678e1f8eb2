//! PDF documents: their plain bytes, their compressed streams, and the text that these show. Text in fonts with a code of
//! their own is not recognised, nor are pictures.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Inspector;
use super::patterns::Scanner;
use crate::store::HoldReasonCode;

/// Bytes in front of a stream in which its dictionary is looked for.
const DICTIONARY: usize = 4096;

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
            let dictionary = front.get(front.len().saturating_sub(DICTIONARY)..).unwrap_or_default();
            let stream = stream.strip_prefix(b"\r\n").or_else(|| stream.strip_prefix(b"\n")).unwrap_or(stream);
            let (data, after) = stream.split_at(find(stream, b"endstream").unwrap_or(stream.len()));
            if self.limits.members == 0 || self.limits.unpacked_bytes == 0 {
                self.hold(HoldReasonCode::Limit, place, "too many streams: the rest was not inspected");
                return;
            }
            self.limits.members -= 1;
            if find(dictionary, b"/Fl").is_some() {
                self.pdf_stream(data, place);
            }
            rest = after;
        }
    }

    fn pdf_stream(&mut self, data: &[u8], place: &str) {
        let allowed = (data.len() as u64).saturating_mul(self.limits.ratio).saturating_add(1 << 20);
        let allowed = allowed.min(self.limits.unpacked_bytes).min(self.limits.memory_bytes);
        let mut unpacked = Vec::new();
        // A stream that breaks off has shown what it could.
        let _ = ZlibDecoder::new(data).take(allowed + 1).read_to_end(&mut unpacked);
        self.limits.unpacked_bytes = self.limits.unpacked_bytes.saturating_sub(unpacked.len() as u64);
        if unpacked.len() as u64 > allowed {
            self.hold(HoldReasonCode::Limit, place, "a stream unpacks to more than is inspected");
        }
        let mut scanner = Scanner::new(&self.patterns.clone());
        scanner.add(&unpacked);
        scanner.add(b"\n");
        add_strings(&mut scanner, &unpacked);
        self.report(scanner, place);
    }
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
                        b'\\' => text.extend(bytes.next().filter(|escaped| !matches!(escaped, b'\r' | b'\n'))),
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
                let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                let pair = |pair: &[u8]| Some(value(pair.first()?)? << 4 | value(pair.get(1)?)?);
                scanner.add(&digits.chunks(2).filter_map(pair).collect::<Vec<u8>>());
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

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
