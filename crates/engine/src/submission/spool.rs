//! The files that wait for their submission: encrypted on disk in pieces, never whole in memory.
//!
//! A file is sealed piece by piece as it arrives. [`SpoolReader`] opens one piece at a time, for inspection and upload.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use futures_util::stream::{self, BoxStream, StreamExt};
use md5::{Digest, Md5};
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::indicator::hex;
use crate::source::FileContent;
use crate::store::{PIECE_OVERHEAD, Sealer};

/// Bytes of a piece before it is sealed.
const PIECE: usize = 64 * 1024;
const SEALED_PIECE: u64 = (PIECE + PIECE_OVERHEAD) as u64;

/// The folder of waiting files.
pub(crate) struct Spool {
    folder: PathBuf,
    sealer: Arc<Sealer>,
    /// Bytes that all files may take together, and take.
    limit: u64,
    used: AtomicU64,
}

/// A file that is complete on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpooledFile {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) md5: String,
    pub(crate) sha1: String,
}

/// The hashes by which rules may name a file.
struct Hashes {
    sha256: digest::Context,
    sha1: digest::Context,
    md5: Md5,
}

impl Hashes {
    fn new() -> Self {
        let of = |algorithm| digest::Context::new(algorithm);
        Self { sha256: of(&digest::SHA256), sha1: of(&digest::SHA1_FOR_LEGACY_USE_ONLY), md5: Md5::new() }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        self.md5.update(bytes);
    }

    fn of(&self, size: u64) -> SpooledFile {
        SpooledFile {
            size,
            sha256: hex(self.sha256.clone().finish().as_ref()),
            md5: hex(&self.md5.clone().finalize()),
            sha1: hex(self.sha1.clone().finish().as_ref()),
        }
    }
}

impl Spool {
    /// Opens the folder, and removes files that no open submission of these identifiers needs.
    ///
    /// # Errors
    /// If the folder cannot be created or read.
    pub(crate) fn open(folder: PathBuf, sealer: Arc<Sealer>, limit: u64, needed: &[&str]) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut used = 0;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let is_needed = needed.iter().any(|id| entry.file_name().to_str() == Some(id));
            if is_needed {
                used += plain_size(entry.metadata()?.len());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, sealer, limit, used: AtomicU64::new(used) })
    }

    /// Begins the file of a submission. Unless it is finished and kept, dropping it removes it.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub(crate) fn begin(self: &Arc<Self>, id: &str) -> io::Result<SpoolWriter> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(id))?;
        let hashes = Hashes::new();
        let (spool, id, rest) = (self.clone(), id.to_owned(), Vec::with_capacity(PIECE));
        Ok(SpoolWriter { spool, id, file, rest, pieces: 0, size: 0, hashes, is_kept: false })
    }

    /// A reader of the file of a submission.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn read(self: &Arc<Self>, id: &str) -> io::Result<SpoolReader> {
        let file = File::open(self.path(id))?;
        let size = plain_size(file.metadata()?.len());
        Ok(SpoolReader { spool: self.clone(), id: id.to_owned(), file, size, position: 0, piece: None })
    }

    /// Removes the file of a submission, if there is one.
    pub(crate) fn remove(&self, id: &str) {
        let path = self.path(id);
        let size = fs::metadata(&path).map(|metadata| plain_size(metadata.len()));
        match fs::remove_file(&path) {
            Ok(()) => drop(self.used.fetch_sub(size.unwrap_or_default(), Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(submission = id, %error, "a waiting file could not be removed"),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(Path::new(id).file_name().unwrap_or_default())
    }
}

/// The size of a file before it was sealed.
fn plain_size(sealed: u64) -> u64 {
    sealed.saturating_sub(sealed.div_ceil(SEALED_PIECE) * PIECE_OVERHEAD as u64)
}

/// A file that is being received.
pub(crate) struct SpoolWriter {
    spool: Arc<Spool>,
    id: String,
    file: File,
    rest: Vec<u8>,
    pieces: u64,
    size: u64,
    hashes: Hashes,
    is_kept: bool,
}

impl SpoolWriter {
    /// Bytes received so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next bytes. Blocks while a piece is written.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if the spool is full, [`Error::Unavailable`] if the disk fails.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let added = bytes.len() as u64;
        if self.spool.used.fetch_add(added, Ordering::Relaxed).saturating_add(added) > self.spool.limit {
            self.spool.used.fetch_sub(added, Ordering::Relaxed);
            return Err(Error::Exhausted {
                subject: "submissions.spool_bytes".into(),
                message: "the files that wait for their submission take all the space that they may".into(),
                retry_after: None,
            });
        }
        self.size += added;
        self.hashes.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == PIECE {
                self.write_piece()?;
            }
        }
        Ok(())
    }

    fn write_piece(&mut self) -> Result<(), Error> {
        let sealed = self.spool.sealer.seal_piece(&self.id, self.pieces, &self.rest)?;
        self.file.write_all(&sealed).map_err(|error| disk_failed(&error))?;
        self.rest.clear();
        self.pieces += 1;
        Ok(())
    }

    /// Completes the file, durably.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the disk fails.
    pub(crate) fn finish(&mut self) -> Result<SpooledFile, Error> {
        if !self.rest.is_empty() {
            self.write_piece()?;
        }
        self.file.sync_all().map_err(|error| disk_failed(&error))?;
        File::open(&self.spool.folder).and_then(|folder| folder.sync_all()).map_err(|error| disk_failed(&error))?;
        Ok(self.hashes.of(self.size))
    }

    /// Keeps the file, since its submission is stored.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // What was counted is more than what is on disk, while a piece is incomplete.
        self.spool.used.fetch_sub(self.size, Ordering::Relaxed);
        let _ = fs::remove_file(self.spool.path(&self.id));
    }
}

