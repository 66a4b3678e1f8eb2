//! Compressed lists: gzip and zip, recognised by their first bytes. What is unpacked is bounded like a list that comes plain.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::finding::{SourceError, SourceErrorKind};
use crate::source::MAX_LIST_BYTES;

/// The list itself: the unpacked file; of a zip its largest file, since the others are there to describe it.
///
/// # Errors
/// When it cannot be unpacked, or is too large.
pub(super) fn unpack(file: &[u8]) -> Result<Cow<'_, [u8]>, SourceError> {
    if file.starts_with(b"\x1F\x8B") {
        return read_all(MultiGzDecoder::new(file)).map(Cow::Owned);
    }
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return largest_of_zip(file).map(Cow::Owned);
    }
    let others: [(&[u8], &str); 5] = [
        (b"\x28\xB5\x2F\xFD", "zstd"),
        (b"\xFD7zXZ", "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"7z\xBC\xAF\x27\x1C", "7z"),
        (b"Rar!\x1A", "rar"),
    ];
    match others.into_iter().find(|(magic, _)| file.starts_with(magic)) {
        Some((_, name)) => {
            Err(SourceError::malformed(format!("this is a {name} file: unpack it, or pack it as gzip or zip")))
        }
        None => Ok(Cow::Borrowed(file)),
    }
}

fn largest_of_zip(file: &[u8]) -> Result<Vec<u8>, SourceError> {
    let mut archive = ZipArchive::new(Cursor::new(file)).map_err(broken_zip)?;
    let mut largest: Option<(u64, usize)> = None;
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(broken_zip)?;
        if entry.is_file() && largest.is_none_or(|(size, _)| entry.size() > size) {
            largest = Some((entry.size(), number));
        }
    }
    let (_, number) = largest.ok_or_else(|| SourceError::malformed("the zip holds no file"))?;
    read_all(archive.by_index(number).map_err(broken_zip)?)
}

fn broken_zip(error: ZipError) -> SourceError {
    SourceError::malformed(match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => "the zip needs a password: unpack it".to_owned(),
        other => format!("the zip cannot be unpacked: {other}"),
    })
}

/// What the reader unpacks. What it says beforehand of its size is not believed.
fn read_all(packed: impl Read) -> Result<Vec<u8>, SourceError> {
    let limit = u64::try_from(MAX_LIST_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let unpacked = packed.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    unpacked.map_err(|error| SourceError::malformed(format!("the list cannot be unpacked: {error}")))?;
    if bytes.len() > MAX_LIST_BYTES {
        let detail = format!("the list has more than {MAX_LIST_BYTES} bytes when unpacked");
        return Err(SourceError::new(SourceErrorKind::TooLarge, detail));
    }
    Ok(bytes)
}
