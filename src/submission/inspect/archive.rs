//! Archives: zip, gzip and tar, each member as what it is.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{Content, Inspector};
use crate::store::HoldReasonCode;

/// What a zip ends with, and what stands in front of it if its directory is one of zip64.
const ZIP_END: &[u8] = b"PK\x05\x06";
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LENGTH: usize = 20;

impl Inspector {
    pub(super) fn zip(&mut self, content: &mut dyn Content, size: u64, place: &str) -> io::Result<()> {
        // Such a directory states any number of members, for which memory would be reserved.
        if has_zip64_directory(content)? {
            self.hold(HoldReasonCode::Unreadable, place, "an archive of the format zip64, which is not unpacked");
            return Ok(());
        }
        content.rewind()?;
        // Looking for the directory may not take arbitrarily long.
        let left = size.saturating_mul(4).saturating_add(1 << 20);
        let mut archive = match ZipArchive::new(BoundedReader { content, left }) {
            Ok(archive) => archive,
            Err(error) => {
                self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}"));
                return Ok(());
            }
        };
        for number in 0..archive.len() {
            if self.limits.members == 0 || self.limits.unpacked_bytes == 0 {
                self.hold(HoldReasonCode::Limit, place, "too many members: the rest was not inspected");
                return Ok(());
            }
            self.zip_member(&mut archive, number, place);
        }
        Ok(())
    }

    fn zip_member(&mut self, archive: &mut ZipArchive<BoundedReader<'_>>, number: usize, place: &str) {
        let (name, packed, is_folder) = match archive.by_index_raw(number) {
            Ok(member) => (member.name().to_owned(), member.compressed_size(), member.is_dir()),
            Err(error) => {
                self.hold(HoldReasonCode::Unreadable, place, format!("member {number} cannot be read: {error}"));
                return;
            }
        };
        self.scan_text(&name, &format!("{place}: the name of a member"));
        if is_folder {
            return;
        }
        let place = format!("{place}/{name}");
        // What a member needs is allowed beside what finding the directory took.
        match archive.by_index(number) {
            Ok(mut member) => {
                if let Some(part) = super::office::Part::of(&name) {
                    self.office_part(part, &mut member, packed, &place);
                } else {
                    self.member(&mut member, packed, &place);
                }
            }
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                self.hold(HoldReasonCode::Encrypted, &place, "an encrypted member, which cannot be inspected");
            }
            Err(error) => self.hold(HoldReasonCode::Unreadable, &place, format!("cannot be unpacked: {error}")),
        }
    }

    pub(super) fn gzip(&mut self, content: &mut dyn Content, size: u64, place: &str) -> io::Result<()> {
        // The file within may be a tar as large as the limits allow, which is read as it is unpacked.
        let place = format!("{place}/unpacked");
        let mut head = Vec::new();
        let unpacked = MultiGzDecoder::new(BufReader::new(&mut *content)).take(512).read_to_end(&mut head);
        if let Err(error) = unpacked {
            self.hold(HoldReasonCode::Unreadable, &place, format!("cannot be unpacked: {error}"));
        }
        content.rewind()?;
        let mut unpacked = MultiGzDecoder::new(BufReader::new(content));
        if head.get(257..262) != Some(b"ustar") {
            self.member(&mut unpacked, size, &place);
            return Ok(());
        }
        let allowed = size.saturating_mul(self.limits.ratio).saturating_add(1 << 20).min(self.limits.unpacked_bytes);
        self.tar(&mut unpacked.take(allowed), &place)
    }

    pub(super) fn tar(&mut self, content: &mut dyn Read, place: &str) -> io::Result<()> {
        let mut archive = tar::Archive::new(content);
        // As they are: a long name would be read into memory whole.
        let members = match archive.entries() {
            Ok(members) => members.raw(true),
            Err(error) => {
                self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}"));
                return Ok(());
            }
        };
        for member in members {
            if self.limits.members == 0 || self.limits.unpacked_bytes == 0 {
                self.hold(HoldReasonCode::Limit, place, "too many members: the rest was not inspected");
                return Ok(());
            }
            let mut member = match member {
                Ok(member) => member,
                Err(error) => {
                    self.hold(HoldReasonCode::Unreadable, place, format!("a member cannot be read: {error}"));
                    return Ok(());
                }
            };
            let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            self.scan_text(&name, &format!("{place}: the name of a member"));
            let size = member.size();
            self.member(&mut member, size, &format!("{place}/{name}"));
        }
        Ok(())
    }
}

/// Whether the content has the locator of a zip64 directory in front of an end of directory.
fn has_zip64_directory(content: &mut dyn Content) -> io::Result<bool> {
    let mut window = Vec::new();
    loop {
        let before = window.len();
        (&mut *content).take(64 * 1024).read_to_end(&mut window)?;
        if window.len() == before {
            return Ok(false);
        }
        let pair = LOCATOR_LENGTH + ZIP_END.len();
        let is_pair = |bytes: &[u8]| bytes.starts_with(ZIP64_LOCATOR) && bytes.ends_with(ZIP_END);
        if window.windows(pair).any(is_pair) {
            return Ok(true);
        }
        window.drain(..window.len().saturating_sub(pair - 1));
    }
}

/// A reader that fails after so many bytes.
pub(super) struct BoundedReader<'a> {
    content: &'a mut dyn Content,
    left: u64,
}

impl Read for BoundedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("more is read than it has"))?;
        Ok(count)
    }
}

impl Seek for BoundedReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}
