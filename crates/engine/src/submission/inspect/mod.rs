//! Inspects content before it leaves: finds labels, markings, secrets and names, in documents, mail and archives within
//! archives. It finds patterns, not meaning, and whatever it cannot read is a reason to hold too.
//!
//! Every loop is bounded by [`Limits`]; whatever exceeds them is held. `patterns.rs` has what is looked for, the other files
//! how it is reached.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::store::{HoldReason, HoldReasonCode};

mod archive;
mod mail;
mod office;
mod patterns;
mod pdf;

pub use patterns::Patterns;
use patterns::Scanner;

/// Most reasons that are reported; one is enough to hold.
const MAX_REASONS: usize = 50;
/// Characters of a place or detail.
const MAX_TEXT: usize = 300;
/// Bytes at the beginning by which a type is recognised.
const HEAD: usize = 8 * 1024;
/// Where a disk image of ISO 9660 says what it is.
const ISO_VOLUME: u64 = 0x8001;
/// The archives, by their usual endings, that are recognised by their beginning and not unpacked.
const OTHER_ARCHIVES: [&str; 9] = ["deb", "ar", "rpm", "lz", "cpio", "crx", "par2", "bz3", "Z"];

/// Bounds of an inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many archives may be within each other.
    pub depth: usize,
    /// Most members of all archives together.
    pub members: u64,
    /// Most bytes that are unpacked altogether.
    pub unpacked_bytes: u64,
    /// How many times larger than packed a member may be, beyond its first MiB.
    pub ratio: u64,
    /// Largest document or nested archive that is held in memory.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 4, members: 5_000, unpacked_bytes: 512 << 20, ratio: 200, memory_bytes: 8 << 20 }
    }
}

/// What an inspection found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The type by content, such as `application/pdf`.
    pub media_type: String,
    /// Why it should be held; empty: nothing was found.
    pub reasons: Vec<HoldReason>,
}

/// Content that can be read from any place.
pub trait Content: Read + Seek {}

impl<T: Read + Seek> Content for T {}

/// Inspects a file. Blocks; never panics and ends for any bytes.
///
/// # Errors
/// If the content cannot be read from the disk.
pub fn inspect_file(
    content: &mut dyn Content,
    name: &str,
    patterns: &Arc<Patterns>,
    limits: Limits,
) -> io::Result<Inspection> {
    let mut inspector = Inspector { patterns: patterns.clone(), limits, reasons: Vec::new(), depth: 0 };
    inspector.scan_text(name, "the file's name");
    let media_type = inspector.content(content, name)?;
    Ok(Inspection { media_type, reasons: inspector.reasons })
}

/// One inspection, with what is left of its limits.
struct Inspector {
    patterns: Arc<Patterns>,
    limits: Limits,
    reasons: Vec<HoldReason>,
    depth: usize,
}

