//! Keys of the tests. An RSA key takes a second to make, so that there is one of each.

use std::sync::{Arc, LazyLock};

#[cfg(feature = "tokio")]
use sockseal::{ClientKey, ServerKey};
use sockseal::{KeyId, PreSharedKey, SysRng};

#[cfg(feature = "tokio")]
pub(super) static SERVER: LazyLock<Arc<ServerKey>> =
    LazyLock::new(|| Arc::new(ServerKey::generate(&mut SysRng, 2048).unwrap()));

#[cfg(feature = "tokio")]
pub(super) static CLIENT: LazyLock<Arc<ClientKey>> =
    LazyLock::new(|| Arc::new(ClientKey::generate(&mut SysRng, 2048).unwrap()));

pub(super) static PSK: LazyLock<Arc<PreSharedKey>> = LazyLock::new(|| psk("client"));

/// A key of this name, and no other's.
pub(super) fn psk(name: &str) -> Arc<PreSharedKey> {
    Arc::new(PreSharedKey::generate(&mut SysRng, name, KeyId([7; 32])).unwrap())
}
