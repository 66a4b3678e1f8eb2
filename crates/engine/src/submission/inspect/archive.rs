//! Archives: zip, gzip and tar, each member as what it is.

use std::cell::Cell;
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
        // The directory is read into memory whole, so that it may not be arbitrarily long, nor be looked for everywhere.
        let left = Cell::new(self.limits.memory_bytes);
        let mut archive = match ZipArchive::new(BoundedReader { content, left: &left }) {
            Ok(archive) => archive,
            Err(error) => {
                self.hold(HoldReasonCode::Unreadable, place, format!("cannot be unpacked: {error}"));
                return Ok(());
            }
        };
        left.set(size.saturating_mul(4).saturating_add(1 << 20));
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
        let place = format!("{place}/{}", self.shown_name(&name, number));
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
        let mut unpacked = unpacked.take(allowed);
        self.tar(&mut unpacked, &place)?;
        if unpacked.limit() == 0 {
            self.hold(HoldReasonCode::Limit, &place, "unpacks to more than is inspected");
        }
        Ok(())
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
        for (number, member) in members.enumerate() {
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
            let place = format!("{place}/{}", self.shown_name(&name, number));
            self.member(&mut member, size, &place);
        }
        Ok(())
    }
}

/// Whether the content has the locator of a zip64 directory in front of an end of directory.
fn has_zip64_directory(content: &mut dyn Content) -> io::Result<bool> {
    let pair = LOCATOR_LENGTH + ZIP_END.len();
    let is_pair = |bytes: &[u8]| bytes.starts_with(ZIP64_LOCATOR) && bytes.ends_with(ZIP_END);
    any_window(content, pair, is_pair)
}

/// Whether the content ends with the directory of a zip archive, whatever it begins with: a program that unpacks itself.
pub(super) fn ends_as_zip(content: &mut dyn Content, size: u64) -> io::Result<bool> {
    // The end of a directory, and the longest comment.
    const LONGEST: u64 = 22 + 65_535;
    content.seek(SeekFrom::Start(size.saturating_sub(LONGEST)))?;
    let mut tail = Vec::new();
    (&mut *content).take(LONGEST).read_to_end(&mut tail)?;
    let comment_fits = |end: &[u8]| {
        let length = end.get(20..22).map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8);
        end.starts_with(ZIP_END) && length.is_some_and(|length| end.len() == 22 + length)
    };
    Ok((0..tail.len()).any(|start| tail.get(start..).is_some_and(comment_fits)))
}

/// Whether a program has an archive of another format in it.
pub(super) fn holds_other_archive(content: &mut dyn Content) -> io::Result<bool> {
    const LONGEST: usize = 7;
    let is_archive = |bytes: &[u8]| bytes.starts_with(b"7z\xBC\xAF\x27\x1C") || bytes.starts_with(b"Rar!\x1A\x07");
    any_window(content, LONGEST, is_archive)
}

/// Whether any so many bytes of the content, from its beginning, are such.
pub(super) fn any_window(
    content: &mut dyn Content,
    length: usize,
    is_such: impl Fn(&[u8]) -> bool,
) -> io::Result<bool> {
    content.rewind()?;
    let mut window = Vec::new();
    loop {
        let before = window.len();
        (&mut *content).take(64 * 1024).read_to_end(&mut window)?;
        if window.len() == before {
            return Ok(false);
        }
        if window.windows(length).any(&is_such) {
            return Ok(true);
        }
        window.drain(..window.len().saturating_sub(length - 1));
    }
}

/// A reader that fails after so many bytes.
pub(super) struct BoundedReader<'a> {
    content: &'a mut dyn Content,
    left: &'a Cell<u64>,
}

impl Read for BoundedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("it has more than is read"))?);
        Ok(count)
    }
}

impl Seek for BoundedReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}
