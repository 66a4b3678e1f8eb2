//! Reads the configuration again while a server runs with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use super::{Config, ConfigErrors, Environment, Flags, LoadInput, load};
use crate::source::Kind;

/// What identifies the content of each file; without a file that cannot be read. No content is held, since files may hold
/// secrets.
type Contents = BTreeMap<PathBuf, [u8; 32]>;

/// Where the configuration of a running server comes from.
pub struct ConfigReader {
    file: Option<PathBuf>,
    environment: Environment,
    flags: Flags,
    kinds: Vec<Arc<dyn Kind>>,
    /// The files that the configuration in use names.
    named: Vec<PathBuf>,
    /// The files as they were when the configuration was read last.
    read: Contents,
    /// The files as they were when they were looked at last.
    seen: Contents,
}

impl ConfigReader {
    /// Reads again what `config` was read from.
    pub fn new(config: &Config, input: &LoadInput<'_>) -> Self {
        let file = input.file.clone().or_else(|| config.file.clone());
        let (environment, flags, kinds) = (input.environment.clone(), input.flags.clone(), input.kinds.to_vec());
        let (named, read) = (config.named_files.clone(), Contents::new());
        let mut reader = Self { file, environment, flags, kinds, named, seen: read.clone(), read };
        reader.read = reader.contents();
        reader.seen = reader.read.clone();
        reader
    }

    /// Whether the file, or one that it names, has other content than when it was read. A file that is still being written
    /// counts once it is the same at two looks; one that is missing does not, since editors replace files.
    pub fn has_changed(&mut self) -> bool {
        let now = self.contents();
        let is_stable = now == self.seen;
        self.seen = now;
        let is_there = self.file.as_ref().is_some_and(|file| self.seen.contains_key(file));
        is_stable && is_there && self.seen.iter().any(|(path, content)| self.read.get(path) != Some(content))
    }

    /// Reads the configuration, with all files that it names.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(&mut self) -> Result<Config, ConfigErrors> {
        self.read = self.contents();
        let (file, environment, flags) = (self.file.clone(), self.environment.clone(), self.flags.clone());
        let config = load(LoadInput { file, environment, flags, kinds: &self.kinds })?;
        self.named.clone_from(&config.named_files);
        // Those that it did not name before count as they are now.
        let now = self.contents();
        self.read = now.into_iter().map(|(path, now)| (path.clone(), *self.read.get(&path).unwrap_or(&now))).collect();
        Ok(config)
    }

    fn contents(&self) -> Contents {
        let files = self.file.iter().chain(&self.named);
        files.filter_map(|file| Some((file.clone(), content(file)?))).collect()
    }
}

impl fmt::Debug for ConfigReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("ConfigReader").field("file", &self.file).field("named", &self.named).finish_non_exhaustive()
    }
}

fn content(file: &Path) -> Option<[u8; 32]> {
    let digest = digest::digest(&digest::SHA256, &std::fs::read(file).ok()?);
    digest.as_ref().try_into().ok()
}
