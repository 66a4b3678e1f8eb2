//! E-mail messages: their headers, texts and attachments.

use mail_parser::{MessageParser, MimeHeaders, PartType};

use super::Inspector;
use super::patterns::Scanner;
use crate::store::HoldReasonCode;

/// Headers of which a message has at least two.
const HEADERS: [&str; 9] =
    ["from", "to", "subject", "date", "received", "message-id", "mime-version", "return-path", "delivered-to"];

/// Whether a file begins with the headers of a message.
pub(super) fn is_mail(head: &[u8]) -> bool {
    let mut found = 0;
    for line in head.split(|byte| *byte == b'\n').take(200) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The separator in front of a message of a mailbox, and lines that continue a header.
        if line.starts_with(b"From ") || line.starts_with(b" ") || line.starts_with(b"\t") {
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = line.get(..colon).unwrap_or_default();
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            break;
        }
        found += usize::from(HEADERS.iter().any(|header| header.as_bytes().eq_ignore_ascii_case(name)));
    }
    found >= 2
}

impl Inspector {
    pub(super) fn mail(&mut self, bytes: &[u8], place: &str) {
        let mut scanner = Scanner::new(&self.patterns.clone());
        scanner.add(bytes);
        self.report(scanner, place);
        let Some(message) = MessageParser::default().parse(bytes) else {
            self.hold(HoldReasonCode::Unreadable, place, "a damaged message");
            return;
        };
        for (number, part) in message.parts.iter().enumerate() {
            let name = part.attachment_name().map_or_else(|| format!("part {}", number + 1), str::to_owned);
            let place = format!("{place}/{}", self.shown_name(&name, number));
            if self.limits.members == 0 || self.limits.unpacked_bytes == 0 {
                self.hold(HoldReasonCode::Limit, &place, "too many parts: the rest was not inspected");
                return;
            }
            self.limits.members -= 1;
            let bytes = match &part.body {
                PartType::Text(text) | PartType::Html(text) => text.as_bytes(),
                PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes,
                PartType::Message(message) => message.raw_message(),
                PartType::Multipart(_) => continue,
            };
            self.limits.unpacked_bytes = self.limits.unpacked_bytes.saturating_sub(bytes.len() as u64);
            self.scan_text(&name, &place);
            self.nested(bytes, &place);
        }
    }
}
