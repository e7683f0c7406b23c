//! Key ids in the files of a client.

use std::str::FromStr;

use crypto_core::identity::KeyId;

/// A key id as a file holds it. What is wrong with one says nothing of files of keys.
pub(crate) struct Fingerprint(pub(crate) KeyId);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text.parse::<KeyId>();
        id.map(Self).map_err(|error| format!("{text:?} is {error}"))
    }
}
