//! What the line of an invite holds (section 5.2).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crypto_core::identity::KeyId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::key_id;

/// The version of the content that is made and read here.
pub const INVITE_VERSION: u8 = 1;

/// The content of an invite's line, in front of its checksum. Wiped when dropped.
#[derive(Serialize, Deserialize)]
pub struct InviteContent {
    /// [`INVITE_VERSION`]: what follows has another form in other versions.
    pub version: u8,
    /// The id of the server's key.
    #[serde(with = "key_id")]
    pub server_id: KeyId,
    /// The secret that all of the invite is derived from.
    pub secret: [u8; 32],
    /// When the server stops taking the invite, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// Where the server is reached.
    pub addresses: Vec<String>,
}

impl Drop for InviteContent {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for InviteContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteContent").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}