fn disk_failed(error: &io::Error) -> Error {
    tracing::error!(%error, "a submitted file cannot be written");
    Error::Unavailable { message: "the file cannot be written to the spool".into(), retry_after: None }
}

/// Reads a waiting file, one piece in memory at a time.
pub(crate) struct SpoolReader {
    spool: Arc<Spool>,
    id: String,
    file: File,
    size: u64,
    position: u64,
    /// The last piece that was opened, and its number.
    piece: Option<(u64, Vec<u8>)>,
}

impl SpoolReader {
    /// Size of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn open_piece(&mut self, number: u64) -> io::Result<&[u8]> {
        if self.piece.as_ref().is_none_or(|(held, _)| *held != number) {
            self.file.seek(SeekFrom::Start(number * SEALED_PIECE))?;
            let mut sealed = Vec::with_capacity(PIECE + PIECE_OVERHEAD);
            (&mut self.file).take(SEALED_PIECE).read_to_end(&mut sealed)?;
            let opened = self.spool.sealer.open_piece(&self.id, number, &sealed).map_err(io::Error::other)?;
            self.piece = Some((number, opened));
        }
        Ok(self.piece.as_ref().map_or(&[], |(_, piece)| piece.as_slice()))
    }
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let (number, offset) = (self.position / PIECE as u64, (self.position % PIECE as u64) as usize);
        let piece = self.open_piece(number)?.get(offset..).unwrap_or_default();
        let count = piece.len().min(buffer.len());
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the waiting file was cut off"));
        }
        buffer.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The content of a waiting file, for its upload.
pub(crate) struct SpooledContent {
    pub(crate) spool: Arc<Spool>,
    pub(crate) id: String,
}