impl Inspector {
    fn hold(&mut self, code: HoldReasonCode, place: &str, detail: impl Into<String>) {
        let reason = HoldReason { code, place: printable(place), detail: printable(&detail.into()) };
        if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn scan_text(&mut self, text: &str, place: &str) {
        let mut scanner = Scanner::new(&self.patterns.clone());
        scanner.add(text.as_bytes());
        self.report(scanner, place);
    }

    fn report(&mut self, mut scanner: Scanner, place: &str) {
        for (code, detail) in scanner.finish() {
            self.hold(code, place, detail);
        }
    }

    /// Scans all bytes of a stream, within what may still be unpacked.
    fn scan_stream(&mut self, content: &mut dyn Read, place: &str) -> io::Result<u64> {
        let mut scanner = Scanner::new(&self.patterns.clone());
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        let result = loop {
            match content.read(&mut buffer) {
                Ok(0) => break Ok(total),
                Ok(count) => {
                    total += count as u64;
                    scanner.add(buffer.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // What was found before a failure counts too.
        self.report(scanner, place);
        result
    }

    /// Inspects content of any type, and returns its type.
    fn content(&mut self, content: &mut dyn Content, place: &str) -> io::Result<String> {
        let size = content.seek(SeekFrom::End(0))?;
        content.rewind()?;
        let mut head = Vec::with_capacity(HEAD);
        content.take(HEAD as u64).read_to_end(&mut head)?;
        content.rewind()?;
        let format = Format::of(&head);
        match format {
            Format::Zip => self.zip(content, size, place)?,
            Format::Gzip => self.gzip(content, size, place)?,
            Format::Tar => self.tar(content, place)?,
            Format::Pdf => self.in_memory(content, size, place, Self::pdf)?,
            Format::Mail => {
                self.hold(HoldReasonCode::Email, place, "an e-mail message");
                self.in_memory(content, size, place, Self::mail)?;
            }
            Format::Ole => {
                self.scan_stream(content, place)?;
                content.rewind()?;
                self.ole(content, place)?;
            }
            Format::OtherArchive(name) => {
                let detail = format!("an archive of the format {name}, which is not unpacked");
                self.hold(HoldReasonCode::Unreadable, place, detail);
            }
            Format::Other => {
                self.scan_stream(content, place)?;
                self.other(content, size, &head, place)?;
            }
        }
        Ok(media_type(format, &head))
    }

    /// Looks for what may be packed in content of any other type.
    fn other(&mut self, content: &mut dyn Content, size: u64, head: &[u8], place: &str) -> io::Result<()> {
        if archive::ends_as_zip(content, size)? {
            return self.zip(content, size, place);
        }
        let is_program = head.starts_with(b"MZ") || head.starts_with(b"\x7FELF");
        if is_program && archive::holds_other_archive(content)? {
            self.hold(HoldReasonCode::Unreadable, place, "an archive within a program, which is not unpacked");
        }
        // The name of the volume, which stands behind sixteen empty sectors.
        let mut volume = Vec::new();
        content.seek(SeekFrom::Start(ISO_VOLUME))?;
        content.take(5).read_to_end(&mut volume)?;
        if volume == b"CD001" {
            self.hold(HoldReasonCode::Unreadable, place, "a disk image, which is not unpacked");
        }
        Ok(())
    }

    /// A name as it is shown in places: not where it is what is never repeated.
    fn shown_name(&self, name: &str, number: usize) -> String {
        let is_secret = self
            .patterns
            .find(name.as_bytes())
            .iter()
            .any(|(code, _)| matches!(code, HoldReasonCode::Credential | HoldReasonCode::PrivateKey));
        if is_secret { format!("member {}", number + 1) } else { name.to_owned() }
    }

    /// Inspects content that must be in memory. Of what is too large for that, only the plain bytes are scanned.
    fn in_memory(
        &mut self,
        content: &mut dyn Content,
        size: u64,
        place: &str,
        inspect: fn(&mut Self, &[u8], &str),
    ) -> io::Result<()> {
        if size > self.limits.memory_bytes {
            let detail =
                format!("more than {} bytes, so that only its plain bytes were inspected", self.limits.memory_bytes);
            self.hold(HoldReasonCode::Limit, place, detail);
            return self.scan_stream(content, place).map(drop);
        }
        let mut bytes = Vec::new();
        content.take(size).read_to_end(&mut bytes)?;
        inspect(self, &bytes, place);
        Ok(())
    }

    /// Inspects something within something else, which is unpacked as it is read. `packed` is its size before.
    fn member(&mut self, unpacked: &mut dyn Read, packed: u64, place: &str) {
        if self.limits.members == 0 {
            self.hold(HoldReasonCode::Limit, place, "too many members: the rest was not inspected");
            return;
        }
        self.limits.members -= 1;
        let by_ratio = packed.saturating_mul(self.limits.ratio).saturating_add(1 << 20);
        let allowed = by_ratio.min(self.limits.unpacked_bytes);
        let mut unpacked = unpacked.take(allowed.saturating_add(1));
        let mut first = Vec::new();
        let read = (&mut unpacked).take(self.limits.memory_bytes + 1).read_to_end(&mut first);
        if let Err(error) = read {
            self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}"));
        }
        let mut total = first.len() as u64;
        let is_whole = total <= self.limits.memory_bytes;
        if !is_whole {
            let is_plain = Format::of(first.get(..HEAD).unwrap_or(&first)) == Format::Other;
            if !is_plain {
                let detail = format!(
                    "more than {} bytes, so that only its plain bytes were inspected",
                    self.limits.memory_bytes
                );
                self.hold(HoldReasonCode::Limit, place, detail);
            }
            match self.scan_stream(&mut Cursor::new(&first).chain(&mut unpacked), place) {
                Ok(scanned) => total = scanned,
                Err(error) => self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}")),
            }
        }
        if total > allowed {
            self.hold(HoldReasonCode::Limit, place, "unpacks to far more than it is packed: not inspected whole");
        }
        self.limits.unpacked_bytes = self.limits.unpacked_bytes.saturating_sub(total);
        if is_whole {
            self.nested(&first, place);
        }
    }

    /// Inspects content that was within something else and is in memory.
    fn nested(&mut self, bytes: &[u8], place: &str) {
        if self.depth == self.limits.depth {
            self.hold(HoldReasonCode::Limit, place, format!("within more than {} archives: not inspected", self.depth));
            return;
        }
        self.depth += 1;
        if let Err(error) = self.content(&mut Cursor::new(bytes), place) {
            self.hold(HoldReasonCode::Unreadable, place, format!("cannot be read: {error}"));
        }
        self.depth -= 1;
    }
}

/// The formats that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Also Office documents since 2007.
    Zip,
    Gzip,
    Tar,
    Pdf,
    Mail,
    /// Office documents before 2007, Outlook messages, and encrypted ones of any year.
    Ole,
    /// An archive that is not unpacked.
    OtherArchive(&'static str),
    /// Everything else, of which the bytes are scanned.
    Other,
}

impl Format {
    fn of(head: &[u8]) -> Self {
        const ARCHIVES: [(&[u8], &str); 13] = [
            (b"\x28\xB5\x2F\xFD", "zstd"),
            (b"\xFD7zXZ", "xz"),
            (b"BZh", "bzip2"),
            (b"7z\xBC\xAF\x27\x1C", "7z"),
            (b"Rar!\x1A", "rar"),
            (b"MSCF", "cab"),
            (b"xar!", "xar"),
            (b"\x04\x22\x4D\x18", "lz4"),
            (b"\x1F\x9D", "compress"),
            (b"hsqs", "squashfs"),
            (b"MSWIM\0\0\0", "wim"),
            (b"\x60\xEA", "arj"),
            (b"ISc(", "InstallShield"),
        ];
        let is_zip = [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"].iter().any(|magic| head.starts_with(*magic));
        if is_zip {
            Self::Zip
        } else if head.starts_with(b"\x1F\x8B") {
            Self::Gzip
        } else if head.get(257..262) == Some(b"ustar") {
            Self::Tar
        } else if head.get(..1024).unwrap_or(head).windows(5).any(|window| window == b"%PDF-") {
            Self::Pdf
        } else if head.starts_with(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1") {
            Self::Ole
        } else if let Some((_, name)) = ARCHIVES.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            Self::OtherArchive(name)
        } else if let Some(kind) = infer::get(head).filter(|kind| OTHER_ARCHIVES.contains(&kind.extension())) {
            Self::OtherArchive(kind.extension())
        } else if mail::is_mail(head) {
            Self::Mail
        } else {
            Self::Other
        }
    }
}

fn media_type(format: Format, head: &[u8]) -> String {
    let known = infer::get(head).map(|kind| kind.mime_type());
    let is_text =
        || !head.contains(&0) && std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    match format {
        Format::Mail => "message/rfc822",
        Format::Pdf => "application/pdf",
        Format::Zip | Format::Gzip | Format::Tar | Format::Ole | Format::OtherArchive(_) | Format::Other => {
            known.unwrap_or_else(|| if is_text() { "text/plain" } else { "application/octet-stream" })
        }
    }
    .to_owned()
}

/// Text from a file in a form that can be shown anywhere.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect()
}
