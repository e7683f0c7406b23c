//! The key schedule (section 4): each stage is a type, which the step to the next stage consumes.
//!
//! ```text
//!             0^32
//!              |
//! psk    -> Extract = s0   EarlyStage           -> binder key
//!              |
//!        Derive "derived"
//!              |
//! rsa    -> Extract = s1   ServerStage
//!              |
//!        Derive "derived"
//!              |
//! x25519 -> Extract = s2   HandshakeStage       -> "c hs", "s hs"
//! ml-kem       |
//!        Derive "derived"
//!              |
//! 0^32   -> Extract = s3   ApplicationStage     -> "c ap", "s ap", "res", "exp"
//! ```
//!
//! `Derive(secret, label, hash) = Expand-Label(secret, label, hash, 32)`. Where there is nothing to bind, the hash
//! is that of the empty string.

use crate::Error;
use crate::exchange::SharedSecret;
use crate::hash::sha256;
use crate::kdf::{expand_label, extract};
use crate::mac::{MacKey, TAG_LEN};
use crate::secret::Secret;
use crate::stream_secret::StreamSecret;

pub use crate::side::Side;

/// The kind of secret that a binder proves knowledge of. The two kinds never share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two ways to start from a symmetric secret")]
pub enum BinderKind {
    /// A pre-shared key.
    PreSharedKey,
    /// A resumption ticket.
    Resumption,
}

/// `s0`: the pre-shared or resumption secret is mixed in, or 32 zero bytes instead.
#[derive(Debug)]
pub struct EarlyStage(Secret<32>);

impl EarlyStage {
    /// Starts a schedule.
    #[must_use]
    pub fn new(psk: Option<&Secret<32>>) -> Self {
        Self(extract(&ZEROS, psk.map_or(&ZEROS, Secret::expose).as_slice()))
    }

    /// The key of the binder in a ClientHello that starts from a symmetric secret (section 3).
    #[must_use]
    pub fn binder_key(&self, kind: BinderKind) -> MacKey {
        let label = match kind {
            BinderKind::PreSharedKey => "psk binder",
            BinderKind::Resumption => "res binder",
        };
        MacKey::new(expand_label::<32>(&self.0, label, &sha256(b"")).expose())
    }

    /// Mixes in the secret that was sealed to the server's RSA key, or 32 zero bytes instead.
    #[must_use]
    pub fn into_server_stage(self, rsa: Option<&Secret<32>>) -> ServerStage {
        ServerStage(extract(derived(&self.0).expose(), rsa.map_or(&ZEROS, Secret::expose).as_slice()))
    }
}

/// `s1`: in RSA mode, only the holder of the server's RSA key can compute it.
#[derive(Debug)]
pub struct ServerStage(Secret<32>);

impl ServerStage {
    /// Mixes in the fresh exchange.
    #[must_use]
    pub fn into_handshake_stage(self, shared: &SharedSecret) -> HandshakeStage {
        HandshakeStage(extract(derived(&self.0).expose(), shared.expose()))
    }
}

/// `s2`: both ends have contributed fresh values.
#[derive(Debug)]
pub struct HandshakeStage(Secret<32>);

impl HandshakeStage {
    /// The secret that protects one side's encrypted flight; `transcript` is T1.
    #[must_use]
    pub fn handshake_secret(&self, side: Side, transcript: &[u8; 32]) -> TrafficSecret {
        let label = match side {
            Side::Client => "c hs",
            Side::Server => "s hs",
        };
        TrafficSecret(expand_label(&self.0, label, transcript))
    }

    /// Goes on to the secrets of the application data.
    #[must_use]
    pub fn into_application_stage(self) -> ApplicationStage {
        ApplicationStage(extract(derived(&self.0).expose(), &ZEROS))
    }
}

/// `s3`: the secrets of the established channel.
#[derive(Debug)]
pub struct ApplicationStage(Secret<32>);

impl ApplicationStage {
    /// The first secret that protects one side's data. `transcript` is T3, which binds both identities into every
    /// key that protects data.
    #[must_use]
    pub fn traffic_secret(&self, side: Side, transcript: &[u8; 32]) -> TrafficSecret {
        let label = match side {
            Side::Client => "c ap",
            Side::Server => "s ap",
        };
        TrafficSecret(expand_label(&self.0, label, transcript))
    }

    /// The secret that tickets' secrets are derived from; `transcript` is T3.
    #[must_use]
    pub fn resumption_secret(&self, transcript: &[u8; 32]) -> ResumptionSecret {
        ResumptionSecret(expand_label(&self.0, "res", transcript))
    }

    /// The secret that the secrets of resumable streams are derived from; `transcript` is T3.
    #[must_use]
    pub fn exporter_secret(&self, transcript: &[u8; 32]) -> ExporterSecret {
        ExporterSecret(expand_label(&self.0, "exp", transcript))
    }
}

/// The secret that one direction's record keys are derived from.
#[derive(Debug)]
pub struct TrafficSecret(Secret<32>);

impl TrafficSecret {
    /// Takes a traffic secret from elsewhere, for users of records without the handshake.
    #[must_use]
    pub fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret bytes, for test vectors.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    pub(crate) fn encryption_key(&self) -> Secret<32> {
        expand_label(&self.0, "enc", &[])
    }

    pub(crate) fn mac_key(&self) -> Secret<32> {
        expand_label(&self.0, "mac", &[])
    }

    /// Computes the content of a Finished: a MAC over the transcript so far under this (handshake) secret.
    #[must_use]
    pub fn finished(&self, transcript: &[u8; 32]) -> [u8; TAG_LEN] {
        self.finished_key().tag(&[transcript])
    }

    /// Checks a peer's Finished in constant time.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the Finished was not made under this secret over this transcript.
    pub fn verify_finished(&self, transcript: &[u8; 32], finished: &[u8; TAG_LEN]) -> Result<(), Error> {
        self.finished_key().verify(&[transcript], finished)
    }

    /// Derives the secret after a key update. The old secret is consumed and wiped.
    #[must_use]
    pub fn into_next(self) -> Self {
        Self(expand_label(&self.0, "update", &[]))
    }

    fn finished_key(&self) -> MacKey {
        MacKey::new(expand_label::<32>(&self.0, "finished", &[]).expose())
    }
}

/// The secret that the secrets of a connection's tickets are derived from.
#[derive(Debug)]
pub struct ResumptionSecret(Secret<32>);

impl ResumptionSecret {
    /// Derives the secret of the ticket with this nonce.
    #[must_use]
    pub fn ticket_secret(&self, nonce: &[u8]) -> Secret<32> {
        expand_label(&self.0, "ticket", nonce)
    }

    /// The secret bytes, for test vectors.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// The secret of a channel that the secrets of its resumable streams are derived from (section 7.7).
#[derive(Debug)]
pub struct ExporterSecret(Secret<32>);

impl ExporterSecret {
    /// Derives the secret of the channel's resumable stream with this `number`, counted from 0.
    #[must_use]
    pub fn stream_secret(&self, number: u64) -> StreamSecret {
        StreamSecret::new(expand_label(&self.0, "stream", &number.to_be_bytes()))
    }

    /// The secret bytes, for test vectors.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

fn derived(secret: &Secret<32>) -> Secret<32> {
    expand_label(secret, "derived", &sha256(b""))
}

const ZEROS: [u8; 32] = [0; 32];