impl FileContent for SpooledContent {
    fn pieces(&self) -> BoxStream<'static, io::Result<Vec<u8>>> {
        let pieces = stream::unfold(Some(self.spool.read(&self.id)), |reader| async {
            let reader = match reader? {
                Ok(reader) => reader,
                Err(error) => return Some((Err(error), None)),
            };
            let read = spawn_blocking(move || next_piece(reader)).await;
            match read.unwrap_or_else(|_| Err(io::Error::other("the waiting file could not be read"))) {
                Ok((piece, _)) if piece.is_empty() => None,
                Ok((piece, reader)) => Some((Ok(piece), Some(Ok(reader)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }
}

fn next_piece(mut reader: SpoolReader) -> io::Result<(Vec<u8>, SpoolReader)> {
    let mut piece = Vec::with_capacity(PIECE);
    (&mut reader).take(PIECE as u64).read_to_end(&mut piece)?;
    Ok((piece, reader))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use tempfile::TempDir;

    use super::*;

    fn spool(folder: &TempDir, limit: u64, needed: &[&str]) -> Arc<Spool> {
        let key = SecretString::from("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=");
        let sealer = Arc::new(Sealer::from_base64(&key).unwrap());
        Arc::new(Spool::open(folder.path().join("spool"), sealer, limit, needed).unwrap())
    }

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n * 31 % 251) as u8).collect()
    }

    fn write(spool: &Arc<Spool>, id: &str, bytes: &[u8]) -> SpooledFile {
        let mut writer = spool.begin(id).unwrap();
        bytes.chunks(10_007).for_each(|piece| writer.write(piece).unwrap());
        let file = writer.finish().unwrap();
        writer.keep();
        file
    }

    #[tokio::test]
    async fn a_file_comes_back_as_it_was_from_any_place_and_its_plain_text_is_not_on_disk() {
        let folder = TempDir::new().unwrap();
        let spool = spool(&folder, 1 << 20, &[]);
        for size in [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let bytes = content(size);
            let file = write(&spool, "a", &bytes);
            assert_eq!(file.size, size as u64);
            assert_eq!(file.sha256, hex(digest::digest(&digest::SHA256, &bytes).as_ref()));
            let mut read = Vec::new();
            spool.read("a").unwrap().read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{size}");
            let mut reader = spool.read("a").unwrap();
            let last = (size as u64).min(5);
            assert_eq!(reader.seek(SeekFrom::End(-(last as i64))).unwrap(), size as u64 - last);
            let mut end = Vec::new();
            reader.read_to_end(&mut end).unwrap();
            assert_eq!(end, bytes[size - last as usize..]);
            let content = SpooledContent { spool: spool.clone(), id: "a".into() };
            let pieces: Vec<_> = content.pieces().map(Result::unwrap).collect().await;
            assert!(pieces.concat() == bytes, "{size}");
            let on_disk = fs::read(folder.path().join("spool/a")).unwrap();
            assert!(size < 32 || !on_disk.windows(32).any(|window| window == &bytes[..32]));
            spool.remove("a");
            assert!(spool.read("a").is_err());
        }
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn pieces_that_are_cut_off_or_change_places_do_not_open() {
        let folder = TempDir::new().unwrap();
        let spool = spool(&folder, 1 << 20, &[]);
        write(&spool, "a", &content(3 * PIECE));
        let path = folder.path().join("spool/a");
        let sealed = fs::read(&path).unwrap();
        let swapped = {
            let (first, rest) = sealed.split_at(SEALED_PIECE as usize);
            let (second, third) = rest.split_at(SEALED_PIECE as usize);
            [second, first, third].concat()
        };
        for damaged in [swapped, sealed[..sealed.len() - 9].to_vec()] {
            fs::write(&path, damaged).unwrap();
            assert!(spool.read("a").unwrap().read_to_end(&mut Vec::new()).is_err());
        }
        fs::write(&path, &sealed).unwrap();
        fs::rename(&path, folder.path().join("spool/b")).unwrap();
        assert!(spool.read("b").unwrap().read_to_end(&mut Vec::new()).is_err(), "sealed for another submission");
    }

    #[test]
    fn a_full_spool_refuses_more_and_a_file_that_is_not_kept_frees_its_space() {
        let folder = TempDir::new().unwrap();
        let spool = spool(&folder, 100_000, &[]);
        let mut first = spool.begin("a").unwrap();
        first.write(&content(90_000)).unwrap();
        let mut second = spool.begin("b").unwrap();
        assert!(matches!(second.write(&content(10_001)), Err(Error::Exhausted { .. })));
        drop(first);
        second.write(&content(100_000)).unwrap();
        drop(second);
        assert_eq!(fs::read_dir(folder.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn after_a_restart_only_needed_files_are_left_and_counted() {
        let folder = TempDir::new().unwrap();
        let first = spool(&folder, 1 << 20, &[]);
        write(&first, "a", &content(PIECE + 5));
        write(&first, "b", &content(10));
        let second = spool(&folder, 1 << 20, &["a"]);
        assert_eq!(second.used.load(Ordering::Relaxed), PIECE as u64 + 5);
        assert!(second.read("b").is_err());
    }
}
