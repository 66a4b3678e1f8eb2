//! Reads the configuration again while a server runs with it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Config, ConfigErrors, Environment, Flags, LoadInput, load};
use crate::source::Kind;

/// The bytes of a file; `None`: it cannot be read.
type Content = Option<Vec<u8>>;

/// Where the configuration of a running server comes from.
pub struct ConfigReader {
    file: Option<PathBuf>,
    environment: Environment,
    flags: Flags,
    kinds: Vec<Arc<dyn Kind>>,
    /// The file as it was when the configuration was read last.
    read: Content,
    /// The file as it was when it was looked at last.
    seen: Content,
}

impl ConfigReader {
    /// Reads again what `config` was read from.
    pub fn new(config: &Config, input: &LoadInput<'_>) -> Self {
        let file = input.file.clone().or_else(|| config.file.clone());
        let read = content(file.as_ref());
        let (environment, flags) = (input.environment.clone(), input.flags.clone());
        Self { file, environment, flags, kinds: input.kinds.to_vec(), seen: read.clone(), read }
    }

    /// Whether the file has other content than when it was read. A file that is still being written counts once it is the
    /// same at two looks; one that is missing does not, since editors replace files.
    pub fn has_changed(&mut self) -> bool {
        let now = content(self.file.as_ref());
        let is_stable = now == self.seen;
        self.seen = now;
        is_stable && self.seen.is_some() && self.seen != self.read
    }

    /// Reads the configuration, with all files that it names.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(&mut self) -> Result<Config, ConfigErrors> {
        self.read = content(self.file.as_ref());
        let (file, environment, flags) = (self.file.clone(), self.environment.clone(), self.flags.clone());
        load(LoadInput { file, environment, flags, kinds: &self.kinds })
    }
}

impl fmt::Debug for ConfigReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment and the file may hold secrets.
        f.debug_struct("ConfigReader").field("file", &self.file).finish_non_exhaustive()
    }
}

fn content(file: Option<&PathBuf>) -> Content {
    std::fs::read(file?).ok()
}
