//! Permissions of the files in the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Creates a new, empty file that only its owner may read and write.
pub(super) fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The mode of a file or directory if it grants any of the `forbidden` permissions; `None` if it grants none of them.
pub(super) fn mode_with(path: &Path, forbidden: u32) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    Ok(Some(mode).filter(|mode| mode & forbidden != 0))
}
