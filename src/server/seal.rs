//! Lets the settings seal credentials with the store's cipher.

use secrecy::SecretString;

use crate::error::Error;
use crate::settings::Seal;
use crate::store::Sealer;

impl Seal for Sealer {
    fn seal(&self, name: &str, credential: &SecretString) -> Result<Vec<u8>, Error> {
        Ok(Self::seal(self, name, credential)?)
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<SecretString, Error> {
        // The registry says which source it concerns; the store has not failed.
        Self::open(self, name, sealed).map_err(|error| Error::Unavailable { message: error.detail, retry_after: None })
    }
}
