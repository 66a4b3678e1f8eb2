//! Joins the settings' need to seal credentials with the store's cipher.

use secrecy::SecretString;

use crate::error::Error;
use crate::rpc::status::store_failed;
use crate::settings::Seal;
use crate::store::Sealer;

/// Seals with the store's key.
pub(super) struct StoreSeal(pub(super) Sealer);

impl Seal for StoreSeal {
    fn seal(&self, name: &str, credential: &SecretString) -> Result<Vec<u8>, Error> {
        self.0.seal(name, credential).map_err(store_failed)
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<SecretString, Error> {
        // The registry says which source it concerns; the store has not failed.
        self.0.open(name, sealed).map_err(|error| Error::Unavailable { message: error.detail, retry_after: None })
    }
}
