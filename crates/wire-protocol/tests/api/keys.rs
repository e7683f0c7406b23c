//! The keys that the tests share, read once: reading one takes longer than most tests.

use std::sync::{Arc, OnceLock};

use chacha20::ChaCha20Rng;
use crypto_core::identity::{ClientKey, KeyId, ServerKey};
use crypto_core::invite::InviteSecret;
use crypto_core::pem;
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use rand_core::SeedableRng as _;

/// The server that clients mean.
pub(crate) fn server() -> Arc<ServerKey> {
    static KEY: OnceLock<Arc<ServerKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| read_server(include_str!("../fixtures/test-only-server.pem"))))
}

/// A server that nobody means.
pub(crate) fn other_server() -> Arc<ServerKey> {
    static KEY: OnceLock<Arc<ServerKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| read_server(include_str!("../fixtures/test-only-other-server.pem"))))
}

pub(crate) fn server_id() -> KeyId {
    server().public().id()
}

pub(crate) fn client() -> Arc<ClientKey> {
    static KEY: OnceLock<Arc<ClientKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| read_client(include_str!("../fixtures/test-only-client.pem"))))
}

pub(crate) fn other_client() -> Arc<ClientKey> {
    static KEY: OnceLock<Arc<ClientKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| read_client(include_str!("../fixtures/test-only-other-client.pem"))))
}

/// SubjectPublicKeyInfo of a key that is too small to be read by anything else.
pub(crate) const SMALL_SPKI: &[u8] = include_bytes!("../fixtures/test-only-rsa1024-public.der");

/// A pre-shared key for [`server`].
pub(crate) fn psk() -> Arc<PreSharedKey> {
    psk_with("laptop", server_id(), 1)
}

/// Keys of the same seed have the same secret.
pub(crate) fn psk_with(id: &str, server_id: KeyId, seed: u64) -> Arc<PreSharedKey> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    Arc::new(PreSharedKey::generate(&mut rng, id, server_id).unwrap())
}

/// The secret of an invite to [`server`].
pub(crate) fn invite() -> Arc<InviteSecret> {
    Arc::new(InviteSecret::new(Secret::new([0x1E; 32])))
}

pub(crate) fn ticket_key() -> Arc<TicketKey> {
    Arc::new(TicketKey::new(Secret::new([0x71; 32])))
}

fn read_server(text: &str) -> Arc<ServerKey> {
    Arc::new(pem::read_server_key(&mut ChaCha20Rng::seed_from_u64(0), text, None).unwrap())
}

fn read_client(text: &str) -> Arc<ClientKey> {
    Arc::new(pem::read_client_key(text, None).unwrap())
}
